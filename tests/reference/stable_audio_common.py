"""What the Stable Audio fixtures share: random weights, eager attention whose inside can be seen, recorded noise."""

import math

import torch
from diffusers.models.embeddings import apply_rotary_emb

LONG = "Compose a happy rock piece. " * 12
NEGATIVE = "slow trumpet"
SECONDS = [(0.0, 10.0), (1.5, 700.0)]  # start and total of each prompt; beyond 512 is clamped


def randomise(model, seed, rounded=True):
    """Give every parameter a random value that keeps activations near 1 and, if `rounded`, that 16 bits hold.

    Left as they are initialised, branches, the outer convolutions and the snakes do nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "inv_freq":
            continue
        values = torch.randn(tensor.shape, generator=generator)
        if leaf == "weight_v":  # direction of a weight-normalised convolution, of any length
            values *= 0.3
        elif leaf == "weight_g":  # its length
            values = 1 + 0.1 * values
        elif leaf in ("gamma", "scale") or ("norm" in name and leaf == "weight"):
            values = 1 + 0.1 * values
        elif leaf in ("bias", "beta", "alpha"):
            values *= 0.2
        elif leaf == "weights" or "time_proj" in name or "timestep_features" in name:
            pass
        elif ".to_q." in name or ".to_k." in name or "to_qkv" in name:  # look at some positions more than at others
            values *= 1.5 / math.sqrt(tensor.shape[1])
        elif tensor.dim() >= 2:
            values /= math.sqrt(tensor[0].numel())
        else:
            raise ValueError(f"no rule for {name} {tuple(tensor.shape)}")
        if name.endswith(("decoder.conv2.weight_g", "decoder.layers.4.weight_g")):  # keep the audio inside -1 to 1
            values *= 0.1
        elif "proj_out" in name or "project_out" in name:  # the stream has no norm after the last layer
            values *= 0.25
        tensor.copy_(values.half().float() if rounded else values)


class EagerAttention:
    """`StableAudioAttnProcessor2_0` written out: what it computes passes `seen(name, tensor)`."""

    def __init__(self, seen=lambda name, tensor: None):
        self.seen = seen

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attn.to_q(hidden_states), attn.to_k(source), attn.to_v(source)
        width = query.shape[-1] // attn.heads
        split = lambda x: x.view(*x.shape[:2], -1, width)
        query, key, value = split(query), split(key), split(value)
        for name, tensor in [("q", query), ("k", key), ("v", value)]:
            self.seen(name, tensor)
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        group = attn.heads // key.shape[1]
        key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
        if rotary_emb is not None:
            turned = rotary_emb[0].shape[-1]
            turn = lambda x: torch.cat([
                apply_rotary_emb(x[..., :turned], rotary_emb, use_real=True, use_real_unbind_dim=-2), x[..., turned:],
            ], dim=-1)
            query, key = turn(query), turn(key)
        pattern = (query @ key.transpose(2, 3) / math.sqrt(width)).softmax(-1)
        self.seen("pattern", pattern)
        mixed = (pattern @ value).transpose(1, 2)
        self.seen("z", mixed)
        out = attn.to_out[0](mixed.flatten(2))
        self.seen("out", out)
        return out


def record_dit(recorder, transformer):
    """Every hook point of a `StableAudioDiTModel`, into `recorder`."""
    recorder.input(transformer.transformer_blocks[0].norm1, "dit.embed")
    for index, block in enumerate(transformer.transformer_blocks):
        at = f"dit.{index}"
        recorder.input(block.norm1, f"{at}.resid_pre")
        for module, name in [(block.attn1, "self_attn"), (block.attn2, "cross_attn")]:
            seen = lambda what, tensor, name=name, at=at: recorder.put(
                f"{at}.{name}_out" if what == "out" else f"{at}.{name}.{what}", tensor)
            module.set_processor(EagerAttention(seen))
        recorder.input(block.norm2, f"{at}.resid_mid")
        recorder.input(block.norm3, f"{at}.mlp_in")
        recorder.input(block.ff.net[2], f"{at}.mlp_post")
        recorder.output(block.ff.net[2], f"{at}.mlp_out")
        recorder.output(block, f"{at}.resid_post")


def guided(cond, uncond, guidance, rescale):
    """Guidance and rescale of stable-audio-tools (models/dit.py)."""
    output = uncond + (cond - uncond) * guidance
    if rescale == 0:
        return output
    fitted = output * (cond.std(dim=1, keepdim=True) / output.std(dim=1, keepdim=True))
    return rescale * fitted + (1 - rescale) * output


class RecordedNoise:
    """A noise sampler that hands out `steps[index]`, whatever is asked."""

    def __init__(self, steps):
        self.steps, self.index = steps, 0

    def __call__(self, *_):
        self.index += 1
        return self.steps[self.index - 1]


def close(name, got, want, bound=1e-5):
    """Fail unless `got` is within `bound` of `want`, relative to its largest value."""
    error = ((got - want).abs().max() / want.abs().max()).item()
    print(f"{name}: largest relative difference {error:.1e}")
    assert error < bound, (name, error)
