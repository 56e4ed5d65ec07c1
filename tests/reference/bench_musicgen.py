"""Times transformers on the work that tonoscope's benchmarks do, and, interleaved, tonoscope itself.

Usage: python bench_musicgen.py [--interleave "CMD"] [--rounds 3] [--steps 40] [--threads 2] [--model FOLDER]
                                [--only ID ...]

Prints one JSON line per measurement, `{"id": …, "median_s": …, "cpu_median_s": …, "n": …, "side": "transformers"}`:

    decode_step/batch=1, decode_step/batch=8   one guided step (both branches), 12 prompt tokens, greedy
    t5_encode/tokens=30                        one prompt
    encodec_decode/seconds=4                   200 frames of codes to audio

and last `{"id": "peak_memory", "mb": …}`. Without --model the weights are random, at musicgen-small's size.
With --interleave, CMD runs after each of our passes (A B A B …). It has to print JSON lines with the same ids and
`median_s` (or `mb`); other output is ignored. The end is one line per id with the median of the rounds' ratios,
transformers / CMD, so above 1 means that CMD is faster. All in f32.
"""

import argparse
import json
import os
import resource
import statistics
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads do not count as CPU time

import torch
from transformers import LogitsProcessor, LogitsProcessorList, MusicgenForConditionalGeneration

import common  # noqa: F401  (no gradients, no hub)
from real_size import small_model
from sides import add_arguments, alternate


class Clock(LogitsProcessor):
    """Notes the time of every generation step."""

    def __init__(self):
        self.times = []

    def __call__(self, ids, scores):
        self.times.append((time.perf_counter(), time.process_time()))
        return scores


def differences(times):
    """Wall and CPU seconds between neighbours, without the first, which fills the caches."""
    pairs = list(zip(times[1:], times[2:]))
    return [b[0] - a[0] for a, b in pairs], [b[1] - a[1] for a, b in pairs]


def decode_steps(model, batch, steps):
    """Guided greedy steps."""
    generator = torch.Generator().manual_seed(0)
    high = model.config.text_encoder.vocab_size
    ids = torch.randint(3, high, (batch, 12), generator=generator)
    ids[:, -1] = 1
    clock = Clock()
    model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, guidance_scale=3.0,
        max_new_tokens=max(steps + 2, 8), logits_processor=LogitsProcessorList([clock]),
    )
    return differences(clock.times)


def repeat(work, runs):
    """`runs` timed calls after one that is not."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return [wall for wall, _ in times], [cpu for _, cpu in times]


def jobs(model, steps):
    """Every measurement by id."""
    text, codec = model.text_encoder, model.audio_encoder
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, text.config.vocab_size, (1, 30), generator=generator)
    mask = torch.ones_like(ids)
    frames = 4 * codec.config.frame_rate
    codes = torch.randint(0, codec.config.codebook_size, (1, 1, codec.config.num_quantizers, frames), generator=generator)
    return {
        "decode_step/batch=1": lambda: decode_steps(model, 1, steps),
        "decode_step/batch=8": lambda: decode_steps(model, 8, steps),
        "t5_encode/tokens=30": lambda: repeat(lambda: text(input_ids=ids, attention_mask=mask), 7),
        "encodec_decode/seconds=4": lambda: repeat(lambda: codec.decode(codes, [None]), 3),
    }


def one_pass(work, only):
    """Measure and print; values by id."""
    values = {}
    for name, job in work.items():
        if only and name not in only:
            continue
        wall, cpu = job()
        values[name] = statistics.median(wall)
        line = {"id": name, "median_s": values[name], "cpu_median_s": statistics.median(cpu), "n": len(wall)}
        print(json.dumps({**line, "side": "transformers"}), flush=True)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"id": "peak_memory", "mb": megabytes, "side": "transformers"}), flush=True)
    return {**values, "peak_memory": megabytes}


def main():
    """Alternate, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--model", help="folder of a checkpoint, as real_size.py writes it")
    parser.add_argument("--only", action="append", metavar="ID")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = MusicgenForConditionalGeneration.from_pretrained(arguments.model) if arguments.model else small_model()
    work = jobs(model.eval(), arguments.steps)
    alternate(
        lambda: one_pass(work, arguments.only), arguments.interleave, arguments.rounds, ("median_s", "mb"),
        lambda ours, theirs: ours / theirs,
    )


if __name__ == "__main__":
    main()
