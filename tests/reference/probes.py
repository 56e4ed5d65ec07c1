"""Writes tests/fixtures/probes.json: what scikit-learn's probes achieve on given folds.

    python tests/reference/probes.py            (scikit-learn 1.9.1)
"""

import json
import pathlib

import numpy as np
import sklearn
import sklearn.metrics as sk
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(0)


def case(kind, strength, classes, rows, width, signal=2.0, folds=4):
    truth = np.arange(rows) % classes
    rng.shuffle(truth)
    # Three digits as 32-bit numbers: short, and the same on both sides.
    x = np.round(rng.normal(size=(rows, width)) * 3 + 5 + signal * rng.normal(size=(classes, width))[truth], 3)
    x = x.astype(np.float32)
    fold_of = rng.permutation(rows) % folds
    accuracies, areas, predicted = [], [], np.zeros(rows, dtype=int)
    for fold in range(folds):
        train, test = fold_of != fold, fold_of == fold
        model = LogisticRegression(C=strength, tol=1e-10, max_iter=10000) if kind == "logistic" else RidgeClassifier(alpha=strength)
        pipe = make_pipeline(StandardScaler(), model).fit(x[train].astype(float), truth[train])
        predicted[test] = pipe.predict(x[test].astype(float))
        accuracies.append(sk.balanced_accuracy_score(truth[test], predicted[test]))
        score = pipe.predict_proba(x[test].astype(float)) if kind == "logistic" else pipe.decision_function(x[test].astype(float))
        if classes == 2:
            areas.append(sk.roc_auc_score(truth[test], score[:, 1] if kind == "logistic" else score))
        else:
            areas.append(np.mean([sk.roc_auc_score(truth[test] == c, score[:, c]) for c in range(classes)]))
    return dict(
        kind=kind, strength=strength, width=width, features=[float(f"{v:.3f}") for v in x.ravel().tolist()],
        truth=truth.tolist(), fold_of=fold_of.tolist(), predicted=predicted.tolist(),
        balanced_accuracy=[np.mean(accuracies), np.std(accuracies, ddof=1)], auroc=[np.mean(areas), np.std(areas, ddof=1)],
    )


cases = [
    case("logistic", 1.0, 2, 80, 6), case("logistic", 0.1, 3, 90, 8), case("logistic", 0.01, 4, 60, 80, 0.7),
    case("ridge", 1.0, 2, 80, 6), case("ridge", 10.0, 3, 90, 8), case("ridge", 100.0, 4, 60, 80, 0.7),
]
for c in cases:
    print(c["kind"], len(set(c["truth"])), c["balanced_accuracy"], c["auroc"])
out = pathlib.Path(__file__).parent.parent / "fixtures" / "probes.json"
out.write_text(json.dumps(dict(versions=dict(sklearn=sklearn.__version__), cases=cases)) + "\n")
