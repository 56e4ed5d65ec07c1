//! `tonoscope devices`

use std::io::Write;

use anyhow::Result;

/// Show what can compute here
#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DevicesArgs, out: &mut dyn Write) -> Result<()> {
    let listing = tonoscope_backends::list();
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &listing)?;
        writeln!(out)?;
        return Ok(());
    }
    write!(out, "{listing}")?;
    Ok(())
}
