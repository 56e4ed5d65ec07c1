//! Checkpoints as other programs write them: `tests/reference/checkpoints_tiny.py` and `config_defaults.py`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::{Device, Tensor};
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::Value;
use tonoscope_core::{
    checkpoint::{LoadError, Placement, PyTorchFile, SafetensorsFile, Source, Weights, base_of_adapter},
    hooks::Hooks,
    models::{
        clap::{ClapAudioConfig, ClapConfig, ClapFiles, ClapTextConfig, FeatureConfig},
        encodec::{Encodec, EncodecConfig, PadMode},
        musicgen::{Beside, Columns, DecoderConfig, DecoderState, MusicGen, MusicgenFiles},
        oobleck::OobleckConfig,
        passt::{Passt, PasstConfig},
        stable_audio::{DitConfig, SchedulerConfig, StableAudioFiles},
        t5::T5Config,
    },
};
use tonoscope_tests::{Fixture, devices, floats, relative_error};

use super::musicgen::{codes, generate, greedy, prompts};

/// One layer after another in 32 bit; the reference against itself in 64 bit is at 3e-7.
const LAYER: f64 = 1e-5;
/// PARITY.md §8.
const AUDIO: f64 = 2e-5;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn cpu() -> Placement {
    Placement::plain(&Device::flex())
}

/// A folder with copies of `files` (from, name).
fn folder(files: &[(PathBuf, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, name) in files {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::copy(from, folder.path().join(name)).unwrap();
    }
    folder
}

/// Writes the tensors of the safetensors file `from` to `to`, each under the names that `rename` gives it.
fn renamed(from: &Path, to: &Path, rename: impl Fn(&str) -> Vec<String>) {
    let bytes = fs::read(from).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let views: BTreeMap<String, TensorView<'_>> = tensors
        .iter()
        .flat_map(|(name, view)| rename(name).into_iter().map(move |new| (new, view.clone())).collect::<Vec<_>>())
        .collect();
    fs::write(to, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Logits over the codes of the fixture `musicgen_tiny`.
fn logits(model: &MusicGen, fixture: &Fixture, placement: &Placement) -> Vec<f32> {
    let mut hooks = Hooks::none();
    let ids = fixture.int_tensor::<2>("input_ids", &placement.device);
    let (mask, shape) = fixture.ints("attention_mask");
    let mask: Vec<Vec<bool>> = mask.chunks(shape[1]).map(|row| row.iter().map(|&m| m == 1).collect()).collect();
    let text = model.encode_ids(&mut hooks, ids, mask);
    let input = fixture.int_tensor::<3>("decoder_input_ids", &placement.device);
    let mut state = DecoderState::new(model.decoder(), &mut hooks, &text, true, input.dims()[2]);
    floats(model.decoder().forward(&mut hooks, &mut state, input, Columns::All))
}

fn musicgen(folder: &Path, beside: Beside<'_>) -> Result<MusicGen, LoadError> {
    MusicgenFiles::open_with(folder, beside)?.load(cpu())
}

/// A configuration whose file is empty.
fn default<T: serde::de::DeserializeOwned + serde::Serialize>() -> Value {
    serde_json::to_value(serde_json::from_str::<T>("{}").unwrap()).unwrap()
}

#[test]
fn absent_fields_have_the_defaults_of_the_references() {
    let text = fs::read_to_string(fixtures().join("config_defaults.json")).unwrap();
    let theirs: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(&text).unwrap();
    let ours = [
        ("T5Config", default::<T5Config>()),
        ("MusicgenDecoderConfig", default::<DecoderConfig>()),
        ("EncodecConfig", default::<EncodecConfig>()),
        ("ClapAudioConfig", default::<ClapAudioConfig>()),
        ("ClapTextConfig", default::<ClapTextConfig>()),
        ("ClapConfig", default::<ClapConfig>()),
        ("ClapFeatureExtractor", default::<FeatureConfig>()),
        ("StableAudioDiTModel", default::<DitConfig>()),
        ("AutoencoderOobleck", default::<OobleckConfig>()),
        ("CosineDPMSolverMultistepScheduler", default::<SchedulerConfig>()),
    ];
    assert_eq!(ours.len(), theirs.len());
    for (class, ours) in ours {
        for (field, theirs) in &theirs[class] {
            let found = &ours[field];
            let same = match (found, theirs) {
                // One number stands for both axes.
                (Value::Array(found), Value::Number(both)) => found.iter().all(|axis| axis.as_f64() == both.as_f64()),
                (Value::Number(found), Value::Number(theirs)) => found.as_f64() == theirs.as_f64(),
                (found, theirs) => found == theirs,
            };
            assert!(same, "`{field}` of `{class}` is {found}, in the reference {theirs}");
        }
    }
}

#[test]
fn adapters_are_merged_with_the_scale_of_peft() {
    let expected = Fixture::open("checkpoints_tiny");
    let base = Fixture::open("musicgen_tiny");
    let plain = logits(&musicgen(base.folder(), Beside::default()).unwrap(), &base, &cpu());
    for name in ["adapter", "adapter_rslora"] {
        let adapter = expected.folder().join(name);
        assert_eq!(base_of_adapter(&adapter).unwrap().as_deref(), Some("musicgen_tiny"));
        let model = musicgen(base.folder(), Beside { adapter: Some(&adapter), ..Beside::default() }).unwrap();
        let merged = logits(&model, &base, &cpu());
        let want = expected.floats(&format!("{name}.logits")).0;
        println!("{name}: {:.1e}", tonoscope_tests::assert_close(name, &merged, &want, LAYER));
        assert!(relative_error(&merged, &plain) > 0.1, "the adapter changes something");
        // The same weights under audiocraft's names.
        let t5 = fixtures().join("t5_tiny");
        let beside = Beside { t5: Some(&t5), adapter: Some(&adapter), ..Beside::default() };
        let other = musicgen(&fixtures().join("musicgen_tiny_audiocraft"), beside).unwrap();
        tonoscope_tests::assert_close(name, &logits(&other, &base, &cpu()), &want, LAYER);
    }
    assert_eq!(base_of_adapter(base.folder()).unwrap(), None);
}

#[test]
fn adapters_that_do_not_fit_or_are_of_another_kind_are_named() {
    let source = fixtures().join("checkpoints_tiny/adapter");
    let base = fixtures().join("musicgen_tiny");
    let told = |change: &dyn Fn(&Path)| {
        let folder = folder(&[
            (source.join("adapter_config.json"), "adapter_config.json"),
            (source.join("adapter_model.safetensors"), "adapter_model.safetensors"),
        ]);
        change(folder.path());
        let beside = Beside { adapter: Some(folder.path()), ..Beside::default() };
        musicgen(&base, beside).map(|_| ()).expect_err("it does not fit").to_string()
    };
    let set = |field: &'static str, value: Value| {
        move |folder: &Path| {
            let path = folder.join("adapter_config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config[field] = value.clone();
            fs::write(path, config.to_string()).unwrap();
        }
    };
    assert!(told(&set("peft_type", "LOHA".into())).contains("`peft_type` is `LOHA`"));
    assert!(told(&set("use_dora", true.into())).contains("`use_dora`"));
    let rename = |from: &'static str, to: &'static str| {
        move |folder: &Path| {
            let path = folder.join("adapter_model.safetensors");
            renamed(&path, &path, |name| vec![name.replace(from, to)]);
        }
    };
    let elsewhere = told(&rename("layers.0.fc1", "layers.9.fc1"));
    assert!(elsewhere.contains("layers.9.fc1") && elsewhere.contains("does not have"), "{elsewhere}");
    let misshapen = told(&rename("layers.0.fc1.lora", "layers.0.fc2.lora"));
    assert!(misshapen.contains("layers.0.fc2") && misshapen.contains("[32, 64]"), "{misshapen}");
    assert!(told(&rename("layers.0.fc1.lora_B", "layers.1.fc1.magnitude_B")).contains("magnitude_B"));
    assert!(told(&rename("lora_embedding_A", "lora_magnitude_vector")).contains("lora_magnitude_vector"));
}

#[test]
fn a_codec_with_zeros_beyond_its_ends_matches_transformers() {
    let expected = Fixture::open("checkpoints_tiny");
    let fixture = Fixture::open("musicgen_tiny");
    let config = EncodecConfig { pad_mode: PadMode::Constant, ..fixture.config(Some("audio_encoder")) };
    for (device, placement) in devices() {
        let weights = fixture.weights(placement.clone()).sub("audio_encoder");
        let codec = Encodec::load(&config, &weights).unwrap();
        let codes = fixture.int_tensor::<3>("encodec.codes_in", &placement.device);
        println!("{device} {:.1e}", expected.assert_close("padded.audio", codec.decode(codes.clone()), AUDIO));
        expected.assert_close("padded.audio", codec.decode_chunked(codes, 3), AUDIO);
        let short = fixture.int_tensor::<3>("encodec.short_codes_in", &placement.device);
        expected.assert_close("padded.short_audio", codec.decode(short), AUDIO);
        let wave = fixture.tensor::<3>("encodec.wave_in", &placement.device);
        let vectors: Tensor<3> = codec.encode_vectors(wave).swap_dims(1, 2);
        expected.assert_close("padded.embeddings", vectors, LAYER);
    }
}

#[test]
fn interpolations_and_published_codecs_of_audiocraft_give_the_same_codes() {
    let fixture = Fixture::open("musicgen_tiny");
    let [files, plain] = ["checkpoints_tiny", "musicgen_tiny_audiocraft"].map(|name| fixtures().join(name));
    let t5 = fixtures().join("t5_tiny");
    // The codec alone, as it is published.
    let published = tempfile::tempdir().unwrap();
    let config: Value = fixture.config(Some("audio_encoder"));
    fs::write(published.path().join("config.json"), config.to_string()).unwrap();
    let alone = |name: &str| name.strip_prefix("audio_encoder.").map(str::to_owned).into_iter().collect();
    renamed(&fixture.folder().join("model.safetensors"), &published.path().join("model.safetensors"), alone);
    for (codec, beside) in [
        ("interpolated.bin", Beside { t5: Some(&t5), ..Beside::default() }),
        ("pretrained.bin", Beside { t5: Some(&t5), codec: Some(published.path()), ..Beside::default() }),
    ] {
        let folder = folder(&[
            (plain.join("state_dict.bin"), "state_dict.bin"),
            (files.join(codec), "compression_state_dict.bin"),
        ]);
        let named = MusicgenFiles::published_codec(folder.path()).unwrap();
        assert_eq!(named.as_deref(), (codec == "pretrained.bin").then_some("facebook/encodec_32khz"));
        let model = musicgen(folder.path(), beside).unwrap();
        let made = generate(&model, &prompts(&fixture, "input_ids"), &greedy(20));
        assert_eq!(made.codes, codes(&fixture, "greedy.codes"), "{codec}");
        fixture.assert_close("greedy.audio", model.decode_audio(&made.codes), AUDIO);
    }
    // The language model alone names its codec in its own configuration.
    let alone = folder(&[(plain.join("state_dict.bin"), "state_dict.bin")]);
    let named = MusicgenFiles::published_codec(alone.path()).unwrap();
    assert_eq!(named.as_deref(), Some("facebook/encodec_32khz"));
    let error = musicgen(alone.path(), Beside { t5: Some(&t5), ..Beside::default() }).map(|_| ()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("`facebook/encodec_32khz`") && error.contains("`encodec_32khz`"), "{error}");
}

#[test]
fn pickled_and_sharded_text_encoders_are_the_same_weights() {
    let fixture = Fixture::open("musicgen_tiny");
    let files = fixtures().join("checkpoints_tiny");
    let t5 = folder(&[
        (fixtures().join("t5_tiny/config.json"), "config.json"),
        (files.join("pytorch_model-00001-of-00002.bin"), "pytorch_model-00001-of-00002.bin"),
        (files.join("pytorch_model-00002-of-00002.bin"), "pytorch_model-00002-of-00002.bin"),
        (files.join("pytorch_model.bin.index.json"), "pytorch_model.bin.index.json"),
    ]);
    let audiocraft = fixtures().join("musicgen_tiny_audiocraft");
    let expected = fixtures().join("t5_tiny");
    let [pickled, plain] = [t5.path(), &expected].map(|t5| {
        let model = musicgen(&audiocraft, Beside { t5: Some(t5), ..Beside::default() }).unwrap();
        logits(&model, &fixture, &cpu())
    });
    assert_eq!(pickled, plain);
}

#[test]
fn compiled_and_distributed_models_load_as_what_they_wrap() {
    let fixture = Fixture::open("musicgen_tiny");
    let plain = logits(&musicgen(fixture.folder(), Beside::default()).unwrap(), &fixture, &cpu());
    let wrappings: [&dyn Fn(&str) -> String; 3] =
        [&|name| format!("_orig_mod.{name}"), &|name| format!("state_dict.module.{name}"), &|name| {
            name.replace("decoder.model.", "decoder._orig_mod.model.")
        }];
    for wrap in wrappings {
        let folder = folder(&[(fixture.folder().join("config.json"), "config.json")]);
        let to = folder.path().join("model.safetensors");
        renamed(&fixture.folder().join("model.safetensors"), &to, |name| vec![wrap(name)]);
        let files = MusicgenFiles::open(folder.path(), None).unwrap();
        assert!(files.wrapping().is_some(), "{:?}", wrap("x"));
        assert_eq!(logits(&files.load(cpu()).unwrap(), &fixture, &cpu()), plain);
    }
}

#[test]
fn a_training_checkpoint_of_stable_audio_tools_gives_its_averaged_weights() {
    let sat = fixtures().join("stable_audio_tiny_sat");
    let t5 = fixtures().join("t5_tiny");
    let folder = folder(&[(sat.join("model_config.json"), "model_config.json")]);
    let wrap = |name: &str| match name.strip_prefix("model.") {
        Some(rest) => {
            vec![format!("state_dict.diffusion_ema.ema_model.{rest}"), format!("state_dict.diffusion.{name}")]
        }
        None => vec![format!("state_dict.diffusion.{name}")],
    };
    renamed(&sat.join("model.safetensors"), &folder.path().join("model.safetensors"), wrap);
    let files = StableAudioFiles::open(folder.path(), Some(&t5)).unwrap();
    let wrapping = files.wrapping().expect("it is wrapped");
    assert!(wrapping.contains("`diffusion_ema.ema_model.`"), "{wrapping}");
    let [wrapped, plain] = [folder.path(), &sat].map(|folder| {
        let model = StableAudioFiles::open(folder, Some(&t5)).unwrap().load(cpu()).unwrap();
        let conditioning = model.condition(&mut Hooks::none(), &[vec![5, 9, 1]], None, 0.0, 4.0);
        floats(conditioning.cross)
    });
    assert_eq!(wrapped, plain);
}

#[test]
fn a_checkpoint_of_laion_clap_embeds_as_its_conversion() {
    let fixture = Fixture::open("clap_tiny");
    let file = fixtures().join("checkpoints_tiny/clap_laion.pt");
    let configured = folder(&[
        (file.clone(), "model.pt"),
        (fixture.folder().join("config.json"), "config.json"),
        (fixture.folder().join("preprocessor_config.json"), "preprocessor_config.json"),
        (fixture.folder().join("tokenizer.json"), "tokenizer.json"),
    ]);
    let files = ClapFiles::open(configured.path()).unwrap();
    let ids = vec![files.tokenizer().unwrap().encode("a dog").unwrap()];
    let embed = |files: ClapFiles| {
        let clap = files.load(cpu()).unwrap();
        let clip: Vec<f32> = (0..4000).map(|at| (at as f32 * 0.1).sin()).collect();
        [pollster::block_on(clap.embed_audio(&[&clip])).unwrap(), pollster::block_on(clap.embed_text(&ids)).unwrap()]
    };
    assert_eq!(embed(files), embed(ClapFiles::open(fixture.folder()).unwrap()));
    // Alone, its tensors say its shape.
    let found = ClapFiles::open(&file).map(|files| files.config);
    let config: ClapConfig = fixture.config(None);
    match found {
        Ok(found) => {
            assert_eq!(found.audio_config.depths, config.audio_config.depths);
            assert_eq!(found.audio_config.num_attention_heads, config.audio_config.num_attention_heads);
            assert_eq!(found.audio_config.window_size, config.audio_config.window_size);
            assert_eq!(found.text_config.vocab_size, config.text_config.vocab_size);
        }
        // Its square is not that of a published model.
        Err(LoadError::Config { reason, .. }) => assert!(!reason.is_empty()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_training_of_passt_gives_its_averaged_weights() {
    let expected = fixtures().join("passt_tiny/passt_tiny.safetensors");
    let [averaged, plain] = [fixtures().join("checkpoints_tiny/passt.ckpt"), expected].map(|path| {
        let passt = Passt::open(&path, &PasstConfig::tiny(), cpu()).unwrap();
        let clip: Vec<f32> = (0..16_000).map(|at| (at as f32 * 0.05).sin()).collect();
        pollster::block_on(passt.classify(&[&clip])).unwrap()
    });
    assert_eq!(averaged, plain);
}

#[test]
fn a_weight_of_passt_that_is_not_a_number_is_located() {
    let path = fixtures().join("passt_tiny/passt_tiny.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let start = header["head.1.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[8 + len + start + 12..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let source = SafetensorsFile::from_bytes("passt", bytes).unwrap();
    let error = Passt::from_source(Box::new(source), &PasstConfig::tiny(), cpu()).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "`head.1.weight` is not finite: element 3 is NaN");
}

#[test]
fn a_missing_tensor_is_told_with_the_names_of_the_file() {
    let fixture = Fixture::open("musicgen_tiny");
    let open = |rename: &dyn Fn(&str) -> Vec<String>| {
        let folder = folder(&[(fixture.folder().join("config.json"), "config.json")]);
        let to = folder.path().join("model.safetensors");
        renamed(&fixture.folder().join("model.safetensors"), &to, rename);
        let error = musicgen(folder.path(), Beside::default()).map(|_| ()).unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default().to_owned())
    };
    let (other, hint) = open(&|name| vec![format!("lm.{}", name.replace("encoder", "reader"))]);
    assert!(other.contains("is missing from the checkpoint, which has `lm."), "{other}");
    assert!(other.contains("more"), "{other}");
    assert!(!hint.contains("belong together"), "{hint}");
    let (wrapped, _) = open(&|name| {
        let is_there = !name.ends_with("layers.1.fc1.weight");
        is_there.then(|| format!("_orig_mod.{name}")).into_iter().collect()
    });
    assert!(wrapped.contains("layers.1.fc1.weight` is missing"), "{wrapped}");
    assert!(wrapped.contains("layers.0.fc1.weight`") && wrapped.contains("recognised as"), "{wrapped}");
    assert!(wrapped.contains("`_orig_mod.`"), "{wrapped}");
}

#[test]
fn pointers_of_git_lfs_are_named() {
    let folder = folder(&[(fixtures().join("musicgen_tiny/config.json"), "config.json")]);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 2364426896\n";
    fs::write(folder.path().join("model.safetensors"), pointer).unwrap();
    let error = MusicgenFiles::open(folder.path(), None).map(|_| ()).unwrap_err();
    assert!(matches!(&error, LoadError::Lfs { bytes, .. } if *bytes == pointer.len()), "{error}");
    assert!(error.hint().unwrap().contains("git lfs pull"));
    fs::write(folder.path().join("x.bin"), pointer).unwrap();
    assert!(matches!(PyTorchFile::open(&folder.path().join("x.bin")), Err(LoadError::Lfs { .. })));
}

#[test]
fn a_small_pickle_does_not_become_a_large_tensor() {
    let Err(error) = PyTorchFile::open(&fixtures().join("checkpoints_tiny/expanded.pt")) else {
        panic!("it was opened")
    };
    let error = error.to_string();
    assert!(error.contains("repeat their elements up to 2147483648 bytes"), "{error}");
}

#[test]
fn files_under_a_wrong_name_are_not_called_corrupt() {
    let files = fixtures().join("checkpoints_tiny");
    let folder = folder(&[
        (fixtures().join("t5_tiny/model.safetensors"), "model.bin"),
        (files.join("passt.ckpt"), "model.safetensors"),
    ]);
    let pickle = PyTorchFile::open(&folder.path().join("model.bin")).map(|_| ()).unwrap_err();
    assert!(pickle.to_string().contains("safetensors"), "{pickle}");
    let other = SafetensorsFile::open(&folder.path().join("model.safetensors")).map(|_| ()).unwrap_err();
    assert!(other.to_string().contains("pickle of PyTorch"), "{other}");
    for error in [pickle, other] {
        assert!(matches!(error, LoadError::Unsupported { .. }), "{error}");
        assert!(!error.hint().unwrap_or_default().contains("fetch"), "{error}");
    }
}

#[test]
fn a_tensor_of_another_shape_is_refused_before_it_is_read() {
    struct Unreadable;
    impl Source for Unreadable {
        fn names(&self) -> Vec<String> {
            vec!["weight".to_owned()]
        }
        fn shape(&self, _: &str) -> Option<Vec<usize>> {
            Some(vec![1 << 20, 1 << 20])
        }
        fn read(&self, _: &str) -> Result<tonoscope_core::checkpoint::RawTensor<'_>, LoadError> {
            panic!("it was read")
        }
    }
    let weights = Weights::new(Box::new(Unreadable), cpu());
    let error = weights.values("weight", &[2, 2]).unwrap_err();
    assert!(matches!(error, LoadError::Shape { .. }), "{error}");
}
