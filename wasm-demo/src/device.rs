//! The device of this worker.

use std::{cell::RefCell, sync::Arc};

use tonoscope_backends::{CpuPacker, Dtype, Opened, Request, WeightFormat, open, open_browser_gpu};
use wasm_bindgen::prelude::{JsError, wasm_bindgen};

use crate::{
    crew::Workers,
    failure::{failed, misuse},
    self_test::compare,
};

thread_local! {
    /// The GPU, once it was opened, and what it calculates in: a browser's runtime is set up once.
    static GPU: RefCell<Option<(Dtype, Opened)>> = const { RefCell::new(None) };
}

/// Opens the GPU to calculate in `dtype` (`f32`, `f16`) and compares it with the CPU on a small model with random weights: JSON with the largest error of each
/// block relative to its largest number, and whether all are within `bound`.
///
/// # Errors
/// If there is no GPU, or it stops working on the way.
#[wasm_bindgen]
pub async fn self_test(dtype: String) -> Result<String, JsError> {
    let dtype = dtype.parse().map_err(failed)?;
    let gpu = gpu(dtype).await?;
    let cpu = cpu(WeightFormat::F32)?;
    let report = compare(&gpu.placement, &cpu.placement, dtype).await?;
    serde_json::to_string(&report).map_err(failed)
}

/// `cpu`, or `webgpu`; on the CPU matrices are kept as `weights` says and divided among `workers`, on the GPU everything is of
/// that type.
pub(crate) async fn opened(device: &str, weights: &str, workers: Workers) -> Result<Opened, JsError> {
    let weights: WeightFormat = weights.parse().map_err(failed)?;
    match device {
        "cpu" => {
            let mut opened = cpu(weights)?;
            opened.placement.packer = Some(Arc::new(CpuPacker::new(weights).with_crew(Arc::new(workers))));
            Ok(opened)
        }
        "webgpu" => match weights {
            WeightFormat::F32 => gpu(Dtype::F32).await,
            WeightFormat::F16 => gpu(Dtype::F16).await,
            other => Err(misuse(format!("on the GPU weights are kept as f32 or f16, not as {other}"))),
        },
        other => Err(misuse(format!("no device `{other}`; there are `cpu` and `webgpu`"))),
    }
}

fn cpu(weights: WeightFormat) -> Result<Opened, JsError> {
    open(&Request { weights, name: "cpu".parse().map_err(failed)?, ..Request::default() }).map_err(failed)
}

async fn gpu(dtype: Dtype) -> Result<Opened, JsError> {
    match GPU.with_borrow(Clone::clone) {
        Some((fixed, opened)) if fixed == dtype => return Ok(opened),
        Some((fixed, _)) => {
            return Err(misuse(format!("in this worker the GPU calculates in {fixed}, not in {dtype}")));
        }
        None => {}
    }
    let opened = open_browser_gpu(dtype).await.map_err(failed)?;
    GPU.set(Some((dtype, opened.clone())));
    Ok(opened)
}
