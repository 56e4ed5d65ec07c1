//! Numbers of a tensor, back on the host.

use burn::tensor::Tensor;
use tonoscope_core::hooks::read_floats;

use crate::Result;

/// The elements of a tensor as `f32`, row-major. It waits for the device.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let model = MusicGen::from_pretrained("musicgen-nano")?;
/// let run = model.generate("a slow piano melody").seconds(0.2).capture("decoder.5.resid_post:last_step");
/// let (_, cache) = run.run_with_cache()?;
/// let stream = values(&cache.get("decoder.5.resid_post")?.tensor)?;
/// assert_eq!(stream.len(), 2 * model.width()); // two branches of guidance
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// [`Error::Execution`](crate::Error::Execution) if the device fails.
pub fn values<const D: usize>(tensor: &Tensor<D>) -> Result<Vec<f32>> {
    pollster::block_on(values_async(tensor))
}

/// [`values`], without blocking.
///
/// # Errors
/// As [`values`].
pub async fn values_async<const D: usize>(tensor: &Tensor<D>) -> Result<Vec<f32>> {
    Ok(read_floats(tensor.clone()).await?)
}
