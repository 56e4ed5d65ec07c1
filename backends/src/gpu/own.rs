//! What a GPU does in kernels of our own beside products.

use burn::tensor::{DType, Device, Int, Tensor};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use tonoscope_core::checkpoint::{
    Attended, Kernels, Limits, PastAttention, Recurred, Recurrence, StepInput, TextAttention, TurnedHeads,
};

use super::{
    attention, elementwise, exact, kernels,
    matrix::{as_is, here, known, knows, there},
    recurrent,
};

/// Bytes of temporary tensors on a GPU that does not tell how much memory it has.
const UNKNOWN_MEMORY: u64 = 4 << 30;
/// Share of a GPU's memory that one temporary tensor may take.
const SHARE: u64 = 8;

/// The kernels of one GPU.
#[derive(Debug)]
pub(super) struct GpuKernels {
    device: Device,
    /// What is bound where a kernel has no use for a tensor: two, since no buffer may be bound twice.
    nothing: [Tensor<1>; 2],
    /// Whether products of 32 bits need a kernel of their own to be of 32 bits.
    exact: bool,
}

impl GpuKernels {
    pub(super) fn new(device: &Device, exact: bool) -> Self {
        let nothing = || Tensor::zeros([kernels::VECTOR], device);
        Self { device: device.clone(), nothing: [nothing(), nothing()], exact }
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Tensors that no kernel reads.
    pub(super) fn nothing(&self, dtype: DType) -> [CubeTensor; 2] {
        self.nothing.clone().map(|nothing| here(if nothing.dtype() == dtype { nothing } else { nothing.cast(dtype) }))
    }

    pub(super) fn limits(&self) -> Limits {
        let tensor = here(self.nothing[0].clone());
        let memory = &tensor.client.properties().memory;
        let share = memory.max_memory().unwrap_or(UNKNOWN_MEMORY) / SHARE;
        let numbers = |bytes: u64| usize::try_from(bytes / 4).unwrap_or(usize::MAX).max(1);
        Limits { at_once: numbers(memory.max_page_size.min(share)), buffer: numbers(memory.max_page_size) }
    }

    /// Scores that an attention kernel keeps for up to `keys` keys, if it takes them.
    fn room(&self, keys: usize, d_head: usize) -> Option<usize> {
        let tensor = here(self.nothing[0].clone());
        attention::room(keys, d_head, tensor.client.properties().hardware.max_shared_memory_size)
    }

    fn room_for(&self, keys: &Tensor<4>) -> usize {
        let [_, _, capacity, d_head] = keys.dims();
        self.room(capacity, d_head).expect("keys that fit, as `attends` says")
    }
}

impl Kernels for GpuKernels {
    fn layer_norm(&self, x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<2> {
        if !known(&x) || weight.dtype() != x.dtype() || bias.dtype() != x.dtype() {
            return burn::tensor::module::layer_norm(x, weight, Some(bias), epsilon);
        }
        there(kernels::layer_norm(here(x), here(weight), here(bias), epsilon))
    }

    fn embed(&self, step: &StepInput, tables: Tensor<2>, positions: Tensor<2>, factor: f64) -> Tensor<2> {
        let numbers = whole(&step.numbers);
        there(elementwise::embed(numbers, here(tables), here(positions), [step.rows, step.codebooks], factor))
    }

    fn attends(&self, like: &Tensor<2>, keys: usize, d_head: usize) -> bool {
        knows(like.dtype()) && self.room(keys, d_head).is_some()
    }

    fn attend_past(&self, attention: PastAttention<'_>, wanted: Attended) -> Tensor<2> {
        let PastAttention { qkv, keys, values, step, scale } = attention;
        let room = self.room_for(keys);
        let cache = [keys, values].map(|x| here(x.clone()));
        let now = (whole(&step.numbers), step.rows * step.codebooks, step.seen);
        there(attention::past(here(qkv), now, cache, scale, room, wanted == Attended::Pattern))
    }

    fn attend_text(&self, attention: TextAttention<'_>, wanted: Attended) -> Tensor<2> {
        let TextAttention { q, keys, values, bias, scale } = attention;
        let room = self.room_for(keys);
        let [keys, values, bias] = [keys, values, bias].map(|x| here(x.clone()));
        there(attention::text(here(q), [keys, values], bias, scale, room, wanted == Attended::Pattern))
    }

    fn mix(&self, pattern: Tensor<2>, values: &Tensor<4>) -> Tensor<2> {
        there(attention::mix(here(pattern), here(values.clone())))
    }

    fn guide(&self, cond: Tensor<2>, uncond: Tensor<2>, guidance: f64) -> Tensor<2> {
        if known(&cond) {
            there(elementwise::guide(here(cond), here(uncond), guidance))
        } else {
            uncond.clone() + (cond - uncond) * guidance
        }
    }

    fn blend(&self, x: Tensor<2>, a: f64, y: Tensor<2>, b: f64) -> Tensor<2> {
        if known(&x) { there(elementwise::blend((here(x), a), (here(y), b))) } else { x * a + y * b }
    }

    fn heads_first(&self, x: Tensor<3>, heads: usize, scale: f64) -> Tensor<3> {
        there(elementwise::heads_first(here(x), heads, scale))
    }

    fn turned_heads(&self, heads: TurnedHeads) -> [Tensor<3>; 3] {
        let TurnedHeads { qkv, cos, sin, heads, groups, scale } = heads;
        elementwise::turned_heads(here(qkv), [here(cos), here(sin)], [heads, groups], scale).map(there)
    }

    fn prepend(&self, first: Tensor<3>, x: Tensor<3>, copies: usize) -> Tensor<3> {
        there(elementwise::prepend(here(first), here(x), copies))
    }

    fn matmul(&self, a: &Tensor<4>, b: &Tensor<4>) -> Option<Tensor<4>> {
        let wide = a.dtype() == DType::F32 && b.dtype() == DType::F32;
        if !self.exact || !wide || !known(a) || !known(b) {
            return None;
        }
        let ([outer, inner, rows, width], [outer_b, inner_b, _, columns]) = (a.dims(), b.dims());
        if outer_b * inner_b == 1 && outer * inner > 1 {
            // One matrix for all: as one product of more rows.
            let all = a.clone().reshape([1, 1, outer * inner * rows, width]);
            let product: Tensor<4> = there(exact::matmul(as_is(all), as_is(b.clone())));
            return Some(product.reshape([outer, inner, rows, columns]));
        }
        Some(there(exact::matmul(as_is(a.clone()), as_is(b.clone()))))
    }

    fn lstm(&self, recurrence: Recurrence<'_>) -> Option<Recurred> {
        let Recurrence { inputs, weight, state, batch } = recurrence;
        let ([rows, gates], dtype) = (inputs.dims(), inputs.dtype());
        if !known(inputs) || rows < batch || state.iter().flatten().any(|x| x.dtype() != dtype) {
            return None;
        }
        let inputs = here(inputs.clone());
        let hidden = recurrent::empty(&inputs, [rows, gates / 4]);
        let mut state = state.map(|state| state.map(here));
        for step in 0..rows / batch {
            let input = recurrent::rows(&inputs, step * batch, batch)?;
            let now = recurrent::rows(&hidden, step * batch, batch)?;
            let before = state.take().map(|[hidden, cell]| [here(weight.product_of_steps(there(hidden))), cell]);
            let (begun, before) = (before.is_some(), before.unwrap_or_else(|| self.nothing(dtype)));
            let cell = recurrent::step(input, before, now.clone(), begun);
            state = Some([now, cell]);
        }
        Some(Recurred { hidden: there(hidden), state: state?.map(there) })
    }
}

/// Whole numbers on a GPU, in order.
fn whole(numbers: &Tensor<1, Int>) -> CubeTensor {
    into_contiguous(
        numbers
            .clone()
            .try_into_primitive::<CubeBackend>()
            .unwrap_or_else(|error| panic!("the input of a step for a GPU is elsewhere: {error:?}")),
    )
}
