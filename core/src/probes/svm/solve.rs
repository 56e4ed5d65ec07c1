//! The dual problem, two rows at a time.

use super::{SvmSettings, kernel::KernelRows};
use crate::probes::ProbeError;

/// Stands for a curvature that is not positive.
const TAU: f64 = 1e-12;
/// Rows beside the one that is asked for that are worth making.
const LIKELY: usize = 15;

/// Weights of the rows, and what is taken off the sum of their kernels.
pub(super) struct Solution {
    pub(super) alpha: Vec<f64>,
    pub(super) rho: f64,
}

struct State<'a> {
    positive: &'a [bool],
    c: f64,
    alpha: Vec<f64>,
    /// `−yₜ ∂/∂αₜ`: how much the objective gains by moving `yₜαₜ` up.
    gain: Vec<f64>,
}

/// Solves for the weights.
pub(super) fn solve(
    rows: &mut KernelRows<'_>,
    positive: &[bool],
    settings: &SvmSettings,
) -> Result<Solution, ProbeError> {
    let count = rows.len();
    let gain = positive.iter().map(|positive| if *positive { 1.0 } else { -1.0 }).collect();
    let mut state = State { positive, c: settings.c, alpha: vec![0.0; count], gain };
    let most = 10_000_000.max(count.saturating_mul(100));
    for _ in 0..most {
        let Some(up) = state.steepest() else { return Ok(state.solution()) };
        rows.bring(up, |rows| state.violators(rows));
        let Some(down) = state.partner(up, rows.row(up), settings.tolerance) else { return Ok(state.solution()) };
        rows.bring(down, |rows| state.violators(rows));
        state.step(up, down, rows);
    }
    Err(ProbeError::Solver { reason: format!("the support vector machine has not converged after {most} steps") })
}

impl State<'_> {
    /// Whether `yα` of a row can grow.
    fn can_rise(&self, row: usize) -> bool {
        if self.positive[row] { self.alpha[row] < self.c } else { self.alpha[row] > 0.0 }
    }

    /// Whether `yα` of a row can shrink.
    fn can_fall(&self, row: usize) -> bool {
        if self.positive[row] { self.alpha[row] > 0.0 } else { self.alpha[row] < self.c }
    }

    /// The row that gains most by rising; of equals the last, as libsvm.
    fn steepest(&self) -> Option<usize> {
        let mut best: Option<usize> = None;
        for row in 0..self.gain.len() {
            if best.is_none_or(|best| self.gain[row] >= self.gain[best]) && self.can_rise(row) {
                best = Some(row);
            }
        }
        best
    }

    /// The row that, falling while `up` rises, lowers the objective most; `None` at the optimum.
    fn partner(&self, up: usize, kernel: &[f32], tolerance: f64) -> Option<usize> {
        let highest = self.gain[up];
        let (mut lowest, mut best, mut chosen) = (f64::INFINITY, f64::INFINITY, None);
        for (row, &kernel) in kernel.iter().enumerate() {
            if !self.can_fall(row) {
                continue;
            }
            let difference = highest - self.gain[row];
            lowest = lowest.min(self.gain[row]);
            if difference > 0.0 {
                let curvature = 2.0 - 2.0 * f64::from(kernel);
                let change = -(difference * difference) / if curvature > 0.0 { curvature } else { TAU };
                if change <= best {
                    (best, chosen) = (change, Some(row));
                }
            }
        }
        if highest - lowest < tolerance { None } else { chosen }
    }

    fn step(&mut self, up: usize, down: usize, rows: &KernelRows<'_>) {
        let (kernel_up, kernel_down) = (rows.row(up), rows.row(down));
        let curvature = 2.0 - 2.0 * f64::from(kernel_up[down]);
        let wanted = (self.gain[up] - self.gain[down]) / if curvature > 0.0 { curvature } else { TAU };
        let room = |row: usize, rises: bool| {
            if self.positive[row] == rises { self.c - self.alpha[row] } else { self.alpha[row] }
        };
        let (room_up, room_down) = (room(up, true), room(down, false));
        let step = wanted.min(room_up).min(room_down);
        for (row, rises, room) in [(up, true, room_up), (down, false, room_down)] {
            let grows = self.positive[row] == rises;
            self.alpha[row] = match (grows, step >= room) {
                // Exactly at the end, or the row would be asked for again.
                (true, true) => self.c,
                (false, true) => 0.0,
                (true, false) => self.alpha[row] + step,
                (false, false) => self.alpha[row] - step,
            };
        }
        for ((gain, up), down) in self.gain.iter_mut().zip(kernel_up).zip(kernel_down) {
            *gain -= step * (f64::from(*up) - f64::from(*down));
        }
    }

    /// Rows that are not there and will soon be asked for: those that violate the conditions of the optimum most.
    fn violators(&self, rows: &KernelRows<'_>) -> Vec<usize> {
        let absent = |row: &usize| !rows.has(*row);
        let mut rising: Vec<usize> = (0..self.gain.len()).filter(absent).filter(|row| self.can_rise(*row)).collect();
        let mut falling: Vec<usize> = (0..self.gain.len()).filter(absent).filter(|row| self.can_fall(*row)).collect();
        let first = |of: &mut Vec<usize>, sign: f64| -> Vec<usize> {
            let wanted = LIKELY.div_ceil(2);
            if of.len() > wanted {
                of.select_nth_unstable_by(wanted, |a, b| (sign * self.gain[*b]).total_cmp(&(sign * self.gain[*a])));
            }
            of.truncate(wanted);
            of.sort_unstable();
            std::mem::take(of)
        };
        [first(&mut rising, 1.0), first(&mut falling, -1.0)].concat()
    }

    /// Where free rows put the boundary, or the middle of what is allowed.
    fn solution(self) -> Solution {
        let (mut above, mut below) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut sum, mut free) = (0.0, 0.0);
        for row in 0..self.alpha.len() {
            let value = -self.gain[row];
            match (self.can_rise(row), self.can_fall(row)) {
                (true, true) => (sum, free) = (sum + value, free + 1.0),
                (true, false) => above = above.min(value),
                (false, _) => below = below.max(value),
            }
        }
        let rho = if free > 0.0 { sum / free } else { f64::midpoint(above, below) };
        Solution { alpha: self.alpha, rho }
    }
}
