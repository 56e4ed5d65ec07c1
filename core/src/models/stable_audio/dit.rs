//! The diffusion transformer.
//!
//! References: `StableAudioDiTModel`, diffusers 0.42.1, `models/transformers/stable_audio_transformer.py` (Apache-2.0);
//! `DiffusionTransformer`, stable-audio-tools 0.0.19, `models/dit.py` (MIT).
//! Differs: keys and values of the conditions are computed once per generation; the half of a guidance batch that has no
//! text skips the cross-attention, whose output there is exactly zero (projections of zeros without bias); both halves
//! share what is below the first layer.

use std::{f64::consts::PI, ops::Range};

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, activation::silu},
};

use super::{
    attention::{Attention, Rotary, joined, portions, some},
    conditioner::{Conditioning, upload},
    config::DitConfig,
};
use crate::{
    checkpoint::{LoadError, Weights},
    hooks::{HookPoint, Hooks, Inner, Part, Site},
    nn::{LayerNorm, Linear, held},
};

/// The transformer: noisy latents, conditions and time in, a velocity out.
#[derive(Module, Debug)]
pub struct Dit {
    /// Frequencies of the time's features.
    #[module(skip)]
    frequencies: Vec<f32>,
    timestep_proj: Projection,
    global_proj: Projection,
    cross_attention_proj: Projection,
    preprocess_conv: Pointwise,
    proj_in: Linear,
    layers: Vec<Layer>,
    proj_out: Linear,
    postprocess_conv: Pointwise,
    #[module(skip)]
    config: DitConfig,
}

/// `second(silu(first(x)))`
#[derive(Module, Debug)]
struct Projection {
    first: Linear,
    second: Linear,
}

/// A convolution of one tap.
#[derive(Module, Debug)]
struct Pointwise {
    /// `[out, in]`
    weight: Param<Tensor<2>>,
}

/// `x + attn1(norm1(x))`, then `x + attn2(norm2(x), conditions)`, then `x + mlp(norm3(x))`.
#[derive(Module, Debug)]
struct Layer {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    mlp: SwiGlu,
}

/// `outward(value(x) · silu(gate(x)))`
#[derive(Module, Debug)]
struct SwiGlu {
    /// Value and gate, one below the other.
    inward: Linear,
    outward: Linear,
    hidden: usize,
}

/// What a generation computes once.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Rows of one guidance branch.
    pub(super) sequences: usize,
    /// Rows of each prompt, next to each other.
    copies: usize,
    /// 2 with guidance, else 1: the conditional rows come first.
    branches: usize,
    /// Rows that read conditions, the first ones; the others have none.
    reading: usize,
    /// `[sequence, 1, width]`
    global: Tensor<3>,
    /// Per layer, keys and values of the reading rows: `[row, token, group · d_head]`.
    keys_values: Vec<[Tensor<3>; 2]>,
    rotary: Rotary,
}

impl Dit {
    /// Takes its tensors from `weights` under the names of diffusers.
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is missing or of another shape.
    pub fn load(config: &DitConfig, weights: &Weights) -> Result<Self, LoadError> {
        let (width, channels) = (config.width(), config.in_channels);
        let (condition, cross) = (config.cross_attention_input_dim, config.cross_attention_dim);
        let bands = config.time_proj_dim / 2;
        let time = weights.sub("time_proj");
        // stable-audio-tools keeps a column.
        let shape = time.shape("weight").filter(|shape| *shape == [bands, 1]).unwrap_or_else(|| vec![bands]);
        let projection = |name: &str, from, to, bias| Projection::load(&weights.sub(name), from, to, bias);
        let layer = |index| Layer::load(config, &weights.sub("transformer_blocks").sub(index));
        Ok(Self {
            frequencies: time.values("weight", &shape)?,
            timestep_proj: projection("timestep_proj", config.time_proj_dim, width, true)?,
            global_proj: projection("global_proj", config.global_states_input_dim, width, false)?,
            cross_attention_proj: projection("cross_attention_proj", condition, cross, false)?,
            preprocess_conv: Pointwise::load(&weights.sub("preprocess_conv"), channels)?,
            proj_in: Linear::load(&weights.sub("proj_in"), channels, width, false)?,
            layers: (0..config.num_layers).map(layer).collect::<Result<_, _>>()?,
            proj_out: Linear::load(&weights.sub("proj_out"), width, channels, false)?,
            postprocess_conv: Pointwise::load(&weights.sub("postprocess_conv"), channels)?,
            config: config.clone(),
        })
    }

    /// Shape of this transformer.
    pub fn config(&self) -> &DitConfig {
        &self.config
    }

    /// Hook points of this transformer.
    pub fn points(&self) -> Vec<HookPoint> {
        HookPoint::all(Part::Dit, self.layers.len())
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.preprocess_conv.weight.val().device()
    }

    /// What does not depend on the noise: projected conditions, their keys and values, the angles of `length` latents.
    pub(super) fn prepare(&self, hooks: &Hooks, conditioning: &Conditioning, guided: bool, length: usize) -> Prepared {
        let sequences = conditioning.rows();
        let inside = [Inner::Q, Inner::K, Inner::V, Inner::Pattern, Inner::Z];
        let watched =
            |layer: usize| inside.iter().any(|&inner| hooks.wants(HookPoint::dit(layer, Site::CrossAttn(inner))));
        let watched = (0..self.layers.len()).any(watched);
        let mut conditions = vec![conditioning.cross.clone()];
        if guided {
            // Without text there is nothing to read, unless a hook wants to see that.
            let nothing = watched.then(|| conditioning.cross.zeros_like());
            conditions.extend(conditioning.negative.clone().or(nothing));
        }
        let reading = sequences * conditions.len();
        let conditions = self.cross_attention_proj.forward(Tensor::cat(conditions, 0));
        let of_layer =
            |layer: &Layer| layer.attn2.keys_values(conditions.clone()).map(|x| repeated(x, conditioning.copies));
        Prepared {
            sequences,
            copies: conditioning.copies,
            branches: if guided { 2 } else { 1 },
            reading,
            global: repeated(self.global_proj.forward(conditioning.global.clone()), conditioning.copies),
            keys_values: self.layers.iter().map(of_layer).collect(),
            rotary: Rotary::new(&self.config, length + 1, &conditions),
        }
    }

    /// The velocity at noisy latents of unit variance, for every row of every branch.
    ///
    /// # Shapes
    /// - `x`: `[sequence, channels, length]`; `times`: one for all, or one for each sequence
    /// - result: `[branch · sequence, channels, length]`
    ///
    /// # Hook points
    /// `embed`, per layer `resid_pre`, `self_attn.{q,k,v,pattern,z}`, `self_attn_out`, `resid_mid`,
    /// `cross_attn.{q,k,v,pattern,z}`, `cross_attn_out`, `mlp_in`, `mlp_post`, `mlp_out`, `resid_post`. Queries and keys
    /// are those before they are turned by their positions; the first position is the global token.
    pub(super) fn velocity(
        &self,
        hooks: &mut Hooks,
        prepared: &Prepared,
        step: usize,
        x: Tensor<3>,
        times: &[f64],
    ) -> Tensor<3> {
        hooks.begin_copies(step, prepared.sequences, prepared.copies);
        let x = x.swap_dims(1, 2);
        let x = self.preprocess_conv.forward(x.clone()) + x;
        let global = prepared.global.clone() + self.timestep_proj.forward(self.time_features(times));
        let one = Tensor::cat(vec![global, self.proj_in.forward(x)], 1);
        let x = Tensor::cat(vec![one; prepared.branches], 0);
        let mut x = hooks.at(HookPoint::dit(None, Site::Embed), x);
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(hooks, index, x, prepared);
        }
        let [rows, positions, width] = x.dims();
        let x = self.proj_out.forward(x.slice([0..rows, 1..positions, 0..width]));
        (self.postprocess_conv.forward(x.clone()) + x).swap_dims(1, 2)
    }

    /// `[cos(2π t w), sin(2π t w)]`: `[time, 1, time_proj_dim]`.
    fn time_features(&self, times: &[f64]) -> Tensor<3> {
        let features = |time: &f64| {
            let turns = (2.0 * PI) as f32 * *time as f32;
            let angles = || self.frequencies.iter().map(move |frequency| turns * frequency);
            angles().map(f32::cos).chain(angles().map(f32::sin)).collect::<Vec<f32>>()
        };
        let features = times.iter().flat_map(features).collect();
        upload(features, [times.len(), 1, self.config.time_proj_dim], &self.device())
    }
}

/// Every row `copies` times, next to each other.
fn repeated(x: Tensor<3>, copies: usize) -> Tensor<3> {
    if copies == 1 {
        return x;
    }
    let [rows, time, width] = x.dims();
    x.unsqueeze_dim::<4>(1).expand([rows, copies, time, width]).reshape([rows * copies, time, width])
}

impl Projection {
    fn load(weights: &Weights, from: usize, to: usize, bias: bool) -> Result<Self, LoadError> {
        Ok(Self {
            first: Linear::load(&weights.sub(0), from, to, bias)?,
            second: Linear::load(&weights.sub(2), to, to, bias)?,
        })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.second.forward(silu(self.first.forward(x)))
    }
}

impl Pointwise {
    fn load(weights: &Weights, channels: usize) -> Result<Self, LoadError> {
        let weight = weights.tensor("weight", [channels, channels, 1])?;
        Ok(Self { weight: held(weight.reshape([channels, channels])) })
    }

    /// `[row, time, channels]`
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [rows, time, channels] = x.dims();
        let y = x.reshape([rows * time, channels]).matmul(self.weight.val().transpose());
        y.reshape([rows, time, channels])
    }
}

impl Layer {
    fn load(config: &DitConfig, weights: &Weights) -> Result<Self, LoadError> {
        let (width, cross) = (config.width(), config.cross_attention_dim);
        // PyTorch's default epsilon, which the configuration does not state.
        let norm = |name: &str| LayerNorm::load(&weights.sub(name), width, 1e-5);
        let (heads, groups) = (config.num_attention_heads, config.num_key_value_attention_heads);
        Ok(Self {
            norm1: norm("norm1")?,
            attn1: Attention::load(config, width, heads, &weights.sub("attn1"))?,
            norm2: norm("norm2")?,
            attn2: Attention::load(config, cross, groups, &weights.sub("attn2"))?,
            norm3: norm("norm3")?,
            mlp: SwiGlu::load(width, config.hidden(), &weights.sub("ff.net"))?,
        })
    }

    fn forward(&self, hooks: &mut Hooks, layer: usize, x: Tensor<3>, prepared: &Prepared) -> Tensor<3> {
        let at = |site| HookPoint::dit(layer, site);
        let x = hooks.at(at(Site::ResidPre), x);
        let attended = self.attend_to_all(hooks, layer, x.clone(), &prepared.rotary);
        let x = x + hooks.at(at(Site::SelfAttnOut), attended);
        let x = hooks.at(at(Site::ResidMid), x);
        let x = self.add_conditions(hooks, layer, x, prepared);
        let into_mlp = hooks.at(at(Site::MlpIn), x.clone());
        let out = self.mlp.forward(hooks, at(Site::MlpPost), self.norm3.forward(into_mlp));
        let x = x + hooks.at(at(Site::MlpOut), out);
        hooks.at(at(Site::ResidPost), x)
    }

    fn attend_to_all(&self, hooks: &mut Hooks, layer: usize, x: Tensor<3>, rotary: &Rotary) -> Tensor<3> {
        let at = |inner| HookPoint::dit(layer, Site::SelfAttn(inner));
        let x = self.norm1.forward(x);
        let [q, k, v] = self.attn1.queries_keys_values(x);
        let q = hooks.at(at(Inner::Q), q);
        let k = hooks.at(at(Inner::K), k);
        let v = hooks.at(at(Inner::V), v);
        self.attn1.attend(hooks, at, rotary.turn(&q), [rotary.turn(&k), v])
    }

    /// `x` plus what the cross-attention says of it; rows without conditions pass by.
    fn add_conditions(&self, hooks: &mut Hooks, layer: usize, x: Tensor<3>, prepared: &Prepared) -> Tensor<3> {
        let [rows, time, width] = x.dims();
        let at = |inner| HookPoint::dit(layer, Site::CrossAttn(inner));
        let point = HookPoint::dit(layer, Site::CrossAttnOut);
        let reading = prepared.reading;
        let readers = if reading == rows { x.clone() } else { x.clone().slice([0..reading, 0..time, 0..width]) };
        let q = hooks.at(at(Inner::Q), self.attn2.queries(self.norm2.forward(readers.clone())));
        let [k, v] = prepared.keys_values[layer].clone().map(|x| self.attn2.by_head(x));
        let k = hooks.at(at(Inner::K), k);
        let v = hooks.at(at(Inner::V), v);
        let attended = self.attn2.attend(hooks, at, q, [k, v]);
        if reading == rows {
            return x + hooks.at(point, attended);
        }
        if hooks.wants(point) {
            let silent = Tensor::zeros([rows - reading, time, width], (&attended.device(), attended.dtype()));
            return x + hooks.at(point, Tensor::cat(vec![attended, silent], 0));
        }
        x.slice_assign([0..reading, 0..time, 0..width], readers + attended)
    }
}

impl SwiGlu {
    fn load(width: usize, hidden: usize, weights: &Weights) -> Result<Self, LoadError> {
        Ok(Self {
            inward: Linear::load(&weights.sub("0.proj"), width, 2 * hidden, true)?,
            outward: Linear::load(&weights.sub(2), hidden, width, true)?,
            hidden,
        })
    }

    /// Positions are taken in the same portions whether or not a hook looks at the hidden units, so that it changes no bit.
    fn forward(&self, hooks: &mut Hooks, point: HookPoint, x: Tensor<3>) -> Tensor<3> {
        let [rows, time, width] = x.dims();
        let positions = rows * time;
        let x = x.reshape([positions, 1, width]);
        let portions = portions(positions, 2 * self.hidden);
        let hidden = |part: &Range<usize>| self.inward.forward_gated_silu(some(&x, part));
        let out: Vec<Tensor<3>> = if hooks.wants(point) {
            let whole = joined(portions.iter().map(hidden).collect()).reshape([rows, time, self.hidden]);
            let whole = hooks.at(point, whole).reshape([positions, 1, self.hidden]);
            portions.iter().map(|part| self.outward.forward(some(&whole, part))).collect()
        } else {
            portions.iter().map(|part| self.outward.forward(hidden(part))).collect()
        };
        joined(out).reshape([rows, time, width])
    }
}
