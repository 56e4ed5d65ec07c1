//! Classifiers of a size for tests, as folders that a command line takes.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use tonoscope_core::models::passt::PasstConfig;

/// Puts the tiny PaSST of the fixtures (19 classes) into `folder` as its release file `passt.pt` with a `config.json`.
///
/// # Panics
/// If the files cannot be copied.
pub fn tiny_judge(folder: &Path) {
    fs::copy(fixture("passt_tiny.pt"), folder.join("passt.pt")).expect("the fixture is copied");
    fs::write(folder.join("config.json"), tiny_config(&[]).to_string()).expect("the configuration is written");
}

/// Puts a tiny PaSST with the 527 classes of AudioSet into `folder`: that of the fixtures with another head.
///
/// # Panics
/// If the files cannot be read or written.
pub fn tiny_audioset_judge(folder: &Path) {
    const CLASSES: usize = 527;
    let bytes = fs::read(fixture("passt_tiny.safetensors")).expect("the fixture");
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let width = PasstConfig::tiny().embed_dim;
    let heads: HashMap<&str, (Vec<usize>, Vec<u8>)> = HashMap::from([
        ("head.1.weight", (vec![CLASSES, width], waves(CLASSES * width, 0.3))),
        ("head.1.bias", (vec![CLASSES], waves(CLASSES, 1.0))),
    ]);
    let views = tensors.tensors().into_iter().map(|(name, view)| match heads.get(name.as_str()) {
        Some((shape, bytes)) => {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the shape fits");
            (name, view)
        }
        None => (name, view),
    });
    let file = safetensors::serialize(views, None).expect("it fits into a file");
    fs::write(folder.join("passt.safetensors"), file).expect("the weights are written");
    fs::write(folder.join("config.json"), tiny_config(&["num_classes"]).to_string()).expect("the configuration");
}

/// The configuration of the tiny PaSST without the fields `but`, as a `config.json` beside its weights has it.
fn tiny_config(but: &[&str]) -> Value {
    let mut config = serde_json::to_value(PasstConfig::tiny()).expect("JSON");
    let fields = config.as_object_mut().expect("an object");
    for name in but {
        fields.remove(*name);
    }
    fields.insert("model_type".to_owned(), "passt".into());
    config
}

/// Numbers between `±size` that repeat after a long time only.
fn waves(count: usize, size: f32) -> Vec<u8> {
    (0..count).flat_map(|index| (size * (index as f32 * 1.7).sin()).to_le_bytes()).collect()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/passt_tiny").join(name)
}
