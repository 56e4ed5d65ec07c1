//! `tonoscope` on the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    tonoscope::run(std::env::args_os(), &mut std::io::stdout().lock())
}
