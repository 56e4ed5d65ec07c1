//! Generation, step by step, with everything that can be watched or go wrong.
//!
//! References: `MusicgenForConditionalGeneration.generate`, transformers 5.23.0 (Apache-2.0), for a window;
//! `_generate_tokens`, audiocraft 1.3.0, models/musicgen.py (MIT), for what is longer than one.

use std::ops::ControlFlow;

use burn::tensor::ExecutionError;

use super::{DelayPattern, MusicGen, RowSharing, Sampling, SequenceKey, Text, window::Run};
use crate::{
    hooks::{HookError, Hooks},
    models::t5::{T5Tokenizer, TokenError, TokenIds},
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

impl Prompt {
    /// `text` from the beginning, with the random numbers of its `sample`-th piece.
    ///
    /// # Errors
    /// [`TokenError`] if the tokenizer does not take the text.
    pub fn of_text(tokenizer: &T5Tokenizer, text: &str, sample: u64) -> Result<Self, TokenError> {
        Ok(Self { ids: tokenizer.encode(text)?, key: SequenceKey::new(text, sample), start: vec![] })
    }
}

impl Window {
    /// audiocraft's: 30 s, advancing by 18 s.
    pub fn published(frame_rate: usize) -> Self {
        Self { frames: 30 * frame_rate, stride: 18 * frame_rate }
    }

    /// The stride, within what leaves no gap and moves on.
    fn step(self) -> usize {
        self.stride.clamp(1, self.frames.max(1))
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
    pub lane: RowSharing,
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

/// What those who listen to a run hear after every step.
#[derive(Debug)]
pub struct Step<'a> {
    /// How far it is.
    pub progress: Progress,
    /// The frame whose last token was chosen in this step, by sequence a token of every codebook. Frames come in their
    /// order; none while the first is incomplete, and none that was given.
    pub frame: Option<Vec<Vec<u32>>>,
    /// With what was recorded so far, see [`Hooks::latest`].
    pub hooks: &'a Hooks<'a>,
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
        hooks: &mut Hooks<'_>,
        prompts: &[Prompt],
        how: &Generate,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Generation, GenerateError> {
        if prompts.is_empty() {
            return Ok(Generation::default());
        }
        hooks.fits(prompts.len())?;
        let (text, sequences) = self.sequences(hooks, prompts);
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
        hooks: &mut Hooks<'_>,
        text: &Text,
        sequences: &[Sequence],
        how: &Generate,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Generation, GenerateError> {
        self.generate_heard(hooks, text, sequences, how, async |step: Step<'_>| watch(step.progress)).await
    }

    /// As [`Self::generate_sequences`], with a listener that hears the codes while they are written, and may take its time:
    /// the run waits for it.
    ///
    /// # Errors
    /// As [`Self::generate_sequences`].
    ///
    /// # Panics
    /// As [`Self::generate_sequences`].
    pub async fn generate_heard(
        &self,
        hooks: &mut Hooks<'_>,
        text: &Text,
        sequences: &[Sequence],
        how: &Generate,
        mut listen: impl AsyncFnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Generation, GenerateError> {
        let Some(first) = sequences.first() else { return Ok(Generation::default()) };
        hooks.fits(sequences.len())?;
        hooks.check()?;
        let given = |sequence: &Sequence| sequence.start.first().map_or(0, Vec::len);
        if let Some(other) = sequences.iter().find(|sequence| given(sequence) != given(first)) {
            return Err(GenerateError::Uneven(given(first), given(other)));
        }
        let given = given(first);
        if given >= how.frames {
            return Err(GenerateError::NothingToAdd { given, frames: how.frames });
        }
        let codebooks = self.config().decoder.num_codebooks;
        let start: Vec<Vec<Vec<u32>>> = sequences
            .iter()
            .map(|sequence| if given == 0 { vec![vec![]; codebooks] } else { sequence.start.clone() })
            .collect();
        let windows = self.windows(how, given);
        // The first window may begin within what is continued.
        let mut seen = from(&start, windows.first().map_or(0, |window| window.offset));
        let mut result = Generation { codes: start, first_tie: vec![None; sequences.len()] };
        let total = windows.iter().map(|window| window.steps).sum();
        let mut done = 0;
        for window in &windows {
            let mut run = Run { model: self, how, text, sequences, offset: window.offset, ties: &mut result.first_tie };
            let codes = run.window(hooks, &seen, window.frames, [done, total], &mut listen).await?;
            done += window.steps;
            for (all, new) in result.codes.iter_mut().zip(&codes) {
                for (all, new) in all.iter_mut().zip(new) {
                    all.extend_from_slice(&new[window.given..]);
                }
            }
            seen = from(&codes, how.window.step().min(window.frames));
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
        let stride = how.window.step();
        // The first window that adds a frame. Of a recording longer than a window, it sees the last part.
        let mut offset = (given + 1).saturating_sub(how.window.frames).div_ceil(stride) * stride;
        let mut given = given - offset;
        while offset + given < how.frames {
            let frames = how.window.frames.min(how.frames - offset);
            windows.push(plan(offset, given, frames));
            given = frames - stride.min(frames);
            offset += stride;
        }
        windows
    }
}

/// Codes `[sequence][codebook][frame]` without their first `frames`.
fn from(codes: &[Vec<Vec<u32>>], frames: usize) -> Vec<Vec<Vec<u32>>> {
    codes.iter().map(|codes| codes.iter().map(|row| row[frames..].to_vec()).collect()).collect()
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
