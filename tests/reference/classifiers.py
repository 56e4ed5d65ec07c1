"""Writes tests/fixtures/classifiers.json: scikit-learn's logistic regression, RBF-SVM and PCA.

    python tests/reference/classifiers.py            (scikit-learn 1.9.1)

The rows are not in the file: both sides compute them, from whole numbers alone, so that they are the same bits.
"""

import json
import pathlib

import numpy as np
import sklearn
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC


def noise(index):
    """24 bits of splitmix64 as a number from -0.5 to 0.5, exactly."""
    z = index.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**24 - 0.5


def rows(count, width, scale, offset, apart):
    """Two classes in turn that differ a little in every feature, in seven clusters."""
    row, column = np.arange(count)[:, None], np.arange(width)[None, :]
    value = noise(row * width + column) + 0.5 * noise(10**7 + row % 7 * width + column)
    value = value + np.where(row % 2 == 0, apart, -apart) * noise(2 * 10**7 + column)
    return (value * scale + offset).astype(np.float32), (np.arange(count) % 2 == 0)


def case(count, train, width, scale, offset, apart):
    x, y = rows(count, width, scale, offset, apart)
    x = x.astype(np.float64)
    # By Newton's method: L-BFGS stalls far from the origin, with an intercept that is right to five digits.
    logistic = LogisticRegression(solver="newton-cholesky", tol=1e-13, max_iter=1000).fit(x[:train], y[:train])
    usual = LogisticRegression().fit(x[:train], y[:train])
    machine = SVC(C=1, kernel="rbf", gamma="scale").fit(x[:train], y[:train])
    # `covariance_eigh` where there are more rows than features, as ours.
    pca = PCA(2, svd_solver="full").fit(x)
    bits = lambda of: "".join("01"[int(value)] for value in of)
    short = lambda of: [float(f"{value:.9g}") for value in np.ravel(of)]
    print(count, width, "logistic", logistic.n_iter_[0], usual.n_iter_[0], logistic.score(x[train:], y[train:]),
          "svm", machine.n_support_.tolist(), machine.score(x[train:], y[train:]), "pca", pca.explained_variance_)
    return dict(
        count=count, train=train, width=width, scale=scale, offset=offset, apart=apart,
        weights=short(logistic.coef_), intercept=float(logistic.intercept_[0]),
        logistic=bits(logistic.predict(x)), usual_logistic=bits(usual.predict(x)),
        support=machine.support_.tolist(), svm_intercept=float(machine.intercept_[0]), svm=bits(machine.predict(x)),
        decision=short(machine.decision_function(x[train:])),
        components=short(pca.components_), variance=short(pca.explained_variance_), places=short(pca.transform(x[:20])),
    )


if __name__ == "__main__":
    cases = [
        case(1000, 800, 40, 1.0, 0.0, 0.1875),
        # As the embeddings of sounds are: 512 features of a vector of length 1.
        case(1500, 1200, 512, 0.0625, 0.03125, 0.0625),
        # More features than rows, far from the origin.
        case(90, 60, 160, 2.0, 8.0, 0.125),
        # Classes that hardly differ: most rows hold up the boundary.
        case(1200, 900, 8, 1.0, -1.0, 0.25),
    ]
    out = pathlib.Path(__file__).parent.parent / "fixtures" / "classifiers.json"
    out.write_text(json.dumps(dict(versions=dict(sklearn=sklearn.__version__, numpy=np.__version__), cases=cases)) + "\n")
    print(out, out.stat().st_size)
