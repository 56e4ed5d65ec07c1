//! Training a codec.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor, TensorData};
use tonoscope_core::{
    audio::{Waveform, mel_distance, si_sdr},
    checkpoint::{Placement, SafetensorsFile, Weights},
    corpus::Split,
    models::encodec::{Encodec, EncodecConfig},
    training::{CodecTask, CodecWeights, NamedTensor, StepKey, Trainer},
};

use super::{
    Files, Look, Study, samples,
    settings::Settings,
    source::{Source, Which},
};

/// Held-out clips that are written down at every look.
const LISTENED: usize = 4;

/// A codec that was trained before.
pub(super) struct Codec {
    pub(super) config: EncodecConfig,
    pub(super) model: Encodec,
    /// The file of its weights.
    pub(super) file: PathBuf,
}

impl Codec {
    /// Opens the folder of a codec.
    pub(super) fn open(folder: &Path, device: &Device) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let config = serde_json::from_str(&text).with_context(|| format!("`{}`", path.display()))?;
        let file = folder.join("model.safetensors");
        let model = Encodec::load(&config, &Self::weights(&file, device)?)?;
        Ok(Self { config, model, file })
    }

    /// The weights in `file`, as plain tensors.
    pub(super) fn weights(file: &Path, device: &Device) -> Result<Weights> {
        Ok(Weights::new(Box::new(SafetensorsFile::open(file)?), Placement::plain(device)))
    }
}

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

    fn listen(&self, trainer: &Trainer<CodecTask>) -> Result<Look> {
        let codec = Encodec::load(&self.config, &trainer.weights())?;
        let rate = self.config.sampling_rate;
        let mut look = Look::default();
        let (mut distances, mut ratios) = (vec![], vec![]);
        for index in 0..self.settings.held_out {
            let wanted = self.clips(Split::Validation, index, 1);
            let heard = codec.decode(codec.encode(wanted.clone()));
            let [wanted, heard] = [samples(wanted)?, samples(heard)?];
            distances.extend(mel_distance(&heard, &wanted, rate));
            ratios.extend(si_sdr(&heard, &wanted));
            if index < LISTENED {
                look.sounds.push((format!("{index}_original"), Waveform::new(vec![wanted], rate)?));
                look.sounds.push((format!("{index}_codec"), Waveform::new(vec![heard], rate)?));
            }
        }
        for (name, values) in [("mel_distance_db", distances), ("si_sdr_db", ratios)] {
            if !values.is_empty() {
                look.numbers.insert(name.to_owned(), values.iter().sum::<f64>() / values.len() as f64);
            }
        }
        Ok(look)
    }

    fn files(&self, tensors: Vec<NamedTensor>) -> Result<Files> {
        let mut config = serde_json::to_value(&self.config)?;
        config["model_type"] = "encodec".into();
        config["architectures"] = serde_json::json!(["EncodecModel"]);
        let mut text = vec![];
        writeln!(text, "{}", serde_json::to_string_pretty(&config)?).context("cannot write `config.json`")?;
        Ok((CodecTask::exported(tensors), vec![("config.json".to_owned(), text)]))
    }
}
