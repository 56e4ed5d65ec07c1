//! From the device to the host.

use burn::tensor::{DType, ExecutionError, Tensor};

/// The values of `tensor` as `f32`, row-major.
///
/// # Errors
/// If the device fails, or gives something else than it was asked for.
pub async fn read_floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ExecutionError> {
    let data = tensor.cast(DType::F32).into_data_async().await?;
    data.try_to_vec()
        .map_err(|error| ExecutionError::WithContext { reason: format!("a tensor was not read back: {error}") })
}
