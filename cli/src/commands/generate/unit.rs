//! A finished batch as a file: what a resumed run takes over instead of making it again.

use anyhow::{Context, Result, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tonoscope_core::models::musicgen::Tie;

use crate::captures::{self, Recorded};

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
        captures::to_bytes(&self.captures, vec![("codes", codes)], metadata.into())
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (captures, metadata) = captures::from_bytes(bytes)?;
        let pieces: Vec<MadePiece> = serde_json::from_str(metadata.get("pieces").context("no pieces")?)?;
        let file = SafeTensors::deserialize(bytes)?;
        let view = file.tensor("codes")?;
        let &[prompts, codebooks, frames] = view.shape() else { anyhow::bail!("codes of shape {:?}", view.shape()) };
        ensure!(prompts == pieces.len() && codebooks * frames > 0, "codes of shape {:?}", view.shape());
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
    fn what_is_no_batch_is_refused() {
        assert!(Batch::from_bytes(b"half a fi").is_err());
        let other = captures::to_bytes(&[], vec![], [].into()).unwrap();
        assert!(Batch::from_bytes(&other).is_err());
    }
}
