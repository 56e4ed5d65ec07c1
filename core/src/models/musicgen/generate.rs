//! Generation, step by step, with everything that can be watched or go wrong.
//!
//! References: `MusicgenForConditionalGeneration.generate`, transformers 5.23.0 (Apache-2.0), for a window;
//! `_generate_tokens`, audiocraft 1.3.0, models/musicgen.py (MIT), for what is longer than one.

use std::ops::ControlFlow;

use burn::tensor::{ExecutionError, Int, Tensor, TensorData};

use super::{Columns, DecoderState, DelayPattern, Lane, MusicGen, Sampling, SequenceKey, Text};
use crate::{
    hooks::{Capture, HookError, HookPoint, HookTensors, Hooks, Reduce, Selector, Site, Spec},
    models::t5::TokenIds,
};

/// One sequence to generate.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Token ids; none: unconditional.
    pub ids: TokenIds,
    /// Key of its random numbers.
    pub key: SequenceKey,
    /// Codes to continue, `[codebook][frame]`; empty: from the beginning. Of one length within a batch.
    pub start: Vec<Vec<u32>>,
}

/// Longest stretch that the model sees at once, and how far it moves on when more is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Frames in the window.
    pub frames: usize,
    /// Frames by which it advances.
    pub stride: usize,
}

impl Window {
    /// audiocraft's: 30 s, advancing by 18 s.
    pub fn published(frame_rate: usize) -> Self {
        Self { frames: 30 * frame_rate, stride: 18 * frame_rate }
    }
}

/// How to generate a batch.
#[derive(Debug, Clone)]
pub struct Generate {
    /// Frames, those that are continued included.
    pub frames: usize,
    /// Weight of the prompt; 1: no guidance, one row per sequence.
    pub guidance: f64,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Window for what is longer than the model was trained on.
    pub window: Window,
}

/// One sequence of a batch whose texts are encoded already.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// Its text, its layers, and what it shares with others of the batch.
    pub lane: Lane,
    /// Key of its random numbers.
    pub key: SequenceKey,
    /// Codes to continue, `[codebook][frame]`; empty: from the beginning. Of one length within a batch.
    pub start: Vec<Vec<u32>>,
}

/// How far a generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Decoder steps done.
    pub done: usize,
    /// Decoder steps in all.
    pub total: usize,
}

/// A choice so close that another device may choose otherwise.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Tie {
    /// Column of the delayed codes.
    pub step: usize,
    /// Codebook.
    pub codebook: usize,
    /// How close, see [`super::Choice::margin`].
    pub margin: f64,
}

/// Margin below which a choice counts as tied: some ten roundings of a 32-bit number.
const TIED: f64 = 1e-6;

/// What was generated.
#[derive(Debug, Clone, Default)]
pub struct Generation {
    /// `[sequence][codebook][frame]`, the delay undone.
    pub codes: Vec<Vec<Vec<u32>>>,
    /// Per sequence, the first choice that was tied.
    pub first_tie: Vec<Option<Tie>>,
}

/// A generation that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The spec does not fit.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The device failed.
    #[error("the device failed")]
    Device(#[from] ExecutionError),
    /// The model computes NaN or infinity.
    #[error("logits are not finite at step {step} of sequence {sequence}: {origin}")]
    NonFinite {
        /// Column of the delayed codes.
        step: usize,
        /// Sequence of the batch.
        sequence: usize,
        /// Where the first such number appears.
        origin: String,
    },
    /// Sequences of a batch that continue codes of different lengths.
    #[error("sequences of one batch continue codes of different lengths, {0} and {1} frames")]
    Uneven(usize, usize),
    /// More is continued than is to be generated.
    #[error("the audio to continue has {given} frames, of {frames} that are asked in all")]
    NothingToAdd {
        /// Frames that are given.
        given: usize,
        /// Frames that are asked.
        frames: usize,
    },
    /// The caller stopped it.
    #[error("cancelled")]
    Cancelled,
}

impl MusicGen {
    /// Generates one batch. `watch` is told after every step, and may stop the run.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub async fn generate(
        &self,
        hooks: &mut Hooks,
        prompts: &[Prompt],
        how: &Generate,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Generation, GenerateError> {
        if prompts.is_empty() {
            return Ok(Generation::default());
        }
        let ids: Vec<TokenIds> = prompts.iter().map(|prompt| prompt.ids.clone()).collect();
        let text = self.encode_text(hooks, &ids);
        let layers = self.config().decoder.num_hidden_layers;
        let sequence = |(index, prompt): (usize, &Prompt)| Sequence {
            lane: Lane::alone(index, layers),
            key: prompt.key.clone(),
            start: prompt.start.clone(),
        };
        let sequences: Vec<Sequence> = prompts.iter().enumerate().map(sequence).collect();
        self.generate_sequences(hooks, &text, &sequences, how, watch).await
    }

    /// As [`Self::generate`], of sequences whose texts are encoded already and that may share rows.
    ///
    /// # Errors
    /// [`GenerateError`].
    ///
    /// # Panics
    /// If a lane names a text or a sequence that there is not, or shares with one that is not computed alone.
    pub async fn generate_sequences(
        &self,
        hooks: &mut Hooks,
        text: &Text,
        sequences: &[Sequence],
        how: &Generate,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Generation, GenerateError> {
        let Some(first) = sequences.first() else { return Ok(Generation::default()) };
        let given = |sequence: &Sequence| sequence.start.first().map_or(0, Vec::len);
        if let Some(other) = sequences.iter().find(|sequence| given(sequence) != given(first)) {
            return Err(GenerateError::Uneven(given(first), given(other)));
        }
        let given = given(first);
        if given >= how.frames {
            return Err(GenerateError::NothingToAdd { given, frames: how.frames });
        }
        let codebooks = self.config().decoder.num_codebooks;
        let mut start: Vec<Vec<Vec<u32>>> = sequences
            .iter()
            .map(|sequence| if given == 0 { vec![vec![]; codebooks] } else { sequence.start.clone() })
            .collect();
        let mut result = Generation { codes: start.clone(), first_tie: vec![None; sequences.len()] };
        let windows = self.windows(how, given);
        let total = windows.iter().map(|window| window.steps).sum();
        let mut done = 0;
        for window in &windows {
            let mut run = Run { model: self, how, text, sequences, offset: window.offset, ties: &mut result.first_tie };
            let codes = run
                .window(hooks, &start, window.frames, &mut || {
                    done += 1;
                    watch(Progress { done, total })
                })
                .await?;
            for (all, new) in result.codes.iter_mut().zip(&codes) {
                for (all, new) in all.iter_mut().zip(new) {
                    all.extend_from_slice(&new[window.given..]);
                }
            }
            let stride = how.window.stride.min(window.frames);
            let tail = |codes: &Vec<Vec<u32>>| codes.iter().map(|row| row[stride..].to_vec()).collect();
            start = codes.iter().map(tail).collect();
        }
        hooks.end_batch();
        Ok(result)
    }

    /// The windows of a generation, in order.
    fn windows(&self, how: &Generate, given: usize) -> Vec<Planned> {
        let config = &self.config().decoder;
        let plan = |offset: usize, given: usize, frames: usize| {
            let pattern = DelayPattern { codebooks: config.num_codebooks, channels: config.audio_channels, frames };
            Planned { offset, given, frames, steps: pattern.columns() - 1 - given }
        };
        if how.frames <= how.window.frames {
            return vec![plan(0, given, how.frames)];
        }
        let mut windows = vec![];
        let (mut offset, mut given) = (0, given);
        while offset + given < how.frames {
            let frames = how.window.frames.min(how.frames - offset);
            windows.push(plan(offset, given, frames));
            given = frames - how.window.stride.min(frames);
            offset += how.window.stride;
        }
        windows
    }
}

/// A window that is to come.
struct Planned {
    /// Its first frame within the whole.
    offset: usize,
    /// Frames that are known when it begins.
    given: usize,
    /// Frames in all.
    frames: usize,
    /// Calls of the decoder.
    steps: usize,
}

/// A batch in one window.
struct Run<'a> {
    model: &'a MusicGen,
    how: &'a Generate,
    text: &'a Text,
    sequences: &'a [Sequence],
    offset: usize,
    ties: &'a mut [Option<Tie>],
}

impl Run<'_> {
    async fn window(
        &mut self,
        hooks: &mut Hooks,
        start: &[Vec<Vec<u32>>],
        frames: usize,
        watch: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Vec<u32>>>, GenerateError> {
        let config = &self.model.config().decoder;
        let pattern = DelayPattern { codebooks: config.num_codebooks, channels: config.audio_channels, frames };
        let given = start[0][0].len();
        let mut codes = start.to_vec();
        for row in codes.iter_mut().flatten() {
            row.resize(frames, config.pad_token_id);
        }
        let mut state = self.state(hooks, &self.lanes(), pattern.columns() - 1);
        let mut from = 0;
        for column in given + 1..pattern.columns() {
            let input = self.input(state.layout().entering(), &pattern, &codes, from, column);
            let logits = self.model.decoder.forward(hooks, &mut state, input, Columns::Last);
            let logits = guided(state.layout().branches(logits), self.how.guidance);
            hooks.check()?;
            let logits: Vec<f32> =
                logits.cast(burn::tensor::DType::F32).into_data_async().await?.try_to_vec().unwrap_or_default();
            if let Some(bad) = logits.iter().position(|logit| !logit.is_finite()) {
                let sequence = bad / (config.num_codebooks * config.vocab_size);
                let step = self.offset + column;
                let origin = self.locate(&pattern, &codes, column).await?;
                return Err(GenerateError::NonFinite { step, sequence, origin });
            }
            self.choose(&pattern, &mut codes, column, given, &logits);
            from = column;
            if watch().is_break() {
                return Err(GenerateError::Cancelled);
            }
        }
        Ok(codes)
    }

    fn lanes(&self) -> Vec<Lane> {
        self.sequences.iter().map(|sequence| sequence.lane.clone()).collect()
    }

    fn state(&self, hooks: &mut Hooks, lanes: &[Lane], capacity: usize) -> DecoderState {
        let guided = self.how.guidance != 1.0;
        let state = DecoderState::of_lanes(&self.model.decoder, hooks, self.text, lanes, guided, capacity);
        state.with_first_step(self.offset)
    }

    /// Columns `from..to` of `rows` (branch and sequence): `[row, codebook, time]`.
    fn input(
        &self,
        rows: &[(usize, usize)],
        pattern: &DelayPattern,
        codes: &[Vec<Vec<u32>>],
        from: usize,
        to: usize,
    ) -> Tensor<3, Int> {
        let pad = self.model.config().decoder.pad_token_id;
        let mut flat = Vec::with_capacity(rows.len() * pattern.codebooks * (to - from));
        for &(branch, sequence) in rows {
            let seen = &codes[self.sequences[sequence].lane.fed_by[branch]];
            let columns: Vec<Vec<u32>> = (from..to).map(|column| pattern.column(seen, column, pad)).collect();
            for codebook in 0..pattern.codebooks {
                flat.extend(columns.iter().map(|column| i64::from(column[codebook])));
            }
        }
        let shape = [rows.len(), pattern.codebooks, to - from];
        Tensor::from_data(TensorData::new(flat, shape), &self.model.device())
    }

    fn choose(
        &mut self,
        pattern: &DelayPattern,
        codes: &mut [Vec<Vec<u32>>],
        column: usize,
        given: usize,
        logits: &[f32],
    ) {
        let vocabulary = self.model.config().decoder.vocab_size;
        let rows = codes.iter_mut().flatten().zip(logits.chunks_exact(vocabulary));
        for (index, (row, logits)) in rows.enumerate() {
            let (sequence, codebook) = (index / pattern.codebooks, index % pattern.codebooks);
            let Some(frame) = pattern.frame(codebook, column).filter(|&frame| frame >= given) else { continue };
            let step = self.offset + column;
            let choice = self.how.sampling.choose(logits, &self.sequences[sequence].key, codebook, step);
            row[frame] = choice.token;
            if choice.margin < TIED && self.ties[sequence].is_none() {
                self.ties[sequence] = Some(Tie { step, codebook, margin: choice.margin });
            }
        }
    }

    /// Runs the columns before `column` again and looks for the first layer whose output is not finite.
    async fn locate(
        &self,
        pattern: &DelayPattern,
        codes: &[Vec<Vec<u32>>],
        column: usize,
    ) -> Result<String, GenerateError> {
        let points = self.model.decoder.points();
        let sites = [Site::Embed, Site::ResidPost, Site::FinalNorm];
        // Whatever they share, each sequence by itself, so that a layer's tensor holds all of them.
        let deepest = self.sequences.iter().map(|sequence| sequence.lane.depth).max().unwrap_or(0);
        let alone = |lane: Lane| Lane { depth: deepest, joins: [0; 2], ..lane };
        let lanes: Vec<Lane> = self.lanes().into_iter().map(alone).collect();
        let watched = points
            .iter()
            .filter(|point| sites.contains(&point.site) && point.layer.is_none_or(|layer| layer < deepest));
        let captures =
            watched.map(|&point| Capture { points: Selector::point(point), reduce: Reduce::LastStep }).collect();
        let mut hooks = Hooks::new(&Spec { captures, edits: vec![] }, &points, &HookTensors::default())?;
        let mut state = self.state(&mut hooks, &lanes, column);
        let input = self.input(state.layout().entering(), pattern, codes, 0, column);
        self.model.decoder.forward(&mut hooks, &mut state, input, Columns::Last);
        let cache = hooks.finish()?;
        let mut order: Vec<&HookPoint> = points.iter().collect();
        order.retain(|point| cache.get(**point).is_some());
        for point in order {
            let Some(captured) = cache.get(*point) else { continue };
            if captured.values().await?.iter().any(|value| !value.is_finite()) {
                return Ok(format!("the first such number is in `{point}`"));
            }
        }
        Ok("every layer is finite, so it is the heads or an edit of the logits".to_owned())
    }
}

/// `uncond + guidance · (cond − uncond)` of the branches, or the only branch that there is.
pub(crate) fn guided(branches: Vec<Tensor<4>>, guidance: f64) -> Tensor<4> {
    let mut branches = branches.into_iter();
    let Some(cond) = branches.next() else { unreachable!("there is a conditional branch") };
    match branches.next() {
        Some(uncond) => uncond.clone() + (cond - uncond) * guidance,
        None => cond,
    }
}
