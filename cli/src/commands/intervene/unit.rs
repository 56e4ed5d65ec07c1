//! One prompt of one pair, with every technique at every place.

use std::{collections::HashMap, ops::ControlFlow};

use anyhow::{Context, Result, anyhow, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tonoscope_core::{
    audio::Waveform,
    hooks::Hooks,
    interventions::{InterventionError, Means, MeansError, Place, Technique, self_patch},
    metrics::{log_odds_effect, log_softmax},
    models::{
        musicgen::{MusicGen, Prompt},
        passt::Classified,
    },
};

use super::plan::{InterventionPlan, Unit, technique_name};
use crate::{
    commands::lens::stopped,
    files::OutputFolder,
    interrupt,
    judge::{Judge, as_heard, classify_clips},
    second_judge::SecondJudge,
    study::write_wave,
};

type Codes = Vec<Vec<u32>>;

/// A prompt without intervention, and the proof that patching it with itself changes nothing.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CleanUnit {
    /// What the judge says: logits.
    pub(super) logits: Vec<f32>,
    /// What the second judge says, `[concept]`; empty without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) second: Vec<f32>,
    /// `[codebook][frame]`
    pub(super) codes: Codes,
    /// Where the run was patched with its own activations.
    pub(super) patched_at: String,
    /// Whether that changed nothing.
    pub(super) self_patch_equal: bool,
    /// Name of the audio, if it was kept.
    pub(super) audio: Option<String>,
}

/// What one technique gave on one prompt of a pair.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// `[place][class]`
    #[serde(skip)]
    pub(super) logits: Vec<Vec<f32>>,
    /// What the second judge says, `[place][concept]`; empty without one.
    #[serde(skip)]
    pub(super) second: Vec<Vec<f32>>,
    /// `[place · control][class]`
    #[serde(skip)]
    pub(super) random: Vec<Vec<f32>>,
    /// What the second judge says of these, `[place · control][concept]`; empty without one.
    #[serde(skip)]
    pub(super) second_random: Vec<Vec<f32>>,
    /// `[place][codebook][frame]`, if asked for.
    #[serde(skip)]
    pub(super) codes: Vec<Codes>,
    /// Whether a scale of 0 equals the clean run.
    pub(super) scale_zero_equal: bool,
    /// Audio that was kept: file, place, rank (`best 1`), effect.
    pub(super) extremes: Vec<Extreme>,
}

/// Audio of one of the most or least effective interventions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Extreme {
    pub(super) file: String,
    pub(super) place: String,
    pub(super) rank: String,
    pub(super) effect: f64,
}

/// What one prompt of a pair gave, by technique.
pub(super) type PairUnit = Vec<(Technique, Outcome)>;

impl CleanUnit {
    /// Makes sure that it is of the size that a prompt of `plan` has.
    pub(super) fn check(&self, plan: &InterventionPlan) -> Result<()> {
        ensure!(!self.logits.is_empty(), "the judge says nothing");
        let concepts = if plan.second.is_some() { plan.concepts.len() } else { 0 };
        ensure!(self.second.len() == concepts, "the second judge says {} numbers", self.second.len());
        let classes = plan.concepts.iter().flat_map(|concept| concept.class.iter().chain(&concept.published));
        ensure!(classes.max().is_none_or(|class| *class < self.logits.len()), "the judge has too few classes");
        let frames = plan.basis.frames;
        let whole = !self.codes.is_empty() && self.codes.iter().all(|codes| codes.len() == frames);
        ensure!(whole, "its codes are not of {frames} frames");
        Ok(())
    }
}

/// Makes sure that `unit` is of the size that a prompt of `plan` with so many `places` has, beside its run without
/// intervention, `clean`.
pub(super) fn check_pair(unit: &PairUnit, clean: &CleanUnit, plan: &InterventionPlan, places: usize) -> Result<()> {
    let techniques: Vec<Technique> = unit.iter().map(|(technique, _)| *technique).collect();
    ensure!(techniques == plan.techniques, "it is of other techniques");
    for (technique, outcome) in unit {
        let name = technique_name(*technique);
        let table = |what: &str, rows: &[Vec<f32>], count: usize, width: usize| {
            let fits = rows.len() == count && rows.iter().all(|row| row.len() == width);
            ensure!(fits, "`{name}.{what}` is not {count} rows of {width} numbers");
            Ok(())
        };
        let (classes, concepts) = (clean.logits.len(), clean.second.len());
        let judged_again = |count: usize| if concepts == 0 { 0 } else { count };
        table("logits", &outcome.logits, places, classes)?;
        table("random", &outcome.random, places * plan.controls, classes)?;
        table("second", &outcome.second, judged_again(places), concepts)?;
        table("second_random", &outcome.second_random, judged_again(places * plan.controls), concepts)?;
        let codes = if plan.tokens { places } else { 0 };
        let (codebooks, frames) = (clean.codes.len(), plan.basis.frames);
        let whole = |piece: &Codes| piece.len() == codebooks && piece.iter().all(|codes| codes.len() == frames);
        let fits = outcome.codes.len() == codes && outcome.codes.iter().all(whole);
        ensure!(fits, "`{name}.codes` are not {codes} pieces of {codebooks} codebooks and {frames} frames");
    }
    Ok(())
}

/// Carries out one unit after another.
pub(super) struct Worker<'a> {
    pub(super) model: &'a MusicGen,
    pub(super) plan: &'a InterventionPlan,
    pub(super) places: &'a [Place],
    pub(super) judge: &'a Judge,
    pub(super) second: Option<&'a SecondJudge>,
    pub(super) folder: &'a OutputFolder,
    pub(super) rows: usize,
}

impl Worker<'_> {
    /// Steps of one batch.
    pub(super) fn steps(&self) -> usize {
        let config = &self.model.config().decoder;
        self.plan.basis.frames + config.num_codebooks / config.audio_channels - 1
    }

    /// Generates a prompt as it is, and patches it with its own activations at one place after another.
    pub(super) fn clean(
        &self,
        unit: Unit,
        prompt: &Prompt,
        watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<CleanUnit> {
        let place = self.places[unit.prompt % self.places.len()];
        let how = self.plan.basis.generate();
        let mut watch = |progress: tonoscope_core::models::musicgen::Progress| watch(progress.done);
        let made = pollster::block_on(self_patch(self.model, prompt, place, &how, &mut watch));
        let [codes, patched] = made.map_err(interrupted)?;
        let wave = pollster::block_on(self.model.sound(&codes))?;
        let audio = if self.plan.extremes > 0 {
            let name = format!("{}.wav", self.plan.clean_name(unit));
            write_wave(&self.folder.within("audio")?, &name, &wave)?;
            Some(name)
        } else {
            None
        };
        let second = self.judged_again(std::slice::from_ref(&wave))?.pop().unwrap_or_default();
        let logits = self.judged(vec![wave])?.remove(0).logits;
        Ok(CleanUnit {
            logits,
            second,
            patched_at: place.to_string(),
            self_patch_equal: patched == codes,
            codes,
            audio,
        })
    }

    /// Intervenes on a prompt.
    pub(super) fn pair(
        &self,
        unit: Unit,
        prompt: &Prompt,
        clean: &CleanUnit,
        means: [&Means; 2],
        watch: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<(PairUnit, f64)> {
        let how = self.plan.basis.generate();
        let text = self.model.encode_text(&mut Hooks::none(), std::slice::from_ref(&prompt.ids));
        let mut unit_of = vec![];
        let mut generating = 0.0;
        for &technique in &self.plan.techniques {
            let experiment = self.plan.experiment(technique)?;
            let started = std::time::Instant::now();
            let mut tick = |_| watch();
            let run = experiment.run(self.model, &text, &prompt.key, means, &how, self.rows, &mut tick);
            let rows = pollster::block_on(run).map_err(interrupted)?;
            generating += started.elapsed().as_secs_f64();
            let waves = pollster::block_on(self.model.sounds(&rows.changed))?;
            let random = pollster::block_on(self.model.sounds(&rows.random))?;
            let kept = if self.plan.extremes > 0 { waves.clone() } else { vec![] };
            let [second, second_random] = [self.judged_again(&waves)?, self.judged_again(&random)?];
            let logits: Vec<Vec<f32>> = self.judged(waves)?.into_iter().map(|said| said.logits).collect();
            let random: Vec<Vec<f32>> = self.judged(random)?.into_iter().map(|said| said.logits).collect();
            let mut outcome = Outcome {
                scale_zero_equal: rows.scale_zero == clean.codes,
                codes: if self.plan.tokens { rows.changed } else { vec![] },
                extremes: vec![],
                logits,
                second,
                random,
                second_random,
            };
            if self.plan.extremes > 0 {
                outcome.extremes = self.keep_extremes(unit, technique, clean, &outcome.logits, &kept)?;
            }
            unit_of.push((technique, outcome));
        }
        Ok((unit_of, generating))
    }

    fn keep_extremes(
        &self,
        unit: Unit,
        technique: Technique,
        clean: &CleanUnit,
        logits: &[Vec<f32>],
        waves: &[Waveform],
    ) -> Result<Vec<Extreme>> {
        let (from, to) = (&self.plan.concepts[unit.pair.0], &self.plan.concepts[unit.pair.1]);
        let (Some(original), Some(desired)) = (from.class, to.class) else { return Ok(vec![]) };
        let before = log_probabilities(&clean.logits);
        let effect =
            |logits: &Vec<f32>| log_odds_effect(&before, &log_probabilities(logits), original, desired).total();
        let mut ranked: Vec<(usize, f64)> = logits.iter().map(effect).enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        let folder = self.folder.within("audio")?;
        let most = self.plan.extremes.min(ranked.len());
        let best = ranked[..most].iter().enumerate().map(|(rank, of)| (format!("best {}", rank + 1), of));
        let worst = ranked.iter().rev().take(most).enumerate().map(|(rank, of)| (format!("worst {}", rank + 1), of));
        let mut kept = vec![];
        for (rank, &(place, effect)) in best.chain(worst) {
            let (unit, technique) = (self.plan.name(unit), technique_name(technique));
            let file = format!("{unit}_{technique}_{}.wav", rank.replace(' ', "_"));
            write_wave(&folder, &file, &waves[place])?;
            kept.push(Extreme { file, place: self.places[place].to_string(), rank, effect });
        }
        Ok(kept)
    }

    fn judged(&self, waves: Vec<Waveform>) -> Result<Vec<Classified>> {
        let config = self.judge.passt.config();
        let clips = waves.into_iter().map(|wave| as_heard(config, wave)).collect::<Result<Vec<_>>>()?;
        classify_clips(&self.judge.passt, &clips, &mut |_| interrupt::check())
    }

    /// What the second judge says, `[wave][concept]`; nothing without one.
    fn judged_again(&self, waves: &[Waveform]) -> Result<Vec<Vec<f32>>> {
        self.second.map_or(Ok(vec![]), |second| second.judge(waves.to_vec()))
    }
}

/// `ln softmax`, in 64 bit.
pub(super) fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    log_softmax(&logits.iter().map(|&logit| f64::from(logit)).collect::<Vec<f64>>())
}

pub(super) fn interrupted(error: InterventionError) -> anyhow::Error {
    match error {
        InterventionError::Generate(error) | InterventionError::Means(MeansError::Generate(error)) => stopped(error),
        other => other.into(),
    }
}

/// The bytes of a unit: a safetensors file with the logits, whose metadata holds the rest.
pub(super) fn to_bytes(unit: &PairUnit) -> Result<Vec<u8>> {
    let mut stored: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = vec![];
    for (technique, outcome) in unit {
        let name = technique_name(*technique);
        let tables = [
            ("logits", &outcome.logits),
            ("second", &outcome.second),
            ("random", &outcome.random),
            ("second_random", &outcome.second_random),
        ];
        for (what, rows) in tables {
            if let Some(first) = rows.first() {
                let bytes = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
                stored.push((format!("{name}.{what}"), Dtype::F32, vec![rows.len(), first.len()], bytes));
            }
        }
        if let Some(first) = outcome.codes.first() {
            let bytes =
                outcome.codes.iter().flatten().flatten().flat_map(|&code| i64::from(code).to_le_bytes()).collect();
            let shape = vec![outcome.codes.len(), first.len(), first[0].len()];
            stored.push((format!("{name}.codes"), Dtype::I64, shape, bytes));
        }
    }
    let views = stored
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("outcomes".to_owned(), serde_json::to_string(unit)?)]);
    // A single entry: the bytes are the same each time.
    Ok(safetensors::serialize(views, Some(metadata))?)
}

/// The inverse of [`to_bytes`].
pub(super) fn from_bytes(bytes: &[u8]) -> Result<PairUnit> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let outcomes = metadata.metadata().as_ref().and_then(|metadata| metadata.get("outcomes"));
    let mut unit: PairUnit = serde_json::from_str(outcomes.context("there are no outcomes in it")?)?;
    let file = SafeTensors::deserialize(bytes)?;
    for (technique, outcome) in &mut unit {
        let name = technique_name(*technique);
        let rows = |what: &str| -> Result<Vec<Vec<f32>>> {
            let Ok(tensor) = file.tensor(&format!("{name}.{what}")) else { return Ok(vec![]) };
            let &[rows, classes] = tensor.shape() else { return Err(anyhow!("`{name}.{what}` is not a table")) };
            ensure!(tensor.dtype() == Dtype::F32 && rows * classes > 0, "`{name}.{what}` is not a table of numbers");
            let values: Vec<f32> = tensor.data().as_chunks::<4>().0.iter().map(|of| f32::from_le_bytes(*of)).collect();
            Ok(values.chunks(classes).map(<[f32]>::to_vec).collect())
        };
        outcome.logits = rows("logits")?;
        outcome.second = rows("second")?;
        outcome.random = rows("random")?;
        outcome.second_random = rows("second_random")?;
        if let Ok(tensor) = file.tensor(&format!("{name}.codes")) {
            let &[places, codebooks, frames] = tensor.shape() else {
                return Err(anyhow!("`{name}.codes` has another rank"));
            };
            let filled = places * codebooks * frames > 0;
            ensure!(tensor.dtype() == Dtype::I64 && filled, "`{name}.codes` are not a table of codes");
            let code = |of: &[u8; 8]| u32::try_from(i64::from_le_bytes(*of)).context("a code that is none");
            let values = tensor.data().as_chunks::<8>().0.iter().map(code).collect::<Result<Vec<u32>>>()?;
            let piece = |piece: &[u32]| piece.chunks(frames).map(<[u32]>::to_vec).collect();
            outcome.codes = values.chunks(codebooks * frames).map(piece).collect();
        }
    }
    Ok(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> PairUnit {
        let outcome = Outcome {
            logits: vec![vec![0.5, 1.5], vec![-0.5, 2.5]],
            random: vec![vec![1.0, 2.0]],
            codes: vec![vec![vec![1, 2, 3], vec![4, 5, 6]]],
            scale_zero_equal: true,
            ..Outcome::default()
        };
        vec![(Technique::Replace, outcome)]
    }

    #[test]
    fn a_unit_comes_back_as_it_was() {
        let bytes = to_bytes(&unit()).unwrap();
        let read = from_bytes(&bytes).unwrap();
        assert_eq!(to_bytes(&read).unwrap(), bytes);
        assert_eq!((&read[0].1.logits, &read[0].1.codes), (&unit()[0].1.logits, &unit()[0].1.codes));
    }

    #[test]
    fn no_damage_to_a_unit_panics() {
        let whole = to_bytes(&unit()).unwrap();
        let header = u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize + 8;
        for at in 0..whole.len() {
            for value in [0, b'0', b'1', b'9', b'[', 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = from_bytes(&bytes);
            }
        }
        for (from, to) in [("[2,2]", "[0,4]"), ("[2,2]", "[4,0]"), ("[1,2,3]", "[0,2,3]"), ("\"F32\"", "\"I32\"")] {
            let text = String::from_utf8(whole[8..header].to_vec()).unwrap().replacen(from, to, 1);
            let bytes = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &whole[header..]].concat();
            assert!(from_bytes(&bytes).is_err(), "{text}");
        }
    }
}
