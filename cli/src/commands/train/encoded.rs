//! Clips that were turned into codes or latents once, and are kept beside the training for when it goes on.

use std::ops::Range;

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tonoscope_core::corpus::Split;

use super::source::{Source, Which};
use crate::{files::OutputFolder, progress, tensors};

/// Clips that are encoded at a time.
const AT_ONCE: usize = 8;

/// The first clips of a part of the corpus.
pub(super) struct Clips<'a> {
    pub(super) source: &'a Source,
    pub(super) split: Split,
    pub(super) count: usize,
    /// Samples of each.
    pub(super) samples: usize,
}

impl Clips<'_> {
    /// What `encode` makes of the clips `[clip, 1, sample]`, one after another; out of `folder` if it lies there, made by the
    /// same `encoder`.
    pub(super) fn encoded(
        &self,
        folder: &OutputFolder,
        encoder: &str,
        encode: impl Fn(Tensor<3>) -> Result<Vec<f32>>,
        device: &Device,
    ) -> Result<Vec<f32>> {
        let name = format!("encoded_{}.safetensors", self.split.name());
        let key = format!("{encoder} {} x {}", self.count, self.samples);
        if let Some(values) = std::fs::read(folder.path().join(&name)).ok().and_then(|bytes| kept(&bytes, &key)) {
            return Ok(values);
        }
        let values = self.encode(encode, device)?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![self.count, values.len() / self.count], &bytes)?;
        folder.write(&name, &tensors::to_file(vec![("encoded", view)], [("key".to_owned(), key)].into())?)?;
        Ok(values)
    }

    /// As [`Self::encoded`], kept nowhere.
    pub(super) fn encode(&self, encode: impl Fn(Tensor<3>) -> Result<Vec<f32>>, device: &Device) -> Result<Vec<f32>> {
        let bar = progress::steps(self.count as u64, "encoding", "clips");
        let mut values: Vec<f32> = vec![];
        for first in (0..self.count).step_by(AT_ONCE) {
            let part = first..(first + AT_ONCE).min(self.count);
            values.extend(encode(self.sound(part.clone(), device))?);
            bar.inc(part.len() as u64);
        }
        bar.finish_and_clear();
        ensure!(
            self.count > 0 && values.len().is_multiple_of(self.count),
            "clips that are encoded to different lengths"
        );
        Ok(values)
    }

    fn sound(&self, part: Range<usize>, device: &Device) -> Tensor<3> {
        let shape = [part.len(), 1, self.samples];
        let clip = |index| self.source.clip(Which { split: self.split, index }, self.samples).samples;
        Tensor::from_data(TensorData::new(part.flat_map(clip).collect::<Vec<f32>>(), shape), device)
    }
}

/// The values of a file that was written under `key`.
fn kept(bytes: &[u8], key: &str) -> Option<Vec<f32>> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    if header.metadata().as_ref()?.get("key")? != key {
        return None;
    }
    let file = SafeTensors::deserialize(bytes).ok()?;
    let tensor = file.tensor("encoded").ok().filter(|tensor| tensor.dtype() == Dtype::F32)?;
    Some(tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}
