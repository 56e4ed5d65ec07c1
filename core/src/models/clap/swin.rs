//! Blocks and stages of the audio tower.
//!
//! Reference: `ClapAudioStage` and what it is made of, transformers 5.23.0, `models/clap/modeling_clap.py` (Apache-2.0).
//! Differs: inference only; tokens stay in the order of windows, see [`super::order`]; a stage that does not divide into
//! windows is refused when loading, where the reference pads it.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{
    attention::Attention,
    config::{ClapAudioConfig, HiddenAct},
    order::Grid,
    parts::{PYTORCH_EPSILON, activated},
};
use crate::{
    checkpoint::{LoadError, Rows, Weights},
    hooks::{HookPoint, Hooks, Inner, Site},
    nn::{LayerNorm, Linear},
};

/// Blocks of one width, then a step to half as many rows and columns, unless the stage is the last.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    blocks: Vec<Block>,
    downsample: Option<Merging>,
}

/// `x + attention(norm(x))` within windows, then `x + mlp(norm(x))`.
#[derive(Debug, Clone)]
struct Block {
    layernorm_before: LayerNorm,
    attention: Attention,
    /// Positions and, in shifted windows, who does not see whom: `[1 or window, head, query, key]`.
    bias: Tensor<4>,
    /// Into the order of shifted windows, and back.
    shift: Option<[Tensor<1, Int>; 2]>,
    windows: usize,
    layernorm_after: LayerNorm,
    intermediate: Linear,
    output: Linear,
    act: HiddenAct,
}

/// `reduction(norm([four neighbours]))`
#[derive(Debug, Clone)]
struct Merging {
    /// The four neighbours that each token of the next stage is made of.
    neighbours: Tensor<1, Int>,
    norm: LayerNorm,
    reduction: Linear,
}

impl Stage {
    /// Takes stage `index` from `weights`.
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is missing or of another shape.
    pub(super) fn load(config: &ClapAudioConfig, index: usize, weights: &Weights) -> Result<Self, LoadError> {
        let grid = config.grid(index);
        let block = |block| Block::load(config, index, grid, block, &weights.sub("blocks").sub(block));
        let is_last = index + 1 == config.depths.len();
        let merging = || Merging::load(grid, config.grid(index + 1), config.width(index), &weights.sub("downsample"));
        Ok(Self {
            blocks: (0..config.depths[index]).map(block).collect::<Result<_, _>>()?,
            downsample: if is_last { None } else { Some(merging()?) },
        })
    }

    /// # Shapes
    /// - `x`: `[row, token, width]`; `layer`: blocks before this stage
    /// - result: as `x`, or `[row, token / 4, 2 width]`
    pub(super) fn forward(&self, hooks: &mut Hooks, layer: usize, mut x: Tensor<3>) -> Tensor<3> {
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(hooks, layer + index, x);
        }
        match &self.downsample {
            Some(merging) => merging.forward(x),
            None => x,
        }
    }
}

impl Block {
    fn load(
        config: &ClapAudioConfig,
        stage: usize,
        grid: Grid,
        index: usize,
        weights: &Weights,
    ) -> Result<Self, LoadError> {
        let (width, heads) = (config.width(stage), config.num_attention_heads[stage]);
        let hidden = (config.mlp_ratio * width as f64) as usize;
        let shift = if index.is_multiple_of(2) { 0 } else { grid.shift() };
        let inside = weights.sub("attention.self");
        // Follows from the size of the window.
        inside.ignore("relative_position_index");
        let across = 2 * grid.window - 1;
        let table: Tensor<2> = inside.tensor("relative_position_bias_table", [across * across, heads])?;
        let tokens = grid.window * grid.window;
        let device = weights.device();
        let mut bias = table.select(0, indices(&grid.pairs(), device)).transpose().reshape([1, heads, tokens, tokens]);
        if shift > 0 {
            let apart = TensorData::new(grid.apart(shift), [grid.windows(), 1, tokens, tokens]);
            bias = bias + Tensor::from_data(apart.convert_dtype(device.settings().float_dtype.into()), device);
        }
        let moves = || grid.to_shifted_and_back(shift).map(|order| indices(&order, device));
        Ok(Self {
            layernorm_before: LayerNorm::load(&weights.sub("layernorm_before"), width, config.layer_norm_eps)?,
            attention: Attention::load(&weights.sub("attention"), width, heads, config.qkv_bias)?,
            bias,
            shift: (shift > 0).then(moves),
            windows: grid.windows(),
            layernorm_after: LayerNorm::load(&weights.sub("layernorm_after"), width, config.layer_norm_eps)?,
            intermediate: Linear::load(&weights.sub("intermediate.dense"), width, hidden, true)?,
            output: Linear::load(&weights.sub("output.dense"), hidden, width, true)?,
            act: config.hidden_act,
        })
    }

    fn forward(&self, hooks: &mut Hooks, layer: usize, x: Tensor<3>) -> Tensor<3> {
        let point = |site| HookPoint::encoder(layer, site);
        let x = hooks.at(point(Site::ResidPre), x);
        let attended = self.attend(hooks, layer, self.layernorm_before.forward(x.clone()));
        let x = x + hooks.at(point(Site::SelfAttnOut), attended);
        let x = hooks.at(point(Site::ResidMid), x);
        let into_mlp = hooks.at(point(Site::MlpIn), x.clone());
        let hidden = activated(&self.intermediate, self.act, self.layernorm_after.forward(into_mlp), Rows::Positions);
        let hidden = hooks.at(point(Site::MlpPost), hidden);
        let x = x + hooks.at(point(Site::MlpOut), self.output.forward(hidden));
        hooks.at(point(Site::ResidPost), x)
    }

    fn attend(&self, hooks: &mut Hooks, layer: usize, normal: Tensor<3>) -> Tensor<3> {
        let [rows, tokens, width] = normal.dims();
        // Of these there are more rows than clips: they are not among the tower's points, and nobody can ask for them.
        let at = |inner: Inner| HookPoint::encoder(layer, Site::SelfAttn(inner));
        let windows = |x: Tensor<3>| x.reshape([rows * self.windows, tokens / self.windows, width]);
        let whole = |x: Tensor<3>| x.reshape([rows, tokens, width]);
        match &self.shift {
            Some([there, back]) => {
                let shifted = windows(normal.select(1, there.clone()));
                whole(self.attention.forward(hooks, at, shifted, self.bias.clone())).select(1, back.clone())
            }
            None => whole(self.attention.forward(hooks, at, windows(normal), self.bias.clone())),
        }
    }
}

impl Merging {
    fn load(grid: Grid, next: Grid, width: usize, weights: &Weights) -> Result<Self, LoadError> {
        Ok(Self {
            neighbours: indices(&grid.merged(next), weights.device()),
            norm: LayerNorm::load(&weights.sub("norm"), 4 * width, PYTORCH_EPSILON)?,
            reduction: Linear::load(&weights.sub("reduction"), 4 * width, 2 * width, false)?,
        })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [rows, tokens, width] = x.dims();
        let four = x.select(1, self.neighbours.clone()).reshape([rows, tokens / 4, 4 * width]);
        self.reduction.forward(self.norm.forward(four))
    }
}

/// Indices on a device.
pub(super) fn indices(order: &[usize], device: &Device) -> Tensor<1, Int> {
    let order: Vec<i64> = order.iter().map(|&index| index as i64).collect();
    Tensor::from_data(order.as_slice(), device)
}
