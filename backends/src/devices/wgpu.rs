//! GPUs through wgpu: Vulkan, Metal, DirectX 12 or OpenGL, whatever the system has.
//!
//! Burn panics without an adapter, so this asks wgpu first, in the order in which Burn's runtime does, and opens by
//! the number that the runtime gives each adapter.

use std::sync::OnceLock;

use burn::{
    backend::{WgpuDevice, WgpuDeviceKind},
    tensor::{
        Device, DeviceKind,
        wgpu::{
            WgpuBackend, WgpuInitError,
            wgpu::{AdapterInfo, Backends, DeviceType, Features, Instance, InstanceDescriptor},
        },
    },
};

use super::{Api, DeviceError, DeviceInfo, DeviceName, Kind, guarded};

/// An adapter, and how to ask Burn for it.
struct Adapter {
    info: DeviceInfo,
    device: WgpuDevice,
    /// What came of starting it, which is done once: drivers do not like to be asked by two threads at the same time.
    started: OnceLock<Result<(), String>>,
}

/// The devices that `api` reaches, best first.
pub(super) fn devices(api: Api) -> Vec<DeviceInfo> {
    adapters(api).iter().map(|adapter| adapter.info.clone()).collect()
}

/// Opens the device that [`devices`] told of.
pub(super) fn start(info: &DeviceInfo) -> Result<Device, DeviceError> {
    let refused = |reason| DeviceError::Open { name: info.name, adapter: info.adapter.clone(), reason };
    let DeviceName::Gpu { api, .. } = info.name else { return Err(refused("it is not a GPU".into())) };
    let Some(adapter) = adapters(api).iter().find(|adapter| adapter.info.name == info.name) else {
        return Err(refused("it is gone".into()));
    };
    adapter.started.get_or_init(|| adapter.start()).clone().map_err(refused)?;
    Ok(Device::new(adapter.device.clone()))
}

impl Adapter {
    fn start(&self) -> Result<(), String> {
        let options = Device::wgpu_options().graphics_api(self.device.backend);
        let options = match self.device.kind {
            WgpuDeviceKind::DiscreteGpu(number) => options.device_kind(DeviceKind::DiscreteGpu(number)),
            WgpuDeviceKind::IntegratedGpu(number) => options.device_kind(DeviceKind::IntegratedGpu(number)),
            WgpuDeviceKind::VirtualGpu(number) => options.device_kind(DeviceKind::VirtualGpu(number)),
            WgpuDeviceKind::Cpu => options.device_kind(DeviceKind::Cpu),
            // Burn's options have no name for other kinds; it starts them by itself when they are first used.
            _ => return Ok(()),
        };
        match guarded(|| options.init())? {
            // The same adapter may have been started through another API.
            Ok(_) | Err(WgpuInitError::Registration { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The adapters that `api` reaches, best first. Asked once: an adapter keeps its number while the process lives.
fn adapters(api: Api) -> &'static [Adapter] {
    static FOUND: [OnceLock<Vec<Adapter>>; 3] = [const { OnceLock::new() }; 3];
    let (cache, pinned) = match api {
        Api::Vulkan => (&FOUND[0], WgpuBackend::Vulkan),
        Api::Metal => (&FOUND[1], WgpuBackend::Metal),
        Api::Webgpu | Api::Cuda => (&FOUND[2], WgpuBackend::Auto),
    };
    cache.get_or_init(|| guarded(|| find(api, pinned)).unwrap_or_default())
}

fn find(api: Api, pinned: WgpuBackend) -> Vec<Adapter> {
    let mut next = [0; 5];
    let numbered = probe(pinned).into_iter().map(|(adapter, f16)| {
        let kind = match adapter.device_type {
            DeviceType::DiscreteGpu => Kind::Discrete,
            DeviceType::IntegratedGpu => Kind::Integrated,
            DeviceType::VirtualGpu => Kind::Virtual,
            DeviceType::Other => Kind::Unknown,
            DeviceType::Cpu => Kind::Software,
        };
        let number = next[kind as usize];
        next[kind as usize] += 1;
        let selector = match kind {
            Kind::Discrete => WgpuDeviceKind::DiscreteGpu(number),
            Kind::Integrated => WgpuDeviceKind::IntegratedGpu(number),
            Kind::Virtual => WgpuDeviceKind::VirtualGpu(number),
            Kind::Unknown => WgpuDeviceKind::Other(number),
            Kind::Software | Kind::Cpu => WgpuDeviceKind::Cpu,
        };
        let software = kind == Kind::Software || is_software(&adapter.name);
        let driver = [&*adapter.driver, &*adapter.driver_info].join(" ").trim().to_owned();
        let driver = format!("{driver} ({:?})", adapter.backend).trim().to_owned();
        let name = DeviceName::Gpu { api, index: 0 };
        let kind = if software { Kind::Software } else { kind };
        let info = DeviceInfo { name, adapter: adapter.name, driver, kind, software, memory: None, f16: Some(f16) };
        Adapter { info, device: WgpuDevice::new(selector).on(pinned), started: OnceLock::new() }
    });
    let mut found: Vec<_> = numbered.collect();
    // Burn reaches only the first one in software.
    let mut software = 0;
    found.retain(|adapter| {
        software += usize::from(adapter.info.kind == Kind::Software);
        adapter.info.kind != Kind::Software || software == 1
    });
    found.sort_by_key(|adapter| adapter.info.kind);
    for (index, adapter) in found.iter_mut().enumerate() {
        adapter.info.name = DeviceName::Gpu { api, index };
    }
    found
}

/// The adapters of the first graphics API that has a GPU, else of the first that has anything; with them, whether
/// they know half precision.
fn probe(pinned: WgpuBackend) -> Vec<(AdapterInfo, bool)> {
    let candidates: &[Backends] = match pinned {
        WgpuBackend::Vulkan => &[Backends::VULKAN],
        WgpuBackend::Metal => &[Backends::METAL],
        _ if cfg!(target_os = "macos") => &[Backends::METAL],
        _ => &[Backends::VULKAN, Backends::DX12, Backends::GL],
    };
    let mut fallback = Vec::new();
    for backends in candidates {
        let mut descriptor = InstanceDescriptor::new_without_display_handle();
        descriptor.backends = *backends;
        let found = pollster::block_on(Instance::new(descriptor).enumerate_adapters(*backends));
        let found: Vec<_> = found
            .iter()
            .map(|adapter| (adapter.get_info(), adapter.features().contains(Features::SHADER_F16)))
            .collect();
        if found.iter().any(|(adapter, _)| adapter.device_type != DeviceType::Cpu) {
            return found;
        }
        if fallback.is_empty() {
            fallback = found;
        }
    }
    fallback
}

fn is_software(adapter: &str) -> bool {
    let adapter = adapter.to_lowercase();
    ["llvmpipe", "lavapipe", "softpipe", "swiftshader", "basic render"].iter().any(|name| adapter.contains(name))
}
