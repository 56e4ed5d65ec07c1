//! The audio tower: HTSAT, a Swin transformer over a spectrogram that is folded to a square.
//!
//! Reference: `ClapAudioEncoder`, transformers 5.23.0, `models/clap/modeling_clap.py` (Apache-2.0); the model is that of Chen
//! et al., "HTS-AT", 2022. Differs: inference only, see also [`super::swin`].

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};

use super::{
    config::ClapAudioConfig,
    fusion::{Convolution, Fusion},
    order::Grid,
    parts::{BatchNorm, PYTORCH_EPSILON},
    stretch::bicubic,
    swin::{Stage, indices},
};
use crate::{
    checkpoint::{Kernels, LoadError, Weights},
    hooks::{HookPoint, Hooks, Part, Site},
    nn::{LayerNorm, matmul},
};

/// `mean(norm(stages(patches(fold(stretch(batch_norm(mel)))))))`
#[derive(Debug, Clone)]
pub struct AudioTower {
    config: ClapAudioConfig,
    batch_norm: BatchNorm,
    /// `[1, 1, stretched frame, frame]`; `None` if the clip has as many frames as it takes.
    stretch: Option<Tensor<4>>,
    kernels: Option<Arc<dyn Kernels>>,
    proj: Convolution,
    fusion: Option<Fusion>,
    patch_norm: Option<LayerNorm>,
    stages: Vec<Stage>,
    norm: LayerNorm,
}

impl AudioTower {
    /// Takes its tensors from `weights`, for spectrograms of `frames` frames.
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is missing or of another shape.
    pub(super) fn load(config: &ClapAudioConfig, frames: usize, weights: &Weights) -> Result<Self, LoadError> {
        let patches = weights.sub("patch_embed");
        let width = config.patch_embeds_hidden_size;
        let padding = [0, 1].map(|axis| (config.patch_size[axis] - config.patch_stride[axis]) / 2);
        let stage = |index| Stage::load(config, index, &weights.sub("layers").sub(index));
        let float = weights.device().settings().float_dtype.into();
        let stretched = config.frames();
        let stretch = || {
            let data = TensorData::new(bicubic(frames, stretched), [1, 1, stretched, frames]);
            Tensor::from_data(data.convert_dtype(float), weights.device())
        };
        Ok(Self {
            batch_norm: BatchNorm::load(&weights.sub("batch_norm"), config.num_mel_bins)?,
            stretch: (frames != stretched).then(stretch),
            kernels: weights.kernels(),
            proj: Convolution::load(&patches.sub("proj"), [1, width], config.patch_size, config.patch_stride, padding)?,
            fusion: if config.enable_fusion { Some(Fusion::load(config, padding, &patches)?) } else { None },
            patch_norm: if config.enable_patch_layer_norm {
                Some(LayerNorm::load(&patches.sub("norm"), width, PYTORCH_EPSILON)?)
            } else {
                None
            },
            stages: (0..config.depths.len()).map(stage).collect::<Result<_, _>>()?,
            norm: LayerNorm::load(&weights.sub("norm"), config.hidden_size, PYTORCH_EPSILON)?,
            config: config.clone(),
        })
    }

    /// Hook points of this tower; blocks of all stages are counted through. Those inside the attention are not there: it
    /// happens in windows, of which there are more than clips.
    pub fn points(&self) -> Vec<HookPoint> {
        let mut points = HookPoint::all(Part::Encoder, self.config.depths.iter().sum());
        points.retain(|point| point.site.head_axis().is_none());
        points
    }

    /// Which place each token of a block has in the picture, counted row by row: tokens come window by window.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn order(&self, layer: usize) -> Vec<usize> {
        let mut end = 0;
        let stage = self.config.depths.iter().position(|depth| {
            end += depth;
            layer < end
        });
        self.config.grid(stage.unwrap_or_else(|| panic!("no block {layer} among {end}"))).order(0)
    }

    /// Spectrograms with every band normalised.
    ///
    /// # Shapes
    /// - `mel`, result: `[row, channel, frame, band]`
    pub fn normalised(&self, mel: Tensor<4>) -> Tensor<4> {
        self.batch_norm.forward(mel, 3)
    }

    /// Normalised spectrograms, stretched in time, cut into strips, and the strips laid one above the other.
    ///
    /// # Shapes
    /// - `normal`: `[row, channel, frame, band]`; result: `[row, channel, spec_size, spec_size]`
    pub fn picture(&self, normal: Tensor<4>) -> Tensor<4> {
        let stretched = match &self.stretch {
            Some(weights) => matmul(self.kernels.as_deref(), weights.clone(), normal),
            None => normal,
        };
        let [rows, channels, frames, bands] = stretched.dims();
        let (strips, edge) = (self.config.strips(), self.config.spec_size);
        let strips = stretched.reshape([rows, channels * strips, frames / strips, bands]).swap_dims(2, 3);
        strips.reshape([rows, channels, edge, edge])
    }

    /// What is heard, one vector per clip.
    ///
    /// # Shapes
    /// - `mel`: `[row, channel, frame, band]`, as [`FrontEnd`](super::FrontEnd) makes it; `is_longer`: `[row]`
    /// - result: `[row, hidden_size]`
    ///
    /// # Panics
    /// If `mel` and `is_longer` have different numbers of rows.
    ///
    /// # Hook points
    /// `encoder.embed`, per block `resid_pre`, `self_attn_out`, `resid_mid`, `mlp_in`, `mlp_post`, `mlp_out`, `resid_post`,
    /// then `final_norm`. The time axis counts tokens in the [`order`](Self::order) of windows.
    pub fn forward(&self, hooks: &mut Hooks, mel: Tensor<4>, is_longer: &[bool]) -> Tensor<2> {
        let rows = mel.dims()[0];
        assert_eq!(rows, is_longer.len(), "spectrograms and what is known of their length");
        hooks.begin(0, rows);
        let patches = self.patches(self.picture(self.normalised(mel)), is_longer);
        let mut x = hooks.at(HookPoint::encoder(None, Site::Embed), patches);
        let mut layer = 0;
        for (stage, depth) in self.stages.iter().zip(&self.config.depths) {
            x = stage.forward(hooks, layer, x);
            layer += depth;
        }
        let x = hooks.at(HookPoint::encoder(None, Site::FinalNorm), self.norm.forward(x));
        x.mean_dim(1).squeeze_dim(1)
    }

    /// `[row, channel, spec_size, spec_size]` → `[row, token, width]`, window by window.
    fn patches(&self, picture: Tensor<4>, is_longer: &[bool]) -> Tensor<3> {
        let mut patches = self.proj.forward(picture.clone().narrow(1, 0, 1));
        let longer: Vec<usize> = (0..is_longer.len()).filter(|&row| is_longer[row]).collect();
        if let Some(fusion) = &self.fusion
            && !longer.is_empty()
        {
            let device = patches.device();
            let chosen = indices(&longer, &device);
            let parts = picture.select(0, chosen.clone()).narrow(1, 1, 3);
            let fused = fusion.forward(patches.clone().select(0, chosen), parts);
            // Row by row: the fused one where there is one.
            let all = Tensor::cat(vec![patches, fused], 0);
            let place = |row: usize| longer.iter().position(|&at| at == row).map_or(row, |at| is_longer.len() + at);
            let places: Vec<usize> = (0..is_longer.len()).map(place).collect();
            patches = all.select(0, indices(&places, &device));
        }
        let [rows, width, height, columns] = patches.dims();
        let tokens = patches.reshape([rows, width, height * columns]).swap_dims(1, 2);
        let tokens = tokens.clone().select(1, indices(&self.config.grid(0).order(0), &tokens.device()));
        match &self.patch_norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }
}

impl ClapAudioConfig {
    /// Tokens of a stage.
    pub(super) fn grid(&self, stage: usize) -> Grid {
        let [height, width] = self.resolution(stage);
        Grid { height, width, window: self.window_size }
    }
}
