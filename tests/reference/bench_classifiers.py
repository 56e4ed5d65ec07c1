"""Times scikit-learn's classifiers on embeddings of sounds, and, interleaved, another program's; and compares what they say.

Usage: python bench_classifiers.py FOLDER [--rows 20000] [--width 512] [--interleave "CMD FOLDER"] [--rounds 3]

Writes FOLDER/rows.f32, rows of length 1 in clusters, two classes in turn, from a fixed seed. Times LogisticRegression() on
all rows, SVC() on the first 5000 and PCA(2) on all. Prints one JSON line each: seconds on the wall (`median_s`) and of all
threads (`cpu_s`). CMD is `cargo run --release --workspace --example bench_classifiers -- FOLDER`; after it has run, its
decisions are compared with ours.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import sklearn
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from sides import add_arguments, alternate

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--rows", type=int, default=20_000)
parser.add_argument("--width", type=int, default=512)
add_arguments(parser)
args = parser.parse_args()

rng = np.random.default_rng(0)
y = np.arange(args.rows) % 2 == 0
x = rng.normal(size=(args.rows, args.width)) + 3 * rng.normal(size=args.width)
# Some 60 kinds of sound, each with a share of the concept, and the concept itself.
kinds = rng.normal(size=(60, args.width))
x += kinds[rng.integers(0, 60, args.rows)] + np.where(y, 0.12, -0.12)[:, None] * rng.normal(size=args.width)
x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
args.folder.mkdir(parents=True, exist_ok=True)
(args.folder / "rows.f32").write_bytes(x.tobytes())
(args.folder / "shape.json").write_text(json.dumps(list(x.shape)))
few = min(5000, args.rows)


def timed(name, work):
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    seconds = time.perf_counter() - wall
    print(json.dumps({"id": name, "median_s": seconds, "cpu_s": time.process_time() - cpu, "side": "scikit-learn " + sklearn.__version__}), flush=True)
    times[name] = seconds
    return result


def ours():
    times.clear()
    results["logistic"] = timed(f"logistic/{args.rows}x{args.width}", lambda: LogisticRegression().fit(x, y))
    results["svm"] = timed(f"svm/{few}x{args.width}", lambda: SVC().fit(x[:few], y[:few]))
    results["svm_decision"] = timed(f"svm_decision/{few}x{args.width}", lambda: results["svm"].decision_function(x[:few]))
    timed(f"pca/{args.rows}x{args.width}", lambda: PCA(2, svd_solver="covariance_eigh").fit(x))
    return dict(times)


times, results = {}, {}
alternate(ours, args.interleave, args.rounds, ["median_s"], lambda mine, theirs: mine / theirs)
if args.interleave:
    theirs = {name: np.fromfile(args.folder / f"{name}.f64") for name in ["logistic", "weights", "svm"]}
    exact = LogisticRegression(tol=1e-9, max_iter=20_000).fit(x.astype(float), y)
    print(json.dumps({
        "logistic_agreement_defaults": float(np.mean((theirs["logistic"] > 0) == results["logistic"].predict(x))),
        "logistic_agreement_converged": float(np.mean((theirs["logistic"] > 0) == exact.predict(x))),
        "weights_difference": float(np.abs(theirs["weights"] - exact.coef_[0]).max()), "weights_largest": float(np.abs(exact.coef_).max()),
        "svm_agreement": float(np.mean((theirs["svm"] > 0) == results["svm"].predict(x[:few]))),
        "svm_decision_difference": float(np.abs(theirs["svm"] - results["svm_decision"]).max()),
        "accuracy": {"logistic": exact.score(x, y), "svm": results["svm"].score(x[:few], y[:few])}, "support": int(results["svm"].n_support_.sum()),
    }))
