//! Where a model computes.

use std::str::FromStr;

use tonoscope_backends::{DeviceError, DeviceInfo, DeviceName, Dtype, Opened, Request, WeightFormat};

use crate::{Error, Result};

/// Where a model computes, in which type, and how the CPU keeps its weights. Plain data: [`open`](Device::open) starts it.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let device = Device::named("cpu")?.weights(WeightFormat::Int8);
/// let model = MusicGen::builder("musicgen-nano").device(device)?.load()?;
/// assert_eq!(model.device().adapter.is_empty(), false);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Device {
    request: Request,
}

impl Device {
    /// The device `auto` (CUDA, else a real GPU, else the CPU), `cpu`, `cuda`, `vulkan`, `metal` or `webgpu`; `cuda:1` is
    /// the second of several.
    ///
    /// # Errors
    /// [`DeviceError`] for another name, or a device that this build does not have.
    pub fn named(name: &str) -> Result<Self> {
        let name: DeviceName = name.parse()?;
        if let DeviceName::Gpu { api, .. } = name
            && !api.compiled()
        {
            return Err(DeviceError::NotCompiled { api }.into());
        }
        Ok(Self { request: Request { name, ..Request::default() } })
    }

    /// The type of activations; [`Dtype::F32`] unless told otherwise. Burn allows one type per process and device.
    #[must_use]
    pub fn dtype(mut self, dtype: Dtype) -> Self {
        self.request.dtype = dtype;
        self
    }

    /// How the CPU keeps the weights of linear layers; [`WeightFormat::F32`] unless told otherwise.
    #[must_use]
    pub fn weights(mut self, weights: WeightFormat) -> Self {
        self.request.weights = weights;
        self
    }

    /// Starts the device.
    ///
    /// # Errors
    /// [`DeviceError`] if it is not present, refused by its driver, or cannot do what is asked for.
    pub fn open(&self) -> Result<Opened> {
        Ok(tonoscope_backends::open(&self.request)?)
    }

    /// What is asked for.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Every device that is present and compiled in.
    ///
    /// ```
    /// use tonoscope::prelude::*;
    ///
    /// for device in Device::list() {
    ///     println!("{}: {}", device.name, device.adapter);
    /// }
    /// ```
    pub fn list() -> Vec<DeviceInfo> {
        tonoscope_backends::list()
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::named(name)
    }
}

impl TryFrom<&str> for Device {
    type Error = Error;

    fn try_from(name: &str) -> Result<Self> {
        Self::named(name)
    }
}

impl From<Request> for Device {
    fn from(request: Request) -> Self {
        Self { request }
    }
}
