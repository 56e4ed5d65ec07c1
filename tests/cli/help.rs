//! What the program says of itself.

use super::{stdout, tonoscope};

#[test]
fn help_is_as_reviewed() {
    insta::assert_snapshot!("help", stdout(&tonoscope(&["--help"])));
    insta::assert_snapshot!("help_generate", stdout(&tonoscope(&["generate", "--help"])));
    insta::assert_snapshot!("help_classify", stdout(&tonoscope(&["classify", "--help"])));
    insta::assert_snapshot!("help_embed", stdout(&tonoscope(&["embed", "--help"])));
    insta::assert_snapshot!("help_prompts", stdout(&tonoscope(&["prompts", "template", "--help"])));
    for command in ["generate", "annotate"] {
        let told = stdout(&tonoscope(&["prompts", command, "--help"]));
        insta::assert_snapshot!(format!("help_prompts_{command}"), told);
    }
    insta::assert_snapshot!("help_probe", stdout(&tonoscope(&["probe-activations", "--help"])));
    insta::assert_snapshot!("help_models", stdout(&tonoscope(&["models", "--help"])));
    insta::assert_snapshot!("help_report", stdout(&tonoscope(&["report", "--help"])));
}

#[test]
fn the_points_of_a_model_are_as_reviewed() {
    let model = super::fixture("musicgen_tiny");
    insta::assert_snapshot!("points", stdout(&tonoscope(&["points", "--model", model.to_str().unwrap()])));
}

#[test]
fn the_cpu_is_always_listed() {
    let listed = stdout(&tonoscope(&["devices", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert!(listed["devices"].as_array().unwrap().iter().any(|device| device["name"] == "cpu"), "{listed}");
    assert!(stdout(&tonoscope(&["devices"])).starts_with("cpu"));
}

#[test]
fn models_lists_known_names_without_a_network() {
    assert!(stdout(&tonoscope(&["models", "list"])).contains("musicgen-stereo-small"));
}
