//! The device of this worker.

use std::cell::RefCell;

use tonoscope_backends::{Opened, Request, WeightFormat, open, open_browser_gpu};
use wasm_bindgen::prelude::{JsError, wasm_bindgen};

use crate::{
    failure::{failed, misuse},
    self_test::compare,
};

thread_local! {
    /// The GPU, once it was opened: a browser's runtime is set up once.
    static GPU: RefCell<Option<Opened>> = const { RefCell::new(None) };
}

/// Opens the GPU and compares it with the CPU on a small model with random weights: JSON with the largest error of each
/// block relative to its largest number, and whether all are within `bound`.
///
/// # Errors
/// If there is no GPU, or it stops working on the way.
#[wasm_bindgen]
pub async fn self_test() -> Result<String, JsError> {
    let gpu = gpu().await?;
    let cpu = cpu(WeightFormat::F32)?;
    let report = compare(&gpu.placement, &cpu.placement).await?;
    serde_json::to_string(&report).map_err(failed)
}

/// `cpu`, or `webgpu`; on the CPU matrices are kept as `weights` says.
pub(crate) async fn opened(device: &str, weights: &str) -> Result<Opened, JsError> {
    let weights: WeightFormat = weights.parse().map_err(failed)?;
    match device {
        "cpu" => cpu(weights),
        "webgpu" if weights == WeightFormat::F32 => gpu().await,
        "webgpu" => Err(misuse(format!("on the GPU weights are kept as f32, not as {weights}"))),
        other => Err(misuse(format!("no device `{other}`; there are `cpu` and `webgpu`"))),
    }
}

fn cpu(weights: WeightFormat) -> Result<Opened, JsError> {
    open(&Request { weights, name: "cpu".parse().map_err(failed)?, ..Request::default() }).map_err(failed)
}

async fn gpu() -> Result<Opened, JsError> {
    if let Some(opened) = GPU.with_borrow(Clone::clone) {
        return Ok(opened);
    }
    let opened = open_browser_gpu().await.map_err(failed)?;
    GPU.set(Some(opened.clone()));
    Ok(opened)
}
