//! T5 text encoder.
//!
//! Reference: `T5EncoderModel`, transformers 5.23.0, `models/t5/modeling_t5.py` (Apache-2.0).
//! Differs: inference only; the f16 clamps are left out, since sums are taken in 32 bit.

mod config;
mod tokenizer;

use burn::{
    module::{Module, Param},
    tensor::{
        Int, Tensor,
        activation::{gelu_approximate, relu},
    },
};

pub use config::{Activation, FeedForwardProj, T5Config};
pub use tokenizer::{T5Tokenizer, TokenError, TokenIds};

use crate::{
    checkpoint::{LoadError, Rows, Weights},
    hooks::{HookPoint, Hooks, Part, Site},
    nn::{Attention, Embedding, Linear, RmsNorm, held, masked},
};

/// `norm(blocks(embed(ids)))`
#[derive(Module, Debug)]
pub struct T5Encoder {
    embed_tokens: Embedding,
    /// `[bucket, head]`, shared by all layers.
    relative_attention_bias: Param<Tensor<2>>,
    block: Vec<Block>,
    final_layer_norm: RmsNorm,
    #[module(skip)]
    config: T5Config,
}

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
#[derive(Module, Debug)]
struct Block {
    attention_norm: RmsNorm,
    attention: Attention,
    mlp_norm: RmsNorm,
    mlp: Mlp,
}

/// `wo(act(wi(x)))`, or `wo(act(wi_0(x)) · wi_1(x))` if gated.
#[derive(Module, Debug)]
struct Mlp {
    wi: Linear,
    gated: Option<Linear>,
    wo: Linear,
    #[module(skip)]
    activation: Activation,
}

impl T5Encoder {
    /// Takes its tensors from `weights`, a checkpoint of a T5 encoder or of a whole T5.
    ///
    /// # Errors
    /// [`LoadError`] if the configuration contradicts itself, or a tensor is missing or of another shape.
    pub fn load(config: &T5Config, weights: &Weights) -> Result<Self, LoadError> {
        config.check().map_err(|reason| LoadError::Config { path: "config.json".into(), reason })?;
        // The residual stream of the published encoders leaves the range of 16 bits.
        let weights = &weights.wide();
        let stack = weights.sub("encoder");
        let shared = weights.sub("shared");
        let inside = stack.sub("embed_tokens");
        // One matrix under two names; files hold either or both.
        let table = if inside.has("weight") && !shared.has("weight") { inside.clone() } else { shared };
        inside.ignore("weight");
        let block = (0..config.num_layers).map(|layer| Block::load(config, &stack.sub("block").sub(layer)));
        let bias = stack.sub("block.0.layer.0.SelfAttention.relative_attention_bias");
        let buckets = [config.relative_attention_num_buckets, config.num_heads];
        Ok(Self {
            embed_tokens: Embedding::load(&table, config.vocab_size, config.d_model)?,
            relative_attention_bias: held(bias.tensor("weight", buckets)?),
            block: block.collect::<Result<_, _>>()?,
            final_layer_norm: RmsNorm::load(&stack.sub("final_layer_norm"), config.d_model, config.layer_norm_epsilon)?,
            config: config.clone(),
        })
    }

    /// Hook points of this encoder.
    pub fn points(&self) -> Vec<HookPoint> {
        HookPoint::all(Part::Encoder, self.block.len())
    }

    /// Hidden states of padded token ids.
    ///
    /// # Shapes
    /// - `ids`: `[row, token]`; `mask`: `[row, token]`, 1 for tokens and 0 for padding
    /// - result: `[row, token, d_model]`
    ///
    /// # Hook points
    /// `embed`, per layer `resid_pre`, `self_attn.{q,k,v,pattern,z}`, `self_attn_out`, `resid_mid`, `mlp_in`,
    /// `mlp_post`, `mlp_out`, `resid_post`, then `final_norm`; the time axis counts tokens.
    pub fn forward(&self, hooks: &mut Hooks, ids: Tensor<2, Int>, mask: Tensor<2, Int>) -> Tensor<3> {
        let [rows, tokens] = ids.dims();
        hooks.begin(0, rows);
        let mut x = hooks.at(HookPoint::encoder(None, Site::Embed), self.embed_tokens.forward(ids));
        let hidden = (mask.equal_elem(0)).float().cast(x.dtype());
        let bias = self.position_bias(tokens) + hidden.reshape([rows, 1, 1, tokens]) * masked(x.dtype());
        for (layer, block) in self.block.iter().enumerate() {
            x = block.forward(hooks, layer, x, bias.clone());
        }
        hooks.at(HookPoint::encoder(None, Site::FinalNorm), self.final_layer_norm.forward(x))
    }

    /// `[1, head, query, key]`
    fn position_bias(&self, tokens: usize) -> Tensor<4> {
        let table = self.relative_attention_bias.val();
        let buckets: Vec<i64> = (0..tokens)
            .flat_map(|query| (0..tokens).map(move |key| (query, key)))
            .map(|(query, key)| self.config.bucket(key as i64 - query as i64) as i64)
            .collect();
        let buckets = Tensor::<1, Int>::from_data(buckets.as_slice(), &table.device());
        table.select(0, buckets).reshape([tokens, tokens, self.config.num_heads]).permute([2, 0, 1]).unsqueeze()
    }
}

impl Block {
    fn load(config: &T5Config, weights: &Weights) -> Result<Self, LoadError> {
        let attention = weights.sub("layer.0");
        let mlp = weights.sub("layer.1");
        let norm = |from: &Weights| RmsNorm::load(&from.sub("layer_norm"), config.d_model, config.layer_norm_epsilon);
        Ok(Self {
            attention_norm: norm(&attention)?,
            attention: Attention::load(
                &attention.sub("SelfAttention"),
                ["q", "k", "v", "o"],
                config.d_model,
                config.num_heads,
                config.d_kv,
            )?,
            mlp_norm: norm(&mlp)?,
            mlp: Mlp::load(config, &mlp.sub("DenseReluDense"))?,
        })
    }

    fn forward(&self, hooks: &mut Hooks, layer: usize, x: Tensor<3>, bias: Tensor<4>) -> Tensor<3> {
        let point = |site| HookPoint::encoder(layer, site);
        let inner = |inner| point(Site::SelfAttn(inner));
        let x = hooks.at(point(Site::ResidPre), x);
        let normal = self.attention_norm.forward(x.clone());
        let [queries, keys, values] = self.attention.queries_keys_values(hooks, inner, normal, Rows::Positions);
        let z = self.attention.attend(hooks, inner, queries, [keys, values], 1.0, Some(bias));
        let out = self.attention.out_proj();
        let x = out.forward_hooked(hooks, point(Site::SelfAttnOut), z, Rows::Positions, x);
        let x = hooks.at(point(Site::ResidMid), x);
        let into_mlp = hooks.at(point(Site::MlpIn), x.clone());
        let hidden = hooks.at(point(Site::MlpPost), self.mlp.hidden(self.mlp_norm.forward(into_mlp)));
        let x = self.mlp.wo.forward_hooked(hooks, point(Site::MlpOut), hidden, Rows::Positions, x);
        hooks.at(point(Site::ResidPost), x)
    }
}

impl Mlp {
    fn load(config: &T5Config, weights: &Weights) -> Result<Self, LoadError> {
        let (gated, activation) = config.feed_forward();
        let inward = |name: &str| Linear::load(&weights.sub(name), config.d_model, config.d_ff, false);
        Ok(Self {
            wi: inward(if gated { "wi_0" } else { "wi" })?,
            gated: if gated { Some(inward("wi_1")?) } else { None },
            wo: Linear::load(&weights.sub("wo"), config.d_ff, config.d_model, false)?,
            activation,
        })
    }

    fn hidden(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = self.wi.forward(x.clone());
        let hidden = match self.activation {
            Activation::Relu => relu(hidden),
            Activation::GeluNew => gelu_approximate(hidden),
        };
        match &self.gated {
            Some(gate) => hidden * gate.forward(x),
            None => hidden,
        }
    }
}
