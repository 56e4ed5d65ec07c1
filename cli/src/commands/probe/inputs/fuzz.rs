//! Embeddings, labels and captures of `probe`, mutated.

use std::fs;

use tonoscope_core::musicologist::Annotation;
use tonoscope_tests::fuzz::{check, check_repaired, safetensors, zip_entry};

use super::{
    generated::{Annotations, Generated},
    given,
    notes::NotesFolder,
    routes,
    stored::Stored,
};
use crate::fuzz::{captured, floats};

fn annotations() -> Annotations {
    let annotation =
        |prompt: &str| Annotation { prompt: prompt.to_owned(), aspects: vec!["guitar".to_owned()], bpm: 0.0 };
    Annotations::new(["a guitar", "a piano"].map(annotation).to_vec())
}

#[test]
fn embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let seeds = [
        floats(&[("embeddings", &[3, 2])], &[("notes", r#"["a", "b", "c"]"#)]),
        floats(&[("embeddings", &[2, 2, 2])], &[("prompts", r#"["a guitar", "a piano"]"#)]),
    ];
    check_repaired("embeddings", &seeds, safetensors, |bytes| {
        fs::write(&path, bytes).unwrap();
        if let Ok(stored) = Stored::read(&path) {
            let _ = (stored.rows(), stored.row(0), stored.texts("notes").is_ok());
        }
    });
    let steps = tempfile::tempdir().unwrap();
    check_repaired("embeddings_by_step", &seeds[1..], safetensors, |bytes| {
        fs::write(steps.path().join("diff_step_5.safetensors"), bytes).unwrap();
        drop(Generated::open(steps.path(), &annotations()));
    });
}

#[test]
fn published_embeddings() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/embeddings_pt/plain.pt");
    let seed = fs::read(path).unwrap();
    assert!(zip_entry(&seed, "data.pkl").is_some(), "the seed is an archive");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pt");
    check("embeddings_pt", &[seed], |bytes| {
        fs::write(&path, bytes).unwrap();
        if let Ok(stored) = Stored::read(&path) {
            stored.row(0);
        }
    });
}

#[test]
fn labels() {
    let folder = tempfile::tempdir().unwrap();
    let [features, labels] = ["features.safetensors", "labels.csv"].map(|name| folder.path().join(name));
    fs::write(&features, floats(&[("embeddings", &[7, 2])], &[])).unwrap();
    let seeds = [
        "label,step,group,split\n1,,,train\n0,,,train\nyes,,,test\nno,,,test\n1,5,a,\n0,5,b,\n1,10,a,\n",
        "label\n1\n0\n1\n0\n1\n0\ntrue\n",
    ]
    .map(|text| text.as_bytes().to_vec());
    check("probe_labels", &seeds, |bytes| {
        fs::write(&labels, bytes).unwrap();
        drop(given::read(&features, &labels));
    });
}

#[test]
fn notes() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("embeddings.safetensors"),
        floats(&[("embeddings", &[3, 2])], &[("notes", r#"["a", "b", "c"]"#)]),
    )
    .unwrap();
    let seed = b"note_str,binary_class,instrument_str,audio_fpath\na,1,x,a.wav\nb,0,,b.wav\nc,True,y,c.wav\n".to_vec();
    check("concept_notes", &[seed], |bytes| {
        fs::write(folder.path().join("is_guitar.csv"), bytes).unwrap();
        drop(NotesFolder::open(folder.path()).and_then(|notes| notes.concept("is_guitar").map(drop)));
    });
}

#[test]
fn trajectories() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompt_0.safetensors");
    let latents: [(&str, &[usize]); 2] = [("diff_step_5", &[2, 3, 4]), ("diff_step_10", &[2, 3, 4])];
    check_repaired("latents", &[floats(&latents, &[("prompt", "a guitar")])], safetensors, |bytes| {
        fs::write(&path, bytes).unwrap();
        drop(routes::latents(folder.path(), &annotations()));
    });
    check_repaired("probe_captures", &[captured()], safetensors, |bytes| {
        fs::write(&path, bytes).unwrap();
        drop(routes::activations(std::slice::from_ref(&path), &annotations()));
    });
}
