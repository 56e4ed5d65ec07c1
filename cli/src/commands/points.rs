//! `tonoscope points`

use std::io::Write;

use anyhow::Result;
use tonoscope_core::hooks::{HookPoint, Part};

use crate::session::ModelArgs;

/// Show the places in a model that can be looked at and changed
#[derive(Debug, clap::Args)]
pub(crate) struct PointsArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &PointsArgs, out: &mut dyn Write) -> Result<()> {
    let config = args.model.find()?.files.config;
    let points: Vec<String> =
        [(Part::Encoder, config.text_encoder.num_layers), (Part::Decoder, config.decoder.num_hidden_layers)]
            .into_iter()
            .flat_map(|(part, layers)| HookPoint::all(part, layers))
            .map(|point| point.to_string())
            .collect();
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &points)?;
        writeln!(out)?;
    } else {
        for point in points {
            writeln!(out, "{point}")?;
        }
    }
    Ok(())
}
