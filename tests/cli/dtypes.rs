//! Half precision computes what single precision does, less exactly. One process each: a device keeps its type.

use tonoscope_core::checkpoint::{SafetensorsFile, Source};
use tonoscope_tests::relative_error;

use super::{fixture, stderr, tonoscope};

/// Logits of the first step, with guidance, padding and an empty prompt in the batch.
fn logits(dtype: &str) -> Vec<f32> {
    let out = tempfile::tempdir().unwrap();
    let model = fixture("musicgen_tiny");
    let mut args = vec!["generate", "--device", "cpu", "--model", model.to_str().unwrap(), "--duration", "0.01"];
    args.extend(["--prompt", "Compose a happy rock piece, with a guitar melody.", "--prompt", "a", "--prompt", ""]);
    args.extend(["--capture", "decoder.logits", "--dtype", dtype, "--out", out.path().to_str().unwrap()]);
    let output = tonoscope(&args);
    assert!(output.status.success(), "{dtype}: {}", stderr(&output));
    let file = SafetensorsFile::open(&out.path().join("capture.safetensors")).unwrap();
    let raw = file.read("decoder.logits").unwrap();
    let values: Vec<f32> = raw.bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    // `[branch, prompt, step, codebook, token]`: later steps follow tokens that may differ.
    let &[rows, prompts, steps, codebooks, tokens] = raw.shape.as_slice() else { panic!("{:?}", raw.shape) };
    assert_eq!((rows, prompts), (2, 3));
    values.chunks(steps * codebooks * tokens).flat_map(|row| row[..codebooks * tokens].to_vec()).collect()
}

#[test]
fn logits_in_half_precision_are_close_to_those_in_single() {
    let single = logits("f32");
    for (dtype, bits) in [("f16", 11), ("bf16", 8)] {
        let error = relative_error(&logits(dtype), &single);
        // Three layers round some thirty times; errors of random sign add up like a root.
        let bound = 8.0 * f64::from(-bits).exp2();
        assert!(error < bound, "{dtype}: {error:.1e}, expected less than {bound:.1e}");
        assert!(error > 1e-5, "{dtype}: {error:.1e} is too good: it computed in single precision");
    }
}
