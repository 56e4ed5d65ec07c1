//! One prompt, read in every layer.

use std::ops::ControlFlow;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tonoscope_core::{
    hooks::Hooks,
    lens::{LayerReading, Streams, Translators, early_exit, self_similarity},
    metrics::ndcg,
    models::musicgen::{GenerateError, MusicGen, Progress, Prompt},
};

use super::plan::{LensPlan, Mode};
use crate::{
    files::OutputFolder,
    interrupt::Interrupted,
    judge::{Judge, as_heard, classify_clips},
    study::write_wave,
};

/// Tokens that are kept of each reading.
const TOP: usize = 5;

/// What one prompt gave.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LensUnit {
    /// `[layer][concept]`, of the layers and concepts that were asked for; none without a judge.
    pub(super) ndcg: Vec<Vec<f64>>,
    /// `[layer][codebook]`
    pub(super) readings: Vec<Vec<CodebookReading>>,
    /// `[layer][codebook][frame]`, if asked for.
    pub(super) steps: Option<Vec<Vec<Vec<StepReading>>>>,
    /// Euclidean distance of the time-averaged streams of every two layers, all of them.
    pub(super) similarity: Vec<Vec<f64>>,
    /// `[layer][codebook][frame]`, if asked for.
    pub(super) codes: Option<Vec<Vec<Vec<u32>>>>,
}

/// A codebook over all steps.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CodebookReading {
    /// Mean entropy, nats.
    pub(super) entropy: f64,
    /// Mean rank of the token that the whole model chose.
    pub(super) rank: f64,
    /// Mean `KL(last layer ‖ layer)`, nats.
    pub(super) kl: f64,
    /// Share of the steps in which that token is the layer's first.
    pub(super) agreement: f64,
    /// The tokens that most often come first, and how often.
    pub(super) top: Vec<(u32, usize)>,
}

/// A codebook in one step.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StepReading {
    pub(super) top: Vec<(u32, f64)>,
    pub(super) entropy: f64,
    pub(super) rank: usize,
    pub(super) kl: f64,
}

impl LensUnit {
    /// Makes sure that it is of the size that prompt `index` of `plan` has.
    pub(super) fn check(&self, plan: &LensPlan, index: usize) -> Result<()> {
        let Self { ndcg, readings, steps, similarity, codes } = self;
        let (layers, all) = (plan.read.len(), plan.basis.layers);
        let measured = plan.measured(index).count();
        let ndcg = ndcg.is_empty() || (ndcg.len() == layers && ndcg.iter().all(|of| of.len() == measured));
        ensure!(ndcg, "its recognisability is not of {layers} layers and {measured} concepts");
        let codebooks = readings.first().map_or(0, Vec::len);
        let whole = readings.len() == layers && readings.iter().all(|of| of.len() == codebooks);
        ensure!(whole && codebooks > 0, "its readings are not of {layers} layers");
        let square = similarity.len() == all && similarity.iter().all(|row| row.len() == all);
        ensure!(square, "its distances are not of {all} layers");
        let frames = plan.basis.frames;
        if let Some(steps) = steps {
            let fits = steps.len() == layers && steps.iter().all(|of| of.len() == codebooks);
            ensure!(fits && steps.iter().flatten().all(|of| of.len() == frames), "its steps are not {frames}");
        }
        ensure!(codes.is_some() == plan.tokens, "its codes are missing, or nobody has asked for them");
        if let Some(codes) = codes {
            let fits = codes.len() == layers && codes.iter().all(|of| of.len() == codebooks);
            ensure!(
                fits && codes.iter().flatten().all(|of| of.len() == frames),
                "its codes are not of {frames} frames"
            );
        }
        Ok(())
    }
}

/// Reads one prompt after another.
pub(super) struct Lens<'a> {
    pub(super) model: &'a MusicGen,
    pub(super) plan: &'a LensPlan,
    pub(super) judge: Option<&'a Judge>,
    pub(super) translators: Option<&'a Translators>,
    pub(super) folder: &'a OutputFolder,
}

impl Lens<'_> {
    /// Steps of a unit, for the progress bar.
    pub(super) fn ticks(&self) -> u64 {
        let config = &self.model.config().decoder;
        (self.plan.basis.frames + config.num_codebooks / config.audio_channels - 1) as u64
    }

    /// Reads prompt `index` and writes its audio.
    pub(super) fn unit(
        &self,
        index: usize,
        prompt: &Prompt,
        watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<LensUnit> {
        let plan = self.plan;
        let how = plan.basis.generate();
        let all = plan.basis.layers;
        let mut hooks = Hooks::none();
        let text = self.model.encode_text(&mut hooks, std::slice::from_ref(&prompt.ids));
        let mut depths = if plan.mode == Mode::EarlyExit { plan.read.clone() } else { vec![] };
        let whole = depths.iter().position(|&depth| depth == all).unwrap_or_else(|| {
            depths.push(all);
            depths.len() - 1
        });
        let keys = std::slice::from_ref(&prompt.key);
        let mut tick = |progress: Progress| watch(progress.done as u64);
        let made = early_exit(self.model, &text, keys, &depths, &how, &mut tick);
        let made = pollster::block_on(made).map_err(stopped)?;
        let clean = made.codes[whole].clone();
        let streams = Streams::of(self.model, &text, &clean, &how)?;
        let readings = pollster::block_on(streams.readings(&prompt.key, &plan.read, self.translators, TOP))?;
        let similarity = self_similarity(&pollster::block_on(streams.mean_over_time())?);
        let codes: Vec<Vec<Vec<u32>>> = match plan.mode {
            Mode::EarlyExit => made.codes[..plan.read.len()].to_vec(),
            Mode::TeacherForced | Mode::Tuned => readings.iter().map(|reading| reading.codes.clone()).collect(),
        };
        let ndcg = self.listen(index, &codes)?;
        Ok(LensUnit {
            ndcg,
            readings: readings.iter().map(|reading| reading.tokens.iter().map(|of| summary(of)).collect()).collect(),
            steps: plan.per_step.then(|| readings.iter().map(steps).collect()),
            similarity,
            codes: plan.tokens.then_some(codes),
        })
    }

    /// Decodes and keeps the audio of every layer, and asks the judge: `[layer][concept]`.
    fn listen(&self, index: usize, codes: &[Vec<Vec<u32>>]) -> Result<Vec<Vec<f64>>> {
        let plan = self.plan;
        let judge = self.judge.filter(|_| !plan.prompts[index].measured.is_empty());
        if judge.is_none() && !plan.prompts[index].audio {
            return Ok(vec![]);
        }
        let waves = pollster::block_on(self.model.sounds(codes))?;
        if plan.prompts[index].audio {
            let folder = self.folder.within("audio")?;
            for (&layer, wave) in plan.read.iter().zip(&waves) {
                write_wave(&folder, &plan.audio(index, layer), wave)?;
            }
        }
        let Some(judge) = judge else { return Ok(vec![]) };
        let clips = waves.into_iter().map(|wave| as_heard(judge.passt.config(), wave)).collect::<Result<Vec<_>>>()?;
        let classified = classify_clips(&judge.passt, &clips, &mut |_| crate::interrupt::check())?;
        let mut scores = vec![];
        for said in &classified {
            let probabilities = said.sigmoid();
            let of_concept = |concept: &tonoscope_core::concepts::Concept| -> Result<f64> {
                Ok(ndcg(&concept.relevant(&judge.labels)?, &probabilities))
            };
            scores.push(plan.measured(index).map(of_concept).collect::<Result<_>>()?);
        }
        Ok(scores)
    }
}

fn summary(tokens: &[tonoscope_core::lens::TokenReading]) -> CodebookReading {
    let mean = |value: fn(&tonoscope_core::lens::TokenReading) -> f64| {
        tokens.iter().map(value).sum::<f64>() / tokens.len() as f64
    };
    let mut counts = std::collections::BTreeMap::new();
    for (token, _) in tokens.iter().filter_map(|reading| reading.top.first()) {
        *counts.entry(*token).or_insert(0) += 1;
    }
    let mut top: Vec<(u32, usize)> = counts.into_iter().collect();
    top.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    top.truncate(TOP);
    CodebookReading {
        entropy: mean(|reading| reading.entropy),
        rank: mean(|reading| reading.rank as f64),
        kl: mean(|reading| reading.kl),
        agreement: mean(|reading| f64::from(reading.rank == 0)),
        top,
    }
}

fn steps(reading: &LayerReading) -> Vec<Vec<StepReading>> {
    let of_token = |token: &tonoscope_core::lens::TokenReading| StepReading {
        top: token.top.clone(),
        entropy: token.entropy,
        rank: token.rank,
        kl: token.kl,
    };
    reading.tokens.iter().map(|codebook| codebook.iter().map(of_token).collect()).collect()
}

/// A generation that ended early, in the words of an experiment.
pub(crate) fn stopped(error: GenerateError) -> anyhow::Error {
    match error {
        GenerateError::Cancelled => Interrupted::Resumable.into(),
        other => other.into(),
    }
}
