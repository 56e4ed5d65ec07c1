//! MusicGen's decoder.
//!
//! Reference: `MusicgenForCausalLM`, transformers 5.23.0, `models/musicgen/modeling_musicgen.py` (Apache-2.0).
//! Differs: the unconditional half of a guidance batch skips the cross-attention, whose output there is exactly zero
//! (keys and values are projections without bias of zeros).

use std::sync::Arc;

use burn::{
    module::{Module, Param, ParamId},
    tensor::{DType, Device, Int, Tensor, TensorData, activation::relu},
};

use super::{config::DecoderActivation, config::DecoderConfig, state::DecoderState};
use crate::{
    checkpoint::{Act, Kernels, LoadError, Rows, StepInput, Weights},
    hooks::{HookPoint, Hooks, Inner, Part, Site},
    nn::{Attention, LayerNorm, Linear, held, in_order},
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
    /// First row of each codebook's table: `[1, codebook, 1]`.
    offsets: Param<Tensor<3, Int>>,
    layers: Vec<Layer>,
    layer_norm: LayerNorm,
    lm_heads: Heads,
    #[module(skip)]
    config: DecoderConfig,
    #[module(skip)]
    kernels: Option<Arc<dyn Kernels>>,
}

/// The heads of all codebooks.
#[derive(Module, Debug)]
enum Heads {
    Apart(Vec<Linear>),
    /// Side by side.
    Joined(Linear),
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
        let heads: Vec<Linear> = heads.collect::<Result<_, _>>()?;
        let joined = Linear::joined(&heads.iter().collect::<Vec<_>>());
        let rows_of_table = (config.vocab_size + 1) as i64;
        let offsets: Vec<i64> = (0..config.num_codebooks as i64).map(|codebook| codebook * rows_of_table).collect();
        let offsets = Tensor::<1, Int>::from_data(offsets.as_slice(), weights.device());
        Ok(Self {
            embed_tokens: held(Tensor::cat(tables.collect::<Result<_, _>>()?, 0)),
            offsets: Param::initialized(ParamId::new(), offsets.reshape([1, config.num_codebooks, 1])),
            layers: layers.collect::<Result<_, _>>()?,
            layer_norm: norm(&inside.sub("layer_norm"), width)?,
            lm_heads: joined.map_or(Heads::Apart(heads), Heads::Joined),
            config: config.clone(),
            kernels: weights.kernels(),
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

    /// The type of the residual stream.
    pub(super) fn dtype(&self) -> DType {
        self.embed_tokens.val().dtype()
    }

    /// Keys and values of the text in every layer, computed once per generation.
    ///
    /// # Shapes
    /// - `text`: `[row, token, width]`; result: per layer, `[row, head, token, d_head]` each
    pub(super) fn cross_keys_values(&self, hooks: &mut Hooks, text: &Tensor<3>) -> Vec<[Tensor<4>; 2]> {
        let of_layer = |(layer, block): (usize, &Layer)| {
            let at = |inner: Inner| Site::CrossAttn(inner).of(layer);
            let (k, v) = block.encoder_attn.keys_values(hooks, at, text.clone());
            [in_order(k), in_order(v)]
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
        if time == 1 && self.steps(state) {
            let rows = codes.dims()[0];
            let seen = Tensor::<1, Int>::from_data([state.len() as i64], &codes.device());
            let numbers = Tensor::cat(vec![codes.reshape([rows * self.config.num_codebooks]), seen], 0);
            return self.step(hooks, state, numbers, rows);
        }
        let start = state.first_step() + state.len();
        begin(hooks, start, state.layout().listed(0), state);
        let x = hooks.at(HookPoint::decoder(None, Site::Embed), self.embed(codes) + state.positions(time));
        let causal = state.causal_bias(time);
        let rows = if time == 1 { Rows::Steps } else { Rows::Positions };
        let mut x = self.run(hooks, state, x, &Columned { rows, causal: causal.as_ref(), step: None });
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

    /// As [`Self::forward`], of codes on the host, `[row, codebook, time]` in row-major order: a decode step uploads them
    /// and what else it needs at once.
    pub(super) fn forward_codes(
        &self,
        hooks: &mut Hooks,
        state: &mut DecoderState,
        mut codes: Vec<i64>,
        time: usize,
    ) -> Tensor<4> {
        let codebooks = self.config.num_codebooks;
        let rows = codes.len() / (codebooks * time);
        let device = self.device();
        if time == 1 && self.steps(state) {
            codes.push(state.len() as i64);
            let numbers = Tensor::<1, Int>::from_data(codes.as_slice(), &device);
            return self.step(hooks, state, numbers, rows);
        }
        let codes = Tensor::from_data(TensorData::new(codes, [rows, codebooks, time]), &device);
        self.forward(hooks, state, codes, Columns::Last)
    }

    /// Whether decode steps run in the device's own kernels.
    fn steps(&self, state: &DecoderState) -> bool {
        let Some(kernels) = &self.kernels else { return false };
        let like = self.embed_tokens.val();
        let longest = state.capacity().max(state.text_tokens());
        like.dtype() == state.dtype() && kernels.attends(&like, longest, self.config.d_head())
    }

    /// One decode step in the device's own kernels.
    fn step(&self, hooks: &mut Hooks, state: &mut DecoderState, numbers: Tensor<1, Int>, rows: usize) -> Tensor<4> {
        let Some(kernels) = &self.kernels else { unreachable!("only a device that has kernels steps") };
        let DecoderConfig { hidden_size: width, num_codebooks: codebooks, scale_embedding, .. } = self.config;
        let start = state.first_step() + state.len();
        begin(hooks, start, state.layout().listed(0), state);
        let step = StepInput { numbers, rows, codebooks, seen: state.len() };
        let factor = if scale_embedding { (width as f64).sqrt() } else { 1.0 };
        let x = kernels.embed(&step, self.embed_tokens.val(), state.all_positions(), factor);
        let x = hooks.at(HookPoint::decoder(None, Site::Embed), x.reshape([rows, 1, width]));
        let x =
            self.run(hooks, state, x, &Columned { rows: Rows::Steps, causal: None, step: Some((&**kernels, &step)) });
        state.advance(1);
        begin(hooks, start, state.layout().listed_all().as_ref(), state);
        self.read_out(hooks, x)
    }

    /// All layers on the embeddings `x` of the rows of the first one; the rows of the batch, in their order.
    fn run(&self, hooks: &mut Hooks, state: &mut DecoderState, x: Tensor<3>, columned: &Columned<'_>) -> Tensor<3> {
        let start = state.first_step() + state.len();
        let mut x = Some(x);
        let mut left = vec![];
        for (layer, block) in self.layers.iter().enumerate() {
            let Some(at_hand) = x.take() else { break };
            let (leave, stay) = state.layout().cross(layer, at_hand);
            left.extend(leave);
            if let Some(stay) = stay {
                begin(hooks, start, state.layout().listed(layer), state);
                x = Some(block.forward(hooks, layer, stay, state, columned));
            }
        }
        left.extend(x.and_then(|x| state.layout().cross(self.layers.len(), x).0));
        state.layout().ordered(left)
    }

    /// The device's own kernels, if it has any.
    pub(crate) fn kernels(&self) -> Option<&dyn Kernels> {
        self.kernels.as_deref()
    }

    /// Final norm and heads on a residual stream.
    ///
    /// # Shapes
    /// - `x`: `[row, time, width]`; result: `[row, codebook, time, vocabulary]`
    pub fn read_out(&self, hooks: &mut Hooks, x: Tensor<3>) -> Tensor<4> {
        let x = hooks.at(HookPoint::decoder(None, Site::FinalNorm), self.layer_norm.forward(x));
        let [rows, time, _] = x.dims();
        let kind = if time == 1 { Rows::Steps } else { Rows::Positions };
        let logits = match &self.lm_heads {
            Heads::Apart(heads) => {
                Tensor::stack(heads.iter().map(|head| head.forward_rows(x.clone(), kind)).collect(), 1)
            }
            Heads::Joined(heads) => {
                let DecoderConfig { num_codebooks: codebooks, vocab_size, .. } = self.config;
                let logits = heads.forward_rows(x, kind);
                if time == 1 {
                    logits.reshape([rows, codebooks, 1, vocab_size])
                } else {
                    logits.reshape([rows, time, codebooks, vocab_size]).swap_dims(1, 2)
                }
            }
        };
        hooks.at(HookPoint::decoder(None, Site::Logits), logits)
    }

    /// `[row, time, width]`: the codebooks' embeddings, summed in their order.
    fn embed(&self, codes: Tensor<3, Int>) -> Tensor<3> {
        let [rows, codebooks, time] = codes.dims();
        let offsets = self.offsets.val();
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
            self_attn: attention("self_attn")?.of_one_stream(),
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
        columned: &Columned<'_>,
    ) -> Tensor<3> {
        let kind = columned.rows;
        let x = hooks.at(Site::ResidPre.of(layer), x);
        let z = self.attend_to_past(hooks, layer, x.clone(), state, columned);
        let out = self.self_attn.out_proj();
        let x = out.forward_hooked(hooks, Site::SelfAttnOut.of(layer), z, kind, x);
        let x = hooks.at(Site::ResidMid.of(layer), x);
        let x = self.add_text(hooks, layer, x, state, columned);
        let into_mlp = hooks.at(Site::MlpIn.of(layer), x.clone());
        let normed = self.final_layer_norm.forward(into_mlp);
        let hidden = match self.activation {
            DecoderActivation::Gelu => self.fc1.forward_act(normed, kind, Act::Gelu),
            DecoderActivation::Relu => relu(self.fc1.forward_rows(normed, kind)),
        };
        let hidden = hooks.at(Site::MlpPost.of(layer), hidden);
        let x = self.fc2.forward_hooked(hooks, Site::MlpOut.of(layer), hidden, kind, x);
        hooks.at(Site::ResidPost.of(layer), x)
    }

    /// Every head's view of the past, side by side.
    fn attend_to_past(
        &self,
        hooks: &mut Hooks,
        layer: usize,
        x: Tensor<3>,
        state: &mut DecoderState,
        columned: &Columned<'_>,
    ) -> Tensor<3> {
        let at = |inner| Site::SelfAttn(inner).of(layer);
        let x = self.self_attn_layer_norm.forward(x);
        if let Some((kernels, step)) = columned.step {
            return self.self_attn.step_past(kernels, hooks, at, x, (state.past(layer), step), self.scale);
        }
        let [q, k, v] = self.self_attn.queries_keys_values(hooks, at, x, columned.rows);
        let past = state.remember(layer, k, v);
        self.self_attn.attend(hooks, at, q, past, self.scale, columned.causal.cloned())
    }

    /// `x` plus what the cross-attention says of it; rows without text pass by, unless a hook looks inside.
    fn add_text(
        &self,
        hooks: &mut Hooks,
        layer: usize,
        x: Tensor<3>,
        state: &DecoderState,
        columned: &Columned<'_>,
    ) -> Tensor<3> {
        let [rows, time, width] = x.dims();
        let at = |inner| Site::CrossAttn(inner).of(layer);
        let point = Site::CrossAttnOut.of(layer);
        let Some(text) = state.text(layer) else {
            return if hooks.wants(point) { x.clone() + hooks.at(point, x.zeros_like()) } else { x };
        };
        let (reading, kind) = (text.rows, columned.rows);
        let cond = if reading == rows { x.clone() } else { x.clone().slice([0..reading, 0..time, 0..width]) };
        let cond = self.encoder_attn_layer_norm.forward(cond);
        let [keys, values] = &text.keys_values;
        let z = if let Some((kernels, _)) = columned.step {
            self.encoder_attn.step_text(kernels, hooks, at, cond, ([keys, values], &text.bias), self.scale)
        } else {
            let q = self.encoder_attn.queries(hooks, at, cond, kind);
            let (past, bias) = ([keys.clone(), values.clone()], text.bias.clone());
            self.encoder_attn.attend(hooks, at, q, past, self.scale, Some(bias))
        };
        let out = self.encoder_attn.out_proj();
        if reading < rows && hooks.wants(point) {
            let attended = out.forward_rows(z, kind);
            let silent = Tensor::zeros([rows - reading, time, width], (&attended.device(), attended.dtype()));
            return x + hooks.at(point, Tensor::cat(vec![attended, silent], 0));
        }
        out.forward_hooked(hooks, point, z, kind, x)
    }
}

/// What a call of the decoder knows of its columns.
struct Columned<'a> {
    /// A decode step, or columns that are given.
    rows: Rows,
    /// `[1, 1, time, key]`; `None` for a single column.
    causal: Option<&'a Tensor<4>>,
    /// Of a decode step in the device's own kernels.
    step: Option<(&'a dyn Kernels, &'a StepInput)>,
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
