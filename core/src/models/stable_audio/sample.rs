//! From noise to latents: the denoiser around the transformer, and its guidance.
//!
//! References: `VDenoiser`, k-diffusion 0.1.1.post1, `k_diffusion/external.py` (MIT); guidance and rescale,
//! `DiffusionTransformer.forward`, stable-audio-tools 0.0.19, `models/dit.py` (MIT); `StableAudioPipeline`, diffusers
//! 0.42.1 (Apache-2.0). Differs: scalings are computed in 64 bit on the host.

use std::{cell::Cell, f64::consts::PI, ops::ControlFlow};

use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::{Conditioning, StableAudio, dit::Prepared};
use crate::{
    checkpoint::Kernels,
    diffusion::{self, Noise, Observed, SamplerSettings, Schedule},
    hooks::{HookPoint, Hooks, Site},
    nn::as_type,
};

/// How to sample a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRequest {
    /// Denoising steps.
    pub steps: usize,
    /// Noise level of the last step.
    pub sigma_min: f64,
    /// Noise level of the first step.
    pub sigma_max: f64,
    /// The levels between them.
    pub schedule: Schedule,
    /// How steps are taken.
    pub sampler: SamplerSettings,
    /// Weight of the conditions; 1: no guidance, one row per sequence.
    pub guidance: f64,
    /// How far the guided velocity is brought back to the deviation of the conditional one, per latent over its channels:
    /// 0 not at all, 1 wholly.
    pub rescale: f64,
    /// Latents to denoise. The model was trained on its full length alone.
    pub latent_length: usize,
    /// Standard deviation of the first latents.
    #[serde(default)]
    pub initial: InitialScale,
}

/// Standard deviation of the noise that sampling starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitialScale {
    /// `σ_max`, as stable-audio-tools.
    #[default]
    Sigma,
    /// `√(σ_max² + 1)`, as diffusers.
    SigmaAndData,
}

impl InitialScale {
    /// The factor of unit noise at level `sigma`.
    pub fn factor(self, sigma: f64) -> f64 {
        match self {
            Self::Sigma => sigma,
            Self::SigmaAndData => sigma.mul_add(sigma, 1.0).sqrt(),
        }
    }
}

impl StableAudio {
    /// Samples one batch: latents `[row, channels, length]`. `observe` sees every estimate, and may stop the run.
    ///
    /// A run whose hooks fail stops too: [`Hooks::check`] then says why.
    ///
    /// # Hook points
    /// Those of the transformer, and `x0` on the estimate after guidance, whose edits the sampler goes on with; the step is
    /// that of the denoising.
    ///
    /// # Errors
    /// `Break` if `observe` or a failure of the hooks stopped it.
    ///
    /// # Panics
    /// If the noise has other rows than the conditioning.
    pub fn sample(
        &self,
        hooks: &mut Hooks,
        conditioning: &Conditioning,
        request: &SampleRequest,
        noise: &mut dyn Noise,
        observe: &mut dyn FnMut(&Observed) -> ControlFlow<()>,
    ) -> ControlFlow<(), Tensor<3>> {
        if let Err(error) = hooks.fits(conditioning.rows() / conditioning.copies.max(1)) {
            hooks.fail(error);
        }
        if hooks.check().is_err() {
            return ControlFlow::Break(());
        }
        let guided = !is_one(request.guidance);
        let prepared = self.transformer.prepare(hooks, conditioning, guided, request.latent_length);
        let sigmas = request.schedule.sigmas(request.steps, request.sigma_min, request.sigma_max);
        let first = sigmas.first().copied().unwrap_or(0.0);
        // The sampler adds up many small steps: in 32 bits, whatever the transformer has.
        let x = as_type(noise.initial(&self.device()), DType::F32) * request.initial.factor(first);
        let expected = [conditioning.rows(), self.config().latent_channels(), request.latent_length];
        assert_eq!(x.dims(), expected, "shape of the noise");
        let failed = Cell::new(false);
        let mut denoise = |step: usize, x: Tensor<3>, sigma: f64| {
            let denoised = self.denoise(hooks, &prepared, request, step, x, sigma);
            failed.set(hooks.check().is_err());
            denoised
        };
        let mut watch = |observed: &Observed| if failed.get() { ControlFlow::Break(()) } else { observe(observed) };
        let latents = diffusion::sample(&mut denoise, noise, x, &sigmas, &request.sampler, &mut watch);
        hooks.end_batch();
        latents
    }

    /// The estimate of the clean latents at one noisy state, without a sampler: step 0 of a run with `request`.
    ///
    /// # Shapes
    /// - `x`, result: `[row, channels, length]`
    pub fn estimate(
        &self,
        hooks: &mut Hooks,
        conditioning: &Conditioning,
        request: &SampleRequest,
        x: Tensor<3>,
        sigma: f64,
    ) -> Tensor<3> {
        let guided = !is_one(request.guidance);
        let prepared = self.transformer.prepare(hooks, conditioning, guided, x.dims()[2]);
        self.denoise(hooks, &prepared, request, 0, x, sigma)
    }

    /// The velocity at noisy latents of unit variance, without guidance, at a time of its own for every row: what is trained.
    ///
    /// # Shapes
    /// - `x`, result: `[row, channels, length]`; `times`: 0 (sound) to 1 (noise)
    pub fn velocities(&self, conditioning: &Conditioning, x: Tensor<3>, times: &[f64]) -> Tensor<3> {
        let hooks = &mut Hooks::none();
        let prepared = self.transformer.prepare(hooks, conditioning, false, x.dims()[2]);
        self.transformer.velocity(hooks, &prepared, 0, x, times)
    }

    /// `c_skip x + c_out v`, where `v` is the guided velocity at `c_in x`.
    fn denoise(
        &self,
        hooks: &mut Hooks,
        prepared: &Prepared,
        request: &SampleRequest,
        step: usize,
        x: Tensor<3>,
        sigma: f64,
    ) -> Tensor<3> {
        let data = self.config().scheduler.sigma_data;
        let variance = sigma.mul_add(sigma, data * data);
        let time = sigma.atan() * 2.0 / PI;
        let scaled = x.clone() / variance.sqrt();
        let velocity = self.transformer.velocity(hooks, prepared, step, scaled, &[time]);
        let kernels = self.transformer.kernels();
        let velocity = guided(kernels, velocity, prepared.sequences, request.guidance, request.rescale);
        let (of_x, of_velocity) = (data * data / variance, sigma * data / variance.sqrt());
        let estimate = match kernels {
            Some(kernels) => {
                let [rows, channels, length] = x.dims();
                let [x, velocity] = [x, velocity].map(|x| x.reshape([rows * channels, length]));
                kernels.blend(x, of_x, velocity, -of_velocity).reshape([rows, channels, length])
            }
            None => x * of_x - velocity * of_velocity,
        };
        let point = HookPoint::dit(None, Site::X0);
        if hooks.wants(point) { hooks.at(point, estimate.swap_dims(1, 2)).swap_dims(1, 2) } else { estimate }
    }
}

#[expect(clippy::float_cmp, reason = "1 is meant exactly")]
fn is_one(guidance: f64) -> bool {
    guidance == 1.0
}

/// `uncond + guidance · (cond − uncond)` of velocities `[branch · sequence, channels, length]`, brought back by `rescale`;
/// the velocity itself where there is one branch.
fn guided(
    kernels: Option<&dyn Kernels>,
    velocity: Tensor<3>,
    sequences: usize,
    guidance: f64,
    rescale: f64,
) -> Tensor<3> {
    let [rows, channels, length] = velocity.dims();
    if rows == sequences {
        return velocity;
    }
    let branch = |rows| velocity.clone().slice([rows, 0..channels, 0..length]);
    let (cond, uncond) = (branch(0..sequences), branch(sequences..rows));
    let output = match kernels {
        Some(kernels) => {
            // As they lie in memory, see `Dit::velocity`.
            let rows = |x: Tensor<3>| x.swap_dims(1, 2).reshape([sequences * length, channels]);
            let guided = kernels.guide(rows(cond.clone()), rows(uncond), guidance);
            guided.reshape([sequences, length, channels]).swap_dims(1, 2)
        }
        None => uncond.clone() + (cond.clone() - uncond) * guidance,
    };
    if rescale == 0.0 {
        return output;
    }
    let fitted = output.clone() * (deviation(cond) / deviation(output.clone()));
    fitted * rescale + output * (1.0 - rescale)
}

/// Standard deviation over the channels, of a sample: `[row, 1, length]`.
fn deviation(x: Tensor<3>) -> Tensor<3> {
    let channels = x.dims()[1];
    let centred = x.clone() - x.mean_dim(1);
    ((centred.clone() * centred).sum_dim(1) / (channels as f64 - 1.0)).sqrt()
}
