//! Shape of a CLAP: `config.json`.

use serde::{Deserialize, Serialize};

use crate::checkpoint::ranges;

/// Shape of a [`Clap`](super::Clap); fields are named as in the checkpoint's `config.json`, and those of them that are
/// left out have the values of transformers' `ClapConfig`, as its `save_pretrained` may leave out what equals these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClapConfig {
    /// The audio tower.
    pub audio_config: ClapAudioConfig,
    /// The text tower.
    pub text_config: ClapTextConfig,
    /// Width of the space that both towers are projected to; what the towers' own configurations say of it is not used.
    #[serde(deserialize_with = "ranges::width")]
    pub projection_dim: usize,
    /// Non-linearity between the two layers of a projection.
    pub projection_hidden_act: HiddenAct,
}

/// Shape of an [`AudioTower`](super::AudioTower), a hierarchical Swin transformer over a folded spectrogram (HTSAT).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClapAudioConfig {
    /// Edge of a window of attention, in tokens.
    #[serde(deserialize_with = "ranges::ratio")]
    pub window_size: usize,
    /// Mel bands of the spectrogram.
    #[serde(deserialize_with = "ranges::width")]
    pub num_mel_bins: usize,
    /// Edge of the square that the spectrogram is folded to.
    #[serde(deserialize_with = "ranges::width")]
    pub spec_size: usize,
    /// Non-linearity of the blocks.
    pub hidden_act: HiddenAct,
    /// Rows and columns of a patch.
    #[serde(deserialize_with = "ranges::ratio")]
    pub patch_size: [usize; 2],
    /// Rows and columns between patches.
    #[serde(deserialize_with = "ranges::ratio")]
    pub patch_stride: [usize; 2],
    /// Width of the last stage.
    #[serde(deserialize_with = "ranges::width")]
    pub hidden_size: usize,
    /// Blocks of every stage.
    #[serde(deserialize_with = "ranges::count")]
    pub depths: Vec<usize>,
    /// Heads of every stage.
    #[serde(deserialize_with = "ranges::count")]
    pub num_attention_heads: Vec<usize>,
    /// Whether long clips are fused from four spectrograms.
    pub enable_fusion: bool,
    /// A kind of fusion; the published models have none, which is the attentional one.
    pub fusion_type: Option<String>,
    /// Spectrograms that a patch is made of.
    #[serde(deserialize_with = "ranges::count")]
    pub patch_embed_input_channels: usize,
    /// Width of the first stage, doubled from stage to stage.
    #[serde(deserialize_with = "ranges::width")]
    pub patch_embeds_hidden_size: usize,
    /// Whether the patches are normalised.
    pub enable_patch_layer_norm: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Width of the MLP over that of its stage.
    #[serde(deserialize_with = "ranges::factor")]
    pub mlp_ratio: f64,
    /// By how much the fusion narrows its hidden layer.
    #[serde(deserialize_with = "ranges::ratio")]
    pub aff_block_r: usize,
    /// Added to the variance in the norms of the blocks; the other norms have PyTorch's 1e-5.
    #[serde(deserialize_with = "ranges::epsilon")]
    pub layer_norm_eps: f64,
}

/// Shape of a [`TextTower`](super::TextTower), a `RoBERTa`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClapTextConfig {
    /// Entries of the token table.
    #[serde(deserialize_with = "ranges::entries")]
    pub vocab_size: usize,
    /// Width of the residual stream.
    #[serde(deserialize_with = "ranges::width")]
    pub hidden_size: usize,
    /// Layers.
    #[serde(deserialize_with = "ranges::count")]
    pub num_hidden_layers: usize,
    /// Heads.
    #[serde(deserialize_with = "ranges::count")]
    pub num_attention_heads: usize,
    /// Width of the MLP.
    #[serde(deserialize_with = "ranges::width")]
    pub intermediate_size: usize,
    /// Non-linearity of the MLP.
    pub hidden_act: HiddenAct,
    /// Entries of the position table; the first `pad_token_id + 1` stand for no position.
    #[serde(deserialize_with = "ranges::tokens")]
    pub max_position_embeddings: usize,
    /// Entries of the table of segments, of which the first is used.
    #[serde(deserialize_with = "ranges::entries")]
    pub type_vocab_size: usize,
    /// Added to the variance in the norms.
    #[serde(deserialize_with = "ranges::epsilon")]
    pub layer_norm_eps: f64,
    /// Id that fills short texts.
    #[serde(deserialize_with = "ranges::index")]
    pub pad_token_id: u32,
}

/// A non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HiddenAct {
    /// The exact GELU, with the error function.
    Gelu,
    /// `max(x, 0)`
    Relu,
}

impl Default for ClapConfig {
    fn default() -> Self {
        Self {
            audio_config: ClapAudioConfig::default(),
            text_config: ClapTextConfig::default(),
            projection_dim: 512,
            projection_hidden_act: HiddenAct::Relu,
        }
    }
}

/// That of `clap-htsat-unfused`.
impl Default for ClapAudioConfig {
    fn default() -> Self {
        Self {
            window_size: 8,
            num_mel_bins: 64,
            spec_size: 256,
            hidden_act: HiddenAct::Gelu,
            patch_size: [4, 4],
            patch_stride: [4, 4],
            hidden_size: 768,
            depths: vec![2, 2, 6, 2],
            num_attention_heads: vec![4, 8, 16, 32],
            enable_fusion: false,
            fusion_type: None,
            patch_embed_input_channels: 1,
            patch_embeds_hidden_size: 96,
            enable_patch_layer_norm: true,
            qkv_bias: true,
            mlp_ratio: 4.0,
            aff_block_r: 4,
            layer_norm_eps: 1e-5,
        }
    }
}

impl Default for ClapTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 50_265,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: HiddenAct::Gelu,
            max_position_embeddings: 514,
            type_vocab_size: 1,
            layer_norm_eps: 1e-12,
            pad_token_id: 1,
        }
    }
}

impl ClapConfig {
    /// `laion/larger_clap_general`: HTSAT-base.
    pub fn larger_general() -> Self {
        let audio_config = ClapAudioConfig {
            hidden_size: 1024,
            depths: vec![2, 2, 12, 2],
            patch_embeds_hidden_size: 128,
            ..ClapAudioConfig::default()
        };
        Self { audio_config, ..Self::default() }
    }

    /// What contradicts itself or is not built, if anything.
    pub(super) fn contradiction(&self) -> Option<String> {
        self.audio_config.contradiction().or_else(|| self.text_config.contradiction())
    }
}

impl ClapAudioConfig {
    /// Into how many strips the spectrogram is cut, which are laid one above the other.
    pub(super) fn strips(&self) -> usize {
        self.spec_size / self.num_mel_bins.max(1)
    }

    /// Frames that the spectrogram is stretched to.
    pub fn frames(&self) -> usize {
        self.spec_size * self.strips()
    }

    /// Rows and columns of tokens in a stage.
    pub(super) fn resolution(&self, stage: usize) -> [usize; 2] {
        self.patch_stride.map(|stride| (self.spec_size / stride) >> stage)
    }

    /// Width of a stage.
    pub(super) fn width(&self, stage: usize) -> usize {
        self.patch_embeds_hidden_size << stage
    }

    fn contradiction(&self) -> Option<String> {
        let positive = [self.window_size, self.num_mel_bins, self.aff_block_r, self.patch_embeds_hidden_size];
        let edges = self.patch_size.into_iter().chain(self.patch_stride).chain(self.depths.iter().copied());
        if positive.into_iter().chain(edges).any(|count| count == 0) || self.depths.is_empty() {
            return Some("`audio_config` has a size of 0".to_owned());
        }
        let stages = self.depths.len();
        // Beyond that a width no longer fits a number, and no published model comes near.
        if stages > 8 || self.depths.iter().chain([&self.patch_embeds_hidden_size]).any(|n| *n > 4096) {
            return Some("`audio_config` is larger than any model".to_owned());
        }
        if self.spec_size > 1024 || self.window_size > 64 {
            return Some(format!(
                "`spec_size` is {} and `window_size` {}, expected 1024 and 64 at most",
                self.spec_size, self.window_size
            ));
        }
        if !self.spec_size.is_multiple_of(self.num_mel_bins) {
            return Some(format!("{} mel bins do not fill a square of {}", self.num_mel_bins, self.spec_size));
        }
        if self.num_attention_heads.len() != stages {
            return Some(format!("{} numbers of heads for {stages} stages", self.num_attention_heads.len()));
        }
        if (0..2).any(|axis| self.patch_size[axis] < self.patch_stride[axis]) {
            return Some("patches smaller than the distance between them are not supported".to_owned());
        }
        if self.patch_embed_input_channels != 1 {
            return Some("`patch_embed_input_channels` other than 1 is not supported".to_owned());
        }
        if let Some(kind) = &self.fusion_type {
            return Some(format!(
                "`fusion_type` is `{kind}`; published models have none, and others are not supported"
            ));
        }
        for (stage, &heads) in self.num_attention_heads.iter().enumerate() {
            let [height, width] = self.resolution(stage);
            let window = self.window_size;
            if !height.is_multiple_of(window) || !width.is_multiple_of(window) || height == 0 || width == 0 {
                return Some(format!(
                    "{height} × {width} tokens of stage {stage} do not divide into windows of {window}"
                ));
            }
            if stage + 1 < stages && !(height.is_multiple_of(2) && width.is_multiple_of(2)) {
                return Some(format!("{height} × {width} tokens of stage {stage} cannot be merged by four"));
            }
            if heads == 0 || !self.width(stage).is_multiple_of(heads) {
                return Some(format!(
                    "width {} of stage {stage} does not divide into {heads} heads",
                    self.width(stage)
                ));
            }
        }
        let last = self.width(stages - 1);
        (self.hidden_size != last)
            .then(|| format!("`hidden_size` is {}, the last stage is {last} wide", self.hidden_size))
    }
}

impl ClapTextConfig {
    /// Tokens that a text may have, the first and the last included.
    pub fn most_tokens(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.pad_token_id as usize + 1)
    }

    fn contradiction(&self) -> Option<String> {
        let Self { hidden_size: width, num_attention_heads: heads, .. } = *self;
        if heads == 0 || !width.is_multiple_of(heads) {
            return Some(format!("width {width} of the text tower does not divide into {heads} heads"));
        }
        if self.pad_token_id as usize >= self.vocab_size || self.most_tokens() == 0 || self.type_vocab_size == 0 {
            return Some("the text tower has no room for padding, a position or a segment".to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_may_leave_out_what_transformers_knows() {
        let text = r#"{"model_type": "clap", "audio_config": {"patch_size": 4, "patch_stride": [4, 4], "depths": [2, 2, 12, 2],
            "hidden_size": 1024, "patch_embeds_hidden_size": 128}, "text_config": {"layer_norm_eps": 1e-05}}"#;
        let config: ClapConfig = serde_json::from_str(text).unwrap();
        let expected = ClapConfig::larger_general();
        assert_eq!(config.audio_config, expected.audio_config);
        assert_eq!(config.text_config.layer_norm_eps, 1e-5);
        assert_eq!(config.text_config.most_tokens(), 512);
        assert_eq!(config.contradiction(), None);
        assert_eq!(ClapConfig::default().contradiction(), None);
    }

    #[test]
    fn what_is_not_built_is_refused() {
        let refused = |change: fn(&mut ClapAudioConfig)| {
            let mut config = ClapConfig::larger_general();
            change(&mut config.audio_config);
            config.contradiction().expect("a contradiction")
        };
        assert!(refused(|config| config.window_size = 7).contains("64 × 64 tokens of stage 0"));
        assert!(refused(|config| config.window_size = 0).contains("size of 0"));
        assert!(refused(|config| config.hidden_size = 768).contains("1024"));
        assert!(refused(|config| config.num_mel_bins = 60).contains("60 mel bins"));
        assert!(refused(|config| config.depths.push(2)).contains("4 numbers of heads for 5 stages"));
        assert!(refused(|config| config.num_attention_heads[1] = 3).contains("3 heads"));
        assert!(refused(|config| config.fusion_type = Some("channel_map".to_owned())).contains("channel_map"));
        assert!(refused(|config| config.depths = vec![usize::MAX; 4]).contains("larger"));
    }
}
