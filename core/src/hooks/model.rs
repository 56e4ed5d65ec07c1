//! What capturing, editing, patching and steering need of a model.

use super::{
    block::EditTensors,
    point::{HookPoint, PointError},
    run::{HookError, Hooks},
    spec::Spec,
};

/// A model whose tensors pass hook points.
///
/// A model of one's own says which points it has, and lets its tensors pass them: [`Hooks::begin`] before each pass, then
/// [`Hooks::at`] at each point. What a tensor's axes mean stands in the [`Site`](super::Site) of its point, how the network
/// meets a sequence in its [`Component`](super::Component).
///
/// ```
/// use burn::tensor::Tensor;
/// use tonoscope_core::hooks::{Component, HookPoint, HookedModel, Hooks, Network, Site, Time};
///
/// const SITES: &[Site] = &[Site::EMBED, Site::MLP_OUT, Site::RESID_POST];
/// const TOY: Component = Component::new(&Network::new("toy", Time::Steps, SITES));
///
/// struct Toy;
///
/// impl HookedModel for Toy {
///     fn hook_points(&self) -> Vec<HookPoint> {
///         HookPoint::all(TOY, 1)
///     }
/// }
///
/// impl Toy {
///     /// `x`: `[row, time, width]`, one row per prompt.
///     fn forward(&self, hooks: &mut Hooks, x: Tensor<3>) -> Tensor<3> {
///         let at = |layer, site| HookPoint { component: TOY, layer, site };
///         hooks.begin(0, x.dims()[0]);
///         let x = hooks.at(at(None, Site::EMBED), x);
///         let added = hooks.at(at(Some(0), Site::MLP_OUT), x.clone().tanh());
///         hooks.at(at(Some(0), Site::RESID_POST), x + added)
///     }
/// }
/// ```
pub trait HookedModel {
    /// Every hook point, in the order of the computation.
    fn hook_points(&self) -> Vec<HookPoint>;

    /// The hook point of this name.
    ///
    /// # Errors
    /// [`PointError`] if there is none; it names the nearest.
    fn hook_point(&self, name: &str) -> Result<HookPoint, PointError> {
        HookPoint::find(name, &self.hook_points())
    }

    /// `spec` made ready for this model; `tensors` are those that its edits name.
    ///
    /// # Errors
    /// As [`Hooks::new`].
    fn hooks<'a>(&self, spec: &Spec, tensors: &EditTensors) -> Result<Hooks<'a>, HookError> {
        Hooks::new(spec, &self.hook_points(), tensors)
    }
}
