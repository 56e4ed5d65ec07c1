//! Units of `intervene`, mutated.

use tonoscope_core::interventions::Technique;
use tonoscope_tests::fuzz::{check, check_repaired, safetensors};

use super::unit::{CleanUnit, Outcome, from_bytes, to_bytes};

#[test]
fn units() {
    let outcome = Outcome {
        logits: vec![vec![0.5, 1.0], vec![0.25, -1.0]],
        second: vec![vec![0.5; 3]; 2],
        random: vec![vec![0.5; 2]; 4],
        codes: vec![vec![vec![1, 2, 3], vec![4, 5, 6]]; 2],
        scale_zero_equal: true,
        ..Outcome::default()
    };
    let unit = to_bytes(&vec![(Technique::Replace, outcome)]).unwrap();
    check_repaired("intervene_units", &[unit], safetensors, |bytes| drop(from_bytes(bytes)));
}

#[test]
fn clean_units() {
    let seed =
        br#"{"logits": [0.5, 1.0], "second": [], "codes": [[1, 2], [3, 4]], "patched_at": "decoder.0.resid_post",
        "self_patch_equal": true, "audio": "a.wav"}"#;
    check("intervene_clean_units", &[seed.to_vec()], |bytes| drop(serde_json::from_slice::<CleanUnit>(bytes)));
}
