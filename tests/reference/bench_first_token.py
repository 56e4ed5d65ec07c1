"""Times whole processes up to the first tokens of one prompt: start, loading, text, one column of codes, its audio.

Usage: python bench_first_token.py FOLDER --interleave "CMD" [--rounds 3] [--threads 2]

FOLDER is a checkpoint as real_size.py writes it. Ours is this file in a process of its own, which imports transformers,
loads FOLDER and generates one frame of codes with guidance; CMD does the same by other means, such as

    tonoscope generate --model FOLDER --device cpu --greedy --duration 0.02 --overwrite --out OUT --prompt "…"

Both read files that the first, uncounted round has brought into memory. Prints one JSON line per process with its
seconds and peak memory, and last the medians and the ratio, transformers / CMD, so above 1 means that CMD is faster.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time

from sides import add_arguments


def first_token(folder, threads):
    """What is timed: in a process of its own, so that nothing of it is there before."""
    import torch
    from tokenizers import Tokenizer
    from transformers import MusicgenForConditionalGeneration

    from common import tokenize
    from real_size import DEFAULT_PROMPT

    torch.set_num_threads(threads)
    model = MusicgenForConditionalGeneration.from_pretrained(folder)
    ids, mask = tokenize(Tokenizer.from_file(f"{folder}/tokenizer.json"), [DEFAULT_PROMPT])
    # One frame takes four columns, as the codebooks are delayed; fewer than seven in all would switch that off.
    model.generate(input_ids=ids, attention_mask=mask, do_sample=False, guidance_scale=3.0, max_new_tokens=6)


def timed(command, side):
    """Seconds and peak memory of a process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit(f"{shlex.join(command)}: status {status}")
    line = {"id": "first_token", "s": seconds, "peak_mb": usage.ru_maxrss / 1024, "side": side}
    print(json.dumps(line), flush=True)
    return line


def main():
    """Alternate, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--once", action="store_true", help="be the process that is timed")
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.once:
        return first_token(arguments.folder, arguments.threads)
    ours = [sys.executable, __file__, arguments.folder, "--once", "--threads", str(arguments.threads)]
    if not arguments.interleave:
        return timed(ours, "transformers")
    theirs = shlex.split(arguments.interleave)
    rounds = [(timed(ours, "transformers"), timed(theirs, "other")) for _ in range(arguments.rounds + 1)][1:]
    ratios = [mine["s"] / other["s"] for mine, other in rounds]
    median = {
        f"{side}_{key}": statistics.median(pair[index][key] for pair in rounds)
        for index, side in enumerate(("transformers", "other")) for key in ("s", "peak_mb")
    }
    print(json.dumps({"id": "first_token", "ratio": statistics.median(ratios), "ratio_min": min(ratios),
                      "ratio_max": max(ratios), **median}))
    return None


if __name__ == "__main__":
    main()
