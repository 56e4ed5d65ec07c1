//! Shape of an EnCodec model.

use serde::{Deserialize, Serialize};

/// Shape of an [`Encodec`](super::Encodec); fields are named as in the checkpoint's `config.json`, where they stand
/// under `audio_encoder`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncodecConfig {
    /// Samples per second.
    pub sampling_rate: u32,
    /// Channels that one stream of codes stands for; MusicGen has 1 here even for stereo.
    pub audio_channels: usize,
    /// Bandwidths in kbit/s: the last decides how many codebooks there are, the first how many an encoding has.
    pub target_bandwidths: Vec<f64>,
    /// Channels of the finest layer; every stride doubles them.
    pub num_filters: usize,
    /// Residual layers per stride.
    pub num_residual_layers: usize,
    /// Strides of the decoder; the encoder has them in reverse.
    pub upsampling_ratios: Vec<usize>,
    /// Channels between encoder and decoder.
    pub hidden_size: usize,
    /// Length of the first kernel.
    pub kernel_size: usize,
    /// Length of the last kernel.
    pub last_kernel_size: usize,
    /// Length of the first kernel of a residual layer.
    pub residual_kernel_size: usize,
    /// By what the dilation grows from one residual layer to the next.
    pub dilation_growth_rate: usize,
    /// By what a residual layer narrows its channels inside.
    pub compress: usize,
    /// Layers of the LSTM.
    pub num_lstm_layers: usize,
    /// Entries of a codebook.
    pub codebook_size: usize,
    /// Width of a codebook; `null` is `hidden_size`.
    #[serde(default)]
    pub codebook_dim: Option<usize>,
    /// Only `weight_norm` is supported.
    pub norm_type: String,
    /// Only `reflect` is supported.
    pub pad_mode: String,
    /// Only `false` is supported.
    pub use_causal_conv: bool,
    /// Only `false` is supported.
    pub use_conv_shortcut: bool,
    /// Only `false` is supported.
    pub normalize: bool,
    /// Only `null` is supported.
    #[serde(default)]
    pub chunk_length_s: Option<f64>,
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
    pub(super) fn encoded_quantizers(&self) -> usize {
        let per_codebook = (self.codebook_size as f64).log2() * self.frame_rate() as f64;
        match self.target_bandwidths.first() {
            Some(&bandwidth) if bandwidth > 0.0 => {
                whole(bandwidth * 1000.0 / per_codebook).clamp(1, self.num_quantizers())
            }
            _ => self.num_quantizers(),
        }
    }

    /// Names the first field that asks for what is not built.
    pub(super) fn check(&self) -> Result<(), String> {
        let only = |field: &str, fits: bool, found: &dyn std::fmt::Debug, expected: &str| {
            if fits { Ok(()) } else { Err(format!("`{field}` is {found:?}, only {expected} is supported")) }
        };
        only("norm_type", self.norm_type == "weight_norm", &self.norm_type, "\"weight_norm\"")?;
        only("pad_mode", self.pad_mode == "reflect", &self.pad_mode, "\"reflect\"")?;
        only("use_causal_conv", !self.use_causal_conv, &self.use_causal_conv, "false")?;
        only("use_conv_shortcut", !self.use_conv_shortcut, &self.use_conv_shortcut, "false")?;
        only("normalize", !self.normalize, &self.normalize, "false")?;
        only("chunk_length_s", self.chunk_length_s.is_none(), &self.chunk_length_s, "null")?;
        let same_width = self.codebook_dim.is_none_or(|width| width == self.hidden_size);
        only("codebook_dim", same_width, &self.codebook_dim, "`hidden_size`")?;
        only("compress", self.compress > 0, &self.compress, "a positive number")?;
        let ratios = &self.upsampling_ratios;
        let hop = ratios.iter().try_fold(1usize, |hop, &ratio| hop.checked_mul(ratio)).unwrap_or(0);
        let audible = (2..=self.sampling_rate as usize).contains(&hop) && ratios.len() <= 16;
        only("upsampling_ratios", audible, ratios, "a product between 2 and `sampling_rate`")?;
        let kernels = [self.kernel_size, self.last_kernel_size, self.residual_kernel_size];
        only("kernel_size", !kernels.contains(&0), &kernels, "a positive number")?;
        only("codebook_size", self.codebook_size > 1, &self.codebook_size, "two or more")?;
        only("target_bandwidths", self.num_quantizers() > 0, &self.target_bandwidths, "one codebook or more")
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
        let grouped = EncodecConfig { norm_type: "time_group_norm".to_owned(), ..musicgen() };
        let reason = grouped.check().expect_err("not built");
        assert!(reason.contains("norm_type") && reason.contains("time_group_norm"), "{reason}");
    }
}
