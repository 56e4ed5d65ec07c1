//! How the CPU keeps the weights of linear layers.

use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::DeviceError;

/// How the weights of linear layers are kept on the CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightFormat {
    /// 32 bits: as in the checkpoint.
    #[default]
    F32,
    /// 16 bits, IEEE half precision.
    F16,
    /// 8 bits, with a scale for every output and 64 inputs. What they are multiplied by is rounded to 16 bits, with a scale
    /// for every 64, which costs 250 times less; those products are summed exactly, everything else is `f32`.
    Int8,
    /// 4 bits, with a scale for every output and 32 inputs; multiplied as with 8.
    Int4,
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        })
    }
}

impl FromStr for WeightFormat {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        [Self::F32, Self::F16, Self::Int8, Self::Int4]
            .into_iter()
            .find(|format| format.to_string() == name)
            .ok_or_else(|| DeviceError::WeightFormat(name.to_owned()))
    }
}
