//! The rows that matrices are multiplied by, in the layout that the kernels read.

use super::{
    kernel::{BLOCK, Numbers},
    whole::{largest, whole},
};

/// Rows cut into blocks of [`BLOCK`] inputs, filled up with zeros.
pub(super) struct Rows {
    /// `[block, row]`
    pub(super) numbers: Vec<Numbers>,
    /// The same rounded, if any of the matrices is multiplied by that; else nothing.
    pub(super) rounded: Vec<Rounded>,
}

/// One block of a row in 16 bits: whole numbers up to 32767 times the scale.
pub(super) struct Rounded {
    /// Inputs in pairs, as an instruction takes them.
    pub(super) pairs: [[i16; 2]; BLOCK / 2],
    pub(super) scale: f32,
}

impl Rows {
    /// Of `x` `[row, width]`, whose elements `number` makes to `f32`; with `rounded`, if that is asked for.
    pub(super) fn new<T: Copy>(x: &[T], width: usize, number: impl Fn(T) -> f32, rounded: bool) -> Self {
        let rows = x.len() / width;
        let mut numbers = vec![[0.0; BLOCK]; width.div_ceil(BLOCK) * rows];
        for (row, x) in x.chunks_exact(width).enumerate() {
            for (block, x) in x.chunks(BLOCK).enumerate() {
                for (to, from) in numbers[block * rows + row].iter_mut().zip(x) {
                    *to = number(*from);
                }
            }
        }
        let rounded = if rounded { numbers.iter().map(Rounded::new).collect() } else { vec![] };
        Self { numbers, rounded }
    }
}

impl Rounded {
    /// The number that is largest without its sign becomes ±32767. If one is none, the scale is none.
    fn new(numbers: &Numbers) -> Self {
        let scale = largest(numbers.iter().copied()) / 32767.0;
        // Below, the factor overflows; that little counts as nothing.
        let factor = if scale > 1e-35 { scale.recip() } else { 0.0 };
        let mut pairs = [[0; 2]; BLOCK / 2];
        for (to, from) in pairs.as_flattened_mut().iter_mut().zip(numbers) {
            *to = whole(from * factor) as i16;
        }
        Self { pairs, scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fill_the_range_and_are_off_by_half_a_step() {
        for size in [1e-30_f32, 1.0, 1e30] {
            let numbers = std::array::from_fn(|input| ((input * 7919 % 1009) as f32 / 500.0 - 1.0) * size);
            let Rounded { pairs, scale } = Rounded::new(&numbers);
            assert_eq!(pairs.as_flattened().iter().map(|whole| whole.unsigned_abs()).max(), Some(32767));
            for (whole, exact) in pairs.as_flattened().iter().zip(&numbers) {
                let error = (f32::from(*whole) * scale - exact).abs();
                // Half a step, and what rounding to 32 bits does to 15.
                assert!(error <= 0.51 * scale, "{error} of a step of {scale}");
            }
        }
    }

    #[test]
    fn numbers_that_are_none_make_the_scale_none() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut numbers = [1.0; BLOCK];
            numbers[3] = bad;
            assert!(!Rounded::new(&numbers).scale.is_finite());
        }
        assert_eq!(Rounded::new(&[0.0; BLOCK]).scale, 0.0);
    }
}
