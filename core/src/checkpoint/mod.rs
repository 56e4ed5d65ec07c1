//! Checkpoints: from the files that people have to the tensors of a model.
//!
//! A [`Source`] is a set of named tensors (safetensors, sharded or not, or a PyTorch file), opened without reading the
//! data. [`Weights`] hands them out one by one to the models' constructors, checks their shapes, remembers which were
//! used, and places them on the device: so a missing, left-over or wrongly shaped tensor is named, and a model never
//! stands in memory twice.

#[cfg(not(target_arch = "wasm32"))]
mod adapter;
mod error;
#[cfg(not(target_arch = "wasm32"))]
mod folder;
mod guarded;
mod json;
mod kernels;
mod lfs;
mod matrix;
mod mounted;
mod numbers;
mod pickle_guard;
mod pytorch;
pub(crate) mod ranges;
mod safetensors;
mod sorted;
mod source;
mod taps;
mod torch_tensor;
mod weights;
#[cfg(not(target_arch = "wasm32"))]
mod wrapping;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use adapter::adapted;
#[cfg(not(target_arch = "wasm32"))]
pub use adapter::base_of_adapter;
pub use error::{Instead, LoadError};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use folder::{open_file, open_folder, open_named_folder};
pub(crate) use guarded::{guarded, guarded_on_a_large_stack};
pub use json::parse_json;
pub(crate) use json::typed;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use json::{read_json, read_small};
pub use kernels::{
    Attended, Kernels, Limits, PastAttention, Recurred, Recurrence, StepInput, TextAttention, TurnedHeads,
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use lfs::refuse_pointer;
pub(crate) use matrix::StoredMatrix;
pub use matrix::{Act, Epilogue, MatrixPacker, MatrixValues, PackedMatrix, Rows, added, gated_silu};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use mounted::exists;
pub(crate) use mounted::in_memory;
pub use mounted::mount;
pub(crate) use numbers::finite_numbers;
pub use numbers::read_numbers;
pub use pytorch::PyTorchFile;
pub use safetensors::SafetensorsFile;
pub(crate) use safetensors::{doubles_to_bytes, floats_to_bytes};
pub use sorted::sorted_safetensors;
pub use source::{Overlay, RawTensor, Remapped, Source, Taken, TensorBytes};
pub use taps::{Before, Ends, PackedTaps, SnakeValues, TapValues};
pub use torch_tensor::{TorchTensorError, read_torch_tensor};
pub(crate) use weights::to_f32;
pub use weights::{GivenTensor, Placement, Weights};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use wrapping::{Average, unwrapped, unwrapped_with};
