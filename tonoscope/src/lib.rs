#![doc = include_str!("tutorial.md")]

mod asked;
mod audio;
mod cache;
mod cancel;
mod clap;
mod codec;
mod device;
mod diffusion;
mod error;
mod lens;
pub mod load;
mod music;
mod outcome;
mod passt;
pub mod prelude;
mod t5;
pub mod text;
mod values;

pub use asked::IntoCapture;
pub use audio::Audio;
pub use cache::Cache;
pub use cancel::Cancel;
pub use clap::{Clap, ClapParts, cosine};
pub use codec::{Encodec, Oobleck};
pub use device::Device;
pub use diffusion::{Denoised, Diffuse, Diffused, DiffusionParts, Snapshot, StableAudio};
pub use error::{Error, Result};
pub use music::{Generate, Music, MusicGen, MusicParts, Stage};
pub use outcome::Outcome;
pub use passt::{Heard, Passt, PasstParts};
pub use t5::T5Encoder;
pub use tonoscope_backends::{DeviceError, DeviceInfo, Dtype, WeightFormat};
pub use tonoscope_core as core;
pub use tonoscope_core::hooks;
pub use tonoscope_hub as hub;
pub use values::{values, values_async};
