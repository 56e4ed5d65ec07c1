"""Writes tests/fixtures/metrics.json: inputs and what PyTorch and scikit-learn make of them, in 64 bit.

    python tests/reference/metrics.py           (torch 2.11.0, scikit-learn 1.9.1, numpy 2.4)
"""

import json
import pathlib

import numpy as np
import sklearn
import sklearn.metrics as sk
import torch
import torch.nn.functional as F

rng = np.random.default_rng(0)


def odds():
    before, after = (torch.tensor(rng.normal(size=527) * 4) for _ in range(2))
    log_before, log_after = before.log_softmax(0), after.log_softmax(0)
    a, b = 140, 153
    ratio = lambda log: torch.log(log.exp()[a] / log.exp()[b])
    return dict(
        before=before.tolist(), after=after.tolist(), original=a, desired=b,
        softmax=before.softmax(0).tolist(), log_softmax=log_before.tolist(), sigmoid=before.sigmoid().tolist(),
        effect=(ratio(log_before) - ratio(log_after)).item(),
        effect_original=(log_before[a] - log_after[a]).item(), effect_desired=(log_after[b] - log_before[b]).item(),
        kl=F.kl_div(log_before, log_after, reduction="none", log_target=True).tolist(),
        kl_sum=F.kl_div(log_before, log_after, reduction="sum", log_target=True).item(),
    )


def ndcg():
    cases = []
    for classes, relevant, ties in [(527, 5, 0), (527, 1, 0), (527, 6, 9), (20, 3, 2), (7, 7, 3), (10, 2, 1), (12, 0, 0)]:
        truth = np.zeros(classes, dtype=int)
        truth[rng.choice(classes, relevant, replace=False)] = 1
        # `ties` levels only: many classes of equal score.
        scores = rng.integers(0, ties, classes).astype(float) if ties else rng.normal(size=classes)
        cases.append(dict(relevant=truth.tolist(), scores=scores.tolist(), ndcg=sk.ndcg_score(truth[None], scores[None])))
    return cases


def classification():
    cases = []
    for classes, count in [(2, 60), (5, 200), (3, 30)]:
        truth = rng.choice(classes, count, p=rng.dirichlet(np.ones(classes) * 2))
        truth[:classes] = np.arange(classes)
        scores = rng.normal(size=(count, classes)) + 1.2 * np.eye(classes)[truth]
        scores = np.round(scores, 1)  # ties
        # Nine digits: what is equal here is equal again after parsing.
        probabilities = np.round(np.exp(scores) / np.exp(scores).sum(1, keepdims=True), 9)
        predicted = scores.argmax(1)
        one_vs_rest = np.mean([sk.roc_auc_score(truth == c, probabilities[:, c]) for c in range(classes)])
        if classes > 2:
            assert abs(one_vs_rest - sk.roc_auc_score(truth, probabilities, multi_class="ovr")) < 1e-15
        cases.append(dict(
            truth=truth.tolist(), predicted=predicted.tolist(), probabilities=probabilities.tolist(),
            accuracy=sk.accuracy_score(truth, predicted), balanced_accuracy=sk.balanced_accuracy_score(truth, predicted),
            auroc_first=sk.roc_auc_score(truth == 0, scores[:, 0]), scores_first=scores[:, 0].tolist(),
            auroc_one_vs_rest=one_vs_rest,
        ))
    return cases


def quantiles():
    values = np.sort(rng.normal(size=23))
    points = [0.0, 0.025, 0.5, 0.71, 0.975, 1.0]
    return dict(values=values.tolist(), points=points, quantiles=np.quantile(values, points).tolist())


out = pathlib.Path(__file__).parent.parent / "fixtures" / "metrics.json"
versions = dict(torch=torch.__version__, sklearn=sklearn.__version__, numpy=np.__version__)
result = dict(versions=versions, odds=odds(), ndcg=ndcg(), classification=classification(), quantiles=quantiles())
out.write_text(json.dumps(result) + "\n")
