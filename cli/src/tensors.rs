//! Between the model's tensors and files: codes, edits, audio.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sha2::{Digest, Sha256};
use tonoscope_core::{
    audio::{WavFormat, Waveform},
    hooks::{Edit, EditFile, HookTensors},
    models::musicgen::MusicGen,
};

use tonoscope_hub::hex;

/// `codes` `[prompt, codebook, frame]` as 64-bit integers; the prompts are in the metadata.
pub(crate) fn codes_file(codes: &[Vec<Vec<u32>>], prompts: &[String]) -> Result<Vec<u8>> {
    let shape = vec![codes.len(), codes[0].len(), codes[0][0].len()];
    let bytes: Vec<u8> = codes.iter().flatten().flatten().flat_map(|&code| i64::from(code).to_le_bytes()).collect();
    let view = TensorView::new(Dtype::I64, shape, &bytes)?;
    to_file(vec![("codes", view)], [("prompts".to_owned(), serde_json::to_string(prompts)?)].into())
}

/// A safetensors file. Unlike what the library writes, the same content gives the same bytes in every run: the keys of
/// its header are sorted.
pub(crate) fn to_file(tensors: Vec<(&str, TensorView<'_>)>, metadata: BTreeMap<String, String>) -> Result<Vec<u8>> {
    const PREFIX: usize = size_of::<u64>();
    let bytes = safetensors::serialize(tensors, Some(metadata.into_iter().collect()))?;
    let (len, _) = SafeTensors::read_metadata(&bytes)?;
    let header: serde_json::Value = serde_json::from_slice(&bytes[PREFIX..PREFIX + len])?;
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(PREFIX), b' ');
    let mut sorted = (header.len() as u64).to_le_bytes().to_vec();
    sorted.append(&mut header);
    sorted.extend_from_slice(&bytes[PREFIX + len..]);
    Ok(sorted)
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

/// Codes of a recording `[codebook][frame]`, after it was brought to the model's rate and channels.
pub(crate) async fn encode_recording(model: &MusicGen, recording: Waveform) -> Result<Vec<Vec<u32>>> {
    let config = model.config();
    let recording = recording
        .with_channels(config.decoder.audio_channels)?
        .resample(config.audio_encoder.sampling_rate)
        .context("cannot bring the recording to the model's rate")?;
    let [channels, samples] = [recording.channels().len(), recording.samples()];
    let flat: Vec<f32> = recording.channels().iter().flatten().copied().collect();
    let device = model.device();
    let float: DType = device.settings().float_dtype.into();
    let wave = Tensor::<3>::from_data(TensorData::new(flat, [1, channels, samples]).convert_dtype(float), &device);
    let codes = model.audio_encoder().encode_channels(wave);
    let [_, codebooks, frames] = codes.dims();
    let codes: Vec<i64> = codes.into_data_async().await?.convert_dtype(DType::I64).try_to_vec()?;
    let row = |codebook: usize| codes[codebook * frames..(codebook + 1) * frames].iter().map(|&code| code as u32);
    Ok((0..codebooks).map(|codebook| row(codebook).collect()).collect())
}

/// Audio of one piece.
pub(crate) async fn decode(model: &MusicGen, codes: &[Vec<u32>]) -> Result<Waveform> {
    let mut waves = decode_all(model, &[codes.to_vec()]).await?;
    waves.pop().context("a piece without audio")
}

/// Pieces whose audio is decoded together: bounds the memory.
const DECODED_TOGETHER: usize = 8;

/// Audio of several pieces of one length.
pub(crate) async fn decode_all(model: &MusicGen, codes: &[Vec<Vec<u32>>]) -> Result<Vec<Waveform>> {
    let mut waves = Vec::with_capacity(codes.len());
    for batch in codes.chunks(DECODED_TOGETHER) {
        let audio = model.decode_audio(batch).cast(DType::F32);
        let [_, channels, samples] = audio.dims();
        let flat: Vec<f32> = audio.into_data_async().await?.try_to_vec()?;
        for piece in flat.chunks(channels * samples) {
            let split = piece.chunks(samples).map(<[f32]>::to_vec).collect();
            waves.push(Waveform::new(split, model.config().audio_encoder.sampling_rate)?);
        }
    }
    Ok(waves)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_is_the_same_bytes() {
        let make = || {
            let names: Vec<String> = (0..20).map(|index| format!("\u{fc}{index}")).collect();
            let bytes = [1, 2, 3, 4];
            let view = || TensorView::new(Dtype::F32, vec![1], &bytes).unwrap();
            let metadata = names.iter().map(|name| (name.clone(), "\n\"".to_owned())).collect();
            to_file(names.iter().map(|name| (name.as_str(), view())).collect(), metadata).unwrap()
        };
        // A hash map's order is another one each time it is made.
        assert!((0..4).all(|_| make() == make()));
        let bytes = make();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!((file.len(), file.tensor("\u{fc}7").unwrap().data()), (20, &[1, 2, 3, 4][..]));
    }
}
