"""A CLAP of `larger_clap_general`'s real size with random weights, and the vectors that transformers gives for it.

Usage: python clap_real.py OUT [--clips 8] [--repeat 3]
Writes a Hugging Face folder (780 MB) and OUT/expected.safetensors: `waves` (10 s at 48 kHz), `audio.embedding`,
`text.ids` (as floats), `text.embedding`. Prints the CPU seconds of front end and audio tower. Nothing of it is committed.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import ClapAudioConfig, ClapConfig, ClapFeatureExtractor, ClapModel, ClapTextConfig

from clap_tiny import byte_tokenizer, randomise, spread
from common import save_expected


def general_config():
    """The sizes of laion/larger_clap_general."""
    audio = ClapAudioConfig(hidden_size=1024, depths=[2, 2, 12, 2], patch_embeds_hidden_size=128)
    return ClapConfig(text_config=ClapTextConfig().to_dict(), audio_config=audio.to_dict(), projection_dim=512)


def main():
    """Build, save, embed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3, help="how often the time is taken")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    model = ClapModel(general_config()).eval()
    model.set_attn_implementation("eager")
    randomise(model, arguments.seed)
    extractor = ClapFeatureExtractor(frequency_min=50, frequency_max=14000, truncation="rand_trunc")
    arguments.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(arguments.out)
    extractor.save_pretrained(arguments.out)
    # The real tokenizer is not at hand; its vocabulary only has to lie within the model's.
    byte_tokenizer().save(str(arguments.out / "tokenizer.json"))

    rng = np.random.default_rng(arguments.seed)
    t = np.arange(480000) / 48000
    waves = [
        (0.3 * np.sin(2 * np.pi * 110 * (clip + 1) * t) * (np.sin(2 * np.pi * t) > 0) + 0.1 * rng.standard_normal(480000))
        for clip in range(arguments.clips)
    ]
    waves = [wave.astype(np.float32) for wave in waves]
    for _ in range(arguments.repeat):
        started, wall = time.process_time(), time.perf_counter()
        features = extractor(waves, sampling_rate=48000, return_tensors="pt")["input_features"].float()
        heard = time.process_time()
        audio = model.get_audio_features(input_features=features).pooler_output
        cpu = time.process_time() - started
        print(f"{len(waves)} clips: front end {heard - started:.2f}, all {cpu:.2f} CPU-s, {time.perf_counter() - wall:.2f} s", file=sys.stderr)
    ids = torch.tensor([[0, 100, 2335, 40000, 5, 2] + [1] * 4, [0, 8669, 12, 999, 31, 77, 4000, 20, 9, 2]])
    text = model.get_text_features(input_ids=ids, attention_mask=(ids != 1).long()).pooler_output
    print(f"at most {spread(audio):.2f} and {spread(text):.2f} alike", file=sys.stderr)
    tensors = {
        "waves": torch.tensor(np.stack(waves)), "audio.embedding": audio, "text.ids": ids.float(), "text.embedding": text,
    }
    save_expected(arguments.out / "expected.safetensors", tensors, __file__, seed=arguments.seed)


if __name__ == "__main__":
    main()
