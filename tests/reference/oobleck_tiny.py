"""Writes tests/fixtures/oobleck_tiny/: a tiny random Oobleck in both layouts, and every intermediate both ways.

    python tests/reference/oobleck_tiny.py        (diffusers 0.42.1, stable-audio-tools 0.0.19, torch 2.11.0)

diffusers saves `config.json` and the weights; stable-audio-tools is given the same numbers under its names, must agree,
and saves `model_config.json` and `stable_audio_tools.safetensors`, of which the names start with `pretransform.model.`.
"""

import json
import math
import sys
from importlib.metadata import version

import common
import fakemods  # noqa: F401  stable-audio-tools imports much that an autoencoder does not use
import torch
from diffusers import AutoencoderOobleck
from safetensors.torch import save_file
from stable_audio_tools.models.autoencoders import create_autoencoder_from_config

OUT = common.FIXTURES / "oobleck_tiny"
RATIOS, MULTIPLES = [2, 4, 4], [1, 2, 4]
CONFIG = dict(
    encoder_hidden_size=6, downsampling_ratios=RATIOS, channel_multiples=MULTIPLES, decoder_channels=5,
    decoder_input_channels=3, audio_channels=2, sampling_rate=44100,
)
UNITS = ["res_unit1", "res_unit2", "res_unit3"]


def randomise(model, seed):
    """Every parameter: lengths such that activations stay near 1, snakes of all widths and heights."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda tensor, std, mean=0.0: tensor.copy_(mean + std * torch.randn(tensor.shape, generator=generator))
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        leaf = name.rsplit(".", 1)[-1]
        if leaf in ("alpha", "beta"):
            normal(tensor, 0.5)
        elif leaf == "weight_v":
            normal(tensor, 0.3)
        elif leaf == "weight_g":
            # A transposed convolution has its length per input: its outputs are sums over all of them, two taps each.
            v = model.state_dict()[name[:-1] + "v"]
            length = math.sqrt(v[0].numel() / (2 * v.shape[0])) if "conv_t1" in name else 0.8
            length *= 0.4 if ".conv2." in name and "res_unit" in name else 1.0
            length *= 0.3 if name == "decoder.conv2.weight_g" else 1.0
            normal(tensor, 0.1 * length, length)
        else:
            assert leaf == "bias", name
            normal(tensor, 0.1)


def modules(model):
    """Every layer of both stacks, in order, under tonoscope's numbers: a snake belongs to the convolution after it."""
    encoder, decoder = model.encoder, model.decoder
    down = [encoder.conv1]
    for block in encoder.block:
        down += [*(getattr(block, unit) for unit in UNITS), block.conv1]
    up = [decoder.conv1]
    for block in decoder.block:
        up += [block.conv_t1, *(getattr(block, unit) for unit in UNITS)]
    stacks = {"encoder": [*down, encoder.conv2], "decoder": [*up, decoder.conv2]}
    return {f"{stack}.{index}": layer for stack, layers in stacks.items() for index, layer in enumerate(layers)}


def other_names(model):
    """Module of diffusers -> module of stable-audio-tools."""
    names, last = {}, len(RATIOS) + 1
    inside = ["snake1", "conv1", "snake2", "conv2"]
    for stack, first in [("encoder", 0), ("decoder", 2)]:
        names[f"{stack}.conv1"], names[f"{stack}.snake1"] = f"{stack}.layers.0", f"{stack}.layers.{last}"
        names[f"{stack}.conv2"] = f"{stack}.layers.{last + 1}"
        for block in range(len(RATIOS)):
            old, new = f"{stack}.block.{block}", f"{stack}.layers.{block + 1}.layers"
            for unit, name in enumerate(UNITS):
                for index, part in enumerate(inside):
                    names[f"{old}.{name}.{part}"] = f"{new}.{first + unit}.layers.{index}"
            snake, conv = (3, 4) if stack == "encoder" else (0, 1)
            names[f"{old}.snake1"] = f"{new}.{snake}"
            names[f"{old}.{'conv1' if stack == 'encoder' else 'conv_t1'}"] = f"{new}.{conv}"
    return names


def stable_audio_tools(model):
    """The same autoencoder there, and the configuration of a model that has it inside."""
    part = lambda channels, latent: dict(
        channels=channels, c_mults=MULTIPLES, strides=RATIOS, latent_dim=latent, use_snake=True
    )
    autoencoder = {
        "encoder": {"type": "oobleck", "requires_grad": False, "config": {"in_channels": 2, **part(6, 6)}},
        "decoder": {"type": "oobleck", "config": {"out_channels": 2, **part(5, 3), "final_tanh": False}},
        "bottleneck": {"type": "vae"}, "latent_dim": 3, "downsampling_ratio": math.prod(RATIOS), "io_channels": 2,
    }
    other = create_autoencoder_from_config({"sample_rate": 44100, "model": autoencoder}).eval()
    weights, names = {}, other_names(model)
    for name, tensor in model.state_dict().items():
        module, leaf = name.rsplit(".", 1)
        weights[f"{names[module]}.{leaf}"] = tensor.flatten() if leaf in ("alpha", "beta") else tensor
    other.load_state_dict(weights, strict=True)
    pretransform = {"type": "autoencoder", "iterate_batch": True, "config": autoencoder}
    config = {
        "model_type": "diffusion_cond", "sample_size": 2097152, "sample_rate": 44100, "audio_channels": 2,
        "model": {"pretransform": pretransform},
    }
    return other, config


def distance(got, want):
    return ((got.double() - want).abs().max() / want.abs().max()).item()


def main():
    model = AutoencoderOobleck(**CONFIG).eval()
    randomise(model, 11)
    generator = torch.Generator().manual_seed(12)
    latents = torch.randn(2, 3, 20, generator=generator)
    wave = 0.3 * torch.randn(1, 2, 20 * 32 + 7, generator=generator)
    with common.Recorder() as seen:
        for name, layer in modules(model).items():
            seen.output(layer, name)
        audio = model.decode(latents).sample
        latent = model.encode(wave).latent_dist
    tensors = {**seen.tensors, "latents": latents, "audio": audio, "wave": wave, "mean": latent.mean, "std": latent.std}
    assert 0.3 < audio.abs().max() < 3 and audio.std() > 0.1, (audio.abs().max(), audio.std())
    for name, tensor in seen.tensors.items():
        assert 0.1 < tensor.std() < 5, (name, tensor.std())

    other, config = stable_audio_tools(model)
    far = distance(other.decode(latents), audio.double())
    parameters = other.encoder(wave)
    far = max(far, distance(parameters, torch.cat([latent.mean, latent.scale], 1).double()))
    print(f"stable-audio-tools against diffusers: {far:.1e}", file=sys.stderr)
    assert far < 1e-6

    OUT.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, OUT / "model.safetensors")
    (OUT / "config.json").write_text(json.dumps({"_class_name": "AutoencoderOobleck", **CONFIG}, indent=2) + "\n")
    prefixed = {f"pretransform.model.{name}": tensor.contiguous() for name, tensor in other.state_dict().items()}
    save_file(prefixed, OUT / "stable_audio_tools.safetensors")
    (OUT / "model_config.json").write_text(json.dumps(config, indent=2) + "\n")
    common.save_expected(
        OUT / "expected.safetensors", tensors, __file__, library="diffusers", diffusers=version("diffusers"),
        stable_audio_tools=version("stable-audio-tools"), dtype="f32, CPU",
    )

    double = model.double()
    floor = {"audio": distance(audio, double.decode(latents.double()).sample)}
    floor["mean"] = distance(latent.mean, double.encode(wave.double()).latent_dist.mean)
    print({name: f"{value:.1e}" for name, value in floor.items()}, file=sys.stderr)


main()
