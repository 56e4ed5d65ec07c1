//! Files of edits: which prompts they change, what is refused, and where a number that is not finite comes from.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tonoscope_core::checkpoint::{SafetensorsFile, Source};

use super::{fixture, says, stderr, tonoscope};

/// Writes a file of `edits` with a tensor `v` of 32-bit numbers.
fn write_edits(path: &Path, edits: &Value, shape: &[usize], values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &bytes).unwrap();
    let metadata = [("tonoscope.edits".to_owned(), edits.to_string())].into();
    fs::write(path, safetensors::serialize([("v", view)], Some(metadata)).unwrap()).unwrap();
}

/// Generates `prompts` with the edits in `file`: exit code and messages.
fn generate(out: &Path, prompts: &[&str], file: &Path, more: &[&str]) -> (i32, String) {
    let model = fixture("musicgen_tiny");
    let mut args = vec!["generate", "--device", "cpu", "--model", model.to_str().unwrap(), "--duration", "0.01"];
    args.extend(["--greedy", "--tokens", "--out", out.to_str().unwrap(), "--edit", file.to_str().unwrap()]);
    args.extend(prompts.iter().flat_map(|prompt| ["--prompt", prompt]));
    args.extend(more);
    let output = tonoscope(&args);
    (output.status.code().unwrap(), stderr(&output))
}

fn tokens(out: &Path) -> Vec<Vec<u8>> {
    let file = SafetensorsFile::open(&out.join("tokens.safetensors")).unwrap();
    let raw = file.read("codes").unwrap();
    let piece = raw.bytes.len() / raw.shape[0];
    raw.bytes.chunks(piece).map(<[u8]>::to_vec).collect()
}

const PROMPTS: [&str; 6] = ["a", "bc", "def", "g", "hi", "jkl"];

#[test]
fn edits_of_prompts_do_not_depend_on_the_size_of_a_batch() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("edit.safetensors");
    let run = |name: &str, edits: Value, shape: &[usize], values: &[f32], batch: &str| {
        write_edits(&file, &edits, shape, values);
        let out = place.path().join(format!("{name}_{batch}"));
        let (code, messages) = generate(&out, &PROMPTS, &file, &["--batch-size", batch]);
        assert_eq!(code, 0, "{messages}");
        tokens(&out)
    };
    let plain = run("plain", json!([]), &[1], &[0.0], "6");
    let one = json!([{"points": "decoder.*.mlp_out", "scope": {"prompts": [1, 5]}, "change": {"do": "scale", "factor": -9.0}}]);
    // A direction for each prompt, none for 0, 2 and 4.
    let values: Vec<f32> =
        (0..6 * 32).map(|index| if index / 32 % 2 == 0 { 0.0 } else { ((index as f32) * 0.9).sin() * 40.0 }).collect();
    let each = json!([{"points": "decoder.1.resid_post",
        "change": {"do": "add", "value": {"tensor": "v", "axes": ["prompt", "feature"]}, "scale": 1.0}}]);
    for (name, edits, shape, values, changed) in
        [("one", one, &[1][..], &[0.0][..], &[1, 5][..]), ("each", each, &[6, 32][..], &values[..], &[1, 3, 5][..])]
    {
        let whole = run(name, edits.clone(), shape, values, "6");
        for prompt in 0..6 {
            let differs = whole[prompt] != plain[prompt];
            assert_eq!(differs, changed.contains(&prompt), "prompt {prompt} of `{name}`");
        }
        for batch in ["1", "4"] {
            assert_eq!(run(name, edits.clone(), shape, values, batch), whole, "`{name}` in batches of {batch}");
        }
    }
}

#[test]
fn a_prompt_that_the_run_does_not_have_is_refused_before_anything_is_loaded() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("edit.safetensors");
    let out = place.path().join("out");
    let refused = |edits: Value, shape: &[usize], expected: &[&str]| {
        let values = vec![1.0; shape.iter().product()];
        write_edits(&file, &edits, shape, &values);
        says(&generate(&out, &["a", "b"], &file, &["--dry-run"]), 1, expected);
        assert!(!out.exists());
    };
    let scope = json!([{"points": "decoder.1.mlp_out", "scope": {"prompts": [0, 2]}, "change": {"do": "zero"}}]);
    refused(scope, &[1], &["names prompt 2", "has 2"]);
    let add = |axes: &[&str], tensor: &str| {
        json!([{"points": "decoder.1.mlp_out",
            "change": {"do": "add", "value": {"tensor": tensor, "axes": axes}, "scale": 1.0}}])
    };
    refused(add(&["prompt", "feature"], "v"), &[1, 32], &["values for 1 prompts", "prompt 1"]);
    refused(add(&["feature"], "w"), &[32], &["`w`", "no tensor of this name"]);
    refused(add(&["feature"], "v"), &[2, 32], &["more axes than the 1"]);
}

#[test]
fn a_misspelt_field_of_an_edit_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("edit.safetensors");
    let edits = json!([{"points": "decoder.1.mlp_out", "scop": {"branch": "cond"}, "change": {"do": "zero"}}]);
    write_edits(&file, &edits, &[1], &[0.0]);
    says(&generate(&place.path().join("out"), &["a"], &file, &[]), 1, &["unknown field `scop`", "`scope`"]);
}

#[test]
fn a_number_that_is_not_finite_is_traced_to_the_edit_that_makes_it() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("edit.safetensors");
    let out = place.path().join("out");
    let add = json!([{"points": "decoder.1.mlp_out",
        "change": {"do": "add", "value": {"tensor": "v", "axes": ["feature"]}, "scale": 1.0}}]);
    let mut values = vec![0.0; 32];
    values[3] = f32::NAN;
    write_edits(&file, &add, &[32], &values);
    says(&generate(&out, &["a"], &file, &[]), 1, &["edit tensor `v` is NaN at [3]"]);
    // Each number is finite, what becomes of them is not.
    let scale = json!([{"points": "decoder.1.mlp_out", "change": {"do": "scale", "factor": 1e300}}]);
    write_edits(&file, &scale, &[1], &[0.0]);
    let (code, messages) = generate(&out, &["a"], &file, &[]);
    says(&(code, messages.clone()), 1, &["decoder.1.mlp_out", "which an edit changes"]);
    assert!(!messages.contains("every layer is finite"), "{messages}");
}
