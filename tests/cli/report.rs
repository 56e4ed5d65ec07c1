//! `tonoscope report`: what a run wrote becomes a page.

use std::fs;

use super::{fixture, stderr, stdout, tonoscope};

#[test]
fn a_generated_folder_becomes_one_page() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let model = fixture("musicgen_tiny");
    let made = tonoscope(&[
        "generate",
        "--device",
        "cpu",
        "--model",
        model.to_str().unwrap(),
        "--duration",
        "0.025",
        "--prompt",
        "rock & roll",
        "--prompt",
        "a <slow> piece",
        "--out",
        folder,
    ]);
    assert!(made.status.success(), "{}", stderr(&made));
    let report = tonoscope(&["report", folder]);
    assert!(report.status.success(), "{}", stderr(&report));
    let path = out.path().join("report.html");
    assert_eq!(stdout(&report).trim(), path.to_str().unwrap());
    let page = fs::read_to_string(path).unwrap();
    assert!(page.contains("<h4>rock &amp; roll</h4>") && page.contains("<h4>a &lt;slow&gt; piece</h4>"));
    assert_eq!(page.matches("src=\"data:audio/wav;base64,").count(), 2);
    assert!(page.contains("temperature") && page.contains("musicgen_tiny"), "settings and model are shown");
    // Elsewhere, with nothing embedded: links lead back.
    fs::create_dir(out.path().join("pages")).unwrap();
    let elsewhere = out.path().join("pages/all.html");
    let linked = tonoscope(&["report", folder, "--max-audio-mb", "0", "--out", elsewhere.to_str().unwrap()]);
    assert!(linked.status.success(), "{}", stderr(&linked));
    assert!(fs::read_to_string(elsewhere).unwrap().contains("href=\"./../piece_0001.wav\""));
}

#[test]
fn what_is_no_folder_of_results_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    let run = |folder: &str| {
        let output = tonoscope(&["report", folder]);
        (output.status.code().unwrap(), stderr(&output))
    };
    let (status, told) = run("no/such/folder");
    assert!(status == 2 && told.contains("`no/such/folder` is not a folder"), "{status}: {told}");
    let (status, told) = run(empty.path().to_str().unwrap());
    assert!(status == 1 && told.contains("run.json`: no folder of results"), "{status}: {told}");
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "something was written");
}
