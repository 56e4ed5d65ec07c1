//! `tonoscope devices`

use std::io::Write;

use anyhow::Result;
use serde_json::json;
use tonoscope_backends::{backends, list};

/// Show what can compute here
#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DevicesArgs, out: &mut dyn Write) -> Result<()> {
    let (backends, devices) = (backends(), list());
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &json!({ "backends": backends, "devices": devices }))?;
        writeln!(out)?;
        return Ok(());
    }
    for device in &devices {
        let memory =
            device.memory.map_or_else(|| "memory unknown".to_owned(), |bytes| format!("{:.1} GB", bytes as f64 / 1e9));
        let half = match device.f16 {
            Some(true) => "f16",
            Some(false) => "no f16",
            None => "f16 unknown",
        };
        let software = if device.software { ", in software" } else { "" };
        writeln!(out, "{}  {}{software}  {}  {memory}  {half}", device.name, device.adapter, device.driver)?;
    }
    for backend in backends.iter().filter(|backend| !backend.compiled) {
        if let Some(feature) = backend.feature {
            writeln!(out, "{}  not in this build: rebuild with `--features tonoscope/{feature}`", backend.name)?;
        }
    }
    Ok(())
}
