//! `audio_info.csv`, in the published columns, and `audio.csv`, for reports.

use anyhow::Result;
use serde::Serialize;
use tonoscope_core::musicologist::printed_list;

use super::plan::{DiffusePlan, audio};
use crate::{
    files::OutputFolder,
    tables::{AudioRow, Table},
};

/// Name of the table.
pub(crate) const INFO: &str = "audio_info.csv";

/// Name of the table of what can be listened to.
pub(super) const LISTENED: &str = "audio.csv";

/// A line of the table: one file.
#[derive(Debug, Serialize)]
struct InfoRow<'a> {
    diffusion_step: usize,
    prompt_index: usize,
    sample_index: usize,
    model: &'a str,
    /// Of this table, within the folder of the results.
    csv_path: &'a str,
    /// Seconds.
    sample_length: String,
    prompt: &'a str,
    tag_json_path: &'a str,
    /// Within the folder of the results.
    audio_file_path: String,
    #[serde(rename = "tag.aspects")]
    aspects: String,
    #[serde(rename = "tag.bpm")]
    bpm: String,
}

/// Writes the tables of all files of `plan`, prompt after prompt, step after step.
pub(super) fn write(plan: &DiffusePlan, folder: &OutputFolder) -> Result<()> {
    let (mut table, mut listened) = (Table::new(), Table::new());
    for (prompt_index, prompt) in plan.prompts.iter().enumerate() {
        for &diffusion_step in &plan.snapshots {
            for sample_index in 0..plan.samples {
                let file = audio(diffusion_step, prompt_index, sample_index);
                listened.push(AudioRow {
                    file: file.clone(),
                    group: format!("step {diffusion_step}"),
                    label: format!("step {diffusion_step}, sample {sample_index}"),
                    prompt: prompt.text.clone(),
                    details: format!("seed {}", plan.seed),
                })?;
                table.push(InfoRow {
                    diffusion_step,
                    prompt_index,
                    sample_index,
                    model: &plan.model,
                    csv_path: INFO,
                    sample_length: python_number(plan.made_seconds()),
                    prompt: &prompt.text,
                    tag_json_path: plan.annotations.as_deref().unwrap_or_default(),
                    audio_file_path: file,
                    aspects: prompt.aspects.as_deref().map(printed_list).unwrap_or_default(),
                    bpm: prompt.bpm.map(python_number).unwrap_or_default(),
                })?;
            }
        }
    }
    listened.write(folder, LISTENED)?;
    table.write(folder, INFO)
}

/// A number as JSON has it and Python prints it: whole ones without a point.
fn python_number(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 { format!("{number:.0}") } else { number.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_python_prints_them() {
        let printed = [90.0, 92.5, 0.0].map(python_number);
        assert_eq!(printed, ["90", "92.5", "0"]);
    }
}
