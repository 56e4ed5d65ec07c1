//! Long clips: the patches of the whole and of three parts become one.
//!
//! Reference: `ClapAudioAFFBlock` and `ClapAudioPatchEmbed`, transformers 5.23.0, `models/clap/modeling_clap.py` (Apache-2.0);
//! attentional feature fusion is that of Dai et al., 2021. Differs: inference only.

use burn::tensor::{
    Tensor,
    activation::{relu, sigmoid},
    module::conv2d,
    ops::ConvOptions,
};

use super::{config::ClapAudioConfig, parts::BatchNorm};
use crate::checkpoint::{LoadError, Weights};

/// Parts of a long clip beside the whole.
const PARTS: usize = 3;

/// A convolution.
#[derive(Debug, Clone)]
pub(super) struct Convolution {
    weight: Tensor<4>,
    bias: Tensor<1>,
    stride: [usize; 2],
    padding: [usize; 2],
}

/// `2 w · whole + 2 (1 − w) · parts`, `w = sigmoid(local(whole + parts) + global(mean(whole + parts)))`.
#[derive(Debug, Clone)]
pub(super) struct Fusion {
    /// Patches of the parts, three times as wide as those of the whole.
    mel_conv2d: Convolution,
    local: Narrowing,
    global: Narrowing,
}

/// `norm(widen(relu(norm(narrow(x)))))`, for every place by itself.
#[derive(Debug, Clone)]
struct Narrowing {
    narrow: Convolution,
    narrow_norm: BatchNorm,
    widen: Convolution,
    widen_norm: BatchNorm,
}

impl Convolution {
    /// Takes `weight` and `bias`: `channels` of `kernel` from `from` channels.
    ///
    /// # Errors
    /// [`LoadError`] if one is missing or of another shape.
    pub(super) fn load(
        weights: &Weights,
        [from, to]: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> Result<Self, LoadError> {
        Ok(Self {
            weight: weights.tensor("weight", [to, from, kernel[0], kernel[1]])?,
            bias: weights.tensor("bias", [to])?,
            stride,
            padding,
        })
    }

    /// `[row, channel, height, width]` → the same with other channels and fewer places.
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new(self.stride, self.padding, [1; 2], 1);
        conv2d(x, self.weight.clone(), Some(self.bias.clone()), options)
    }
}

impl Fusion {
    /// Takes `mel_conv2d` and `fusion_model` of the patch embedding.
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is missing or of another shape.
    pub(super) fn load(config: &ClapAudioConfig, padding: [usize; 2], weights: &Weights) -> Result<Self, LoadError> {
        let channels = config.patch_embeds_hidden_size;
        let wide = |[height, width]: [usize; 2]| [height, width * PARTS];
        let model = weights.sub("fusion_model");
        Ok(Self {
            mel_conv2d: Convolution::load(
                &weights.sub("mel_conv2d"),
                [1, channels],
                wide(config.patch_size),
                wide(config.patch_stride),
                padding,
            )?,
            local: Narrowing::load(config, &model.sub("local_att"), 0)?,
            // The mean over all places comes first.
            global: Narrowing::load(config, &model.sub("global_att"), 1)?,
        })
    }

    /// # Shapes
    /// - `whole`, result: `[row, channel, height, width]`, patches of the whole
    /// - `parts`: `[row, 3, height, width]`, pictures of the parts
    pub(super) fn forward(&self, whole: Tensor<4>, parts: Tensor<4>) -> Tensor<4> {
        let [rows, _, height, width] = parts.dims();
        let parts = self.mel_conv2d.forward(parts.reshape([rows * PARTS, 1, height, width]));
        let [_, channels, height, part] = parts.dims();
        let parts = parts.reshape([rows, PARTS, channels, height, part]).permute([0, 2, 3, 1, 4]);
        let parts = parts.reshape([rows, channels, height, PARTS * part]);
        // The parts do not always fill the width.
        let missing = whole.dims()[3] - PARTS * part;
        let parts = if missing == 0 {
            parts
        } else {
            let silence = Tensor::zeros([rows, channels, height, missing], (&parts.device(), parts.dtype()));
            Tensor::cat(vec![parts, silence], 3)
        };
        let sum = whole.clone() + parts.clone();
        let mean = sum.clone().mean_dim(3).mean_dim(2);
        let share = sigmoid(self.local.forward(sum) + self.global.forward(mean));
        (whole * share.clone() + parts * (share.neg() + 1.0)) * 2.0
    }
}

impl Narrowing {
    fn load(config: &ClapAudioConfig, weights: &Weights, first: usize) -> Result<Self, LoadError> {
        let channels = config.patch_embeds_hidden_size;
        let hidden = channels / config.aff_block_r;
        let layer = |index: usize, sizes| Convolution::load(&weights.sub(first + index), sizes, [1; 2], [1; 2], [0; 2]);
        Ok(Self {
            narrow: layer(0, [channels, hidden])?,
            narrow_norm: BatchNorm::load(&weights.sub(first + 1), hidden)?,
            widen: layer(3, [hidden, channels])?,
            widen_norm: BatchNorm::load(&weights.sub(first + 4), channels)?,
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = relu(self.narrow_norm.forward(self.narrow.forward(x), 1));
        self.widen_norm.forward(self.widen.forward(hidden), 1)
    }
}
