//! Named tensors in training: their values, running means, and what the optimiser remembers of them.

use std::{collections::BTreeMap, sync::Arc};

use burn::{
    optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer},
    tensor::{Device, Gradients, Tensor, TensorData},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::TrainError;
use crate::checkpoint::{GivenTensor, LoadError, Placement, Source, Weights, to_f32};

/// One tensor on the host: name, shape, values in row-major order.
pub type NamedTensor = (String, Vec<usize>, Vec<f32>);

/// All tensors of a model in training.
pub struct Parameters {
    entries: BTreeMap<String, Parameter>,
    device: Device,
}

struct Parameter {
    shape: Vec<usize>,
    /// Without autodiff; flat, since the optimiser asks for no shape.
    value: Tensor<1>,
    average: Tensor<1>,
    moments: Option<AdamWState<1>>,
    trained: bool,
    /// The values on the host, of what neither the optimiser nor a step changes.
    host: Option<Arc<[f32]>>,
}

impl Parameter {
    fn given(&self, values: Tensor<1>) -> GivenTensor {
        GivenTensor { values, shape: self.shape.clone(), host: self.host.clone() }
    }
}

/// How [`Parameters::update`] changes them.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    /// Learning rate.
    pub rate: f64,
    /// Decay of the mean of gradients, and of that of their squares.
    pub betas: [f64; 2],
    /// Share of a matrix that is taken away per unit of learning rate; vectors keep theirs.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; longer ones are shortened to it.
    pub clip: f64,
    /// Share of the running mean of the values that stays.
    pub average: f64,
}

/// Where a training stands, as [`Parameters::to_bytes`] writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainState {
    /// Steps that were taken.
    pub step: usize,
    /// Seed of the training.
    pub seed: u64,
}

impl Parameters {
    /// Tensors of these names and shapes, with what `initial` says of a name, else drawn as [`Weights::random`] draws them;
    /// those that are not `trained` belong to the model, but the optimiser leaves them alone.
    ///
    /// # Errors
    /// None that a caller causes: those of [`Weights::values`].
    pub fn random(
        names: &BTreeMap<String, Vec<usize>>,
        trained: impl Fn(&str) -> bool,
        initial: impl Fn(&str, &[usize]) -> Option<Vec<f32>>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, LoadError> {
        let device = device.clone().inner();
        let weights = Weights::random(seed, Placement::plain(&device));
        let mut entries = BTreeMap::new();
        for (name, shape) in names {
            let values = initial(name, shape).map_or_else(|| weights.values(name, shape), Ok)?;
            let trained = trained(name);
            let host = (!trained).then(|| values.as_slice().into());
            let value = Tensor::<1>::from_data(TensorData::new(values, [shape.iter().product::<usize>()]), &device);
            let (shape, average) = (shape.clone(), value.clone());
            entries.insert(name.clone(), Parameter { shape, value, average, moments: None, trained, host });
        }
        Ok(Self { entries, device })
    }

    /// Elements of all tensors that are trained.
    pub fn trained_elements(&self) -> usize {
        let trained = self.entries.values().filter(|parameter| parameter.trained);
        trained.map(|parameter| parameter.shape.iter().product::<usize>()).sum()
    }

    /// Tensors, trained or not.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The device, without autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The values for one step: those that are trained remember what is computed of them.
    pub fn leaves(&self) -> BTreeMap<String, GivenTensor> {
        let leaf = |parameter: &Parameter| {
            let value = parameter.value.clone();
            parameter.given(if parameter.trained { value.autodiff().require_grad() } else { value })
        };
        self.entries.iter().map(|(name, parameter)| (name.clone(), leaf(parameter))).collect()
    }

    /// The running means, to listen to and to keep.
    pub fn averages(&self) -> BTreeMap<String, GivenTensor> {
        let given = |parameter: &Parameter| parameter.given(parameter.average.clone());
        self.entries.iter().map(|(name, parameter)| (name.clone(), given(parameter))).collect()
    }

    /// Moves the running means towards `others`, of which they then have this share: between a model and what it became when
    /// it learnt something more lies one that can do both.
    ///
    /// Source: M. Wortsman et al., "Robust fine-tuning of zero-shot models", 2022.
    pub fn mix(&mut self, others: &BTreeMap<String, GivenTensor>, share: f64) {
        for (name, parameter) in &mut self.entries {
            if let Some(other) = others.get(name).filter(|_| parameter.trained) {
                parameter.average = parameter.average.clone() * (1.0 - share) + other.values.clone() * share;
            }
        }
    }

    /// Takes other values for the tensor `name`, also as its mean.
    ///
    /// # Errors
    /// [`TrainError::State`] if there is none of this name and length.
    pub fn set(&mut self, name: &str, values: Tensor<1>) -> Result<(), TrainError> {
        let fits = |parameter: &&mut Parameter| parameter.value.dims() == values.dims();
        let found = self.entries.get_mut(name).filter(fits);
        let parameter = found.ok_or_else(|| TrainError::State(format!("`{name}` is missing or of another size")))?;
        parameter.value = values.clone().inner();
        parameter.average = values.inner();
        parameter.host = None;
        Ok(())
    }

    /// Takes the values of all tensors that `source` has too, such as a codec that was trained before; how many they are.
    ///
    /// # Errors
    /// [`LoadError`] if one is of another shape or cannot be read.
    pub fn take(&mut self, prefix: &str, weights: &Weights) -> Result<usize, TrainError> {
        let names: Vec<(String, Vec<usize>)> = self
            .entries
            .iter()
            .filter_map(|(name, parameter)| Some((name.strip_prefix(prefix)?.to_owned(), parameter.shape.clone())))
            .filter(|(name, _)| weights.has(name) || is_normed(weights, name))
            .collect();
        for (name, shape) in &names {
            let values = if weights.has(name) { weights.values(name, shape)? } else { normed(weights, name, shape)? };
            let (len, host) = (values.len(), values.as_slice().into());
            let values = Tensor::<1>::from_data(TensorData::new(values, [len]), &self.device);
            let name = format!("{prefix}{name}");
            self.set(&name, values)?;
            if let Some(parameter) = self.entries.get_mut(&name).filter(|parameter| !parameter.trained) {
                parameter.host = Some(host);
            }
        }
        Ok(names.len())
    }

    /// One step of `AdamW` against `gradients`; returns the norm that they had.
    ///
    /// # Errors
    /// [`TrainError::Device`]; [`TrainError::NotFinite`] if the norm is not a number, and then nothing is changed.
    pub async fn update(
        &mut self,
        step: usize,
        leaves: &BTreeMap<String, GivenTensor>,
        gradients: &mut Gradients,
        how: &Update,
    ) -> Result<f64, TrainError> {
        let mut pairs = Vec::new();
        for (name, parameter) in &mut self.entries {
            if !parameter.trained {
                continue;
            }
            // What a step does not use has no gradient, and stays.
            if let Some(gradient) = leaves.get(name).and_then(|leaf| leaf.values.grad_remove(gradients)) {
                pairs.push((parameter, gradient));
            }
        }
        let squares: Vec<Tensor<1>> =
            pairs.iter().map(|(_, gradient)| (gradient.clone() * gradient.clone()).sum()).collect();
        let norm = if squares.is_empty() { 0.0 } else { read(Tensor::cat(squares, 0).sum()).await?[0].sqrt() };
        let norm = f64::from(norm);
        if !norm.is_finite() {
            return Err(TrainError::NotFinite { step, what: "the gradient's norm".to_owned(), value: norm });
        }
        let shorten = if norm > how.clip { how.clip / norm } else { 1.0 };
        let adam = |decay: f64| -> AdamW {
            AdamWConfig::new()
                .with_beta_1(how.betas[0] as f32)
                .with_beta_2(how.betas[1] as f32)
                .with_epsilon(1e-8)
                .with_weight_decay(decay as f32)
                .build()
        };
        let (matrices, vectors) = (adam(how.weight_decay), adam(0.0));
        // Early on the values change faster than a slow mean could follow.
        let keep = how.average.min((1 + step) as f64 / (10 + step) as f64);
        for (parameter, gradient) in pairs {
            let gradient = if shorten < 1.0 { gradient * shorten } else { gradient };
            let adam = if parameter.shape.len() > 1 { &matrices } else { &vectors };
            let (value, moments) = adam.step(how.rate, parameter.value.clone(), gradient, parameter.moments.take());
            parameter.average = parameter.average.clone() * keep + value.clone() * (1.0 - keep);
            (parameter.value, parameter.moments) = (value, moments);
        }
        Ok(norm)
    }

    /// The running means on the host.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub async fn export(&self) -> Result<Vec<NamedTensor>, TrainError> {
        let mut tensors = Vec::with_capacity(self.entries.len());
        for (name, parameter) in &self.entries {
            tensors.push((name.clone(), parameter.shape.clone(), read(parameter.average.clone()).await?));
        }
        Ok(tensors)
    }

    /// Everything that a training needs to go on, as a safetensors file.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub async fn to_bytes(&self, state: TrainState) -> Result<Vec<u8>, TrainError> {
        let mut stored: Vec<(String, Vec<u8>)> = Vec::new();
        let mut times = BTreeMap::new();
        for (name, parameter) in &self.entries {
            let mut parts = vec![("value", parameter.value.clone()), ("average", parameter.average.clone())];
            if let Some(AdamWState { momentum }) = &parameter.moments {
                parts.extend([("moment_1", momentum.moment_1.clone()), ("moment_2", momentum.moment_2.clone())]);
                times.insert(name.clone(), momentum.time);
            }
            for (part, tensor) in parts {
                let bytes = read(tensor).await?.into_iter().flat_map(f32::to_le_bytes).collect();
                stored.push((format!("{part}/{name}"), bytes));
            }
        }
        let wrong = |error: &dyn std::fmt::Display| TrainError::State(error.to_string());
        let view = |bytes| TensorView::new(Dtype::F32, vec![<[u8]>::len(bytes) / 4], bytes);
        let views = stored.iter().map(|(name, bytes)| Ok((name.as_str(), view(bytes)?)));
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>().map_err(|error| wrong(&error))?;
        let times = serde_json::to_string(&times).map_err(|error| wrong(&error))?;
        let facts = [("step", state.step.to_string()), ("seed", state.seed.to_string()), ("times", times)];
        let facts = facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect();
        safetensors::serialize(views, Some(facts)).map_err(|error| wrong(&error))
    }

    /// Takes back what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`TrainError::State`] if it is of another model, or damaged.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<TrainState, TrainError> {
        let wrong = |what: String| TrainError::State(what);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| wrong(error.to_string()))?;
        let facts = header.metadata().clone().unwrap_or_default();
        let fact = |name: &str| facts.get(name).ok_or_else(|| wrong(format!("it does not say `{name}`")));
        let step = fact("step")?.parse().map_err(|_| wrong("`step` is no number".to_owned()))?;
        let seed = fact("seed")?.parse().map_err(|_| wrong("`seed` is no number".to_owned()))?;
        let times: BTreeMap<String, usize> =
            serde_json::from_str(fact("times")?).map_err(|error| wrong(error.to_string()))?;
        let file = crate::checkpoint::SafetensorsFile::from_bytes("state", bytes.to_vec())?;
        let device = self.device.clone();
        let values = |part: &str, name: &str, len: usize| -> Result<Vec<f32>, TrainError> {
            let raw = file.read(&format!("{part}/{name}"))?;
            if raw.shape != [len] || raw.dtype != Dtype::F32 {
                return Err(wrong(format!("`{name}` is of another size")));
            }
            Ok(to_f32(&raw))
        };
        let part = |part: &str, name: &str, len: usize| -> Result<Tensor<1>, TrainError> {
            Ok(Tensor::from_data(TensorData::new(values(part, name, len)?, [len]), &device))
        };
        for (name, parameter) in &mut self.entries {
            let len = parameter.shape.iter().product();
            parameter.value = part("value", name, len)?;
            parameter.average = part("average", name, len)?;
            parameter.host = if parameter.trained { None } else { Some(values("value", name, len)?.into()) };
            parameter.moments = match times.get(name) {
                Some(&time) => {
                    let (first, second) = (part("moment_1", name, len)?, part("moment_2", name, len)?);
                    Some(AdamWState::new(AdaptiveMomentumState::new(time, first, second)))
                }
                None => None,
            };
        }
        Ok(TrainState { step, seed })
    }
}

/// A tensor's values on the host.
pub(super) async fn read(tensor: Tensor<1>) -> Result<Vec<f32>, TrainError> {
    let data = tensor.inner().into_data_async().await.map_err(|error| TrainError::Device(format!("{error:?}")))?;
    data.convert::<f32>().try_to_vec().map_err(|error| TrainError::Device(format!("{error:?}")))
}

/// The layer of a convolution's `name`, `….weight`.
fn layer(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

/// Whether `weights` has the tensor `name` as a direction and lengths.
fn is_normed(weights: &Weights, name: &str) -> bool {
    let directions = ["parametrizations.weight.original1", "weight_v"];
    name.ends_with(".weight") && directions.iter().any(|direction| weights.sub(layer(name)).has(direction))
}

/// What a direction and lengths make.
fn normed(weights: &Weights, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
    let shape = [shape[0], shape[1], shape[2]];
    crate::nn::folded(&weights.sub(layer(name)), shape)
}

/// `tensors` with the weights of convolutions as their lengths and directions, under the two names that `spelling` has for a
/// weight's; what it has none for stays.
pub(super) fn weight_normed(
    tensors: Vec<NamedTensor>,
    spelling: impl Fn(&str) -> Option<[String; 2]>,
) -> Vec<NamedTensor> {
    let spelled = |(name, shape, values): NamedTensor| match spelling(&name).filter(|_| shape.len() == 3) {
        Some([lengths_name, directions_name]) => {
            let length = |row: &[f32]| row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt() as f32;
            let lengths = values.chunks_exact(shape[1] * shape[2]).map(length).collect();
            vec![(lengths_name, vec![shape[0], 1, 1], lengths), (directions_name, shape, values)]
        }
        None => vec![(name, shape, values)],
    };
    tensors.into_iter().flat_map(spelled).collect()
}

/// `values` in 16 bits, as a checkpoint stores them.
pub fn half_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect()
}
