//! A model of one's own, by the public interface alone: captured, edited, patched, and read by the lens.

use burn::tensor::{
    Device, Int, Tensor, TensorData,
    activation::{relu, softmax},
};
use tonoscope_core::{
    hooks::{
        At, Branch, Change, Component, Dim, Edit, EditTensors, HookError, HookPoint, HookedModel, Hooks, Network, Site,
        Spec, Tensors, Time,
    },
    lens::{ReadsOut, lens_spec, logit_lens},
};
use tonoscope_tests::{devices, floats};

/// A gate that no model of the library has.
const GATE: Site = Site::new(&Tensors::layered("gate", &[Dim::Time, Dim::Feature], "gate of the MLP"));

const SITES: &[Site] = &[
    Site::EMBED,
    Site::RESID_PRE,
    Site::SELF_ATTN_V,
    Site::SELF_ATTN_PATTERN,
    Site::SELF_ATTN_Z,
    Site::SELF_ATTN_OUT,
    GATE,
    Site::MLP_OUT,
    Site::RESID_POST,
    Site::FINAL_NORM,
    Site::LOGITS,
];

const TOY: Component = Component::new(&Network::new("toy", Time::Steps, SITES));

const LAYERS: usize = 3;
const HEADS: usize = 2;
const WIDTH: usize = 8;
const VOCABULARY: usize = 11;

/// A causal transformer with weights that look random.
struct Toy {
    device: Device,
}

impl HookedModel for Toy {
    fn hook_points(&self) -> Vec<HookPoint> {
        HookPoint::all(TOY, LAYERS)
    }
}

impl ReadsOut for Toy {
    fn read_out(&self, stream: Tensor<3>) -> Tensor<4> {
        self.head(&mut Hooks::none(), stream)
    }
}

impl Toy {
    fn weight(&self, name: usize, from: usize, to: usize) -> Tensor<3> {
        let values: Vec<f32> = (0..from * to).map(|at| ((at * 7 + name * 31) as f32 * 1.3).sin() * 0.6).collect();
        Tensor::from_data(TensorData::new(values, [1, from, to]), &self.device)
    }

    fn linear(&self, name: usize, x: Tensor<3>, to: usize) -> Tensor<3> {
        let [rows, _, from] = x.dims();
        x.matmul(self.weight(name, from, to).expand([rows, from, to]))
    }

    fn head(&self, hooks: &mut Hooks, x: Tensor<3>) -> Tensor<4> {
        let at = |site| HookPoint { component: TOY, layer: None, site };
        let scale = (x.clone() * x.clone()).mean_dim(2).sqrt() + 1e-6;
        let x = hooks.at(at(Site::FINAL_NORM), x / scale);
        hooks.at(at(Site::LOGITS), self.linear(99, x, VOCABULARY).unsqueeze_dim(1))
    }

    fn attention(&self, hooks: &mut Hooks, layer: usize, x: &Tensor<3>) -> Tensor<3> {
        let at = |site| HookPoint { component: TOY, layer: Some(layer), site };
        let [rows, time, _] = x.dims();
        let by_head = |x: Tensor<3>| x.reshape([rows, time, HEADS, WIDTH / HEADS]);
        let [queries, keys, values] = [1, 2, 3].map(|part| by_head(self.linear(layer * 10 + part, x.clone(), WIDTH)));
        let values = hooks.at(at(Site::SELF_ATTN_V), values).swap_dims(1, 2);
        let scores = queries.swap_dims(1, 2).matmul(keys.swap_dims(1, 2).swap_dims(2, 3));
        let past = Tensor::<2, Int>::ones([time, time], &self.device).tril(0).float().unsqueeze::<4>();
        let pattern = hooks.at(at(Site::SELF_ATTN_PATTERN), softmax(scores + (past - 1.0) * 1e9, 3));
        let z = hooks.at(at(Site::SELF_ATTN_Z), pattern.matmul(values).swap_dims(1, 2));
        hooks.at(at(Site::SELF_ATTN_OUT), self.linear(layer * 10 + 4, z.reshape([rows, time, WIDTH]), WIDTH))
    }

    /// `[prompt][time]` tokens to logits `[prompt, 1, time, vocabulary]`.
    fn forward(&self, hooks: &mut Hooks, tokens: &[&[usize]]) -> Tensor<4> {
        let (rows, time) = (tokens.len(), tokens[0].len());
        hooks.begin(0, rows);
        let one_hot =
            |token: &usize| (0..VOCABULARY).map(|index| f32::from(u8::from(index == *token))).collect::<Vec<_>>();
        let values: Vec<f32> = tokens.iter().flat_map(|row| row.iter().flat_map(one_hot)).collect();
        let x = Tensor::from_data(TensorData::new(values, [rows, time, VOCABULARY]), &self.device);
        let mut x = hooks.at(HookPoint { component: TOY, layer: None, site: Site::EMBED }, self.linear(0, x, WIDTH));
        for layer in 0..LAYERS {
            let at = |site| HookPoint { component: TOY, layer: Some(layer), site };
            x = hooks.at(at(Site::RESID_PRE), x);
            x = x.clone() + self.attention(hooks, layer, &x);
            let gate = hooks.at(at(GATE), relu(self.linear(layer * 10 + 5, x.clone(), 2 * WIDTH)));
            x = x + hooks.at(at(Site::MLP_OUT), self.linear(layer * 10 + 6, gate, WIDTH));
            x = hooks.at(at(Site::RESID_POST), x);
        }
        self.head(hooks, x)
    }
}

const A: &[usize] = &[1, 5, 3, 7];
const B: &[usize] = &[2, 8, 0, 10];

fn toy() -> Toy {
    Toy { device: devices().remove(0).1.device }
}

fn spec(captures: &[&str], edits: Vec<Edit>) -> Spec {
    Spec { captures: captures.iter().map(|points| points.parse().unwrap()).collect(), edits }
}

#[test]
fn its_tensors_are_captured_with_the_names_of_their_axes() {
    let toy = toy();
    let plain = floats(toy.forward(&mut Hooks::none(), &[A, B]));
    let all = ["toy.embed", "toy.*.*", "toy.final_norm", "toy.logits"];
    let mut hooks = toy.hooks(&spec(&all, vec![]), &EditTensors::new()).unwrap();
    assert_eq!(floats(toy.forward(&mut hooks, &[A, B])), plain);
    let cache = hooks.finish().unwrap();
    let dims = |name: &str| cache.get(name).unwrap().named_dims();
    assert_eq!(dims("toy.1.gate"), [("branch", 1), ("prompt", 2), ("step", 4), ("feature", 16)]);
    assert_eq!(dims("toy.0.self_attn.z"), [("branch", 1), ("prompt", 2), ("step", 4), ("head", 2), ("feature", 4)]);
    assert_eq!(dims("toy.2.self_attn.pattern"), [("branch", 1), ("prompt", 2), ("query", 4), ("head", 2), ("key", 4)]);
    let names: Vec<String> = cache.entries.iter().map(|entry| entry.point.to_string()).collect();
    let points: Vec<String> = toy.hook_points().iter().map(ToString::to_string).collect();
    assert_eq!(names, points, "in the order of the computation");
    let error = cache.get("toy.7.gate").unwrap_err();
    assert!(matches!(error, HookError::NotCaptured { .. }), "{error}");
}

#[test]
fn it_is_edited_by_data_and_by_closures() {
    let toy = toy();
    let run = |edits: Vec<Edit>, closure: bool| {
        let mut hooks = toy.hooks(&spec(&["toy.logits"], edits), &EditTensors::new()).unwrap();
        if closure {
            let hook = |x: Tensor<4>, at: &At<'_>| {
                assert_eq!(at.rows[1].branch, Branch::Cond);
                let ones = x.ones_like();
                let part = [1..2, 1..2, 0..1, 0..WIDTH / HEADS];
                if at.step >= 2 { x * ones.clone().slice_assign(part.clone(), ones.slice(part) * 0.0) } else { x }
            };
            hooks.hook("toy.1.self_attn.z", hook).unwrap();
        }
        toy.forward(&mut hooks, &[A, B]);
        floats(hooks.finish().unwrap().entries[0].tensor.clone())
    };
    let plain = run(vec![], false);
    let edited = run(vec![Edit::zero("toy.1.self_attn.z").heads([1]).prompts([1]).steps(2..4)], false);
    let half = plain.len() / 2;
    assert_eq!(edited[..half], plain[..half]);
    assert_eq!(edited[half..half + 2 * VOCABULARY], plain[half..half + 2 * VOCABULARY], "earlier steps");
    assert_ne!(edited[half + 2 * VOCABULARY..], plain[half + 2 * VOCABULARY..]);
    assert_eq!(run(vec![], true), edited);
}

#[test]
fn activations_of_one_prompt_are_patched_into_another() {
    let toy = toy();
    let own = |tokens: &[usize]| floats(toy.forward(&mut Hooks::none(), &[tokens]));
    let mut hooks = toy.hooks(&spec(&["toy.1.resid_post"], vec![]), &EditTensors::new()).unwrap();
    toy.forward(&mut hooks, &[A]);
    let (value, tensor) = hooks.finish().unwrap().get("toy.1.resid_post").unwrap().value("a").unwrap();
    let tensors = EditTensors::from([("a".to_owned(), tensor)]);
    let edit = Edit::new("toy.1.resid_post", Change::Replace { value });
    // The whole stream: what comes after is that of the other prompt.
    let mut hooks = toy.hooks(&spec(&[], vec![edit.clone()]), &tensors).unwrap();
    assert_eq!(floats(toy.forward(&mut hooks, &[B])), own(A));
    // Its last step alone: the steps before are those of the prompt itself.
    let mut hooks = toy.hooks(&spec(&[], vec![edit.steps(3..4)]), &tensors).unwrap();
    let patched = floats(toy.forward(&mut hooks, &[B]));
    let last = 3 * VOCABULARY;
    assert_eq!(patched[..last], own(B)[..last]);
    assert!(patched[last..] != own(B)[last..] && patched[last..] != own(A)[last..]);
}

#[test]
fn the_lens_reads_every_layer() {
    let toy = toy();
    let mut hooks = toy.hooks(&lens_spec(&toy), &EditTensors::new()).unwrap();
    let logits = floats(toy.forward(&mut hooks, &[A, B]));
    let layers = pollster::block_on(logit_lens(&toy, &hooks.finish().unwrap(), 3)).unwrap();
    assert_eq!((layers.len(), layers[0].len(), layers[0][0].len(), layers[0][0][0].len()), (LAYERS, 2, 1, 4));
    for (row, reading) in layers[LAYERS - 1].iter().flatten().flatten().enumerate() {
        let logits = &logits[row * VOCABULARY..(row + 1) * VOCABULARY];
        let best = (0..VOCABULARY).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert_eq!((reading.rank, reading.top[0].0 as usize, reading.top.len()), (0, best, 3));
        assert!(reading.kl.abs() < 1e-6, "{}", reading.kl);
    }
    assert!(layers[0].iter().flatten().flatten().any(|reading| reading.kl > 1e-3), "the first layer knows less");
}

#[test]
fn names_that_it_does_not_have_are_errors() {
    let toy = toy();
    for name in ["toy.3.gate", "toy.0.gait", "tow.0.gate", "toy.*.x0"] {
        let error = toy.hooks(&spec(&[], vec![Edit::zero(name)]), &EditTensors::new()).unwrap_err().to_string();
        assert!(error.contains(&format!("no hook point `{name}`; the nearest is `toy.")), "{error}");
    }
    assert_eq!(toy.hook_point("toy.2.gate").unwrap().to_string(), "toy.2.gate");
    let edit = Edit::zero("toy.0.gate").positions(0..1);
    let mut hooks = toy.hooks(&spec(&[], vec![edit]), &EditTensors::new()).unwrap();
    toy.forward(&mut hooks, &[A]);
    assert!(matches!(hooks.finish(), Err(HookError::NoPositions { .. })));
}
