//! The GPU that a browser lends to a page.

use burn::tensor::{
    Device,
    wgpu::{WgpuBackend, wgpu::Features},
};
use tonoscope_core::checkpoint::Placement;

use crate::{Api, DeviceError, DeviceInfo, DeviceName, Dtype, Kind, Opened, gpu};

/// Opens the GPU that the browser offers, with every limit that it grants, to calculate in `dtype`. Once per page or worker:
/// ask the [`Opened`] for the device afterwards.
///
/// # Errors
/// [`DeviceError::Open`] if the browser has none to offer, or it was opened before; [`DeviceError::UnsupportedDtype`] if it does
/// not know that type.
pub async fn open_browser_gpu(dtype: Dtype) -> Result<Opened, DeviceError> {
    let name = DeviceName::Gpu { api: Api::Webgpu, index: 0 };
    let refused = |reason: String| DeviceError::Open { name, adapter: "WebGPU".into(), reason };
    let options = Device::wgpu_options().graphics_api(WgpuBackend::WebGpu);
    let (mut device, setup) = options.init_with_setup_async().await.map_err(|error| refused(error.to_string()))?;
    let adapter = setup.adapter.get_info();
    let info = DeviceInfo {
        name,
        // Browsers hide most names from pages; the page asks JavaScript, which knows more.
        adapter: if adapter.name.is_empty() { "WebGPU".into() } else { adapter.name },
        driver: format!("{:?}", adapter.backend),
        kind: Kind::Unknown,
        software: false,
        memory: None,
        f16: Some(setup.device.features().contains(Features::SHADER_F16)),
    };
    if device.configure(dtype.float()).is_err() || (dtype == Dtype::F16 && info.f16 != Some(true)) {
        return Err(DeviceError::UnsupportedDtype { name, adapter: info.adapter, dtype });
    }
    Ok(Opened {
        placement: Placement { packer: gpu::packer(&device, false), ..Placement::plain(&device) },
        info,
        note: None,
    })
}
