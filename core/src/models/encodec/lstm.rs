//! The recurrent layer between convolutions.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{
        Tensor,
        activation::{sigmoid, tanh},
    },
};

use crate::{
    checkpoint::{Kernels, LoadError, Recurred, Recurrence, Weights},
    nn::{Matrix, held, place},
};

/// `x + lstm(x)`
#[derive(Module, Debug)]
pub(super) struct Lstm {
    layers: Vec<LstmLayer>,
}

/// `i, f, g, o = W x[t] + U h[t − 1] + b`; `c[t] = σ(f) c[t − 1] + σ(i) tanh(g)`; `h[t] = σ(o) tanh(c[t])`
#[derive(Module, Debug)]
struct LstmLayer {
    weight_ih: Matrix,
    weight_hh: Matrix,
    bias: Param<Tensor<1>>,
    width: usize,
    #[module(skip)]
    kernels: Option<Arc<dyn Kernels>>,
}

/// What an [`Lstm`] remembers between stretches of a signal.
#[derive(Debug, Clone, Default)]
pub(super) struct LstmState {
    /// By layer, hidden state and cell, `[batch, width]`; none before the first step.
    layers: Vec<Option<[Tensor<2>; 2]>>,
}

impl Lstm {
    /// Takes `lstm.{weight,bias}_{ih,hh}_l{layer}`.
    pub(super) fn load(weights: &Weights, width: usize, layers: usize) -> Result<Self, LoadError> {
        let weights = weights.sub("lstm");
        let layers = (0..layers).map(|layer| LstmLayer::load(&weights, layer, width));
        Ok(Self { layers: layers.collect::<Result<_, _>>()? })
    }

    /// # Shapes
    /// - `x`, result: `[batch, time, width]`
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.go_on(&mut LstmState::default(), x)
    }

    /// As [`Self::forward`], after what `state` has seen; it has seen `x` then as well.
    pub(super) fn go_on(&self, state: &mut LstmState, x: Tensor<3>) -> Tensor<3> {
        let [batch, time, width] = x.dims();
        state.layers.resize_with(self.layers.len(), || None);
        // Time first, so that a step is one block of memory.
        let x = x.swap_dims(0, 1);
        let rows = x.clone().reshape([time * batch, width]);
        let layers = self.layers.iter().zip(&mut state.layers);
        let y = layers.fold(rows, |rows, (layer, state)| layer.forward(state, rows, batch));
        (y.reshape([time, batch, width]) + x).swap_dims(0, 1)
    }
}

impl LstmLayer {
    fn load(weights: &Weights, layer: usize, width: usize) -> Result<Self, LoadError> {
        let matrix = |name: &str| Matrix::load(weights, &format!("weight_{name}_l{layer}"), [4 * width, width]);
        let bias = |name: &str| format!("bias_{name}_l{layer}");
        let bias = if weights.is_given() {
            weights.tensor(&bias("ih"), [4 * width])? + weights.tensor(&bias("hh"), [4 * width])?
        } else {
            let values = |name: &str| weights.values(&bias(name), &[4 * width]);
            let sum = values("ih")?.into_iter().zip(values("hh")?).map(|(a, b)| a + b).collect();
            place(weights, sum, [4 * width])
        };
        let kernels = weights.kernels();
        Ok(Self { weight_ih: matrix("ih")?, weight_hh: matrix("hh")?, bias: held(bias), width, kernels })
    }

    /// The products with the inputs are taken for all steps at once: only `U h` has to wait for its turn.
    ///
    /// # Shapes
    /// - `x`, result: `[time · batch, width]`
    fn forward(&self, state: &mut Option<[Tensor<2>; 2]>, x: Tensor<2>, batch: usize) -> Tensor<2> {
        let time = x.dims()[0] / batch;
        let width = self.width;
        let inputs = self.weight_ih.product(x) + self.bias.val().unsqueeze();
        if let (Some(kernels), Some(weight)) = (&self.kernels, self.weight_hh.as_packed()) {
            let recurrence = Recurrence { inputs: &inputs, weight, state: state.clone(), batch };
            if let Some(Recurred { hidden, state: after }) = kernels.lstm(recurrence) {
                *state = Some(after);
                return hidden;
            }
        }
        let mut states: Vec<Tensor<2>> = Vec::with_capacity(time);
        for step in 0..time {
            let input = inputs.clone().narrow(0, step * batch, batch);
            let (gates, cell) = match state.take() {
                Some([hidden, cell]) => (self.weight_hh.product(hidden) + input, Some(cell)),
                None => (input, None),
            };
            let gate = |from: usize, gates: usize, of: &Tensor<2>| of.clone().narrow(1, from * width, gates * width);
            let open = sigmoid(gate(0, 2, &gates));
            let fresh = gate(0, 1, &open) * tanh(gate(2, 1, &gates));
            let now = match cell {
                Some(before) => before * gate(1, 1, &open) + fresh,
                None => fresh,
            };
            let hidden = sigmoid(gate(3, 1, &gates)) * tanh(now.clone());
            states.push(hidden.clone());
            *state = Some([hidden, now]);
        }
        Tensor::cat(states, 0)
    }
}
