"""Tiny MusicGen checkpoints, mono and stereo, in Hugging Face layout, with every intermediate of one forward,
greedy generations, a continuation, and EnCodec both ways. Also the same T5 in folders of its own, whole and in shards.

Usage: python musicgen_tiny.py
Writes: fixtures/musicgen_tiny, fixtures/musicgen_tiny_stereo, fixtures/t5_tiny,
fixtures/t5_tiny_sharded
"""

import json
import shutil

import torch
from transformers import (
    EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, MusicgenForConditionalGeneration, T5Config, T5EncoderModel,
)

from common import (
    FIXTURES, MIN_GAP, PROMPTS, Recorder, generate, randomise, save_expected, save_tokenizer, tiny_tokenizer,
    tokenize, varied,
)

FRAMES = 20
PAD = 64


def t5_config():
    """Heads wider than d_model / heads, to catch who mixes the two up."""
    return T5Config(
        vocab_size=384, d_model=24, d_kv=16, d_ff=40, num_layers=2, num_decoder_layers=2, num_heads=2,
        relative_attention_num_buckets=32, relative_attention_max_distance=128, layer_norm_epsilon=1e-6,
        feed_forward_proj="relu", pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )


def encodec_config():
    """The switches of the real 32 kHz EnCodec; ratio 5 for the uneven padding; 800 frames a second."""
    return EncodecConfig(
        target_bandwidths=[19.2], sampling_rate=32000, audio_channels=1, normalize=False, chunk_length_s=None,
        overlap=None, hidden_size=16, num_filters=4, num_residual_layers=1, upsampling_ratios=[5, 4, 2],
        norm_type="weight_norm", kernel_size=7, last_kernel_size=7, residual_kernel_size=3, dilation_growth_rate=2,
        use_causal_conv=False, pad_mode="reflect", compress=2, num_lstm_layers=2, trim_right_ratio=1.0,
        codebook_size=64, codebook_dim=16, use_conv_shortcut=False,
    )


def build(channels, seed):
    """A MusicGen with random weights and the generation settings of the real checkpoints."""
    decoder = MusicgenDecoderConfig(
        vocab_size=64, max_position_embeddings=128, num_hidden_layers=3, ffn_dim=64, num_attention_heads=4,
        hidden_size=32, activation_function="gelu", num_codebooks=4 * channels, scale_embedding=False,
        audio_channels=channels, pad_token_id=PAD, bos_token_id=PAD,
    )
    config = MusicgenConfig(text_encoder=t5_config(), audio_encoder=encodec_config(), decoder=decoder)
    model = MusicgenForConditionalGeneration(config).eval()
    model.set_attn_implementation("eager")
    assert model.audio_encoder.config.num_quantizers == 4
    randomise(model, seed)
    settings = model.generation_config
    settings.do_sample, settings.guidance_scale, settings.max_length = True, 3.0, 1500
    settings.decoder_start_token_id = settings.pad_token_id = settings.bos_token_id = PAD
    settings.eos_token_id = None
    return model


def wave(channels, samples, seed):
    """Two tones and noise, [1, channels, samples]."""
    time = torch.arange(samples) / 32000
    tones = torch.stack([0.4 * torch.sin(6.2832 * f * time) + 0.2 * torch.sin(6.2832 * 3.1 * f * time)
                         for f in (440.0, 1900.0)[:channels]])
    noise = torch.randn(tones.shape, generator=torch.Generator().manual_seed(seed))
    return (tones + 0.1 * noise)[None]


def teacher_forced(model, ids, mask, tensors):
    """One forward over random codes: rows [cond 0, cond 1, uncond 0, uncond 1], codes in the delay pattern."""
    codebooks, channels, frames = model.decoder.num_codebooks, model.config.decoder.audio_channels, 3
    columns = frames + codebooks // channels
    codes = torch.randint(0, 64, (2, codebooks, columns), generator=torch.Generator().manual_seed(5))
    for codebook in range(codebooks):
        delay = codebook // channels
        for column in range(columns):
            if not delay < column <= delay + frames:
                codes[:, codebook, column] = PAD
    codes = codes.repeat(2, 1, 1)
    with Recorder() as recorder:
        recorder.t5(model.text_encoder.encoder)
        states = model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        recorder.musicgen_decoder(model.decoder)
        model(
            encoder_outputs=(torch.cat([states, torch.zeros_like(states)]),),
            attention_mask=torch.cat([mask, torch.zeros_like(mask)]),
            decoder_input_ids=codes.reshape(-1, columns),
        )
    tensors["decoder_input_ids"] = codes
    tensors.update(recorder.tensors)


def encodec(codec, tensors):
    """Decode random codes (13 frames, and 1, shorter than the padding) and encode audio of an uneven length."""
    codes = torch.randint(0, 64, (2, 4, 13), generator=torch.Generator().manual_seed(6))
    with Recorder() as recorder:
        for index, layer in enumerate(codec.decoder.layers):
            recorder.output(layer, f"encodec.decoder.{index}")
        recorder.put("encodec.codes_in", codes)
        recorder.put("encodec.audio", codec.decode(codes[None], [None]).audio_values)
    tensors.update(recorder.tensors)
    tensors["encodec.short_codes_in"] = codes[:1, :, :1]
    tensors["encodec.short_audio"] = codec.decode(codes[None, :1, :, :1], [None]).audio_values
    audio = torch.cat([wave(1, 517, 7), wave(2, 517, 8)[:, 1:]])
    with Recorder() as recorder:
        for index, layer in enumerate(codec.encoder.layers):
            recorder.output(layer, f"encodec.encoder.{index}")
        recorder.output(codec.encoder, "encodec.embeddings")
        recorder.put("encodec.wave_in", audio)
        recorder.put("encodec.codes_out", codec.encode(audio).audio_codes[0])
    tensors.update(recorder.tensors)
    return quantizer_gap(codec, tensors["encodec.embeddings"])


def quantizer_gap(codec, embeddings):
    """Smallest difference between the best two squared distances, over all codes and quantizers."""
    residual, gap = embeddings, float("inf")
    for layer in codec.quantizer.layers:
        distance = torch.cdist(residual.transpose(1, 2), layer.codebook.embed[None]) ** 2
        best = distance.topk(2, dim=-1, largest=False).values
        gap = min(gap, (best[..., 1] - best[..., 0]).min().item())
        residual = residual - layer.decode(layer.encode(residual))
    return gap


def attempt(channels, seed):
    """Model, tensors and notes of one seed; None where a greedy choice is too close to call or too dull."""
    model, tokenizer = build(channels, seed), tiny_tokenizer()
    assert tokenizer.get_vocab_size() <= model.config.text_encoder.vocab_size
    ids, mask = tokenize(tokenizer, PROMPTS)
    guided = generate(model, FRAMES, input_ids=ids, attention_mask=mask, guidance_scale=3.0)
    plain = generate(model, FRAMES, input_ids=ids, attention_mask=mask, guidance_scale=1.0)
    audio = wave(channels, 227, 9)
    first = ids[:1, : mask[0].sum()]
    left_right = [model.audio_encoder.encode(audio[:, c : c + 1]).audio_codes[0] for c in range(channels)]
    prompt = torch.stack(left_right, dim=2).flatten(1, 2)
    more = generate(
        model, prompt.shape[-1] + 10, prompt.shape[-1], input_ids=first, attention_mask=torch.ones_like(first),
        input_values=audio, guidance_scale=3.0,
    )
    assert torch.equal(more["codes"][..., : prompt.shape[-1]], prompt)
    gaps = {"greedy": guided["gap"], "greedy_g1": plain["gap"], "continue": more["gap"]}
    gaps["continue.encode"] = min(
        quantizer_gap(model.audio_encoder, model.audio_encoder.encoder(audio[:, c : c + 1])) for c in range(channels)
    )
    tensors = {
        "input_ids": ids, "attention_mask": mask, "greedy.codes": guided["codes"], "greedy.delayed": guided["delayed"],
        "greedy.audio": guided["audio"], "greedy.logits": guided["logits"], "greedy_g1.codes": plain["codes"],
        "continue.input_ids": first, "continue.audio_in": audio, "continue.prompt_codes": prompt,
        "continue.codes": more["codes"], "continue.audio": more["audio"],
    }
    gaps["encodec.encode"] = encodec(model.audio_encoder, tensors)
    dull = not (varied(guided["codes"]) and varied(plain["codes"]) and varied(more["codes"]))
    same = torch.equal(guided["codes"][0], guided["codes"][1]) or torch.equal(guided["codes"], plain["codes"])
    if min(gaps.values()) <= MIN_GAP or dull or same:
        print(f"seed {seed}: smallest gap {min(gaps.values()):.1e}, dull {dull}, same {same}")
        return None
    teacher_forced(model, ids, mask, tensors)
    return model, tokenizer, tensors, {"seed": seed, "prompts": PROMPTS, "min_gap": gaps}


def fresh(name):
    """An empty fixture folder."""
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write(channels, name):
    """Write one checkpoint with its expectations; returns the model."""
    seed = 1
    while (found := attempt(channels, seed)) is None:
        seed += 1
    model, tokenizer, tensors, notes = found
    folder = fresh(name)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    save_expected(folder / "expected.safetensors", tensors, __file__, **notes)
    again = MusicgenForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").state_dict()
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items()), "not what was saved"
    print(json.dumps(notes))
    return model


def main():
    """Mono, stereo, and the T5 of the mono model."""
    mono = write(1, "musicgen_tiny")
    write(2, "musicgen_tiny_stereo")
    for name, shard_size in [("t5_tiny", "1GB"), ("t5_tiny_sharded", "40KB")]:
        folder = fresh(name)
        T5EncoderModel.save_pretrained(mono.text_encoder, folder, max_shard_size=shard_size)
        save_tokenizer(tiny_tokenizer(), folder)
        for file in folder.glob("*.safetensors"):
            file.chmod(0o644)


if __name__ == "__main__":
    main()
