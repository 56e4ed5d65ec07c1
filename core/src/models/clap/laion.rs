//! `laion_clap`'s layout: a training checkpoint (`.pt`) under names of its own, without a configuration.
//!
//! Reference: transformers 5.23.0, `models/clap/convert_clap_original_pytorch_to_hf.py` (Apache-2.0): the names, and that
//! queries, keys and values lie in one matrix. What a checkpoint's tensors do not decide (patches, the front end, heads of
//! 64 features in the text tower, an epsilon of 1e-5) is that of the published models.

use std::path::{Path, PathBuf};

use super::{ClapAudioConfig, ClapConfig, ClapTextConfig, FeatureConfig, Truncation};
use crate::checkpoint::{LoadError, Remapped, Source, Taken};

/// Width of a head of the text tower in every published model.
const D_HEAD: usize = 64;
/// Tensors that only training needs, or that are computed anew.
const UNUSED: &[&str] = &[
    "audio_branch.spectrogram_extractor.",
    "audio_branch.logmel_extractor.",
    "audio_branch.tscam_conv.",
    "audio_branch.head.",
    "text_transform.",
    "audio_transform.",
];
/// Part of a name of the audio tower → the same in transformers, in order.
const RENAMED: &[(&str, &str)] = &[
    (".bn0.", ".batch_norm."),
    (".attn.proj.", ".attention.output.dense."),
    (".attn.", ".attention.self."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
];

/// The checkpoint of `laion_clap` that `path` is or holds alone; `None` of a folder in transformers' layout.
pub(super) fn file(path: &Path) -> Option<PathBuf> {
    let is_pt = |path: &Path| path.extension().is_some_and(|extension| extension == "pt") && path.is_file();
    if is_pt(path) {
        return Some(path.to_owned());
    }
    let others =
        ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
    if others.into_iter().any(|name| path.join(name).exists()) {
        return None;
    }
    let entries = std::fs::read_dir(path).ok()?;
    let mut found = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_pt(path));
    match (found.next(), found.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Whether the tensors of `source` have the names of `laion_clap`.
pub(super) fn is_named_so(source: &dyn Source) -> bool {
    source.shape("audio_branch.patch_embed.proj.weight").is_some()
}

/// The tensors of `source` under the names of transformers.
pub(super) fn renamed(source: Box<dyn Source>) -> Remapped<Box<dyn Source>> {
    Remapped::renaming(source, names)
}

fn names(name: &str, shape: &[usize]) -> Vec<(String, Taken)> {
    if UNUSED.iter().any(|prefix| name.starts_with(prefix)) || name.ends_with(".attn_mask") {
        return vec![];
    }
    let whole = |new: String| vec![(new, Taken::all(name))];
    if let Some(rest) = name.strip_prefix("text_branch.") {
        return whole(format!("text_model.{rest}"));
    }
    let Some(rest) = name.strip_prefix("audio_branch") else {
        let numbered = name.replace("_projection.0.", "_projection.linear1.");
        return whole(numbered.replace("_projection.2.", "_projection.linear2."));
    };
    let within = |rest: &str| {
        let renamed = RENAMED.iter().fold(rest.to_owned(), |name, (old, new)| name.replace(old, new));
        format!("audio_model.audio_encoder{renamed}")
    };
    if !rest.contains(".attn.qkv.") {
        return whole(within(rest));
    }
    let third = shape.first().copied().unwrap_or(0) / 3;
    let part = |(index, part): (usize, &str)| {
        let rows = Some(index * third..(index + 1) * third);
        (within(&rest.replace(".qkv.", &format!(".{part}."))), Taken { from: name.to_owned(), rows })
    };
    ["query", "key", "value"].into_iter().enumerate().map(part).collect()
}

/// Shape of the model and of its front end, as the tensors of `source` decide it.
///
/// # Errors
/// [`LoadError`] if a tensor is missing or of another rank.
pub(super) fn described(source: &dyn Source) -> Result<(ClapConfig, FeatureConfig), LoadError> {
    let shape = |name: String| source.shape(&name).ok_or_else(|| LoadError::missing(name));
    let axis = |name: &str, axis: usize| {
        let found = shape(name.to_owned())?;
        let expected = vec![1; axis + 1];
        found.get(axis).copied().ok_or(LoadError::Shape { key: name.to_owned(), found, expected })
    };
    let count = |name: &dyn Fn(usize) -> String| {
        (0..source.names().len()).take_while(|&index| source.shape(&name(index)).is_some()).count()
    };
    let block = |stage: usize, block: usize| format!("audio_branch.layers.{stage}.blocks.{block}");
    let stages = count(&|stage| format!("{}.norm1.weight", block(stage, 0)));
    let (mut depths, mut heads, mut table) = (vec![], vec![], 0);
    for stage in 0..stages {
        depths.push(count(&|index| format!("{}.norm1.weight", block(stage, index))));
        let name = format!("{}.attn.relative_position_bias_table", block(stage, 0));
        heads.push(axis(&name, 1)?);
        table = axis(&name, 0)?;
    }
    let base = ClapAudioConfig::default();
    let width = axis("audio_branch.patch_embed.proj.weight", 0)?;
    let enable_fusion = source.shape("audio_branch.patch_embed.mel_conv2d.weight").is_some();
    let narrow = "audio_branch.patch_embed.fusion_model.local_att.0.weight";
    let text = |name: &str| format!("text_branch.{name}");
    let hidden_size = axis(&text("embeddings.word_embeddings.weight"), 1)?;
    let config = ClapConfig {
        audio_config: ClapAudioConfig {
            // A table has an entry for every distance between two tokens of a window.
            window_size: table.isqrt().div_ceil(2),
            num_mel_bins: axis("audio_branch.bn0.weight", 0)?,
            hidden_size: width << stages.saturating_sub(1).min(8),
            depths,
            num_attention_heads: heads,
            enable_fusion,
            patch_embeds_hidden_size: width,
            mlp_ratio: axis(&format!("{}.mlp.fc1.weight", block(0, 0)), 0)? as f64 / width.max(1) as f64,
            aff_block_r: if enable_fusion { width / axis(narrow, 0)?.max(1) } else { base.aff_block_r },
            ..base
        },
        text_config: ClapTextConfig {
            vocab_size: axis(&text("embeddings.word_embeddings.weight"), 0)?,
            hidden_size,
            num_hidden_layers: count(&|layer| text(&format!("encoder.layer.{layer}.output.dense.weight"))),
            num_attention_heads: hidden_size / D_HEAD,
            intermediate_size: axis(&text("encoder.layer.0.intermediate.dense.weight"), 0)?,
            max_position_embeddings: axis(&text("embeddings.position_embeddings.weight"), 0)?,
            type_vocab_size: axis(&text("embeddings.token_type_embeddings.weight"), 0)?,
            // That of `roberta-base`, which laion_clap builds its text tower as.
            layer_norm_eps: 1e-5,
            ..ClapTextConfig::default()
        },
        projection_dim: axis("audio_projection.2.weight", 0)?,
        ..ClapConfig::default()
    };
    let truncation = if enable_fusion { Truncation::Fusion } else { Truncation::RandTrunc };
    Ok((config, FeatureConfig { truncation, ..FeatureConfig::larger_general() }))
}
