//! What is compiled in, and what is present.

use serde::Serialize;

use super::{Api, DeviceName};

/// A device that is present.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// What to ask for.
    pub name: DeviceName,
    /// What its maker calls it.
    pub adapter: String,
    /// Name and version of its driver, or Burn's backend.
    pub driver: String,
    /// What it is.
    pub kind: Kind,
    /// Whether it is a GPU that a CPU pretends to be.
    pub software: bool,
    /// Memory in bytes, where it is known.
    pub memory: Option<u64>,
    /// Whether it calculates in half precision; `None`: only opening it tells.
    pub f16: Option<bool>,
}

/// What a device is; the better, the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the CPU's memory.
    Integrated,
    /// A GPU lent by the host of a virtual machine.
    Virtual,
    /// A GPU of unknown kind.
    Unknown,
    /// A GPU in software.
    Software,
    /// The processor.
    Cpu,
}

/// A way to program devices.
#[derive(Debug, Clone, Serialize)]
pub struct Backend {
    /// `cpu`, or the name of an [`Api`].
    pub name: String,
    /// Whether this build has it.
    pub compiled: bool,
    /// The Cargo feature that adds it; `None`: it is always there.
    pub feature: Option<&'static str>,
}

/// Every backend that there is, in this build or not.
#[must_use]
pub fn backends() -> Vec<Backend> {
    let cpu = Backend { name: "cpu".into(), compiled: true, feature: None };
    let gpus =
        Api::ALL.map(|api| Backend { name: api.to_string(), compiled: api.compiled(), feature: Some(api.feature()) });
    std::iter::once(cpu).chain(gpus).collect()
}

/// Every device that is present and compiled in. A GPU that is reached in several ways is there as often.
#[must_use]
pub fn list() -> Vec<DeviceInfo> {
    std::iter::once(cpu()).chain(Api::ALL.into_iter().flat_map(devices)).collect()
}

/// The devices that `api` reaches, best first.
pub(super) fn devices(api: Api) -> Vec<DeviceInfo> {
    match api {
        _ if !api.compiled() => Vec::new(),
        #[cfg(feature = "cuda")]
        Api::Cuda => cuda(),
        #[cfg(feature = "wgpu")]
        Api::Vulkan | Api::Metal | Api::Webgpu => super::wgpu::devices(api),
        #[cfg(not(all(feature = "cuda", feature = "wgpu")))]
        _ => Vec::new(),
    }
}

/// The processor.
pub(super) fn cpu() -> DeviceInfo {
    let field = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kilobytes = field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    DeviceInfo {
        name: DeviceName::Cpu,
        adapter: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
        driver: "flex".into(),
        kind: Kind::Cpu,
        software: false,
        memory: kilobytes.map(|kilobytes| kilobytes * 1024),
        f16: Some(true),
    }
}

/// Asks the driver. Burn looks for `libcuda` first, so that a machine without it has no devices and no panic.
#[cfg(feature = "cuda")]
fn cuda() -> Vec<DeviceInfo> {
    use burn::{
        backend::DispatchDevice,
        tensor::{Device, DeviceType},
    };
    let devices = super::guarded(|| Device::enumerate(DeviceType::Cuda).into_vec()).unwrap_or_default();
    let describe = |(index, device): (usize, Device)| {
        let name = DeviceName::Gpu { api: Api::Cuda, index };
        let opened = super::guarded(|| {
            let DispatchDevice::Cube(cube) = device.as_dispatch() else { return None };
            let client = cube.client();
            let properties = client.properties();
            Some((properties.identity.name.clone(), properties.memory.max_memory()))
        });
        let (adapter, memory, driver) = match opened {
            Ok(Some((adapter, memory))) => (adapter, memory, "cuda".into()),
            Ok(None) => ("unknown".into(), None, "cuda".into()),
            Err(reason) => ("unknown".into(), None, format!("cuda, which does not start: {reason}")),
        };
        DeviceInfo { name, adapter, driver, kind: Kind::Discrete, software: false, memory, f16: Some(true) }
    };
    devices.into_iter().enumerate().map(describe).collect()
}
