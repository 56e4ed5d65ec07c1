"""Greedy generation with a hand in it: transformers' MusicGen under a loop, a delay pattern and hooks of our own.

Every step runs the whole sequence anew, so there is no cache to get wrong, and a change of one step is a change of one
column. Nothing here is taken from `generate` of transformers; `inside_tiny.py` shows that the loop gives its codes.

Terms: column 0 of the delayed codes is padding alone; step s reads columns 0 to s and chooses column s + 1. A batch of
n sequences has 2n rows: first all conditional ones, then all unconditional ones.
"""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch

SITES = ["self_attn_out", "cross_attn_out", "mlp_out"]
COND, UNCOND = 0, 1


@dataclass
class Text:
    """Hidden states of T5, [sequence, token, width], and their mask."""

    states: torch.Tensor
    mask: torch.Tensor

    def repeat(self, sequence, times):
        """One sequence, several times."""
        return Text(self.states[sequence].expand(times, -1, -1), self.mask[sequence].expand(times, -1))


@dataclass
class Change:
    """What one sequence's output of a site becomes in one layer: `values` [step, …], or itself plus them."""

    layer: int
    site: str  # of SITES, or self_attn.z
    values: torch.Tensor
    adds: bool
    branch: int = COND
    steps: range = range(1 << 20)
    head: int = 0  # of self_attn.z alone

    def apply(self, row):
        """Change a row [column, width] in place, every column with the value of its own step."""
        for column in range(len(row)):
            if column in self.steps:
                part = row[column]
                if self.site == "self_attn.z":
                    width = self.values.shape[-1]
                    part = part[self.head * width : (self.head + 1) * width]
                part.copy_(part + self.values[column] if self.adds else self.values[column])


@dataclass
class Generation:
    """Codes [sequence, codebook, frame], with padding in columns [sequence, codebook, column], and per free choice
    the distance of the two best logits [sequence, codebook, frame]."""

    codes: torch.Tensor
    delayed: torch.Tensor
    gaps: torch.Tensor

    @classmethod
    def cat(cls, parts):
        """The sequences of all parts."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("codes", "delayed", "gaps")))


@dataclass
class Trace:
    """What sites put out at the newest column: [layer, step, branch, sequence, …] by site."""

    steps: dict = field(default_factory=dict)

    def note(self, site, layer, newest):
        """Keep [row, width] of one step."""
        self.steps.setdefault(site, {}).setdefault(layer, []).append(newest.unflatten(0, (2, -1)).clone())

    def get(self, site):
        """All of a site."""
        return torch.stack([torch.stack(layer) for _, layer in sorted(self.steps[site].items())])


class Inside:
    """A MusicGen whose decoder is watched and changed."""

    def __init__(self, model):
        self.model = model
        self.stack = model.decoder.model.decoder
        self.layers = list(self.stack.layers)
        self.codebooks = model.decoder.num_codebooks
        self.pad = model.config.decoder.pad_token_id
        self.heads = model.config.decoder.num_attention_heads

    def text(self, ids, mask):
        """T5 on padded token ids."""
        return Text(self.model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask)

    def forward(self, text, cond, uncond):
        """Guided logits [sequence, codebook, column, vocabulary] of delayed codes, which may differ by half."""
        columns = cond.shape[-1]
        output = self.model(
            encoder_outputs=(torch.cat([text.states, torch.zeros_like(text.states)]),),
            attention_mask=torch.cat([text.mask, torch.zeros_like(text.mask)]),
            decoder_input_ids=torch.cat([cond, uncond]).reshape(-1, columns), use_cache=False,
        )
        return guided(output.logits.unflatten(0, (-1, self.codebooks)))

    def generate(self, text, frames, feed=None, changes=(), trace=None):
        """Greedy codes. `changes` has one list per sequence. `feed` says which codes the halves read, given those that
        were chosen (both delayed, of equal shape); without it, every sequence reads its own."""
        columns = frames + self.codebooks
        delayed = torch.full((len(text.states), self.codebooks, columns), self.pad)
        gaps = torch.zeros(len(text.states), self.codebooks, frames)
        with self.changed(changes), self.traced(trace):
            for step in range(columns - 1):
                cond, uncond = feed(delayed) if feed else (delayed, delayed)
                logits = self.forward(text, cond[..., : step + 1], uncond[..., : step + 1])[:, :, -1]
                best = logits.topk(2, dim=-1)
                for codebook in range(self.codebooks):
                    frame = step - codebook  # of the column that is chosen: step + 1 = frame + codebook + 1
                    if 0 <= frame < frames:
                        delayed[:, codebook, step + 1] = best.indices[:, codebook, 0]
                        gaps[:, codebook, frame] = best.values[:, codebook, 0] - best.values[:, codebook, 1]
        return Generation(self.undelay(delayed, 1), delayed, gaps)

    def undelay(self, delayed, first):
        """[…, codebook, column] to […, codebook, frame], where codebook 0 begins at column `first`."""
        frames = delayed.shape[-1] - first - self.codebooks + 1
        rows = [delayed[..., codebook, first + codebook :][..., :frames] for codebook in range(self.codebooks)]
        return torch.stack(rows, dim=-2)

    @contextmanager
    def depth(self, layers):
        """Only the first layers run."""
        self.stack.layers = torch.nn.ModuleList(self.layers[:layers])
        yield
        self.stack.layers = torch.nn.ModuleList(self.layers)

    def hook(self, layer, site, see):
        """Show `see` every output [row, column, width] of a site and put in its place what it returns, if anything."""
        block = self.layers[layer]
        if site == "self_attn.z":  # what goes into the output projection, heads side by side
            return block.self_attn.out_proj.register_forward_pre_hook(lambda module, inputs: see(inputs[0]))
        outputs = [block.self_attn.out_proj, block.encoder_attn.out_proj, block.fc2]
        return outputs[SITES.index(site)].register_forward_hook(lambda module, inputs, output: see(output))

    @contextmanager
    def cached(self, places, see):
        """The published way, for `generate` of transformers with its cache: while it lasts, `see(place, step, output)`
        reads or overwrites the newest column [row, 1, width] at places (layer, site). Steps are read off the cache,
        since counting calls would be one too far: `generate` computes the first step twice."""
        step = 0

        def note(module, positional, keywords):
            nonlocal step
            past = keywords["past_key_values"]
            step = 0 if past is None else past.get_seq_length()

        with ExitStack() as stack:
            stack.callback(self.model.decoder.register_forward_pre_hook(note, with_kwargs=True).remove)
            for place in places:
                stack.callback(self.hook(*place, lambda output, place=place: see(place, step, output)).remove)
            yield

    def replaced(self, layer, site, values):
        """While it lasts, `generate` gets `values` [step, width] at one place, in the conditional half."""
        def see(place, step, output):
            output[: len(output) // 2, -1] = values[step]

        return self.cached([(layer, site)], see)

    @contextmanager
    def changed(self, changes):
        """While it lasts, the changes of every sequence take place."""
        def applying(layer, site):
            def see(output):
                output = output.clone()
                for sequence, of_sequence in enumerate(changes):
                    for change in of_sequence:
                        if (change.layer, change.site) == (layer, site):
                            change.apply(output[sequence + change.branch * len(changes)])
                return output
            return see

        touched = {(change.layer, change.site) for of_sequence in changes for change in of_sequence}
        with ExitStack() as stack:
            for layer, site in sorted(touched):
                stack.callback(self.hook(layer, site, applying(layer, site)).remove)
            yield

    @contextmanager
    def traced(self, trace):
        """While it lasts, the newest column of every site is noted, self_attn.z as [head, width of a head]."""
        def noting(layer, site):
            def see(output):
                newest = output[:, -1]
                trace.note(site, layer, newest.unflatten(-1, (self.heads, -1)) if site == "self_attn.z" else newest)
            return see

        with ExitStack() as stack:
            for layer in range(0 if trace is None else len(self.layers)):
                for site in [*SITES, "self_attn.z"]:
                    stack.callback(self.hook(layer, site, noting(layer, site)).remove)
            yield

    def read_layers(self, text, delayed):
        """Guided logits [layer, sequence, codebook, step, vocabulary] of every layer's residual stream under the final
        norm and the heads, all from one pass over given codes; what the model itself says is returned beside it."""
        streams = {}
        with ExitStack() as stack:
            for index, layer in enumerate(self.layers):
                see = lambda module, inputs, output, index=index: streams.__setitem__(index, output)
                stack.callback(layer.register_forward_hook(see).remove)
            own = self.forward(text, delayed[..., :-1], delayed[..., :-1])
        normed = [self.stack.layer_norm(streams[index]) for index in range(len(self.layers))]
        heads = self.model.decoder.lm_heads
        return torch.stack([guided(torch.stack([head(x) for head in heads], dim=1)) for x in normed]), own


def guided(logits):
    """`uncond + 3 (cond - uncond)` of the two halves."""
    cond, uncond = logits.chunk(2)
    return uncond + 3 * (cond - uncond)
