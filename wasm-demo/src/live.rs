//! A piece while it is made: its sound as it becomes certain, and what is read off the layers in each step.

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor, TensorData};
use tonoscope_core::{
    audio::Waveform,
    hooks::read_floats,
    models::{
        encodec::AudioStream,
        musicgen::{MusicGen, Step},
    },
};
use wasm_bindgen::JsError;

use crate::{bridge, failure::failed, heat::Heat};

/// Decoded at once, in parts of a second: long enough to be cheap, short enough to be heard soon.
const PARTS: usize = 2;

/// Listens to a generation.
pub(crate) struct Live<'a> {
    model: &'a MusicGen,
    stream: AudioStream<'a>,
    /// Frames that are not decoded yet, a token of every codebook each.
    waiting: Vec<Vec<u32>>,
    /// By channel.
    sound: Vec<Vec<f32>>,
    heat: Option<Heat>,
    failure: Option<JsError>,
}

impl<'a> Live<'a> {
    /// For a piece of `frames` frames.
    pub(crate) fn new(model: &'a MusicGen, frames: usize, heat: Option<Heat>) -> Self {
        Self { model, stream: model.audio_stream(frames), waiting: vec![], sound: vec![], heat, failure: None }
    }

    /// To be called after every step.
    pub(crate) async fn hear(&mut self, step: Step<'_>) -> ControlFlow<()> {
        match self.take_in(step).await {
            Ok(flow) => flow,
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    async fn take_in(&mut self, step: Step<'_>) -> Result<ControlFlow<()>, JsError> {
        if let Some(heat) = &self.heat {
            bridge::heat(&heat.hear(step.hooks).await?);
        }
        // Of a batch of one.
        self.waiting.extend(step.frame.into_iter().flatten());
        let last = step.progress.done == step.progress.total;
        if last || self.waiting.len() >= (self.model.frame_rate() / PARTS).max(1) {
            self.decode().await?;
        }
        Ok(bridge::watch(step.progress))
    }

    async fn decode(&mut self) -> Result<(), JsError> {
        let frames = std::mem::take(&mut self.waiting);
        let Some(codebooks) = frames.first().map(Vec::len) else { return Ok(()) };
        let by_codebook =
            (0..codebooks).flat_map(|codebook| frames.iter().map(move |frame| i64::from(frame[codebook])));
        let codes = TensorData::new(by_codebook.collect::<Vec<i64>>(), [1, codebooks, frames.len()]);
        let codes = Tensor::<3, Int>::from_data(codes, &self.model.device());
        let Some(audio) = self.stream.push(codes) else { return Ok(()) };
        let [_, channels, samples] = audio.dims();
        let values = read_floats(audio).await.map_err(failed)?;
        self.sound.resize(channels, vec![]);
        for (channel, values) in self.sound.iter_mut().zip(values.chunks(samples)) {
            channel.extend_from_slice(values);
        }
        bridge::sound(&self.sound, samples, self.rate());
        Ok(())
    }

    fn rate(&self) -> u32 {
        self.model.config().audio_encoder.sampling_rate
    }

    /// What went wrong while listening, which the run knows only as a wish to stop.
    pub(crate) fn failure(&mut self) -> Option<JsError> {
        self.failure.take()
    }

    /// The whole sound.
    pub(crate) fn finish(self) -> Result<Waveform, JsError> {
        let rate = self.rate();
        Waveform::new(self.sound, rate).map_err(failed)
    }
}
