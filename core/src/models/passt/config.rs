//! Shape of a PaSST and of its front end.

use serde::{Deserialize, Serialize};

use super::mel::MelConfig;
use crate::checkpoint::{LoadError, Source, ranges};

/// Width of a head in every published model; nothing in a checkpoint says it.
const D_HEAD: usize = 64;

/// Shape of a [`Passt`](super::Passt); fields are named as the arguments of hear21passt's `PaSST` and of its wrapper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PasstConfig {
    /// The log-mel spectrogram.
    pub mel: MelConfig,
    /// Mel bands and frames that the position embeddings were made for.
    #[serde(deserialize_with = "ranges::window")]
    pub img_size: [usize; 2],
    /// Edge of a patch, in bands and frames.
    #[serde(deserialize_with = "ranges::ratio")]
    pub patch_size: usize,
    /// Distance between patches; less than `patch_size`: they overlap.
    #[serde(deserialize_with = "ranges::ratio")]
    pub stride: usize,
    /// Classes that are told apart.
    #[serde(deserialize_with = "ranges::entries")]
    pub num_classes: usize,
    /// Width of the residual stream.
    #[serde(deserialize_with = "ranges::width")]
    pub embed_dim: usize,
    /// Blocks.
    #[serde(deserialize_with = "ranges::count")]
    pub depth: usize,
    /// Attention heads.
    #[serde(deserialize_with = "ranges::heads")]
    pub num_heads: usize,
    /// Width of the MLP over that of the residual stream.
    #[serde(deserialize_with = "ranges::ratio")]
    pub mlp_ratio: usize,
    /// Added to the variance in every norm but the head's.
    #[serde(deserialize_with = "ranges::epsilon")]
    pub norm_eps: f64,
    /// Added to the variance in the head's norm.
    #[serde(deserialize_with = "ranges::epsilon")]
    pub head_norm_eps: f64,
    /// Longest clip that is classified in one piece, in ms.
    #[serde(deserialize_with = "ranges::milliseconds")]
    pub max_model_window: usize,
    /// Distance between the pieces of a longer clip, in ms.
    #[serde(deserialize_with = "ranges::milliseconds")]
    pub scene_hop: usize,
}

impl PasstConfig {
    /// `passt_s_swa_p16_128_ap476`: the 527 classes of `AudioSet`, the judge of the ISMIR 2024 paper.
    pub fn passt_s_swa_p16_128_ap476() -> Self {
        Self {
            mel: MelConfig::passt(128),
            img_size: [128, 998],
            patch_size: 16,
            stride: 10,
            num_classes: 527,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_ratio: 4,
            norm_eps: 1e-6,
            head_norm_eps: 1e-5,
            max_model_window: 10_000,
            scene_hop: 2_500,
        }
    }

    /// The real model with what the tensors of `source` decide: classes, width, blocks, and heads of 64 each (0 of a width
    /// that does not divide so). What they do not decide (front end, patches, windows) is that of the real model.
    ///
    /// # Errors
    /// [`LoadError`] if `source` has not the tensors of a `PaSST`.
    pub fn of_tensors(source: &dyn Source) -> Result<Self, LoadError> {
        let real = Self::passt_s_swa_p16_128_ap476();
        let prefix = if source.shape("net.cls_token").is_some() { "net." } else { "" };
        let matrix = |name: &str, expected: [usize; 2]| {
            let key = format!("{prefix}{name}");
            match source.shape(&key) {
                Some(found) => <[usize; 2]>::try_from(found).map_err(|found| LoadError::Shape {
                    key,
                    found,
                    expected: expected.to_vec(),
                }),
                None => Err(LoadError::missing(key)),
            }
        };
        let [num_classes, embed_dim] = matrix("head.1.weight", [real.num_classes, real.embed_dim])?;
        let hidden = real.embed_dim * real.mlp_ratio;
        let [hidden, _] = matrix("blocks.0.mlp.fc1.weight", [hidden, real.embed_dim])?;
        let has_block = |layer: &usize| source.shape(&format!("{prefix}blocks.{layer}.mlp.fc1.weight")).is_some();
        Ok(Self {
            num_classes,
            embed_dim,
            depth: (0..source.names().len()).take_while(has_block).count(),
            num_heads: if embed_dim.is_multiple_of(D_HEAD) { embed_dim / D_HEAD } else { 0 },
            mlp_ratio: hidden / embed_dim.max(1),
            ..real
        })
    }

    /// Every branch of the real model at a size for tests: 3 blocks of width 32, 36 mel bands, 19 classes, 1 s windows.
    pub fn tiny() -> Self {
        Self {
            mel: MelConfig::passt(36),
            img_size: [36, 98],
            num_classes: 19,
            embed_dim: 32,
            depth: 3,
            num_heads: 4,
            max_model_window: 1_000,
            scene_hop: 250,
            ..Self::passt_s_swa_p16_128_ap476()
        }
    }

    /// Rows and columns of the position embeddings.
    pub(super) fn grid_size(&self) -> [usize; 2] {
        self.img_size.map(|len| len / self.stride)
    }

    /// Patches along an axis of `len` bands or frames.
    pub(super) fn patches(&self, len: usize) -> usize {
        if len < self.patch_size { 0 } else { (len - self.patch_size) / self.stride + 1 }
    }

    /// Samples of the longest clip that is classified in one piece.
    pub fn window_samples(&self) -> usize {
        self.max_model_window * self.mel.sr / 1000
    }

    /// Samples between the pieces of a longer clip.
    pub fn hop_samples(&self) -> usize {
        self.scene_hop * self.mel.sr / 1000
    }

    /// Samples of the shortest clip that makes one patch.
    pub fn least_samples(&self) -> usize {
        let one_patch = (self.patch_size - 1) * self.mel.hopsize + 1;
        self.mel.least_samples().max(one_patch)
    }

    /// What contradicts itself, if anything.
    pub(super) fn contradiction(&self) -> Option<String> {
        let fields = [
            ("patch_size", self.patch_size),
            ("stride", self.stride),
            ("embed_dim", self.embed_dim),
            ("depth", self.depth),
            ("mlp_ratio", self.mlp_ratio),
        ];
        if let Some((field, _)) = fields.iter().find(|(_, number)| *number == 0) {
            return Some(format!("`{field}` is 0, expected 1 or more"));
        }
        if let Some(reason) = self.mel.contradiction() {
            return Some(reason);
        }
        if self.hop_samples() == 0 {
            return Some(format!("`scene_hop` is {} ms, less than a sample", self.scene_hop));
        }
        if self.window_samples() < self.least_samples() {
            let (window, least) = (self.max_model_window, self.least_samples());
            return Some(format!(
                "`max_model_window` is {window} ms, shorter than {least} samples, which one patch needs"
            ));
        }
        let [rows, columns] = self.grid_size();
        let longest = self.patches(self.mel.frames(self.window_samples()));
        if self.mel.n_mels != self.img_size[0] || self.patches(self.img_size[0]) != rows {
            return Some(format!("{} mel bands do not make the {rows} rows of the grid", self.mel.n_mels));
        }
        if longest > columns {
            return Some(format!("a window of {} ms makes {longest} columns of {columns}", self.max_model_window));
        }
        if self.num_heads == 0 || !self.embed_dim.is_multiple_of(self.num_heads) {
            return Some(format!("width {} does not divide into {} heads", self.embed_dim, self.num_heads));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_model_has_the_published_numbers() {
        let config = PasstConfig::passt_s_swa_p16_128_ap476();
        assert_eq!(config.contradiction(), None);
        assert_eq!(config.grid_size(), [12, 99]);
        assert_eq!(config.mel.frames(128_000), 400);
        assert_eq!(config.patches(400), 39);
        assert_eq!(config.patches(config.mel.frames(config.window_samples())), 99);
        assert_eq!(config.least_samples(), 4801);
        assert_eq!(config.patches(config.mel.frames(4801)), 1);
        assert_eq!(config.patches(config.mel.frames(4800)), 0);
        assert_eq!(PasstConfig::tiny().contradiction(), None);
    }

    #[test]
    fn what_would_divide_by_zero_or_never_end_is_refused() {
        let refused = |change: fn(&mut PasstConfig)| {
            let mut config = PasstConfig::tiny();
            change(&mut config);
            config.contradiction().expect("a contradiction")
        };
        assert_eq!(refused(|config| config.stride = 0), "`stride` is 0, expected 1 or more");
        assert_eq!(refused(|config| config.scene_hop = 0), "`scene_hop` is 0 ms, less than a sample");
        assert!(refused(|config| config.max_model_window = 0).contains("max_model_window"));
        assert!(refused(|config| config.mel.hopsize = 0).contains("hopsize"));
        assert!(refused(|config| config.mel.n_fft = 100).contains("win_length"));
        assert!(refused(|config| config.mel.n_fft = 0).contains("n_fft"));
        assert!(refused(|config| config.mel.fmax = 20_000.0).contains("20000"));
    }
}
