//! Captures and labels of `probe-activations`, mutated.

use tonoscope_tests::fuzz::{check, check_repaired, safetensors};

use super::{
    capture::CaptureFile,
    labels::{Labelled, Row},
};
use crate::fuzz::captured;

#[test]
fn captures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.safetensors");
    check_repaired("capture_files", &[captured()], safetensors, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let Ok(capture) = CaptureFile::open(&path) else { return };
        let prompts = capture.prompts.len();
        let rows: Vec<Row> = (0..prompts).flat_map(|prompt| [None, Some(1)].map(|step| Row { prompt, step })).collect();
        for point in capture.points.iter().take(4) {
            for branch in (0..point.branches()).take(2) {
                let fits = [false, true].map(|per_frame| point.obstacle(per_frame, branch).is_none());
                if fits.contains(&true) {
                    drop(capture.features(point, branch, &rows[..rows.len().min(8)]));
                }
            }
        }
    });
}

#[test]
fn labels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.csv");
    let seeds = [
        "label\npiano\n\"a, b\"\npiano\n",
        "\u{feff}label, prompt_index\r\npiano, 2\r\nguitar, 0\r\n",
        "prompt_index,step,label\n1,7,x\n1,3,y\n0,0,x\n",
    ]
    .map(|text| text.as_bytes().to_vec());
    let prompts = ["a", "b", "a"].map(str::to_owned);
    check("activation_labels", &seeds, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        drop(Labelled::from_csv(&path, &prompts));
    });
}
