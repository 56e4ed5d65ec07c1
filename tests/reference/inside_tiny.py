"""Lens and interventions on the tiny MusicGen: what every layer says, what every site does.

Usage: python inside_tiny.py
Reads: fixtures/musicgen_tiny. Writes: fixtures/musicgen_tiny/expected_inside.safetensors

Two prompts of a guitar and two of a piano are searched for, until no greedy choice of anything below is close.
README.md lists what is written; `inside.py` has the terms.
"""

import json

import safetensors.torch
import torch
from tokenizers import Tokenizer
from transformers import MusicgenForConditionalGeneration

from common import FIXTURES, generate, save_expected, sentences, tokenize
from inside import COND, SITES, UNCOND, Change, Generation, Inside, Trace

FOLDER = FIXTURES / "musicgen_tiny"
FRAMES = 8
BATCH = 4  # rows that are fed by the first among them; 48 in the paper
WINDOW = range(3, 7)  # steps 3, 4, 5 and 6
SCALE = 2.5
HEAD = 1
MIN_GAP = 1e-3


class Close(Exception):
    """A greedy choice is too close to call."""


class Results:
    """Tensors to write, and the smallest gap of each that was chosen greedily."""

    def __init__(self):
        self.tensors, self.gaps = {}, {}

    def put(self, name, tensor, gaps=None):
        """Keep a tensor; give up where its choices are close."""
        assert name not in self.tensors, name
        self.tensors[name] = tensor
        if gaps is not None:
            self.gaps[name] = gaps.min().item()
            if self.gaps[name] <= MIN_GAP:
                raise Close(f"{name}: {self.gaps[name]:.1e}")

    def put_codes(self, name, runs):
        """Keep the codes of one generation per prompt."""
        self.put(f"{name}.codes", torch.stack([run.codes for run in runs]), torch.stack([run.gaps for run in runs]))


def check_loop(inside):
    """The loop gives what transformers' `generate` gave."""
    expected = safetensors.torch.load_file(FOLDER / "expected.safetensors")
    text = inside.text(expected["input_ids"], expected["attention_mask"])
    found = inside.generate(text, expected["greedy.codes"].shape[-1])
    assert torch.equal(found.codes, expected["greedy.codes"]), "not the codes of `generate`"
    assert torch.equal(found.delayed[..., :-1], expected["greedy.delayed"][..., :-1]), "another delay pattern"


def clean(inside, results, concept, ids, mask):
    """The unchanged run of a concept's prompts, and its means [layer, step, branch, …] by site."""
    text, trace = inside.text(ids, mask), Trace()
    run = inside.generate(text, FRAMES, trace=trace)
    for name, tensor in [("input_ids", ids), ("attention_mask", mask)]:
        results.put(f"{concept}.{name}", tensor)
    results.put(f"{concept}.codes", run.codes, run.gaps)
    means = {site: trace.get(site).mean(dim=3) for site in [*SITES, "self_attn.z"]}
    assert not means["cross_attn_out"][:, :, UNCOND].any(), "text in the unconditional half"
    for prompt, length in enumerate(mask.sum(dim=1)):  # alone and without padding, the same comes out
        alone = Trace()
        short = inside.text(ids[prompt, None, :length], mask[prompt, None, :length])
        single = inside.generate(short, FRAMES, trace=alone)
        assert torch.equal(single.codes[0], run.codes[prompt]), "depends on padding"
        for site in SITES:
            torch.testing.assert_close(alone.get(site)[:, :, :, 0], trace.get(site)[:, :, :, prompt], rtol=0, atol=1e-5)
    return text, run, means, trace


def lens(inside, results, text, run):
    """Every depth on its own tokens, and every layer along the tokens of the whole model."""
    early = []
    for layers in range(1, len(inside.layers) + 1):
        with inside.depth(layers):
            early.append(inside.generate(text, FRAMES))
    stacked = [torch.stack([getattr(each, name) for each in early], dim=1) for name in ("codes", "gaps")]
    results.put("lens.early_exit.codes", *stacked)
    assert torch.equal(early[-1].codes, run.codes)

    logits, own = inside.read_layers(text, run.delayed)
    torch.testing.assert_close(logits[-1], own, rtol=0, atol=1e-5)
    logits = logits.transpose(0, 1)
    best = logits.topk(2, dim=-1)
    codes = inside.undelay(best.indices[..., 0], 0)
    results.put("lens.teacher_forced.logits", logits)
    results.put("lens.teacher_forced.codes", codes, inside.undelay(best.values[..., 0] - best.values[..., 1], 0))
    assert torch.equal(codes[:, -1], run.codes)


def interventions(inside, results, text, run, guitar, piano):
    """Every site of every layer of the guitar's prompts, replaced by the piano's mean or moved towards it."""
    grid = [(layer, site) for site in SITES for layer in range(len(inside.layers))]

    def change(technique, branch, layer, site, scale=1.0, steps=range(1 << 20)):
        values, replace = piano[site][layer, :, branch], technique == "replace"
        if not replace:
            values = scale * (values - guitar[site][layer, :, branch])
        return Change(layer, site, values, not replace, branch, steps)

    def runs(changes, feed=None, batch=len(grid)):
        """Per prompt, one generation per list of changes."""
        made = []
        for prompt in range(len(text.states)):
            parts = [changes[start : start + batch] for start in range(0, len(changes), batch)]
            of_prompt = feed and (lambda tokens: feed(tokens, run.delayed[prompt]))
            parts = [inside.generate(text.repeat(prompt, len(part)), FRAMES, of_prompt, part) for part in parts]
            made.append(Generation.cat(parts))
        return made

    def every(technique, branches=(COND,), **how):
        return [[change(technique, branch, *at, **how) for branch in branches] for at in grid]

    clean_feed = lambda tokens, unchanged: (unchanged.expand_as(tokens),) * 2
    published_feed = lambda tokens, _: (tokens[:1].expand_as(tokens), tokens)
    for technique in ("replace", "adjust"):
        at = f"intervene.{technique}"
        results.put_codes(f"{at}.own", runs(every(technique)))
        results.put_codes(f"{at}.clean", runs(every(technique), clean_feed))
        results.put_codes(f"{at}.published", runs(every(technique), published_feed, BATCH))
    results.put_codes("intervene.adjust.own.uncond", runs(every("adjust", [UNCOND])))
    results.put_codes("intervene.adjust.own.both", runs(every("adjust", [COND, UNCOND])))
    results.put_codes("intervene.replace.own.steps_3_7", runs(every("replace", steps=WINDOW)))
    results.put_codes(f"intervene.adjust.own.scale_{SCALE}", runs(every("adjust", scale=SCALE)))
    heads = [
        [Change(layer, "self_attn.z", piano["self_attn.z"][layer, :, COND, HEAD], False, head=HEAD)]
        for layer in range(len(inside.layers))
    ]
    results.put_codes(f"intervene.replace.own.z_head_{HEAD}", runs(heads))
    nothing = [[]] * len(grid)
    for same in [(every("adjust", scale=0.0),), (nothing,), (nothing, clean_feed), (nothing, published_feed, BATCH)]:
        for prompt, found in enumerate(runs(*same)):
            assert torch.equal(found.codes, run.codes[prompt].expand_as(found.codes)), "changed by nothing"


def check_own(inside, text, run, trace):
    """Replaced by what it is, nothing changes."""
    for site in [*SITES, "self_attn.z"]:
        for layer in range(len(inside.layers)):
            own = trace.get(site)[layer]  # [step, branch, prompt, …]
            pick = (lambda x: x[:, HEAD]) if site == "self_attn.z" else (lambda x: x)
            change = lambda prompt, branch: Change(layer, site, pick(own[:, branch, prompt]), False, branch, head=HEAD)
            changes = [[change(prompt, branch) for branch in (COND, UNCOND)] for prompt in range(len(run.codes))]
            assert torch.equal(inside.generate(text, FRAMES, changes=changes).codes, run.codes)


def check_cached(inside, tensors):
    """`generate` of transformers with its cache, one intervention at a time, gives the rows of `own`."""
    grid = [(layer, site) for site in SITES for layer in range(len(inside.layers))]
    for row, (layer, site) in enumerate(grid):
        with inside.replaced(layer, site, tensors[f"means.piano.{site}"][layer, :, COND]):
            found = generate(
                inside.model, FRAMES, input_ids=tensors["guitar.input_ids"],
                attention_mask=tensors["guitar.attention_mask"], guidance_scale=3.0,
            )
        assert torch.equal(found["codes"], tensors["intervene.replace.own.codes"][:, row]), (layer, site)


def check_telling(tensors):
    """Variants that a mistake would mix up are told apart by what is written."""
    name = lambda rest: tensors[f"intervene.{rest}.codes"]
    clean_codes = tensors["guitar.codes"]
    cases = [key for key in tensors if key.startswith("intervene.")]
    for case in cases:
        changed = (tensors[case] != clean_codes[:, None]).flatten(2).any(dim=-1)
        assert changed.float().mean() > 0.5, case
    for technique in ("replace", "adjust"):
        own, forced, published = (name(f"{technique}.{feed}") for feed in ("own", "clean", "published"))
        for first, second in [(own, forced), (own, published), (forced, published)]:
            assert (first != second).flatten(2).any(dim=-1).float().mean() > 0.25, technique
        firsts = [row for row in range(own.shape[1]) if row % BATCH == 0]
        assert torch.equal(own[:, firsts], published[:, firsts]), "the first row of a batch is fed by itself"
    early = tensors["lens.early_exit.codes"]
    assert not any(torch.equal(early[:, depth], early[:, -1]) for depth in range(early.shape[1] - 1))


def attempt(inside, tokenizer, prompts):
    """Everything for these prompts, the guitar's first."""
    results, concepts = Results(), {}
    for concept, of_concept in prompts.items():
        concepts[concept] = clean(inside, results, concept, *tokenize(tokenizer, of_concept))
    for concept, (_, _, means, _) in concepts.items():
        for site in SITES if concept == "guitar" else means:
            results.put(f"means.{concept}.{site}", means[site])
    text, run, means, trace = concepts["guitar"]
    lens(inside, results, text, run)
    interventions(inside, results, text, run, means, concepts["piano"][2])
    check_own(inside, text, run, trace)
    check_cached(inside, results.tensors)
    check_telling(results.tensors)
    return results


def candidates(tokenizer):
    """Pairs of prompts per concept, of different token lengths, in a fixed order."""
    guitar, piano = ([text for text in sentences() if f" {concept} " in text] for concept in ("guitar", "piano"))
    length = lambda text: len(tokenizer.encode(text).ids)
    for offset in range(1, len(guitar)):
        for start in range(len(guitar)):
            pairs = {"guitar": (guitar, start), "piano": (piano, start + 3 * offset)}
            prompts = {key: [of[at % len(of)], of[(at + offset) % len(of)]] for key, (of, at) in pairs.items()}
            if all(length(first) != length(second) for first, second in prompts.values()):
                yield prompts


def main():
    """Search, check, write."""
    model = MusicgenForConditionalGeneration.from_pretrained(FOLDER, attn_implementation="eager").eval()
    inside, tokenizer = Inside(model), Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    check_loop(inside)
    for tries, prompts in enumerate(candidates(tokenizer), start=1):
        try:
            results = attempt(inside, tokenizer, prompts)
            break
        except Close as reason:
            print(f"try {tries}: {reason}")
    notes = {
        "guitar_prompts": prompts["guitar"], "piano_prompts": prompts["piano"], "tries": tries, "frames": FRAMES,
        "guidance": 3.0, "sites": SITES, "published_batch": BATCH, "window": [WINDOW.start, WINDOW.stop],
        "min_gap": min(results.gaps.values()), "min_gaps": results.gaps,
    }
    save_expected(FOLDER / "expected_inside.safetensors", results.tensors, __file__, **notes)
    print(json.dumps(notes))


if __name__ == "__main__":
    main()
