//! What a user calls a device.

use std::{fmt, str::FromStr};

use burn::tensor::FloatDType;
use serde::Serialize;

use super::DeviceError;

/// A device by name: `auto`, `cpu`, `cuda`, `vulkan`, `metal` or `webgpu`, a GPU with `:1` for the second one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DeviceName {
    /// CUDA, else a real GPU, else the CPU.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The GPU at `index` of those that `api` reaches, best first.
    Gpu {
        /// How it is programmed.
        api: Api,
        /// 0 is the best.
        index: usize,
    },
}

/// How a GPU is programmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// NVIDIA's.
    Cuda,
    /// Vulkan, with shaders in SPIR-V.
    Vulkan,
    /// Apple's, with shaders in its own language.
    Metal,
    /// Whatever the system has, with shaders in WGSL. In a build with the feature `vulkan` or `metal`, Burn gives a
    /// GPU that can take them that feature's shaders here too.
    Webgpu,
}

impl Api {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Cuda, Self::Vulkan, Self::Metal, Self::Webgpu];

    /// The Cargo feature that compiles it in.
    #[must_use]
    pub fn feature(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Webgpu => "wgpu",
        }
    }

    /// Whether this build has it.
    #[must_use]
    pub fn compiled(self) -> bool {
        match self {
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Webgpu => cfg!(feature = "wgpu"),
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Webgpu => "webgpu",
        })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Cpu => f.pad("cpu"),
            Self::Gpu { api, index: 0 } => api.fmt(f),
            Self::Gpu { api, index } => f.pad(&format!("{api}:{index}")),
        }
    }
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Name(name.to_owned());
        match name {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            _ => {}
        }
        let (api, index) = match name.split_once(':') {
            Some((api, index)) => (api, index.parse().map_err(|_| unknown())?),
            None => (name, 0),
        };
        let api = Api::ALL.into_iter().find(|known| known.to_string() == api).ok_or_else(unknown)?;
        Ok(Self::Gpu { api, index })
    }
}

impl Serialize for DeviceName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The type of activations, and of weights where they are not kept in a [`WeightFormat`](crate::WeightFormat).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of 32 bits.
    Bf16,
}

impl Dtype {
    pub(crate) fn float(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::F16 => FloatDType::F16,
            Self::Bf16 => FloatDType::BF16,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Dtype {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        [Self::F32, Self::F16, Self::Bf16]
            .into_iter()
            .find(|dtype| dtype.to_string() == name)
            .ok_or_else(|| DeviceError::Dtype(name.to_owned()))
    }
}
