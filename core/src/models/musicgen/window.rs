//! A batch of sequences in one window: decoder step by decoder step.

use std::ops::ControlFlow;

use burn::tensor::Tensor;

use super::{DecoderState, DelayPattern, Generate, GenerateError, Lane, MusicGen, Progress, Sequence, Step, Text, Tie};
use crate::{
    checkpoint::Kernels,
    hooks::{HookPoint, Hooks, Inner, Site, read_floats},
};

/// Margin below which a choice counts as tied: some ten roundings of a 32-bit number.
const TIED: f64 = 1e-6;

/// A batch in one window.
pub(super) struct Run<'a> {
    pub(super) model: &'a MusicGen,
    pub(super) how: &'a Generate,
    pub(super) text: &'a Text,
    pub(super) sequences: &'a [Sequence],
    /// First frame of the window within the whole.
    pub(super) offset: usize,
    pub(super) ties: &'a mut [Option<Tie>],
}

impl Run<'_> {
    /// Codes of a window of `frames`, `[sequence][codebook][frame]`, that begins with `start`; `before` decoder steps of
    /// `total` were done in windows before it.
    pub(super) async fn window(
        &mut self,
        hooks: &mut Hooks<'_>,
        start: &[Vec<Vec<u32>>],
        frames: usize,
        [before, total]: [usize; 2],
        listen: &mut impl AsyncFnMut(Step<'_>) -> ControlFlow<()>,
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
            let decoder = &self.model.decoder;
            let logits = decoder.forward_codes(hooks, &mut state, input, column - from);
            let logits = guided(decoder.kernels(), state.layout().branches(logits), self.how.guidance);
            hooks.check()?;
            let logits = read_floats(logits).await?;
            if let Some(bad) = logits.iter().position(|logit| !logit.is_finite()) {
                let sequence = bad / (config.num_codebooks * config.vocab_size);
                let step = self.offset + column;
                let origin = self.locate(hooks, &pattern, &codes, column).await?;
                return Err(GenerateError::NonFinite { step, sequence, origin });
            }
            self.choose(&pattern, &mut codes, column, given, &logits);
            from = column;
            let progress = Progress { done: before + column - given, total };
            let complete = pattern.frame(config.num_codebooks - 1, column).filter(|&frame| frame >= given);
            let at = |frame| codes.iter().map(|codes| codes.iter().map(|row| row[frame]).collect()).collect();
            if listen(Step { progress, frame: complete.map(at), hooks }).await.is_break() {
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

    /// Columns `from..to` of `rows` (branch and sequence): `[row, codebook, time]` in row-major order.
    fn input(
        &self,
        rows: &[(usize, usize)],
        pattern: &DelayPattern,
        codes: &[Vec<Vec<u32>>],
        from: usize,
        to: usize,
    ) -> Vec<i64> {
        let pad = self.model.config().decoder.pad_token_id;
        let mut flat = Vec::with_capacity(rows.len() * pattern.codebooks * (to - from));
        for &(branch, sequence) in rows {
            let seen = &codes[self.sequences[sequence].lane.tokens_from[branch]];
            let columns: Vec<Vec<u32>> = (from..to).map(|column| pattern.column(seen, column, pad)).collect();
            for codebook in 0..pattern.codebooks {
                flat.extend(columns.iter().map(|column| i64::from(column[codebook])));
            }
        }
        flat
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

    /// Runs the columns before `column` again, with the same edits, and looks for the first tensor that is not finite: the
    /// output of a layer, or what an edit has changed.
    async fn locate(
        &self,
        hooks: &Hooks<'_>,
        pattern: &DelayPattern,
        codes: &[Vec<Vec<u32>>],
        column: usize,
    ) -> Result<String, GenerateError> {
        let points = self.model.decoder.points();
        let sites = [Site::Embed, Site::ResidPost, Site::FinalNorm];
        // Whatever they share, each sequence by itself, so that a layer's tensor holds all of them.
        let deepest = self.sequences.iter().map(|sequence| sequence.lane.depth).max().unwrap_or(0);
        let alone = |lane: Lane| Lane { depth: deepest, diverges_at: [0; 2], ..lane };
        let lanes: Vec<Lane> = self.lanes().into_iter().map(alone).collect();
        let watched = points.iter().copied().filter(|point| {
            let runs = point.layer.is_none_or(|layer| layer < deepest);
            runs && (sites.contains(&point.site) || (hooks.edits_at(*point) && !is_of_text(*point)))
        });
        let watched: Vec<HookPoint> = watched.collect();
        let edited = |point: HookPoint| hooks.edits_at(point);
        let is_edited = points.iter().any(|point| edited(*point));
        let has_closures = hooks.has_closures();
        let mut replay = hooks.replayed(&watched)?;
        let mut state = self.state(&mut replay, &lanes, column);
        let input = self.input(state.layout().entering(), pattern, codes, 0, column);
        self.model.decoder.forward_codes(&mut replay, &mut state, input, column);
        let Ok(cache) = replay.finish() else {
            // Such as a value that has to be as wide as the pattern is at its step.
            return Ok("its origin was not found, since an edit does not fit all steps at once".to_owned());
        };
        for point in watched {
            let Ok(captured) = cache.get(point) else { continue };
            if captured.values().await?.iter().any(|value| !value.is_finite()) {
                let by = if edited(point) { ", which an edit changes" } else { "" };
                return Ok(format!("the first such number is in `{point}`{by}"));
            }
        }
        let edits = if is_edited { ", with the edits applied" } else { "" };
        let origin = if has_closures { "a closure, or the heads" } else { "the heads" };
        Ok(format!("every layer is finite{edits}, so it is {origin}"))
    }
}

/// Keys and values of the text: computed once, not at every step.
fn is_of_text(point: HookPoint) -> bool {
    [Inner::K, Inner::V].map(Site::cross_attn).contains(&point.site)
}

/// `uncond + guidance · (cond − uncond)` of the branches, or the only branch that there is.
pub(crate) fn guided(kernels: Option<&dyn Kernels>, branches: Vec<Tensor<4>>, guidance: f64) -> Tensor<4> {
    let mut branches = branches.into_iter();
    let Some(cond) = branches.next() else { unreachable!("there is a conditional branch") };
    let Some(uncond) = branches.next() else { return cond };
    let Some(kernels) = kernels else { return uncond.clone() + (cond - uncond) * guidance };
    let shape = cond.dims();
    let [cond, uncond] = [cond, uncond].map(|x| x.reshape([shape[0] * shape[1] * shape[2], shape[3]]));
    kernels.guide(cond, uncond, guidance).reshape(shape)
}
