//! Residual vector quantisation.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor, module::embedding},
};

use super::EncodecConfig;
use crate::{
    checkpoint::{Kernels, LoadError, Weights},
    nn::{held, matmul},
};

/// A vector as the sum of one entry from each of several tables; each table is for what the ones before it left over.
#[derive(Module, Debug)]
pub(super) struct Quantizer {
    /// `[entry, width]` each.
    codebooks: Vec<Param<Tensor<2>>>,
    #[module(skip)]
    kernels: Option<Arc<dyn Kernels>>,
}

impl Quantizer {
    /// Takes `layers.{codebook}.codebook.embed`; what only training needs stays unread.
    pub(super) fn load(config: &EncodecConfig, weights: &Weights) -> Result<Self, LoadError> {
        let codebook = |layer: usize| {
            let weights = weights.sub("layers").sub(layer).sub("codebook");
            for name in ["inited", "cluster_size", "embed_avg"] {
                weights.ignore(name);
            }
            Ok(held(weights.tensor("embed", [config.codebook_size, config.hidden_size])?))
        };
        let codebooks = (0..config.num_quantizers()).map(codebook).collect::<Result<_, _>>()?;
        Ok(Self { codebooks, kernels: weights.kernels() })
    }

    /// Tables.
    pub(super) fn len(&self) -> usize {
        self.codebooks.len()
    }

    /// # Shapes
    /// - `codes`: `[batch, codebook, frame]`, the first codebooks of the model; result: `[batch, frame, width]`
    pub(super) fn decode(&self, codes: Tensor<3, Int>) -> Tensor<3> {
        let entries = codes.split(1, 1).into_iter().zip(&self.codebooks);
        let entries = entries.map(|(codes, table)| embedding(table.val(), codes.squeeze_dim(1)));
        entries.reduce(|sum, entries| sum + entries).expect("codes of at least one codebook")
    }

    /// The nearest entries of the first `codebooks` tables, each after what the one before left over.
    ///
    /// # Shapes
    /// - `x`: `[batch, frame, width]`; result: `[batch, codebook, frame]`
    pub(super) fn encode(&self, x: Tensor<3>, codebooks: usize) -> Tensor<3, Int> {
        let [batch, frames, width] = x.dims();
        let mut rest = x.reshape([batch * frames, width]);
        let mut codes: Vec<Tensor<3, Int>> = Vec::with_capacity(codebooks);
        for table in &self.codebooks[..codebooks] {
            let table = table.val();
            // Summed in the order of the reference, since a tie in the last bit would choose another entry.
            let lengths = (table.clone() * table.clone()).sum_dim(1).transpose();
            let products = matmul(self.kernels.as_deref(), rest.clone(), table.clone().transpose());
            let distances = (rest.clone() * rest.clone()).sum_dim(1) - products * 2.0 + lengths;
            let nearest = distances.argmin(1).reshape([batch * frames]);
            rest = rest - table.select(0, nearest.clone());
            codes.push(nearest.reshape([batch, 1, frames]));
        }
        Tensor::cat(codes, 1)
    }
}
