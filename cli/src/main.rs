//! `tonoscope` on the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    tonoscope_cli::run(std::env::args_os(), &mut std::io::stdout().lock())
}
