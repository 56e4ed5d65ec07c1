//! Noise of a prompt's samples: drawn or recorded, and kept on the way.

use std::{collections::BTreeMap, ops::Range};

use anyhow::{Context, Result};
use burn::tensor::{DType, Device, Tensor};
use safetensors::{Dtype, tensor::TensorView};
use tonoscope_core::{
    checkpoint::SafetensorsFile,
    diffusion::{BrownianNoise, Noise, NoiseKey, RecordedNoise},
};

use super::{DiffuseArgs, plan::DiffusePlan};
use crate::{failure::Misuse, tensors};

/// Where noise comes from.
pub(super) enum NoiseSource {
    /// Drawn, by the key of each sample.
    Drawn,
    /// From a file.
    Recorded(RecordedNoise),
}

impl NoiseSource {
    /// As the command line says; what a file holds must fit the run.
    pub(super) fn open(args: &DiffuseArgs, plan: &DiffusePlan) -> Result<Self> {
        let Some(path) = &args.noise else { return Ok(Self::Drawn) };
        let within = || format!("noise of `{}`", path.display());
        let file = SafetensorsFile::open(path).with_context(within)?;
        let steps = plan.request.sampler.noises(plan.request.steps);
        let recorded =
            RecordedNoise::load(&file, plan.channels, plan.request.latent_length, steps).with_context(within)?;
        let (rows, samples, prompts) = (recorded.batch(), plan.samples, plan.prompts.len());
        if rows != samples && rows != samples * prompts {
            let what = format!(
                "noise of {rows} rows, expected {samples}, one for each sample, or {}, one for each sample of {prompts} prompts",
                samples * prompts
            );
            return Err(Misuse::new(what).hint("choose another `--noise`, or other `--samples`").into());
        }
        Ok(Self::Recorded(recorded))
    }

    /// Noise of some samples of prompt `index`.
    pub(super) fn rows(&self, plan: &DiffusePlan, index: usize, samples: Range<usize>) -> Box<dyn Noise> {
        match self {
            Self::Drawn => {
                let prompt = &plan.prompts[index];
                // A text that comes again gets other samples.
                let before = (prompt.occurrence * plan.samples) as u64;
                let key = |sample: usize| NoiseKey::new(plan.seed, &prompt.text, before + sample as u64);
                let keys: Vec<NoiseKey> = samples.map(key).collect();
                Box::new(BrownianNoise::new(&keys, plan.channels, plan.request.latent_length))
            }
            Self::Recorded(recorded) => {
                let first = if recorded.batch() == plan.samples { 0 } else { index * plan.samples };
                Box::new(recorded.rows(first + samples.start..first + samples.end))
            }
        }
    }
}

/// Noise that is remembered as it is given out.
pub(super) struct Kept {
    inner: Box<dyn Noise>,
    /// `None`: nothing is to be remembered.
    given: Option<(Vec<Tensor<3>>, Vec<Tensor<3>>)>,
}

impl Kept {
    pub(super) fn new(inner: Box<dyn Noise>, keep: bool) -> Self {
        Self { inner, given: keep.then(Default::default) }
    }

    /// What was given out, if it was to be remembered: the start, then each step's.
    pub(super) fn finish(self) -> Option<Given> {
        let (initial, steps) = self.given?;
        Some(Given { initial: initial.into_iter().next()?, steps })
    }
}

impl Noise for Kept {
    fn initial(&mut self, device: &Device) -> Tensor<3> {
        let noise = self.inner.initial(device);
        if let Some((initial, _)) = &mut self.given {
            initial.push(noise.clone());
        }
        noise
    }

    fn between(&mut self, step: usize, from: f64, to: f64, device: &Device) -> Tensor<3> {
        let noise = self.inner.between(step, from, to, device);
        if let Some((_, steps)) = &mut self.given {
            steps.push(noise.clone());
        }
        noise
    }
}

/// The noise of some samples of a prompt.
pub(super) struct Given {
    initial: Tensor<3>,
    steps: Vec<Tensor<3>>,
}

/// A file as `--noise` reads it, of the samples of a prompt in order.
pub(super) async fn to_file(parts: Vec<Given>, prompt: &str) -> Result<Vec<u8>> {
    let steps = parts.first().map_or(0, |part| part.steps.len());
    let initial = Tensor::cat(parts.iter().map(|part| part.initial.clone()).collect(), 0);
    let [rows, channels, length] = initial.dims();
    let mut all = vec![("initial", vec![rows, channels, length], bytes(initial).await?)];
    if steps > 0 {
        let mut joined = vec![];
        for step in 0..steps {
            joined.extend(bytes(Tensor::cat(parts.iter().map(|part| part.steps[step].clone()).collect(), 0)).await?);
        }
        all.push(("steps", vec![steps, rows, channels, length], joined));
    }
    let views = all.iter().map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    tensors::to_file(views.collect::<Result<_>>()?, BTreeMap::from([("prompt".to_owned(), prompt.to_owned())]))
}

/// The elements as 32-bit floats, row-major.
pub(super) async fn bytes<const D: usize>(tensor: Tensor<D>) -> Result<Vec<u8>> {
    let values: Vec<f32> = tensor.cast(DType::F32).into_data_async().await?.try_to_vec()?;
    Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}
