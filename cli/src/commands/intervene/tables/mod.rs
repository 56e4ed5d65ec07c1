//! Tables of a run of interventions, made from its finished units.

use std::{collections::BTreeMap, io::Write};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;
use tonoscope_core::{
    interventions::{Place, Technique},
    metrics::{Effect, Interval, kl_divergence, log_odds_effect, mean_interval},
};

use super::{
    figures,
    plan::{InterventionPlan, Unit, technique_name},
    unit::{CleanUnit, PairUnit, from_bytes, log_probabilities},
};
use crate::{
    files::OutputFolder,
    tables::{AudioRow, Table},
    units::Units,
};

mod arrays;

/// Resamples and seed of the bootstrap intervals.
const BOOTSTRAP: (usize, u64) = (2000, 42);

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

/// One intervention over the prompts of a pair.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) from_category: String,
    pub(super) to_category: String,
    pub(super) technique: &'static str,
    pub(super) site: String,
    pub(super) layer: usize,
    pub(super) head: Option<usize>,
    pub(super) prompts: usize,
    pub(super) effect: Option<f64>,
    pub(super) effect_low: Option<f64>,
    pub(super) effect_high: Option<f64>,
    pub(super) effect_original: Option<f64>,
    pub(super) effect_desired: Option<f64>,
    /// `−KL`
    pub(super) precision: f64,
    pub(super) precision_low: f64,
    pub(super) precision_high: f64,
    /// Mean effect of random directions of the same norm.
    pub(super) random_effect: Option<f64>,
    pub(super) random_low: Option<f64>,
    pub(super) random_high: Option<f64>,
    /// `−KL` of random directions of the same norm.
    pub(super) random_precision: Option<f64>,
    /// Mean effect when the classes of another pair are compared.
    pub(super) permuted_effect: Option<f64>,
    /// Share of those pairs, this one counted, whose effect is at least as large.
    pub(super) permutation_p: Option<f64>,
    /// Mean effect by the second judge.
    pub(super) second_effect: Option<f64>,
    pub(super) second_low: Option<f64>,
    pub(super) second_high: Option<f64>,
}

/// Means over all pairs of two categories.
#[derive(Debug, Clone, Serialize)]
struct CategoryRow {
    technique: &'static str,
    from_category: String,
    to_category: String,
    within: bool,
    site: String,
    pairs: usize,
    effect: f64,
    effect_low: f64,
    effect_high: f64,
    effect_original: f64,
    effect_desired: f64,
    precision: f64,
}

/// What all prompts say about one intervention of a pair.
#[derive(Default)]
struct Gathered {
    effects: Vec<Effect>,
    kl: Vec<f64>,
    random: Vec<f64>,
    random_kl: Vec<f64>,
    /// Sum over prompts of the effect for the classes of every other ordered pair.
    permuted: Vec<f64>,
    /// By the second judge.
    second: Vec<f64>,
}

/// Makes tables and figures of the finished units, and prints what they say.
pub(crate) fn finish(
    plan: &InterventionPlan,
    units: &Units,
    folder: &OutputFolder,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let places = plan.places()?;
    let (mut scores, mut controls, mut audio) = (Table::new(), Table::new(), Table::new());
    let mut gathered: BTreeMap<((usize, usize), Technique, usize), Gathered> = BTreeMap::new();
    let mut failed = 0;
    let mut arrays = arrays::PairArrays::new(places.len());
    let mut by_pair = plan.units();
    by_pair.sort_by_key(|unit| (unit.pair, unit.prompt));
    for unit in by_pair {
        let (clean, made) = read(plan, units, unit)?;
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

fn read(plan: &InterventionPlan, units: &Units, unit: Unit) -> Result<(CleanUnit, PairUnit)> {
    let (name, clean_name) = (plan.name(unit), plan.clean_name(unit));
    let clean = serde_json::from_slice(&units.read(&clean_name)?);
    let clean: CleanUnit = clean.with_context(|| format!("unit `{clean_name}` is damaged"))?;
    let made = from_bytes(&units.read(&name)?).with_context(|| format!("unit `{name}` is damaged"))?;
    Ok((clean, made))
}

/// The effect by the second judge, who tells the concepts of the run apart by their texts.
fn second_effect(clean: &CleanUnit, said: &[f32], (from, to): (usize, usize)) -> Effect {
    log_odds_effect(&log_probabilities(&clean.second), &log_probabilities(said), from, to)
}

fn classes(original: Option<usize>, desired: Option<usize>) -> Option<(usize, usize)> {
    Some((original?, desired?))
}

fn write_all<R: Serialize>(folder: &OutputFolder, name: &str, rows: &[R]) -> Result<()> {
    let mut table = Table::new();
    rows.iter().try_for_each(|row| table.push(row))?;
    table.write(folder, name)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

impl Gathered {
    /// Adds the effect for the classes of every ordered pair of concepts but this one.
    fn permute(&mut self, plan: &InterventionPlan, pair: (usize, usize), before: &[f64], after: &[f64]) {
        let all = 0..plan.concepts.len();
        let pairs = all.clone().flat_map(|from| all.clone().map(move |to| (from, to)));
        let others = pairs.filter(|&other| other.0 != other.1 && other != pair);
        let effects: Vec<f64> = others
            .filter_map(|(from, to)| classes(plan.concepts[from].class, plan.concepts[to].class))
            .map(|(a, b)| log_odds_effect(before, after, a, b).total())
            .collect();
        self.permuted.resize(effects.len(), 0.0);
        self.permuted.iter_mut().zip(effects).for_each(|(sum, effect)| *sum += effect);
    }

    fn summary(&self, plan: &InterventionPlan, pair: (usize, usize), technique: Technique, place: Place) -> Summary {
        let (from, to) = (&plan.concepts[pair.0], &plan.concepts[pair.1]);
        let interval = |values: &[f64]| mean_interval(values, 0.95, BOOTSTRAP.0, BOOTSTRAP.1);
        let totals: Vec<f64> = self.effects.iter().map(|effect| effect.total()).collect();
        let effect = interval(&totals);
        let precisions: Vec<f64> = self.kl.iter().map(|kl| -kl).collect();
        let nan = Interval { low: f64::NAN, mean: f64::NAN, high: f64::NAN };
        let precision = interval(&precisions).unwrap_or(nan);
        let random = interval(&self.random);
        let permuted: Vec<f64> = self.permuted.iter().map(|sum| sum / totals.len() as f64).collect();
        let second = interval(&self.second);
        let above = |effect: f64| permuted.iter().filter(|&&other| other >= effect).count();
        Summary {
            from: from.name.clone(),
            to: to.name.clone(),
            from_category: from.category.clone(),
            to_category: to.category.clone(),
            technique: technique_name(technique),
            site: place.site.to_string(),
            layer: place.layer,
            head: place.head,
            prompts: self.kl.len(),
            effect: effect.map(|of| of.mean),
            effect_low: effect.map(|of| of.low),
            effect_high: effect.map(|of| of.high),
            effect_original: effect.map(|_| mean(self.effects.iter().map(|effect| effect.original))),
            effect_desired: effect.map(|_| mean(self.effects.iter().map(|effect| effect.desired))),
            precision: precision.mean,
            precision_low: precision.low,
            precision_high: precision.high,
            random_effect: random.map(|of| of.mean),
            random_low: random.map(|of| of.low),
            random_high: random.map(|of| of.high),
            random_precision: random.map(|_| -mean(self.random_kl.iter().copied())),
            permuted_effect: (!permuted.is_empty()).then(|| mean(permuted.iter().copied())),
            permutation_p: effect
                .filter(|_| !permuted.is_empty())
                .map(|of| (above(of.mean) + 1) as f64 / (permuted.len() + 1) as f64),
            second_effect: second.map(|of| of.mean),
            second_low: second.map(|of| of.low),
            second_high: second.map(|of| of.high),
        }
    }
}

/// Means over the pairs of two categories, all sites together and each by itself; the interval is over pairs and layers.
fn categories(summaries: &[Summary]) -> Vec<CategoryRow> {
    let mut groups: BTreeMap<(&str, &str, &str, &str), Vec<&Summary>> = BTreeMap::new();
    for summary in summaries.iter().filter(|of| of.effect.is_some()) {
        for site in ["all", summary.site.as_str()] {
            let key = (summary.technique, summary.from_category.as_str(), summary.to_category.as_str(), site);
            groups.entry(key).or_default().push(summary);
        }
    }
    let of = |((_, from, to, site), members): ((&str, &str, &str, &str), Vec<&Summary>)| {
        let effects: Vec<f64> = members.iter().filter_map(|of| of.effect).collect();
        let effect = mean_interval(&effects, 0.95, BOOTSTRAP.0, BOOTSTRAP.1)?;
        let part = |part: fn(&Summary) -> Option<f64>| mean(members.iter().map(|of| part(of).unwrap_or(f64::NAN)));
        let mut pairs: Vec<(&str, &str)> = members.iter().map(|of| (of.from.as_str(), of.to.as_str())).collect();
        pairs.sort_unstable();
        pairs.dedup();
        Some(CategoryRow {
            technique: members[0].technique,
            from_category: from.to_owned(),
            to_category: to.to_owned(),
            within: from == to,
            site: site.to_owned(),
            pairs: pairs.len(),
            effect: effect.mean,
            effect_low: effect.low,
            effect_high: effect.high,
            effect_original: part(|of| of.effect_original),
            effect_desired: part(|of| of.effect_desired),
            precision: mean(members.iter().map(|of| of.precision)),
        })
    };
    groups.into_iter().filter_map(of).collect()
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
        let summary = json!({"out": folder.path(), "controls_failed": failed, "summary": summaries});
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
