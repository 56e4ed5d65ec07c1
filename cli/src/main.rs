//! `tonoscope` on the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    quieten_display_libraries();
    tonoscope_cli::run(std::env::args_os(), &mut std::io::stdout().lock())
}

/// Keeps `error: XDG_RUNTIME_DIR …` off stderr: Mesa's Vulkan layer asks libwayland for a display, and that complains where
/// no desktop runs, though nothing needs one. A folder that cannot exist is no display either, without a word.
#[cfg(target_os = "linux")]
fn quieten_display_libraries() {
    const RUNTIME: &str = "XDG_RUNTIME_DIR";
    let is_usable = |path: std::ffi::OsString| std::path::Path::new(&path).is_absolute();
    if !std::env::var_os(RUNTIME).is_some_and(is_usable) {
        #[expect(unsafe_code, reason = "the libraries read nothing but the environment")]
        // SAFETY: the first statement of the program; no other thread runs that could read the environment.
        unsafe {
            std::env::set_var(RUNTIME, "/dev/null");
        }
    }
}
