//! From logits to a token, on the host.
//!
//! Random numbers come from a counter-based generator keyed by seed, prompt, codebook and step, so that a prompt gets
//! the same tokens whatever batch it is in and whatever device computes its logits.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How a token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Sampling {
    /// The most likely token.
    Greedy,
    /// At random, in proportion to the probabilities that are left.
    Random {
        /// Divides the logits first.
        temperature: f64,
        /// Keeps that many of the likeliest tokens, and those equal to the last of them; 0: all.
        top_k: usize,
        /// Keeps the likeliest tokens until their probabilities reach this sum; 0 or 1: all.
        top_p: f64,
        /// First part of the key.
        seed: u64,
    },
}

/// What makes two sequences of a run differ: the prompt, and which of its samples this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceKey([u8; 32]);

impl SequenceKey {
    /// Key of the `sample`-th sequence of `prompt`.
    pub fn new(prompt: &str, sample: u64) -> Self {
        Self(Sha256::new().chain_update(sample.to_le_bytes()).chain_update(prompt).finalize().into())
    }
}

/// A token, and how near the choice was to another one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The token.
    pub token: u32,
    /// Greedy: distance of the two highest logits over the larger magnitude. Random: distance of the random number to
    /// the nearest border between tokens. Below some 1e-6 another device may choose otherwise.
    pub margin: f64,
}

impl Sampling {
    /// Chooses among `logits`, all finite.
    pub fn choose(&self, logits: &[f32], key: &SequenceKey, codebook: usize, step: usize) -> Choice {
        match *self {
            Self::Greedy => greedy(logits),
            Self::Random { temperature, top_k, top_p, seed } => {
                let kept = candidates(logits, temperature, top_k, top_p);
                draw(&kept, uniform(seed, key, codebook, step))
            }
        }
    }
}

fn greedy(logits: &[f32]) -> Choice {
    let (mut best, mut second) = (0, f32::NEG_INFINITY);
    for (token, &logit) in logits.iter().enumerate().skip(1) {
        if logit > logits[best] {
            second = logits[best];
            best = token;
        } else {
            second = second.max(logit);
        }
    }
    let top = logits[best];
    let scale = top.abs().max(second.abs()).max(f32::MIN_POSITIVE);
    Choice { token: best as u32, margin: f64::from((top - second) / scale) }
}

/// Tokens that may be drawn, in the order of their ids, with their probabilities.
fn candidates(logits: &[f32], temperature: f64, top_k: usize, top_p: f64) -> Vec<(u32, f64)> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| ((f64::from(logit) - f64::from(highest)) / temperature).exp();
    let mut kept: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|&logit| weight(logit))).collect();
    if top_k > 0 && top_k < kept.len() {
        let mut sorted: Vec<f32> = logits.to_vec();
        let (_, least, _) = sorted.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a));
        let least = *least;
        kept.retain(|(token, _)| logits[*token as usize] >= least);
    }
    if top_p > 0.0 && top_p < 1.0 {
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut order: Vec<(u32, f64)> = kept.clone();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut sum = 0.0;
        // A token stays if those before it do not reach the sum yet.
        order.retain(|(_, weight)| {
            let stays = sum < top_p * total;
            sum += weight;
            stays
        });
        order.sort_by_key(|(token, _)| *token);
        kept = order;
    }
    kept
}

fn draw(kept: &[(u32, f64)], uniform: f64) -> Choice {
    let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
    let target = uniform * total;
    let mut sum = 0.0;
    for (index, &(token, weight)) in kept.iter().enumerate() {
        let below = target - sum;
        sum += weight;
        if target < sum || index + 1 == kept.len() {
            // The outer borders of the whole range separate no tokens.
            let left = if index == 0 { f64::INFINITY } else { below };
            let right = if index + 1 == kept.len() { f64::INFINITY } else { sum - target };
            return Choice { token, margin: (left.min(right) / total).min(1.0) };
        }
    }
    unreachable!("at least one token is kept")
}

/// A number in `[0, 1)` that depends on its arguments alone.
fn uniform(seed: u64, key: &SequenceKey, codebook: usize, step: usize) -> f64 {
    let digest: [u8; 32] = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(key.0).finalize().into();
    let mut generator = ChaCha8Rng::from_seed(digest);
    generator.set_stream(codebook as u64);
    generator.set_word_pos(2 * step as u128);
    (generator.next_u64() >> 11) as f64 * (-53f64).exp2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Sampling = Sampling::Random { temperature: 1.0, top_k: 0, top_p: 0.0, seed: 42 };

    #[test]
    fn greedy_takes_the_first_of_the_highest_and_reports_the_margin() {
        let choice = greedy(&[0.5, 2.0, 1.5, 2.0]);
        assert_eq!(choice, Choice { token: 1, margin: 0.0 });
        assert_eq!(greedy(&[4.0, 3.0]).margin, 0.25);
    }

    #[test]
    fn top_k_keeps_ties_and_top_p_keeps_the_token_that_crosses() {
        let kept = |top_k, top_p| -> Vec<u32> {
            let logits = [0.5f32.ln(), 0.2f32.ln(), 0.2f32.ln(), 0.1f32.ln()];
            candidates(&logits, 1.0, top_k, top_p).into_iter().map(|(token, _)| token).collect()
        };
        assert_eq!(kept(1, 0.0), [0]);
        assert_eq!(kept(2, 0.0), [0, 1, 2]);
        assert_eq!(kept(0, 0.45), [0]);
        assert_eq!(kept(0, 0.6), [0, 1]);
        assert_eq!(kept(0, 1.0), [0, 1, 2, 3]);
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let probabilities = [0.1f32, 0.6, 0.3];
        let logits = probabilities.map(f32::ln);
        let key = SequenceKey::new("a", 0);
        let mut counts = [0u32; 3];
        for step in 0..20_000 {
            counts[ALL.choose(&logits, &key, 1, step).token as usize] += 1;
        }
        for (count, probability) in counts.iter().zip(probabilities) {
            // Four standard deviations of a binomial with 20 000 trials are at most 0.014.
            assert!((f64::from(*count) / 20_000.0 - f64::from(probability)).abs() < 0.014, "{counts:?}");
        }
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let key = SequenceKey::new("a", 0);
        let base = uniform(1, &key, 0, 0);
        assert_eq!(base, uniform(1, &key, 0, 0));
        let others = [
            uniform(2, &key, 0, 0),
            uniform(1, &SequenceKey::new("b", 0), 0, 0),
            uniform(1, &SequenceKey::new("a", 1), 0, 0),
            uniform(1, &key, 1, 0),
            uniform(1, &key, 0, 1),
        ];
        assert!(others.iter().all(|other| *other != base));
    }

    proptest! {
        #[test]
        fn a_draw_is_always_a_kept_token(
            logits in prop::collection::vec(-30f32..30.0, 1..50),
            top_k in 0usize..60,
            top_p in 0f64..1.0,
            step in 0usize..1000,
        ) {
            let sampling = Sampling::Random { temperature: 0.7, top_k, top_p, seed: 7 };
            let choice = sampling.choose(&logits, &SequenceKey::new("x", 3), 2, step);
            let kept = candidates(&logits, 0.7, top_k, top_p);
            prop_assert!(kept.iter().any(|(token, _)| *token == choice.token));
            prop_assert!(choice.margin >= 0.0);
        }
    }
}
