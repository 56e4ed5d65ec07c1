//! Probes against scikit-learn: `tests/reference/probes.py`.

use serde_json::Value;
use tonoscope_core::probes::{Features, Folds, Probe, ProbeError, Spread, cross_validate};

use super::fixture;

/// Both stop at a gradient, not at a number of digits; the areas count pairs in the order of the scores.
const BOUND: f64 = 1e-9;

fn list<T>(value: &Value, of: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(of).collect()
}

#[track_caller]
fn assert_spread(got: Spread, want: &Value) {
    let want = list(want, |number| number.as_f64().unwrap());
    let error = (got.mean - want[0]).abs().max((got.deviation - want[1]).abs());
    assert!(error <= BOUND, "{got:?}, scikit-learn says {want:?}");
}

#[test]
fn probes_match_scikit_learn() {
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(fixture("probes.json")).unwrap()).unwrap();
    for case in expected["cases"].as_array().unwrap() {
        let strength = case["strength"].as_f64().unwrap();
        let probe = match case["kind"].as_str().unwrap() {
            "logistic" => Probe::Logistic { c: strength },
            _ => Probe::Ridge { alpha: strength },
        };
        let features = list(&case["features"], |number| number.as_f64().unwrap() as f32);
        let index = |number: &Value| number.as_u64().unwrap() as usize;
        let truth = list(&case["truth"], index);
        let folds = Folds::new(list(&case["fold_of"], index));
        let features = Features::new(&features, index(&case["width"]));
        let report = cross_validate(features, &truth, &folds, probe).unwrap();
        assert_eq!(report.predicted, list(&case["predicted"], index), "{probe:?}");
        assert_spread(report.balanced_accuracy, &case["balanced_accuracy"]);
        assert_spread(report.auroc.unwrap(), &case["auroc"]);
        assert!((report.baseline.balanced_accuracy - 1.0 / report.classes.len() as f64).abs() < 1e-15);
    }
}

#[test]
fn what_cannot_be_probed_is_an_error() {
    let values = [0.0, 1.0, 2.0, 3.0];
    let features = Features::new(&values, 1);
    let folds = || Folds::new(vec![0, 1, 0, 1]);
    let probe = Probe::Ridge { alpha: 1.0 };
    let message = |result: Result<_, ProbeError>| result.map(|_| ()).unwrap_err().to_string();
    let with = |labels: &[usize]| message(cross_validate(features, labels, &folds(), probe));
    assert_eq!(with(&[0, 1]), "4 rows of features, 2 labels");
    assert_eq!(with(&[3, 3, 3, 3]), "all rows are of one class, a probe needs two");
    assert_eq!(with(&[0, 1, 0, 1]), "fold 0 leaves nothing to test, or a class that cannot be learnt from the others");
    let broken = [0.0, f32::NAN, 2.0, 3.0];
    let error = cross_validate(Features::new(&broken, 2), &[0, 1], &Folds::new(vec![0, 1]), probe);
    assert_eq!(message(error), "feature 1 of row 0 is not a number");
}
