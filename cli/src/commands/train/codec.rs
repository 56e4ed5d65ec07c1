//! Training a codec.

use std::io::Write as _;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor, TensorData};
use tonoscope_core::{
    audio::Waveform,
    corpus::Split,
    models::encodec::{Encodec, EncodecConfig},
    training::{CodecTask, CodecWeights, NamedTensor, StepKey, Trainer},
};

use super::{Study, settings::Settings, source::{Source, Which}};

/// Held-out clips that are written down at every look.
const LISTENED: usize = 4;

/// A codec and the sound that it learns from.
pub(super) struct CodecStudy {
    settings: Settings,
    config: EncodecConfig,
    loss: CodecWeights,
    source: Source,
    device: Device,
}

impl CodecStudy {
    pub(super) fn new(
        settings: &Settings,
        loss: &CodecWeights,
        config: &EncodecConfig,
        device: &Device,
    ) -> Result<Self> {
        let source = Source::open(settings, config.sampling_rate)?;
        let (settings, config, loss) = (settings.clone(), config.clone(), loss.clone());
        Ok(Self { settings, config, loss, source, device: device.clone() })
    }

    /// Clips `first..` of a part of the music: `[clip, 1, sample]`, whole frames.
    fn clips(&self, split: Split, first: usize, count: usize) -> Tensor<3> {
        let hop = self.config.hop_length();
        let samples = (self.settings.seconds * f64::from(self.config.sampling_rate)) as usize / hop * hop;
        let passage = |index| self.source.passage(Which { split, index }, samples);
        let sound: Vec<f32> = (first..first + count).flat_map(passage).collect();
        Tensor::from_data(TensorData::new(sound, [count, 1, samples]), &self.device)
    }
}

impl Study for CodecStudy {
    type Task = CodecTask;

    fn task(&self) -> CodecTask {
        CodecTask::new(self.config.clone(), self.loss.clone(), &self.device)
    }

    fn batch(&self, key: StepKey) -> Result<Tensor<3>> {
        Ok(self.clips(Split::Training, key.step * self.settings.batch, self.settings.batch))
    }

    fn held_out(&self) -> Result<Tensor<3>> {
        Ok(self.clips(Split::Validation, 0, self.settings.held_out))
    }

    fn listen(&self, trainer: &Trainer<CodecTask>) -> Result<Vec<(String, Waveform)>> {
        let codec = Encodec::load(&self.config, &trainer.weights())?;
        let wanted = self.clips(Split::Validation, 0, self.settings.held_out.min(LISTENED));
        let heard = codec.decode(codec.encode(wanted.clone()));
        let mut sounds = vec![];
        for (name, sound) in [("original", wanted), ("codec", heard)] {
            let [clips, _, samples] = sound.dims();
            let values = pollster::block_on(sound.into_data_async())?.try_to_vec::<f32>().unwrap_or_default();
            for (index, clip) in values.chunks_exact(samples).enumerate().take(clips) {
                let wave = Waveform::new(vec![clip.to_vec()], self.config.sampling_rate)?;
                sounds.push((format!("{index}_{name}"), wave));
            }
        }
        Ok(sounds)
    }

    fn files(&self, tensors: Vec<NamedTensor>) -> Result<(Vec<NamedTensor>, Vec<(String, Vec<u8>)>)> {
        let mut config = serde_json::to_value(&self.config)?;
        config["model_type"] = "encodec".into();
        config["architectures"] = serde_json::json!(["EncodecModel"]);
        let mut text = vec![];
        writeln!(text, "{}", serde_json::to_string_pretty(&config)?).context("cannot write `config.json`")?;
        Ok((CodecTask::exported(tensors), vec![("config.json".to_owned(), text)]))
    }
}
