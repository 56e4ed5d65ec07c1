//! Noise levels from the largest to zero.

use serde::{Deserialize, Serialize};

/// How the noise levels are spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Schedule {
    /// `(σ_max^(1/ρ) + u (σ_min^(1/ρ) − σ_max^(1/ρ)))^ρ`, `u` from 0 to 1 (Karras et al. 2022, eq. 5).
    Karras {
        /// The larger, the more steps at low noise; 7 in the paper.
        rho: f64,
    },
    /// `exp(u^ρ (ln σ_max − ln σ_min) + ln σ_min)`, `u` from 1 to 0; with `ρ` 1 evenly spaced in `ln σ`.
    Polyexponential {
        /// The larger, the more steps at low noise; 1 in Stable Audio.
        rho: f64,
    },
}

/// Noise levels that cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// Nothing would be sampled.
    #[error("a schedule needs one step or more")]
    NoSteps,
    /// Levels must be positive, finite and in order.
    #[error("noise levels from {max} to {min}: expected two finite numbers above 0, the first not below the second")]
    Levels {
        /// Last level before zero.
        min: f64,
        /// First level.
        max: f64,
    },
    /// `ρ` must be positive and finite.
    #[error("rho is {rho}: expected a finite number above 0")]
    Rho {
        /// What was given.
        rho: f64,
    },
}

impl Schedule {
    /// Levels for `steps` evaluations of the model: `steps` values from `max` down to `min`, then 0.
    ///
    /// # Panics
    /// Where [`Self::check`] has something to say.
    ///
    /// # Source
    /// `get_sigmas_karras` and `get_sigmas_polyexponential`, `k_diffusion/sampling.py`, in 64 bit.
    pub fn sigmas(&self, steps: usize, min: f64, max: f64) -> Vec<f64> {
        if let Err(error) = self.check(steps, min, max) {
            panic!("{error}");
        }
        let along = |index: usize| if steps == 1 { 0.0 } else { index as f64 / (steps - 1) as f64 };
        let level = |index| match *self {
            Self::Karras { rho } => {
                let (first, last) = (max.powf(1.0 / rho), min.powf(1.0 / rho));
                (first + along(index) * (last - first)).powf(rho)
            }
            Self::Polyexponential { rho } => ((1.0 - along(index)).powf(rho) * (max.ln() - min.ln()) + min.ln()).exp(),
        };
        (0..steps).map(level).chain([0.0]).collect()
    }

    /// Whether there are such levels.
    ///
    /// # Errors
    /// [`ScheduleError`] names what is out of range.
    pub fn check(&self, steps: usize, min: f64, max: f64) -> Result<(), ScheduleError> {
        let (Self::Karras { rho } | Self::Polyexponential { rho }) = *self;
        if steps == 0 {
            return Err(ScheduleError::NoSteps);
        }
        if !(min > 0.0 && min <= max && max.is_finite()) {
            return Err(ScheduleError::Levels { min, max });
        }
        if rho > 0.0 && rho.is_finite() { Ok(()) } else { Err(ScheduleError::Rho { rho }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_fall_from_the_largest_to_the_smallest_and_end_at_zero() {
        for schedule in [Schedule::Karras { rho: 7.0 }, Schedule::Polyexponential { rho: 1.0 }] {
            let sigmas = schedule.sigmas(50, 0.3, 500.0);
            assert_eq!(sigmas.len(), 51);
            assert!((sigmas[0] - 500.0).abs() < 1e-9 && (sigmas[49] - 0.3).abs() < 1e-12, "{sigmas:?}");
            assert_eq!(sigmas[50], 0.0);
            assert!(sigmas.is_sorted_by(|a, b| a > b), "{sigmas:?}");
            let one = schedule.sigmas(1, 0.3, 500.0);
            assert!((one[0] - 500.0).abs() < 1e-9 && one[1..] == [0.0], "{one:?}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let schedule = Schedule::Polyexponential { rho: 1.0 };
        assert_eq!(schedule.check(0, 0.3, 500.0), Err(ScheduleError::NoSteps));
        for (min, max) in [(0.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), (0.1, f64::INFINITY), (-1.0, 1.0)] {
            assert!(matches!(schedule.check(5, min, max), Err(ScheduleError::Levels { .. })), "{min} {max}");
        }
        for rho in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Schedule::Karras { rho }.check(5, 0.1, 1.0), Err(ScheduleError::Rho { .. })), "{rho}");
        }
    }
}
