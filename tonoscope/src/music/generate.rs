//! A run of a MusicGen, asked for call by call.

use std::{marker::PhantomData, ops::ControlFlow};

use burn::tensor::Tensor;
use tonoscope_core::{
    hooks::{At, Captured, Edit, EditFile, HookOutput, Hooks, Selector},
    models::{
        musicgen::{self, GenerateError, Progress, Prompt, Sampling, Sequence, SoundStream, Step, Text},
        occurrences,
    },
};

use super::{Music, MusicGen};
use crate::{Audio, Cache, Cancel, Error, IntoCapture, Outcome, Result, asked::Asked, cache::About};

/// Prompts that are computed together, unless told otherwise.
const BATCH: usize = 8;
/// Seconds of music, unless told otherwise.
const SECONDS: f64 = 8.0;

/// Parts of a second in which sound is streamed.
const PARTS: usize = 4;

type Watcher<'a> = Box<dyn FnMut(&Stage) -> ControlFlow<()> + 'a>;
type Listener<'a> = Box<dyn FnMut(usize, &Audio) + 'a>;

/// A run that is to be: what to generate, and what to look at and change on the way. [`run`](Generate::run) does it.
///
/// Whatever is wrong with a call is told by `run`, so that a chain of calls needs one `?`.
#[must_use = "nothing is generated before `run`"]
pub struct Generate<'a, T> {
    model: &'a MusicGen,
    prompts: Vec<String>,
    seconds: f64,
    guidance: Option<f64>,
    greedy: bool,
    temperature: f64,
    top_k: usize,
    top_p: f64,
    seed: u64,
    batch_size: usize,
    start: Option<Audio>,
    asked: Asked<'a>,
    on_step: Option<Watcher<'a>>,
    on_sound: Option<Listener<'a>>,
    cancel: Option<Cancel>,
    outcome: PhantomData<fn() -> T>,
}

/// How far a run is, after every step of the decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Decoder steps done, over all batches.
    pub done: usize,
    /// Decoder steps in all.
    pub total: usize,
    /// First prompt of the batch that is running.
    pub first_prompt: usize,
    /// The frame that this step has completed, by prompt of the batch a token of every codebook.
    pub frame: Option<Vec<Vec<u32>>>,
}

impl<'a, T: Outcome<Piece = Music>> Generate<'a, T> {
    pub(super) fn new(model: &'a MusicGen, prompts: Vec<String>) -> Self {
        Self {
            model,
            prompts,
            seconds: SECONDS,
            guidance: None,
            greedy: false,
            temperature: 1.0,
            top_k: 250,
            top_p: 0.0,
            seed: 0,
            batch_size: BATCH,
            start: None,
            asked: Asked::default(),
            on_step: None,
            on_sound: None,
            cancel: None,
            outcome: PhantomData,
        }
    }

    /// Seconds of music, the recording that is continued included; 8 unless told otherwise.
    pub fn seconds(mut self, seconds: f64) -> Self {
        self.seconds = seconds;
        self
    }

    /// Seed of the random numbers; 0 unless told otherwise. A prompt gives the same music for the same seed, whatever else
    /// is generated with it.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Takes the likeliest token instead of sampling.
    pub fn greedy(mut self) -> Self {
        self.greedy = true;
        self
    }

    /// Samples among that many of the likeliest tokens; 250 unless told otherwise, 0: among all.
    pub fn top_k(mut self, top_k: usize) -> Self {
        self.top_k = top_k;
        self
    }

    /// Samples among the likeliest tokens that have this share of the probability; 0, as it is unless told otherwise: among
    /// all.
    pub fn top_p(mut self, top_p: f64) -> Self {
        self.top_p = top_p;
        self
    }

    /// Divides the logits before sampling; 1 unless told otherwise.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Weight of the prompt; 1 switches guidance off. The checkpoint's unless told otherwise.
    pub fn guidance(mut self, guidance: f64) -> Self {
        self.guidance = Some(guidance);
        self
    }

    /// Prompts that are computed together; 8 unless told otherwise. It bounds the memory and changes no token.
    pub fn batch_size(mut self, prompts: usize) -> Self {
        self.batch_size = prompts;
        self
    }

    /// Continues a recording, which becomes the beginning of the music.
    ///
    /// ```
    /// use tonoscope::prelude::*;
    ///
    /// let model = MusicGen::from_pretrained("musicgen-nano")?;
    /// let start = model.generate("a slow piano melody").seconds(0.2).run()?;
    /// let longer = model.generate("a slow piano melody").seconds(0.4).continue_from(&start).run()?;
    /// assert_eq!(longer.codes()[0].len(), 20);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn continue_from(mut self, recording: impl AsRef<Audio>) -> Self {
        self.start = Some(recording.as_ref().clone());
        self
    }

    /// Records hook points: text such as `decoder.*.resid_post`, with a reducer as in `decoder.*.resid_post:mean_time`, or a
    /// [`Capture`](crate::hooks::Capture).
    ///
    /// ```
    /// use tonoscope::prelude::*;
    ///
    /// let model = MusicGen::from_pretrained("musicgen-nano")?;
    /// let run = model.generate("a slow piano melody").seconds(0.2).capture("decoder.*.resid_post:mean_time");
    /// let (_, cache) = run.run_with_cache()?;
    /// assert_eq!(cache.entries.len(), model.layers());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn capture(mut self, points: impl IntoCapture) -> Self {
        self.asked.capture(points);
        self
    }

    /// Changes a tensor on its way, as data that can be saved and replayed. At one point, edits apply in order.
    pub fn edit(mut self, edit: Edit) -> Self {
        self.asked.edit(edit);
        self
    }

    /// Calls `hook` whenever a tensor passes one of `points`, after the edits there and before it is recorded. It sees the
    /// tensor of one step, `[row, head, position, feature]`, and [where it is](At): point, step, branch and prompt of each row.
    /// It returns the tensor to go on with, or a `Result`, whose error ends the run at that step; it may keep state.
    ///
    /// ```
    /// use tonoscope::prelude::*;
    ///
    /// let model = MusicGen::from_pretrained("musicgen-nano")?;
    /// let mut loudest = vec![];
    /// let watch = |x: Tensor<4>, at: &At<'_>| -> tonoscope::Result<Tensor<4>> {
    ///     let largest = values(&x.clone().abs().max())?[0];
    ///     loudest.push((at.step, largest));
    ///     Ok(x)
    /// };
    /// model.generate("a slow piano melody").seconds(0.2).hook("decoder.5.resid_post", watch).run()?;
    /// assert_eq!(loudest.len(), 13); // ten frames of four delayed codebooks
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

    /// Told after every step; `Break` stops the run with
    /// [`GenerateError::Cancelled`](crate::core::models::musicgen::GenerateError::Cancelled).
    ///
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// use tonoscope::prelude::*;
    ///
    /// let model = MusicGen::from_pretrained("musicgen-nano")?;
    /// let mut frames = 0;
    /// let count = |stage: &Stage| {
    ///     frames += usize::from(stage.frame.is_some());
    ///     ControlFlow::Continue(())
    /// };
    /// model.generate("a slow piano melody").seconds(0.2).on_step(count).run()?;
    /// assert_eq!(frames, 10);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn on_step(mut self, watch: impl FnMut(&Stage) -> ControlFlow<()> + 'a) -> Self {
        self.on_step = Some(Box::new(watch));
        self
    }

    /// Streams the sound while it is made: `listen` is given the number of the prompt and the samples that no later frame can
    /// change. They are those of the result up to rounding.
    ///
    /// ```
    /// use tonoscope::prelude::*;
    ///
    /// let model = MusicGen::from_pretrained("musicgen-nano")?;
    /// let mut heard = 0;
    /// let listen = |_prompt: usize, audio: &Audio| heard += audio.samples().len();
    /// let music = model.generate("a slow piano melody").seconds(0.4).on_sound(listen).run()?;
    /// assert_eq!(heard, music.samples().len());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn on_sound(mut self, listen: impl FnMut(usize, &Audio) + 'a) -> Self {
        self.on_sound = Some(Box::new(listen));
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
        Ok(Box::pin(self.run_with_cache_async()).await?.0)
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
        let model = self.model.core();
        let how = self.options()?;
        let samples = occurrences(&self.prompts);
        let prompts = self.encoded(&samples).await?;
        let given = prompts.first().and_then(|prompt| prompt.start.first()).map_or(0, Vec::len);
        if given >= how.frames {
            return Err(GenerateError::NothingToAdd { given, frames: how.frames }.into());
        }
        let spec = self.asked.spec().clone();
        let mut hooks = std::mem::take(&mut self.asked).hooks(&model.points(), &model.device())?;
        let batches = prompts.len().div_ceil(self.batch_size);
        let mut pieces = Vec::with_capacity(prompts.len());
        for (index, batch) in prompts.chunks(self.batch_size).enumerate() {
            let first = index * self.batch_size;
            hooks.begin_batch(first..first + batch.len(), prompts.len())?;
            let (text, sequences) = model.sequences(&mut hooks, batch);
            let batch = Batch { first, index, count: batches, text: &text, sequences: &sequences };
            let made = self.generate(&mut hooks, &batch, &how).await?;
            let waves = model.sounds(&made.codes).await?;
            for ((codes, tie), wave) in made.codes.into_iter().zip(made.first_tie).zip(waves) {
                let (prompt, sample) = (self.prompts[pieces.len()].clone(), samples[pieces.len()]);
                pieces.push(Music { audio: wave.into(), codes, prompt, tie, options: how.clone(), sample });
            }
        }
        let about = About {
            origin: self.model.origin().clone(),
            spec,
            tokens: prompts.iter().map(|prompt| self.model.tokenizer().tokens(&prompt.ids)).collect(),
            prompts: self.prompts,
            seed: (!self.greedy).then_some(self.seed),
        };
        Ok((T::of(pieces), Cache::new(hooks.finish()?, about)))
    }

    fn options(&self) -> Result<musicgen::Generate> {
        if self.batch_size == 0 {
            return Err(Error::request("a batch size of 0", "call `batch_size` with 1 or more, or not at all"));
        }
        let random =
            Sampling::Random { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, seed: self.seed };
        let sampling = if self.greedy { Sampling::Greedy } else { random };
        let guidance = self.guidance.unwrap_or(self.model.generation().guidance_scale);
        Ok(musicgen::Generate::new(self.seconds, guidance, sampling, self.model.frame_rate())?)
    }

    /// The prompts as ids, keyed by text and number, each with the codes that it continues.
    async fn encoded(&self, samples: &[u64]) -> Result<Vec<Prompt>> {
        let start = match &self.start {
            Some(recording) => self.model.encode_async(recording).await?,
            None => vec![],
        };
        let prompt = |(text, &sample): (&String, &u64)| {
            self.model.prompt(text, sample).map(|prompt| Prompt { start: start.clone(), ..prompt })
        };
        self.prompts.iter().zip(samples).map(prompt).collect()
    }

    /// One batch, watched and listened to.
    async fn generate(
        &mut self,
        hooks: &mut Hooks<'_>,
        batch: &Batch<'_>,
        how: &musicgen::Generate,
    ) -> Result<musicgen::Generation> {
        let model = self.model.core();
        let Self { on_step, on_sound, cancel, .. } = self;
        let mut stream =
            on_sound.is_some().then(|| SoundStream::new(model, how.frames, self.model.frame_rate() / PARTS));
        for frame in batch.given() {
            hear(stream.as_mut(), &frame, batch.first, on_sound.as_mut()).await?;
        }
        let mut failure = None;
        let listen = async |step: Step<'_>| {
            let Progress { done, total } = step.progress;
            if let Some(frame) = &step.frame
                && let Err(error) = hear(stream.as_mut(), frame, batch.first, on_sound.as_mut()).await
            {
                failure = Some(error);
                return ControlFlow::Break(());
            }
            let (done, total) = (batch.index * total + done, batch.count * total);
            let stage = Stage { done, total, first_prompt: batch.first, frame: step.frame };
            let stopped = on_step.as_mut().is_some_and(|watch| watch(&stage).is_break());
            if stopped || cancel.as_ref().is_some_and(Cancel::is_cancelled) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let made = model.generate_heard(hooks, batch.text, batch.sequences, how, listen).await;
        match (made, failure) {
            (Err(GenerateError::Cancelled), Some(error)) => Err(error),
            (made, _) => Ok(made?),
        }
    }
}

/// Prompts that are computed together.
struct Batch<'a> {
    /// The first of them, among all.
    first: usize,
    /// Number of the batch.
    index: usize,
    /// Batches in all.
    count: usize,
    text: &'a Text,
    sequences: &'a [Sequence],
}

impl Batch<'_> {
    /// The frames that are continued, by sequence a token of every codebook.
    fn given(&self) -> Vec<Vec<Vec<u32>>> {
        let start = &self.sequences[0].start;
        let frame = |frame: usize| start.iter().map(|row| row[frame]).collect::<Vec<u32>>();
        let frames = start.first().map_or(0, Vec::len);
        (0..frames).map(|at| vec![frame(at); self.sequences.len()]).collect()
    }
}

/// Gives the samples that `frame` has made certain to the listener.
async fn hear(
    stream: Option<&mut SoundStream<'_>>,
    frame: &[Vec<u32>],
    first: usize,
    listen: Option<&mut Listener<'_>>,
) -> Result<()> {
    let (Some(stream), Some(listen)) = (stream, listen) else { return Ok(()) };
    for (index, wave) in stream.push(frame.to_vec()).await?.into_iter().enumerate() {
        listen(first + index, &wave.into());
    }
    Ok(())
}
