//! Lists of chosen notes, mutated.

use tonoscope_tests::fuzz::check;

use super::listed::{INDEX, Listed};

#[test]
fn chosen_notes() {
    let folder = tempfile::tempdir().unwrap();
    let index = br#"{"concepts": [{"concept": "is_guitar", "chosen": 2, "rule": {"of": "x"}}]}"#.to_vec();
    let notes = b"note_str,binary_class,audio_fpath\na_1-2-3,1,/x/a.wav\nb,0,b.wav\n".to_vec();
    let file = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    file("is_guitar.csv", &notes);
    check("concept_index", std::slice::from_ref(&index), |bytes| {
        file(INDEX, bytes);
        drop(Listed::read(folder.path()));
    });
    file(INDEX, &index);
    check("concept_list", &[notes], |bytes| {
        file("is_guitar.csv", bytes);
        drop(Listed::read(folder.path()));
    });
}
