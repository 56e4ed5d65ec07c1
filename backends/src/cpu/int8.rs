//! Matrices in 8 bits.
//!
//! A weight is a whole number up to 127 times the scale of its output and block of inputs. Activations are rounded to
//! 16 bits per row and block, which costs a thousandth of what rounding the weights does; then a block's sum is one of
//! whole numbers, exact in any order, and twice as fast as in `f32` on CPUs where conversions are slow.

use tonoscope_core::checkpoint::MatrixValues;

use super::{
    kernel::{BLOCK, WIDTH},
    pack::{Activations, Panel, for_each_block},
};

/// Inputs, two at a time.
const PAIRS: usize = BLOCK / 2;
/// Rows of `x` that share one load of a weight.
const TILE: usize = 6;

/// Weights of [`BLOCK`] inputs and [`WIDTH`] outputs: `[pair of inputs, output, input of the pair]`.
#[repr(C, align(64))]
struct Block {
    weights: [[[i8; 2]; WIDTH]; PAIRS],
    scales: [f32; WIDTH],
}

/// A matrix cut into panels of [`WIDTH`] outputs, each cut into blocks of [`BLOCK`] inputs, filled up with zeros.
pub(super) struct Int8Panels {
    /// `[panel, block]`
    blocks: Vec<Block>,
    blocks_per_panel: usize,
}

/// [`BLOCK`] numbers of a row in 16 bits, two in a word, the earlier one in the lower half.
pub(super) struct Rounded {
    pairs: [i32; PAIRS],
    scale: f32,
}

impl Rounded {
    pub(super) fn new(x: &[f32; BLOCK]) -> Self {
        let (scale, factor) = scale(x.iter().copied(), 32767.0);
        let mut pairs = [0; PAIRS];
        for (pair, [even, odd]) in pairs.iter_mut().zip(x.as_chunks::<2>().0) {
            *pair = whole(even * factor) & 0xffff | whole(odd * factor) << 16;
        }
        Self { pairs, scale }
    }
}

/// The scale with which the largest number becomes `largest`, and what to multiply by. A number that is none makes the
/// scale one that is none, and stays visible in the result.
fn scale(numbers: impl Iterator<Item = f32>, largest: f32) -> (f32, f32) {
    // As bits, numbers without sign are in order, then come infinity and what is no number.
    let found = numbers.map(|number| number.abs().to_bits().cast_signed()).fold(0, i32::max);
    let found = f32::from_bits(found.cast_unsigned());
    // Below, the factor overflows; that little counts as nothing.
    let factor = if found > 1e-33 { largest / found } else { 0.0 };
    (found / largest, factor)
}

/// The nearest whole number to one below 2^22; unlike `round` two additions on every CPU.
fn whole(number: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    (number + SHIFT).to_bits().cast_signed().wrapping_sub(SHIFT.to_bits().cast_signed())
}

impl Int8Panels {
    /// The largest weight of a block and output becomes ±127.
    pub(super) fn new(shape: [usize; 2], values: &MatrixValues<'_>) -> Self {
        let blocks = for_each_block(shape, values, |numbers| {
            let mut block = Block { weights: [[[0; 2]; WIDTH]; PAIRS], scales: [0.0; WIDTH] };
            for output in 0..WIDTH {
                let (scale, factor) = scale(numbers.0.iter().map(|row| row[output]), 127.0);
                block.scales[output] = scale;
                for (pair, inputs) in block.weights.iter_mut().zip(numbers.0.as_chunks::<2>().0) {
                    pair[output] = inputs.map(|row| whole(row[output] * factor) as i8);
                }
            }
            block
        });
        Self { blocks, blocks_per_panel: shape[1].div_ceil(BLOCK) }
    }
}

impl Panel for Int8Panels {
    fn activations(&self, x: Vec<[f32; BLOCK]>) -> Activations {
        Activations::Rounded(x.iter().map(Rounded::new).collect())
    }

    fn product(&self, panel: usize, x: &Activations, y: &mut [[f32; WIDTH]]) {
        let Activations::Rounded(x) = x else { unreachable!("made by `activations`") };
        let blocks = &self.blocks[panel * self.blocks_per_panel..][..self.blocks_per_panel];
        y.fill([0.0; WIDTH]);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            #[expect(unsafe_code, reason = "calls a function compiled for instructions that not every CPU has")]
            // SAFETY: the CPU has them, as was just checked.
            return unsafe { avx2::product(blocks, x, y) };
        }
        plain_product(blocks, x, y);
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.blocks)
    }
}

/// For CPUs without better.
fn plain_product(blocks: &[Block], x: &[Rounded], y: &mut [[f32; WIDTH]]) {
    for (block, x) in blocks.iter().zip(x.chunks_exact(y.len())) {
        for (x, y) in x.iter().zip(y.iter_mut()) {
            let mut sums = [0_i32; WIDTH];
            for (weights, pair) in block.weights.iter().zip(x.pairs) {
                let (even, odd) = (i32::from(pair as i16), pair >> 16);
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += i32::from(weight[0]) * even + i32::from(weight[1]) * odd;
                }
            }
            for ((y, sum), scale) in y.iter_mut().zip(sums).zip(block.scales) {
                *y += sum as f32 * (scale * x.scale);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_madd_epi16, _mm256_set1_epi32,
        _mm256_setzero_si256, _mm256_storeu_si256,
    };

    use super::{Block, PAIRS, Rounded, TILE, WIDTH};

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn product(blocks: &[Block], x: &[Rounded], y: &mut [[f32; WIDTH]]) {
        for (block, x) in blocks.iter().zip(x.chunks_exact(y.len())) {
            for (x, y) in x.chunks(TILE).zip(y.chunks_mut(TILE)) {
                macro_rules! tile {
                    ($rows:literal, $vectors:literal) => {
                        if let (Some(x), Some(y)) = (x.first_chunk::<$rows>(), y.first_chunk_mut::<$rows>()) {
                            add_tile::<$rows, $vectors>(block, x, y);
                        }
                    };
                }
                match x.len() {
                    1 => tile!(1, 4),
                    2 => tile!(2, 4),
                    3 => tile!(3, 2),
                    4 => tile!(4, 2),
                    5 => tile!(5, 2),
                    _ => tile!(6, 2),
                }
            }
        }
    }

    /// Adds the products of `ROWS` rows with one block of inputs to `y`, `VECTORS` times eight outputs at a time.
    #[target_feature(enable = "avx2,fma")]
    #[expect(clippy::needless_range_loop, reason = "counted loops over arrays stay in registers")]
    fn add_tile<const ROWS: usize, const VECTORS: usize>(
        block: &Block,
        x: &[Rounded; ROWS],
        y: &mut [[f32; WIDTH]; ROWS],
    ) {
        for part in 0..WIDTH / 8 / VECTORS {
            let mut sums = [[_mm256_setzero_si256(); VECTORS]; ROWS];
            for pair in 0..PAIRS {
                let eights = block.weights[pair].as_chunks::<8>().0;
                let weights: [__m256i; VECTORS] = std::array::from_fn(|vector| load(&eights[part * VECTORS + vector]));
                for row in 0..ROWS {
                    let x = _mm256_set1_epi32(x[row].pairs[pair]);
                    for vector in 0..VECTORS {
                        sums[row][vector] = _mm256_add_epi32(sums[row][vector], _mm256_madd_epi16(weights[vector], x));
                    }
                }
            }
            for row in 0..ROWS {
                for vector in 0..VECTORS {
                    let at = (part * VECTORS + vector) * 8;
                    let whole = store(sums[row][vector]);
                    for lane in 0..8 {
                        let scale = block.scales[at + lane] * x[row].scale;
                        y[row][at + lane] = (whole[lane] as f32).mul_add(scale, y[row][at + lane]);
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx2")]
    fn load(weights: &[[i8; 2]; 8]) -> __m256i {
        #[expect(unsafe_code, reason = "reads through a pointer")]
        // SAFETY: sixteen bytes are read, which is what there is.
        let bytes = unsafe { _mm_loadu_si128(weights.as_ptr().cast()) };
        _mm256_cvtepi8_epi16(bytes)
    }

    #[target_feature(enable = "avx2")]
    fn store(numbers: __m256i) -> [i32; 8] {
        let mut array = [0; 8];
        #[expect(unsafe_code, reason = "writes through a pointer")]
        // SAFETY: eight numbers are written, and there is room for eight.
        unsafe {
            _mm256_storeu_si256(array.as_mut_ptr().cast(), numbers);
        }
        array
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_is_round() {
        for number in [0.0, 0.4, -0.4, 0.6, -0.6, 126.9, -126.9, 127.0, -127.0, 32767.0, -32767.0, 1.5, -1.5, 2.5] {
            assert_eq!(whole(number), number.round_ties_even() as i32);
        }
    }

    #[test]
    fn both_ways_give_the_same_up_to_rounding() {
        let numbers: Vec<f32> = (0..70 * 200).map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0).collect();
        let panels = Int8Panels::new([70, 200], &MatrixValues::F32(numbers.as_slice().into()));
        let x: Vec<[f32; BLOCK]> =
            (0..5 * 4).map(|i| std::array::from_fn(|k| ((i * 31 + k * 17) % 97) as f32 - 48.0)).collect();
        let x = panels.activations(x);
        let Activations::Rounded(rounded) = &x else { unreachable!() };
        for panel in 0..3 {
            let (mut fast, mut plain) = ([[0.0; WIDTH]; 5], [[0.0; WIDTH]; 5]);
            panels.product(panel, &x, &mut fast);
            plain_product(&panels.blocks[panel * 4..][..4], rounded, &mut plain);
            for (fast, plain) in fast.as_flattened().iter().zip(plain.as_flattened()) {
                assert!((fast - plain).abs() < 1e-2, "{fast} {plain}");
            }
        }
    }
}
