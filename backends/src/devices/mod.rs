//! From a name to a device that is ready to use.

mod error;
mod failure;
mod info;
mod name;
#[cfg(feature = "wgpu")]
mod wgpu;

use std::{
    cell::Cell,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::{Device, Tensor};
use tonoscope_core::checkpoint::{MatrixPacker, Placement};

#[cfg(not(target_arch = "wasm32"))]
pub use self::failure::end_on_gpu_failure;
pub use self::{
    error::DeviceError,
    failure::GpuFailure,
    info::{Backend, DeviceInfo, Kind, backends, list},
    name::{Api, DeviceName, Dtype},
};
use crate::{CpuPacker, WeightFormat, gpu};

/// A device, and what to calculate in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    /// Which device.
    pub name: DeviceName,
    /// The type of activations.
    pub dtype: Dtype,
    /// How the weights of linear layers are kept; other than `f32` on the CPU only.
    pub weights: WeightFormat,
    /// Whether products of 32 bits may round what they multiply to TF32, 10 bits; on CUDA only.
    pub tf32: bool,
}

/// A device that is ready to use.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Where a model is loaded to.
    pub placement: Placement,
    /// Which device it is.
    pub info: DeviceInfo,
    /// What the user should know about it.
    pub note: Option<String>,
}

/// Opens the device that is asked for.
///
/// # Errors
/// [`DeviceError`] if it is not compiled in, not present, refused by its driver, or cannot do what is asked for.
pub fn open(request: &Request) -> Result<Opened, DeviceError> {
    // One at a time: drivers and Burn's registry of runtimes do not like two that start at once.
    static OPENING: Mutex<()> = Mutex::new(());
    let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    let info = find(request.name)?;
    if info.kind != Kind::Cpu && request.weights != WeightFormat::F32 {
        return Err(DeviceError::WeightsNotOnCpu { name: info.name, weights: request.weights });
    }
    let cuda = matches!(info.name, DeviceName::Gpu { api: Api::Cuda, .. });
    if request.tf32 && !cuda {
        return Err(DeviceError::NoTf32 { name: info.name });
    }
    let exact = cuda && !request.tf32;
    let mut device = start(&info)?;
    configure(&mut device, &info, request.dtype)?;
    let packer: Option<Arc<dyn MatrixPacker>> = match info.kind {
        Kind::Cpu => Some(Arc::new(CpuPacker::new(request.weights))),
        _ => gpu::packer(&device, exact),
    };
    let note = info.software.then(|| {
        let mut note = format!("{} is a GPU in software: right, but slower than `--device cpu`", info.adapter);
        if cfg!(feature = "vulkan") {
            note.push_str("; this build gives it SPIR-V, on which older ones crash");
        }
        note
    });
    Ok(Opened { placement: Placement { device, packer }, info, note })
}

/// The device that `name` means on this machine.
fn find(name: DeviceName) -> Result<DeviceInfo, DeviceError> {
    match name {
        DeviceName::Cpu => Ok(info::cpu()),
        DeviceName::Auto => {
            // What reaches the same GPU better comes first.
            let gpus = [Api::Cuda, Api::Metal, Api::Vulkan, Api::Webgpu].into_iter().flat_map(info::devices);
            Ok(best(gpus).unwrap_or_else(info::cpu))
        }
        DeviceName::Gpu { api, .. } if !api.compiled() => Err(DeviceError::NotCompiled { api }),
        DeviceName::Gpu { api, index } => {
            let mut devices = info::devices(api);
            if index < devices.len() {
                return Ok(devices.swap_remove(index));
            }
            let found = devices.iter().map(|device| format!("`{}` ({})", device.name, device.adapter)).collect();
            Err(DeviceError::NotPresent { name, found })
        }
    }
}

/// The first of the best kind, none of them in software.
fn best(devices: impl IntoIterator<Item = DeviceInfo>) -> Option<DeviceInfo> {
    devices.into_iter().filter(|device| !device.software).min_by_key(|device| device.kind)
}

#[cfg_attr(not(feature = "wgpu"), expect(clippy::unnecessary_wraps, reason = "only wgpu can refuse"))]
fn start(info: &DeviceInfo) -> Result<Device, DeviceError> {
    match info.name {
        #[cfg(feature = "cuda")]
        DeviceName::Gpu { api: Api::Cuda, index } => Ok(Device::cuda(index)),
        #[cfg(feature = "wgpu")]
        DeviceName::Gpu { .. } => wgpu::start(info),
        _ => Ok(Device::flex()),
    }
}

/// Sets the type of floating-point tensors, which Burn allows once per process and device.
fn configure(device: &mut Device, info: &DeviceInfo, dtype: Dtype) -> Result<(), DeviceError> {
    use burn::backend::DeviceError as Refused;
    let name = info.name;
    let refused = guarded(|| device.configure(dtype.float())).map_err(|reason| DeviceError::Open {
        name,
        adapter: info.adapter.clone(),
        reason,
    })?;
    match refused {
        Ok(()) => {}
        Err(Refused::UnsupportedDType { .. }) => {
            return Err(DeviceError::UnsupportedDtype { name, adapter: info.adapter.clone(), dtype });
        }
        Err(Refused::AlreadyInitialized { .. }) => {
            let fixed = device.settings().float_dtype;
            if fixed != dtype.float() {
                return Err(DeviceError::DtypeFixed { name, fixed: format!("{fixed:?}").to_lowercase(), dtype });
            }
        }
    }
    // A driver that is there but does not work shows here, not in the middle of loading a model.
    guarded(|| Tensor::<1>::zeros([1], &*device).into_data()).map_err(|reason| DeviceError::Open {
        name,
        adapter: info.adapter.clone(),
        reason,
    })?;
    Ok(())
}

thread_local! {
    /// Whether this thread catches its panics.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is caught.
#[cfg(not(target_arch = "wasm32"))]
fn is_guarded() -> bool {
    GUARDED.with(Cell::get)
}

/// What `use_driver` returns, or why it panicked: Burn's runtimes unwrap what drivers say.
fn guarded<T>(use_driver: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.with(|guarded| guarded.replace(true));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(use_driver));
    GUARDED.with(|guarded| guarded.set(before));
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "it panicked".into())
    })
}

#[cfg(test)]
mod tests;
