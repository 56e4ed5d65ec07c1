//! Diffusion sampling: noise levels, solvers, and the noise that they add, for any model that estimates the clean signal.
//!
//! Reference: k-diffusion 0.1.1.post1, `k_diffusion/sampling.py` (MIT), which stable-audio-tools samples with.
//! Differs: coefficients are computed in 64 bit on the host; the noise is that of [`BrownianNoise`], since the stream of
//! torchsde's tree is tied to `PyTorch`'s generator.
//!
//! diffusers' `CosineDPMSolverMultistepScheduler` (0.42.1) is [`Sampler::Dpmpp2mSde`] with the settings that
//! [`SamplerSettings::default`] gives, over [`Schedule::Polyexponential`] with `rho` 1 (its `exponential`) or
//! [`Schedule::Karras`] with `rho` 7: its first-order last step to zero is `x = denoised` too, and its lower order before
//! the last step is never reached with its order of two. Two things differ, neither of them here: it starts from noise of
//! standard deviation `√(σ_max² + 1)` where stable-audio-tools takes `σ_max`, and it computes in 32 bit throughout.

mod brownian;
mod noise;
mod sampler;
mod schedule;

pub use brownian::{BrownianNoise, NoiseKey};
pub use noise::{Noise, RecordedNoise};
pub use sampler::{Observed, Sampler, SamplerSettings, SolverType, sample};
pub use schedule::{Schedule, ScheduleError};
