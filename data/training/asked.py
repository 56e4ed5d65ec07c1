#!/usr/bin/env python3
"""How often a MusicGen plays what it was asked for, by a classifier's ears: the table in data/models/README.md.

    python3 data/training/asked.py TONOSCOPE FOLDER [--prompts 10] [--seeds 1] [--guidance 3] [--alone] [--model M] [--judge J]

Of each concept's prompts, N are played, evenly spaced among the first 100 of the template's order, 4 s each. A concept is heard
if the mean logit of its relevant classes is the highest of all concepts in its slot (of instruments, the flute's too). With
--alone instruments are asked for without a genre. Needs nothing but Python; FOLDER takes the music.
"""

import argparse
import json
import struct
from pathlib import Path

from tools import read_tensor, told

MOODS = ["happy", "emotional", "groovy", "energetic", "passionate"]
TEMPI = ["slow", "fast", "medium", "slow to medium", "medium to fast"]
FLUTE = {"name": "flute", "slot": "INSTRUMENTS", "relevant": ["Flute"], "prompts": []}


def logits(path):
    """[file][class] of the one tensor in a safetensors file."""
    _, _, (_, width), data = read_tensor(path)
    values = struct.unpack(f"<{len(data) // 4}f", data)
    return [values[at : at + width] for at in range(0, len(values), width)]


def alone(instrument, count):
    """Prompts for an instrument and nothing else: every mood before one comes again, in another tempo."""
    pairs = [(mood, TEMPI[(row + at) % len(TEMPI)]) for row in range(len(TEMPI)) for at, mood in enumerate(MOODS)]
    return [f"Compose a {mood} piece for solo {instrument}. Use a {tempo} tempo." for mood, tempo in pairs[:count]]


def main():
    """Play, listen, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tonoscope")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--model", default="musicgen-nano")
    parser.add_argument("--judge", default="passt-nano")
    arguments = parser.parse_args()
    labels = [line.split(",", 2)[2].strip().strip('"') for line in
              (Path(__file__).parents[1] / "audioset_labels.csv").read_text().splitlines()[1:]]
    template = json.loads(told(arguments.tonoscope, "prompts", "template", "--concepts", "all", "--json"))
    concepts = template["concepts"] + [FLUTE]
    spaced = range(0, 100, max(1, 100 // arguments.prompts))
    asked = []
    for concept in template["concepts"]:
        solo = arguments.alone and concept["slot"] == "INSTRUMENTS"
        chosen = alone(concept["name"], arguments.prompts) if solo else [concept["prompts"][at] for at in spaced]
        asked += [(concept, prompt) for prompt in chosen[: arguments.prompts]]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    listed = arguments.folder / "prompts.txt"
    listed.write_text("".join(f"{prompt}\n" for _, prompt in asked))
    heard = {}
    for seed in range(arguments.seeds):
        out = arguments.folder / f"{'alone_' if arguments.alone else ''}guidance_{arguments.guidance:g}_seed_{seed}"
        told(arguments.tonoscope, "generate", "--model", arguments.model, "--prompts", listed, "--duration", 4, "--seed", seed,
             "--guidance", arguments.guidance, "--batch-size", 8, "--device", "cpu", "--out", out)
        sounds = sorted(out.glob("piece_*.wav"))
        assert len(sounds) == len(asked), f"{len(sounds)} pieces of {len(asked)} prompts"
        scores = arguments.folder / "logits.safetensors"
        told(arguments.tonoscope, "classify", *sounds, "--model", arguments.judge, "--logits", scores, "--device", "cpu")
        right = {}
        for row, (concept, _) in zip(logits(scores), asked):
            rivals = [rival for rival in concepts if rival["slot"] == concept["slot"]]
            level = lambda rival: sum(row[labels.index(name)] for name in rival["relevant"]) / len(rival["relevant"])
            best = max(rivals, key=level)["name"]
            right.setdefault(concept["name"], []).append(best == concept["name"])
        for name, hits in right.items():
            heard.setdefault(name, []).append(sum(hits) / len(hits))
    seeds = [sum(rates[seed] for rates in heard.values()) / len(heard) for seed in range(arguments.seeds)]
    means = {name: round(sum(rates) / len(rates), 3) for name, rates in heard.items()}
    print(json.dumps({"guidance": arguments.guidance, "mean": round(sum(seeds) / len(seeds), 3), "seeds": seeds, "alone": arguments.alone, **means}))


if __name__ == "__main__":
    main()
