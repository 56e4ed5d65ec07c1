//! CLAPs that are not sound, made of the tiny one of the fixtures.

use std::{
    fs,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// Copies the tiny CLAP of the fixtures into `folder`, with every element of the tensors whose names start with `prefix`
/// replaced by `value`.
///
/// # Panics
/// If the files cannot be read or written, or there is no such tensor.
pub fn clap_with(folder: &Path, prefix: &str, value: f32) {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/clap_tiny");
    for name in ["config.json", "preprocessor_config.json", "tokenizer.json"] {
        fs::copy(fixture.join(name), folder.join(name)).expect("the fixture is copied");
    }
    let bytes = fs::read(fixture.join("model.safetensors")).expect("the fixture");
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file").tensors();
    assert!(tensors.iter().any(|(name, _)| name.starts_with(prefix)), "no tensor `{prefix}…`");
    let replaced: Vec<Vec<u8>> =
        tensors.iter().map(|(_, view)| value.to_le_bytes().repeat(view.shape().iter().product())).collect();
    let views = tensors.iter().zip(&replaced).map(|((name, view), replaced)| {
        let replaces = name.starts_with(prefix) && view.dtype() == Dtype::F32;
        let bytes = if replaces { replaced.as_slice() } else { view.data() };
        let view = TensorView::new(view.dtype(), view.shape().to_vec(), bytes).expect("the shape fits");
        (name.as_str(), view)
    });
    let file = safetensors::serialize(views, None).expect("it fits into a file");
    fs::write(folder.join("model.safetensors"), file).expect("the weights are written");
}
