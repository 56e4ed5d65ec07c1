//! From noise to signal: solvers of the reverse diffusion equation.

use std::{fmt, ops::ControlFlow, str::FromStr};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::Noise;

/// Solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Sampler {
    /// DPM-Solver++(2M) SDE: second order, adds noise. What Stable Audio's pipeline in diffusers and the published
    /// experiments sample with.
    #[serde(rename = "dpmpp-2m-sde")]
    Dpmpp2mSde,
    /// DPM-Solver++(3M) SDE: third order, adds noise.
    #[serde(rename = "dpmpp-3m-sde")]
    Dpmpp3mSde,
    /// DPM-Solver++(2M): second order, deterministic.
    #[serde(rename = "dpmpp-2m")]
    Dpmpp2m,
}

/// How [`Sampler::Dpmpp2mSde`] uses the estimate before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SolverType {
    /// As the slope in the middle of the step.
    #[default]
    Midpoint,
    /// As the slope at its end.
    Heun,
}

/// A solver and its settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplerSettings {
    /// Which solver.
    pub sampler: Sampler,
    /// How much of the noise that a step takes away is drawn anew: 1 the whole equation, 0 none. Of no use to
    /// [`Sampler::Dpmpp2m`].
    pub eta: f64,
    /// Scales the noise that is added.
    pub s_noise: f64,
    /// Of use to [`Sampler::Dpmpp2mSde`].
    pub solver_type: SolverType,
}

/// What a step sees.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Number of the step, from 0.
    pub index: usize,
    /// Noise level of `x`.
    pub sigma: f64,
    /// The noisy signal before the step, `[batch, channels, length]`.
    pub x: Tensor<3>,
    /// The model's estimate of the clean signal, `[batch, channels, length]`.
    pub denoised: Tensor<3>,
}

impl Sampler {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dpmpp2mSde, Self::Dpmpp3mSde, Self::Dpmpp2m];

    /// As it is written on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dpmpp2mSde => "dpmpp-2m-sde",
            Self::Dpmpp3mSde => "dpmpp-3m-sde",
            Self::Dpmpp2m => "dpmpp-2m",
        }
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No sampler of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no sampler `{0}`; there are `dpmpp-2m-sde`, `dpmpp-3m-sde` and `dpmpp-2m`")]
pub struct UnknownSampler(String);

impl FromStr for Sampler {
    type Err = UnknownSampler;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|sampler| sampler.name() == name);
        found.ok_or_else(|| UnknownSampler(name.to_owned()))
    }
}

impl Default for SamplerSettings {
    /// The published settings: the whole stochastic equation, second order, midpoint.
    fn default() -> Self {
        Self { sampler: Sampler::Dpmpp2mSde, eta: 1.0, s_noise: 1.0, solver_type: SolverType::Midpoint }
    }
}

impl SamplerSettings {
    /// How often noise is added in `steps` steps: in all but the last, which ends at level 0, if at all.
    pub fn noises(&self, steps: usize) -> usize {
        if self.eta() == 0.0 { 0 } else { steps.saturating_sub(1) }
    }

    /// The share of noise that is really drawn.
    fn eta(&self) -> f64 {
        if self.sampler == Sampler::Dpmpp2m { 0.0 } else { self.eta }
    }
}

/// Follows the trajectory from `x` at level `sigmas[0]` down to the last level.
///
/// `denoise` estimates the clean signal from the number of the step, the noisy signal and its level. `observe` sees every
/// estimate before its step is taken and may stop there. A step down to level 0 takes the estimate as it is.
///
/// Rows do not influence each other: every coefficient is a number, and the noise is cast to the type of `x`.
///
/// # Shapes
/// - `x`, result, and what `denoise` takes and returns: `[batch, channels, length]`
///
/// # Errors
/// `Break` if `observe` stopped the sampling.
///
/// # Source
/// `sample_dpmpp_2m`, `sample_dpmpp_2m_sde`, `sample_dpmpp_3m_sde`, `k_diffusion/sampling.py`; Lu et al. 2022,
/// arXiv:2211.01095.
pub fn sample(
    denoise: &mut dyn FnMut(usize, Tensor<3>, f64) -> Tensor<3>,
    noise: &mut dyn Noise,
    x: Tensor<3>,
    sigmas: &[f64],
    how: &SamplerSettings,
    observe: &mut dyn FnMut(&Observed) -> ControlFlow<()>,
) -> ControlFlow<(), Tensor<3>> {
    let device = x.device();
    let mut x = x;
    // Estimates of the steps before and the widths of those steps, the newest first.
    let mut before: Vec<(Tensor<3>, f64)> = vec![];
    for (index, levels) in sigmas.windows(2).enumerate() {
        let (sigma, next) = (levels[0], levels[1]);
        let denoised = denoise(index, x.clone(), sigma);
        let observed = Observed { index, sigma, x, denoised };
        observe(&observed)?;
        let Observed { x: noisy, denoised, .. } = observed;
        if next == 0.0 {
            x = denoised;
            continue;
        }
        let step = Step::new(sigma, next, how);
        x = match how.sampler {
            Sampler::Dpmpp2m => step.deterministic(noisy, &denoised, &before),
            Sampler::Dpmpp2mSde => step.second_order(noisy, &denoised, &before, how.solver_type),
            Sampler::Dpmpp3mSde => step.third_order(noisy, &denoised, &before),
        };
        if how.eta() != 0.0 {
            let drawn = noise.between(index, sigma, next, &device).cast(x.dtype());
            x = x + drawn * (next * (-(-2.0 * how.eta() * step.width).exp_m1()).sqrt() * how.s_noise);
        }
        before.insert(0, (denoised, step.width));
        before.truncate(2);
    }
    ControlFlow::Continue(x)
}

/// A step from one level to another, in terms of `−ln σ`.
struct Step {
    /// `h`
    width: f64,
    /// `h (1 + η)`
    decay: f64,
    /// What is left of the noisy signal.
    kept: f64,
    /// `1 − exp(−h (1 + η))`
    gained: f64,
}

impl Step {
    fn new(sigma: f64, next: f64, how: &SamplerSettings) -> Self {
        let width = sigma.ln() - next.ln();
        let decay = width * (1.0 + how.eta());
        Self { width, decay, kept: (-decay).exp(), gained: -(-decay).exp_m1() }
    }

    fn first_order(&self, x: Tensor<3>, denoised: &Tensor<3>) -> Tensor<3> {
        x * self.kept + denoised.clone() * self.gained
    }

    fn deterministic(&self, x: Tensor<3>, denoised: &Tensor<3>, before: &[(Tensor<3>, f64)]) -> Tensor<3> {
        let [(last, width), ..] = before else { return self.first_order(x, denoised) };
        let half = 0.5 * self.width / width;
        self.first_order(x, &(denoised.clone() * (1.0 + half) - last.clone() * half))
    }

    fn second_order(
        &self,
        x: Tensor<3>,
        denoised: &Tensor<3>,
        before: &[(Tensor<3>, f64)],
        solver: SolverType,
    ) -> Tensor<3> {
        let x = self.first_order(x, denoised);
        let [(last, width), ..] = before else { return x };
        let share = match solver {
            SolverType::Midpoint => 0.5 * self.gained,
            SolverType::Heun => self.phi_2(),
        };
        x + (denoised.clone() - last.clone()) * (share * self.width / width)
    }

    fn third_order(&self, x: Tensor<3>, denoised: &Tensor<3>, before: &[(Tensor<3>, f64)]) -> Tensor<3> {
        let x = self.first_order(x, denoised);
        let [(last, width), rest @ ..] = before else { return x };
        let r0 = width / self.width;
        let slope = (denoised.clone() - last.clone()) / r0;
        let phi_2 = self.phi_2();
        let [(oldest, width)] = rest else { return x + slope * phi_2 };
        let r1 = width / self.width;
        let bend = slope.clone() - (last.clone() - oldest.clone()) / r1;
        let phi_3 = phi_2 / self.decay - 0.5;
        x + (slope + bend.clone() * (r0 / (r0 + r1))) * phi_2 - bend * (phi_3 / (r0 + r1))
    }

    /// `(exp(−h) − 1) / h + 1` of the decay.
    fn phi_2(&self) -> f64 {
        (-self.decay).exp_m1() / self.decay + 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for sampler in Sampler::ALL {
            assert_eq!(sampler.to_string().parse(), Ok(sampler));
            assert_eq!(serde_json::to_value(sampler).expect("a name"), sampler.name());
        }
        assert!("euler".parse::<Sampler>().expect_err("unknown").to_string().contains("`dpmpp-2m`"));
    }

    #[test]
    fn noise_is_asked_for_where_it_is_added() {
        let sde = SamplerSettings::default();
        assert_eq!((sde.noises(50), sde.noises(1), sde.noises(0)), (49, 0, 0));
        assert_eq!(SamplerSettings { eta: 0.0, ..sde }.noises(50), 0);
        assert_eq!(SamplerSettings { sampler: Sampler::Dpmpp2m, ..sde }.noises(50), 0);
    }
}
