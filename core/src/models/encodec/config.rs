//! Shape of an EnCodec model.

use serde::{Deserialize, Serialize};

use crate::checkpoint::ranges;

/// More channels or steps of dilation than any layer has.
const WIDEST: usize = 1 << 17;

/// Shape of an [`Encodec`](super::Encodec); fields are named as in the checkpoint's `config.json`, where they stand
/// under `audio_encoder`.
///
/// An absent field has the default of transformers' `EncodecConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EncodecConfig {
    /// Samples per second.
    #[serde(deserialize_with = "ranges::rate")]
    pub sampling_rate: u32,
    /// Channels that one stream of codes stands for; MusicGen has 1 here even for stereo.
    #[serde(deserialize_with = "ranges::count")]
    pub audio_channels: usize,
    /// Bandwidths in kbit/s: the last decides how many codebooks there are, the first how many an encoding has.
    #[serde(deserialize_with = "ranges::bandwidth")]
    pub target_bandwidths: Vec<f64>,
    /// Channels of the finest layer; every stride doubles them.
    #[serde(deserialize_with = "ranges::width")]
    pub num_filters: usize,
    /// Residual layers per stride.
    #[serde(deserialize_with = "ranges::count")]
    pub num_residual_layers: usize,
    /// Strides of the decoder; the encoder has them in reverse.
    #[serde(deserialize_with = "ranges::ratio")]
    pub upsampling_ratios: Vec<usize>,
    /// Channels between encoder and decoder.
    #[serde(deserialize_with = "ranges::width")]
    pub hidden_size: usize,
    /// Length of the first kernel.
    #[serde(deserialize_with = "ranges::ratio")]
    pub kernel_size: usize,
    /// Length of the last kernel.
    #[serde(deserialize_with = "ranges::ratio")]
    pub last_kernel_size: usize,
    /// Length of the first kernel of a residual layer.
    #[serde(deserialize_with = "ranges::ratio")]
    pub residual_kernel_size: usize,
    /// By what the dilation grows from one residual layer to the next.
    #[serde(deserialize_with = "ranges::ratio")]
    pub dilation_growth_rate: usize,
    /// By what a residual layer narrows its channels inside.
    #[serde(deserialize_with = "ranges::ratio")]
    pub compress: usize,
    /// Layers of the LSTM.
    #[serde(deserialize_with = "ranges::count")]
    pub num_lstm_layers: usize,
    /// Entries of a codebook.
    #[serde(deserialize_with = "ranges::entries")]
    pub codebook_size: usize,
    /// Width of a codebook; `None` is `hidden_size`.
    #[serde(deserialize_with = "ranges::width")]
    pub codebook_dim: Option<usize>,
    /// Only `weight_norm` is supported.
    pub norm_type: String,
    /// What stands beyond the ends of a signal.
    pub pad_mode: PadMode,
    /// Only `false` is supported.
    pub use_causal_conv: bool,
    /// Only `false` is supported.
    pub use_conv_shortcut: bool,
    /// Only `false` is supported.
    pub normalize: bool,
    /// Only `None` is supported.
    pub chunk_length_s: Option<f64>,
}

/// What stands beyond the ends of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PadMode {
    /// The signal mirrored.
    Reflect,
    /// Zeros.
    Constant,
}

impl Default for EncodecConfig {
    fn default() -> Self {
        Self {
            sampling_rate: 24_000,
            audio_channels: 1,
            target_bandwidths: vec![1.5, 3.0, 6.0, 12.0, 24.0],
            num_filters: 32,
            num_residual_layers: 1,
            upsampling_ratios: vec![8, 5, 4, 2],
            hidden_size: 128,
            kernel_size: 7,
            last_kernel_size: 7,
            residual_kernel_size: 3,
            dilation_growth_rate: 2,
            compress: 2,
            num_lstm_layers: 2,
            codebook_size: 1024,
            codebook_dim: None,
            norm_type: "weight_norm".to_owned(),
            pad_mode: PadMode::Reflect,
            use_causal_conv: true,
            use_conv_shortcut: true,
            normalize: false,
            chunk_length_s: None,
        }
    }
}

impl EncodecConfig {
    /// Samples per frame of codes.
    pub fn hop_length(&self) -> usize {
        self.upsampling_ratios.iter().product()
    }

    /// Frames of codes per second, rounded up as in the reference.
    pub fn frame_rate(&self) -> usize {
        (self.sampling_rate as usize).div_ceil(self.hop_length())
    }

    /// Codebooks of the model.
    pub fn num_quantizers(&self) -> usize {
        let bits = self.codebook_size.next_power_of_two().ilog2() as usize;
        let bandwidth = self.target_bandwidths.last().copied().unwrap_or(0.0);
        whole(1000.0 * bandwidth / (self.frame_rate() * bits) as f64)
    }

    /// Codebooks that an encoding of the lowest bandwidth has.
    pub fn encoded_quantizers(&self) -> usize {
        let per_codebook = (self.codebook_size as f64).log2() * self.frame_rate() as f64;
        match self.target_bandwidths.first() {
            Some(&bandwidth) if bandwidth > 0.0 => {
                whole(bandwidth * 1000.0 / per_codebook).clamp(1, self.num_quantizers())
            }
            _ => self.num_quantizers(),
        }
    }

    /// Names the first field that asks for what is not built.
    pub(crate) fn check(&self) -> Result<(), String> {
        let only = |field: &str, fits: bool, found: &dyn std::fmt::Debug, expected: &str| {
            if fits { Ok(()) } else { Err(format!("`{field}` is {found:?}, only {expected} is supported")) }
        };
        only("norm_type", self.norm_type == "weight_norm", &self.norm_type, "\"weight_norm\"")?;
        only("use_causal_conv", !self.use_causal_conv, &self.use_causal_conv, "false")?;
        only("use_conv_shortcut", !self.use_conv_shortcut, &self.use_conv_shortcut, "false")?;
        only("normalize", !self.normalize, &self.normalize, "false")?;
        only("chunk_length_s", self.chunk_length_s.is_none(), &self.chunk_length_s, "null")?;
        let same_width = self.codebook_dim.is_none_or(|width| width == self.hidden_size);
        only("codebook_dim", same_width, &self.codebook_dim, "`hidden_size`")?;
        only("compress", self.compress > 0, &self.compress, "a positive number")?;
        only("num_lstm_layers", self.num_lstm_layers > 0, &self.num_lstm_layers, "a positive number")?;
        let ratios = &self.upsampling_ratios;
        let hop = ratios.iter().try_fold(1usize, |hop, &ratio| hop.checked_mul(ratio)).unwrap_or(0);
        let audible = (2..=self.sampling_rate as usize).contains(&hop) && ratios.len() <= 16;
        only("upsampling_ratios", audible, ratios, "a product between 2 and `sampling_rate`")?;
        let widest = self
            .num_filters
            .checked_shl(ratios.len() as u32)
            .filter(|&width| width >> ratios.len() == self.num_filters);
        only(
            "num_filters",
            widest.is_some_and(|width| width <= WIDEST),
            &self.num_filters,
            "2¹⁷ channels at most, doubled by every stride,",
        )?;
        let grown = u32::try_from(self.num_residual_layers)
            .ok()
            .and_then(|layers| self.dilation_growth_rate.checked_pow(layers));
        only(
            "num_residual_layers",
            grown.is_some_and(|dilation| dilation <= WIDEST),
            &self.num_residual_layers,
            "a dilation up to 2¹⁷",
        )?;
        let kernels = [self.kernel_size, self.last_kernel_size, self.residual_kernel_size];
        only("kernel_size", !kernels.contains(&0), &kernels, "a positive number")?;
        only("codebook_size", (2..=1 << 24).contains(&self.codebook_size), &self.codebook_size, "2 to 2²⁴")?;
        let codebooks = (1..=1024).contains(&self.num_quantizers());
        only("target_bandwidths", codebooks, &self.target_bandwidths, "one to 1024 codebooks")
    }
}

#[expect(clippy::cast_sign_loss, reason = "what is below zero becomes zero")]
fn whole(number: f64) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What facebook/musicgen-small says of its codec.
    fn musicgen() -> EncodecConfig {
        let json = r#"{"sampling_rate": 32000, "audio_channels": 1, "target_bandwidths": [2.2], "num_filters": 64,
            "num_residual_layers": 1, "upsampling_ratios": [8, 5, 4, 4], "hidden_size": 128, "kernel_size": 7,
            "last_kernel_size": 7, "residual_kernel_size": 3, "dilation_growth_rate": 2, "compress": 2,
            "num_lstm_layers": 2, "codebook_size": 2048, "codebook_dim": 128, "norm_type": "weight_norm",
            "pad_mode": "reflect", "use_causal_conv": false, "use_conv_shortcut": false, "normalize": false,
            "chunk_length_s": null, "overlap": null, "model_type": "encodec"}"#;
        serde_json::from_str(json).expect("the fields of transformers")
    }

    #[test]
    fn codebooks_follow_from_the_bandwidth() {
        let config = musicgen();
        assert_eq!(config.check(), Ok(()));
        assert_eq!((config.hop_length(), config.frame_rate()), (640, 50));
        assert_eq!((config.num_quantizers(), config.encoded_quantizers()), (4, 4));
    }

    #[test]
    fn what_is_not_built_is_named() {
        let causal = EncodecConfig { use_causal_conv: true, ..musicgen() };
        assert_eq!(causal.check(), Err("`use_causal_conv` is true, only false is supported".to_owned()));
        let endless = EncodecConfig { upsampling_ratios: vec![1 << 40, 1 << 40], ..musicgen() };
        assert!(endless.check().is_err());
        for broken in [
            EncodecConfig { upsampling_ratios: vec![8, 5, 4, 0], ..musicgen() },
            EncodecConfig { codebook_size: usize::MAX, ..musicgen() },
            EncodecConfig { num_filters: usize::MAX / 2, ..musicgen() },
            EncodecConfig { num_residual_layers: 40, ..musicgen() },
            EncodecConfig { target_bandwidths: vec![f64::MAX], ..musicgen() },
        ] {
            assert!(broken.check().is_err(), "{broken:?}");
        }
        let grouped = EncodecConfig { norm_type: "time_group_norm".to_owned(), ..musicgen() };
        let reason = grouped.check().expect_err("not built");
        assert!(reason.contains("norm_type") && reason.contains("time_group_norm"), "{reason}");
    }
}
