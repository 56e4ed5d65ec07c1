//! The transformer of `PaSST`.
//!
//! Reference: `PaSST`, hear21passt 0.0.26, models/passt.py (Apache-2.0). Differs: inference only, so no patchout and no
//! dropout; the second head, which the reference loads and never uses, is left out.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, module::conv2d, ops::ConvOptions},
};

use super::config::PasstConfig;
use crate::{
    checkpoint::{LoadError, Rows, Weights},
    hooks::{HookPoint, Hooks, Inner, Part, Site},
    nn::{LayerNorm, Linear, held},
};

/// What a [`Vit`] says about a batch of spectrograms.
#[derive(Debug, Clone)]
pub struct VitOutput {
    /// Score of every class: `[row, class]`.
    pub logits: Tensor<2>,
    /// What the scores are made from, the mean of both tokens after the last norm: `[row, embed_dim]`.
    pub features: Tensor<2>,
}

/// `head((cls + dist) / 2)` of `norm(blocks([cls, dist, patches + time + frequency]))`
#[derive(Module, Debug)]
pub struct Vit {
    patch_embed: PatchEmbed,
    cls_token: Param<Tensor<3>>,
    dist_token: Param<Tensor<3>>,
    /// Positions of the two tokens.
    new_pos_embed: Param<Tensor<3>>,
    freq_new_pos_embed: Param<Tensor<4>>,
    time_new_pos_embed: Param<Tensor<4>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Head,
}

/// Overlapping squares of the spectrogram, each mapped to the width of the residual stream.
#[derive(Module, Debug)]
struct PatchEmbed {
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
    stride: usize,
}

/// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    attn: FusedAttention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// Attention whose queries, keys and values come from one matrix, in this order.
#[derive(Module, Debug)]
struct FusedAttention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
    d_head: usize,
}

/// `linear(norm(features))`
#[derive(Module, Debug)]
struct Head {
    norm: LayerNorm,
    linear: Linear,
}

impl Vit {
    /// Takes its tensors from `weights`, named as in the release file.
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is missing or of another shape.
    pub fn load(config: &PasstConfig, weights: &Weights) -> Result<Self, LoadError> {
        let width = config.embed_dim;
        let [rows, columns] = config.grid_size();
        let head = weights.sub("head");
        let unused = weights.sub("head_dist");
        unused.ignore("weight");
        unused.ignore("bias");
        let blocks = (0..config.depth).map(|layer| Block::load(config, &weights.sub("blocks").sub(layer)));
        Ok(Self {
            patch_embed: PatchEmbed::load(config, &weights.sub("patch_embed.proj"))?,
            cls_token: held(weights.tensor("cls_token", [1, 1, width])?),
            dist_token: held(weights.tensor("dist_token", [1, 1, width])?),
            new_pos_embed: held(weights.tensor("new_pos_embed", [1, 2, width])?),
            freq_new_pos_embed: held(weights.tensor("freq_new_pos_embed", [1, width, rows, 1])?),
            time_new_pos_embed: held(weights.tensor("time_new_pos_embed", [1, width, 1, columns])?),
            blocks: blocks.collect::<Result<_, _>>()?,
            norm: LayerNorm::load(&weights.sub("norm"), width, config.norm_eps)?,
            head: Head {
                norm: LayerNorm::load(&head.sub(0), width, config.head_norm_eps)?,
                linear: Linear::load(&head.sub(1), width, config.num_classes, true)?,
            },
        })
    }

    /// Hook points of this network.
    pub fn points(&self) -> Vec<HookPoint> {
        HookPoint::all(Part::Encoder, self.blocks.len())
    }

    /// Scores and features of normalised log-mel spectrograms.
    ///
    /// # Shapes
    /// - `mel`: `[row, 1, band, frame]`, as [`MelFrontEnd`](super::MelFrontEnd) makes it
    ///
    /// # Panics
    /// If the spectrogram makes more patches than there are position embeddings.
    ///
    /// # Hook points
    /// `encoder.embed`, per block `resid_pre`, `self_attn.{q,k,v,pattern,z}`, `self_attn_out`, `resid_mid`, `mlp_in`,
    /// `mlp_post`, `mlp_out`, `resid_post`, then `final_norm`. The time axis counts tokens: the class and the distillation
    /// token, then all patches of the lowest frequency in the order of time, then those of the next.
    pub fn forward(&self, hooks: &mut Hooks, mel: Tensor<4>) -> VitOutput {
        let rows = mel.dims()[0];
        hooks.begin(0, rows);
        let mut x = hooks.at(HookPoint::encoder(None, Site::Embed), self.tokens(mel));
        for (layer, block) in self.blocks.iter().enumerate() {
            x = block.forward(hooks, layer, x);
        }
        let x = hooks.at(HookPoint::encoder(None, Site::FinalNorm), self.norm.forward(x));
        let features = (x.clone().narrow(1, 0, 1) + x.narrow(1, 1, 1)) / 2.0;
        let logits = self.head.linear.forward_rows(self.head.norm.forward(features.clone()), Rows::Steps);
        VitOutput { logits: logits.squeeze_dim(1), features: features.squeeze_dim(1) }
    }

    /// `[row, 2 + patches, width]`
    fn tokens(&self, mel: Tensor<4>) -> Tensor<3> {
        let patches = self.patch_embed.forward(mel);
        let [rows, width, bands, columns] = patches.dims();
        let time = self.time_new_pos_embed.val();
        let positions = time.dims()[3];
        assert!(columns <= positions, "{columns} columns of patches, {positions} position embeddings");
        let patches = patches + time.narrow(3, 0, columns) + self.freq_new_pos_embed.val();
        let patches = patches.reshape([rows, width, bands * columns]).swap_dims(1, 2);
        let tokens = Tensor::cat(vec![self.cls_token.val(), self.dist_token.val()], 1) + self.new_pos_embed.val();
        Tensor::cat(vec![tokens.expand([rows, 2, width]), patches], 1)
    }
}

impl PatchEmbed {
    fn load(config: &PasstConfig, weights: &Weights) -> Result<Self, LoadError> {
        let kernel = [config.embed_dim, 1, config.patch_size, config.patch_size];
        Ok(Self {
            weight: held(weights.tensor("weight", kernel)?),
            bias: held(weights.tensor("bias", [config.embed_dim])?),
            stride: config.stride,
        })
    }

    /// `[row, 1, band, frame]` → `[row, width, patch of bands, patch of frames]`
    fn forward(&self, mel: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([self.stride; 2], [0; 2], [1; 2], 1);
        conv2d(mel, self.weight.val(), Some(self.bias.val()), options)
    }
}

impl Block {
    fn load(config: &PasstConfig, weights: &Weights) -> Result<Self, LoadError> {
        let width = config.embed_dim;
        let hidden = width * config.mlp_ratio;
        let attn = weights.sub("attn");
        Ok(Self {
            norm1: LayerNorm::load(&weights.sub("norm1"), width, config.norm_eps)?,
            attn: FusedAttention {
                qkv: Linear::load(&attn.sub("qkv"), width, 3 * width, true)?,
                proj: Linear::load(&attn.sub("proj"), width, width, true)?,
                heads: config.num_heads,
                d_head: width / config.num_heads,
            },
            norm2: LayerNorm::load(&weights.sub("norm2"), width, config.norm_eps)?,
            fc1: Linear::load(&weights.sub("mlp.fc1"), width, hidden, true)?,
            fc2: Linear::load(&weights.sub("mlp.fc2"), hidden, width, true)?,
        })
    }

    fn forward(&self, hooks: &mut Hooks, layer: usize, x: Tensor<3>) -> Tensor<3> {
        let point = |site| HookPoint::encoder(layer, site);
        let x = hooks.at(point(Site::ResidPre), x);
        let attended = self.attn.forward(hooks, layer, self.norm1.forward(x.clone()));
        let x = x + hooks.at(point(Site::SelfAttnOut), attended);
        let x = hooks.at(point(Site::ResidMid), x);
        let into_mlp = hooks.at(point(Site::MlpIn), x.clone());
        let hidden = hooks.at(point(Site::MlpPost), self.fc1.forward_gelu(self.norm2.forward(into_mlp)));
        let x = x + hooks.at(point(Site::MlpOut), self.fc2.forward(hidden));
        hooks.at(point(Site::ResidPost), x)
    }
}

impl FusedAttention {
    /// # Shapes
    /// - `normal`, result: `[row, token, width]`
    fn forward(&self, hooks: &mut Hooks, layer: usize, normal: Tensor<3>) -> Tensor<3> {
        let [rows, tokens, width] = normal.dims();
        let qkv = self.qkv.forward(normal);
        let mut part = |index: usize, inner: Inner| {
            let part = qkv.clone().narrow(2, index * width, width).reshape([rows, tokens, self.heads, self.d_head]);
            hooks.at(HookPoint::encoder(layer, Site::SelfAttn(inner)), part).swap_dims(1, 2)
        };
        let (q, k, v) = (part(0, Inner::Q), part(1, Inner::K), part(2, Inner::V));
        let scores = self.proj.matmul(q, k.swap_dims(2, 3)) * (self.d_head as f64).powf(-0.5);
        let pattern = hooks.at(HookPoint::encoder(layer, Site::SelfAttn(Inner::Pattern)), self.proj.softmax(scores));
        let z =
            hooks.at(HookPoint::encoder(layer, Site::SelfAttn(Inner::Z)), self.proj.matmul(pattern, v).swap_dims(1, 2));
        self.proj.forward(z.reshape([rows, tokens, width]))
    }
}
