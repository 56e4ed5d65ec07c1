//! `PaSST`, the audio classifier that judges what was generated.
//!
//! Reference: `PasstBasicWrapper`, hear21passt 0.0.26, wrapper.py (Apache-2.0); the model is that of Koutini et al.,
//! "Efficient Training of Audio Transformers with Patchout", 2022. Differs: clips that are too short for one patch, or
//! hold NaN or infinities, are errors.

mod config;
mod described;
mod heard;
mod labels;
mod mel;
mod vit;

use burn::tensor::{DType, Device, ExecutionError, Tensor, TensorData};

pub use config::PasstConfig;
pub use heard::UnheardError;
pub use labels::{Label, Labels, UnknownLabel};
pub use mel::{MelConfig, MelFrontEnd};
pub use vit::{Vit, VitOutput};

#[cfg(not(target_arch = "wasm32"))]
use crate::checkpoint::{open_file, unwrapped};
use crate::{
    audio::mirrored,
    checkpoint::{LoadError, Placement, Source, Weights},
    hooks::Hooks,
    metrics::{sigmoid, softmax},
};

/// Elements of one block's attention weights that a batch may have: 256 MB in 32 bit.
const PATTERN_ELEMENTS: usize = 1 << 26;

/// Audio that cannot be classified.
#[derive(Debug, thiserror::Error)]
pub enum PasstError {
    /// Less audio than one patch needs.
    #[error("clip {clip} has {samples} samples, `PaSST` needs at least {least} ({ms} ms)")]
    TooShort {
        /// Index of the clip.
        clip: usize,
        /// Its samples.
        samples: usize,
        /// Samples of the shortest clip.
        least: usize,
        /// The same in ms, rounded up.
        ms: usize,
    },
    /// A sample that is NaN or infinite.
    #[error("clip {clip} is not a number at sample {sample}")]
    NotFinite {
        /// Index of the clip.
        clip: usize,
        /// Index of the first such sample.
        sample: usize,
    },
    /// Scores that are not numbers: the range of the activations' type is too small.
    #[error("the scores of clip {clip} are not finite")]
    Overflow {
        /// Index of the clip.
        clip: usize,
    },
    /// The device failed.
    #[error("the device failed while classifying")]
    Device(#[source] ExecutionError),
}

/// What the classifier says about one clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    /// Score of every class before softmax or sigmoid; of a long clip, the mean over its windows.
    pub logits: Vec<f32>,
    /// Last hidden features; of a long clip, the mean over its windows.
    pub features: Vec<f32>,
}

impl Classified {
    /// Probabilities that sum to one: the classes compete, as in the paper's scores.
    pub fn softmax(&self) -> Vec<f64> {
        softmax(&self.wide())
    }

    /// Each class's own probability, as the model was trained: several may be present.
    pub fn sigmoid(&self) -> Vec<f64> {
        self.wide().into_iter().map(sigmoid).collect()
    }

    /// Class indices from the most to the least likely; equal ones by index.
    pub fn ranking(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.logits.len()).collect();
        order.sort_by(|&a, &b| self.logits[b].total_cmp(&self.logits[a]));
        order
    }

    fn wide(&self) -> Vec<f64> {
        self.logits.iter().map(|&logit| f64::from(logit)).collect()
    }
}

/// Front end and network.
#[derive(Debug, Clone)]
pub struct Passt {
    config: PasstConfig,
    mel: MelFrontEnd,
    net: Vit,
    device: Device,
}

/// A stretch of a clip: what is classified in one piece.
struct Window {
    clip: usize,
    /// First sample, counted in the clip with `pad` more samples at either end.
    start: usize,
    pad: usize,
    samples: usize,
}

impl Passt {
    /// Opens the release file (`.pt`) or a `.safetensors` of the same names.
    ///
    /// # Errors
    /// [`LoadError`] if the file cannot be read or is not that of a model of this shape.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: &std::path::Path, config: &PasstConfig, placement: Placement) -> Result<Self, LoadError> {
        Self::from_source(Self::source(path)?, config, placement)
    }

    /// The tensors of such a file, not read yet.
    ///
    /// # Errors
    /// [`LoadError`] if the file cannot be read.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn source(path: &std::path::Path) -> Result<Box<dyn Source>, LoadError> {
        Ok(unwrapped(open_file(path)?, &["cls_token"]))
    }

    /// Places all tensors of `source`, which holds those of one model and no others.
    ///
    /// # Errors
    /// [`LoadError`] if they are not those of a model of this shape.
    pub fn from_source(source: Box<dyn Source>, config: &PasstConfig, placement: Placement) -> Result<Self, LoadError> {
        let weights = Weights::finite(source, placement);
        let passt = Self::load(config, &weights)?;
        weights.finish()?;
        Ok(passt)
    }

    /// Takes the tensors of the release file, or of a file with hear21passt's wrapper around it (prefix `net.`).
    ///
    /// The second head (`head_dist`) is in these files and not used. Call [`Weights::finish`] to be told what else is not.
    ///
    /// # Errors
    /// [`LoadError`] if the configuration contradicts itself or a tensor is missing or of another shape.
    pub fn load(config: &PasstConfig, weights: &Weights) -> Result<Self, LoadError> {
        if let Some(reason) = config.contradiction() {
            return Err(LoadError::Config { path: "PaSST".into(), reason });
        }
        let wrapped = weights.sub("net");
        let net = if wrapped.has("cls_token") {
            weights.ignore("device_proxy");
            wrapped
        } else {
            weights.clone()
        };
        Ok(Self {
            config: config.clone(),
            mel: MelFrontEnd::new(&config.mel),
            net: Vit::load(config, &net)?,
            device: weights.device().clone(),
        })
    }

    /// Shape of the model.
    pub fn config(&self) -> &PasstConfig {
        &self.config
    }

    /// The network behind the front end, with its hook points.
    pub fn net(&self) -> &Vit {
        &self.net
    }

    /// Normalised log-mel spectrograms of clips of one length, as [`Vit::forward`] takes them.
    ///
    /// # Shapes and units
    /// - `clips`: mono, −1 to 1, at `config.mel.sr` Hz
    /// - result: `[clip, 1, band, frame]`, in the device's default float type
    ///
    /// # Panics
    /// If the clips differ in length or are too short to be reflected.
    pub fn spectrograms(&self, clips: &[impl AsRef<[f32]>]) -> Tensor<4> {
        let values: Vec<f32> = clips.iter().flat_map(|clip| self.mel.log_mel(clip.as_ref())).collect();
        let bands = self.config.mel.n_mels;
        let shape = [clips.len(), 1, bands, values.len() / (bands * clips.len()).max(1)];
        let float = self.device.settings().float_dtype.into();
        Tensor::from_data(TensorData::new(values, shape).convert_dtype(float), &self.device)
    }

    /// Classifies mono clips at `config.mel.sr` Hz, −1 to 1.
    ///
    /// A clip of up to `max_model_window` (10 s) is classified in one piece. Of a longer one, windows of that length
    /// every `scene_hop` (2.5 s) are, from a clip that is mirrored by half a window at both ends, and the mean is
    /// returned: hear21passt's `get_scene_embeddings`. A clip's result does not depend on the others.
    ///
    /// # Errors
    /// [`PasstError`] if a clip is too short or not finite, its scores are not finite, or the device fails.
    pub async fn classify(&self, clips: &[&[f32]]) -> Result<Vec<Classified>, PasstError> {
        for (clip, samples) in clips.iter().enumerate() {
            self.check(clip, samples)?;
        }
        let windows: Vec<Window> =
            clips.iter().enumerate().flat_map(|(clip, samples)| self.windows(clip, samples.len())).collect();
        let mut sums: Vec<Sum> = clips.iter().map(|_| Sum::default()).collect();
        let mut rest = windows.as_slice();
        while let Some(first) = rest.first() {
            let most = self.rows_at_once(first.samples);
            let equal = rest.iter().take(most).take_while(|window| window.samples == first.samples).count();
            let (batch, later) = rest.split_at(equal);
            rest = later;
            let cut: Vec<Vec<f32>> = batch.iter().map(|window| window.cut(clips[window.clip])).collect();
            let output = self.net.forward(&mut Hooks::none(), self.spectrograms(&cut));
            let logits = read(output.logits).await?;
            let features = read(output.features).await?;
            let rows = logits.chunks(self.config.num_classes).zip(features.chunks(self.config.embed_dim));
            for (window, (logits, features)) in batch.iter().zip(rows) {
                if logits.iter().chain(features).any(|value| !value.is_finite()) {
                    return Err(PasstError::Overflow { clip: window.clip });
                }
                sums[window.clip].add(logits, features);
            }
        }
        Ok(sums.into_iter().map(Sum::mean).collect())
    }

    fn check(&self, clip: usize, samples: &[f32]) -> Result<(), PasstError> {
        let least = self.config.least_samples();
        if samples.len() < least {
            let ms = (least * 1000).div_ceil(self.config.mel.sr);
            return Err(PasstError::TooShort { clip, samples: samples.len(), least, ms });
        }
        match samples.iter().position(|sample| !sample.is_finite()) {
            Some(sample) => Err(PasstError::NotFinite { clip, sample }),
            None => Ok(()),
        }
    }

    fn windows(&self, clip: usize, len: usize) -> Vec<Window> {
        let samples = self.config.window_samples();
        if len <= samples {
            return vec![Window { clip, start: 0, pad: 0, samples: len }];
        }
        let pad = samples / 2;
        let last = len + 2 * pad - samples;
        let starts = (0..=last).step_by(self.config.hop_samples());
        starts.map(|start| Window { clip, start, pad, samples }).collect()
    }

    /// How many windows of `samples` samples go through the network together.
    fn rows_at_once(&self, samples: usize) -> usize {
        let columns = self.config.patches(self.config.mel.frames(samples));
        let tokens = 2 + self.config.grid_size()[0] * columns;
        (PATTERN_ELEMENTS / (self.config.num_heads * tokens * tokens)).max(1)
    }
}

impl Window {
    fn cut(&self, clip: &[f32]) -> Vec<f32> {
        let positions = self.start..self.start + self.samples;
        positions.map(|position| clip[mirrored(position, self.pad, clip.len())]).collect()
    }
}

/// Adds up the windows of a clip.
#[derive(Default)]
struct Sum {
    logits: Vec<f64>,
    features: Vec<f64>,
    windows: usize,
}

impl Sum {
    fn add(&mut self, logits: &[f32], features: &[f32]) {
        for (sum, values) in [(&mut self.logits, logits), (&mut self.features, features)] {
            sum.resize(values.len(), 0.0);
            sum.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        self.windows += 1;
    }

    fn mean(self) -> Classified {
        let mean = |sum: Vec<f64>| sum.into_iter().map(|sum| (sum / self.windows as f64) as f32).collect();
        Classified { logits: mean(self.logits), features: mean(self.features) }
    }
}

async fn read(tensor: Tensor<2>) -> Result<Vec<f32>, PasstError> {
    let data = tensor.cast(DType::F32).into_data_async().await.map_err(PasstError::Device)?;
    Ok(data.try_to_vec().expect("the tensor was cast to 32 bit"))
}
