//! MusicGen's decoder.
//!
//! Reference: `MusicgenForCausalLM`, transformers 5.23.0, `models/musicgen/modeling_musicgen.py` (Apache-2.0).
//! Differs: the unconditional half of a guidance batch skips the cross-attention, whose output there is exactly zero
//! (keys and values are projections without bias of zeros).

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{Device, Int, Tensor, activation::relu},
};

use super::{config::DecoderActivation, config::DecoderConfig, state::DecoderState};
use crate::{
    checkpoint::{LoadError, Weights},
    hooks::{HookPoint, Hooks, Inner, Part, Site},
    nn::{Attention, LayerNorm, Linear, held},
};

/// Which columns of a sequence get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// Every column.
    All,
    /// The last one alone.
    Last,
}

/// `heads(norm(layers(Σ embed(codes) + positions)))`
#[derive(Module, Debug)]
pub struct Decoder {
    /// Tables of all codebooks, one below the other: `[codebook · (vocabulary + 1), width]`.
    embed_tokens: Param<Tensor<2>>,
    layers: Vec<Layer>,
    layer_norm: LayerNorm,
    lm_heads: Vec<Linear>,
    #[module(skip)]
    config: DecoderConfig,
}

/// `x + self_attn(norm(x))`, then `x + encoder_attn(norm(x), text)`, then `x + fc2(act(fc1(norm(x))))`.
#[derive(Module, Debug)]
struct Layer {
    self_attn_layer_norm: LayerNorm,
    self_attn: Attention,
    encoder_attn_layer_norm: LayerNorm,
    encoder_attn: Attention,
    final_layer_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    #[module(skip)]
    activation: DecoderActivation,
    scale: f64,
}

impl Decoder {
    /// Takes its tensors from `weights` under the names of transformers (`model.decoder.…`, `lm_heads.…`).
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is missing or of another shape.
    pub fn load(config: &DecoderConfig, weights: &Weights) -> Result<Self, LoadError> {
        let inside = weights.sub("model.decoder");
        inside.sub("embed_positions").ignore("weights");
        let width = config.hidden_size;
        let tables = (0..config.num_codebooks)
            .map(|codebook| inside.sub("embed_tokens").sub(codebook).tensor("weight", [config.vocab_size + 1, width]));
        let layers = (0..config.num_hidden_layers).map(|layer| Layer::load(config, &inside.sub("layers").sub(layer)));
        let heads = (0..config.num_codebooks)
            .map(|codebook| Linear::load(&weights.sub("lm_heads").sub(codebook), width, config.vocab_size, false));
        Ok(Self {
            embed_tokens: held(Tensor::cat(tables.collect::<Result<_, _>>()?, 0)),
            layers: layers.collect::<Result<_, _>>()?,
            layer_norm: norm(&inside.sub("layer_norm"), width)?,
            lm_heads: heads.collect::<Result<_, _>>()?,
            config: config.clone(),
        })
    }

    /// Shape of this decoder.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Hook points of this decoder.
    pub fn points(&self) -> Vec<HookPoint> {
        HookPoint::all(Part::Decoder, self.layers.len())
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.embed_tokens.val().device()
    }

    /// Keys and values of the text in every layer, computed once per generation.
    ///
    /// # Shapes
    /// - `text`: `[row, token, width]`; result: per layer, `[row, head, token, d_head]` each
    pub(super) fn cross_keys_values(&self, hooks: &mut Hooks, text: &Tensor<3>) -> Vec<[Tensor<4>; 2]> {
        let of_layer = |(layer, block): (usize, &Layer)| {
            let at = |inner: Inner| Site::CrossAttn(inner).of(layer);
            let (k, v) = block.encoder_attn.keys_values(hooks, at, text.clone());
            [k, v]
        };
        self.layers.iter().enumerate().map(of_layer).collect()
    }

    /// Logits of the tokens that follow `codes`, which continue what `state` has seen.
    ///
    /// # Shapes
    /// - `codes`: `[row, codebook, time]`, the delay pattern applied, of the rows that the first layer computes
    /// - result: `[row, codebook, time, vocabulary]` of all rows, time being 1 for [`Columns::Last`]
    ///
    /// # Hook points
    /// `embed`, per layer `resid_pre`, `self_attn.{q,k,v,pattern,z}`, `self_attn_out`, `resid_mid`,
    /// `cross_attn.{q,k,v,pattern,z}`, `cross_attn_out`, `mlp_in`, `mlp_post`, `mlp_out`, `resid_post`, then
    /// `final_norm` and `logits`. The time axis counts columns of the delayed codes.
    pub fn forward(
        &self,
        hooks: &mut Hooks,
        state: &mut DecoderState,
        codes: Tensor<3, Int>,
        columns: Columns,
    ) -> Tensor<4> {
        let time = codes.dims()[2];
        let start = state.first_step() + state.len();
        begin(hooks, start, state.layout().listed(0), state);
        let mut x = Some(hooks.at(HookPoint::decoder(None, Site::Embed), self.embed(codes) + state.positions(time)));
        let causal = state.causal_bias(time);
        let mut left = vec![];
        for (layer, block) in self.layers.iter().enumerate() {
            let Some(at_hand) = x.take() else { break };
            let (leave, stay) = state.layout().cross(layer, at_hand);
            left.extend(leave);
            if let Some(stay) = stay {
                begin(hooks, start, state.layout().listed(layer), state);
                x = Some(block.forward(hooks, layer, stay, state, causal.as_ref()));
            }
        }
        left.extend(x.and_then(|x| state.layout().cross(self.layers.len(), x).0));
        let mut x = state.layout().ordered(left);
        state.advance(time);
        let last = columns == Columns::Last && time > 1;
        if last {
            let [rows, _, width] = x.dims();
            x = x.slice([0..rows, time - 1..time, 0..width]);
        }
        let start = if last { start + time - 1 } else { start };
        begin(hooks, start, state.layout().listed_all().as_ref(), state);
        self.read_out(hooks, x)
    }

    /// Final norm and heads on a residual stream.
    ///
    /// # Shapes
    /// - `x`: `[row, time, width]`; result: `[row, codebook, time, vocabulary]`
    pub fn read_out(&self, hooks: &mut Hooks, x: Tensor<3>) -> Tensor<4> {
        let x = hooks.at(HookPoint::decoder(None, Site::FinalNorm), self.layer_norm.forward(x));
        let logits = self.lm_heads.iter().map(|head| head.forward(x.clone()));
        hooks.at(HookPoint::decoder(None, Site::Logits), Tensor::stack(logits.collect(), 1))
    }

    /// `[row, time, width]`: the codebooks' embeddings, summed in their order.
    fn embed(&self, codes: Tensor<3, Int>) -> Tensor<3> {
        let [rows, codebooks, time] = codes.dims();
        let rows_of_table = (self.config.vocab_size + 1) as i64;
        let offsets: Vec<i64> = (0..codebooks as i64).map(|codebook| codebook * rows_of_table).collect();
        let offsets = Tensor::<1, Int>::from_data(offsets.as_slice(), &codes.device()).reshape([1, codebooks, 1]);
        let embedded = self.embed_tokens.val().select(0, (codes + offsets).reshape([rows * codebooks * time]));
        let width = self.config.hidden_size;
        let summed = embedded.reshape([rows, codebooks, time, width]).sum_dim(1).reshape([rows, time, width]);
        if self.config.scale_embedding { summed * (width as f64).sqrt() } else { summed }
    }
}

impl Layer {
    fn load(config: &DecoderConfig, weights: &Weights) -> Result<Self, LoadError> {
        let width = config.hidden_size;
        let attention = |name: &str| {
            let names = ["q_proj", "k_proj", "v_proj", "out_proj"];
            Attention::load(&weights.sub(name), names, width, config.num_attention_heads, config.d_head())
        };
        Ok(Self {
            self_attn_layer_norm: norm(&weights.sub("self_attn_layer_norm"), width)?,
            self_attn: attention("self_attn")?,
            encoder_attn_layer_norm: norm(&weights.sub("encoder_attn_layer_norm"), width)?,
            encoder_attn: attention("encoder_attn")?,
            final_layer_norm: norm(&weights.sub("final_layer_norm"), width)?,
            fc1: Linear::load(&weights.sub("fc1"), width, config.ffn_dim, false)?,
            fc2: Linear::load(&weights.sub("fc2"), config.ffn_dim, width, false)?,
            activation: config.activation_function,
            scale: (config.d_head() as f64).powf(-0.5),
        })
    }

    fn forward(
        &self,
        hooks: &mut Hooks,
        layer: usize,
        x: Tensor<3>,
        state: &mut DecoderState,
        causal: Option<&Tensor<4>>,
    ) -> Tensor<3> {
        let x = hooks.at(Site::ResidPre.of(layer), x);
        let attended = self.attend_to_past(hooks, layer, x.clone(), state, causal);
        let x = x + hooks.at(Site::SelfAttnOut.of(layer), attended);
        let x = hooks.at(Site::ResidMid.of(layer), x);
        let x = self.add_text(hooks, layer, x, state);
        let into_mlp = hooks.at(Site::MlpIn.of(layer), x.clone());
        let normed = self.final_layer_norm.forward(into_mlp);
        let hidden = match self.activation {
            DecoderActivation::Gelu => self.fc1.forward_gelu(normed),
            DecoderActivation::Relu => relu(self.fc1.forward(normed)),
        };
        let hidden = hooks.at(Site::MlpPost.of(layer), hidden);
        let x = x + hooks.at(Site::MlpOut.of(layer), self.fc2.forward(hidden));
        hooks.at(Site::ResidPost.of(layer), x)
    }

    fn attend_to_past(
        &self,
        hooks: &mut Hooks,
        layer: usize,
        x: Tensor<3>,
        state: &mut DecoderState,
        causal: Option<&Tensor<4>>,
    ) -> Tensor<3> {
        let at = |inner| Site::SelfAttn(inner).of(layer);
        let x = self.self_attn_layer_norm.forward(x);
        let [q, k, v] = self.self_attn.queries_keys_values(hooks, at, x);
        let past = state.remember(layer, k, v);
        self.self_attn.attend(hooks, at, q, past, self.scale, causal.cloned())
    }

    /// `x` plus what the cross-attention says of it; rows without text pass by, unless a hook looks inside.
    fn add_text(&self, hooks: &mut Hooks, layer: usize, x: Tensor<3>, state: &DecoderState) -> Tensor<3> {
        let [rows, time, width] = x.dims();
        let at = |inner| Site::CrossAttn(inner).of(layer);
        let point = Site::CrossAttnOut.of(layer);
        let Some(text) = state.text(layer) else {
            return if hooks.wants(point) { x.clone() + hooks.at(point, x.zeros_like()) } else { x };
        };
        let reading = text.rows;
        let cond = if reading == rows { x.clone() } else { x.clone().slice([0..reading, 0..time, 0..width]) };
        let q = self.encoder_attn.queries(hooks, at, self.encoder_attn_layer_norm.forward(cond.clone()));
        let (past, bias) = (text.keys_values.clone(), text.bias.clone());
        let attended = self.encoder_attn.attend(hooks, at, q, past, self.scale, Some(bias));
        if reading == rows {
            return x + hooks.at(point, attended);
        }
        if hooks.wants(point) {
            let silent = Tensor::zeros([rows - reading, time, width], (&attended.device(), attended.dtype()));
            return x + hooks.at(point, Tensor::cat(vec![attended, silent], 0));
        }
        x.slice_assign([0..reading, 0..time, 0..width], cond + attended)
    }
}

/// Tells `hooks` which rows the next tensors have: `rows`, or all of `state`.
fn begin(hooks: &mut Hooks, start: usize, rows: Option<&Arc<[(usize, usize)]>>, state: &DecoderState) {
    match rows {
        Some(rows) => hooks.begin_rows(start, rows, state.sequences()),
        None => hooks.begin(start, state.sequences()),
    }
}

/// PyTorch's default epsilon, which `MusicGen`'s configuration does not state.
fn norm(weights: &Weights, width: usize) -> Result<LayerNorm, LoadError> {
    LayerNorm::load(weights, width, 1e-5)
}
