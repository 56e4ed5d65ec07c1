//! Fitting translators: ridge regression in closed form, accumulated run by run.

use std::collections::BTreeMap;

use burn::tensor::{DType, ExecutionError, Tensor};
use linfa_linalg::cholesky::SolveC;
use ndarray::{Array1, Array2, Axis};

use super::{LensError, TranslatorFile, check_layers, read::ResidualStreams, translate::Origin};
use crate::{
    hooks::read_floats,
    models::musicgen::{Generate, MusicGen, Text},
    nn::matmul,
};

/// Translators that cannot be fitted.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// The device failed.
    #[error("the device failed")]
    Device(#[from] ExecutionError),
    /// Nothing was observed.
    #[error("there is no run to fit translators on")]
    Nothing,
    /// A penalty that is not positive.
    #[error("the penalty of the translators must be positive, not {found}")]
    Penalty {
        /// What was asked for.
        found: f64,
    },
    /// The equations have no solution.
    #[error("the translator of layer {layer} could not be fitted: {reason}")]
    Solver {
        /// Layers that have run.
        layer: usize,
        /// What the solver said.
        reason: String,
    },
}

/// Sums over the positions that were seen, of streams from which those of the first run's mean were taken off: what is
/// large and constant in a residual stream would otherwise drown the rest in 32 bit.
struct Sums {
    offset: Tensor<2>,
    sum: Tensor<2>,
    /// `xᵀx`
    square: Tensor<2>,
    /// `xᵀy`, `y` being the last layer's stream.
    cross: Tensor<2>,
}

/// Collects what translators are fitted on.
pub struct Tuning {
    layers: Vec<usize>,
    positions: usize,
    last_offset: Option<Tensor<2>>,
    last_sum: Option<Tensor<2>>,
    sums: BTreeMap<usize, Sums>,
}

impl Tuning {
    /// For the translators of `layers`, counted by how many have run; the last layer needs none.
    ///
    /// # Errors
    /// [`LensError::Layer`] if one does not exist.
    pub fn new(model: &MusicGen, layers: &[usize]) -> Result<Self, LensError> {
        check_layers(model, layers)?;
        let all = model.config().decoder.num_hidden_layers;
        let layers = layers.iter().copied().filter(|&layer| layer < all).collect();
        Ok(Self { layers, positions: 0, last_offset: None, last_sum: None, sums: BTreeMap::new() })
    }

    /// Takes in every step, in both guidance branches, of the run that wrote `codes` for the only text in `text`.
    ///
    /// # Errors
    /// [`LensError`] if it is too long.
    pub fn observe(
        &mut self,
        model: &MusicGen,
        text: &Text,
        codes: &[Vec<u32>],
        how: &Generate,
    ) -> Result<(), LensError> {
        let streams = ResidualStreams::of(model, text, codes, how)?;
        let all = model.config().decoder.num_hidden_layers;
        let flat = |layer: usize| {
            let stream = streams.after(layer).cast(DType::F32);
            let [branches, steps, width] = stream.dims();
            stream.reshape([branches * steps, width])
        };
        let last = flat(all);
        self.positions += last.dims()[0];
        let last_offset = self.last_offset.get_or_insert_with(|| last.clone().mean_dim(0)).clone();
        let last = last - last_offset;
        let last_sum = last.clone().sum_dim(0);
        self.last_sum = Some(match self.last_sum.take() {
            Some(sum) => sum + last_sum,
            None => last_sum,
        });
        for &layer in &self.layers {
            let stream = flat(layer);
            let offset = self.sums.get(&layer).map_or_else(|| stream.clone().mean_dim(0), |sums| sums.offset.clone());
            let x = stream - offset.clone();
            let (sum, transposed) = (x.clone().sum_dim(0), x.clone().transpose());
            let product = |of: Tensor<2>| matmul(model.decoder().kernels(), transposed.clone(), of);
            let (square, cross) = (product(x), product(last.clone()));
            let sums = match self.sums.remove(&layer) {
                Some(before) => {
                    Sums { offset, sum: before.sum + sum, square: before.square + square, cross: before.cross + cross }
                }
                None => Sums { offset, sum, square, cross },
            };
            self.sums.insert(layer, sums);
        }
        Ok(())
    }

    /// The translators `W`, `b` that minimise `Σ ‖x + x W + b − y‖² + penalty ‖W‖²`; `y` is the last layer's stream.
    ///
    /// The penalty is `alpha` times positions times the mean variance of a feature of `x`: the larger it is, the nearer is
    /// the tuned lens to the plain one with a corrected mean. `identity` names the weights, for [`Origin::model`].
    ///
    /// # Errors
    /// [`TuneError`].
    pub async fn fit(&self, model: &MusicGen, alpha: f64, identity: &str) -> Result<TranslatorFile, TuneError> {
        if !(alpha.is_finite() && alpha > 0.0) {
            return Err(TuneError::Penalty { found: alpha });
        }
        let config = &model.config().decoder;
        let width = config.hidden_size;
        let count = self.positions as f64;
        let (Some(last_offset), Some(last_sum)) = (&self.last_offset, &self.last_sum) else {
            return Err(TuneError::Nothing);
        };
        let last_offset = vector(last_offset).await?;
        let last_mean = vector(last_sum).await? / count;
        let mut layers = BTreeMap::new();
        for (&layer, sums) in &self.sums {
            let mean = vector(&sums.sum).await? / count;
            let offset = vector(&sums.offset).await?;
            let outer = |a: &Array1<f64>, b: &Array1<f64>| {
                a.view().insert_axis(Axis(1)).dot(&b.view().insert_axis(Axis(0))) * count
            };
            let square = matrix(&sums.square, width).await? - outer(&mean, &mean);
            let cross = matrix(&sums.cross, width).await? - outer(&mean, &last_mean);
            let mean_square = square.diag().sum() / width as f64;
            // Towards y − x: without data the translator adds nothing.
            let target = cross - &square;
            let mut system = square;
            // The trace is the sum over positions already; a stream that never varies needs no map but some penalty.
            let penalty = if mean_square > 0.0 { alpha * mean_square } else { 1.0 };
            system.diag_mut().mapv_inplace(|value| value + penalty);
            let weight =
                system.solvec(&target).map_err(|error| TuneError::Solver { layer, reason: error.to_string() })?;
            let full_mean = offset + mean;
            let bias = &last_offset + &last_mean - &full_mean - full_mean.dot(&weight);
            let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect::<Vec<f32>>();
            let weight = weight.as_standard_layout().into_owned().into_raw_vec_and_offset().0;
            layers.insert(layer, (narrow(weight), narrow(bias.to_vec())));
        }
        let origin = Origin {
            layers: config.num_hidden_layers,
            width,
            model: identity.to_owned(),
            positions: self.positions,
            alpha,
        };
        Ok(TranslatorFile { origin, layers })
    }
}

async fn vector(x: &Tensor<2>) -> Result<Array1<f64>, ExecutionError> {
    Ok(read_floats(x.clone()).await?.into_iter().map(f64::from).collect())
}

async fn matrix(x: &Tensor<2>, width: usize) -> Result<Array2<f64>, ExecutionError> {
    let values = vector(x).await?;
    Ok(values.into_shape_with_order((width, width)).expect("a square of the stream's width"))
}
