//! Checkpoints: from the files that people have to the tensors of a model.
//!
//! A [`Source`] is a set of named tensors (safetensors, sharded or not, or a PyTorch file), opened without reading the
//! data. [`Weights`] hands them out one by one to the models' constructors, checks their shapes, remembers which were
//! used, and places them on the device: so a missing, left-over or wrongly shaped tensor is named, and a model never
//! stands in memory twice.

mod error;
mod pytorch;
mod safetensors;
mod source;
mod weights;

pub use error::LoadError;
pub use pytorch::PyTorchFile;
pub use safetensors::SafetensorsFile;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use safetensors::open_folder;
pub use source::{Overlay, RawTensor, Remapped, Source, Taken, TensorBytes};
pub use weights::{Placement, Weights};
pub(crate) use weights::{chunks, to_f32};
