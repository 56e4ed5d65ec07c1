//! The text tower: `RoBERTa`.
//!
//! Reference: `ClapTextModel`, transformers 5.23.0, `models/clap/modeling_clap.py` (Apache-2.0). Differs: inference only.

use burn::tensor::{Int, Tensor, TensorData, activation::tanh};

use super::{
    attention::Attention,
    config::{ClapTextConfig, HiddenAct},
    parts::activated,
};
use crate::{
    checkpoint::{LoadError, Rows, Weights},
    hooks::{HookPoint, Hooks, Inner, Part, Site},
    models::t5::TokenIds,
    nn::{Embedding, LayerNorm, Linear, masked},
};

/// What a [`TextTower`] makes of a batch of texts.
#[derive(Debug, Clone)]
pub struct TextStates {
    /// After the last layer: `[row, token, width]`.
    pub hidden: Tensor<3>,
    /// Made of the first token: `[row, width]`.
    pub pooled: Tensor<2>,
}

/// `tanh(pooler(layers(norm(words + positions + segment))[first]))`
#[derive(Debug, Clone)]
pub struct TextTower {
    config: ClapTextConfig,
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    /// The first segment, which all tokens are of: `[1, 1, width]`.
    token_type: Tensor<3>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    pooler: Linear,
}

/// `norm(x + attention(x))`, then `norm(x + mlp(x))`.
#[derive(Debug, Clone)]
struct Layer {
    attention: Attention,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    act: HiddenAct,
}

impl TextTower {
    /// Takes its tensors from `weights`.
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is missing or of another shape.
    pub(super) fn load(config: &ClapTextConfig, weights: &Weights) -> Result<Self, LoadError> {
        let width = config.hidden_size;
        let embeddings = weights.sub("embeddings");
        // Counted up and zero: known.
        embeddings.ignore("position_ids");
        embeddings.ignore("token_type_ids");
        let table = |name: &str, entries| Embedding::load(&embeddings.sub(name), entries, width);
        let types: Tensor<2> =
            embeddings.sub("token_type_embeddings").tensor("weight", [config.type_vocab_size, width])?;
        let layer = |index| Layer::load(config, &weights.sub("encoder.layer").sub(index));
        Ok(Self {
            word_embeddings: table("word_embeddings", config.vocab_size)?,
            position_embeddings: table("position_embeddings", config.max_position_embeddings)?,
            token_type: types.narrow(0, 0, 1).unsqueeze(),
            norm: LayerNorm::load(&embeddings.sub("LayerNorm"), width, config.layer_norm_eps)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
            pooler: Linear::load(&weights.sub("pooler.dense"), width, width, true)?,
            config: config.clone(),
        })
    }

    /// Hook points of this tower. There is no norm after the last layer: every layer ends with one.
    pub fn points(&self) -> Vec<HookPoint> {
        let mut points = HookPoint::all(Part::Encoder, self.layers.len());
        points.retain(|point| point.site != Site::FinalNorm);
        points
    }

    /// States of token ids, each text filled up with padding to `tokens`, which changes nothing but rounding.
    ///
    /// # Panics
    /// If a text has more than `tokens` tokens, or `tokens` is more than there are positions.
    ///
    /// # Hook points
    /// `encoder.embed`, per layer `resid_pre`, `self_attn.{q,k,v,pattern,z}`, `self_attn_out`, `resid_mid`, `mlp_in`,
    /// `mlp_post`, `mlp_out`, `resid_post`; what follows an addition follows the norm after it.
    pub fn forward(&self, hooks: &mut Hooks, texts: &[TokenIds], tokens: usize) -> TextStates {
        let rows = texts.len();
        hooks.begin(0, rows);
        let pad = self.config.pad_token_id;
        let (mut ids, mut positions, mut visible) = (vec![], vec![], vec![]);
        for text in texts {
            assert!(text.len() <= tokens, "a text of {} tokens in rows of {tokens}", text.len());
            let mut seen = 0;
            for id in text.iter().copied().chain(std::iter::repeat(pad)).take(tokens) {
                let is_token = id != pad;
                seen += i64::from(is_token);
                ids.push(i64::from(id));
                positions.push(i64::from(pad) + if is_token { seen } else { 0 });
                visible.push(if is_token { 0.0 } else { 1.0f32 });
            }
        }
        let device = self.token_type.device();
        let place = |values: Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(values, [rows, tokens]), &device);
        let words = self.word_embeddings.forward(place(ids));
        let dtype = words.dtype();
        let sum = words + self.token_type.clone() + self.position_embeddings.forward(place(positions));
        let mut x = hooks.at(HookPoint::encoder(None, Site::Embed), self.norm.forward(sum));
        let hidden = TensorData::new(visible, [rows, 1, 1, tokens]).convert_dtype(dtype);
        let bias = Tensor::<4>::from_data(hidden, &device) * masked(dtype);
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(hooks, index, x, bias.clone());
        }
        let first = x.clone().narrow(1, 0, 1);
        TextStates { hidden: x, pooled: tanh(self.pooler.forward_rows(first, Rows::Steps)).squeeze_dim(1) }
    }
}

impl Layer {
    fn load(config: &ClapTextConfig, weights: &Weights) -> Result<Self, LoadError> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |of: &str| LayerNorm::load(&weights.sub(of).sub("LayerNorm"), width, config.layer_norm_eps);
        Ok(Self {
            attention: Attention::load(&weights.sub("attention"), width, config.num_attention_heads, true)?,
            attention_norm: norm("attention.output")?,
            intermediate: Linear::load(&weights.sub("intermediate.dense"), width, inner, true)?,
            output: Linear::load(&weights.sub("output.dense"), inner, width, true)?,
            output_norm: norm("output")?,
            act: config.hidden_act,
        })
    }

    fn forward(&self, hooks: &mut Hooks, layer: usize, x: Tensor<3>, bias: Tensor<4>) -> Tensor<3> {
        let point = |site| HookPoint::encoder(layer, site);
        let x = hooks.at(point(Site::ResidPre), x);
        let at = |inner: Inner| point(Site::SelfAttn(inner));
        let attended = self.attention.forward(hooks, at, x.clone(), bias);
        let attended = hooks.at(point(Site::SelfAttnOut), attended);
        let x = hooks.at(point(Site::ResidMid), self.attention_norm.forward(x + attended));
        let into_mlp = hooks.at(point(Site::MlpIn), x.clone());
        let hidden = hooks.at(point(Site::MlpPost), activated(&self.intermediate, self.act, into_mlp, Rows::Positions));
        let out = hooks.at(point(Site::MlpOut), self.output.forward(hidden));
        hooks.at(point(Site::ResidPost), self.output_norm.forward(x + out))
    }
}
