//! Between the model's tensors and files: codes, captures, edits, audio.

use std::{collections::HashMap, path::PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, tensor::TensorView};
use tonoscope_core::{
    audio::{WavFormat, Waveform},
    hooks::{Cache, Edit, EditFile, HookTensors, Spec},
    models::musicgen::MusicGen,
};

/// `codes` `[prompt, codebook, frame]` as 64-bit integers; the prompts are in the metadata.
pub(crate) fn codes_file(codes: &[Vec<Vec<u32>>], prompts: &[String]) -> Result<Vec<u8>> {
    let shape = vec![codes.len(), codes[0].len(), codes[0][0].len()];
    let bytes: Vec<u8> = codes.iter().flatten().flatten().flat_map(|&code| i64::from(code).to_le_bytes()).collect();
    let view = TensorView::new(Dtype::I64, shape, &bytes)?;
    let metadata = HashMap::from([("prompts".to_owned(), serde_json::to_string(prompts)?)]);
    Ok(safetensors::serialize([("codes", view)], Some(metadata))?)
}

/// Every captured tensor under its name, 32-bit; metadata says what its axes are and what was asked for.
pub(crate) async fn cache_file(cache: &Cache, spec: &Spec, prompts: &[String]) -> Result<Vec<u8>> {
    let mut stored: Vec<(String, Vec<usize>, Vec<u8>)> = vec![];
    let mut axes: HashMap<String, &[&str]> = HashMap::new();
    for entry in &cache.entries {
        let bytes = entry.values().await?.iter().flat_map(|value| value.to_le_bytes()).collect();
        stored.push((entry.name(), entry.shape(), bytes));
        axes.insert(entry.name(), &entry.axes);
    }
    let views = stored
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([
        ("axes".to_owned(), serde_json::to_string(&axes)?),
        ("spec".to_owned(), serde_json::to_string(spec)?),
        ("prompts".to_owned(), serde_json::to_string(prompts)?),
    ]);
    Ok(safetensors::serialize(views, Some(metadata))?)
}

/// Tensors of edits, still on the host.
pub(crate) struct EditTensors(Vec<(String, Vec<f32>, [usize; 5])>);

impl EditTensors {
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
                Some((_, known, _)) if *known != values => {
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
    let audio = model.decode_audio(&[codes.to_vec()]).cast(DType::F32);
    let [_, channels, samples] = audio.dims();
    let flat: Vec<f32> = audio.into_data_async().await?.try_to_vec()?;
    let split = (0..channels).map(|channel| flat[channel * samples..(channel + 1) * samples].to_vec()).collect();
    Ok(Waveform::new(split, model.config().audio_encoder.sampling_rate)?)
}

pub(crate) fn wav(wave: &Waveform, float: bool) -> Result<Vec<u8>> {
    Ok(wave.to_wav_bytes(if float { WavFormat::Float32 } else { WavFormat::Pcm16 })?)
}
