//! Tables of a run of interventions, made from its finished units.

use std::{collections::BTreeMap, io::Write};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;
use tonoscope_core::{
    interventions::Technique,
    metrics::{Effect, kl_divergence, log_odds_effect},
};

use super::{
    figures,
    plan::{InterventionPlan, Unit, technique_name},
    unit::{CleanUnit, PairUnit, check_pair, from_bytes, log_probabilities},
};
use crate::{
    files::OutputFolder,
    json_path,
    tables::{AudioRow, Table},
    units::Units,
};

mod arrays;
mod summary;

pub(super) use self::summary::Summary;
use self::summary::{Gathered, categories, classes, mean};

/// One intervention on one prompt.
#[derive(Debug, Clone, Serialize)]
struct ScoreRow<'a> {
    from: &'a str,
    to: &'a str,
    technique: &'a str,
    prompt_index: usize,
    prompt: &'a str,
    site: String,
    layer: usize,
    head: Option<usize>,
    effect: Option<f64>,
    effect_original: Option<f64>,
    effect_desired: Option<f64>,
    effect_published_classes: Option<f64>,
    kl: f64,
    /// Effect by the second judge, between the texts of both concepts.
    second_effect: Option<f64>,
    second_original: Option<f64>,
    second_desired: Option<f64>,
}

#[derive(Debug, Serialize)]
struct ControlRow<'a> {
    from: &'a str,
    to: &'a str,
    technique: &'a str,
    prompt_index: usize,
    scale_zero_equals_clean: bool,
    self_patch_at: String,
    self_patch_equals_clean: bool,
}

/// Makes tables and figures of the finished units, and prints what they say.
pub(crate) fn finish(
    plan: &InterventionPlan,
    units: &Units,
    folder: &OutputFolder,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    units.clear_half_written()?;
    let places = plan.places()?;
    let (mut scores, mut controls, mut audio) = (Table::new(), Table::new(), Table::new());
    let mut gathered: BTreeMap<((usize, usize), Technique, usize), Gathered> = BTreeMap::new();
    let mut failed = 0;
    let mut arrays = arrays::PairArrays::new(places.len());
    let mut by_pair = plan.units();
    by_pair.sort_by_key(|unit| (unit.pair, unit.prompt));
    for unit in by_pair {
        let (clean, made) = read(plan, units, unit, places.len())?;
        let (from, to) = (&plan.concepts[unit.pair.0], &plan.concepts[unit.pair.1]);
        let prompt = &plan.intervened(unit.pair.0)[unit.prompt];
        let before = log_probabilities(&clean.logits);
        for (technique, outcome) in &made {
            let name = technique_name(*technique);
            failed += usize::from(!outcome.scale_zero_equal) + usize::from(!clean.self_patch_equal);
            controls.push(ControlRow {
                from: &from.name,
                to: &to.name,
                technique: name,
                prompt_index: unit.prompt,
                scale_zero_equals_clean: outcome.scale_zero_equal,
                self_patch_at: clean.patched_at.clone(),
                self_patch_equals_clean: clean.self_patch_equal,
            })?;
            for (index, place) in places.iter().enumerate() {
                let after = log_probabilities(&outcome.logits[index]);
                let effect = classes(from.class, to.class).map(|(a, b)| log_odds_effect(&before, &after, a, b));
                let published =
                    classes(from.published, to.published).map(|(a, b)| log_odds_effect(&before, &after, a, b));
                let kl = kl_divergence(&before, &after);
                let second = outcome.second.get(index).map(|said| second_effect(&clean, said, unit.pair));
                scores.push(ScoreRow {
                    from: &from.name,
                    to: &to.name,
                    technique: name,
                    prompt_index: unit.prompt,
                    prompt,
                    site: place.site.to_string(),
                    layer: place.layer,
                    head: place.head,
                    effect: effect.map(Effect::total),
                    effect_original: effect.map(|effect| effect.original),
                    effect_desired: effect.map(|effect| effect.desired),
                    effect_published_classes: published.map(Effect::total),
                    kl,
                    second_effect: second.map(Effect::total),
                    second_original: second.map(|effect| effect.original),
                    second_desired: second.map(|effect| effect.desired),
                })?;
                let of = gathered.entry((unit.pair, *technique, index)).or_default();
                of.kl.push(kl);
                of.second.extend(second.map(Effect::total));
                let controls = index * plan.controls..(index + 1) * plan.controls;
                let second_random = outcome.second_random.get(controls).unwrap_or_default();
                of.second_random
                    .extend(second_random.iter().map(|said| second_effect(&clean, said, unit.pair).total()));
                if let (Some(effect), Some((a, b))) = (effect, classes(from.class, to.class)) {
                    of.effects.push(effect);
                    of.permute(plan, unit.pair, &before, &after);
                    let random = outcome.random.iter().skip(index * plan.controls).take(plan.controls);
                    for logits in random {
                        let after = log_probabilities(logits);
                        of.random.push(log_odds_effect(&before, &after, a, b).total());
                        of.random_kl.push(kl_divergence(&before, &after));
                    }
                }
            }
        }
        push_audio(&mut audio, plan, unit, &clean, &made)?;
        arrays.push(plan, unit, &clean, &made, folder)?;
    }
    scores.write(folder, "scores.csv")?;
    controls.write(folder, "controls.csv")?;
    audio.write(folder, "audio.csv")?;
    arrays.finish(plan, folder)?;
    let summaries: Vec<Summary> = gathered
        .iter()
        .map(|((pair, technique, index), of)| of.summary(plan, *pair, *technique, places[*index]))
        .collect();
    write_all(folder, "summary.csv", &summaries)?;
    write_all(folder, "categories.csv", &categories(&summaries))?;
    for figure in figures::all(plan, &summaries)? {
        figure.write(folder.path())?;
    }
    if failed > 0 {
        crate::progress::note(&format!(
            "{failed} controls are not equal to the clean run; see `controls.csv`: on a GPU, rows of different batches may \
             differ in their last bits"
        ));
    }
    report(plan, &summaries, failed, folder, as_json, out)
}

/// What of a unit can be listened to.
fn push_audio(
    audio: &mut Table<AudioRow>,
    plan: &InterventionPlan,
    unit: Unit,
    clean: &CleanUnit,
    made: &PairUnit,
) -> Result<()> {
    let (from, to) = (&plan.concepts[unit.pair.0].name, &plan.concepts[unit.pair.1].name);
    let prompt = &plan.intervened(unit.pair.0)[unit.prompt];
    for (technique, outcome) in made {
        for extreme in &outcome.extremes {
            audio.push(AudioRow {
                file: format!("audio/{}", extreme.file),
                group: extreme.rank.clone(),
                label: format!("{} {}", technique_name(*technique), extreme.place),
                prompt: prompt.clone(),
                details: format!("{from} to {to}, effect {:.3}", extreme.effect),
            })?;
        }
    }
    if let Some(file) = &clean.audio {
        audio.push(AudioRow {
            file: format!("audio/{file}"),
            group: "clean".to_owned(),
            label: "without intervention".to_owned(),
            prompt: prompt.clone(),
            details: format!("{from} to {to}"),
        })?;
    }
    Ok(())
}

fn read(plan: &InterventionPlan, units: &Units, unit: Unit, places: usize) -> Result<(CleanUnit, PairUnit)> {
    let (name, clean_name) = (plan.name(unit), plan.clean_name(unit));
    let clean = serde_json::from_slice(&units.read(&clean_name)?);
    let damaged = |name: &str| format!("unit `{name}` is damaged");
    let clean: CleanUnit = clean.with_context(|| damaged(&clean_name))?;
    clean.check(plan).with_context(|| damaged(&clean_name))?;
    let made = from_bytes(&units.read(&name)?).with_context(|| damaged(&name))?;
    check_pair(&made, &clean, plan, places).with_context(|| damaged(&name))?;
    Ok((clean, made))
}

/// The effect by the second judge, who tells the concepts of the run apart by their texts.
fn second_effect(clean: &CleanUnit, said: &[f32], (from, to): (usize, usize)) -> Effect {
    log_odds_effect(&log_probabilities(&clean.second), &log_probabilities(said), from, to)
}

fn write_all<R: Serialize>(folder: &OutputFolder, name: &str, rows: &[R]) -> Result<()> {
    let mut table = Table::new();
    rows.iter().try_for_each(|row| table.push(row))?;
    table.write(folder, name)
}

/// What is said at the end: one line per technique and site.
fn report(
    plan: &InterventionPlan,
    summaries: &[Summary],
    failed: usize,
    folder: &OutputFolder,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    if as_json {
        let summary = json!({"out": json_path::shown(folder.path()), "controls_failed": failed, "summary": summaries});
        writeln!(out, "{}", serde_json::to_string_pretty(&summary)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "{:>9}  {:<20}  {:>9}  {:>9}  {:>10}  {:>12}",
        "technique", "site", "effect", "precision", "best layer", "second judge"
    )?;
    for &technique in &plan.techniques {
        for site in &plan.sites {
            let of = |of: &&Summary| of.technique == technique_name(technique) && of.site == *site;
            let members: Vec<&Summary> = summaries.iter().filter(of).collect();
            let effects: Vec<f64> = members.iter().filter_map(|of| of.effect).collect();
            let best =
                members.iter().max_by(|a, b| a.effect.unwrap_or(f64::NAN).total_cmp(&b.effect.unwrap_or(f64::NAN)));
            let shown = |effects: Vec<f64>| match effects.len() {
                0 => "-".to_owned(),
                _ => format!("{:.4}", mean(effects.into_iter())),
            };
            let second: Vec<f64> = members.iter().filter_map(|of| of.second_effect).collect();
            writeln!(
                out,
                "{:>9}  {site:<20}  {:>9}  {:>9.4}  {:>10}  {:>12}",
                technique_name(technique),
                shown(effects),
                mean(members.iter().map(|of| of.precision)),
                best.map_or_else(|| "-".to_owned(), |of| of.layer.to_string()),
                shown(second),
            )?;
        }
    }
    writeln!(out, "tables, figures and audio are in `{}`", folder.path().display())?;
    Ok(())
}
