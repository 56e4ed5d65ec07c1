//! From a name to a device: the only package of tonoscope that knows Burn's backends.
//!
//! [`open`] takes what the command line says and returns where a model is loaded to. On the CPU that comes with a
//! [`CpuPacker`], which keeps the matrices of linear layers in a form that is read at the speed of memory.

#[cfg(all(target_arch = "wasm32", feature = "webgpu"))]
mod browser;
mod cpu;
mod devices;
mod format;
mod gpu;

#[cfg(all(target_arch = "wasm32", feature = "webgpu"))]
pub use browser::open_browser_gpu;
pub use cpu::{CpuPacker, Crew, Member};
#[cfg(not(target_arch = "wasm32"))]
pub use devices::end_on_gpu_failure;
pub use devices::{
    Api, Backend, DeviceError, DeviceInfo, DeviceName, Dtype, GpuFailure, Kind, Opened, Request, backends, list, open,
};
pub use format::WeightFormat;
