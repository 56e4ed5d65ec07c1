//! `tonoscope points`

use std::io::Write;

use anyhow::Result;
use tonoscope_core::{hooks::HookPoint, models::musicgen};

use crate::{
    diffuser::{DiffuserArgs, is_diffuser},
    session::ModelArgs,
};

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
    let points: Vec<String> = known(&args.model)?.iter().map(ToString::to_string).collect();
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

fn known(model: &ModelArgs) -> Result<Vec<HookPoint>> {
    if is_diffuser(&model.model) {
        let ModelArgs { model, text_encoder, adapter } = model.clone();
        return Ok(DiffuserArgs { model, text_encoder, adapter }.find()?.files.config.points());
    }
    Ok(musicgen::points(&model.find()?.files.config))
}
