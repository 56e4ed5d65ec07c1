//! Weights in 8 bits.
//!
//! A weight is a whole number up to 127 times the scale of its output and block of inputs. Products are those of `f32`:
//! the numbers are converted on their way from memory, and a block's sums are multiplied by their scales.

use super::kernel::{self, BLOCK, Block, WIDTH, Weights};

/// The largest weight of each output becomes ±127, or, where its scale is rounded up much, ±126.
pub(super) fn rounded(numbers: &Weights<f32>) -> Block<i8> {
    let mut block = Block { weights: [[0; WIDTH]; BLOCK], scales: [0; WIDTH] };
    for output in 0..WIDTH {
        let largest = largest(numbers.iter().map(|row| row[output]));
        block.scales[output] = upper_half(largest / 127.0);
        // Below, the factor overflows; that little counts as nothing.
        let factor = if largest > 1e-33 { kernel::widened(block.scales[output]).recip() } else { 0.0 };
        for (weights, row) in block.weights.iter_mut().zip(numbers) {
            weights[output] = whole(row[output] * factor) as i8;
        }
    }
    block
}

/// The smallest number that is not below `number` and has nothing in the lower half of its bits; what is no number stays
/// none.
fn upper_half(number: f32) -> u16 {
    if number.is_nan() { 0x7fc0 } else { (number.to_bits().next_multiple_of(1 << 16) >> 16) as u16 }
}

/// The largest of the numbers without their signs. One that is none counts as larger than all, so that it makes the
/// scale one that is none, and stays visible in every result.
fn largest(numbers: impl Iterator<Item = f32>) -> f32 {
    // As bits, numbers without sign are in order, then come infinity and what is no number.
    f32::from_bits(numbers.map(|number| number.abs().to_bits()).fold(0, u32::max))
}

/// The nearest whole number to one below 2^22; unlike `round_ties_even` two additions on every CPU.
fn whole(number: f32) -> i32 {
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
    fn weights_fill_the_range_and_are_off_by_half_a_step() {
        let number = |input: usize, output: usize| ((input * 7919 + output * 31) % 1009) as f32 / 500.0 - 1.0;
        let numbers = std::array::from_fn(|input| std::array::from_fn(|output| number(input, output)));
        let block = rounded(&numbers);
        for output in 0..WIDTH {
            let step = kernel::widened(block.scales[output]);
            let largest = block.weights.iter().map(|row| row[output].unsigned_abs()).max();
            assert!(matches!(largest, Some(126 | 127)), "{largest:?}");
            for (row, exact) in block.weights.iter().zip(&numbers) {
                let error = (f32::from(row[output]) * step - exact[output]).abs();
                assert!(error <= 0.5001 * step, "{error} of a step of {step}");
            }
        }
    }

    #[test]
    fn scales_are_rounded_up_and_stay_what_they_are() {
        for number in [0.0, 1e-40, 1e-9, 0.007_874_016, 1.0, 3.3, 1e30, f32::INFINITY] {
            let rounded = kernel::widened(upper_half(number));
            assert!(number <= rounded && rounded <= number * (1.0 + 1.0 / 128.0) + 1e-40, "{number} {rounded}");
        }
        assert!(kernel::widened(upper_half(f32::NAN)).is_nan());
        assert!(kernel::widened(upper_half(f32::from_bits(0x7fff_ffff))).is_nan());
    }

    #[test]
    fn nothing_but_zeros_stays_zero() {
        let block = rounded(&[[0.0; WIDTH]; BLOCK]);
        assert_eq!((block.weights, block.scales), ([[0; WIDTH]; BLOCK], [0; WIDTH]));
    }
}
