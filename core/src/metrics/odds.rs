//! What an intervention does to a classifier's probabilities.

/// `exp(x) / Σ exp(x)`
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    log_softmax(logits).into_iter().map(f64::exp).collect()
}

/// `x − ln Σ exp(x)`: finite where [`softmax`] would round to zero.
pub fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    let normaliser = largest + sum.ln();
    logits.iter().map(|logit| logit - normaliser).collect()
}

/// `1 / (1 + exp(−x))`
pub fn sigmoid(logit: f64) -> f64 {
    if logit >= 0.0 { 1.0 / (1.0 + (-logit).exp()) } else { logit.exp() / (1.0 + logit.exp()) }
}

/// How far an intervention moves a clip from the original to the desired concept; the sum of two parts.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Effect {
    /// What the original concept loses: `ln p_before[original] − ln p_after[original]`.
    pub original: f64,
    /// What the desired concept gains: `ln p_after[desired] − ln p_before[desired]`.
    pub desired: f64,
}

impl Effect {
    /// `ln(p_before[original] / p_before[desired]) − ln(p_after[original] / p_after[desired])`
    pub fn total(self) -> f64 {
        self.original + self.desired
    }
}

/// The log odds effect; `before` and `after` are log-probabilities, such as [`log_softmax`] returns.
///
/// # Panics
/// If an index lies beyond the classes.
///
/// # Source
/// "Exploring the Inner Mechanisms of Large Generative Music Models", ISMIR 2024, section 4.
pub fn log_odds_effect(before: &[f64], after: &[f64], original: usize, desired: usize) -> Effect {
    Effect { original: before[original] - after[original], desired: after[desired] - before[desired] }
}

/// `p_after · (ln p_after − ln p_before)` of every class; arguments are log-probabilities.
///
/// `PyTorch`'s `kl_div(before, after, reduction="none", log_target=True)`.
///
/// # Panics
/// If the lengths differ.
pub fn kl_elementwise(before: &[f64], after: &[f64]) -> Vec<f64> {
    assert_eq!(before.len(), after.len(), "both sides have the same classes");
    before.iter().zip(after).map(|(before, after)| after.exp() * (after - before)).collect()
}

/// `KL(after ‖ before)` in nats: the sum of [`kl_elementwise`]. The paper's precision is its negative.
///
/// # Panics
/// If the lengths differ.
pub fn kl_divergence(before: &[f64], after: &[f64]) -> f64 {
    kl_elementwise(before, after).into_iter().sum()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    #[test]
    fn large_logits_do_not_overflow() {
        let log = log_softmax(&[1000.0, 0.0, -1000.0]);
        assert!(log.iter().all(|value| value.is_finite()));
        assert_eq!(log[0], 0.0);
        assert_eq!(log[2], -2000.0);
        assert_eq!(sigmoid(-1000.0), 0.0);
        assert_eq!(sigmoid(1000.0), 1.0);
    }

    #[test]
    fn nothing_changed_is_no_effect() {
        let before = log_softmax(&[0.3, -1.0, 2.5]);
        assert_eq!(log_odds_effect(&before, &before, 0, 2).total(), 0.0);
        assert_eq!(kl_divergence(&before, &before), 0.0);
    }

    #[test]
    fn away_from_the_original_and_towards_the_desired_is_positive() {
        let before = log_softmax(&[2.0, 0.0, 0.0]);
        let after = log_softmax(&[0.0, 2.0, 0.0]);
        let effect = log_odds_effect(&before, &after, 0, 1);
        assert!((effect.total() - 4.0).abs() < 1e-12);
        assert!(effect.original > 0.0 && effect.desired > 0.0);
    }
}
