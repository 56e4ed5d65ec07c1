//! `tonoscope train`

use std::{fs, path::Path};

use super::{stdout, tonoscope};

/// A codec so small that a step takes no time.
const TINY: &str = r#"
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
    let config = folder.path().join("tiny.toml");
    fs::write(&config, TINY).unwrap();
    let train = |out: &str, more: &[&str]| {
        let out = folder.path().join(out);
        let mut args =
            vec!["train", config.to_str().unwrap(), "--out", out.to_str().unwrap(), "--device", "cpu", "--json"];
        args.extend(more);
        tonoscope(&args)
    };
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
    for file in ["model/model.safetensors", "model/config.json", "model/README.md", "sounds/0_codec.wav"] {
        assert_eq!(fs::read(whole.join(file)).unwrap(), fs::read(parts.join(file)).unwrap(), "{file}");
    }
    assert!(whole.join("figures/loss.svg").is_file());
    // Other settings would be another training.
    fs::write(&config, TINY.replace("seed = 1", "seed = 2")).unwrap();
    let refused = train("whole", &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    fs::write(&config, TINY.replace("steps = 6", "stepz = 6")).unwrap();
    let refused = train("other", &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stepz"));
}
