//! Metrics against scikit-learn and `PyTorch`: `tests/reference/metrics.py`.

use serde_json::Value;
use tonoscope_core::metrics::{
    accuracy, auroc, auroc_one_vs_rest, balanced_accuracy, kl_divergence, kl_elementwise, log_odds_effect, log_softmax,
    ndcg, quantile, sigmoid, softmax,
};

use super::fixture;

/// Both sides compute in 64 bit; sums of 527 terms are taken in another order.
const BOUND: f64 = 1e-12;

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("metrics.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn indices(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as usize).collect()
}

#[track_caller]
fn assert_close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    let error = got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f64::max);
    assert!(error <= BOUND, "off by {error:.1e}");
}

#[track_caller]
fn assert_is(got: Option<f64>, want: &Value) {
    assert_close(&[got.unwrap()], &[want.as_f64().unwrap()]);
}

#[test]
fn odds_and_divergence_match_pytorch() {
    let odds = &expected()["odds"];
    let (before, after) = (numbers(&odds["before"]), numbers(&odds["after"]));
    assert_close(&softmax(&before), &numbers(&odds["softmax"]));
    assert_close(&log_softmax(&before), &numbers(&odds["log_softmax"]));
    let sigmoids: Vec<f64> = before.iter().map(|logit| sigmoid(*logit)).collect();
    assert_close(&sigmoids, &numbers(&odds["sigmoid"]));
    let (before, after) = (log_softmax(&before), log_softmax(&after));
    let class = |name: &str| odds[name].as_u64().unwrap() as usize;
    let effect = log_odds_effect(&before, &after, class("original"), class("desired"));
    assert_is(Some(effect.total()), &odds["effect"]);
    assert_is(Some(effect.original), &odds["effect_original"]);
    assert_is(Some(effect.desired), &odds["effect_desired"]);
    assert_close(&kl_elementwise(&before, &after), &numbers(&odds["kl"]));
    assert_is(Some(kl_divergence(&before, &after)), &odds["kl_sum"]);
}

#[test]
fn ndcg_matches_scikit_learn_with_ties() {
    for case in expected()["ndcg"].as_array().unwrap() {
        let relevant: Vec<bool> = indices(&case["relevant"]).into_iter().map(|relevant| relevant == 1).collect();
        assert_is(Some(ndcg(&relevant, &numbers(&case["scores"]))), &case["ndcg"]);
    }
}

#[test]
fn classification_matches_scikit_learn() {
    for case in expected()["classification"].as_array().unwrap() {
        let (truth, predicted) = (indices(&case["truth"]), indices(&case["predicted"]));
        assert_is(accuracy(&truth, &predicted), &case["accuracy"]);
        assert_is(balanced_accuracy(&truth, &predicted), &case["balanced_accuracy"]);
        let first: Vec<bool> = truth.iter().map(|class| *class == 0).collect();
        assert_is(auroc(&first, &numbers(&case["scores_first"])), &case["auroc_first"]);
        let rows: Vec<Vec<f64>> = case["probabilities"].as_array().unwrap().iter().map(numbers).collect();
        assert_is(auroc_one_vs_rest(&truth, &rows), &case["auroc_one_vs_rest"]);
    }
}

#[test]
fn quantiles_match_numpy() {
    let quantiles = &expected()["quantiles"];
    let values = numbers(&quantiles["values"]);
    let got: Vec<f64> =
        numbers(&quantiles["points"]).into_iter().map(|point| quantile(&values, point).unwrap()).collect();
    assert_close(&got, &numbers(&quantiles["quantiles"]));
}
