//! What the decoder remembers while it generates.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{
    Decoder,
    lanes::{Layout, RowSharing, indices},
};
use crate::{
    hooks::{AttnSite, Hooks, Site},
    nn::masked,
};

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
    layout: Layout,
    first_step: usize,
    len: usize,
    capacity: usize,
    /// Per layer `[row, head, capacity, d_head]`; taken out while it is written, so that it is written in place.
    past: Vec<Option<[Tensor<4>; 2]>>,
    /// Per layer, of the rows that read the text, which come first.
    cross: Vec<Option<CrossState>>,
    /// `[capacity, width]`
    positions: Tensor<2>,
    device: Device,
    dtype: DType,
}

/// What the rows of one layer read of the text.
#[derive(Debug, Clone)]
pub(super) struct CrossState {
    /// How many rows read.
    pub(super) rows: usize,
    /// `[row or 1, head, token, d_head]`: one row where all read the same.
    pub(super) keys_values: [Tensor<4>; 2],
    /// `[row or 1, 1, 1, token]`
    pub(super) bias: Tensor<4>,
}

impl DecoderState {
    /// Caches for up to `capacity` columns of the sequences in `text`, twice as many rows if `guided`: the conditional
    /// ones first.
    pub fn new(decoder: &Decoder, hooks: &mut Hooks, text: &Text, guided: bool, capacity: usize) -> Self {
        let layers = decoder.config().num_hidden_layers;
        let lanes: Vec<RowSharing> = (0..text.mask.len()).map(|index| RowSharing::alone(index, layers)).collect();
        Self::of_lanes(decoder, hooks, text, &lanes, guided, capacity)
    }

    /// Caches for sequences that share what `lanes` say; the texts are those of `text`.
    pub fn of_lanes(
        decoder: &Decoder,
        hooks: &mut Hooks,
        text: &Text,
        lanes: &[RowSharing],
        guided: bool,
        capacity: usize,
    ) -> Self {
        let config = decoder.config();
        let device = decoder.device();
        let dtype = text.states.dtype();
        let branches = if guided { 2 } else { 1 };
        let layers = config.num_hidden_layers;
        let layout = Layout::new(lanes, branches, layers, &device);
        let cache =
            |rows| Tensor::zeros([rows, config.num_attention_heads, capacity, config.d_head()], (&device, dtype));
        Self {
            sequences: lanes.len(),
            branches,
            first_step: 0,
            len: 0,
            capacity,
            past: (0..layers)
                .map(|layer| layout.active(layer).len())
                .map(|rows| Some([cache(rows), cache(rows)]))
                .collect(),
            cross: cross_states(decoder, hooks, text, lanes, &layout),
            positions: positions(capacity, config.hidden_size, &device, dtype),
            layout,
            device,
            dtype,
        }
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

    pub(super) fn first_step(&self) -> usize {
        self.first_step
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn advance(&mut self, time: usize) {
        self.len += time;
    }

    /// Columns that the caches hold at most.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The type of the caches.
    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }

    /// Tokens of the text, padding included.
    pub(super) fn text_tokens(&self) -> usize {
        self.cross.iter().flatten().next().map_or(0, |text| text.bias.dims()[3])
    }

    /// `[capacity, width]`: positions of all columns.
    pub(super) fn all_positions(&self) -> Tensor<2> {
        self.positions.clone()
    }

    /// A layer's keys and values: `[row, head, capacity, d_head]` each.
    pub(super) fn past(&self, layer: usize) -> [&Tensor<4>; 2] {
        let Some([keys, values]) = &self.past[layer] else {
            unreachable!("a layer's cache is put back before it is asked for again")
        };
        [keys, values]
    }

    pub(super) fn text(&self, layer: usize) -> Option<&CrossState> {
        self.cross[layer].as_ref()
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
        let hidden = masked(self.dtype) as f32;
        let seen = |query: usize, key: usize| if key <= self.len + query { 0.0 } else { hidden };
        let bias: Vec<f32> = (0..time).flat_map(|query| (0..keys).map(move |key| seen(query, key))).collect();
        Some(Tensor::from_data(TensorData::new(bias, [1, 1, time, keys]), (&self.device, self.dtype)))
    }

    /// Writes the keys and values of new columns and returns those of all columns: `[row, head, past + time, d_head]`.
    pub(super) fn remember(&mut self, layer: usize, k: Tensor<4>, v: Tensor<4>) -> [Tensor<4>; 2] {
        let [rows, heads, time, d_head] = k.dims();
        if time == self.capacity {
            // All there will be: nothing to keep it beside, and in training nothing to take a gradient through.
            self.past[layer] = Some([k.clone(), v.clone()]);
            return [k, v];
        }
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

/// Keys and values of the text for the rows that read it in each layer.
///
/// They are computed once per text, unless a hook looks inside the cross-attention: then for every row, also for those
/// without text, which see nothing of it.
fn cross_states(
    decoder: &Decoder,
    hooks: &mut Hooks,
    text: &Text,
    lanes: &[RowSharing],
    layout: &Layout,
) -> Vec<Option<CrossState>> {
    let device = decoder.device();
    let layers = decoder.config().num_hidden_layers;
    let inside = [AttnSite::Q, AttnSite::K, AttnSite::V, AttnSite::Pattern, AttnSite::Z];
    let watched = (0..layers).any(|layer| inside.iter().any(|&inner| hooks.wants(Site::cross_attn(inner).of(layer))));
    let [texts, tokens, width] = text.states.dims();
    let mut states = text.states.clone();
    let mut masks: Vec<Option<&Vec<bool>>> = text.mask.iter().map(Some).collect();
    // Which of the states each row reads, if any.
    let reads = |(branch, sequence): (usize, usize)| (branch == 0).then(|| lanes[sequence].text);
    let read_by: Vec<Option<usize>> = if watched {
        let rows = layout.rows();
        let silent = rows.iter().filter(|row| row.0 > 0).count();
        let known: Vec<usize> = rows.iter().filter_map(|&row| reads(row)).collect();
        if !known.iter().copied().eq(0..texts) {
            states = states.select(0, indices(&known, &device));
            masks = known.iter().map(|&text| masks[text]).collect();
        }
        if silent > 0 {
            let zeros = Tensor::zeros([silent, tokens, width], (&device, states.dtype()));
            states = Tensor::cat(vec![states, zeros], 0);
            masks.extend(std::iter::repeat_n(None, silent));
        }
        match layout.listed_all() {
            Some(rows) => hooks.begin_rows(0, &rows, lanes.len()),
            None => hooks.begin(0, lanes.len()),
        }
        (0..rows.len()).map(Some).collect()
    } else {
        layout.rows().iter().map(|&row| reads(row)).collect()
    };
    let hidden = masked(states.dtype()) as f32;
    let bias: Vec<f32> = masks
        .iter()
        .flat_map(|mask| (0..tokens).map(move |token| if mask.is_some_and(|mask| mask[token]) { 0.0 } else { hidden }))
        .collect();
    let bias = Tensor::<4>::from_data(TensorData::new(bias, [masks.len(), 1, 1, tokens]), (&device, states.dtype()));
    let of_layer = |(layer, [k, v]): (usize, [Tensor<4>; 2])| {
        let read: Vec<usize> = layout.active(layer).iter().filter_map(|&row| read_by[row]).collect();
        let rows = read.len();
        let first = *read.first()?;
        // Rows of one text read the same row of its keys.
        let read = if read.iter().all(|&other| other == first) { vec![first] } else { read };
        let pick = |x: Tensor<4>| {
            if read.iter().copied().eq(0..x.dims()[0]) { x } else { x.select(0, indices(&read, &device)) }
        };
        Some(CrossState { rows, keys_values: [pick(k), pick(v)], bias: pick(bias.clone()) })
    };
    decoder.cross_keys_values(hooks, &states).into_iter().enumerate().map(of_layer).collect()
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
