//! Shape of a T5 encoder.

use serde::{Deserialize, Serialize};

/// Shape of a [`T5Encoder`](super::T5Encoder); fields are named as in the checkpoint's `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct T5Config {
    /// Entries of the token table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of one head.
    pub d_kv: usize,
    /// Width of the feed-forward layer.
    pub d_ff: usize,
    /// Layers of the encoder.
    pub num_layers: usize,
    /// Heads; times `d_kv` they need not make `d_model`.
    pub num_heads: usize,
    /// Buckets of the relative positions, half of them for each direction.
    pub relative_attention_num_buckets: usize,
    /// Distance from which on all positions share a bucket.
    #[serde(default = "max_distance")]
    pub relative_attention_max_distance: usize,
    /// Added to the mean square under the root.
    pub layer_norm_epsilon: f64,
    /// `relu` or `gated-gelu`.
    pub feed_forward_proj: FeedForwardProj,
    /// Id that fills short prompts.
    #[serde(default)]
    pub pad_token_id: u32,
    /// Tokens that a prompt may have.
    #[serde(default = "positions")]
    pub n_positions: usize,
}

/// Length of T5's training, which configurations may leave out.
fn positions() -> usize {
    512
}

/// What older configurations leave out; the value of the paper.
fn max_distance() -> usize {
    128
}

/// Kind of the feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForwardProj {
    /// T5 v1.0.
    Relu,
    /// T5 v1.1 and Flan-T5; the GELU is the one that is approximated by a tanh.
    GatedGelu,
}

/// Non-linearity of the feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`
    Relu,
    /// GELU approximated by a tanh.
    GeluNew,
}

impl T5Config {
    /// Whether the feed-forward layer is gated, and its non-linearity.
    pub(super) fn feed_forward(&self) -> (bool, Activation) {
        match self.feed_forward_proj {
            FeedForwardProj::Relu => (false, Activation::Relu),
            FeedForwardProj::GatedGelu => (true, Activation::GeluNew),
        }
    }

    /// Bucket of a key that stands `distance` tokens after its query: exact when near, logarithmic when far.
    pub(super) fn bucket(&self, distance: i64) -> usize {
        let per_sign = self.relative_attention_num_buckets / 2;
        let exact = per_sign / 2;
        let sign = if distance > 0 { per_sign } else { 0 };
        let distance = distance.unsigned_abs() as usize;
        if distance < exact {
            return sign + distance;
        }
        let span = (self.relative_attention_max_distance as f32 / exact as f32).ln();
        let far = (distance as f32 / exact as f32).ln() / span * (per_sign - exact) as f32;
        sign + (exact + far as usize).min(per_sign - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_transformers() {
        let config = T5Config {
            vocab_size: 32128,
            d_model: 768,
            d_kv: 64,
            d_ff: 3072,
            num_layers: 12,
            num_heads: 12,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: FeedForwardProj::Relu,
            pad_token_id: 0,
            n_positions: 512,
        };
        let starts = [(8, 8), (12, 9), (16, 10), (23, 11), (32, 12), (46, 13), (64, 14), (91, 15)];
        for distance in 0..400i64 {
            let far = starts.iter().rev().find(|(start, _)| distance >= *start);
            let expected = far.map_or(distance as usize, |(_, bucket)| *bucket);
            assert_eq!(config.bucket(-distance), expected, "{distance} back");
            if distance > 0 {
                assert_eq!(config.bucket(distance), expected + 16, "{distance} ahead");
            }
        }
    }
}
