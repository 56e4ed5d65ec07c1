"""A tiny Stable Audio in stable-audio-tools' layout (model_config.json, model.safetensors; the T5 lies in t5_tiny),
with what stable-audio-tools itself makes of it: conditioning, denoised estimates, and its own `sample_k`. diffusers,
given the same weights under its own names, must agree within 1e-5.

Usage: python stable_audio_tiny_sat.py   (after musicgen_tiny.py)
Writes: fixtures/stable_audio_tiny_sat; fixtures/stable_audio_tiny_ckpt, the same as a pickle (model.ckpt)
"""

import json
import math
import shutil
import warnings

import fakemods  # noqa: F401  (before stable_audio_tools)
import diffusers
import torch
from diffusers import StableAudioDiTModel
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from safetensors.torch import save_file
from transformers import AutoTokenizer, PreTrainedTokenizerFast, T5EncoderModel

from common import FIXTURES, PROMPTS, save_expected, tiny_tokenizer
from stable_audio_common import NEGATIVE, SECONDS, RecordedNoise, close, randomise

warnings.simplefilter("ignore")

TOKENS, LATENTS, LENGTH, STEPS = 33, 12, 7, 5
GUIDANCE, RESCALE, SIGMA = 6.0, 0.7, 3.7
WIDTH, HEADS, LAYERS, COND = 128, 4, 2, 64  # heads of 32: stable-audio-tools turns max(32, half of them), so all of it

CONFIG = {
    "model_type": "diffusion_cond", "sample_size": LATENTS * 8, "sample_rate": 44100, "audio_channels": 2,
    "model": {
        "pretransform": {
            "type": "autoencoder", "iterate_batch": True,
            "config": {
                "encoder": {
                    "type": "oobleck", "requires_grad": False,
                    "config": {"in_channels": 2, "channels": 12, "c_mults": [1, 2], "strides": [2, 4],
                               "latent_dim": 12, "use_snake": True},
                },
                "decoder": {
                    "type": "oobleck",
                    "config": {"out_channels": 2, "channels": 8, "c_mults": [1, 2], "strides": [2, 4],
                               "latent_dim": 6, "use_snake": True, "final_tanh": False},
                },
                "bottleneck": {"type": "vae"}, "latent_dim": 6, "downsampling_ratio": 8, "io_channels": 2,
            },
        },
        "conditioning": {
            "configs": [
                {"id": "prompt", "type": "t5", "config": {"t5_model_name": "t5-base", "max_length": TOKENS}},
                {"id": "seconds_start", "type": "number", "config": {"min_val": 0, "max_val": 512}},
                {"id": "seconds_total", "type": "number", "config": {"min_val": 0, "max_val": 512}},
            ],
            "cond_dim": COND,
        },
        "diffusion": {
            "cross_attention_cond_ids": ["prompt", "seconds_start", "seconds_total"],
            "global_cond_ids": ["seconds_start", "seconds_total"], "type": "dit",
            "config": {
                "io_channels": 6, "embed_dim": WIDTH, "depth": LAYERS, "num_heads": HEADS, "cond_token_dim": COND,
                "global_cond_dim": 2 * COND, "project_cond_tokens": False, "transformer_type": "continuous_transformer",
                "ff_kwargs": {"mult": 1},
            },
        },
        "io_channels": 6,
    },
    "training": {"use_ema": True, "demo": {"demo_every": 2000}},
}


def build():
    """stable-audio-tools' own model; its T5 is the one of t5_tiny, in 32 bits."""
    import stable_audio_tools.models.conditioners as conditioners
    from stable_audio_tools.models.factory import create_model_from_config

    text = FIXTURES / "t5_tiny"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer(), pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    encoder = T5EncoderModel.from_pretrained(text, attn_implementation="eager")
    encoder.to = lambda *arguments, **keywords: encoder  # it would be put into 16 bits
    AutoTokenizer.from_pretrained = staticmethod(lambda name: tokenizer)
    T5EncoderModel.from_pretrained = staticmethod(lambda name: encoder)
    conditioners.T5Conditioner.T5_MODEL_DIMS["t5-base"] = encoder.config.d_model
    model = create_model_from_config(CONFIG).eval()
    randomise(model, 50)
    return model


def dit_name(name):
    """The name in diffusers of a tensor of stable-audio-tools' transformer."""
    for old, new in [
        ("transformer.layers.", "transformer_blocks."), ("transformer.project_in", "proj_in"),
        ("transformer.project_out", "proj_out"), ("to_timestep_embed", "timestep_proj"),
        ("timestep_features", "time_proj"), ("to_global_embed", "global_proj"),
        ("to_cond_embed", "cross_attention_proj"), ("pre_norm", "norm1"), ("cross_attend_norm", "norm2"),
        ("ff_norm", "norm3"), (".gamma", ".weight"), (".beta", ".bias"), ("self_attn", "attn1"),
        ("cross_attn", "attn2"), ("ff.ff.0", "ff.net.0"), ("ff.ff.2", "ff.net.2"), ("to_out.weight", "to_out.0.weight"),
    ]:
        name = name.replace(old, new)
    return name


def diffusers_transformer(model):
    """diffusers' transformer with the weights of `model`."""
    transformer = StableAudioDiTModel(
        sample_size=LATENTS, in_channels=6, num_layers=LAYERS, attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS, num_key_value_attention_heads=COND // (WIDTH // HEADS), out_channels=6,
        cross_attention_dim=COND, time_proj_dim=256, global_states_input_dim=2 * COND, cross_attention_input_dim=COND,
    ).eval()
    for block in transformer.transformer_blocks:  # its constructor does not take the width of the MLP
        block.ff.net[0].proj = torch.nn.Linear(WIDTH, 2 * WIDTH)
        block.ff.net[2] = torch.nn.Linear(WIDTH, WIDTH)
    state = {}
    for name, value in model.model.model.state_dict().items():
        if "rotary_pos_emb" in name:
            continue
        name = dit_name(name)
        parts = {"to_qkv": "qkv", "to_kv": "kv"}
        joined = next((part for part in parts if part in name), None)
        if joined:
            for letter, part in zip(parts[joined], value.chunk(len(parts[joined]))):
                state[name.replace(joined, f"to_{letter}")] = part
        else:
            state[name] = value[:, 0] if name == "time_proj.weight" else value
    transformer.load_state_dict(state)
    return transformer


def check_against_diffusers(model, x, sigma, conditions, output):
    """The same step by diffusers; its autoencoder is checked where Oobleck is."""
    transformer = diffusers_transformer(model)
    cross = torch.cat([conditions["cross_attn_cond"], torch.zeros_like(conditions["cross_attn_cond"])])
    rotary = get_1d_rotary_pos_embed(32, LENGTH + 1, use_real=True, repeat_interleave_real=False)
    scaled = (x / torch.sqrt(1 + sigma**2)).repeat(2, 1, 1)
    got = transformer(
        scaled, (torch.atan(sigma) * 2 / math.pi).repeat(4), encoder_hidden_states=cross,
        global_hidden_states=conditions["global_cond"].repeat(2, 1)[:, None], rotary_embedding=rotary,
        return_dict=False)[0]
    cond, uncond = got.chunk(2)
    close("diffusers' transformer", uncond + GUIDANCE * (cond - uncond), output)


def main():
    """Build, record, write."""
    from stable_audio_tools.inference import sampling

    torch.manual_seed(0)
    model = build()
    folder, pickled = FIXTURES / "stable_audio_tiny_sat", FIXTURES / "stable_audio_tiny_ckpt"
    for place in [folder, pickled]:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (place / "model_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    torch.save({"state_dict": state}, pickled / "model.ckpt")

    metadata = [{"prompt": prompt, "seconds_start": start, "seconds_total": total}
                for prompt, (start, total) in zip(PROMPTS, SECONDS)]
    conditions = model.get_conditioning_inputs(model.conditioner(metadata, "cpu"))
    unwanted = model.get_conditioning_inputs(
        model.conditioner([row | {"prompt": NEGATIVE} for row in metadata], "cpu"), negative=True)
    tensors = {"cond.cross": conditions["cross_attn_cond"], "cond.global": conditions["global_cond"][:, None],
               "cond.negative": unwanted["negative_cross_attn_cond"]}
    generator = torch.Generator().manual_seed(9)
    sigma = torch.tensor([SIGMA])
    x = torch.randn(2, 6, LENGTH, generator=generator) * math.sqrt(1 + SIGMA**2)
    tensors["step.x"] = x
    scaled, time = x / torch.sqrt(1 + sigma**2), (torch.atan(sigma) * 2 / math.pi).repeat(2)
    denoised = lambda output: x / (1 + sigma**2) - sigma / torch.sqrt(1 + sigma**2) * output
    plain = model.model(scaled, time, **conditions, cfg_scale=GUIDANCE)
    check_against_diffusers(model, x, sigma, conditions, plain)
    tensors["step.x0"] = denoised(plain)
    tensors["step.x0_rescale"] = denoised(
        model.model(scaled, time, **conditions, cfg_scale=GUIDANCE, scale_phi=RESCALE))
    tensors["step.x0_negative"] = denoised(model.model(scaled, time, **conditions, **unwanted, cfg_scale=GUIDANCE))
    tensors["step.x0_unguided"] = denoised(model.model(scaled, time, **conditions, cfg_scale=1.0))

    initial = torch.randn(2, 6, LENGTH, generator=generator)
    steps = torch.randn(STEPS, 2, 6, LENGTH, generator=generator)
    tensors["noise.initial"], tensors["noise.steps"] = initial, steps
    sampling.K.sampling.BrownianTreeNoiseSampler = lambda *_, **__: RecordedNoise(steps)
    for kind in ["dpmpp-2m-sde", "dpmpp-3m-sde", "dpmpp-2m"]:
        seen = []
        end = sampling.sample_k(
            model.model, initial, None, STEPS, kind, 0.3, 500, 1.0, "cpu", callback=lambda step: seen.append(step["x"]),
            cfg_scale=GUIDANCE, batch_cfg=True, rescale_cfg=True, **conditions)
        name = kind.removeprefix("dpmpp-").replace("-", "_")
        tensors[f"run.{name}.x"], tensors[f"run.{name}.end"] = torch.stack(seen), end
    tensors["run.2m_sde.audio"] = model.pretransform.decode(tensors["run.2m_sde.end"])
    save_expected(
        folder / "expected.safetensors", tensors, __file__, stable_audio_tools="0.0.19",
        diffusers=diffusers.__version__, prompts=PROMPTS, negative=NEGATIVE, seconds=SECONDS, sigma=SIGMA,
        guidance=GUIDANCE, rescale=RESCALE, steps=STEPS, sigma_min=0.3, sigma_max=500.0,
    )


if __name__ == "__main__":
    main()
