//! Shape of a T5 encoder.

use serde::{Deserialize, Serialize};

use crate::checkpoint::ranges;

/// Shape of a [`T5Encoder`](super::T5Encoder); fields are named as in the checkpoint's `config.json`.
///
/// An absent field has the default of transformers' `T5Config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct T5Config {
    /// Entries of the token table.
    #[serde(deserialize_with = "ranges::entries")]
    pub vocab_size: usize,
    /// Width of the residual stream.
    #[serde(deserialize_with = "ranges::width")]
    pub d_model: usize,
    /// Width of one head.
    #[serde(deserialize_with = "ranges::width")]
    pub d_kv: usize,
    /// Width of the feed-forward layer.
    #[serde(deserialize_with = "ranges::width")]
    pub d_ff: usize,
    /// Layers of the encoder.
    #[serde(deserialize_with = "ranges::count")]
    pub num_layers: usize,
    /// Heads; times `d_kv` they need not make `d_model`.
    #[serde(deserialize_with = "ranges::count")]
    pub num_heads: usize,
    /// Buckets of the relative positions, half of them for each direction.
    #[serde(deserialize_with = "ranges::entries")]
    pub relative_attention_num_buckets: usize,
    /// Distance from which on all positions share a bucket.
    #[serde(deserialize_with = "ranges::entries")]
    pub relative_attention_max_distance: usize,
    /// Added to the mean square under the root.
    #[serde(deserialize_with = "ranges::epsilon")]
    pub layer_norm_epsilon: f64,
    /// `relu` or `gated-gelu`.
    pub feed_forward_proj: FeedForwardProj,
    /// Id that fills short prompts.
    #[serde(deserialize_with = "ranges::index")]
    pub pad_token_id: u32,
    /// Tokens that a prompt may have: the length of T5's training, unless the configuration says otherwise.
    #[serde(deserialize_with = "ranges::tokens")]
    pub n_positions: usize,
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            vocab_size: 32_128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: FeedForwardProj::Relu,
            pad_token_id: 0,
            n_positions: 512,
        }
    }
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

    /// Checks what the fields owe to each other.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (pad, entries) = (self.pad_token_id, self.vocab_size);
        if pad as usize >= entries {
            return Err(format!("`pad_token_id` is {pad}, expected less than `vocab_size`, which is {entries}"));
        }
        let buckets = self.relative_attention_num_buckets;
        if buckets < 4 || !buckets.is_multiple_of(2) {
            return Err(format!("`relative_attention_num_buckets` is {buckets}, expected an even number from 4"));
        }
        let (exact, farthest) = (buckets / 4, self.relative_attention_max_distance);
        if farthest <= exact {
            return Err(format!(
                "`relative_attention_max_distance` is {farthest}, expected more than {exact}, a quarter of the buckets"
            ));
        }
        Ok(())
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
        let config = T5Config::default();
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
    #[test]
    fn fields_that_contradict_each_other_are_named() {
        let refused = |config: T5Config| config.check().expect_err("a contradiction");
        assert_eq!(T5Config::default().check(), Ok(()));
        let pad = refused(T5Config { pad_token_id: 40_000, ..T5Config::default() });
        assert_eq!(pad, "`pad_token_id` is 40000, expected less than `vocab_size`, which is 32128");
        for buckets in [1, 3, 7] {
            let reason = refused(T5Config { relative_attention_num_buckets: buckets, ..T5Config::default() });
            assert!(reason.contains("relative_attention_num_buckets"), "{reason}");
        }
        let near = refused(T5Config { relative_attention_max_distance: 8, ..T5Config::default() });
        assert!(near.contains("relative_attention_max_distance"), "{near}");
    }
}
