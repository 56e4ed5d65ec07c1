//! Weights in 4 bits.

#![expect(clippy::inline_always, reason = "compiled anew for the instructions of each caller")]

use super::{
    kernel::{BLOCK, WIDTH},
    whole::{Stored, upper_half, whole, widened},
};

/// Inputs that share a scale.
const GROUP: usize = 32;
/// What the largest weight of a group is tried as. Its sign is the scale's, so that it may be -8, and beyond: what is cut off
/// of one weight may be gained by all others.
const TRIED: [f32; 9] = [-7.0, -7.5, -8.0, -8.5, -9.0, -9.5, -10.0, -10.5, -11.0];

/// Weights of 4 bits.
#[repr(C, align(64))]
pub(super) struct Int4 {
    /// Two inputs of an output: the first in the lower half of a byte.
    pairs: [[i8; WIDTH]; BLOCK / 2],
    /// The upper halves of 32-bit numbers.
    scales: [[u16; WIDTH]; BLOCK / GROUP],
}

impl Int4 {
    /// With the scales, of those that are tried, whose squared error is least.
    pub(super) fn new(numbers: &[[f32; WIDTH]; BLOCK]) -> Self {
        let mut block = Self { pairs: [[0; WIDTH]; BLOCK / 2], scales: [[0; WIDTH]; BLOCK / GROUP] };
        for (group, numbers) in numbers.as_chunks::<GROUP>().0.iter().enumerate() {
            for (output, stored) in block.scales[group].iter_mut().enumerate() {
                let weights = std::array::from_fn(|input| numbers[input][output]);
                let scale = best_scale(&weights);
                *stored = scale;
                for (pair, weights) in weights.as_chunks::<2>().0.iter().enumerate() {
                    let [first, second] = weights.map(|weight| nearest(weight, factor(scale)));
                    block.pairs[group * GROUP / 2 + pair][output] = (second << 4 | first & 15) as i8;
                }
            }
        }
        block
    }
}

/// Upper half of the scale of a group.
fn best_scale(weights: &[f32; GROUP]) -> u16 {
    // One that is no number counts as larger than all, so that it makes the scale none, and stays visible.
    let largest = weights.iter().copied().max_by_key(|weight| weight.abs().to_bits()).unwrap_or(0.0);
    let error = |scale: u16| -> f32 {
        let (step, factor) = (widened(scale), factor(scale));
        weights.iter().map(|weight| (weight - nearest(*weight, factor) as f32 * step).powi(2)).sum()
    };
    if !largest.is_finite() {
        return upper_half(largest);
    }
    let scales = TRIED.map(|tried| upper_half(largest / tried));
    scales.into_iter().min_by(|one, other| error(*one).total_cmp(&error(*other))).unwrap_or(0)
}

/// What weights are multiplied by to become whole numbers.
fn factor(scale: u16) -> f32 {
    let scale = widened(scale);
    // Below, the factor overflows; that little counts as nothing.
    if scale.abs() > 1e-34 { scale.recip() } else { 0.0 }
}

fn nearest(weight: f32, factor: f32) -> i32 {
    whole((weight * factor).clamp(-8.0, 7.0))
}

impl Stored for Int4 {
    const GROUP: usize = GROUP;

    #[inline(always)]
    fn address(&self, pair: usize) -> *const i8 {
        self.pairs[pair].as_ptr()
    }

    #[inline(always)]
    fn pairs<const FAST: bool>(&self, pair: usize, eight: usize) -> [[i16; 2]; 8] {
        widen::<FAST>(&self.pairs[pair].as_chunks().0[eight])
    }

    #[inline(always)]
    fn scale(&self, group: usize, output: usize) -> f32 {
        widened(self.scales[group][output])
    }
}

/// Pairs of eight outputs in 16 bits.
#[inline(always)]
fn widen<const FAST: bool>(weights: &[i8; 8]) -> [[i16; 2]; 8] {
    #[cfg(target_arch = "x86_64")]
    if FAST {
        use std::arch::x86_64::{
            _mm_loadl_epi64, _mm256_blend_epi16, _mm256_cvtepi8_epi32, _mm256_slli_epi32, _mm256_srai_epi16,
            _mm256_storeu_si256,
        };
        let mut wide = [[0; 2]; 8];
        #[expect(unsafe_code, reason = "the compiler does not find these instructions by itself")]
        // SAFETY: eight bytes are read and sixteen numbers written; `FAST` means that the CPU has AVX2.
        unsafe {
            // Of 32 bits: the second number in the upper half, the first at the top of the lower half.
            let both = _mm256_slli_epi32::<12>(_mm256_cvtepi8_epi32(_mm_loadl_epi64(weights.as_ptr().cast())));
            let numbers = _mm256_blend_epi16::<0xaa>(_mm256_srai_epi16::<12>(both), both);
            _mm256_storeu_si256(wide.as_mut_ptr().cast(), numbers);
        }
        return wide;
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    {
        use std::arch::wasm32::{i16x8_load_extend_i8x8, i16x8_shl, i16x8_shr, i16x8_shuffle, v128_store};
        let mut wide = [[0; 2]; 8];
        #[expect(unsafe_code, reason = "the compiler does not find these instructions by itself")]
        // SAFETY: eight bytes are read and sixteen numbers written.
        unsafe {
            let both = i16x8_load_extend_i8x8(weights.as_ptr());
            let (first, second) = (i16x8_shr(i16x8_shl(both, 12), 12), i16x8_shr(both, 4));
            let to: *mut [i16; 2] = wide.as_mut_ptr();
            v128_store(to.cast(), i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(first, second));
            v128_store(to.add(4).cast(), i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(first, second));
        }
        wide
    }
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    weights.map(|both| [i16::from(both << 4 >> 4), i16::from(both >> 4)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_what_they_were_within_half_a_step_but_for_the_largest() {
        let number = |input: usize, output: usize| ((input * 7919 + output * 31) % 1009) as f32 / 500.0 - 1.0;
        let numbers = std::array::from_fn(|input| std::array::from_fn(|output| number(input, output)));
        let block = Int4::new(&numbers);
        for (input, output) in (0..BLOCK).flat_map(|input| (0..WIDTH).map(move |output| (input, output))) {
            let pair = block.pairs::<false>(input / 2, output / 8)[output % 8];
            let step = block.scale(input / GROUP, output);
            let (weight, exact) = (f32::from(pair[input % 2]), numbers[input][output]);
            let error = (weight * step - exact).abs();
            let cut = (exact / step) > 7.5 || (exact / step) < -8.5;
            assert!(cut || error <= 0.5001 * step.abs(), "{error} of a step of {step}");
            // Evenly spread numbers fill the range: a step is a fifteenth of it, or a little less.
            assert!((0.1..0.16).contains(&step.abs()), "{step}");
        }
    }

    #[test]
    fn halves_of_bytes_come_apart() {
        let bytes = [0x12, 0x7f, -128, -1, 0x08, -0x71, 0, 0x70];
        let expected = [[2, 1], [-1, 7], [0, -8], [-1, -1], [-8, 0], [-1, -8], [0, 0], [0, 7]];
        assert_eq!(widen::<false>(&bytes), expected);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            assert_eq!(widen::<true>(&bytes), expected);
        }
    }

    #[test]
    fn nothing_but_zeros_stays_zero() {
        let block = Int4::new(&[[0.0; WIDTH]; BLOCK]);
        assert_eq!(block.pairs, [[0; WIDTH]; BLOCK / 2]);
        assert_eq!(block.scale(0, 0), 0.0);
    }
}
