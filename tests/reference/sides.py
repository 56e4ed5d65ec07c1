"""Our side and another program, one after the other, and how they compare."""

import json
import shlex
import statistics
import subprocess
import sys


def add_arguments(parser, rounds=3):
    """`--interleave`, `--rounds` and `--threads`."""
    parser.add_argument("--interleave", metavar="CMD", help="runs after each of our passes (A B A B …)")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=2)


def other_pass(command, keys):
    """Run the other side, which prints JSON lines with `id` and one of `keys`; its values by id."""
    output = subprocess.run(shlex.split(command), check=True, stdout=subprocess.PIPE, text=True).stdout
    values = {}
    for text in output.splitlines():
        try:
            line = json.loads(text)
            values[line["id"]] = next((line[key] for key in keys if key in line), None)
        except (ValueError, KeyError, TypeError):
            continue
        print(json.dumps({**line, "side": "other"}), flush=True)
    return {name: value for name, value in values.items() if value}


def alternate(ours, command, rounds, keys, ratio):
    """`ours()` gives values by id, and so does `command`: both `rounds` times, then one line per id with the median of
    the rounds' ratios, `ratio(ours, theirs)`. Without a command, ours once."""
    if not command:
        ours()
        return
    pairs = [(ours(), other_pass(command, keys)) for _ in range(rounds)]
    for name in pairs[0][0]:
        both = [(mine[name], theirs[name]) for mine, theirs in pairs if name in theirs]
        if not both:
            print(f"{name}: not printed by the other side", file=sys.stderr)
            continue
        ratios = [ratio(mine, theirs) for mine, theirs in both]
        print(json.dumps({
            "id": name, "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios),
            "transformers": statistics.median(mine for mine, _ in both),
            "other": statistics.median(theirs for _, theirs in both),
        }), flush=True)
