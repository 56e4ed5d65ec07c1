//! What can be wrong with a request for a device.

use super::{Api, DeviceName, Dtype};
use crate::WeightFormat;

/// A device that cannot be had as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not the name of a device.
    #[error(
        "`{0}` is not a device: expected `auto`, `cpu`, `cuda`, `vulkan`, `metal` or `webgpu`, a GPU perhaps with a number as in `cuda:1`"
    )]
    Name(String),
    /// Not the name of an element type.
    #[error("`{0}` is not an element type: expected `f32`, `f16` or `bf16`")]
    Dtype(String),
    /// Not the name of a weight format.
    #[error("`{0}` is not a weight format: expected `f32`, `f16`, `int8` or `int4`")]
    WeightFormat(String),
    /// Left out of this build.
    #[error("`{api}` is not in this build")]
    NotCompiled {
        /// What was asked for.
        api: Api,
    },
    /// Compiled in, but the machine has none or too few.
    #[error("there is no device `{name}` on this machine; found {}", listed(found))]
    NotPresent {
        /// What was asked for.
        name: DeviceName,
        /// What there is of the kind.
        found: Vec<String>,
    },
    /// The driver refused.
    #[error("cannot open `{name}` ({adapter}): {reason}")]
    Open {
        /// What was asked for.
        name: DeviceName,
        /// The GPU.
        adapter: String,
        /// What the driver or Burn said.
        reason: String,
    },
    /// The device cannot calculate in this type.
    #[error("`{name}` ({adapter}) does not support `{dtype}`")]
    UnsupportedDtype {
        /// The device.
        name: DeviceName,
        /// What it is.
        adapter: String,
        /// What was asked for.
        dtype: Dtype,
    },
    /// The type was chosen before, and Burn chooses it once per process.
    #[error("`{name}` already calculates in `{fixed}` in this process, and cannot change to `{dtype}`")]
    DtypeFixed {
        /// The device.
        name: DeviceName,
        /// The type that it has.
        fixed: String,
        /// What was asked for.
        dtype: Dtype,
    },
    /// TF32 is NVIDIA's.
    #[error("TF32 is for the device `cuda` only, and this is `{name}`")]
    NoTf32 {
        /// What was asked for.
        name: DeviceName,
    },
    /// Weight formats are for the CPU.
    #[error("weights in `{weights}` are for the device `cpu` only, and this is `{name}`")]
    WeightsNotOnCpu {
        /// The device.
        name: DeviceName,
        /// What was asked for.
        weights: WeightFormat,
    },
}

impl DeviceError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotCompiled { api: Api::Metal } if !cfg!(target_vendor = "apple") => {
                Some("Metal exists on Apple's systems only; pass `--device auto`".into())
            }
            Self::NotCompiled { api } => {
                Some(format!("build it in: `cargo install --path cli --features {}`", api.feature()))
            }
            Self::NotPresent { name: DeviceName::Gpu { api, .. }, found } if found.is_empty() => Some(match api {
                Api::Cuda => {
                    "it needs an NVIDIA GPU and NVIDIA's driver (`libcuda`); does `nvidia-smi` show one?".into()
                }
                Api::Metal => "it needs a Mac".into(),
                Api::Vulkan | Api::Webgpu if cfg!(target_os = "linux") => {
                    "it needs a Vulkan driver: Debian's `mesa-vulkan-drivers`, or the GPU maker's".into()
                }
                Api::Vulkan | Api::Webgpu => "it needs the GPU maker's driver".into(),
            }),
            Self::NotPresent { .. } => Some("`tonoscope devices` lists what there is".into()),
            Self::UnsupportedDtype { .. } => Some("pass `--dtype f32`".into()),
            Self::WeightsNotOnCpu { .. } => {
                Some("pass `--dtype f16` for half the memory on a GPU, or `--device cpu`".into())
            }
            Self::NoTf32 { .. } => Some("leave out `--tf32`: this device computes 32 bits in 32 bits".into()),
            Self::Open { .. } => Some("update the driver, or pass `--device cpu`".into()),
            _ => None,
        }
    }
}

fn listed(found: &[String]) -> String {
    if found.is_empty() { "none".into() } else { found.join(", ") }
}
