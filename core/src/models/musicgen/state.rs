//! What the decoder remembers while it generates.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::Decoder;
use crate::hooks::{Hooks, Inner, Site};

/// Added to the scores of what must not be seen: the least finite 32-bit number, as transformers has it.
const MASKED: f32 = f32::MIN;

/// Text of a batch, as the decoder's cross-attention takes it.
#[derive(Debug, Clone)]
pub struct Text {
    /// `[sequence, token, width]`, zero where masked.
    pub states: Tensor<3>,
    /// `[sequence][token]`: whether the token is one.
    pub mask: Vec<Vec<bool>>,
}

/// Caches of one batch: keys and values of the text, computed once, and of the past, preallocated.
#[derive(Debug)]
pub struct DecoderState {
    sequences: usize,
    branches: usize,
    depth: usize,
    first_step: usize,
    len: usize,
    capacity: usize,
    /// Per layer `[row, head, capacity, d_head]`; taken out while it is written, so that it is written in place.
    past: Vec<Option<[Tensor<4>; 2]>>,
    /// Per layer `[row with text, head, token, d_head]`.
    cross: Vec<[Tensor<4>; 2]>,
    /// `[row with text, 1, 1, token]`
    cross_bias: Tensor<4>,
    /// `[capacity, width]`
    positions: Tensor<2>,
    device: Device,
    dtype: DType,
}

impl DecoderState {
    /// Caches for up to `capacity` columns of the sequences in `text`, twice as many rows if `guided`: the conditional
    /// ones first.
    pub fn new(decoder: &Decoder, hooks: &mut Hooks, text: &Text, guided: bool, capacity: usize) -> Self {
        let config = decoder.config();
        let device = decoder.device();
        let dtype = text.states.dtype();
        let [sequences, tokens, _] = text.states.dims();
        let branches = if guided { 2 } else { 1 };
        let rows = sequences * branches;
        hooks.begin(0, sequences);
        // The unconditional rows are computed only for those who look at them.
        let inside = [Inner::Q, Inner::K, Inner::V, Inner::Pattern, Inner::Z];
        let watched = guided
            && (0..config.num_hidden_layers)
                .any(|layer| inside.iter().any(|&inner| hooks.wants(Site::CrossAttn(inner).of(layer))));
        let mut bias: Vec<f32> =
            text.mask.iter().flatten().map(|&is_token| if is_token { 0.0 } else { MASKED }).collect();
        let mut states = text.states.clone();
        if watched {
            bias.extend(std::iter::repeat_n(MASKED, sequences * tokens));
            states = Tensor::cat(vec![states.clone(), states.zeros_like()], 0);
        }
        let reading = states.dims()[0];
        let bias = TensorData::new(bias, [reading, 1, 1, tokens]);
        let cache = || Tensor::zeros([rows, config.num_attention_heads, capacity, config.d_head()], (&device, dtype));
        Self {
            sequences,
            branches,
            depth: config.num_hidden_layers,
            first_step: 0,
            len: 0,
            capacity,
            past: (0..config.num_hidden_layers).map(|_| Some([cache(), cache()])).collect(),
            cross: decoder.cross_keys_values(hooks, &states),
            cross_bias: Tensor::from_data(bias, (&device, dtype)),
            positions: positions(capacity, config.hidden_size, &device, dtype),
            device,
            dtype,
        }
    }

    /// Runs only the first `depth` layers: what follows them reads their residual stream.
    #[must_use]
    pub fn with_depth(mut self, depth: usize) -> Self {
        self.depth = depth.min(self.depth);
        self
    }

    /// Counts generation steps from `step` on, for a window that continues another.
    #[must_use]
    pub fn with_first_step(mut self, step: usize) -> Self {
        self.first_step = step;
        self
    }

    /// Sequences per guidance branch.
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// 2 with guidance, else 1.
    pub fn branches(&self) -> usize {
        self.branches
    }

    /// Columns seen so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no column was seen yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Layers that run.
    pub fn depth(&self) -> usize {
        self.depth
    }

    pub(super) fn first_step(&self) -> usize {
        self.first_step
    }

    pub(super) fn rows_with_text(&self) -> usize {
        self.cross_bias.dims()[0]
    }

    pub(super) fn advance(&mut self, time: usize) {
        self.len += time;
    }

    pub(super) fn text(&self, layer: usize) -> ([Tensor<4>; 2], Tensor<4>) {
        (self.cross[layer].clone(), self.cross_bias.clone())
    }

    /// `[1, time, width]`: positions of the next `time` columns.
    pub(super) fn positions(&self, time: usize) -> Tensor<3> {
        assert!(
            self.len + time <= self.capacity,
            "the caches hold {} columns, {} asked",
            self.capacity,
            self.len + time
        );
        let width = self.positions.dims()[1];
        self.positions.clone().slice([self.len..self.len + time, 0..width]).unsqueeze()
    }

    /// `[1, 1, time, past + time]`; `None` for a single column, which may see everything.
    pub(super) fn causal_bias(&self, time: usize) -> Option<Tensor<4>> {
        if time == 1 {
            return None;
        }
        let keys = self.len + time;
        let seen = |query: usize, key: usize| if key <= self.len + query { 0.0 } else { MASKED };
        let bias: Vec<f32> = (0..time).flat_map(|query| (0..keys).map(move |key| seen(query, key))).collect();
        Some(Tensor::from_data(TensorData::new(bias, [1, 1, time, keys]), (&self.device, self.dtype)))
    }

    /// Writes the keys and values of new columns and returns those of all columns: `[row, head, past + time, d_head]`.
    pub(super) fn remember(&mut self, layer: usize, k: Tensor<4>, v: Tensor<4>) -> [Tensor<4>; 2] {
        let [rows, heads, time, d_head] = k.dims();
        let here = [0..rows, 0..heads, self.len..self.len + time, 0..d_head];
        let all = [0..rows, 0..heads, 0..self.len + time, 0..d_head];
        let Some([keys, values]) = self.past[layer].take() else {
            unreachable!("a layer's cache is put back before it is asked for again")
        };
        let keys = keys.slice_assign(here.clone(), k);
        let values = values.slice_assign(here, v);
        let seen = [keys.clone().slice(all.clone()), values.clone().slice(all)];
        self.past[layer] = Some([keys, values]);
        seen
    }
}

/// `[cos | sin]` of `position · 10000^(−i / (half − 1))`, in 32-bit arithmetic as the reference computes it.
fn positions(len: usize, width: usize, device: &Device, dtype: DType) -> Tensor<2> {
    let half = width / 2;
    let step = -((10_000f64.ln() / (half as f64 - 1.0)) as f32);
    let frequencies: Vec<f32> = (0..half).map(|index| (index as f32 * step).exp()).collect();
    let mut table = Vec::with_capacity(len * width);
    for position in 0..len {
        let angles = frequencies.iter().map(|frequency| position as f32 * frequency);
        table.extend(angles.clone().map(f32::cos));
        table.extend(angles.map(f32::sin));
        table.resize((position + 1) * width, 0.0);
    }
    Tensor::from_data(TensorData::new(table, [len, width]), (device, dtype))
}
