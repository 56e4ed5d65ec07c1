//! The work of a run, batch by batch. A finished batch is kept, with its audio, before the next one begins.

use std::time::Instant;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tonoscope_core::{
    captures,
    hooks::{HookTensors, Hooks},
    models::musicgen::{GenerateError, MusicGen, Progress, Prompt, Tie},
};

use super::{
    GenerateArgs,
    plan::Plan,
    record::Timings,
    unit::{Batch, MadePiece},
};
use tonoscope_hub::hex;

use crate::{
    files::OutputFolder,
    interrupt::{self, Interrupted},
    progress, tensors,
    units::Units,
};

/// What all batches of a run have in common.
pub(super) struct Work<'a> {
    pub(super) model: &'a MusicGen,
    pub(super) plan: &'a Plan,
    pub(super) edit_tensors: HookTensors,
    pub(super) sequences: &'a [(u64, Prompt)],
    pub(super) args: &'a GenerateArgs,
    pub(super) folder: &'a OutputFolder,
    pub(super) units: &'a Units,
}

/// File of the audio of piece `index`.
pub(super) fn audio_name(index: usize) -> String {
    format!("piece_{index:04}.wav")
}

impl Work<'_> {
    /// Makes what is not there yet, and returns all of it in the order of the prompts.
    pub(super) fn run(&self, timings: &mut Timings) -> Result<Vec<Batch>> {
        let batch_size = self.args.batch_size;
        let count = self.sequences.len().div_ceil(batch_size);
        let mut all = vec![];
        for (index, batch) in self.sequences.chunks(batch_size).enumerate() {
            let first = index * batch_size;
            let title = format!("batch {} of {count}", index + 1);
            let name = format!("batch_{index:04}");
            let kept = if self.units.has(&name) { self.kept(&name, first, batch.len())? } else { None };
            if kept.is_some() {
                timings.kept += batch.len();
            }
            all.push(match kept {
                Some(batch) => batch,
                None => self.make(&name, &title, first, batch, timings)?,
            });
            if interrupt::asked() && index + 1 < count {
                return Err(self.interrupted(first + batch.len()));
            }
        }
        timings.steps_per_s = timings.steps as f64 / timings.generate_s.max(f64::MIN_POSITIVE);
        Ok(all)
    }

    /// The finished batch `name`; audio that is no longer there, or was changed, is decoded anew.
    fn kept(&self, name: &str, first: usize, prompts: usize) -> Result<Option<Batch>> {
        let config = self.model.config();
        let shape = [config.decoder.num_codebooks, self.plan.how.frames, config.audio_encoder.codebook_size];
        let read = Batch::from_bytes(&self.units.read(name)?);
        let Some(batch) = read.ok().filter(|batch| batch.check(prompts, shape).is_ok()) else {
            progress::note(&format!("`{name}` of an earlier run is damaged, so it is made again"));
            return Ok(None);
        };
        for (index, (codes, piece)) in batch.codes.iter().zip(&batch.pieces).enumerate() {
            let path = self.folder.path().join(audio_name(first + index));
            if std::fs::read(path).is_ok_and(|bytes| sha256(&bytes) == piece.sha256) {
                continue;
            }
            self.write_audio(first + index, codes, None)?;
        }
        Ok(Some(batch))
    }

    fn make(
        &self,
        name: &str,
        title: &str,
        first: usize,
        sequences: &[(u64, Prompt)],
        timings: &mut Timings,
    ) -> Result<Batch> {
        let prompts: Vec<Prompt> = sequences.iter().map(|(_, prompt)| prompt.clone()).collect();
        let mut hooks = Hooks::new(&self.plan.spec, &self.plan.points, &self.edit_tensors)?;
        hooks.begin_batch(first..first + prompts.len(), self.sequences.len())?;
        let bar = progress::steps(0, &format!("generating, {title}"), "steps");
        let started = Instant::now();
        let mut watch = |progress: Progress| {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
            timings.steps += 1;
            interrupt::check()
        };
        let made = pollster::block_on(self.model.generate(&mut hooks, &prompts, &self.plan.how, &mut watch));
        let made = made.map_err(|error| match error {
            GenerateError::Cancelled => self.interrupted(first),
            other => other.into(),
        })?;
        bar.finish_and_clear();
        timings.generate_s += started.elapsed().as_secs_f64();
        let captures = pollster::block_on(captures::read(&hooks.finish()?))?;
        let started = Instant::now();
        let bar = progress::steps(prompts.len() as u64, &format!("decoding, {title}"), "pieces");
        let mut pieces = vec![];
        for (index, (codes, tie)) in made.codes.iter().zip(made.first_tie).enumerate() {
            pieces.push(self.write_audio(first + index, codes, tie)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        timings.decode_s += started.elapsed().as_secs_f64();
        let batch = Batch { codes: made.codes, pieces, captures };
        self.units.write(name, &batch.to_bytes()?)?;
        Ok(batch)
    }

    fn write_audio(&self, index: usize, codes: &[Vec<u32>], tie: Option<Tie>) -> Result<MadePiece> {
        let name = audio_name(index);
        let wave = pollster::block_on(self.model.sound(codes)).with_context(|| name.clone())?;
        let wave = if self.args.normalise { wave.normalise_peak(1.0) } else { wave };
        let clipped = wave.channels().iter().flatten().filter(|sample| sample.abs() > 1.0).count();
        let bytes = tensors::wav(&wave, self.args.float)?;
        self.folder.write(&name, &bytes)?;
        Ok(MadePiece::new(sha256(&bytes), clipped, tie))
    }

    fn interrupted(&self, finished: usize) -> anyhow::Error {
        Interrupted::Finished { finished, all: self.sequences.len(), what: "pieces" }.into()
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
