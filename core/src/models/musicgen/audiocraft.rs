//! audiocraft's layout: two pickles with their training configuration inside, the text encoder elsewhere.
//!
//! Reference: audiocraft 1.3.0, models/loaders.py and models/builders.py (MIT).

use std::path::Path;

use pytorch_reader::PickleValue;
use serde::Deserialize;

use super::{DecoderActivation, DecoderConfig, MusicgenConfig, load::read_json, xp_config};
use crate::{
    checkpoint::{LoadError, Overlay, PyTorchFile, Remapped, Source, Taken, open_folder, ranges, unwrapped},
    models::{
        encodec::{EncodecConfig, PadMode},
        t5::T5Config,
    },
};

/// File of the language model.
pub(super) const LANGUAGE_MODEL: &str = "state_dict.bin";
/// File of the codec.
pub(super) const CODEC: &str = "compression_state_dict.bin";
/// How `xp.cfg` marks the name of a published model.
const PRETRAINED: &str = "//pretrained/";

/// `xp.cfg` of `state_dict.bin`, as far as it shapes the model. Defaults are those of audiocraft's classes.
#[derive(Deserialize)]
struct LmConfig {
    #[serde(default = "one", deserialize_with = "ranges::count")]
    channels: usize,
    transformer_lm: TransformerLm,
    codebooks_pattern: CodebooksPattern,
    #[serde(default)]
    fuser: Fuser,
    #[serde(default)]
    compression_model_checkpoint: Option<String>,
}

#[derive(Deserialize)]
#[serde(default)]
struct TransformerLm {
    #[serde(deserialize_with = "ranges::width")]
    dim: usize,
    #[serde(deserialize_with = "ranges::count")]
    num_heads: usize,
    #[serde(deserialize_with = "ranges::count")]
    num_layers: usize,
    #[serde(deserialize_with = "ranges::ratio")]
    hidden_scale: usize,
    #[serde(deserialize_with = "ranges::count")]
    n_q: usize,
    #[serde(deserialize_with = "ranges::entries")]
    card: usize,
    activation: DecoderActivation,
    norm: String,
    norm_first: bool,
    causal: bool,
    past_context: Option<f64>,
    positional_embedding: String,
    xpos: bool,
    kv_repeat: u64,
    max_period: f64,
    positional_scale: f64,
    q_modeling: Option<String>,
}

impl Default for TransformerLm {
    fn default() -> Self {
        Self {
            dim: 128,
            num_heads: 8,
            num_layers: 8,
            hidden_scale: 4,
            n_q: 8,
            card: 1024,
            activation: DecoderActivation::Relu,
            norm: "layer_norm".to_owned(),
            norm_first: false,
            causal: false,
            past_context: None,
            positional_embedding: "sin".to_owned(),
            xpos: false,
            kv_repeat: 1,
            max_period: 10_000.0,
            positional_scale: 1.0,
            q_modeling: None,
        }
    }
}

#[derive(Deserialize)]
struct CodebooksPattern {
    #[serde(default)]
    modeling: Option<String>,
    #[serde(default)]
    delay: Delay,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delay {
    /// Absent: each codebook a step later than the one before.
    delays: Option<Vec<u64>>,
    flatten_first: u64,
    empty_initial: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Fuser {
    cross_attention_pos_emb: bool,
    sum: Vec<String>,
    prepend: Vec<String>,
    input_interpolate: Vec<String>,
}

/// `xp.cfg` of `compression_state_dict.bin`, as far as it shapes the model. Defaults are those of audiocraft's classes.
#[derive(Deserialize)]
struct CompressionConfig {
    #[serde(deserialize_with = "ranges::rate")]
    sample_rate: u32,
    #[serde(default)]
    encodec: Renormalize,
    #[serde(default)]
    seanet: Seanet,
    #[serde(default)]
    rvq: Rvq,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Renormalize {
    #[serde(deserialize_with = "ranges::rate")]
    sample_rate: Option<usize>,
    renormalize: bool,
}

#[derive(Deserialize)]
#[serde(default)]
struct Seanet {
    #[serde(deserialize_with = "ranges::width")]
    dimension: usize,
    #[serde(deserialize_with = "ranges::count")]
    channels: usize,
    causal: bool,
    #[serde(deserialize_with = "ranges::width")]
    n_filters: usize,
    #[serde(deserialize_with = "ranges::count")]
    n_residual_layers: usize,
    #[serde(deserialize_with = "ranges::ratio")]
    ratios: Vec<usize>,
    activation: String,
    norm: String,
    #[serde(deserialize_with = "ranges::ratio")]
    kernel_size: usize,
    #[serde(deserialize_with = "ranges::ratio")]
    residual_kernel_size: usize,
    #[serde(deserialize_with = "ranges::ratio")]
    last_kernel_size: usize,
    #[serde(deserialize_with = "ranges::ratio")]
    dilation_base: usize,
    pad_mode: PadMode,
    true_skip: bool,
    #[serde(deserialize_with = "ranges::ratio")]
    compress: usize,
    lstm: usize,
    decoder: SeanetDecoder,
}

impl Default for Seanet {
    fn default() -> Self {
        Self {
            dimension: 128,
            channels: 1,
            causal: false,
            n_filters: 32,
            n_residual_layers: 3,
            ratios: vec![8, 5, 4, 2],
            activation: "ELU".to_owned(),
            norm: "none".to_owned(),
            kernel_size: 7,
            residual_kernel_size: 3,
            last_kernel_size: 7,
            dilation_base: 2,
            pad_mode: PadMode::Reflect,
            true_skip: true,
            compress: 2,
            lstm: 0,
            decoder: SeanetDecoder::default(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SeanetDecoder {
    final_activation: Option<String>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Rvq {
    #[serde(deserialize_with = "ranges::count")]
    n_q: usize,
    #[serde(deserialize_with = "ranges::entries")]
    bins: usize,
}

impl Default for Rvq {
    fn default() -> Self {
        Self { n_q: 8, bins: 1024 }
    }
}

fn one() -> usize {
    1
}

/// The published codec that `folder` names instead of holding one; `None` if it holds one.
pub(super) fn published_codec(folder: &Path) -> Result<Option<String>, LoadError> {
    let path = folder.join(CODEC);
    if path.exists() {
        return Ok(match PyTorchFile::value(&path, "pretrained")? {
            Some(PickleValue::String(name)) => Some(name.trim_start_matches(PRETRAINED).to_owned()),
            _ => None,
        });
    }
    let lm: LmConfig = xp_config::read(&folder.join(LANGUAGE_MODEL))?;
    Ok(lm.compression_model_checkpoint.and_then(|name| name.strip_prefix(PRETRAINED).map(str::to_owned)))
}

/// Opens `folder`, with the text encoder in `t5`, as if it were in transformers' layout. `codec` is the folder of the
/// published codec, where `folder` only names one.
pub(super) fn open(
    folder: &Path,
    t5: &Path,
    codec: Option<&Path>,
) -> Result<(MusicgenConfig, Box<dyn Source>), LoadError> {
    let lm_path = folder.join(LANGUAGE_MODEL);
    let lm: LmConfig = xp_config::read(&lm_path)?;
    let decoder = decoder_config(&lm).map_err(|reason| LoadError::Config { path: lm_path.clone(), reason })?;
    let (audio_encoder, codec) = open_codec(folder, codec)?;
    let config = MusicgenConfig {
        model_type: "musicgen".to_owned(),
        text_encoder: read_json::<T5Config>(&t5.join("config.json"))?,
        audio_encoder,
        decoder,
    };
    config.check().map_err(|reason| LoadError::Config { path: lm_path.clone(), reason })?;
    let lm = unwrapped(Box::new(PyTorchFile::open(&lm_path)?), &["out_norm.weight"]);
    let lm = Remapped::renaming(lm, lm_names);
    let text = unwrapped(open_folder(t5)?, &["encoder.final_layer_norm.weight"]);
    let text = Remapped::renaming(text, |name, _| t5_names(name));
    Ok((config, Box::new(Overlay(vec![Box::new(lm), codec, Box::new(text)]))))
}

/// The codec in `folder`, or the `published` one that it names.
fn open_codec(folder: &Path, published: Option<&Path>) -> Result<(EncodecConfig, Box<dyn Source>), LoadError> {
    let path = folder.join(CODEC);
    let Some(name) = published_codec(folder)? else {
        let config =
            codec_config(xp_config::read(&path)?).map_err(|reason| LoadError::Config { path: path.clone(), reason })?;
        let codec = unwrapped(Box::new(PyTorchFile::open(&path)?), &["quantizer.vq.layers.0._codebook.embed"]);
        return Ok((config, Box::new(Remapped::renaming(codec, |name, _| codec_names(name)))));
    };
    let Some(published) = published else {
        let last = name.rsplit('/').next().unwrap_or_default();
        let reason = format!(
            "it names the codec `{name}` instead of holding one; put the files of `{name}` into a folder `{last}` beside it"
        );
        return Err(LoadError::Config { path, reason });
    };
    if published.join(CODEC).exists() && !published.join("config.json").exists() {
        // A codec that names another one would lead on and on.
        return match published_codec(published)? {
            None => open_codec(published, None),
            Some(_) => {
                Err(LoadError::Config { path: published.join(CODEC), reason: "it names yet another codec".to_owned() })
            }
        };
    }
    let config: EncodecConfig = read_json(&published.join("config.json"))?;
    let codec = unwrapped(open_folder(published)?, &["quantizer.layers.0.codebook.embed"]);
    let within = |name: &str, _: &[usize]| whole(format!("audio_encoder.{name}"), name);
    Ok((config, Box::new(Remapped::renaming(codec, within))))
}

fn only<T: PartialEq + std::fmt::Debug>(field: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("`{field}` is {found:?}, only {expected:?} is supported")) }
}

fn decoder_config(lm: &LmConfig) -> Result<DecoderConfig, String> {
    let shape = &lm.transformer_lm;
    only("transformer_lm.norm", &shape.norm.as_str(), &"layer_norm")?;
    only("transformer_lm.norm_first", &shape.norm_first, &true)?;
    only("transformer_lm.causal", &shape.causal, &true)?;
    only("transformer_lm.past_context", &shape.past_context, &None)?;
    only("transformer_lm.positional_embedding", &shape.positional_embedding.as_str(), &"sin")?;
    only("transformer_lm.xpos", &shape.xpos, &false)?;
    only("transformer_lm.kv_repeat", &shape.kv_repeat, &1)?;
    only("transformer_lm.max_period", &shape.max_period, &10_000.0)?;
    only("transformer_lm.positional_scale", &shape.positional_scale, &1.0)?;
    only("fuser.cross_attention_pos_emb", &lm.fuser.cross_attention_pos_emb, &false)?;
    for (field, found) in
        [("sum", &lm.fuser.sum), ("prepend", &lm.fuser.prepend), ("input_interpolate", &lm.fuser.input_interpolate)]
    {
        only(&format!("fuser.{field}"), found, &vec![])?;
    }
    let pattern = lm.codebooks_pattern.modeling.as_ref().or(shape.q_modeling.as_ref());
    only("codebooks_pattern.modeling", &pattern.map_or("", String::as_str), &"delay")?;
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
    let delay = &lm.codebooks_pattern.delay;
    only("codebooks_pattern.delay.flatten_first", &delay.flatten_first, &0)?;
    only("codebooks_pattern.delay.empty_initial", &delay.empty_initial, &0)?;
    let expected: Vec<u64> = (0..shape.n_q).map(|codebook| (codebook / channels) as u64).collect();
    let delays = delay.delays.clone().unwrap_or_else(|| (0..shape.n_q as u64).collect());
    if delays == expected { Ok(config) } else { Err(format!("delays {delays:?}, expected {expected:?}")) }
}

fn codec_config(codec: CompressionConfig) -> Result<EncodecConfig, String> {
    let seanet = codec.seanet;
    only("seanet.activation", &seanet.activation.as_str(), &"ELU")?;
    only("seanet.decoder.final_activation", &seanet.decoder.final_activation, &None)?;
    let sampling_rate = codec.encodec.sample_rate.map_or(codec.sample_rate, |rate| rate as u32);
    let hop = seanet.ratios.iter().try_fold(1usize, |hop, &ratio| hop.checked_mul(ratio)).unwrap_or(usize::MAX);
    let frame_rate = f64::from(sampling_rate) / hop as f64;
    let bandwidth = codec.rvq.n_q as f64 * (codec.rvq.bins as f64).log2() * frame_rate / 1000.0;
    Ok(EncodecConfig {
        sampling_rate,
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
        // Weights without a norm are read as they are.
        norm_type: if seanet.norm == "none" { "weight_norm".to_owned() } else { seanet.norm },
        pad_mode: seanet.pad_mode,
        use_causal_conv: seanet.causal,
        use_conv_shortcut: !seanet.true_skip,
        normalize: codec.encodec.renormalize,
        chunk_length_s: None,
    })
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
