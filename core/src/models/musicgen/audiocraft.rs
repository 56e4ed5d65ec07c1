//! audiocraft's layout: two pickles with their training configuration inside, the text encoder elsewhere.
//!
//! Reference: audiocraft 1.3.0, models/loaders.py and models/builders.py (MIT).

use std::path::Path;

use pytorch_reader::{PickleValue, PytorchReader};
use serde::{Deserialize, de::DeserializeOwned};

use super::{DecoderActivation, DecoderConfig, MusicgenConfig, load::read_json};
use crate::{
    checkpoint::{LoadError, Overlay, PyTorchFile, Remapped, Source, Taken, open_folder},
    models::{encodec::EncodecConfig, t5::T5Config},
};

/// `xp.cfg` of `state_dict.bin`, as far as it shapes the model.
#[derive(Deserialize)]
struct LmConfig {
    channels: usize,
    transformer_lm: TransformerLm,
    codebooks_pattern: CodebooksPattern,
}

#[derive(Deserialize)]
struct TransformerLm {
    dim: usize,
    num_heads: usize,
    num_layers: usize,
    hidden_scale: usize,
    n_q: usize,
    card: usize,
    activation: DecoderActivation,
}

#[derive(Deserialize)]
struct CodebooksPattern {
    modeling: String,
    delay: Option<Delay>,
}

#[derive(Deserialize)]
struct Delay {
    delays: Vec<usize>,
}

/// `xp.cfg` of `compression_state_dict.bin`, as far as it shapes the model.
#[derive(Deserialize)]
struct CompressionConfig {
    sample_rate: u32,
    encodec: Renormalize,
    seanet: Seanet,
    rvq: Rvq,
}

#[derive(Deserialize)]
struct Renormalize {
    renormalize: bool,
}

#[derive(Deserialize)]
struct Seanet {
    dimension: usize,
    channels: usize,
    causal: bool,
    n_filters: usize,
    n_residual_layers: usize,
    ratios: Vec<usize>,
    norm: String,
    kernel_size: usize,
    residual_kernel_size: usize,
    last_kernel_size: usize,
    dilation_base: usize,
    pad_mode: String,
    true_skip: bool,
    compress: usize,
    lstm: usize,
}

#[derive(Deserialize)]
struct Rvq {
    n_q: usize,
    bins: usize,
}

/// Opens `folder`, with the text encoder in `t5`, as if it were in transformers' layout.
pub(super) fn open(folder: &Path, t5: &Path) -> Result<(MusicgenConfig, Box<dyn Source>), LoadError> {
    let (lm_path, codec_path) = (folder.join("state_dict.bin"), folder.join("compression_state_dict.bin"));
    let lm: LmConfig = xp_config(&lm_path)?;
    let codec: CompressionConfig = xp_config(&codec_path)?;
    let decoder = decoder_config(&lm).map_err(|reason| LoadError::Config { path: lm_path.clone(), reason })?;
    let config = MusicgenConfig {
        model_type: "musicgen".to_owned(),
        text_encoder: read_json::<T5Config>(&t5.join("config.json"))?,
        audio_encoder: codec_config(codec),
        decoder,
    };
    let lm = Remapped::renaming(PyTorchFile::open(&lm_path, Some("best_state"))?, lm_names);
    let codec = Remapped::renaming(PyTorchFile::open(&codec_path, Some("best_state"))?, |name, _| codec_names(name));
    let text = Remapped::renaming(open_folder(t5)?, |name, _| t5_names(name));
    Ok((config, Box::new(Overlay(vec![Box::new(lm), Box::new(codec), Box::new(text)]))))
}

fn decoder_config(lm: &LmConfig) -> Result<DecoderConfig, String> {
    let shape = &lm.transformer_lm;
    if lm.codebooks_pattern.modeling != "delay" {
        return Err(format!("codebook pattern `{}`, expected `delay`", lm.codebooks_pattern.modeling));
    }
    let channels = if shape.n_q > 4 { lm.channels } else { 1 };
    let config = DecoderConfig {
        vocab_size: shape.card,
        num_hidden_layers: shape.num_layers,
        ffn_dim: shape.hidden_scale * shape.dim,
        num_attention_heads: shape.num_heads,
        hidden_size: shape.dim,
        activation_function: shape.activation,
        scale_embedding: false,
        num_codebooks: shape.n_q,
        audio_channels: channels,
        pad_token_id: shape.card as u32,
    };
    config.check()?;
    let delays: Vec<usize> = (0..shape.n_q).map(|codebook| codebook / channels).collect();
    match &lm.codebooks_pattern.delay {
        Some(delay) if delay.delays != delays => Err(format!("delays {:?}, expected {delays:?}", delay.delays)),
        _ => Ok(config),
    }
}

fn codec_config(codec: CompressionConfig) -> EncodecConfig {
    let Seanet { ratios, .. } = &codec.seanet;
    let frame_rate = f64::from(codec.sample_rate) / ratios.iter().product::<usize>() as f64;
    let bandwidth = codec.rvq.n_q as f64 * (codec.rvq.bins as f64).log2() * frame_rate / 1000.0;
    let seanet = codec.seanet;
    EncodecConfig {
        sampling_rate: codec.sample_rate,
        audio_channels: seanet.channels,
        target_bandwidths: vec![bandwidth],
        num_filters: seanet.n_filters,
        num_residual_layers: seanet.n_residual_layers,
        upsampling_ratios: seanet.ratios,
        hidden_size: seanet.dimension,
        kernel_size: seanet.kernel_size,
        last_kernel_size: seanet.last_kernel_size,
        residual_kernel_size: seanet.residual_kernel_size,
        dilation_growth_rate: seanet.dilation_base,
        compress: seanet.compress,
        num_lstm_layers: seanet.lstm,
        codebook_size: codec.rvq.bins,
        codebook_dim: None,
        norm_type: seanet.norm,
        pad_mode: seanet.pad_mode,
        use_causal_conv: seanet.causal,
        use_conv_shortcut: !seanet.true_skip,
        normalize: codec.encodec.renormalize,
        chunk_length_s: None,
    }
}

/// The YAML text under `xp.cfg`. Only plain data is read of the pickle.
fn xp_config<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    std::fs::metadata(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let corrupt = |reason: String| LoadError::Corrupt { path: path.to_owned(), reason };
    let value = PytorchReader::read_pickle_data(path, Some("xp.cfg")).map_err(|error| corrupt(error.to_string()))?;
    let PickleValue::String(yaml) = value else {
        return Err(corrupt("`xp.cfg` is not text".to_owned()));
    };
    let config = |reason| LoadError::Config { path: path.to_owned(), reason };
    serde_yaml_ng::from_str(&yaml).map_err(|error| config(format!("`xp.cfg`: {error}")))
}

fn whole(new: String, old: &str) -> Vec<(String, Taken)> {
    vec![(new, Taken::all(old))]
}

fn lm_names(name: &str, shape: &[usize]) -> Vec<(String, Taken)> {
    if let Some(rest) = name.strip_prefix("condition_provider.conditioners.description.output_proj.") {
        return whole(format!("enc_to_dec_proj.{rest}"), name);
    }
    let new = name
        .replace("emb.", "model.decoder.embed_tokens.")
        .replace("transformer.layers.", "model.decoder.layers.")
        .replace("cross_attention.", "encoder_attn.")
        .replace("linear1.", "fc1.")
        .replace("linear2.", "fc2.")
        .replace("norm1.", "self_attn_layer_norm.")
        .replace("norm_cross.", "encoder_attn_layer_norm.")
        .replace("norm2.", "final_layer_norm.")
        .replace("out_norm.", "model.decoder.layer_norm.")
        .replace("linears.", "lm_heads.");
    let new = format!("decoder.{new}");
    let Some(stem) = new.strip_suffix("in_proj_weight") else { return whole(new, name) };
    let third = shape.first().copied().unwrap_or(0) / 3;
    let part = |(index, letter)| {
        let rows = Some(index * third..(index + 1) * third);
        (format!("{stem}{letter}_proj.weight"), Taken { from: name.to_owned(), rows })
    };
    ["q", "k", "v"].into_iter().enumerate().map(part).collect()
}

fn codec_names(name: &str) -> Vec<(String, Taken)> {
    let new = name
        .replace("coder.model.", "coder.layers.")
        .replace(".convtr.convtr.", ".conv.")
        .replace(".conv.conv.", ".conv.")
        .replace("quantizer.vq.layers.", "quantizer.layers.")
        .replace("._codebook.", ".codebook.");
    whole(format!("audio_encoder.{new}"), name)
}

/// A file may hold the whole of T5; its decoder is not needed.
fn t5_names(name: &str) -> Vec<(String, Taken)> {
    let needed = name.starts_with("shared.") || name.starts_with("encoder.");
    if needed { whole(format!("text_encoder.{name}"), name) } else { vec![] }
}
