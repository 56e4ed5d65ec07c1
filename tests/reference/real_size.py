"""A MusicGen-small of real size with random weights, and the greedy codes that transformers gives for it.

Usage: python real_size.py OUT --tokenizer shared/data/t5_tokenizer.json [--frames 200] [--prompt TEXT ...]
Writes a Hugging Face folder (2.4 GB) and OUT/expected.safetensors: `input_ids`, `attention_mask`, `greedy.codes`,
`greedy.gaps` (distance of the two largest guided logits; 1e30 where the delay pattern forces the token) and
`greedy.audio`. Nothing of it is committed. Needs about 6 GB of memory; 200 frames take a minute or two.
"""

import argparse
import math
import shutil
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, MusicgenForConditionalGeneration, T5Config

from common import generate, randomise, save_expected, tokenize

DEFAULT_PROMPT = "Compose a happy rock piece, with a guitar melody. Use a fast tempo."


def small_config():
    """The sizes of facebook/musicgen-small."""
    text = T5Config(
        vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_decoder_layers=12, num_heads=12,
        relative_attention_num_buckets=32, relative_attention_max_distance=128, layer_norm_epsilon=1e-6,
        feed_forward_proj="relu", pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )
    codec = EncodecConfig(
        target_bandwidths=[2.2], sampling_rate=32000, audio_channels=1, normalize=False, chunk_length_s=None,
        overlap=None, hidden_size=128, num_filters=64, num_residual_layers=1, upsampling_ratios=[8, 5, 4, 4],
        norm_type="weight_norm", kernel_size=7, last_kernel_size=7, residual_kernel_size=3, dilation_growth_rate=2,
        use_causal_conv=False, pad_mode="reflect", compress=2, num_lstm_layers=2, trim_right_ratio=1.0,
        codebook_size=2048, codebook_dim=128, use_conv_shortcut=False,
    )
    decoder = MusicgenDecoderConfig(
        vocab_size=2048, max_position_embeddings=2048, num_hidden_layers=24, ffn_dim=4096, num_attention_heads=16,
        hidden_size=1024, activation_function="gelu", num_codebooks=4, scale_embedding=False, audio_channels=1,
        pad_token_id=2048, bos_token_id=2048,
    )
    return MusicgenConfig(text_encoder=text, audio_encoder=codec, decoder=decoder)


def small_model():
    """The model with transformers' own random start and the generation settings of the real checkpoint."""
    model = MusicgenForConditionalGeneration(small_config()).eval()
    settings = model.generation_config
    settings.do_sample, settings.guidance_scale, settings.max_length = True, 3.0, 1500
    settings.decoder_start_token_id = settings.pad_token_id = settings.bos_token_id = 2048
    settings.eos_token_id = None
    return model


def enliven(model):
    """Keep 24 random layers from settling on one code: codes weigh more, the text, constant in time, less."""
    decoder = model.decoder.model.decoder
    for table in decoder.embed_tokens:
        table.weight.mul_(4.0)
    for layer in decoder.layers:
        layer.encoder_attn.out_proj.weight.mul_(0.3)


def main():
    """Build, save, generate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, help="the real T5 tokenizer.json")
    parser.add_argument("--frames", type=int, default=200, help="frames to generate, 50 a second")
    parser.add_argument("--prompt", action="append", help="may be given several times")
    parser.add_argument("--shard-size", default="50GB", help="largest file, to get a sharded folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prompts = arguments.prompt or [DEFAULT_PROMPT]

    model = small_model()
    model.set_attn_implementation("eager")
    randomise(model, arguments.seed)
    enliven(model)
    arguments.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(arguments.out, max_shard_size=arguments.shard_size)
    shutil.copyfile(arguments.tokenizer, arguments.out / "tokenizer.json")

    ids, mask = tokenize(Tokenizer.from_file(str(arguments.tokenizer)), prompts)
    made = generate(model, arguments.frames, input_ids=ids, attention_mask=mask, guidance_scale=3.0)
    distinct = [len(set(line.tolist())) for row in made["codes"] for line in row]
    print(f"smallest gap {made['gap']:.2e}, distinct codes per codebook {distinct}", file=sys.stderr)
    if min(distinct) < min(5, math.ceil(arguments.frames / 4)):
        sys.exit("the codes hardly vary: try another --seed")
    tensors = {"input_ids": ids, "attention_mask": mask}
    tensors.update({f"greedy.{key}": made[key] for key in ("codes", "gaps", "audio")})
    tensors["greedy.gaps"] = tensors["greedy.gaps"].clamp(max=1e30)
    save_expected(
        arguments.out / "expected.safetensors", tensors, __file__, prompts=prompts, seed=arguments.seed,
        frames=arguments.frames, guidance=3.0, min_gap={"greedy": made["gap"]},
    )


if __name__ == "__main__":
    main()
