#!/usr/bin/env python3
"""What CLAP-nano and Stable-Audio-nano are worth in the six steps: the tables in data/models/README.md.

    python3 data/training/concepts.py TONOSCOPE FOLDER [--soundfont OTHER.sf2] [--prompts 60] [--samples 2] [--per-program 20]
        [--diffuser M] [--clap M]

Classifiers of the 28 concepts learn from notes of the programs that CLAP-nano learnt from (`clap.toml`), and are tested on those of
the programs that were held out from it; then, with another soundfont, on notes of that one. Those of the five families that
the captions of the corpus name are asked about Stable-Audio-nano's music at every snapshot. Needs nothing but Python 3.11.
"""

import argparse
import csv
import itertools
import json
import tomllib
from pathlib import Path

from tools import read_tensor, rows, told, write_tensor

HERE = Path(__file__).parent
FAMILIES = ["is_guitar", "is_keyboard", "is_brass", "is_string", "is_flute"]

NUMBERS = {"accuracy": "acc", "balanced_accuracy": "balanced_acc", "auroc": "auroc"}


def mean(cells):
    """The mean of those that are there: of one class alone there is no AUROC."""
    numbers = [float(cell) for cell in cells if cell]
    return round(sum(numbers) / len(numbers), 3) if numbers else None


def embedded(program, folder, clap, per_program, *soundfont):
    """Notes of a soundfont, cut into concepts, and their vectors; which program each instrument is."""
    arguments = ["data", "render", "notes", folder / "notes", "--per-program", per_program, *soundfont]
    programs = json.loads(told(program, *arguments, "--dry-run", "--json"))["programs"]
    told(program, *arguments)
    told(program, "concepts", "build", "--notes", folder / "notes", "--out", folder / "concepts")
    told(program, "concepts", "embed", folder / "concepts", "--clap", clap, "--device", "cpu")
    return programs


def has_both(lines):
    """Whether both classes are there."""
    return len({line["binary_class"] for line in lines}) == 2


def above(results):
    """For each classifier, of how many concepts it is above the majority baseline on what is tested."""
    count = {}
    for line in results:
        if line["part"] == "test":
            name = line["class_model_type"]
            won = float(line["acc"]) > float(line["majority_baseline"])
            total, wins, sums = count.get(name, (0, 0, 0.0))
            count[name] = (total + 1, wins + won, sums + float(line["balanced_acc"] or 0))
    return {name: {"concepts": total, "above_baseline": wins, "balanced_accuracy": round(sums / total, 3)}
            for name, (total, wins, sums) in count.items()}


def main():
    """Play, embed, probe, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tonoscope")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--soundfont", type=Path)
    parser.add_argument("--diffuser", default="stable-audio-nano")
    parser.add_argument("--clap", default="clap-nano")
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--per-program", type=int, default=20)
    arguments = parser.parse_args()
    program, folder = arguments.tonoscope, arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    held_out = set(tomllib.loads((HERE / "clap.toml").read_text())["model"]["contrast"]["held_out_programs"])

    programs = embedded(program, folder, arguments.clap, arguments.per_program)
    split = {}
    for table in sorted((folder / "concepts").glob("is_*.csv")):
        lines = rows(table)
        test = [programs[int(line["instrument"])] in held_out for line in lines]
        parts = [[at for at, tested in enumerate(test) if tested == wanted] for wanted in (False, True)]
        if all(has_both([lines[at] for at in part]) for part in parts):
            split[table.stem] = {"train": parts[0], "test": parts[1]}
    (folder / "split.json").write_text(json.dumps(split))

    moods, tempi = ["happy", "emotional", "groovy", "energetic", "passionate"], ["slow", "medium", "fast"]
    instruments = ["guitar", "piano", "trumpet", "violin", "flute"]
    asked = [f"Compose a {mood} piece for solo {instrument}. Use a {tempo} tempo."
             for tempo, mood, instrument in itertools.product(tempi, moods, instruments)][: arguments.prompts]
    prompts = folder / "prompts.txt"
    prompts.write_text("".join(f"{prompt}\n" for prompt in asked))
    annotations = folder / "annotations.json"
    told(program, "prompts", "annotate", prompts, "--offline", "--out", annotations, "--overwrite")
    told(program, "diffuse", "--model", arguments.diffuser, "--prompts", prompts, "--annotations", annotations, "--samples", arguments.samples, "--device", "cpu",
         "--out", folder / "generated")
    told(program, "embed-generated", folder / "generated", "--clap", arguments.clap, "--device", "cpu", "--out", folder / "embeddings")

    def probe(concepts, name, of):
        (folder / f"{name}.json").write_text(json.dumps(of))
        told(program, "probe", "--concepts", concepts, "--embeddings", folder / "embeddings", "--annotations", annotations,
             "--split", folder / f"{name}.json", "--only", ",".join(of), "--frames", "none", "--out", folder / name)
        return rows(folder / name / "notes.csv"), rows(folder / name / "concept_results.csv")

    notes, results = probe(folder / "concepts", "probe", split)
    report = {"held_out_programs": above(notes), "not_testable": 28 - len(split), "trajectory": {}}
    for kind in ("logistic", "svm"):
        steps = {}
        for line in results:
            if line["class_model_type"] == kind and line["concept"] in FAMILIES:
                steps.setdefault(int(line["diff_step"]), []).append(line)
        report["trajectory"][kind] = {
            step: {name: mean(line[key] for line in lines) for name, key in NUMBERS.items()} for step, lines in sorted(steps.items())
        }

    if arguments.soundfont:
        other = folder / "other"
        other.mkdir(exist_ok=True)
        embedded(program, other, arguments.clap, arguments.per_program, "--soundfont", arguments.soundfont)
        merged = folder / "merged"
        merged.mkdir(exist_ok=True)
        names, data, shape, metadata = [], b"", None, {}
        for prefix, part in (("", folder), ("other ", other)):
            metadata, tensor, shape, values = read_tensor(part / "concepts" / "embeddings.safetensors")
            names += [prefix + name for name in json.loads(metadata["notes"])]
            data += values
        write_tensor(merged / "embeddings.safetensors", {**metadata, "notes": json.dumps(names)}, tensor, [len(names), shape[1]], data)
        split = {}
        for table in sorted((folder / "concepts").glob("is_*.csv")):
            second = other / "concepts" / table.name
            parts = [rows(table), rows(second) if second.exists() else []]
            if not all(has_both(part) for part in parts):
                continue
            with (merged / table.name).open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["note_str", "binary_class", "instrument_str"])
                for prefix, part in zip(("", "other "), parts):
                    writer.writerows([prefix + line["note_str"], line["binary_class"], prefix + line["instrument_str"]] for line in part)
            count = [len(part) for part in parts]
            split[table.stem] = {"train": list(range(count[0])), "test": list(range(count[0], sum(count)))}
        notes, _ = probe(merged, "probe_other", split)
        report["other_soundfont"] = above(notes)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
