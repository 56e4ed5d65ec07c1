//! Training: gradients are those of the loss, steps are repeatable, and what is saved is what was trained.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, tensor::TensorView};
use tonoscope_core::{
    checkpoint::{GivenTensor, Placement, SafetensorsFile, Weights},
    models::{
        clap::{ClapFiles, FrontEnd},
        encodec::{Encodec, EncodecConfig},
        musicgen::MusicgenConfig,
        oobleck::{Oobleck, OobleckConfig},
        passt::{MelFrontEnd, PasstConfig},
        stable_audio::StableAudioFiles,
    },
    training::{
        AutoencoderTask, AutoencoderWeights, Bands, CodecTask, CodecWeights, ContrastBatch, ContrastTask,
        DiffusionBatch, DiffusionTask, MusicBatch, MusicTask, NamedTensor, Optimiser, StepKey, TagBatch, TagTask, Task,
        Trainer, harmonics,
    },
};
use tonoscope_tests::{Fixture, assert_close, devices, floats};

const KEY: StepKey = StepKey { seed: 3, step: 0 };

fn cpu() -> Device {
    devices().into_iter().find(|(name, _)| *name == "flex").expect("there is a CPU").1.device
}

fn codec(continuous_steps: usize) -> CodecTask {
    let config: EncodecConfig = serde_json::from_value(serde_json::json!({
        "sampling_rate": 3200, "audio_channels": 1, "target_bandwidths": [0.64], "num_filters": 4,
        "num_residual_layers": 1, "upsampling_ratios": [5, 4], "hidden_size": 8, "kernel_size": 7,
        "last_kernel_size": 3, "residual_kernel_size": 3, "dilation_growth_rate": 2, "compress": 2,
        "num_lstm_layers": 1, "codebook_size": 4, "codebook_dim": 8, "norm_type": "weight_norm", "pad_mode": "reflect",
        "use_causal_conv": false, "use_conv_shortcut": false, "normalize": false, "chunk_length_s": null,
    }))
    .unwrap();
    let loss = CodecWeights {
        wave: 1.0,
        spectral: 1.0,
        commitment: 0.25,
        windows: vec![64, 128],
        codebook_decay: 0.9,
        revive_below: 0.05,
        continuous_steps,
    };
    CodecTask::new(config, loss, &cpu())
}

fn sound(first: usize) -> Tensor<3> {
    let clips = (first..first + 3).flat_map(|index| harmonics(5, index, 800, 3200).samples).collect();
    Tensor::from_data(TensorData::new::<f32, _>(clips, [3, 1, 800]), &cpu())
}

fn musicgen() -> (MusicTask, MusicBatch) {
    let config: MusicgenConfig = Fixture::open("musicgen_tiny").config(None);
    let (codebooks, size) = (config.decoder.num_codebooks, config.decoder.vocab_size as u32);
    let token = |clip: usize, codebook: usize, frame: usize| (clip * 7 + codebook * 3 + frame * frame) as u32 % size;
    let clip =
        |clip| (0..codebooks).map(|codebook| (0..5).map(|frame| token(clip, codebook, frame)).collect()).collect();
    let batch = MusicBatch { texts: vec![vec![9, 8, 7, 1], vec![]], codes: (0..2).map(clip).collect() };
    (MusicTask::new(config), batch)
}

fn tagger() -> (TagTask, TagBatch) {
    let config = PasstConfig::tiny();
    let (classes, rows) = (config.num_classes, 3);
    let mel = MelFrontEnd::new(&config.mel);
    let sounds: Vec<f32> =
        (0..rows).flat_map(|index| mel.log_mel(&harmonics(5, index, 9_600, 32_000).samples)).collect();
    let mel = Tensor::from_data(TensorData::new(sounds, [rows, 1, config.mel.n_mels, 30]), &cpu());
    let tags = (0..rows * classes).map(|at| f32::from(u8::from(at % 5 == at / classes))).collect();
    let tags = Tensor::from_data(TensorData::new::<f32, _>(tags, [rows, classes]), &cpu());
    (TagTask::new(config, 5), TagBatch { mel, tags })
}

/// The tiny CLAP and four clips, two of them of one name.
fn contrast() -> (ContrastTask, ContrastBatch) {
    let files = ClapFiles::open(Fixture::open("clap_tiny").folder()).unwrap();
    let (config, features) = (files.config, files.features);
    let front_end = FrontEnd::new(&features);
    let rate = features.sampling_rate as u32;
    let clip = |index| front_end.features(&harmonics(5, index, features.samples(), rate).samples).mel;
    let mel: Vec<f32> = (0..4).flat_map(clip).collect();
    let bands = Bands::of(&mel, features.feature_size);
    let mel = Tensor::from_data(TensorData::new(mel, [4, 1, features.frames(), features.feature_size]), &cpu());
    let texts = vec![vec![0, 9, 8, 2], vec![0, 7, 2], vec![0, 9, 8, 2], vec![0, 5, 6, 4, 2]];
    (ContrastTask::new(config, features, bands), ContrastBatch { mel, texts })
}

fn autoencoder() -> AutoencoderTask {
    let config = OobleckConfig {
        encoder_hidden_size: 8,
        downsampling_ratios: vec![2, 4],
        channel_multiples: vec![1, 2],
        decoder_channels: 4,
        decoder_input_channels: 4,
        audio_channels: 1,
        sampling_rate: 3200,
    };
    let loss = AutoencoderWeights { wave: 1.0, spectral: 1.0, divergence: 1e-3, windows: vec![64, 128] };
    AutoencoderTask::new(config, loss, &cpu())
}

/// The tiny Stable Audio and two clips of its latents, one of them without a text.
fn diffusion() -> (DiffusionTask, DiffusionBatch) {
    let fixture = Fixture::open("stable_audio_tiny");
    let config = StableAudioFiles::open(fixture.folder(), None).unwrap().config;
    let (channels, length) = (config.latent_channels(), 6);
    let values = (0..2 * channels * length).map(|at| ((at * at) as f32 * 0.37).sin()).collect::<Vec<f32>>();
    let latents = Tensor::from_data(TensorData::new(values, [2, channels, length]), &cpu());
    (DiffusionTask::new(config), DiffusionBatch { texts: vec![Some(vec![9, 8, 7, 1]), None], seconds: 4.0, latents })
}

fn optimiser() -> Optimiser {
    Optimiser {
        rate: 3e-3,
        final_share: 0.1,
        warm_up: 2,
        betas: [0.9, 0.99],
        weight_decay: 0.01,
        clip: 1.0,
        average: 0.9,
    }
}

/// The slope of the loss along its own gradient, from the gradient and from two losses close by.
fn slopes<T: Task>(task: &T, batch: &T::Batch, step: f64) -> [f64; 2] {
    let trainer = Trainer::new(TaskRef(task), optimiser(), 1, 3, &cpu()).unwrap();
    let leaves = trainer.parameters.leaves();
    let device = cpu().autodiff();
    let loss = task.loss(&Weights::given(leaves.clone(), &device), batch, KEY).unwrap().loss;
    let mut gradients = loss.backward();
    let gradients: BTreeMap<&String, Tensor<1>> =
        leaves.iter().filter_map(|(name, leaf)| Some((name, leaf.values.grad_remove(&mut gradients)?))).collect();
    let unused: Vec<&String> =
        leaves.keys().filter(|name| task.trains(name) && !gradients.contains_key(name)).collect();
    assert_eq!(unused, Vec::<&String>::new(), "no gradient reaches them");
    let square: f64 =
        gradients.values().flat_map(|gradient| floats(gradient.clone())).map(|g| f64::from(g).powi(2)).sum();
    let norm = square.sqrt();
    let at = |offset: f64| {
        let moved = |(name, leaf): (&String, &GivenTensor)| {
            let values = leaf.values.clone().inner();
            let values = match gradients.get(name) {
                Some(gradient) => values + gradient.clone() * (offset / norm),
                None => values,
            };
            (name.clone(), GivenTensor { values, ..leaf.clone() })
        };
        let weights = Weights::given(leaves.iter().map(moved).collect(), &cpu());
        f64::from(floats(task.loss(&weights, batch, KEY).unwrap().loss)[0])
    };
    [norm, (at(step) - at(-step)) / (2.0 * step)]
}

/// A task that somebody else holds.
struct TaskRef<'a, T>(&'a T);

impl<T: Task> Task for TaskRef<'_, T> {
    type Batch = T::Batch;

    fn names(&self, device: &Device) -> Result<BTreeMap<String, Vec<usize>>, tonoscope_core::checkpoint::LoadError> {
        self.0.names(device)
    }

    fn trains(&self, name: &str) -> bool {
        self.0.trains(name)
    }

    fn initial(&self, name: &str, shape: &[usize], seed: u64) -> Option<Vec<f32>> {
        self.0.initial(name, shape, seed)
    }

    fn loss(
        &self,
        weights: &Weights,
        batch: &T::Batch,
        key: StepKey,
    ) -> Result<tonoscope_core::training::Outcome, tonoscope_core::checkpoint::LoadError> {
        self.0.loss(weights, batch, key)
    }
}

#[test]
fn training_gradients_are_finite_differences() {
    // Losses of 1 to 6 in 32 bits are known to 5e-7, over a step of 2e-3 against slopes of 2 to 8: some 1e-4. Curvature
    // adds little at this step (of the MusicGen, 2 % at ten times as much, 1 % at five times). The codec's absolute
    // differences have corners, which a step of any length crosses some of.
    const STEP: f64 = 1e-3;
    let near = |kind: &str, [gradient, difference]: [f64; 2], tolerance: f64| {
        assert!((gradient - difference).abs() < tolerance * gradient, "{kind}: {gradient} against {difference}");
    };
    near("codec", slopes(&codec(1), &sound(0), STEP), 5e-3);
    let (task, batch) = musicgen();
    near("music", slopes(&task, &batch, STEP), 1e-3);
    let (task, batch) = tagger();
    near("tags", slopes(&task, &batch, STEP), 1e-3);
    // Its sines bend it far more, and its slope is steeper.
    near("autoencoder", slopes(&autoencoder(), &sound(0), STEP / 10.0), 5e-3);
    let (task, batch) = diffusion();
    near("diffusion", slopes(&task, &batch, STEP), 1e-3);
    let (task, batch) = contrast();
    near("contrast", slopes(&task, &batch, STEP), 1e-3);
}

#[test]
fn training_on_one_batch_lowers_the_loss() {
    let mut trainer = Trainer::new(codec(5), optimiser(), 60, 1, &cpu()).unwrap();
    let losses: Vec<f64> =
        (0..60).map(|_| pollster::block_on(trainer.step(&sound(0))).unwrap().terms["spectral"]).collect();
    assert!(losses[59] < 0.7 * losses[0], "{losses:?}");
    let (task, batch) = musicgen();
    let mut trainer = Trainer::new(task, optimiser(), 60, 1, &cpu()).unwrap();
    let losses: Vec<f64> = (0..60).map(|_| pollster::block_on(trainer.step(&batch)).unwrap().loss).collect();
    assert!(losses[59] < 0.5 * losses[0], "{losses:?}");
    let mut trainer = Trainer::new(autoencoder(), optimiser(), 60, 1, &cpu()).unwrap();
    let losses: Vec<f64> =
        (0..60).map(|_| pollster::block_on(trainer.step(&sound(0))).unwrap().terms["spectral"]).collect();
    assert!(losses[59] < 0.8 * losses[0], "{losses:?}");
    let (task, batch) = diffusion();
    let mut trainer = Trainer::new(task, optimiser(), 120, 1, &cpu()).unwrap();
    let losses: Vec<f64> = (0..120).map(|_| pollster::block_on(trainer.step(&batch)).unwrap().loss).collect();
    // Every step has noise of its own.
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[100..]) < 0.8 * mean(&losses[..20]), "{losses:?}");
    let (task, batch) = contrast();
    let mut trainer = Trainer::new(task, optimiser(), 60, 1, &cpu()).unwrap();
    let losses: Vec<f64> = (0..60).map(|_| pollster::block_on(trainer.step(&batch)).unwrap().loss).collect();
    // Two captions are equal: as a whole the rows know no more than ln 2 of two of the four.
    assert!(losses[59] < 0.7 * losses[0] && losses[59] > 0.5 * 2f64.ln() - 1e-3, "{losses:?}");
    let (task, batch) = tagger();
    let mut trainer = Trainer::new(task, optimiser(), 60, 1, &cpu()).unwrap();
    let losses: Vec<f64> = (0..60).map(|_| pollster::block_on(trainer.step(&batch)).unwrap().loss).collect();
    assert!(losses[59] < 0.5 * losses[0], "{losses:?}");
}

#[test]
fn training_that_goes_on_is_training_that_never_stopped() {
    let begin = || Trainer::new(codec(2), optimiser(), 8, 1, &cpu()).unwrap();
    let steps = |trainer: &mut Trainer<CodecTask>, until: usize| {
        let mut reports = vec![];
        while trainer.key().step < until {
            let batch = sound(3 * trainer.key().step);
            reports.push(pollster::block_on(trainer.step(&batch)).unwrap());
        }
        reports
    };
    let mut whole = begin();
    let expected = steps(&mut whole, 8);
    let mut first = begin();
    let mut reports = steps(&mut first, 5);
    let state = pollster::block_on(first.save()).unwrap();
    let mut second = begin();
    second.restore(&state).unwrap();
    reports.extend(steps(&mut second, 8));
    assert_eq!(reports, expected);
    assert_eq!(pollster::block_on(second.export()).unwrap(), pollster::block_on(whole.export()).unwrap());
    let mut other = Trainer::new(codec(2), optimiser(), 8, 2, &cpu()).unwrap();
    assert!(other.restore(&state).unwrap_err().to_string().contains("seed"));
    assert!(other.restore(&state[..state.len() / 2]).is_err());
}

fn file(tensors: &[NamedTensor]) -> SafetensorsFile {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    SafetensorsFile::from_bytes("trained", safetensors::serialize(views, None).unwrap()).unwrap()
}

#[test]
fn a_trained_codec_loads_as_any_other() {
    let mut trainer = Trainer::new(codec(1), optimiser(), 4, 1, &cpu()).unwrap();
    for step in 0..4 {
        pollster::block_on(trainer.step(&sound(step))).unwrap();
    }
    let config = trainer.task.config().clone();
    let given = Encodec::load(&config, &trainer.weights()).unwrap();
    let tensors = CodecTask::exported(pollster::block_on(trainer.export()).unwrap());
    let placement = Placement::plain(&cpu());
    let weights = Weights::new(Box::new(file(&tensors)), placement.clone());
    let loaded = Encodec::load(&config, &weights).unwrap();
    weights.finish().unwrap();
    let codes = given.encode(sound(9));
    assert_eq!(codes.clone().into_data(), loaded.encode(sound(9)).into_data());
    let [there, here] = [given, loaded].map(|codec| floats(codec.decode(codes.clone())));
    // Weight norm is taken apart and put together: two roundings of every weight.
    assert_close("audio", &here, &there, 1e-5);
    // And a training takes it back.
    let mut again = Trainer::new(codec(1), optimiser(), 4, 2, &cpu()).unwrap();
    let taken = again.parameters.take("", &Weights::new(Box::new(file(&tensors)), placement)).unwrap();
    assert_eq!(taken, pollster::block_on(again.export()).unwrap().len());
}

#[test]
fn a_trained_autoencoder_loads_as_any_other() {
    let mut trainer = Trainer::new(autoencoder(), optimiser(), 3, 1, &cpu()).unwrap();
    for step in 0..3 {
        pollster::block_on(trainer.step(&sound(step))).unwrap();
    }
    let config = trainer.task.config().clone();
    let given = Oobleck::load(&config, &trainer.weights()).unwrap();
    let tensors = AutoencoderTask::exported(pollster::block_on(trainer.export()).unwrap());
    assert!(tensors.iter().any(|(name, ..)| name == "decoder.block.0.conv_t1.weight_g"));
    let weights = Weights::new(Box::new(file(&tensors)), Placement::plain(&cpu()));
    let loaded = Oobleck::load(&config, &weights).unwrap();
    weights.finish().unwrap();
    let [there, here] = [given, loaded].map(|model| floats(model.decode(model.encode(sound(9)).mean)));
    // As of the codec, and what comes of it grows in the sines.
    assert_close("audio", &here, &there, 1e-4);
    let mut again = Trainer::new(autoencoder(), optimiser(), 4, 2, &cpu()).unwrap();
    let placement = Placement::plain(&cpu());
    let taken = again.parameters.take("", &Weights::new(Box::new(file(&tensors)), placement)).unwrap();
    assert_eq!(taken, pollster::block_on(again.export()).unwrap().len());
}

#[test]
fn a_diffusion_model_goes_on_and_keeps_what_is_drawn_once() {
    let (task, batch) = diffusion();
    let begin = || Trainer::new(task.clone(), optimiser(), 6, 1, &cpu()).unwrap();
    let steps = |trainer: &mut Trainer<DiffusionTask>, until: usize| {
        while trainer.key().step < until {
            pollster::block_on(trainer.step(&batch)).unwrap();
        }
    };
    let mut whole = begin();
    let before = pollster::block_on(whole.export()).unwrap();
    steps(&mut whole, 4);
    let mut first = begin();
    steps(&mut first, 2);
    let state = pollster::block_on(first.save()).unwrap();
    let mut second = begin();
    second.restore(&state).unwrap();
    steps(&mut second, 4);
    let after = pollster::block_on(whole.export()).unwrap();
    assert_eq!(pollster::block_on(second.export()).unwrap(), after);
    let mut still = 0;
    for ((name, _, before), (_, _, after)) in before.iter().zip(&after) {
        let frequencies = name.ends_with("time_proj.weight") || name.ends_with("time_positional_embedding.0.weights");
        if frequencies {
            assert!(before.iter().any(|value| value.abs() > 0.5), "{name} is not drawn");
            still += 1;
        }
        assert_eq!(before == after, frequencies || name.starts_with("vae."), "{name}");
    }
    assert_eq!(still, 3);
}
