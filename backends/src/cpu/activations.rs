//! What stands between products, as many numbers at a time as a vector register holds.
//!
//! Burn's flex asks for one error function or exponential after another, on one thread (0.22.1): a fifth of the time of
//! CLAP's audio tower, a quarter of that of EnCodec's decoder.

#![expect(clippy::inline_always, reason = "compiled anew for the instructions of each caller")]

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

use rayon::prelude::*;

use super::kernel::{BLOCK, dispatched, multiply_add};

/// Values that a thread takes at a time.
const CHUNK: usize = 1 << 14;
/// The complementary error function as `t (a₁ + a₂ t + …) exp(−z²)`, `t = 1 / (1 + p z)`, within 1.5e-7: Abramowitz and
/// Stegun, "Handbook of Mathematical Functions", 7.1.26.
const P: f32 = 0.327_591_1;
const A: [f32; 5] = [0.254_829_6, -0.284_496_74, 1.421_413_7, -1.453_152, 1.061_405_4];
/// `ln 2` in two parts, the first with so few digits that its multiples are exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// `1 / n!`
const EXP: [f32; 8] = [1.0, 1.0, 0.5, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0];
/// Added to a number, it leaves the nearest whole number in the last bits.
const ROUND: f32 = 12_582_912.0;

/// `x Φ(x)` in place of every `x`.
pub(super) fn gelu(values: &mut [f32]) {
    // Waking a thread for fewer costs more than they do.
    if values.len() <= CHUNK { chunk(values) } else { values.par_chunks_mut(CHUNK).for_each(chunk) }
}

dispatched!(fn chunk(values: &mut [f32]) = chunk_of);

/// `FAST`: the CPU multiplies and adds in one instruction.
#[inline(always)]
fn chunk_of<const FAST: bool>(values: &mut [f32]) {
    for value in values {
        let x = *value;
        let z = x.abs() * FRAC_1_SQRT_2;
        let t = 1.0 / multiply_add::<FAST>(P, z, 1.0);
        // Half the weight of what lies beyond |x|.
        let beyond = 0.5 * t * polynomial::<FAST, 5>(&A, t) * exp::<FAST>(-z * z);
        *value = x * if x >= 0.0 { 1.0 - beyond } else { beyond };
    }
}

/// `value · gate / (1 + exp(−gate))` for rows of `width` numbers, values in the first half and gates in the second.
pub(super) fn gated_silu(y: &[f32], width: usize) -> Vec<f32> {
    let hidden = width / 2;
    let mut gated = vec![0.0; y.len() / 2];
    if gated.is_empty() {
        return gated;
    }
    let rows = CHUNK.div_ceil(hidden);
    let of = |(to, from): (&mut [f32], &[f32])| {
        for (to, from) in to.chunks_exact_mut(hidden).zip(from.chunks_exact(width)) {
            let (values, gates) = from.split_at(hidden);
            gate(values, gates, to);
        }
    };
    if y.len() / width <= rows {
        of((&mut gated, y));
    } else {
        gated.par_chunks_mut(rows * hidden).zip(y.par_chunks(rows * width)).for_each(of);
    }
    gated
}

dispatched!(fn gate(values: &[f32], gates: &[f32], to: &mut [f32]) = gate_of);

#[inline(always)]
fn gate_of<const FAST: bool>(values: &[f32], gates: &[f32], to: &mut [f32]) {
    for ((to, value), gate) in to.iter_mut().zip(values).zip(gates) {
        let power = exp::<FAST>(-gate.abs());
        let open = if *gate < 0.0 { power } else { 1.0 } / (1.0 + power);
        *to = value * (gate * open);
    }
}

/// `eˣ` for `x` of 0 or less; never less than `e⁻⁸⁷`.
#[inline(always)]
pub(super) fn exp<const FAST: bool>(x: f32) -> f32 {
    // Written so that what is no number is passed on.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = multiply_add::<FAST>(x, LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let rest = multiply_add::<FAST>(whole, -LN_2[0], x);
    let rest = multiply_add::<FAST>(whole, -LN_2[1], rest);
    // The last bits of `shifted` are the exponent.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    polynomial::<FAST, 8>(&EXP, rest) * power
}

/// `c₀ + c₁ x + …`
#[inline(always)]
fn polynomial<const FAST: bool, const N: usize>(coefficients: &[f32; N], x: f32) -> f32 {
    let mut sum = coefficients[N - 1];
    for at in (0..N - 1).rev() {
        sum = multiply_add::<FAST>(sum, x, coefficients[at]);
    }
    sum
}

dispatched!(
    /// `x` above zero, `exp(x) − 1` below, in place.
    pub(super) fn elu(x: &mut [[f32; BLOCK]]) = elu_of
);

#[inline(always)]
fn elu_of<const FAST: bool>(x: &mut [[f32; BLOCK]]) {
    for x in x.as_flattened_mut() {
        let below = exp::<FAST>(x.min(0.0)) - 1.0;
        // Written so that what is no number is passed on.
        *x = if *x < 0.0 { below } else { *x };
    }
}

dispatched!(
    /// `x + height · sin²(π · turns · x)`, in place.
    pub(super) fn snake(turns: &[f32; BLOCK], height: &[f32; BLOCK], x: &mut [[f32; BLOCK]]) = snake_of
);

/// The sine is a polynomial after the whole turns are taken off, within 1e-7 of the true one: libm's costs as much as
/// two hundred multiplications.
#[inline(always)]
fn snake_of<const FAST: bool>(turns: &[f32; BLOCK], height: &[f32; BLOCK], x: &mut [[f32; BLOCK]]) {
    for x in x {
        for channel in 0..BLOCK {
            let turned = turns[channel] * x[channel];
            let rest = turned - turned.round_ties_even();
            let square = rest * rest;
            let sum = SINE.iter().rev().fold(0.0, |sum, &factor| multiply_add::<FAST>(sum, square, factor));
            let sine = rest * sum;
            x[channel] = multiply_add::<FAST>(height[channel], sine * sine, x[channel]);
        }
    }
}

/// Taylor series of `sin(πx) / x` in `x²`; the next term is below 1e-9 where `|x| ≤ ½`.
const SINE: [f32; 7] = {
    use std::f64::consts::PI;
    let square = PI * PI;
    let mut terms = [PI as f32; 7];
    let (mut term, mut index) = (PI, 1);
    while index < 7 {
        term *= -square / ((2 * index) * (2 * index + 1)) as f64;
        terms[index] = term as f32;
        index += 1;
    }
    terms
};

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Tensor, TensorData, activation};

    use super::*;

    #[test]
    fn gelu_is_that_of_64_bit() {
        let values: Vec<f32> = (-60_000..=60_000).map(|at| at as f32 * 2e-4).chain([1e-30, -30.0, 1e9]).collect();
        let wide: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        let wide = TensorData::new(wide, [values.len()]);
        let wide = Tensor::<1>::from_data(wide, (&Device::flex(), DType::F64));
        let expected: Vec<f64> = activation::gelu(wide).into_data().try_to_vec().unwrap();
        let (mut fast, mut plain) = (values.clone(), values.clone());
        gelu(&mut fast);
        chunk_of::<false>(&mut plain);
        for found in [fast, plain] {
            let mut worst = 0.0f64;
            for ((found, expected), value) in found.iter().zip(&expected).zip(&values) {
                worst = worst.max((f64::from(*found) - expected).abs() / f64::from(value.abs()).max(1e-30));
            }
            eprintln!("at most {worst:.1e} of x");
            assert!(worst < 4e-7, "{worst:.1e}");
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let mut values = [f32::NAN, f32::INFINITY, 0.0, -1e9];
        gelu(&mut values);
        assert!(values[0].is_nan());
        assert_eq!(values[1], f32::INFINITY);
        assert_eq!(values[2], 0.0);
        assert!(values[3].abs() < 1e-20);
    }

    #[test]
    fn a_gate_is_that_of_64_bit() {
        let (rows, hidden) = (700, 90);
        let y: Vec<f32> = (0..rows * 2 * hidden).map(|at| (at as f32 * 0.37).sin() * (at % 61) as f32).collect();
        let (mut plain, fast) = (vec![0.0; rows * hidden], gated_silu(&y, 2 * hidden));
        for (to, from) in plain.chunks_exact_mut(hidden).zip(y.chunks_exact(2 * hidden)) {
            gate_of::<false>(&from[..hidden], &from[hidden..], to);
        }
        for found in [fast, plain] {
            for (found, from) in found.chunks_exact(hidden).zip(y.chunks_exact(2 * hidden)) {
                for (at, found) in found.iter().enumerate() {
                    let [value, gate] = [from[at], from[hidden + at]].map(f64::from);
                    let expected = value * gate / (1.0 + (-gate).exp());
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error <= 5e-7 * (value * gate).abs(), "{value} by {gate}: {error:.1e}");
                }
            }
        }
        assert!(gated_silu(&[1.0, f32::NAN], 2)[0].is_nan());
    }

    #[test]
    fn elu_is_that_of_64_bit() {
        let values: Vec<f32> = (-64_000..64_000).map(|at| at as f32 * 5e-4).chain([-1e9; 64]).collect();
        let (mut fast, mut plain) = (values.clone(), values.clone());
        elu(fast.as_chunks_mut().0);
        elu_of::<false>(plain.as_chunks_mut().0);
        for found in [fast, plain] {
            for (found, value) in found.iter().zip(&values) {
                let expected = if *value > 0.0 { f64::from(*value) } else { f64::from(*value).exp_m1() };
                // An exponential near one is rounded to its last place.
                assert!((f64::from(*found) - expected).abs() < 1.2e-7, "{value}: {found}, not {expected}");
            }
        }
        let mut none = [[f32::NAN; BLOCK]];
        elu(&mut none);
        assert!(none[0].iter().all(|value| value.is_nan()));
    }

    #[test]
    fn the_sine_is_within_rounding() {
        let (mut largest, turns, height) = (0f64, [1.0 / std::f32::consts::PI; 64], [1.0; 64]);
        for index in -4000..4000 {
            let x = index as f32 * 0.01;
            let mut rows = [[x; 64]];
            snake(&turns, &height, &mut rows);
            // What the sum with `x` rounds off is not the sine's.
            let sine = (f64::from(turns[0]) * std::f64::consts::PI * f64::from(x)).sin();
            largest = largest.max((f64::from(rows[0][0]) - f64::from(x) - sine * sine).abs());
        }
        // Of 40, half a unit in the last place is 2e-6; of 40 / π turns, 5e-7.
        assert!(largest < 5e-6, "{largest:.1e}");
    }
}
