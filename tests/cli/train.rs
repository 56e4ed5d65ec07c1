//! `tonoscope train`

use std::{fs, path::Path, process::Output};

use burn::tensor::Device;
use tonoscope_core::{
    audio::Waveform,
    checkpoint::{Placement, SafetensorsFile, Weights},
};

use super::{says, stderr, stdout, tonoscope};

/// A few steps on music that needs no file.
const STEPS: &str = r#"
name = "tiny"
music = "harmonics"
seed = 1
steps = 6
batch = 2
seconds = 0.25
held_out = 2
validate_every = 3
save_every = 2

[optimiser]
rate = 1e-3
final_share = 0.1
warm_up = 2
betas = [0.9, 0.99]
weight_decay = 0.0
clip = 1.0
average = 0.9
"#;

/// A codec so small that a step takes no time.
const CODEC: &str = r#"
[model.codec.loss]
wave = 1.0
spectral = 1.0
commitment = 0.25
windows = [64, 128]
codebook_decay = 0.9
revive_below = 0.05
continuous_steps = 1

[model.codec.config]
sampling_rate = 3200
audio_channels = 1
target_bandwidths = [0.64]
num_filters = 4
num_residual_layers = 1
upsampling_ratios = [5, 4]
hidden_size = 8
kernel_size = 7
last_kernel_size = 3
residual_kernel_size = 3
dilation_growth_rate = 2
compress = 2
num_lstm_layers = 1
codebook_size = 4
norm_type = "weight_norm"
pad_mode = "reflect"
use_causal_conv = false
use_conv_shortcut = false
normalize = false
"#;

const MUSICGEN: &str = r#"
[model.musicgen]
codec = "codec/model"
clips = 4
without_text = 0.25

[model.musicgen.text_encoder]
d_model = 16
d_kv = 8
d_ff = 16
num_layers = 1
num_heads = 2
relative_attention_num_buckets = 8
layer_norm_epsilon = 1e-6
feed_forward_proj = "relu"

[model.musicgen.decoder]
vocab_size = 4
num_hidden_layers = 1
ffn_dim = 32
num_attention_heads = 2
hidden_size = 16
activation_function = "gelu"
scale_embedding = false
num_codebooks = 2
pad_token_id = 4
"#;

const AUTOENCODER: &str = r"
[model.autoencoder.loss]
wave = 1.0
spectral = 1.0
divergence = 1e-3
windows = [64, 128]

[model.autoencoder.config]
encoder_hidden_size = 8
downsampling_ratios = [2, 4]
channel_multiples = [1, 2]
decoder_channels = 4
decoder_input_channels = 4
audio_channels = 1
sampling_rate = 3200
";

const DIFFUSION: &str = r#"
[model.diffusion]
autoencoder = "autoencoder/model"
clips = 4
without_text = 0.25
text_tokens = 32

[model.diffusion.text_encoder]
d_model = 16
d_kv = 8
d_ff = 16
num_layers = 1
num_heads = 2
relative_attention_num_buckets = 8
layer_norm_epsilon = 1e-6
feed_forward_proj = "relu"

[model.diffusion.transformer]
sample_size = 100
in_channels = 4
num_layers = 1
attention_head_dim = 8
num_attention_heads = 2
num_key_value_attention_heads = 1
out_channels = 4
cross_attention_dim = 16
time_proj_dim = 16
global_states_input_dim = 32
cross_attention_input_dim = 16
"#;

const CONTRAST: &str = r#"
[model.contrast]
clips = 4
programs = [6, 73]
held_out_programs = [7]
notes_per_program = 2

[model.contrast.features]
feature_size = 8
sampling_rate = 8000
hop_length = 256
max_length_s = 1
fft_window_size = 256
frequency_min = 50.0
frequency_max = 4000.0
truncation = "rand_trunc"
padding = "repeatpad"

[model.contrast.config]
projection_dim = 16

[model.contrast.config.audio_config]
num_mel_bins = 8
spec_size = 16
window_size = 2
patch_embeds_hidden_size = 8
hidden_size = 16
depths = [2, 1]
num_attention_heads = [2, 2]

[model.contrast.config.text_config]
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 32
max_position_embeddings = 64
"#;

/// Trains in `folder`, the file of settings being called as the folder for the results.
fn train(folder: &Path, name: &str, settings: &str, more: &[&str]) -> Output {
    let config = folder.join(format!("{name}.toml"));
    fs::write(&config, settings).unwrap();
    let out = folder.join(name);
    let mut args = vec!["train", config.to_str().unwrap(), "--out", out.to_str().unwrap(), "--device", "cpu", "--json"];
    args.extend(more);
    tonoscope(&args)
}

/// A file of sound that `command` makes in `folder` with the model trained as `whole`; what it is told ends with `told`.
fn made(folder: &Path, command: &str, told: &[&str], file: &str) -> Waveform {
    let (model, out) = (folder.join("whole/model"), folder.join("music"));
    let mut args = vec![command, "--device", "cpu", "--model", model.to_str().unwrap(), "--out", out.to_str().unwrap()];
    args.extend(["--prompt", "a high tone"]);
    args.extend(told);
    let output = tonoscope(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    Waveform::from_wav(fs::File::open(out.join(file)).unwrap()).unwrap()
}

/// The losses of a folder, in order; how long steps took is left out.
fn losses(folder: &Path) -> Vec<(String, u64, String)> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let kind = value["kind"].as_str().unwrap().to_owned();
        (kind, value["step"].as_u64().unwrap(), format!("{}{}", value["loss"], value["terms"]))
    };
    text.lines().map(line).collect()
}

#[test]
fn a_training_that_is_stopped_goes_on_to_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = format!("{STEPS}{CODEC}");
    let train = |out: &str, more: &[&str]| train(folder.path(), out, &tiny, more);
    let planned: serde_json::Value = serde_json::from_str(&stdout(&train("whole", &["--dry-run"]))).unwrap();
    assert!(planned["parameters"].as_u64().unwrap() > 1000, "{planned}");
    assert!(!folder.path().join("whole").exists(), "a dry run writes nothing");
    let told: serde_json::Value = serde_json::from_str(&stdout(&train("whole", &[]))).unwrap();
    assert_eq!(told["step"], 6);
    stdout(&train("parts", &["--until", "3"]));
    stdout(&train("parts", &[]));
    let [whole, parts] = ["whole", "parts"].map(|out| folder.path().join(out));
    assert_eq!(losses(&parts), losses(&whole));
    assert_eq!(losses(&whole).len(), 8);
    let figures = ["figures/loss.csv", "figures/loss.svg"];
    let model = ["model/model.safetensors", "model/config.json", "model/README.md", "sounds/0_codec.wav"];
    for file in figures.into_iter().chain(model) {
        assert_eq!(fs::read(whole.join(file)).unwrap(), fs::read(parts.join(file)).unwrap(), "{file}");
    }
    // What a kill has left half-written goes, wherever it is.
    for within in ["", "figures", "sounds", "model"] {
        fs::write(parts.join(within).join(".tonoscope-half"), b"half").unwrap();
    }
    stdout(&train("parts", &[]));
    for within in ["", "figures", "sounds", "model"] {
        assert!(!parts.join(within).join(".tonoscope-half").exists(), "`{within}`");
    }
    // Other settings would be another training.
    let refused = |out: &str, settings: &str| {
        let refused = self::train(folder.path(), out, settings, &[]);
        (refused.status.code().unwrap(), stderr(&refused))
    };
    says(&refused("whole", &tiny.replace("seed = 1", "seed = 2")), 2, &["other settings"]);
    says(&refused("other", &tiny.replace("steps = 6", "stepz = 6")), 2, &["stepz"]);
    // Nor is a model written over that this command has not made.
    fs::create_dir_all(folder.path().join("theirs/model")).unwrap();
    fs::write(folder.path().join("theirs/model/config.json"), "{}").unwrap();
    says(&refused("theirs", &tiny), 2, &["holds `model`, which this command has not made"]);
}

#[test]
fn settings_of_a_model_that_no_memory_holds_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |settings: &str| {
        let refused = train(folder.path(), "out", settings, &[]);
        assert!(!folder.path().join("out").exists(), "nothing is written");
        (refused.status.code().unwrap(), stderr(&refused))
    };
    let tiny = format!("{STEPS}{CODEC}");
    let with = |name: &str, value: &str| {
        let line = tiny.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
        tiny.replace(line, &format!("{name} = {value}"))
    };
    says(&refused(&with("batch", "1000000000")), 2, &["`batch` is 1000000000", "at most 3600 s"]);
    says(&refused(&with("held_out", "1000000000")), 2, &["`held_out` is 1000000000"]);
    says(&refused(&with("num_filters", "1000000")), 2, &["num_filters", "expected a whole number from 1 to 131072"]);
    says(&refused(&with("num_filters", "16384")), 1, &["it would have more than 536870912 numbers"]);
    says(&refused(&with("sampling_rate", "4000000000")), 2, &["sampling_rate", "expected a whole number"]);
}

#[test]
fn a_trained_musicgen_generates() {
    let folder = tempfile::tempdir().unwrap();
    stdout(&train(folder.path(), "codec", &format!("{STEPS}{CODEC}"), &["--until", "2"]));
    let musicgen = |more: &[&str]| stdout(&train(folder.path(), "whole", &format!("{STEPS}{MUSICGEN}"), more));
    let planned: serde_json::Value = serde_json::from_str(&musicgen(&["--dry-run"])).unwrap();
    assert!(planned["parameters"].as_u64().unwrap() > 1000, "{planned}");
    assert!(!folder.path().join("whole").exists(), "a dry run encodes nothing");
    musicgen(&["--until", "1"]);
    // Codes are kept until the training goes on, and made anew where they are damaged.
    let codes = folder.path().join("whole/encoded_training.safetensors");
    let kept = fs::read(&codes).unwrap();
    fs::write(&codes, &kept[..kept.len() - 4]).unwrap();
    musicgen(&["--until", "2"]);
    assert_eq!(fs::read(&codes).unwrap(), kept);
    let wave = made(folder.path(), "generate", &["--duration", "0.25"], "piece_0000.wav");
    assert_eq!((wave.sample_rate(), wave.channels().len(), wave.samples()), (3200, 1, 800));
    assert!(wave.peak() > 0.0);
}

#[test]
fn a_training_begins_as_a_model_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let unmoved = |parts: &str| format!("start = \"whole/model\"\n{STEPS}{parts}").replace("rate = 1e-3", "rate = 0.0");
    let tensors = |name: &str, file: &str| {
        let bytes = fs::read(folder.path().join(name).join("model").join(file)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let all = file.tensors().into_iter().filter(|(name, _)| !name.starts_with("audio_encoder."));
        all.map(|(name, view)| (name, view.data().to_vec())).collect::<std::collections::BTreeMap<_, _>>()
    };
    stdout(&train(folder.path(), "codec", &format!("{STEPS}{CODEC}"), &["--until", "1"]));
    stdout(&train(folder.path(), "whole", &format!("{STEPS}{MUSICGEN}"), &["--until", "2"]));
    // Of other clips: it is the words of the first that it goes on with.
    stdout(&train(folder.path(), "again", &unmoved(MUSICGEN).replace("seed = 1", "seed = 2"), &["--until", "2"]));
    assert!(tensors("again", "model.safetensors") == tensors("whole", "model.safetensors"));
    let words = |name: &str| fs::read(folder.path().join(name).join("model/tokenizer.json")).unwrap();
    assert!(words("again") == words("whole"));
    let card = fs::read_to_string(folder.path().join("again/model/README.md")).unwrap();
    assert!(card.contains("Trained on, from `whole`,"), "{card}");
    // Half way between what it was and what it became.
    let half = unmoved(MUSICGEN).replace("rate = 0.0", "rate = 1e-2");
    stdout(&train(folder.path(), "became", &half, &[]));
    stdout(&train(folder.path(), "between", &format!("keep = 0.5\n{half}"), &[]));
    let [was, became, between] = ["whole", "became", "between"].map(|name| {
        let file = SafetensorsFile::open(&folder.path().join(name).join("model/model.safetensors")).unwrap();
        let weights = Weights::new(Box::new(file), Placement::plain(&Device::flex()));
        weights.values("decoder.model.decoder.layers.0.fc1.weight", &[32, 16]).unwrap()
    });
    assert_ne!(was, became);
    for ((was, became), between) in was.iter().zip(&became).zip(&between) {
        let middle = f32::midpoint(*was, *became);
        // All three are rounded to 11 bits.
        let largest = was.abs().max(became.abs()).max(1e-4);
        assert!((between - middle).abs() <= 1e-3 * largest, "{was} {became} {between}");
    }
    // One of another kind, and one of another shape.
    for (settings, said) in [
        (unmoved(CODEC), "tensors"),
        (unmoved(&MUSICGEN.replace("num_hidden_layers = 1", "num_hidden_layers = 2")), "tensors"),
        (unmoved(&MUSICGEN.replace("ffn_dim = 32", "ffn_dim = 48")), "shape"),
        (format!("keep = 0.5\n{STEPS}{MUSICGEN}"), "`keep` is 0.5"),
    ] {
        let refused = train(folder.path(), "other", &settings, &[]);
        assert!(!refused.status.success() && stderr(&refused).contains(said), "{}", stderr(&refused));
    }
    // A model of several files.
    stdout(&train(folder.path(), "autoencoder", &format!("{STEPS}{AUTOENCODER}"), &["--until", "1"]));
    fs::remove_dir_all(folder.path().join("whole")).unwrap();
    stdout(&train(folder.path(), "whole", &format!("{STEPS}{DIFFUSION}"), &["--until", "1"]));
    stdout(&train(folder.path(), "further", &unmoved(DIFFUSION), &["--until", "1"]));
    for file in ["transformer/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"] {
        assert!(tensors("further", file) == tensors("whole", file), "{file}");
    }
}

#[test]
fn a_trained_stable_audio_diffuses() {
    let folder = tempfile::tempdir().unwrap();
    stdout(&train(folder.path(), "autoencoder", &format!("{STEPS}{AUTOENCODER}"), &["--until", "2"]));
    let told = stdout(&train(folder.path(), "whole", &format!("{STEPS}{DIFFUSION}"), &[]));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["step"], 6);
    assert!(told["held_out"]["loss"].as_f64().unwrap() > 0.0, "{told}");
    assert!(folder.path().join("whole/sounds/0_generated.wav").is_file());
    let told = ["--steps", "4", "--snapshots", "3", "--samples", "1", "--seconds-total", "0.25", "--cut", "corrected"];
    let wave = made(folder.path(), "diffuse", &told, "diff_step_3/prompt_0_sample_0.wav");
    assert_eq!((wave.sample_rate(), wave.channels().len(), wave.samples()), (3200, 1, 800));
    assert!(wave.peak() > 0.0);
}

#[test]
fn a_trained_clap_embeds() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to, said) in [
        ("programs = [6, 73]", "programs = []", "there are no `programs`"),
        ("held_out_programs = [7]", "held_out_programs = [73]", "program 73 is learnt from and held out"),
        ("hop_length = 256", "hop_length = 0", "no frames"),
        ("num_mel_bins = 8", "num_mel_bins = 7", "mel bins"),
    ] {
        let refused = train(folder.path(), "wrong", &format!("{STEPS}{}", CONTRAST.replacen(from, to, 1)), &[]);
        assert!(!refused.status.success() && stderr(&refused).contains(said), "{to}: {}", stderr(&refused));
    }
    let alone = format!("solos = 0.5\n{STEPS}{CONTRAST}");
    let refused = train(folder.path(), "wrong", &alone, &[]);
    assert!(!refused.status.success() && stderr(&refused).contains("`solos` is 0.5"), "{}", stderr(&refused));
    let told = stdout(&train(folder.path(), "whole", &alone.replace("harmonics", "soundfont"), &[]));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let held_out = &told["held_out"];
    assert!(held_out["loss"].as_f64().unwrap() > 0.0, "{told}");
    for share in ["caption_found", "family_found"] {
        assert!((0.0..=1.0).contains(&held_out[share].as_f64().unwrap()), "{told}");
    }
    let note = fs::read_dir(folder.path().join("whole/notes_held_out/audio")).unwrap().next().unwrap().unwrap().path();
    let model = folder.path().join("whole/model");
    let args = ["embed", note.to_str().unwrap(), "--text", "A flute sound.", "--model", model.to_str().unwrap()];
    // Six steps teach it nothing, which is what the check looks for.
    let output = tonoscope(&[&args[..], &["--accept-degenerate", "--device", "cpu", "--json"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let told: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(told["files"][0]["embedding"].as_array().unwrap().len(), 16);
}
