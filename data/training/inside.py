#!/usr/bin/env python3
"""Whether what shows the inside of a MusicGen shows it in musicgen-nano: the numbers in data/models/README.md.

    python3 data/training/inside.py TONOSCOPE FOLDER [--prompts 4] [--fit-prompts 100] [--model M]

1. Recognisability (NDCG) by layer, and the difference of the best later layer and the first, prompts drawn anew 2 000 times.
2. The divergence of the plain lens and of the tuned one from the model's last layer.
3. Effect of moving the MLP's output in the last two layers towards another genre, beside random directions of the same norm:
   the mean difference over pairs of genres, pairs drawn anew 2 000 times.
Needs nothing but Python; FOLDER takes the results.
"""

import argparse
import json
import random
from pathlib import Path

from tools import rows, told

DRAWS = 2000


def mean(values):
    """The mean."""
    return sum(values) / len(values)


def interval(values):
    """Mean of `values`, and within which ends it lies when they are drawn anew."""
    draw = random.Random(0)
    means = sorted(mean(draw.choices(values, k=len(values))) for _ in range(DRAWS))
    return {"mean": round(mean(values), 3), "low": round(means[DRAWS // 40], 3), "high": round(means[-DRAWS // 40], 3)}


def main():
    """Listen, fit, intervene."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tonoscope")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--fit-prompts", type=int, default=100)
    parser.add_argument("--model", default="musicgen-nano")
    arguments = parser.parse_args()
    program, folder = arguments.tonoscope, arguments.folder
    common = ["--model", arguments.model, "--duration", 4, "--seed", 1, "--device", "cpu", "--prompts-per-concept", arguments.prompts]
    report = {}

    lens = folder / "lens"
    told(program, "lens", "--concepts", "all", "--mode", "teacher-forced", "--audio", 0, *common, "--out", lens)
    scores = {}
    for line in rows(lens / "recognisability.csv"):
        scores.setdefault(int(line["layer"]), []).append(float(line["ndcg"]))
    report["recognisability"] = {layer: round(mean(of), 3) for layer, of in sorted(scores.items())}
    first, last = min(scores), max(scores)
    best = max((layer for layer in scores if layer > first), key=lambda layer: mean(scores[layer]))
    for name, layer in (("best", best), ("last", last)):
        rise = [later - earlier for earlier, later in zip(scores[first], scores[layer])]
        report[f"rise_to_{name}"] = {"layer": layer, **interval(rise)}

    tuned = folder / "tuned"
    told(program, "lens", "--concepts", "all", "--mode", "tuned", "--fit-prompts", arguments.fit_prompts, "--no-judge", "--audio", 0,
         *common, "--out", tuned)
    for name, of in (("plain", lens), ("tuned", tuned)):
        layers = {}
        for line in rows(of / "logit_lens_summary.csv"):
            layers.setdefault(int(line["layer"]), []).append(float(line["kl_last_layer_nats"]))
        report[f"divergence_{name}"] = {layer: round(mean(of_layer), 3) for layer, of_layer in sorted(layers.items())}

    layers = f"{last - 2},{last - 1}"
    genres = "pop,rock,electronic,jazz,classical,hiphop"
    moved = folder / "moved"
    told(program, "intervene", "--all-pairs", "--concepts", genres, "--technique", "adjust", "--sites", "mlp_out", "--layers", layers,
         "--feed", "own", "--controls", 1, *common, "--out", moved)
    found = rows(moved / "summary.csv")
    report["adjust"] = interval([float(line["effect"]) for line in found])
    report["random"] = interval([float(line["random_effect"]) for line in found])
    report["difference"] = interval([float(line["effect"]) - float(line["random_effect"]) for line in found])
    controls = rows(moved / "controls.csv")
    report["controls_hold"] = all(line["scale_zero_equals_clean"] == line["self_patch_equals_clean"] == "true" for line in controls)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
