//! Steps, whatever the task.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    TrainError,
    parameters::{NamedTensor, Parameters, TrainState, Update, read},
};
use crate::checkpoint::{LoadError, Weights};

/// What a model is trained for.
pub trait Task {
    /// What one step sees.
    type Batch;

    /// Names and shapes of all tensors.
    ///
    /// # Errors
    /// [`LoadError::Config`] if the model cannot be built.
    fn names(&self, device: &Device) -> Result<BTreeMap<String, Vec<usize>>, LoadError>;

    /// Whether the optimiser changes the tensor `name`.
    fn trains(&self, name: &str) -> bool;

    /// What the tensor `name` begins as, where it is not as [`Weights::random`] draws it.
    fn initial(&self, _name: &str, _shape: &[usize], _seed: u64) -> Option<Vec<f32>> {
        None
    }

    /// The loss of the model that `weights` make.
    ///
    /// # Errors
    /// [`LoadError`] if they make none.
    fn loss(&self, weights: &Weights, batch: &Self::Batch, key: StepKey) -> Result<Outcome, LoadError>;
}

/// Which step this is: all that is drawn at random in it follows from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepKey {
    /// Seed of the training.
    pub seed: u64,
    /// Steps before this one.
    pub step: usize,
}

impl StepKey {
    /// Random numbers of this step, others for every `purpose`.
    pub fn random(&self, purpose: &str) -> ChaCha8Rng {
        let hash = Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(self.step.to_le_bytes());
        ChaCha8Rng::from_seed(hash.chain_update(purpose).finalize().into())
    }
}

/// What a task finds out in one step.
pub struct Outcome {
    /// What is made smaller; `[1]`.
    pub loss: Tensor<1>,
    /// Its parts and other numbers to report; `[1]` each.
    pub terms: Vec<(String, Tensor<1>)>,
    /// New values of tensors that are kept up without a gradient.
    pub upkeep: Vec<(String, Tensor<1>)>,
}

/// How the optimiser goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimiser {
    /// Highest learning rate.
    pub rate: f64,
    /// Share of it that is left at the end of the cosine.
    pub final_share: f64,
    /// Steps in which it rises to the highest.
    pub warm_up: usize,
    /// Decays of the two running means.
    pub betas: [f64; 2],
    /// Decay of matrices.
    pub weight_decay: f64,
    /// Largest norm of the gradient.
    pub clip: f64,
    /// Decay of the mean of the weights.
    pub average: f64,
}

impl Optimiser {
    /// The learning rate of `step` out of `steps`: a straight rise, then half a cosine.
    pub fn rate_at(&self, step: usize, steps: usize) -> f64 {
        if step < self.warm_up {
            return self.rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let share = (step - self.warm_up) as f64 / steps.saturating_sub(self.warm_up).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * share.min(1.0)).cos());
        self.rate * (self.final_share + (1.0 - self.final_share) * cosine)
    }
}

/// What one step came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// The step, from 0.
    pub step: usize,
    /// What was made smaller.
    pub loss: f64,
    /// Its parts and other numbers.
    pub terms: BTreeMap<String, f64>,
    /// Norm of the gradient before it was shortened.
    pub gradient: f64,
    /// Learning rate.
    pub rate: f64,
}

/// A task, its parameters, and where it stands.
pub struct Trainer<T> {
    /// The task.
    pub task: T,
    /// Its tensors.
    pub parameters: Parameters,
    optimiser: Optimiser,
    steps: usize,
    key: StepKey,
}

impl<T: Task> Trainer<T> {
    /// A training of `steps` steps that has not begun.
    ///
    /// # Errors
    /// [`LoadError`] if the model cannot be built.
    pub fn new(task: T, optimiser: Optimiser, steps: usize, seed: u64, device: &Device) -> Result<Self, LoadError> {
        let names = task.names(&device.clone().inner())?;
        let parameters = Parameters::random(
            &names,
            |name| task.trains(name),
            |name, shape| task.initial(name, shape, seed),
            seed,
            device,
        )?;
        Ok(Self { task, parameters, optimiser, steps, key: StepKey { seed, step: 0 } })
    }

    /// The step that comes next.
    pub fn key(&self) -> StepKey {
        self.key
    }

    /// Steps in all.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Takes one step.
    ///
    /// # Errors
    /// [`TrainError`]; the parameters are then as they were.
    pub async fn step(&mut self, batch: &T::Batch) -> Result<StepReport, TrainError> {
        let StepKey { step, .. } = self.key;
        let leaves = self.parameters.leaves();
        let device = self.parameters.device().clone().autodiff();
        let Outcome { loss, terms, upkeep } =
            self.task.loss(&Weights::given(leaves.clone(), &device), batch, self.key)?;
        let mut gradients = loss.backward();
        let (loss, terms) = numbers(loss, terms).await?;
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { step, what: "the loss".to_owned(), value: loss });
        }
        let rate = self.optimiser.rate_at(step, self.steps);
        let Optimiser { betas, weight_decay, clip, average, .. } = self.optimiser;
        let how = Update { rate, betas, weight_decay, clip, average };
        let gradient = self.parameters.update(step, &leaves, &mut gradients, &how).await?;
        for (name, values) in upkeep {
            self.parameters.set(&name, values)?;
        }
        self.key.step += 1;
        Ok(StepReport { step, loss, terms, gradient, rate })
    }

    /// The loss and its parts on `batch` by the running means of the weights; nothing changes.
    ///
    /// # Errors
    /// [`TrainError`].
    pub async fn evaluate(&self, batch: &T::Batch) -> Result<BTreeMap<String, f64>, TrainError> {
        let Outcome { loss, terms, .. } = self.task.loss(&self.weights(), batch, self.key)?;
        let (loss, mut terms) = numbers(loss, terms).await?;
        terms.insert("loss".to_owned(), loss);
        Ok(terms)
    }

    /// The running means, for a model's constructor.
    pub fn weights(&self) -> Weights {
        Weights::given(self.parameters.averages(), self.parameters.device())
    }

    /// Everything that is needed to go on.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub async fn save(&self) -> Result<Vec<u8>, TrainError> {
        self.parameters.to_bytes(TrainState { step: self.key.step, seed: self.key.seed }).await
    }

    /// Goes on from what [`Self::save`] gave.
    ///
    /// # Errors
    /// [`TrainError::State`] if it is of another training.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), TrainError> {
        let TrainState { step, seed } = self.parameters.restore(bytes)?;
        if seed != self.key.seed {
            return Err(TrainError::State(format!("its seed is {seed}, this one's is {}", self.key.seed)));
        }
        self.key.step = step;
        Ok(())
    }

    /// The finished tensors: the running means.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub async fn export(&self) -> Result<Vec<NamedTensor>, TrainError> {
        self.parameters.export().await
    }
}

/// A loss and its terms, read in one piece.
async fn numbers(loss: Tensor<1>, terms: Vec<(String, Tensor<1>)>) -> Result<(f64, BTreeMap<String, f64>), TrainError> {
    let (names, tensors): (Vec<_>, Vec<_>) = terms.into_iter().unzip();
    let all = std::iter::once(loss).chain(tensors).map(Tensor::inner).collect();
    let values = read(Tensor::cat(all, 0)).await?;
    Ok((f64::from(values[0]), names.into_iter().zip(values[1..].iter().copied().map(f64::from)).collect()))
}
