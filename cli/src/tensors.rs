//! Between the model's tensors and files: codes, edits, audio.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, tensor::TensorView};
use sha2::{Digest, Sha256};
use tonoscope_core::{
    audio::{WavFormat, Waveform},
    checkpoint::sorted_safetensors,
    hooks::{Edit, EditFile, HookTensors},
};

use tonoscope_hub::hex;

/// `codes` `[prompt, codebook, frame]` as 64-bit integers; the prompts are in the metadata.
pub(crate) fn codes_file(codes: &[Vec<Vec<u32>>], prompts: &[String]) -> Result<Vec<u8>> {
    let shape = vec![codes.len(), codes[0].len(), codes[0][0].len()];
    let bytes: Vec<u8> = codes.iter().flatten().flatten().flat_map(|&code| i64::from(code).to_le_bytes()).collect();
    let view = TensorView::new(Dtype::I64, shape, &bytes)?;
    to_file(vec![("codes", view)], [("prompts".to_owned(), serde_json::to_string(prompts)?)].into())
}

/// [`sorted_safetensors`], whose errors need no more words here.
pub(crate) fn to_file(tensors: Vec<(&str, TensorView<'_>)>, metadata: BTreeMap<String, String>) -> Result<Vec<u8>> {
    Ok(sorted_safetensors(tensors, metadata)?)
}

/// Tensors of edits, still on the host.
pub(crate) struct EditTensors(Vec<(String, Vec<f32>, [usize; 5])>);

impl EditTensors {
    /// Differs if a name, a shape or a bit of a value does.
    pub(crate) fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, values, shape) in &self.0 {
            hasher.update((name.len() as u64).to_le_bytes());
            hasher.update(name);
            for &len in shape {
                hasher.update((len as u64).to_le_bytes());
            }
            for value in values {
                hasher.update(value.to_le_bytes());
            }
        }
        hex(&hasher.finalize())
    }

    /// Shape of the tensor `name`.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize; 5]> {
        self.0.iter().find(|(known, ..)| known == name).map(|(.., shape)| shape)
    }

    pub(crate) fn place(&self, device: &Device) -> HookTensors {
        let place = |(name, values, shape): &(String, Vec<f32>, [usize; 5])| {
            let float: DType = device.settings().float_dtype.into();
            let data = TensorData::new(values.clone(), *shape).convert_dtype(float);
            (name.clone(), Tensor::from_data(data, device))
        };
        self.0.iter().map(place).collect()
    }
}

/// The edits of several files, in order; equal names of tensors must mean equal tensors.
pub(crate) fn read_edits(paths: &[PathBuf]) -> Result<(Vec<Edit>, EditTensors)> {
    let (mut edits, mut tensors) = (vec![], EditTensors(vec![]));
    for path in paths {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let file = EditFile::from_bytes(&path.to_string_lossy(), bytes)?;
        edits.extend(file.edits);
        for (name, (values, shape)) in file.tensors {
            match tensors.0.iter().find(|(known, ..)| *known == name) {
                Some((_, known, of)) if (known, of) != (&values, &shape) => {
                    bail!("`{}` has another tensor `{name}` than an earlier edit file", path.display())
                }
                Some(_) => {}
                None => tensors.0.push((name, values, shape)),
            }
        }
    }
    Ok((edits, tensors))
}

/// The beginning of a prompt, for messages.
pub(crate) fn shortened(prompt: &str) -> String {
    let mut text: String = prompt.chars().take(60).collect();
    if text.len() < prompt.len() {
        text.push('…');
    }
    text
}

pub(crate) fn wav(wave: &Waveform, float: bool) -> Result<Vec<u8>> {
    Ok(wave.to_wav_bytes(if float { WavFormat::Float32 } else { WavFormat::Pcm16 })?)
}
