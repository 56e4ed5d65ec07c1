//! Units of `generate`, mutated.

use tonoscope_core::captures::Recorded;
use tonoscope_tests::fuzz::{check_repaired, safetensors};

use super::unit::{Batch, MadePiece};

#[test]
fn units() {
    let capture = Recorded { name: "a".into(), axes: vec!["feature".into()], shape: vec![2], values: vec![0.5, -1.0] };
    let batch = Batch {
        codes: vec![vec![vec![1, 2, 3], vec![4, 5, 6]], vec![vec![7, 8, 9], vec![10, 11, 2047]]],
        pieces: vec![MadePiece::new("aa".into(), 0, None), MadePiece::new("bb".into(), 7, None)],
        captures: vec![capture],
    };
    check_repaired("generate_units", &[batch.to_bytes().unwrap()], safetensors, |bytes| drop(Batch::from_bytes(bytes)));
}
