//! Which products are those of decode steps: the caller says it, no shape is guessed from.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex},
};

use burn::tensor::{Device, Tensor, TensorData};
use tonoscope_core::{
    checkpoint::{MatrixPacker, MatrixValues, PackedMatrix, Placement},
    hooks::Hooks,
    models::{
        musicgen::{Generate, MusicgenFiles, Prompt, Sampling, SequenceKey, Window},
        stable_audio::StableAudioFiles,
    },
};
use tonoscope_tests::{Fixture, devices};

/// A product: the matrix's shape `[out, in]`, rows, and whether they were said to be steps.
type Product = ([usize; 2], usize, bool);

/// Plain matrices that write down how they are used.
#[derive(Debug, Clone)]
struct Witness {
    device: Device,
    seen: Arc<Mutex<Vec<Product>>>,
}

#[derive(Debug)]
struct Witnessed {
    weight: Tensor<2>,
    seen: Arc<Mutex<Vec<Product>>>,
}

impl MatrixPacker for Witness {
    fn pack(&self, shape: [usize; 2], values: MatrixValues<'_>) -> Arc<dyn PackedMatrix> {
        let values = TensorData::new(values.to_f32().into_owned(), shape);
        Arc::new(Witnessed { weight: Tensor::from_data(values, &self.device), seen: Arc::clone(&self.seen) })
    }
}

impl Witnessed {
    fn multiply(&self, x: Tensor<2>, steps: bool) -> Tensor<2> {
        self.seen.lock().unwrap().push((self.weight.dims(), x.dims()[0], steps));
        x.matmul(self.weight.clone().transpose())
    }
}

impl PackedMatrix for Witnessed {
    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        self.multiply(x, false)
    }

    fn product_of_steps(&self, x: Tensor<2>) -> Tensor<2> {
        self.multiply(x, true)
    }

    fn products(&self, others: &[&dyn PackedMatrix], x: Tensor<2>) -> Vec<Tensor<2>> {
        let rest = others.iter().map(|other| other.product(x.clone())).collect::<Vec<_>>();
        std::iter::once(self.product(x)).chain(rest).collect()
    }

    fn products_of_steps(&self, others: &[&dyn PackedMatrix], x: Tensor<2>) -> Vec<Tensor<2>> {
        let rest = others.iter().map(|other| other.product_of_steps(x.clone())).collect::<Vec<_>>();
        std::iter::once(self.product_of_steps(x)).chain(rest).collect()
    }
}

fn witness() -> (Witness, Placement) {
    let (_, placement) = devices().remove(0);
    let witness = Witness { device: placement.device.clone(), seen: Arc::default() };
    let placement = Placement { packer: Some(Arc::new(witness.clone())), ..placement };
    (witness, placement)
}

#[test]
fn the_diffusion_transformers_mlp_is_no_decode_step() {
    let (witness, placement) = witness();
    let fixture = Fixture::open("stable_audio_tiny");
    let model = StableAudioFiles::open(fixture.folder(), None).unwrap().load(placement).unwrap();
    let conditions = model.condition(&mut Hooks::none(), &[vec![48, 50, 1]], None, 0.0, 10.0);
    let (channels, length) = (model.config().latent_channels(), 5);
    witness.seen.lock().unwrap().clear();
    let x = Tensor::zeros([1, channels, length], &model.device());
    let _ = model.velocities(&conditions, x, &[0.5]);
    let config = model.transformer().config();
    let seen = witness.seen.lock().unwrap();
    let of = |shape: [usize; 2]| seen.iter().filter(move |product| product.0 == shape).collect::<Vec<_>>();
    let inward = of([2 * config.hidden(), config.width()]);
    let outward = of([config.width(), config.hidden()]);
    for products in [inward, outward] {
        assert_eq!(products.len(), config.num_layers);
        // The global token comes before the latents.
        assert!(products.iter().all(|(_, rows, steps)| *rows == length + 1 && !steps), "{products:?}");
    }
    assert!(seen.iter().all(|(_, rows, steps)| !steps || *rows == 1), "only what sequences have one of: {seen:?}");
}

#[test]
fn a_decode_step_says_that_it_is_one() {
    let (witness, placement) = witness();
    let fixture = Fixture::open("musicgen_tiny");
    let files = MusicgenFiles::open(fixture.folder(), None).unwrap();
    let ids = files.tokenizer().unwrap().encode("Compose a happy rock piece.").unwrap();
    let model = files.load(placement).unwrap();
    let prompt = Prompt { ids, key: SequenceKey::new("a", 0), start: vec![] };
    let window = Window { frames: 1500, stride: 900 };
    let how = Generate { frames: 2, guidance: 3.0, sampling: Sampling::Greedy, window };
    let mut hooks = Hooks::none();
    let mut begun = false;
    let mut watch = |_| {
        // What was before the first step ended: texts, their keys and values, and that step.
        if !begun {
            witness.seen.lock().unwrap().clear();
        }
        begun = true;
        ControlFlow::Continue(())
    };
    pollster::block_on(model.generate(&mut hooks, &[prompt], &how, &mut watch)).unwrap();
    let seen = witness.seen.lock().unwrap();
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|(_, rows, steps)| *steps && *rows <= 2), "{seen:?}");
}
