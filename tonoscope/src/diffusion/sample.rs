//! A run of a Stable Audio, asked for call by call.

use std::{marker::PhantomData, ops::ControlFlow};

use burn::tensor::Tensor;
use tonoscope_core::{
    diffusion::{BrownianNoise, NoiseKey, Observed, Sampler, SamplerSettings, Schedule},
    hooks::{At, Captured, Edit, EditFile, HookOutput, Hooks, Selector},
    models::{
        occurrences,
        stable_audio::{InitialScale, SampleRequest},
        t5::TokenIds,
    },
};

use super::{Diffused, Snapshot, StableAudio};
use crate::{
    Audio, Cache, Cancel, Error, IntoCapture, Outcome, Result, asked::Asked, cache::About, text::shortened,
    values_async,
};

/// Prompts that are computed together, unless told otherwise.
const BATCH: usize = 4;
/// Latent frames that are decoded in one piece: bounds the memory, changes no sample.
const TILE: usize = 128;

type Watcher<'a> = Box<dyn FnMut(&Denoised) -> ControlFlow<()> + 'a>;

/// A run that is to be: what to generate, and what to look at and change on the way. [`run`](Diffuse::run) does it.
///
/// Whatever is wrong with a call is told by `run`, so that a chain of calls needs one `?`.
#[must_use = "nothing is generated before `run`"]
pub struct Diffuse<'a, T> {
    model: &'a StableAudio,
    prompts: Vec<String>,
    negative: Option<String>,
    seconds: Option<f64>,
    seconds_start: f64,
    snapshots: Vec<usize>,
    request: SampleRequest,
    seed: u64,
    batch_size: usize,
    asked: Asked<'a>,
    on_step: Option<Watcher<'a>>,
    cancel: Option<Cancel>,
    outcome: PhantomData<fn() -> T>,
}

/// How far a run is, after every denoising step.
#[derive(Debug, Clone)]
pub struct Denoised {
    /// Denoising steps done, over all batches.
    pub done: usize,
    /// Denoising steps in all.
    pub total: usize,
    /// First prompt of the batch that is running.
    pub first_prompt: usize,
    /// Noise level before the step.
    pub sigma: f64,
    /// Estimate of the clean latents, `[prompt, channel, length]`.
    pub estimate: Tensor<3>,
}

impl<'a, T: Outcome<Piece = Diffused>> Diffuse<'a, T> {
    pub(super) fn new(model: &'a StableAudio, prompts: Vec<String>) -> Self {
        let request = SampleRequest {
            steps: 50,
            sigma_min: 0.01,
            sigma_max: 100.0,
            schedule: Schedule::Polyexponential { rho: 1.0 },
            sampler: SamplerSettings::default(),
            guidance: 6.0,
            rescale: 0.0,
            latent_length: model.core().config().latent_length(),
            initial: InitialScale::default(),
        };
        Self {
            model,
            prompts,
            negative: None,
            seconds: None,
            seconds_start: 0.0,
            snapshots: vec![],
            request,
            seed: 0,
            batch_size: BATCH,
            asked: Asked::default(),
            on_step: None,
            cancel: None,
            outcome: PhantomData,
        }
    }

    /// Length of the sound, as the model is told and as it is cut; all that the model makes unless told otherwise.
    pub fn seconds(mut self, seconds: f64) -> Self {
        self.seconds = Some(seconds);
        self
    }

    /// Where in a longer piece the sound begins, as the model is told; 0 unless told otherwise.
    pub fn seconds_start(mut self, seconds: f64) -> Self {
        self.seconds_start = seconds;
        self
    }

    /// Denoising steps; 50 unless told otherwise.
    pub fn steps(mut self, steps: usize) -> Self {
        self.request.steps = steps;
        self
    }

    /// Denoising steps, from 0, whose estimate of the clean sound is decoded too.
    pub fn snapshots(mut self, steps: impl IntoIterator<Item = usize>) -> Self {
        self.snapshots.extend(steps);
        self.snapshots.sort_unstable();
        self.snapshots.dedup();
        self
    }

    /// Seed of the noise; 0 unless told otherwise. A prompt gives the same sound for the same seed, whatever else is
    /// generated with it.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Weight of the prompt; 1 switches guidance off, 6 unless told otherwise.
    pub fn guidance(mut self, guidance: f64) -> Self {
        self.request.guidance = guidance;
        self
    }

    /// Steers away from this text instead of from no text.
    pub fn negative_prompt(mut self, text: impl Into<String>) -> Self {
        self.negative = Some(text.into());
        self
    }

    /// The solver; DPM-Solver++(2M) SDE unless told otherwise.
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.request.sampler.sampler = sampler;
        self
    }

    /// Everything about the sampling at once: noise levels, solver, guidance.
    pub fn request(mut self, request: SampleRequest) -> Self {
        self.request = request;
        self
    }

    /// Latent frames that are denoised; all unless told otherwise. Fewer are less work, but the model was trained on its full
    /// length alone.
    pub fn latent_length(mut self, frames: usize) -> Self {
        self.request.latent_length = frames;
        self
    }

    /// Prompts that are computed together; 4 unless told otherwise. It bounds the memory.
    pub fn batch_size(mut self, prompts: usize) -> Self {
        self.batch_size = prompts;
        self
    }

    /// Records hook points: text such as `dit.*.resid_post:mean_positions`, or a [`Capture`](crate::hooks::Capture). Steps are
    /// denoising steps.
    pub fn capture(mut self, points: impl IntoCapture) -> Self {
        self.asked.capture(points);
        self
    }

    /// Changes a tensor on its way, as data that can be saved and replayed. At one point, edits apply in order.
    pub fn edit(mut self, edit: Edit) -> Self {
        self.asked.edit(edit);
        self
    }

    /// Calls `hook` whenever a tensor passes one of `points`, as [`Generate::hook`](crate::Generate::hook) says. Steps are
    /// denoising steps.
    ///
    /// ```
    /// use tonoscope::prelude::*;
    ///
    /// let model = StableAudio::from_pretrained("stable-audio-nano")?;
    /// let run = model.generate("a slow piano melody").seconds(0.2).latent_length(16).steps(3);
    /// run.hook("dit.1.mlp_out", |x, at| if at.step > 1 { x * 1.5 } else { x }).run()?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn hook<R: HookOutput>(
        mut self,
        points: impl Into<Selector>,
        hook: impl FnMut(Tensor<4>, &At<'_>) -> R + 'a,
    ) -> Self {
        self.asked.hook(points, hook);
        self
    }

    /// A tensor that edits name as their value, on any device.
    pub fn tensor<const D: usize>(mut self, name: impl Into<String>, tensor: Tensor<D>) -> Self {
        self.asked.tensor(name.into(), tensor);
        self
    }

    /// Activation patching: puts what another run has recorded in place of the tensors at `points`, step by step. What was
    /// recorded of one prompt goes into every prompt of this run.
    pub fn patch(mut self, points: impl Into<Selector>, captured: &Captured) -> Self {
        self.asked.patch(points, captured);
        self
    }

    /// The edits of a file, with their tensors.
    pub fn edits(mut self, file: EditFile) -> Self {
        self.asked.edit_file(file);
        self
    }

    /// Told after every denoising step; `Break` stops the run with [`Error::Cancelled`].
    pub fn on_step(mut self, watch: impl FnMut(&Denoised) -> ControlFlow<()> + 'a) -> Self {
        self.on_step = Some(Box::new(watch));
        self
    }

    /// Lets another thread stop the run.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = Some(cancel.clone());
        self
    }

    /// Generates.
    ///
    /// # Errors
    /// [`Error`]: the first setting, prompt, capture or edit that does not fit, or what has failed on the way.
    pub fn run(self) -> Result<T> {
        pollster::block_on(self.run_async())
    }

    /// [`Self::run`], without blocking.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_async(self) -> Result<T> {
        Ok(self.run_with_cache_async().await?.0)
    }

    /// Generates, and returns what was recorded as well.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_with_cache(self) -> Result<(T, Cache)> {
        pollster::block_on(self.run_with_cache_async())
    }

    /// [`Self::run_with_cache`], without blocking.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_with_cache_async(mut self) -> Result<(T, Cache)> {
        self.check()?;
        let encoded = self.prompts.iter().map(|text| self.encode(text)).collect::<Result<Vec<_>>>()?;
        let negative = self.negative.as_deref().map(|text| self.encode(text)).transpose()?;
        let core = self.model.core();
        let spec = self.asked.spec().clone();
        let mut hooks = std::mem::take(&mut self.asked).hooks(&core.points(), &core.device())?;
        let samples = occurrences(&self.prompts);
        let mut pieces = Vec::with_capacity(self.prompts.len());
        for first in (0..self.prompts.len()).step_by(self.batch_size) {
            let prompts = first..(first + self.batch_size).min(self.prompts.len());
            let key = |prompt: usize| NoiseKey::new(self.seed, &self.prompts[prompt], samples[prompt]);
            let keys: Vec<NoiseKey> = prompts.clone().map(key).collect();
            let ids: Vec<TokenIds> = encoded[prompts.clone()].iter().map(|(ids, _)| ids.clone()).collect();
            hooks.begin_batch(prompts.clone(), self.prompts.len())?;
            let sampled = self.sample(&mut hooks, first, &keys, &ids, negative.as_ref().map(|(ids, _)| ids))?;
            for (row, prompt) in prompts.enumerate() {
                let row_of = |all: &Tensor<3>| all.clone().narrow(0, row, 1);
                let mut snapshots = vec![];
                for (step, latents) in &sampled.snapshots {
                    let latents = row_of(latents);
                    snapshots.push(Snapshot { step: *step, audio: self.decode(latents.clone()).await?, latents });
                }
                let latents = row_of(&sampled.latents);
                pieces.push(Diffused {
                    audio: self.decode(latents.clone()).await?,
                    latents,
                    snapshots,
                    prompt: self.prompts[prompt].clone(),
                    unseen_tokens: encoded[prompt].1,
                });
            }
        }
        let about = About {
            origin: self.model.origin().clone(),
            spec,
            tokens: encoded.iter().map(|(ids, _)| self.model.tokenizer().tokens(ids)).collect(),
            prompts: self.prompts,
            seed: Some(self.seed),
        };
        Ok((T::of(pieces), Cache::new(hooks.finish()?, about)))
    }

    /// What can be said before anything is computed.
    fn check(&self) -> Result<()> {
        let SampleRequest { steps, sigma_min, sigma_max, schedule, guidance, rescale, latent_length, .. } =
            &self.request;
        schedule.check(*steps, *sigma_min, *sigma_max)?;
        let full = self.model.core().config().latent_length();
        if !(1..=full).contains(latent_length) {
            let what = format!("{latent_length} latent frames, but the model has 1 to {full}");
            return Err(Error::request(what, "leave `latent_length` out for all of them"));
        }
        if let Some(step) = self.snapshots.iter().find(|&step| step >= steps) {
            let what = format!("a snapshot at step {step}, but there are only {steps} steps, from 0");
            return Err(Error::request(what, "choose among them, or take more `steps`"));
        }
        if !guidance.is_finite() || !(0.0..=1.0).contains(rescale) {
            let what = format!("a guidance of {guidance} with a rescale of {rescale}");
            return Err(Error::request(what, "expected a finite number, and 0 to 1"));
        }
        if self.seconds.is_some_and(|seconds| !(seconds > 0.0 && seconds.is_finite())) {
            return Err(Error::request("music of no length", "`seconds` takes a positive number"));
        }
        if !(self.seconds_start >= 0.0 && self.seconds_start.is_finite()) {
            return Err(Error::request("music that begins before its start", "`seconds_start` counts from 0"));
        }
        if self.batch_size == 0 {
            return Err(Error::request("a batch size of 0", "call `batch_size` with 1 or more, or not at all"));
        }
        Ok(())
    }

    /// Ids, and how many tokens the model does not see.
    fn encode(&self, text: &str) -> Result<(TokenIds, usize)> {
        let ids = self.model.tokenizer().encode_truncated(text);
        ids.map_err(|source| Error::Prompt { prompt: shortened(text), source })
    }

    fn seconds_total(&self) -> f64 {
        self.seconds.unwrap_or_else(|| self.model.core().config().seconds())
    }

    fn sample(
        &mut self,
        hooks: &mut Hooks<'_>,
        first: usize,
        keys: &[NoiseKey],
        ids: &[TokenIds],
        negative: Option<&TokenIds>,
    ) -> Result<Sampled> {
        let core = self.model.core();
        let (start, total) = (self.seconds_start as f32, self.seconds_total() as f32);
        let conditioning = core.condition(hooks, ids, negative, start, total);
        let mut noise = BrownianNoise::new(keys, core.config().latent_channels(), self.request.latent_length);
        let Self { snapshots: wanted, request, on_step, cancel, prompts, batch_size, .. } = self;
        let (batch, batches) = (first / *batch_size, prompts.len().div_ceil(*batch_size));
        let mut snapshots = vec![];
        let mut observe = |observed: &Observed| {
            if wanted.contains(&observed.index) {
                snapshots.push((observed.index, observed.denoised.clone()));
            }
            let denoised = Denoised {
                done: batch * request.steps + observed.index + 1,
                total: batches * request.steps,
                first_prompt: first,
                sigma: observed.sigma,
                estimate: observed.denoised.clone(),
            };
            let stopped = on_step.as_mut().is_some_and(|watch| watch(&denoised).is_break());
            if stopped || cancel.as_ref().is_some_and(Cancel::is_cancelled) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let sampled = core.sample(hooks, &conditioning, request, &mut noise, &mut observe);
        hooks.check()?;
        match sampled {
            ControlFlow::Continue(latents) => Ok(Sampled { latents, snapshots }),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }

    /// The sound of one row of latents, cut to the length that was asked for.
    async fn decode(&self, latents: Tensor<3>) -> Result<Audio> {
        let core = self.model.core();
        let audio = core.decode(latents, Some(TILE));
        let samples = audio.dims()[2];
        let flat = values_async(&audio).await?;
        let channels = flat.chunks(samples).map(<[f32]>::to_vec).collect();
        Audio::new(channels, core.config().sample_rate())?.cut(self.seconds_total())
    }
}

/// Latents of a batch.
struct Sampled {
    latents: Tensor<3>,
    /// By step.
    snapshots: Vec<(usize, Tensor<3>)>,
}
