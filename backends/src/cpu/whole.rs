//! Weights as whole numbers.
//!
//! A weight is a small whole number times the scale of its output and group of inputs; so are the rows of the block, in 16
//! bits: they lose 250 times less than weights of 8 bits. The whole numbers of a group are multiplied and added exactly,
//! two inputs by one instruction, without converting every weight to `f32`; scales and sums of groups are `f32`.

#![expect(clippy::inline_always, reason = "compiled anew for the instructions of each caller")]

use super::{
    kernel::{BLOCK, Block, WIDTH},
    rows::{Rounded, Rows},
};

/// Bytes between what is read and what is asked for.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 8 << 10;

/// How the whole numbers of a block are stored.
pub(super) trait Stored: Send + Sync + 'static {
    /// Inputs that share a scale.
    const GROUP: usize;

    /// Where a pair of inputs begins, to be asked for ahead of its use.
    fn address(&self, pair: usize) -> *const i8;

    /// A pair of inputs of eight outputs, side by side.
    fn pairs<const FAST: bool>(&self, pair: usize, eight: usize) -> [[i16; 2]; 8];

    /// What they are multiplied by.
    fn scale(&self, group: usize, output: usize) -> f32;
}

/// A block of whole numbers.
pub(super) struct Whole<S>(pub(super) S);

impl<S: Stored> Block for Whole<S> {
    type Row = Rounded;
    type Decoded = Self;
    const ROUNDED: bool = true;

    #[inline(always)]
    fn rows(x: &Rows) -> &[Rounded] {
        &x.rounded
    }

    #[inline(always)]
    fn decoded<const FAST: bool>(&self) -> Option<Self> {
        None
    }

    #[inline(always)]
    fn add<const ROWS: usize, const OUTPUTS: usize, const FAST: bool>(
        &self,
        x: &[Rounded; ROWS],
        y: &mut [[f32; WIDTH]; ROWS],
    ) {
        for (part, group) in (0..WIDTH / OUTPUTS).flat_map(|part| (0..BLOCK / S::GROUP).map(move |group| (part, group)))
        {
            // At most 64 · 127 · 32767: far from too large.
            let mut sums = [[0; OUTPUTS]; ROWS];
            for pair in group * S::GROUP / 2..(group + 1) * S::GROUP / 2 {
                if part == 0 {
                    fetch_ahead::<FAST>(self.0.address(pair));
                }
                for eight in 0..OUTPUTS / 8 {
                    let weights = self.0.pairs::<FAST>(pair, part * OUTPUTS / 8 + eight);
                    for (sums, x) in sums.iter_mut().zip(x) {
                        add_pairs::<FAST>(&weights, x.pairs[pair], &mut sums.as_chunks_mut::<8>().0[eight]);
                    }
                }
            }
            for ((sums, x), y) in sums.iter().zip(x).zip(y.iter_mut()) {
                for (output, sum) in sums.iter().enumerate() {
                    let output = part * OUTPUTS + output;
                    y[output] += *sum as f32 * x.scale * self.0.scale(group, output);
                }
            }
        }
    }
}

/// Asks for what is read soon: small weights are used up faster than the CPU looks ahead by itself.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "other CPUs are not asked"))]
fn fetch_ahead<const FAST: bool>(weights: *const i8) {
    #[cfg(target_arch = "x86_64")]
    if FAST {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[expect(unsafe_code, reason = "the compiler does not do it by itself")]
        // SAFETY: the CPU reads nothing that the program sees, and ignores addresses that are none.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD));
        }
    }
}

/// Adds the products of one pair of inputs to the sums of eight outputs.
#[inline(always)]
fn add_pairs<const FAST: bool>(weights: &[[i16; 2]; 8], x: [i16; 2], sums: &mut [i32; 8]) {
    #[cfg(target_arch = "x86_64")]
    if FAST {
        use std::arch::x86_64::{
            _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi32, _mm256_storeu_si256,
        };
        let x = i32::from(x[1]) << 16 | i32::from(x[0].cast_unsigned());
        #[expect(unsafe_code, reason = "the compiler does not find this instruction by itself")]
        // SAFETY: sixteen and eight numbers are read, eight written; `FAST` means that the CPU has AVX2.
        unsafe {
            let products = _mm256_madd_epi16(_mm256_loadu_si256(weights.as_ptr().cast()), _mm256_set1_epi32(x));
            let total = _mm256_add_epi32(_mm256_loadu_si256(sums.as_ptr().cast()), products);
            _mm256_storeu_si256(sums.as_mut_ptr().cast(), total);
        }
        return;
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    {
        use std::arch::wasm32::{i16x8, i32x4_add, i32x4_dot_i16x8, v128_load, v128_store};
        let x = i16x8(x[0], x[1], x[0], x[1], x[0], x[1], x[0], x[1]);
        for (sums, weights) in sums.as_chunks_mut::<4>().0.iter_mut().zip(weights.as_chunks::<4>().0) {
            #[expect(unsafe_code, reason = "the compiler does not find this instruction by itself")]
            // SAFETY: eight and four numbers are read, four written.
            unsafe {
                let products = i32x4_dot_i16x8(v128_load(weights.as_ptr().cast()), x);
                v128_store(sums.as_mut_ptr().cast(), i32x4_add(v128_load(sums.as_ptr().cast()), products));
            }
        }
    }
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    for (sum, weights) in sums.iter_mut().zip(weights) {
        *sum += i32::from(weights[0]) * i32::from(x[0]) + i32::from(weights[1]) * i32::from(x[1]);
    }
}

/// The number whose upper half is this and whose lower half is nothing.
#[inline(always)]
pub(super) fn widened(upper_half: u16) -> f32 {
    f32::from_bits(u32::from(upper_half) << 16)
}

/// The smallest number that is not below `number` and has nothing in the lower half of its bits; what is no number stays
/// none.
pub(super) fn upper_half(number: f32) -> u16 {
    if number.is_nan() { 0x7fc0 } else { (number.to_bits().next_multiple_of(1 << 16) >> 16) as u16 }
}

/// The largest of the numbers without their signs. One that is none counts as larger than all, so that it makes the
/// scale one that is none, and stays visible in every result.
pub(super) fn largest(numbers: impl Iterator<Item = f32>) -> f32 {
    // As bits, numbers without sign are in order, then come infinity and what is no number.
    f32::from_bits(numbers.map(|number| number.abs().to_bits()).fold(0, u32::max))
}

/// The nearest whole number to one below 2^22; unlike `round_ties_even` two additions on every CPU.
pub(super) fn whole(number: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    (number + SHIFT).to_bits().cast_signed().wrapping_sub(SHIFT.to_bits().cast_signed())
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
    fn scales_are_rounded_up_and_stay_what_they_are() {
        for number in [0.0, 1e-40, 1e-9, 0.007_874_016, 1.0, 3.3, 1e30, f32::INFINITY] {
            let rounded = widened(upper_half(number));
            assert!(number <= rounded && rounded <= number * (1.0 + 1.0 / 128.0) + 1e-40, "{number} {rounded}");
        }
        assert!(widened(upper_half(f32::NAN)).is_nan());
        assert!(widened(upper_half(f32::from_bits(0x7fff_ffff))).is_nan());
    }
}
