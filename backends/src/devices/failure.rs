//! What a GPU's failure in the middle of a run means: drivers and Burn tell it in many words.

use std::fmt;

/// A failure of a GPU, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuFailure {
    /// A buffer that is larger than the device allows, or than its free memory.
    Buffer {
        /// How large it should be, where the driver says so.
        bytes: Option<u64>,
    },
    /// The device is gone: reset by its driver, or too long without an answer.
    Lost,
}

impl GpuFailure {
    /// What `text`, an error or a panic with its causes, tells of a GPU; `None` if it tells of something else.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        let lower = text.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|words| lower.contains(words));
        if has(&[
            "device is lost",
            "device was lost",
            "device lost",
            "devicelost",
            "devicepoisoned",
            "device is poisoned",
        ]) {
            return Some(Self::Lost);
        }
        let sizes = ["allocate buffer of size: ", "buffer size ", "binding size ", "range with size ", "range "];
        let too_large =
            ["can't allocate buffer", "max_buffer_size", "maximum buffer size", "binding_size", "exceeds the max"];
        if has(&too_large) || has(&["out of memory", "out_of_memory", "outofmemory", "not enough memory"]) {
            let bytes = sizes.iter().find_map(|before| number_after(&lower, before));
            return Some(Self::Buffer { bytes });
        }
        None
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Buffer { .. } => {
                "lower `--batch-size`, `--duration` or `--tile`, pass `--dtype f16`, or pass `--device cpu`"
            }
            Self::Lost => {
                "run the command again, which resumes; if it fails again, lower `--batch-size` or update the driver"
            }
        }
    }
}

impl fmt::Display for GpuFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer { bytes: Some(bytes) } => {
                let mib = bytes.div_ceil(1 << 20);
                write!(f, "the GPU cannot allocate a buffer of {bytes} bytes ({mib} MiB)")
            }
            Self::Buffer { bytes: None } => f.write_str("the GPU is out of memory"),
            Self::Lost => f.write_str("the GPU stopped answering: its driver has reset it"),
        }
    }
}

/// The first whole number that follows `before` directly.
fn number_after(text: &str, before: &str) -> Option<u64> {
    text.split(before).skip(1).find_map(|rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().ok()
    })
}

/// Ends the process with one message and exit status 1 when a GPU's failure makes a thread panic. Burn's threads panic where
/// no caller can catch it, and drivers crash when they are unloaded after that.
#[cfg(not(target_arch = "wasm32"))]
pub fn end_on_gpu_failure() {
    use std::{io::Write, panic, sync::Once};
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            let text = panicked.payload_as_str().unwrap_or_default();
            match GpuFailure::find(text).filter(|_| !super::is_guarded()) {
                Some(failure) => {
                    // Nobody is left to tell if stderr is closed.
                    let _ = writeln!(std::io::stderr(), "error: {failure}\nhint: {}", failure.hint());
                    end();
                }
                None => before(panicked),
            }
        }));
    });
}

/// Ends the process at once: what drivers do at an orderly end crashes on a device that has failed.
#[cfg(not(target_arch = "wasm32"))]
fn end() -> ! {
    #[cfg(unix)]
    {
        #[expect(unsafe_code, reason = "the standard library has no exit without destructors")]
        unsafe extern "C" {
            safe fn _exit(status: i32) -> !;
        }
        _exit(1)
    }
    #[cfg(not(unix))]
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_found_in_what_drivers_say() {
        let of = |text| GpuFailure::find(text);
        let buffer = |bytes| Some(GpuFailure::Buffer { bytes });
        let said = "the device failed: An IO error happened\nCaused by:\n  can't allocate buffer of size: 1154304000\nNo backtrace";
        assert_eq!(of(said), buffer(Some(1_154_304_000)));
        let said = "wgpu error: Validation Error\n  In Device::create_buffer\n    Buffer size 4294967296 is greater than the maximum buffer size (268435456)";
        assert_eq!(of(said), buffer(Some(4_294_967_296)));
        let said = "Buffer binding 0 range 134221824 exceeds `max_storage_buffer_binding_size` limit 134217728";
        assert_eq!(of(said), buffer(Some(134_221_824)));
        assert_eq!(of("wgpu error: Out of Memory"), buffer(None));
        assert_eq!(of("CUDA_ERROR_OUT_OF_MEMORY: out of memory"), buffer(None));
        assert_eq!(of("Parent device is lost"), Some(GpuFailure::Lost));
        for other in ["index out of bounds: the len is 3", "cannot read `x.wav`", "buffer size 12"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_failure_is_one_line_with_the_bytes() {
        let failure = GpuFailure::Buffer { bytes: Some(1_154_304_000) };
        assert_eq!(failure.to_string(), "the GPU cannot allocate a buffer of 1154304000 bytes (1101 MiB)");
        assert!(failure.hint().contains("--batch-size"));
    }
}
