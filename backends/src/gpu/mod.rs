//! Kernels of our own for GPUs, where those of Burn leave much of them without work.

#[cfg(all(any(feature = "wgpu", feature = "cuda", feature = "webgpu"), not(feature = "fusion")))]
mod attention;
#[cfg(all(any(feature = "wgpu", feature = "cuda", feature = "webgpu"), not(feature = "fusion")))]
mod elementwise;
#[cfg(all(any(feature = "wgpu", feature = "cuda", feature = "webgpu"), not(feature = "fusion")))]
mod exact;
#[cfg(all(any(feature = "wgpu", feature = "cuda", feature = "webgpu"), not(feature = "fusion")))]
mod kernels;
#[cfg(all(any(feature = "wgpu", feature = "cuda", feature = "webgpu"), not(feature = "fusion")))]
mod matrix;
#[cfg(all(any(feature = "wgpu", feature = "cuda", feature = "webgpu"), not(feature = "fusion")))]
mod own;
#[cfg(all(any(feature = "wgpu", feature = "cuda", feature = "webgpu"), not(feature = "fusion")))]
mod recurrent;
#[cfg(all(any(feature = "wgpu", feature = "cuda", feature = "webgpu"), not(feature = "fusion")))]
mod tiles;

use std::sync::Arc;

use burn::tensor::Device;
use tonoscope_core::checkpoint::MatrixPacker;

/// What keeps matrices on `device`, a GPU; `exact` if products of 32 bits need a kernel of their own for that. `None` where operations are joined by Burn, which cannot join these.
#[cfg_attr(
    all(any(feature = "wgpu", feature = "cuda", feature = "webgpu"), not(feature = "fusion")),
    expect(clippy::unnecessary_wraps, reason = "other features leave the kernels out")
)]
pub(crate) fn packer(device: &Device, exact: bool) -> Option<Arc<dyn MatrixPacker>> {
    #[cfg(all(any(feature = "wgpu", feature = "cuda", feature = "webgpu"), not(feature = "fusion")))]
    return Some(Arc::new(matrix::GpuPacker::new(device, exact)));
    #[cfg(not(all(any(feature = "wgpu", feature = "cuda", feature = "webgpu"), not(feature = "fusion"))))]
    {
        let _ = (device, exact);
        None
    }
}

#[cfg(test)]
#[cfg(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion")))]
mod step_tests;
#[cfg(test)]
#[cfg(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion")))]
mod tests;
