"""A Stable Audio of real size with random weights in diffusers' layout, with the conditions of a prompt and one guided
denoised estimate, and the autoencoder both ways in 64 bits, for `just parity-stable-audio DIR`.

The T5 has the real width and depth but the tiny vocabulary of `t5_tiny`'s tokenizer; everything else is stable-audio-open-1.0.

Usage: python stable_audio_real.py DIR [LATENTS...]   (latents to record a step of: 216 unless given; 1024 takes a minute)
Writes: DIR (5 GB): transformer/ vae/ projection_model/ text_encoder/ tokenizer/ scheduler/ expected.safetensors
"""

import json
import math
import sys
import time
from pathlib import Path

import diffusers
import torch
from diffusers import (
    AutoencoderOobleck, CosineDPMSolverMultistepScheduler, StableAudioDiTModel, StableAudioProjectionModel,
)
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from transformers import T5Config, T5EncoderModel

from common import PROMPTS, save_expected, save_tokenizer, tiny_tokenizer
from stable_audio_common import guided, randomise

TOKENS, SIGMA, GUIDANCE = 128, 3.7, 6.0
VAE_LATENTS = 16  # a third of a second


def build_text():
    """T5-base over the tiny vocabulary; its own initial values, which keep a deep encoder near 1."""
    torch.manual_seed(3)
    return T5EncoderModel(T5Config(
        vocab_size=384, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_decoder_layers=12, num_heads=12,
        relative_attention_num_buckets=32, relative_attention_max_distance=128, layer_norm_epsilon=1e-6,
        feed_forward_proj="relu", pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )).eval()


def both_ways(vae):
    """Audio of some latents, and the latents of that audio, in 64 bits; how far 32 bits are from it, in its largest value.

    With random weights a snake of a snake of a snake makes much of little: 64 bits say what 32 can be held to.
    """
    latents = torch.randn(1, 64, VAE_LATENTS, generator=torch.Generator().manual_seed(65))
    audio = vae.decode(latents).sample
    narrow = {"vae.audio": audio, "vae.mean": vae.encode(audio).latent_dist.mean}
    vae.double()
    wide = {"vae.audio": vae.decode(latents.double()).sample, "vae.mean": vae.encode(audio.double()).latent_dist.mean}
    errors = {name: ((narrow[name] - wide[name]).abs().max() / wide[name].abs().max()).item() for name in wide}
    print(f"32 bits: {errors}", file=sys.stderr)
    return {"vae.latents": latents, "vae.wave": audio} | {name: value.float() for name, value in wide.items()}, errors


def main():
    """Build part after part, keep only what the step needs."""
    folder = Path(sys.argv[1])
    lengths = [int(argument) for argument in sys.argv[2:]] or [216]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer").mkdir(exist_ok=True)
    tokenizer = tiny_tokenizer()
    save_tokenizer(tokenizer, folder / "tokenizer")
    path = folder / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": TOKENS}, indent=2) + "\n")
    CosineDPMSolverMultistepScheduler(
        sigma_min=0.3, sigma_max=500, sigma_data=1.0, sigma_schedule="exponential", num_train_timesteps=1000,
        solver_order=2, prediction_type="v_prediction", solver_type="midpoint",
    ).save_pretrained(folder / "scheduler")
    vae = AutoencoderOobleck(
        encoder_hidden_size=128, downsampling_ratios=[2, 4, 4, 8, 8], channel_multiples=[1, 2, 4, 8, 16],
        decoder_channels=128, decoder_input_channels=64, audio_channels=2, sampling_rate=44100).eval()
    randomise(vae, 61, rounded=False)
    vae.save_pretrained(folder / "vae")
    tensors, vae_errors = both_ways(vae)
    del vae
    projection = StableAudioProjectionModel(text_encoder_dim=768, conditioning_dim=768, min_value=0, max_value=512).eval()
    randomise(projection, 62, rounded=False)
    projection.save_pretrained(folder / "projection_model")
    text = build_text()
    text.save_pretrained(folder / "text_encoder")
    ids = tokenizer.encode(PROMPTS[1]).ids
    padded = torch.tensor([ids + [0] * (TOKENS - len(ids))])
    mask = (torch.arange(TOKENS) < len(ids)).long()[None]
    states = text(padded, attention_mask=mask)[0] * mask[..., None]
    del text
    output = projection(start_seconds=torch.tensor([0.0]), end_seconds=torch.tensor([10.0]))
    start, end = output.seconds_start_hidden_states, output.seconds_end_hidden_states
    cross, duration = torch.cat([states, start, end], dim=1), torch.cat([start, end], dim=2)
    tensors |= {"cond.cross": cross, "cond.global": duration}
    transformer = StableAudioDiTModel(
        sample_size=1024, in_channels=64, num_layers=24, attention_head_dim=64, num_attention_heads=24,
        num_key_value_attention_heads=12, out_channels=64, cross_attention_dim=768, time_proj_dim=256,
        global_states_input_dim=1536, cross_attention_input_dim=768).eval()
    randomise(transformer, 63, rounded=False)
    transformer.save_pretrained(folder / "transformer", max_shard_size="10GB")
    sigma = torch.tensor([SIGMA])
    seconds = {}
    for length in lengths:
        x = torch.randn(1, 64, length, generator=torch.Generator().manual_seed(64)) * math.sqrt(1 + SIGMA**2)
        rotary = get_1d_rotary_pos_embed(32, length + 1, use_real=True, repeat_interleave_real=False)
        begin, cpu = time.time(), time.process_time()
        both = transformer(
            (x / torch.sqrt(1 + sigma**2)).repeat(2, 1, 1), (torch.atan(sigma) * 2 / math.pi).repeat(2),
            encoder_hidden_states=torch.cat([cross, torch.zeros_like(cross)]),
            global_hidden_states=duration.repeat(2, 1, 1), rotary_embedding=rotary, return_dict=False)[0]
        seconds[length] = [round(time.time() - begin, 2), round(time.process_time() - cpu, 2)]
        print(f"{length} latents: {seconds[length][0]} s, {seconds[length][1]} CPU-s", file=sys.stderr)
        velocity = guided(*both.chunk(2), GUIDANCE, 0.0)
        tensors[f"{length}.x"] = x
        tensors[f"{length}.x0"] = x / (1 + sigma**2) - sigma / torch.sqrt(1 + sigma**2) * velocity
    save_expected(folder / "expected.safetensors", tensors, __file__, diffusers=diffusers.__version__, ids=ids,
                  seconds=seconds, guidance=GUIDANCE, sigma=SIGMA, vae_errors=vae_errors)


if __name__ == "__main__":
    main()
