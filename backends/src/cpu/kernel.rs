//! `x Wᵀ` for one panel of outputs, with weights in 32, 16, 8 or 4 bits: the inner loops, written so that the compiler
//! turns them into vector instructions.
//!
//! A sum runs over a block of inputs in order, and the blocks' sums are added in order. Nothing in that
//! depends on how many rows `x` has or on which thread does it, so that a row's result is the same bit for bit alone and
//! in a batch.

#![expect(clippy::inline_always, reason = "compiled anew for the instructions of each caller")]

use half::f16;

use super::{rows::Rows, taps::Shifts};

/// Outputs in a panel: four vectors of eight.
pub(super) const WIDTH: usize = 32;
/// Inputs that are summed before the sum is added to those of other blocks.
pub(super) const BLOCK: usize = 64;
/// Rows of `x` that share one load of a weight.
const TILE: usize = 6;

/// A function that is `$of::<true>`, compiled for AVX2, where the CPU has that; elsewhere `$of` as everything is compiled.
/// Its parameter says whether the CPU multiplies and adds in one instruction.
macro_rules! dispatched {
    ($(#[$doc:meta])* $visible:vis fn $name:ident($($argument:ident: $type:ty),*) = $of:ident) => {
        $(#[$doc])*
        $visible fn $name($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) {
                    $of::<true>($($argument),*);
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    #[expect(unsafe_code, reason = "calls a function compiled for instructions that not every CPU has")]
                    // SAFETY: the CPU has them, as was just checked.
                    return unsafe { avx2($($argument),*) };
                }
            }
            $of::<{ cfg!(target_arch = "aarch64") }>($($argument),*);
        }
    };
}
pub(super) use dispatched;

/// Weights of [`BLOCK`] inputs and [`WIDTH`] outputs as a product reads them.
pub(super) trait Block: Send + Sync + 'static {
    /// What of one row a block is multiplied by.
    type Row;
    /// More rows than [`TILE`] are multiplied by this, made of a block once.
    type Decoded: Block<Row = Self::Row>;
    /// Whether the rows are [`Rows::rounded`].
    const ROUNDED: bool = false;

    /// The form of the rows that a block is multiplied by.
    fn rows(x: &Rows) -> &[Self::Row];

    /// `None` where a block is as fast as what could be made of it.
    fn decoded<const FAST: bool>(&self) -> Option<Self::Decoded>;

    /// Adds the products of `ROWS` rows to `y`, computing `OUTPUTS` outputs at a time.
    fn add<const ROWS: usize, const OUTPUTS: usize, const FAST: bool>(
        &self,
        x: &[Self::Row; ROWS],
        y: &mut [[f32; WIDTH]; ROWS],
    );
}

/// What of a row one block of numbers is multiplied by.
pub(super) type Numbers = [f32; BLOCK];

/// A block of numbers, those of one input side by side.
#[repr(C, align(64))]
pub(super) struct Exact<E>(pub(super) [[E; WIDTH]; BLOCK]);

/// What a number is stored as.
pub(super) trait Element: Copy + Send + Sync + 'static {
    /// The numbers. `N` is a multiple of eight.
    fn decode<const N: usize, const FAST: bool>(weights: &[Self; N]) -> [f32; N];
}

/// `y = x Wᵀ` for the outputs of one panel.
///
/// # Shapes
/// - `weights`: one per block of inputs
/// - `x`: `[block, row]`; `y`: `[row]`
pub(super) fn panel<B: Block>(weights: &[B], x: &[B::Row], y: &mut [[f32; WIDTH]]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
        #[expect(unsafe_code, reason = "calls a function compiled for instructions that not every CPU has")]
        // SAFETY: the CPU has them, as was just checked.
        return unsafe { panel_avx2(weights, x, y) };
    }
    panel_of::<B, { cfg!(target_arch = "aarch64") }>(weights, x, y);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn panel_avx2<B: Block>(weights: &[B], x: &[B::Row], y: &mut [[f32; WIDTH]]) {
    panel_of::<B, true>(weights, x, y);
}

/// `FAST`: the CPU multiplies and adds in one instruction; on x86-64 also: it has the features of [`panel_avx2`].
#[inline(always)]
fn panel_of<B: Block, const FAST: bool>(weights: &[B], x: &[B::Row], y: &mut [[f32; WIDTH]]) {
    y.fill([0.0; WIDTH]);
    for (block, x) in weights.iter().zip(x.chunks_exact(y.len())) {
        let decoded = if y.len() > TILE { block.decoded::<FAST>() } else { None };
        match decoded {
            Some(decoded) => add_block::<_, FAST>(&decoded, x, y),
            None => add_block::<_, FAST>(block, x, y),
        }
    }
}

/// Adds the products of a convolution to `y`, one row per output step.
///
/// # Shapes
/// - `weights`: `[tap, block]`; `x`: `[block, step]`
pub(super) fn add_taps(weights: &[Exact<f32>], x: &[Numbers], shifts: Shifts, y: &mut [[f32; WIDTH]]) {
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
fn add_taps_avx2(weights: &[Exact<f32>], x: &[Numbers], shifts: Shifts, y: &mut [[f32; WIDTH]]) {
    add_taps_of::<true>(weights, x, shifts, y);
}

#[inline(always)]
fn add_taps_of<const FAST: bool>(
    weights: &[Exact<f32>],
    x: &[Numbers],
    Shifts { span, start, dilation, blocks }: Shifts,
    y: &mut [[f32; WIDTH]],
) {
    for (tap, weights) in weights.chunks_exact(blocks).enumerate() {
        for (block, weights) in weights.iter().enumerate() {
            let x = &x[block * span + start + tap * dilation..];
            add_block::<_, FAST>(weights, x, y);
        }
    }
}

/// Adds the products with one block of inputs to `y`.
#[inline(always)]
fn add_block<B: Block, const FAST: bool>(block: &B, x: &[B::Row], y: &mut [[f32; WIDTH]]) {
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
                    tile::<B, $rows, $outputs, FAST>(block, x, y);
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

/// [`Block::add`]. In WebAssembly a function of its own: what compiles that keeps sums in registers in small functions only.
#[cfg_attr(target_family = "wasm", inline(never))]
#[cfg_attr(not(target_family = "wasm"), inline(always))]
fn tile<B: Block, const ROWS: usize, const OUTPUTS: usize, const FAST: bool>(
    block: &B,
    x: &[B::Row; ROWS],
    y: &mut [[f32; WIDTH]; ROWS],
) {
    block.add::<ROWS, OUTPUTS, FAST>(x, y);
}

impl<E: Element> Block for Exact<E> {
    type Row = Numbers;
    type Decoded = Exact<f32>;

    #[inline(always)]
    fn rows(x: &Rows) -> &[Numbers] {
        &x.numbers
    }

    #[inline(always)]
    fn decoded<const FAST: bool>(&self) -> Option<Exact<f32>> {
        (size_of::<E>() < size_of::<f32>()).then(|| {
            let mut numbers = [[0.0; WIDTH]; BLOCK];
            for (to, from) in numbers.iter_mut().zip(&self.0) {
                *to = E::decode::<WIDTH, FAST>(from);
            }
            Exact(numbers)
        })
    }

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "counted loops over arrays are what the compiler vectorises")]
    fn add<const ROWS: usize, const OUTPUTS: usize, const FAST: bool>(
        &self,
        x: &[Numbers; ROWS],
        y: &mut [[f32; WIDTH]; ROWS],
    ) {
        for part in 0..WIDTH / OUTPUTS {
            let mut sums = [[0.0; OUTPUTS]; ROWS];
            for input in 0..BLOCK {
                let weights = E::decode::<OUTPUTS, FAST>(&self.0[input].as_chunks::<OUTPUTS>().0[part]);
                for row in 0..ROWS {
                    for output in 0..OUTPUTS {
                        sums[row][output] = multiply_add::<FAST>(weights[output], x[row][input], sums[row][output]);
                    }
                }
            }
            for row in 0..ROWS {
                for output in 0..OUTPUTS {
                    y[row][part * OUTPUTS + output] += sums[row][output];
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn multiply_add<const FAST: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FAST { a.mul_add(b, c) } else { a * b + c }
}

impl Element for f32 {
    #[inline(always)]
    fn decode<const N: usize, const FAST: bool>(weights: &[Self; N]) -> [f32; N] {
        *weights
    }
}

impl Element for f16 {
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
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        for (to, from) in numbers.as_chunks_mut::<4>().0.iter_mut().zip(weights.as_chunks::<4>().0) {
            use std::arch::wasm32::{f32x4_mul, i32x4_load_extend_i16x4, i32x4_shl, u32x4_splat, v128_and, v128_store};
            #[expect(unsafe_code, reason = "the compiler does not find these instructions by itself")]
            // SAFETY: four numbers are read and four written.
            unsafe {
                let bits = i32x4_shl(i32x4_load_extend_i16x4(from.as_ptr().cast()), 13);
                // The sign, and what is one number 2^112 times too small; all weights are finite.
                let small = v128_and(bits, u32x4_splat(0x8fff_e000));
                v128_store(to.as_mut_ptr().cast(), f32x4_mul(small, u32x4_splat((127 + 112) << 23)));
            }
        }
        #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
        for (number, weight) in numbers.iter_mut().zip(weights) {
            *number = weight.to_f32();
        }
        numbers
    }
}
