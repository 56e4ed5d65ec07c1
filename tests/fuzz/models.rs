//! Configurations of models, beside weights that are good.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use tonoscope_core::{
    checkpoint::{Placement, Weights, base_of_adapter},
    hooks::HookedModel,
    models::{
        clap::ClapFiles,
        musicgen::{Beside, MusicgenFiles},
        oobleck::{Oobleck, OobleckConfig},
        passt::{Passt, PasstConfig},
        stable_audio::StableAudioFiles,
    },
};
use tonoscope_tests::fuzz::{check, check_repaired, safetensors};

use super::fixture;

/// A copy of a folder of `tests/fixtures`: large files are links.
struct Copy(tempfile::TempDir);

impl Copy {
    fn of(name: &str) -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
        let mut open = vec![PathBuf::new()];
        while let Some(inner) = open.pop() {
            for entry in std::fs::read_dir(from.join(&inner)).unwrap() {
                let path = inner.join(entry.unwrap().file_name());
                let (source, target) = (from.join(&path), copy.0.path().join(&path));
                if source.is_dir() {
                    std::fs::create_dir(&target).unwrap();
                    open.push(path);
                } else if !path.to_string_lossy().contains("expected") {
                    std::fs::copy(&source, &target).unwrap();
                }
            }
        }
        copy
    }

    fn with(&self, file: &str, bytes: &[u8]) -> &Path {
        std::fs::write(self.0.path().join(file), bytes).unwrap();
        self.0.path()
    }
}

fn placement() -> Placement {
    Placement::plain(&Device::default())
}

#[test]
fn musicgen() {
    for (parser, name, file) in [
        ("musicgen_config", "musicgen_tiny", "config.json"),
        ("musicgen_stereo_config", "musicgen_tiny_stereo", "config.json"),
        ("generation_config", "musicgen_tiny", "generation_config.json"),
    ] {
        let copy = Copy::of(name);
        check(parser, &[fixture(&format!("{name}/{file}"))], |bytes| {
            if let Ok(files) = MusicgenFiles::open(copy.with(file, bytes), None) {
                drop(files.tokenizer());
                drop(files.load(placement()).map(|model| model.hook_points()));
            }
        });
    }
}

#[test]
fn sharded_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", "generation_config.json"] {
        std::fs::write(folder.path().join(file), fixture(&format!("musicgen_tiny/{file}"))).unwrap();
    }
    for shard in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
        std::fs::write(folder.path().join(shard), fixture(&format!("t5_tiny_sharded/{shard}"))).unwrap();
    }
    check("shard_index", &[fixture("t5_tiny_sharded/model.safetensors.index.json")], |bytes| {
        std::fs::write(folder.path().join("model.safetensors.index.json"), bytes).unwrap();
        drop(MusicgenFiles::open(folder.path(), None).and_then(|files| files.load(placement())));
    });
}

#[test]
fn clap() {
    for (parser, name, file) in [
        ("clap_config", "clap_tiny", "config.json"),
        ("clap_fused_config", "clap_fused_tiny", "config.json"),
        ("clap_preprocessor", "clap_tiny", "preprocessor_config.json"),
    ] {
        let copy = Copy::of(name);
        check(parser, &[fixture(&format!("{name}/{file}"))], |bytes| {
            if let Ok(files) = ClapFiles::open(copy.with(file, bytes)) {
                drop(files.tokenizer());
                drop(files.load(placement()));
            }
        });
    }
}

#[test]
fn stable_audio() {
    let name = "stable_audio_tiny";
    for (parser, file) in [
        ("dit_config", "transformer/config.json"),
        ("vae_config", "vae/config.json"),
        ("projection_config", "projection_model/config.json"),
        ("scheduler_config", "scheduler/scheduler_config.json"),
        ("t5_config", "text_encoder/config.json"),
        ("tokenizer_config", "tokenizer/tokenizer_config.json"),
    ] {
        let copy = Copy::of(name);
        check(parser, &[fixture(&format!("{name}/{file}"))], |bytes| {
            if let Ok(files) = StableAudioFiles::open(copy.with(file, bytes), None) {
                drop(files.tokenizer());
                drop(files.load(placement()).map(|model| model.hook_points()));
            }
        });
    }
}

#[test]
fn stable_audio_tools() {
    let t5 = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stable_audio_tiny/text_encoder");
    let copy = Copy::of("stable_audio_tiny_sat");
    check("model_config", &[fixture("stable_audio_tiny_sat/model_config.json")], |bytes| {
        drop(
            StableAudioFiles::open(copy.with("model_config.json", bytes), Some(&t5))
                .and_then(|files| files.load(placement())),
        );
    });
}

#[test]
fn oobleck() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/oobleck_tiny/model.safetensors");
    let load = |config: &OobleckConfig| {
        let file = tonoscope_core::checkpoint::SafetensorsFile::open(&path).unwrap();
        drop(Oobleck::load(config, &Weights::new(Box::new(file), placement())));
    };
    check("oobleck_config", &[fixture("oobleck_tiny/config.json")], |bytes| {
        if let Ok(config) = serde_json::from_slice::<OobleckConfig>(bytes) {
            load(&config);
        }
    });
    check("oobleck_model_config", &[fixture("oobleck_tiny/model_config.json")], |bytes| {
        let whole = serde_json::from_slice(bytes);
        if let Ok(Ok(config)) = whole.map(|whole| OobleckConfig::from_stable_audio_tools(&whole)) {
            load(&config);
        }
    });
}

#[test]
fn passt() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/passt_tiny/passt_tiny.safetensors");
    let seeds = [
        r#"{"model_type": "passt", "img_size": [36, 98], "num_heads": 4, "max_model_window": 1000, "scene_hop": 250,
            "mel": {"n_mels": 36}, "patch_size": 16, "stride": 10}"#,
        r#"{"model_type": "passt", "num_heads": 4, "labels": ["a", "b"], "norm_eps": 1e-6, "mel": {"sr": 32000}}"#,
    ]
    .map(|text| text.as_bytes().to_vec());
    check("passt_config", &seeds, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let source = Passt::source(&path).unwrap();
        if let Ok((config, _)) = PasstConfig::described(&*source, Some(text)) {
            // As `classify` asks for them.
            let loaded = Passt::from_source(source, &config, placement());
            if loaded.is_ok() {
                let _ = (config.window_samples(), config.hop_samples(), config.least_samples());
            }
        }
    });
}

#[test]
fn adapters() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/musicgen_tiny");
    let name = "checkpoints_tiny/adapter";
    let open = |adapter: &Path| {
        drop(base_of_adapter(adapter));
        let files = MusicgenFiles::open_with(&base, Beside { adapter: Some(adapter), ..Beside::default() });
        drop(files.and_then(|files| files.load(placement())));
    };
    let copy = Copy::of(name);
    check("adapter_config", &[fixture(&format!("{name}/adapter_config.json"))], |bytes| {
        open(copy.with("adapter_config.json", bytes));
    });
    let copy = Copy::of(name);
    check_repaired("adapter_weights", &[fixture(&format!("{name}/adapter_model.safetensors"))], safetensors, |bytes| {
        open(copy.with("adapter_model.safetensors", bytes));
    });
}

#[test]
fn pickled_shards() {
    let copy = Copy::of("checkpoints_tiny");
    for file in ["config.json", "tokenizer.json", "generation_config.json"] {
        copy.with(file, &fixture(&format!("musicgen_tiny/{file}")));
    }
    let index = "pytorch_model.bin.index.json";
    check("pickled_shard_index", &[fixture(&format!("checkpoints_tiny/{index}"))], |bytes| {
        drop(MusicgenFiles::open(copy.with(index, bytes), None).and_then(|files| files.load(placement())));
    });
}
