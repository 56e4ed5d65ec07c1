//! The diffusion transformer.
//!
//! References: `StableAudioDiTModel`, diffusers 0.42.1, `models/transformers/stable_audio_transformer.py` (Apache-2.0);
//! `DiffusionTransformer`, stable-audio-tools 0.0.19, `models/dit.py` (MIT).
//! Differs: keys and values of the conditions are computed once per generation; the half of a guidance batch that has no
//! text skips the cross-attention, whose output there is exactly zero (projections of zeros without bias); both halves
//! share what is below the first layer.

use std::{f64::consts::PI, ops::Range, sync::Arc};

use burn::{
    module::{Module, Param},
    tensor::{DType, Device, Tensor},
};

use super::{
    attention::{Attention, Conditions, Rotary, joined, portions, repeated, some},
    conditioner::{Conditioning, upload},
    config::DitConfig,
};
use crate::{
    checkpoint::{Act, Kernels, LoadError, Rows, Weights},
    hooks::{HookPoint, Hooks, Inner, Part, Site},
    nn::{LayerNorm, Linear, as_type, held, matmul},
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
    #[module(skip)]
    kernels: Option<Arc<dyn Kernels>>,
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
    #[module(skip)]
    kernels: Option<Arc<dyn Kernels>>,
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
    /// Hidden units that are computed at once.
    at_once: usize,
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
    /// Per layer, keys and values of the reading rows.
    keys_values: Vec<Conditions>,
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
            kernels: weights.kernels(),
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

    /// The type of the residual stream.
    fn dtype(&self) -> DType {
        self.preprocess_conv.weight.val().dtype()
    }

    /// The device's own kernels, if it has any.
    pub(super) fn kernels(&self) -> Option<&dyn Kernels> {
        self.kernels.as_deref()
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
        let conditions = as_type(Tensor::cat(conditions, 0), self.dtype());
        let conditions = self.cross_attention_proj.forward(conditions, None);
        let global = self.global_proj.forward(as_type(conditioning.global.clone(), self.dtype()), None);
        let of_layer = |(index, layer): (usize, &Layer)| {
            let wants = |inner| hooks.wants(HookPoint::dit(index, Site::CrossAttn(inner)));
            layer.attn2.conditions(conditions.clone(), conditioning.copies, wants(Inner::K) || wants(Inner::V))
        };
        Prepared {
            sequences,
            copies: conditioning.copies,
            branches: if guided { 2 } else { 1 },
            reading,
            global: repeated(global, conditioning.copies),
            keys_values: self.layers.iter().enumerate().map(of_layer).collect(),
            rotary: Rotary::new(&self.config, length + 1, &conditions),
        }
    }

    /// The velocity at noisy latents of unit variance, for every row of every branch, in the type of the latents.
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
        let dtype = x.dtype();
        let x = as_type(x, self.dtype()).swap_dims(1, 2);
        let x = self.preprocess_conv.forward(x.clone()) + x;
        let time = self.time_features(times);
        let global = if times.len() == prepared.sequences {
            self.timestep_proj.forward(time, Some(prepared.global.clone()))
        } else {
            prepared.global.clone() + self.timestep_proj.forward(time, None)
        };
        let x = self.proj_in.forward(x);
        let x = match &self.kernels {
            Some(kernels) => kernels.prepend(global, x, prepared.branches),
            None => Tensor::cat(vec![Tensor::cat(vec![global, x], 1); prepared.branches], 0),
        };
        let mut x = hooks.at(HookPoint::dit(None, Site::Embed), x);
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(hooks, index, x, prepared);
        }
        let [rows, positions, width] = x.dims();
        let x = self.proj_out.forward(x.slice([0..rows, 1..positions, 0..width]));
        as_type(self.postprocess_conv.forward(x.clone()) + x, dtype).swap_dims(1, 2)
    }

    /// `[cos(2π t w), sin(2π t w)]`: `[time, 1, time_proj_dim]`.
    fn time_features(&self, times: &[f64]) -> Tensor<3> {
        let features = |time: &f64| {
            let turns = (2.0 * PI) as f32 * *time as f32;
            let angles = || self.frequencies.iter().map(move |frequency| turns * frequency);
            angles().map(f32::cos).chain(angles().map(f32::sin)).collect::<Vec<f32>>()
        };
        let features = times.iter().flat_map(features).collect();
        upload(features, [times.len(), 1, self.config.time_proj_dim], &self.device(), self.dtype())
    }
}

impl Projection {
    fn load(weights: &Weights, from: usize, to: usize, bias: bool) -> Result<Self, LoadError> {
        Ok(Self {
            first: Linear::load(&weights.sub(0), from, to, bias)?,
            second: Linear::load(&weights.sub(2), to, to, bias)?,
        })
    }

    /// `residual` plus the projection of `x`, which has one row for each sequence or is a sequence.
    fn forward(&self, x: Tensor<3>, residual: Option<Tensor<3>>) -> Tensor<3> {
        let rows = if x.dims()[1] == 1 { Rows::Steps } else { Rows::Positions };
        let hidden = self.first.forward_act(x, rows, Act::Silu);
        match residual {
            Some(residual) => self.second.forward_added(hidden, rows, residual),
            None => self.second.forward_rows(hidden, rows),
        }
    }
}

impl Pointwise {
    fn load(weights: &Weights, channels: usize) -> Result<Self, LoadError> {
        let weight = weights.tensor("weight", [channels, channels, 1])?;
        Ok(Self { weight: held(weight.reshape([channels, channels])), kernels: weights.kernels() })
    }

    /// `[row, time, channels]`
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [rows, time, channels] = x.dims();
        let x = x.reshape([rows * time, channels]);
        let y = matmul(self.kernels.as_deref(), x, self.weight.val().transpose());
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
            attn1: Attention::load(config, width, heads, &weights.sub("attn1"))?.of_one_stream(),
            norm2: norm("norm2")?,
            attn2: Attention::load(config, cross, groups, &weights.sub("attn2"))?,
            norm3: norm("norm3")?,
            mlp: SwiGlu::load(width, config.hidden(), &weights.sub("ff.net"))?,
        })
    }

    fn forward(&self, hooks: &mut Hooks, layer: usize, x: Tensor<3>, prepared: &Prepared) -> Tensor<3> {
        let at = |site| HookPoint::dit(layer, site);
        let x = hooks.at(at(Site::ResidPre), x);
        let inner = |inner| at(Site::SelfAttn(inner));
        let z = self.attn1.attend_to_all(hooks, inner, self.norm1.forward(x.clone()), &prepared.rotary);
        let x = self.attn1.to_out().forward_hooked(hooks, at(Site::SelfAttnOut), z, Rows::Positions, x);
        let x = hooks.at(at(Site::ResidMid), x);
        let x = self.add_conditions(hooks, layer, x, prepared);
        let into_mlp = hooks.at(at(Site::MlpIn), x.clone());
        let x = self.mlp.forward(hooks, at, self.norm3.forward(into_mlp), x);
        hooks.at(at(Site::ResidPost), x)
    }

    /// `x` plus what the cross-attention says of it; rows without conditions pass by.
    fn add_conditions(&self, hooks: &mut Hooks, layer: usize, x: Tensor<3>, prepared: &Prepared) -> Tensor<3> {
        let [rows, time, width] = x.dims();
        let at = |inner| HookPoint::dit(layer, Site::CrossAttn(inner));
        let point = HookPoint::dit(layer, Site::CrossAttnOut);
        let reading = prepared.reading;
        let readers = if reading == rows { x.clone() } else { x.clone().slice([0..reading, 0..time, 0..width]) };
        let readers = self.norm2.forward(readers);
        let z = self.attn2.attend_to_conditions(hooks, at, readers, &prepared.keys_values[layer]);
        if reading < rows && hooks.wants(point) {
            let attended = self.attn2.to_out().forward(z);
            let silent = Tensor::zeros([rows - reading, time, width], (&attended.device(), attended.dtype()));
            return x + hooks.at(point, Tensor::cat(vec![attended, silent], 0));
        }
        self.attn2.to_out().forward_hooked(hooks, point, z, Rows::Positions, x)
    }
}

impl SwiGlu {
    fn load(width: usize, hidden: usize, weights: &Weights) -> Result<Self, LoadError> {
        Ok(Self {
            inward: Linear::load(&weights.sub("0.proj"), width, 2 * hidden, true)?,
            outward: Linear::load(&weights.sub(2), hidden, width, true)?,
            hidden,
            at_once: weights.limits().at_once,
        })
    }

    /// `residual` plus this of `x`. Positions are taken in the same portions whether or not a hook looks at the hidden units,
    /// so that it changes no bit.
    fn forward(
        &self,
        hooks: &mut Hooks,
        at: impl Fn(Site) -> HookPoint,
        x: Tensor<3>,
        residual: Tensor<3>,
    ) -> Tensor<3> {
        let [rows, time, width] = x.dims();
        let positions = rows * time;
        let x = x.reshape([positions, 1, width]);
        let portions = portions(positions, 2 * self.hidden, self.at_once);
        let inward = |part: &Range<usize>| self.inward.forward_act(some(&x, part), Rows::Positions, Act::GatedSilu);
        let whole = hooks.wants(at(Site::MlpPost)).then(|| {
            let whole = joined(portions.iter().map(inward).collect()).reshape([rows, time, self.hidden]);
            hooks.at(at(Site::MlpPost), whole).reshape([positions, 1, self.hidden])
        });
        let hidden = |part: &Range<usize>| whole.as_ref().map_or_else(|| inward(part), |whole| some(whole, part));
        if let ([all], false) = (&*portions, hooks.wants(at(Site::MlpOut))) {
            let residual = residual.reshape([positions, 1, width]);
            let out = self.outward.forward_added(hidden(all), Rows::Positions, residual);
            return out.reshape([rows, time, width]);
        }
        let out = joined(portions.iter().map(|part| self.outward.forward(hidden(part))).collect());
        residual + hooks.at(at(Site::MlpOut), out.reshape([rows, time, width]))
    }
}
