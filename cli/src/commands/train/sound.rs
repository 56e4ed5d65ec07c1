//! Training a model that gives back the sound that it is given.

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use tonoscope_core::{
    audio::{Waveform, mel_distance, si_sdr},
    checkpoint::Weights,
    corpus::Split,
    training::{NamedTensor, StepKey, Task, Trainer},
};

use super::{
    Look, ModelFile, Study,
    settings::Settings,
    source::{Source, Which},
    values,
};
use crate::failure::Misuse;

/// Held-out clips that are written down at every look.
const LISTENED: usize = 4;

/// What differs from one such model to another.
pub(super) trait SoundModel {
    type Task: Task<Batch = Tensor<3>>;

    /// Its name in file names.
    const NAME: &str;

    /// Where the finished model has its weights, as [`Study::weight_files`] says it.
    const WEIGHTS: &[(&str, &str)];

    fn task(&self, device: &Device) -> Self::Task;

    /// Samples per second, samples per frame, and channels.
    fn shape(&self) -> (u32, usize, usize);

    /// Sound after the model that `weights` make: `[clip, 1, sample]`.
    fn through(&self, weights: &Weights, sound: Tensor<3>) -> Result<Tensor<3>>;

    /// What the finished model's folder holds.
    fn files(&self, tensors: Vec<NamedTensor>) -> Result<Vec<ModelFile>>;
}

/// Such a model, and the sound that it learns from.
pub(super) struct SoundStudy<M> {
    settings: Settings,
    model: M,
    source: Source,
    device: Device,
}

impl<M: SoundModel> SoundStudy<M> {
    pub(super) fn new(settings: &Settings, model: M, device: &Device) -> Result<Self> {
        let (rate, hop, channels) = model.shape();
        if channels != 1 {
            return Err(Misuse::new(format!("`audio_channels` is {channels}, the music has one")).into());
        }
        let samples = settings.seconds * f64::from(rate);
        if !(1_000..=192_000).contains(&rate) || !(1.0..=samples).contains(&(hop as f64)) {
            let what =
                format!("{rate} samples per second, of which a frame has {hop}, of clips of {} s", settings.seconds);
            return Err(Misuse::new(what).hint("expected 1000 to 192000 samples, and frames within a clip").into());
        }
        Ok(Self { settings: settings.clone(), model, source: Source::open(settings, rate)?, device: device.clone() })
    }

    /// Clips `first..` of a part of the music: `[clip, 1, sample]`, whole frames.
    fn clips(&self, split: Split, first: usize, count: usize) -> Tensor<3> {
        let (rate, hop, _) = self.model.shape();
        let samples = (self.settings.seconds * f64::from(rate)) as usize / hop * hop;
        let passage = |index| self.source.passage(Which { split, index }, samples);
        let sound: Vec<f32> = (first..first + count).flat_map(passage).collect();
        Tensor::from_data(TensorData::new(sound, [count, 1, samples]), &self.device)
    }
}

impl<M: SoundModel> Study for SoundStudy<M> {
    type Task = M::Task;

    fn task(&self) -> M::Task {
        self.model.task(&self.device)
    }

    fn weight_files(&self) -> &'static [(&'static str, &'static str)] {
        M::WEIGHTS
    }

    fn batch(&self, key: StepKey) -> Result<Tensor<3>> {
        Ok(self.clips(Split::Training, key.step * self.settings.batch, self.settings.batch))
    }

    fn held_out(&self) -> Result<Tensor<3>> {
        Ok(self.clips(Split::Validation, 0, self.settings.held_out))
    }

    fn listen(&self, trainer: &Trainer<M::Task>) -> Result<Look> {
        let weights = trainer.weights();
        let (rate, ..) = self.model.shape();
        let mut look = Look::default();
        let (mut distances, mut ratios) = (vec![], vec![]);
        for index in 0..self.settings.held_out {
            let wanted = self.clips(Split::Validation, index, 1);
            let heard = self.model.through(&weights, wanted.clone())?;
            let [wanted, heard] = [values(wanted)?, values(heard)?];
            distances.extend(mel_distance(&heard, &wanted, rate));
            ratios.extend(si_sdr(&heard, &wanted));
            if index < LISTENED {
                look.sounds.push((format!("{index}_original"), Waveform::new(vec![wanted], rate)?));
                look.sounds.push((format!("{index}_{}", M::NAME), Waveform::new(vec![heard], rate)?));
            }
        }
        for (name, values) in [("mel_distance_db", distances), ("si_sdr_db", ratios)] {
            if !values.is_empty() {
                look.numbers.insert(name.to_owned(), values.iter().sum::<f64>() / values.len() as f64);
            }
        }
        Ok(look)
    }

    fn files(&self, tensors: Vec<NamedTensor>) -> Result<Vec<ModelFile>> {
        self.model.files(tensors)
    }
}
