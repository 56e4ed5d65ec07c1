//! A model of one's own: it says which hook points it has and lets its tensors pass them; captures and edits then work.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use tonoscope::{
    hooks::{Component, EditTensors, HookedModel, Hooks, Network, Site, Spec, Time},
    prelude::*,
};

const SITES: &[Site] = &[Site::EMBED, Site::MLP_OUT, Site::RESID_POST];
const TOY: Component = Component::new(&Network::new("toy", Time::Steps, SITES));
struct Toy;

impl HookedModel for Toy {
    fn hook_points(&self) -> Vec<HookPoint> {
        HookPoint::all(TOY, 2)
    }
}

/// `x`, result: `[prompt, step, feature]`
fn forward(hooks: &mut Hooks, x: Tensor<3>) -> Tensor<3> {
    let at = |layer, site| HookPoint { component: TOY, layer, site };
    hooks.begin(0, x.dims()[0]);
    (0..2).fold(hooks.at(at(None, Site::EMBED), x), |x, layer| {
        let added = hooks.at(at(Some(layer), Site::MLP_OUT), x.clone().tanh());
        hooks.at(at(Some(layer), Site::RESID_POST), x + added)
    })
}

fn main() -> tonoscope::Result<()> {
    let x = Tensor::ones([1, 4, 8], &Device::named("cpu")?.open()?.placement.device);
    let edits = vec![Edit::zero("toy.0.mlp_out")];
    let mut hooks =
        Toy.hooks(&Spec { captures: vec!["toy.*.resid_post".into_capture()?], edits }, &EditTensors::new())?;
    forward(&mut hooks, x);
    for captured in hooks.finish()?.entries {
        println!("{}: {:?}, mean {:?}", captured.name(), captured.named_dims(), values(&captured.tensor.mean())?);
    }
    Ok(())
}
