"""Times interventions the published way, one generation each, in transformers, and, interleaved, another program's.

Usage: python bench_interventions.py FOLDER [--interventions 2] [--frames 200] [--interleave "CMD"] [--rounds 3]
                                     [--threads 2] [--without-audio]

FOLDER is a checkpoint as real_size.py writes it. A run of a piano's prompt (not timed; it warms up) gives the mean of
every site; then each intervention is one greedy `generate` of a guitar's prompt with guidance 3, caches, and one hook
that overwrites the conditional half of one site in one layer. It encodes the text, generates, and decodes the audio, as
`generate` does. Prints

    {"id": "interventions_per_minute", "value": …, "n": …, "s": …, "audio_s": …, "side": "transformers"}

with the seconds of all interventions and, of these, of EnCodec; --without-audio takes the latter off before dividing.
With --interleave, CMD runs after each of our passes (A B A B …). It has to print a JSON line with the same id and its
`value`; other output is ignored. The end is one line with the median of the rounds' ratios, CMD / transformers, so
above 1 means that CMD is faster. All in f32.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in bench_musicgen.py

import torch
from tokenizers import Tokenizer
from transformers import MusicgenForConditionalGeneration

from common import tokenize
from inside import SITES, Inside
from real_size import DEFAULT_PROMPT
from sides import add_arguments, alternate

ID = "interventions_per_minute"


class Published:
    """One generation per intervention."""

    def __init__(self, model, tokenizer, frames):
        self.inside, self.model, self.tokenizer, self.frames = Inside(model), model, tokenizer, frames
        self.audio_seconds = 0.0
        decode = model.audio_encoder.decode

        def timed(*positional, **keywords):
            start = time.perf_counter()
            output = decode(*positional, **keywords)
            self.audio_seconds += time.perf_counter() - start
            return output

        model.audio_encoder.decode = timed

    def generate(self, prompt):
        """Text to audio."""
        ids, mask = tokenize(self.tokenizer, [prompt])
        self.model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, guidance_scale=3.0,
            max_new_tokens=self.frames + self.inside.codebooks - 1,
        )

    def places(self, number):
        """(layer, site) of `number` interventions, spread over all of them."""
        grid = [(layer, site) for site in SITES for layer in range(len(self.inside.layers))]
        return [grid[index * len(grid) // number] for index in range(number)]

    def values(self, prompt, places):
        """[step, width] of the conditional half by place."""
        kept = {}

        def see(place, step, output):
            kept.setdefault(place, {})[step] = output[0, -1].clone()

        with self.inside.cached(places, see):
            self.generate(prompt)
        return {place: torch.stack([row for _, row in sorted(rows.items())]) for place, rows in kept.items()}

    def timed_pass(self, prompt, values, audio):
        """Every intervention once; interventions per minute by id."""
        self.audio_seconds, start = 0.0, time.perf_counter()
        for place, of_place in values.items():
            with self.inside.replaced(*place, of_place):
                self.generate(prompt)
        seconds = time.perf_counter() - start
        value = 60 * len(values) / (seconds if audio else seconds - self.audio_seconds)
        line = {"id": ID, "value": value, "n": len(values), "s": seconds, "audio_s": self.audio_seconds}
        print(json.dumps({**line, "side": "transformers"}), flush=True)
        return {ID: value}


def main():
    """Warm up, alternate, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a checkpoint, as real_size.py writes it")
    parser.add_argument("--interventions", type=int, default=2, help="per pass")
    parser.add_argument("--frames", type=int, default=200, help="50 a second")
    parser.add_argument("--without-audio", action="store_true", help="EnCodec does not count")
    add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = MusicgenForConditionalGeneration.from_pretrained(arguments.folder).eval()
    published = Published(model, Tokenizer.from_file(str(arguments.folder / "tokenizer.json")), arguments.frames)
    values = published.values(DEFAULT_PROMPT.replace("guitar", "piano"), published.places(arguments.interventions))
    alternate(
        lambda: published.timed_pass(DEFAULT_PROMPT, values, not arguments.without_audio),
        arguments.interleave, arguments.rounds, ("value",), lambda ours, theirs: theirs / ours,
    )


if __name__ == "__main__":
    main()
