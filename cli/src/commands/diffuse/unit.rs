//! One prompt: sampled, listened to at the snapshots, written.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use anyhow::{Context, Result};
use burn::tensor::{DType, Tensor};
use safetensors::{Dtype, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tonoscope_core::{
    audio::{WavFormat, Waveform},
    captures::{self, Recorded},
    diffusion::Observed,
    hooks::{HookPoint, HookTensors, Hooks},
    models::{
        stable_audio::{Conditioning, StableAudio},
        t5::T5Tokenizer,
    },
};

use super::{
    noise::{self, Given, Kept, NoiseSource},
    plan::{DiffusePlan, audio, step_folder},
};
use crate::{files::OutputFolder, interrupt::Interrupted, progress, tensors, units::Units};

/// Folders of what is kept beside the audio, a file for each prompt.
const LATENTS: &str = "latents";
const NOISE: &str = "noise";
const CAPTURES: &str = "captures";

/// What one prompt has left behind.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DiffuseUnit {
    /// Files within the folder of the results, with their length in bytes.
    files: Vec<(String, u64)>,
}

/// The first file of a finished prompt that is not there, or not whole.
pub(super) fn missing_file(
    plan: &DiffusePlan,
    units: &Units,
    folder: &OutputFolder,
    prompt: usize,
) -> Result<Option<String>> {
    let name = plan.unit(prompt);
    let unit: DiffuseUnit = serde_json::from_slice(&units.read(&name)?)
        .with_context(|| format!("the unit `{name}` in `{}` is damaged", folder.path().display()))?;
    let there = |file: &str, len: u64| folder.path().join(file).metadata().is_ok_and(|found| found.len() == len);
    Ok(unit.files.into_iter().find(|(file, len)| !there(file, *len)).map(|(file, _)| file))
}

/// Every file that the units of `plan` may have, within the folder of the results.
pub(super) fn all_files(plan: &DiffusePlan) -> Vec<String> {
    let mut files = vec![];
    for prompt in 0..plan.prompts.len() {
        for &step in &plan.snapshots {
            files.extend((0..plan.samples).map(|sample| audio(step, prompt, sample)));
        }
        files.extend([LATENTS, NOISE, CAPTURES].map(|within| format!("{within}/{}", beside(prompt))));
    }
    files
}

/// File of what is kept of a prompt, within one of the folders for that.
fn beside(prompt: usize) -> String {
    format!("prompt_{prompt}.safetensors")
}

/// Samples one prompt after another.
pub(super) struct Diffusion<'a> {
    pub(super) model: &'a StableAudio,
    pub(super) plan: &'a DiffusePlan,
    pub(super) points: Vec<HookPoint>,
    pub(super) edit_tensors: HookTensors,
    pub(super) noise: &'a NoiseSource,
    pub(super) tokenizer: &'a T5Tokenizer,
    /// Commit of the Hub's repository.
    pub(super) revision: Option<&'a str>,
    pub(super) folder: &'a OutputFolder,
}

/// What some samples of a prompt gave.
struct Sampled {
    /// One for each snapshot: `[sample, channel, frame]`.
    snapshots: Vec<Tensor<3>>,
    captures: Vec<Recorded>,
    noise: Option<Given>,
}

impl Diffusion<'_> {
    /// Whether `prompt` is finished and all its files are there: what an earlier run has lost is made again.
    pub(super) fn is_finished(&self, units: &Units, prompt: usize) -> bool {
        let name = self.plan.unit(prompt);
        if !units.has(&name) {
            return false;
        }
        let missing = missing_file(self.plan, units, self.folder, prompt);
        if !matches!(missing, Ok(None)) {
            progress::note(&format!("files of `{name}` are no longer there, so it is made again"));
        }
        matches!(missing, Ok(None))
    }

    /// Steps of a unit, for the progress bar.
    pub(super) fn ticks(&self) -> u64 {
        let plan = self.plan;
        (plan.samples.div_ceil(plan.batch) * plan.request.steps + plan.samples * plan.snapshots.len()) as u64
    }

    /// Samples prompt `index` and writes its files. `tick` is called after every step and every file.
    pub(super) fn unit(&self, index: usize, tick: &mut dyn FnMut() -> ControlFlow<()>) -> Result<DiffuseUnit> {
        let (plan, prompt) = (self.plan, &self.plan.prompts[index]);
        let mut parts = vec![];
        for first in (0..plan.samples).step_by(plan.batch) {
            let samples = first..(first + plan.batch).min(plan.samples);
            parts.push((samples.len(), self.sample(index, samples, tick)?));
        }
        let mut written = Written { folder: self.folder, files: vec![] };
        let of_all =
            |snapshot: usize| Tensor::cat(parts.iter().map(|(_, part)| part.snapshots[snapshot].clone()).collect(), 0);
        let latents: Vec<Tensor<3>> = (0..plan.snapshots.len()).map(of_all).collect();
        for (&step, latents) in plan.snapshots.iter().zip(&latents) {
            let folder = self.folder.within(&step_folder(step))?;
            for sample in 0..plan.samples {
                let name = audio(step, index, sample);
                let wave = pollster::block_on(self.listen(latents.clone(), sample));
                let wave = wave.map_err(|error| self.blamed(error)).with_context(|| name.clone())?;
                let (_, file) = name.split_once('/').context("a file within a folder")?;
                written.write(&folder, file, &name, &wave.to_wav_bytes(WavFormat::Pcm16)?)?;
                stop_if(tick())?;
            }
        }
        let file = beside(index);
        if plan.keep_latents {
            let bytes = pollster::block_on(self.latents_file(index, &latents))?;
            written.write_beside(LATENTS, &file, &bytes)?;
        }
        if !plan.hooks.captures.is_empty() {
            let batches: Vec<_> =
                parts.iter_mut().map(|(count, part)| (*count, std::mem::take(&mut part.captures))).collect();
            let origin = captures::Origin {
                spec: &plan.hooks,
                prompts: &vec![prompt.text.clone(); plan.samples],
                tokens: &vec![self.tokenizer.tokens(&prompt.ids); plan.samples],
                model: &plan.model,
                revision: self.revision,
                seed: Some(plan.seed),
            };
            let bytes = captures::to_file(&captures::join(&batches)?, &origin)?;
            written.write_beside(CAPTURES, &file, &bytes)?;
        }
        if plan.keep_noise {
            let given = parts.into_iter().filter_map(|(_, part)| part.noise).collect();
            let bytes = pollster::block_on(noise::to_file(given, &prompt.text))?;
            written.write_beside(NOISE, &file, &bytes)?;
        }
        Ok(DiffuseUnit { files: written.files })
    }

    fn sample(
        &self,
        index: usize,
        samples: std::ops::Range<usize>,
        tick: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Sampled> {
        let plan = self.plan;
        let mut hooks = Hooks::new(&plan.hooks, &self.points, &self.edit_tensors)?;
        hooks.begin_batch([index], plan.prompts.len())?;
        let conditioning = self.condition(&mut hooks, index, samples.len());
        let mut noise = Kept::new(self.noise.rows(plan, index, samples), plan.keep_noise);
        let mut snapshots = vec![];
        let mut observe = |observed: &Observed| {
            if plan.snapshots.contains(&observed.index) {
                snapshots.push(observed.denoised.clone());
            }
            tick()
        };
        let sampled = self.model.sample(&mut hooks, &conditioning, &plan.request, &mut noise, &mut observe);
        hooks.check()?;
        if sampled.is_break() {
            return Err(Interrupted::Resumable.into());
        }
        let captures = pollster::block_on(captures::read(&hooks.finish()?))?;
        Ok(Sampled { snapshots, captures, noise: noise.finish() })
    }

    fn condition(&self, hooks: &mut Hooks, index: usize, rows: usize) -> Conditioning {
        let plan = self.plan;
        let prompt = std::slice::from_ref(&plan.prompts[index].ids);
        let negative = plan.negative.as_ref().map(|(_, ids)| ids);
        let (start, total) = (plan.seconds_start as f32, plan.seconds_total as f32);
        self.model.condition(hooks, prompt, negative, start, total).repeat(rows)
    }

    /// An error in the results of a run, with the edits that were applied.
    fn blamed(&self, error: anyhow::Error) -> anyhow::Error {
        let points: Vec<String> = self.plan.hooks.edits.iter().map(|edit| format!("`{}`", edit.points)).collect();
        if points.is_empty() { error } else { error.context(format!("after edits at {}", points.join(", "))) }
    }

    /// The sound of one sample as the published code writes it: divided by the peak of all that is decoded, cut, and each
    /// value times 32767 with the fraction dropped. Silence stays silence.
    async fn listen(&self, latents: Tensor<3>, sample: usize) -> Result<Waveform> {
        let [_, channels, frames] = latents.dims();
        let latents = latents.slice([sample..sample + 1, 0..channels, 0..frames]);
        let audio = self.model.decode(latents, Some(self.plan.tile)).cast(DType::F32);
        let [_, _, samples] = audio.dims();
        let flat: Vec<f32> = audio.into_data_async().await?.try_to_vec()?;
        let channels = flat.chunks(samples).map(<[f32]>::to_vec).collect();
        as_published(channels, self.plan.sample_rate, self.plan.kept_samples())
    }

    /// `diff_step_N` `[sample, channel, frame]` of every snapshot.
    async fn latents_file(&self, index: usize, latents: &[Tensor<3>]) -> Result<Vec<u8>> {
        let mut all = vec![];
        for (&step, latents) in self.plan.snapshots.iter().zip(latents) {
            all.push((step_folder(step), latents.dims().to_vec(), noise::bytes(latents.clone()).await?));
        }
        let mut views = vec![];
        for (name, shape, bytes) in &all {
            views.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?));
        }
        let metadata = BTreeMap::from([
            ("prompt".to_owned(), self.plan.prompts[index].text.clone()),
            ("model".to_owned(), self.plan.model.clone()),
        ]);
        tensors::to_file(views, metadata)
    }
}

/// Files of a unit as they are written.
struct Written<'a> {
    folder: &'a OutputFolder,
    files: Vec<(String, u64)>,
}

impl Written<'_> {
    fn write(&mut self, folder: &OutputFolder, file: &str, name: &str, bytes: &[u8]) -> Result<()> {
        folder.write(file, bytes)?;
        self.files.push((name.to_owned(), bytes.len() as u64));
        Ok(())
    }

    fn write_beside(&mut self, within: &str, file: &str, bytes: &[u8]) -> Result<()> {
        let folder = self.folder.within(within)?;
        let name = Path::new(within).join(file).to_string_lossy().into_owned();
        self.write(&folder, file, &name, bytes)
    }
}

/// Divides by the peak, cuts, and rounds to the 16-bit values that the published code writes.
fn as_published(mut channels: Vec<Vec<f32>>, rate: u32, keep: usize) -> Result<Waveform> {
    // Tells whether all is finite, which a maximum would not.
    let peak = Waveform::new(channels.clone(), rate)?.peak();
    let written = |sample: f32| ((sample / peak).clamp(-1.0, 1.0) * 32_767.0).trunc() / 32_768.0;
    for channel in &mut channels {
        channel.truncate(keep);
        if peak > 0.0 {
            for sample in channel {
                *sample = written(*sample);
            }
        }
    }
    Ok(Waveform::new(channels, rate)?)
}

fn stop_if(flow: ControlFlow<()>) -> Result<()> {
    if flow.is_break() { Err(Interrupted::Resumable.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_is_written_as_the_published_code_does() {
        let wave = as_published(vec![vec![0.25, -0.5, 0.1, 0.5], vec![0.0, 0.3, -0.1, 0.0]], 44_100, 3).unwrap();
        // torch: (x / 0.5).clamp(-1, 1).mul(32767).to(torch.int16)
        let expected = [[16_383, -32_767, 6_553], [0, 19_660, -6_553]];
        let bytes = wave.to_wav_bytes(WavFormat::Pcm16).unwrap();
        let read = Waveform::decode(&bytes).unwrap();
        for (channel, expected) in read.channels().iter().zip(expected) {
            assert_eq!(channel.iter().map(|sample| (sample * 32_768.0) as i32).collect::<Vec<_>>(), expected);
        }
        let silence = as_published(vec![vec![0.0; 4]], 44_100, 9).unwrap();
        assert_eq!(silence.channels(), [vec![0.0; 4]]);
        assert!(as_published(vec![vec![0.0, f32::NAN]], 44_100, 9).is_err());
    }
}
