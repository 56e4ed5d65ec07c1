//! stable-audio-tools' layout: one JSON for the whole model and one file of weights, without the text encoder.
//!
//! Reference: stable-audio-tools 0.0.19, `models/factory.py`, `models/diffusion.py` and `models/dit.py` (MIT).

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{
    StableAudioConfig,
    config::{DitConfig, ProjectionConfig, SchedulerConfig},
    load::{read_json, within},
};
use crate::{
    checkpoint::{
        Average, LoadError, Overlay, Remapped, Source, Taken, open_file, open_folder, ranges, typed, unwrapped_with,
    },
    models::{
        oobleck::{OobleckConfig, StableAudioToolsNames},
        t5::T5Config,
    },
};

/// File of the configuration.
pub(super) const CONFIG: &str = "model_config.json";

/// What the names of the autoencoder's tensors begin with.
const AUTOENCODER: &str = "pretransform.model.";
/// Features of the time, of which the configuration does not speak.
const TIME_FEATURES: usize = 256;
/// Features of a head that positions turn at least.
const LEAST_TURNED: usize = 32;

/// `model_config.json`, as far as it shapes the model.
#[derive(Deserialize)]
struct ModelConfig {
    model_type: String,
    #[serde(deserialize_with = "ranges::samples")]
    sample_size: usize,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    conditioning: Conditioning,
    diffusion: Diffusion,
    #[serde(deserialize_with = "ranges::width")]
    io_channels: usize,
}

#[derive(Deserialize)]
struct Conditioning {
    configs: Vec<Conditioner>,
    #[serde(deserialize_with = "ranges::width")]
    cond_dim: usize,
}

#[derive(Deserialize)]
struct Conditioner {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    config: Value,
}

#[derive(Deserialize)]
struct TextConfig {
    #[serde(default = "default_length", deserialize_with = "ranges::tokens")]
    max_length: usize,
    #[serde(default)]
    project_out: bool,
}

#[derive(Deserialize)]
struct NumberConfig {
    #[serde(default, deserialize_with = "ranges::bound")]
    min_val: f64,
    #[serde(default = "one", deserialize_with = "ranges::bound")]
    max_val: f64,
}

#[derive(Deserialize)]
struct Diffusion {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "diffusion_objective", default = "velocity")]
    objective: String,
    #[serde(default)]
    cross_attention_cond_ids: Vec<String>,
    #[serde(default)]
    global_cond_ids: Vec<String>,
    #[serde(default)]
    input_concat_ids: Vec<String>,
    #[serde(default)]
    prepend_cond_ids: Vec<String>,
    config: Transformer,
}

/// Arguments of `DiffusionTransformer`. One that is not here changes the model in a way that is not known here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Transformer {
    #[serde(default = "latents", deserialize_with = "ranges::width")]
    io_channels: usize,
    #[serde(default = "width", deserialize_with = "ranges::width")]
    embed_dim: usize,
    #[serde(default = "twelve", deserialize_with = "ranges::count")]
    depth: usize,
    #[serde(default = "eight", deserialize_with = "ranges::heads")]
    num_heads: usize,
    #[serde(deserialize_with = "ranges::width")]
    cond_token_dim: usize,
    #[serde(deserialize_with = "ranges::width")]
    global_cond_dim: usize,
    #[serde(default = "yes")]
    project_cond_tokens: bool,
    #[serde(default = "yes")]
    project_global_cond: bool,
    #[serde(rename = "transformer_type", default = "continuous")]
    family: String,
    #[serde(default = "prepend")]
    global_cond_type: String,
    #[serde(default)]
    ff_kwargs: FeedForward,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeedForward {
    #[serde(default = "four", deserialize_with = "ranges::factor")]
    mult: f64,
}

impl Default for FeedForward {
    fn default() -> Self {
        Self { mult: four() }
    }
}

fn latents() -> usize {
    32
}

fn width() -> usize {
    768
}

fn twelve() -> usize {
    12
}

fn eight() -> usize {
    8
}

fn default_length() -> usize {
    128
}

fn one() -> f64 {
    1.0
}

fn four() -> f64 {
    4.0
}

fn yes() -> bool {
    true
}

fn velocity() -> String {
    "v".to_owned()
}

fn continuous() -> String {
    "continuous_transformer".to_owned()
}

fn prepend() -> String {
    "prepend".to_owned()
}

/// Opens `folder`, for a text encoder of this shape, as if it were in diffusers' layout.
pub(super) fn open(folder: &Path, text: T5Config) -> Result<(StableAudioConfig, Box<dyn Source>), LoadError> {
    let path = folder.join(CONFIG);
    let whole: Value = read_json(&path)?;
    let config = config(&whole, text).map_err(|reason| LoadError::Config { path, reason })?;
    let vae = StableAudioToolsNames::new(weights(folder)?, AUTOENCODER, &config.vae);
    let vae: Box<dyn Source> = Box::new(within("vae", Box::new(vae)));
    let others = Box::new(Remapped::renaming(weights(folder)?, names));
    Ok((config, Box::new(Overlay(vec![others, vae]))))
}

/// The weights; where there are several files, the one that is no pickle. Those of a training checkpoint are averaged, as
/// stable-audio-tools exports them.
fn weights(folder: &Path) -> Result<Box<dyn Source>, LoadError> {
    let pickle = folder.join("model.ckpt");
    let has = |name: &str| folder.join(name).exists();
    let others =
        ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
    let source =
        if pickle.exists() && !others.into_iter().any(has) { open_file(&pickle)? } else { open_folder(folder)? };
    let average = Average { model: "diffusion.", beside: "diffusion_ema.ema_model.", part: "model." };
    let landmarks = ["pretransform.model.decoder.layers.0.bias", "pretransform.model.decoder.layers.0.weight_v"];
    Ok(unwrapped_with(source, &landmarks, Some(average)))
}

fn config(whole: &Value, text: T5Config) -> Result<StableAudioConfig, String> {
    let vae = OobleckConfig::from_stable_audio_tools(whole)?;
    let ModelConfig { model_type, sample_size, model } = typed(whole.clone())?;
    let Model { conditioning, diffusion, io_channels } = model;
    let Diffusion { config: transformer, .. } = &diffusion;
    let expected = |what: &str, found: &str, expected: &str| {
        if found == expected { Ok(()) } else { Err(format!("`{what}` is `{found}`, expected `{expected}`")) }
    };
    expected("model_type", &model_type, "diffusion_cond")?;
    expected("model.diffusion.type", &diffusion.kind, "dit")?;
    if matches!(diffusion.objective.as_str(), "rectified_flow" | "rf_denoiser") {
        return Err(format!(
            "`model.diffusion.diffusion_objective` is `{}`: this is a rectified flow, such as stable-audio-open-small; \
             only models of the objective `v` are supported, such as stable-audio-open-1.0",
            diffusion.objective
        ));
    }
    expected("model.diffusion.diffusion_objective", &diffusion.objective, "v")?;
    expected("transformer_type", &transformer.family, "continuous_transformer")?;
    expected("global_cond_type", &transformer.global_cond_type, "prepend")?;
    let list = |ids: &[String]| ids.join(", ");
    expected(
        "cross_attention_cond_ids",
        &list(&diffusion.cross_attention_cond_ids),
        "prompt, seconds_start, seconds_total",
    )?;
    expected("global_cond_ids", &list(&diffusion.global_cond_ids), "seconds_start, seconds_total")?;
    expected("input_concat_ids", &list(&diffusion.input_concat_ids), "")?;
    expected("prepend_cond_ids", &list(&diffusion.prepend_cond_ids), "")?;
    if !transformer.project_global_cond {
        return Err("`project_global_cond` is false, expected true".to_owned());
    }
    if io_channels != transformer.io_channels {
        return Err(format!("`io_channels` is {io_channels} and {}", transformer.io_channels));
    }
    let prompt: TextConfig = part(&conditioning, "prompt", "t5")?;
    let [start, total]: [NumberConfig; 2] =
        [part(&conditioning, "seconds_start", "number")?, part(&conditioning, "seconds_total", "number")?];
    if (start.min_val, start.max_val) != (total.min_val, total.max_val) {
        return Err("`seconds_start` and `seconds_total` have different ranges".to_owned());
    }
    if prompt.project_out && text.d_model == conditioning.cond_dim {
        return Err("`project_out` of a text that is as wide as its condition".to_owned());
    }
    let transformer = dit(transformer, sample_size / vae.hop().max(1))?;
    Ok(StableAudioConfig {
        projection_model: ProjectionConfig {
            text_encoder_dim: text.d_model,
            conditioning_dim: conditioning.cond_dim,
            min_value: start.min_val,
            max_value: start.max_val,
        },
        text_tokens: prompt.max_length.min(text.n_positions),
        text_encoder: text,
        transformer,
        vae,
        scheduler: SchedulerConfig::unstated(),
    })
}

/// The configuration of the conditioner `id`, which is of `kind`.
fn part<T: serde::de::DeserializeOwned>(all: &Conditioning, id: &str, kind: &str) -> Result<T, String> {
    let found = all.configs.iter().find(|conditioner| conditioner.id == id);
    let found = found.ok_or_else(|| format!("there is no conditioner `{id}`"))?;
    if found.kind != kind {
        return Err(format!("conditioner `{id}` is of type `{}`, expected `{kind}`", found.kind));
    }
    typed(found.config.clone()).map_err(|reason| format!("conditioner `{id}`: {reason}"))
}

fn dit(of: &Transformer, sample_size: usize) -> Result<DitConfig, String> {
    if of.num_heads == 0 || !of.embed_dim.is_multiple_of(of.num_heads) {
        return Err(format!("a width of {} does not divide into {} heads", of.embed_dim, of.num_heads));
    }
    let d_head = of.embed_dim / of.num_heads;
    let cross = if of.project_cond_tokens { of.embed_dim } else { of.cond_token_dim };
    Ok(DitConfig {
        sample_size,
        in_channels: of.io_channels,
        num_layers: of.depth,
        attention_head_dim: d_head,
        num_attention_heads: of.num_heads,
        num_key_value_attention_heads: cross.checked_div(d_head).unwrap_or(0),
        out_channels: of.io_channels,
        cross_attention_dim: cross,
        time_proj_dim: TIME_FEATURES,
        global_states_input_dim: of.global_cond_dim,
        cross_attention_input_dim: of.cond_token_dim,
        rotary_dim: Some(LEAST_TURNED.max(d_head / 2)),
        ff_inner_dim: Some((of.embed_dim as f64 * of.ff_kwargs.mult) as usize),
    })
}

/// Names in diffusers' layout of a tensor that is not of the autoencoder, and the rows that each is.
fn names(name: &str, shape: &[usize]) -> Vec<(String, Taken)> {
    let whole = |new: String| vec![(new, Taken::all(name))];
    if let Some(rest) = name.strip_prefix("model.model.") {
        return transformer_names(name, rest, shape);
    }
    if name.starts_with(AUTOENCODER) {
        return vec![];
    }
    let Some(rest) = name.strip_prefix("conditioner.conditioners.") else {
        // Left over, and found as such.
        return whole(name.to_owned());
    };
    let number = |to: &str, rest: &str| {
        whole(format!("projection_model.{to}_number_conditioner.time_positional_embedding.{rest}"))
    };
    if let Some(rest) = rest.strip_prefix("prompt.proj_out.") {
        whole(format!("projection_model.text_projection.{rest}"))
    } else if let Some(rest) = rest.strip_prefix("seconds_start.embedder.embedding.") {
        number("start", rest)
    } else if let Some(rest) = rest.strip_prefix("seconds_total.embedder.embedding.") {
        number("end", rest)
    } else {
        whole(name.to_owned())
    }
}

fn transformer_names(name: &str, rest: &str, shape: &[usize]) -> Vec<(String, Taken)> {
    // The angles of positions are computed.
    if rest == "transformer.rotary_pos_emb.inv_freq" {
        return vec![];
    }
    let mut new = format!("transformer.{rest}");
    for (old, to) in [
        ("transformer.transformer.layers.", "transformer.transformer_blocks."),
        ("transformer.transformer.project_in.", "transformer.proj_in."),
        ("transformer.transformer.project_out.", "transformer.proj_out."),
        ("transformer.to_timestep_embed.", "transformer.timestep_proj."),
        ("transformer.timestep_features.", "transformer.time_proj."),
        ("transformer.to_global_embed.", "transformer.global_proj."),
        ("transformer.to_cond_embed.", "transformer.cross_attention_proj."),
        (".pre_norm.", ".norm1."),
        (".cross_attend_norm.", ".norm2."),
        (".ff_norm.", ".norm3."),
        (".gamma", ".weight"),
        (".beta", ".bias"),
        (".self_attn.", ".attn1."),
        (".cross_attn.", ".attn2."),
        (".ff.ff.", ".ff.net."),
        (".to_out.weight", ".to_out.0.weight"),
    ] {
        new = new.replace(old, to);
    }
    for (joined, parts) in [("to_qkv", &["to_q", "to_k", "to_v"][..]), ("to_kv", &["to_k", "to_v"])] {
        if !new.contains(joined) {
            continue;
        }
        let rows = shape.first().copied().unwrap_or(0) / parts.len();
        let part = |(index, part): (usize, &&str)| {
            let rows = Some(index * rows..(index + 1) * rows);
            (new.replace(joined, part), Taken { from: name.to_owned(), rows })
        };
        return parts.iter().enumerate().map(part).collect();
    }
    vec![(new, Taken::all(name))]
}
