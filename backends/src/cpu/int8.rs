//! Weights in 8 bits.

#![expect(clippy::inline_always, reason = "compiled anew for the instructions of each caller")]

use super::{
    kernel::{BLOCK, WIDTH},
    whole::{Stored, largest, upper_half, whole, widened},
};

/// Weights of 8 bits.
#[repr(C, align(64))]
pub(super) struct Int8 {
    /// Two inputs of an output side by side.
    pairs: [[[i8; 2]; WIDTH]; BLOCK / 2],
    /// The upper halves of 32-bit numbers: less to read, and what they round is rounded before the weights are.
    scales: [u16; WIDTH],
}

impl Int8 {
    /// The largest weight of each output becomes ±127, or, where its scale is rounded up much, ±126.
    pub(super) fn new(numbers: &[[f32; WIDTH]; BLOCK]) -> Self {
        let mut block = Self { pairs: [[[0; 2]; WIDTH]; BLOCK / 2], scales: [0; WIDTH] };
        for output in 0..WIDTH {
            let largest = largest(numbers.iter().map(|row| row[output]));
            block.scales[output] = upper_half(largest / 127.0);
            // Below, the factor overflows; that little counts as nothing.
            let factor = if largest > 1e-33 { widened(block.scales[output]).recip() } else { 0.0 };
            for (input, row) in numbers.iter().enumerate() {
                block.pairs[input / 2][output][input % 2] = whole(row[output] * factor) as i8;
            }
        }
        block
    }
}

impl Stored for Int8 {
    const GROUP: usize = BLOCK;

    #[inline(always)]
    fn address(&self, pair: usize) -> *const i8 {
        self.pairs[pair].as_ptr().cast()
    }

    #[inline(always)]
    fn pairs<const FAST: bool>(&self, pair: usize, eight: usize) -> [[i16; 2]; 8] {
        widen::<FAST>(&self.pairs[pair].as_chunks().0[eight])
    }

    #[inline(always)]
    fn scale(&self, _: usize, output: usize) -> f32 {
        widened(self.scales[output])
    }
}

/// Pairs of eight outputs in 16 bits.
#[inline(always)]
fn widen<const FAST: bool>(weights: &[[i8; 2]; 8]) -> [[i16; 2]; 8] {
    #[cfg(target_arch = "x86_64")]
    if FAST {
        use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtepi8_epi16, _mm256_storeu_si256};
        let mut wide = [[0; 2]; 8];
        #[expect(unsafe_code, reason = "the compiler does not find this instruction by itself")]
        // SAFETY: sixteen bytes are read and sixteen numbers written; `FAST` means that the CPU has AVX2.
        unsafe {
            let numbers = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.as_ptr().cast()));
            _mm256_storeu_si256(wide.as_mut_ptr().cast(), numbers);
        }
        return wide;
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    {
        use std::arch::wasm32::{i16x8_load_extend_i8x8, v128_store};
        let mut wide = [[0; 2]; 8];
        for (to, from) in wide.as_chunks_mut::<4>().0.iter_mut().zip(weights.as_chunks::<4>().0) {
            #[expect(unsafe_code, reason = "the compiler does not find this instruction by itself")]
            // SAFETY: eight bytes are read and eight numbers written.
            unsafe {
                v128_store(to.as_mut_ptr().cast(), i16x8_load_extend_i8x8(from.as_ptr().cast()));
            }
        }
        wide
    }
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    weights.map(|pair| pair.map(i16::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_fill_the_range_and_are_off_by_half_a_step() {
        let number = |input: usize, output: usize| ((input * 7919 + output * 31) % 1009) as f32 / 500.0 - 1.0;
        let numbers = std::array::from_fn(|input| std::array::from_fn(|output| number(input, output)));
        let block = Int8::new(&numbers);
        for output in 0..WIDTH {
            let step = widened(block.scales[output]);
            let weights = || block.pairs.iter().flat_map(|pairs| pairs[output]);
            let largest = weights().map(i8::unsigned_abs).max();
            assert!(matches!(largest, Some(126 | 127)), "{largest:?}");
            for (weight, exact) in weights().zip(&numbers) {
                let error = (f32::from(weight) * step - exact[output]).abs();
                assert!(error <= 0.5001 * step, "{error} of a step of {step}");
            }
        }
    }

    #[test]
    fn nothing_but_zeros_stays_zero() {
        let block = Int8::new(&[[0.0; WIDTH]; BLOCK]);
        assert_eq!((block.pairs, block.scales), ([[[0; 2]; WIDTH]; BLOCK / 2], [0; WIDTH]));
    }
}
