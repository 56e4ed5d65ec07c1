//! A finished batch as a file: what a resumed run takes over instead of making it again.

use anyhow::{Context, Result, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tonoscope_core::{
    captures::{self, Recorded},
    models::musicgen::Tie,
};

/// One batch: codes, audio, captures.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Batch {
    /// `[prompt][codebook][frame]`
    pub(super) codes: Vec<Vec<Vec<u32>>>,
    /// One per prompt.
    pub(super) pieces: Vec<MadePiece>,
    /// What the hooks have recorded.
    pub(super) captures: Vec<Recorded>,
}

/// What is known of one piece beside its codes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MadePiece {
    /// Of the WAV file.
    pub(super) sha256: String,
    /// Samples beyond full scale.
    pub(super) clipped: usize,
    /// Step, codebook and the bits of the margin: as text a number might not come back as it was.
    tie: Option<(usize, usize, u64)>,
}

impl MadePiece {
    pub(super) fn new(sha256: String, clipped: usize, tie: Option<Tie>) -> Self {
        Self { sha256, clipped, tie: tie.map(|tie| (tie.step, tie.codebook, tie.margin.to_bits())) }
    }

    /// The first choice that was tied.
    pub(super) fn tie(&self) -> Option<Tie> {
        self.tie.map(|(step, codebook, margin)| Tie { step, codebook, margin: f64::from_bits(margin) })
    }
}

impl Batch {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let shape = vec![self.codes.len(), self.codes[0].len(), self.codes[0][0].len()];
        let codes: Vec<u8> = self.codes.iter().flatten().flatten().flat_map(|code| code.to_le_bytes()).collect();
        let codes = TensorView::new(Dtype::U32, shape, &codes)?;
        let metadata = [("pieces".to_owned(), serde_json::to_string(&self.pieces)?)];
        Ok(captures::to_bytes(&self.captures, vec![("codes", codes)], metadata.into())?)
    }

    /// Makes sure that it is of so many pieces, each with the codes of `shape`: codebooks, frames, and entries of a codebook.
    pub(super) fn check(&self, prompts: usize, [codebooks, frames, entries]: [usize; 3]) -> Result<()> {
        ensure!(self.codes.len() == prompts, "it holds {} pieces, expected {prompts}", self.codes.len());
        let known = |code: &u32| (*code as usize) < entries;
        let whole = |codes: &Vec<u32>| codes.len() == frames && codes.iter().all(known);
        let fits = self.codes.iter().all(|piece| piece.len() == codebooks && piece.iter().all(whole));
        ensure!(fits, "its codes are not of {codebooks} codebooks of {entries} entries and {frames} frames");
        Ok(())
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (captures, metadata) = captures::from_bytes(bytes)?;
        let pieces: Vec<MadePiece> = serde_json::from_str(metadata.get("pieces").context("no pieces")?)?;
        let file = SafeTensors::deserialize(bytes)?;
        let view = file.tensor("codes")?;
        let &[prompts, codebooks, frames] = view.shape() else { anyhow::bail!("codes of shape {:?}", view.shape()) };
        let table = view.dtype() == Dtype::U32 && prompts == pieces.len() && prompts * codebooks * frames > 0;
        ensure!(table, "codes of shape {:?} and type {:?}", view.shape(), view.dtype());
        let flat: Vec<u32> = view.data().as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let piece = |piece: &[u32]| piece.chunks(frames).map(<[u32]>::to_vec).collect();
        Ok(Self { codes: flat.chunks(codebooks * frames).map(piece).collect(), pieces, captures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back_as_it_was() {
        let tie = Tie { step: 3, codebook: 1, margin: 0.1 + 0.2 };
        let capture =
            Recorded { name: "a".into(), axes: vec!["feature".into()], shape: vec![2], values: vec![0.5, -1.0] };
        let batch = Batch {
            codes: vec![vec![vec![1, 2, 3], vec![4, 5, 6]], vec![vec![7, 8, 9], vec![10, 11, 2047]]],
            pieces: vec![MadePiece::new("aa".into(), 0, Some(tie)), MadePiece::new("bb".into(), 7, None)],
            captures: vec![capture],
        };
        let read = Batch::from_bytes(&batch.to_bytes().unwrap()).unwrap();
        assert_eq!(read, batch);
        assert_eq!(read.pieces[0].tie(), Some(tie));
    }

    #[test]
    fn no_damage_panics_and_codes_beyond_the_vocabulary_are_refused() {
        let batch = Batch {
            codes: vec![vec![vec![1, 2], vec![4, 5]]],
            pieces: vec![MadePiece::new("aa".into(), 0, None)],
            captures: vec![],
        };
        let whole = batch.to_bytes().unwrap();
        for at in 0..whole.len() {
            for value in [0, b'0', b'1', b'9', b'[', b'I', 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = Batch::from_bytes(&bytes).map(|batch| batch.check(1, [2, 2, 6]));
            }
        }
        assert!(batch.check(1, [2, 2, 6]).is_ok());
        for (prompts, shape) in [(2, [2, 2, 6]), (1, [1, 2, 6]), (1, [2, 3, 6]), (1, [2, 2, 5])] {
            assert!(batch.check(prompts, shape).is_err(), "{prompts}, {shape:?}");
        }
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        assert!(Batch::from_bytes(b"half a fi").is_err());
        let other = captures::to_bytes(&[], vec![], [].into()).unwrap();
        assert!(Batch::from_bytes(&other).is_err());
    }
}
