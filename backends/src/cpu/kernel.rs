//! `x Wᵀ` for one panel of outputs, with weights in 32, 16 or 8 bits: the inner loops, written so that the compiler
//! turns them into vector instructions.
//!
//! A sum runs over a block of inputs in order, and the blocks' sums are scaled and added in order. Nothing in that
//! depends on how many rows `x` has or on which thread does it, so that a row's result is the same bit for bit alone and
//! in a batch.

#![expect(clippy::inline_always, reason = "compiled anew for the instructions of each caller")]

use half::f16;

use super::taps::Shifts;

/// Outputs in a panel: four vectors of eight.
pub(super) const WIDTH: usize = 32;
/// Inputs that are summed before the sum is added to those of other blocks.
pub(super) const BLOCK: usize = 64;
/// Rows of `x` that share one load of a weight.
const TILE: usize = 6;
/// Bytes between what is read and what is asked for.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 8 << 10;

/// What a weight is stored as.
pub(super) trait Element: Copy + Default + Send + Sync + 'static {
    /// What the sums of a block are multiplied by.
    type Scales: Scales;

    /// The weights as numbers. `N` is a multiple of eight.
    fn decode<const N: usize, const FAST: bool>(weights: &[Self; N]) -> [f32; N];
}

/// A factor for each output of a block, or none.
pub(super) trait Scales: Copy + Send + Sync + 'static {
    /// `y` and the scaled `sum` of an output.
    fn add(&self, output: usize, sum: f32, y: f32) -> f32;
}

impl Scales for () {
    #[inline(always)]
    fn add(&self, _output: usize, sum: f32, y: f32) -> f32 {
        y + sum
    }
}

/// The upper halves of 32-bit numbers: less to read, and what they round is rounded before the weights are.
impl Scales for [u16; WIDTH] {
    #[inline(always)]
    fn add(&self, output: usize, sum: f32, y: f32) -> f32 {
        y + sum * widened(self[output])
    }
}

/// The number whose upper half is this and whose lower half is nothing.
#[inline(always)]
pub(super) fn widened(upper_half: u16) -> f32 {
    f32::from_bits(u32::from(upper_half) << 16)
}

/// Weights of [`BLOCK`] inputs and [`WIDTH`] outputs, those of one input side by side.
pub(super) type Weights<E> = [[E; WIDTH]; BLOCK];

/// What a product reads at a time.
#[repr(C, align(64))]
pub(super) struct Block<E: Element> {
    pub(super) weights: Weights<E>,
    pub(super) scales: E::Scales,
}

/// `y = x Wᵀ` for the outputs of one panel.
///
/// # Shapes
/// - `weights`: one per block of inputs
/// - `x`: `[block, row]`; `y`: `[row]`
pub(super) fn panel<E: Element>(weights: &[Block<E>], x: &[[f32; BLOCK]], y: &mut [[f32; WIDTH]]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
        #[expect(unsafe_code, reason = "calls a function compiled for instructions that not every CPU has")]
        // SAFETY: the CPU has them, as was just checked.
        return unsafe { panel_avx2(weights, x, y) };
    }
    panel_of::<E, { cfg!(target_arch = "aarch64") }>(weights, x, y);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn panel_avx2<E: Element>(weights: &[Block<E>], x: &[[f32; BLOCK]], y: &mut [[f32; WIDTH]]) {
    panel_of::<E, true>(weights, x, y);
}

/// `FAST`: the CPU multiplies and adds in one instruction; on x86-64 also: it has the features of [`panel_avx2`].
#[inline(always)]
fn panel_of<E: Element, const FAST: bool>(weights: &[Block<E>], x: &[[f32; BLOCK]], y: &mut [[f32; WIDTH]]) {
    y.fill([0.0; WIDTH]);
    let blocks = weights.iter().zip(x.chunks_exact(y.len()));
    if size_of::<E>() == size_of::<f32>() || y.len() <= TILE {
        for (block, x) in blocks {
            fetch_ahead::<E, FAST>(block);
            add_block::<E, _, FAST>(&block.weights, &block.scales, x, y);
        }
    } else {
        let mut decoded = [[0.0; WIDTH]; BLOCK];
        for (block, x) in blocks {
            for (to, from) in decoded.iter_mut().zip(&block.weights) {
                *to = E::decode::<WIDTH, FAST>(from);
            }
            add_block::<f32, _, FAST>(&decoded, &block.scales, x, y);
        }
    }
}

/// Asks for what is read soon. Small weights are used up faster than the CPU looks ahead by itself (measured: a step with
/// 8 bits 15 % faster); of larger ones it does so well enough (10 % slower with than without).
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "other CPUs are not asked"))]
fn fetch_ahead<E: Element, const FAST: bool>(block: &Block<E>) {
    #[cfg(target_arch = "x86_64")]
    if FAST && size_of::<E>() == 1 {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let ahead = std::ptr::from_ref(block).cast::<i8>().wrapping_add(AHEAD);
        for line in 0..size_of::<Block<E>>() / 64 {
            #[expect(unsafe_code, reason = "the compiler does not do it by itself")]
            // SAFETY: the CPU reads nothing that the program sees, and ignores addresses that are none.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(line * 64));
            }
        }
    }
}

/// Adds the products of a convolution to `y`, one row per output step.
///
/// # Shapes
/// - `weights`: `[tap, block]`; `x`: `[block, step]`
pub(super) fn add_taps(weights: &[Block<f32>], x: &[[f32; BLOCK]], shifts: Shifts, y: &mut [[f32; WIDTH]]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        #[expect(unsafe_code, reason = "calls a function compiled for instructions that not every CPU has")]
        // SAFETY: the CPU has them, as was just checked.
        return unsafe { add_taps_avx2(weights, x, shifts, y) };
    }
    add_taps_of::<{ cfg!(target_arch = "aarch64") }>(weights, x, shifts, y);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn add_taps_avx2(weights: &[Block<f32>], x: &[[f32; BLOCK]], shifts: Shifts, y: &mut [[f32; WIDTH]]) {
    add_taps_of::<true>(weights, x, shifts, y);
}

#[inline(always)]
fn add_taps_of<const FAST: bool>(
    weights: &[Block<f32>],
    x: &[[f32; BLOCK]],
    Shifts { span, start, dilation, blocks }: Shifts,
    y: &mut [[f32; WIDTH]],
) {
    for (tap, weights) in weights.chunks_exact(blocks).enumerate() {
        for (block, weights) in weights.iter().enumerate() {
            let x = &x[block * span + start + tap * dilation..];
            add_block::<f32, _, FAST>(&weights.weights, &weights.scales, x, y);
        }
    }
}

/// Adds the products with one block of inputs to `y`.
#[inline(always)]
fn add_block<E: Element, S: Scales, const FAST: bool>(
    weights: &Weights<E>,
    scales: &S,
    x: &[[f32; BLOCK]],
    y: &mut [[f32; WIDTH]],
) {
    let mut at = 0;
    while at < y.len() {
        // As few tiles as possible, of equal size: 8 rows are 4 + 4, not 6 + 2.
        let rows = match y.len() - at {
            left @ ..=TILE => left,
            7 | 8 => 4,
            9 | 10 => 5,
            _ => TILE,
        };
        macro_rules! tile {
            ($rows:literal, $outputs:literal) => {
                if let (Some(x), Some(y)) = (x[at..].first_chunk::<$rows>(), y[at..].first_chunk_mut::<$rows>()) {
                    add_tile::<E, S, $rows, $outputs, FAST>(weights, scales, x, y);
                }
            };
        }
        // As many sums as sixteen vector registers hold beside the operands.
        match rows {
            1 => tile!(1, 32),
            2 => tile!(2, 32),
            3 => tile!(3, 32),
            4 => tile!(4, 16),
            5 => tile!(5, 16),
            _ => tile!(6, 16),
        }
        at += rows;
    }
}

/// `ROWS` rows of [`add_block`], `OUTPUTS` outputs at a time.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "counted loops over arrays are what the compiler vectorises")]
fn add_tile<E: Element, S: Scales, const ROWS: usize, const OUTPUTS: usize, const FAST: bool>(
    weights: &Weights<E>,
    scales: &S,
    x: &[[f32; BLOCK]; ROWS],
    y: &mut [[f32; WIDTH]; ROWS],
) {
    for part in 0..WIDTH / OUTPUTS {
        let mut sums = [[0.0; OUTPUTS]; ROWS];
        for input in 0..BLOCK {
            let weights = E::decode::<OUTPUTS, FAST>(&weights[input].as_chunks::<OUTPUTS>().0[part]);
            for row in 0..ROWS {
                for output in 0..OUTPUTS {
                    sums[row][output] = multiply_add::<FAST>(weights[output], x[row][input], sums[row][output]);
                }
            }
        }
        for row in 0..ROWS {
            for output in 0..OUTPUTS {
                let at = part * OUTPUTS + output;
                y[row][at] = scales.add(at, sums[row][output], y[row][at]);
            }
        }
    }
}

#[inline(always)]
pub(super) fn multiply_add<const FAST: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FAST { a.mul_add(b, c) } else { a * b + c }
}

impl Element for f32 {
    type Scales = ();

    #[inline(always)]
    fn decode<const N: usize, const FAST: bool>(weights: &[Self; N]) -> [f32; N] {
        *weights
    }
}

impl Element for f16 {
    type Scales = ();

    #[inline(always)]
    fn decode<const N: usize, const FAST: bool>(weights: &[Self; N]) -> [f32; N] {
        let mut numbers = [0.0; N];
        #[cfg(target_arch = "x86_64")]
        if FAST {
            use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
            for (to, from) in numbers.as_chunks_mut::<8>().0.iter_mut().zip(weights.as_chunks::<8>().0) {
                #[expect(unsafe_code, reason = "the compiler does not find this instruction by itself")]
                // SAFETY: eight numbers are read and eight written; `FAST` means that the CPU has the instruction.
                unsafe {
                    _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())));
                }
            }
            return numbers;
        }
        for (number, weight) in numbers.iter_mut().zip(weights) {
            *number = weight.to_f32();
        }
        numbers
    }
}

impl Element for i8 {
    type Scales = [u16; WIDTH];

    #[inline(always)]
    fn decode<const N: usize, const FAST: bool>(weights: &[Self; N]) -> [f32; N] {
        let mut numbers = [0.0; N];
        #[cfg(target_arch = "x86_64")]
        if FAST {
            use std::arch::x86_64::{_mm_loadl_epi64, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_storeu_ps};
            for (to, from) in numbers.as_chunks_mut::<8>().0.iter_mut().zip(weights.as_chunks::<8>().0) {
                #[expect(unsafe_code, reason = "the compiler takes a byte at a time by itself")]
                // SAFETY: eight bytes are read and eight numbers written; `FAST` means that the CPU has AVX2.
                unsafe {
                    let bytes = _mm_loadl_epi64(from.as_ptr().cast());
                    _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
                }
            }
            return numbers;
        }
        for (number, weight) in numbers.iter_mut().zip(weights) {
            *number = f32::from(*weight);
        }
        numbers
    }
}
