"""Two tiny random CLAPs, one for each front end, and every intermediate of both towers.

Usage: python clap_tiny.py
Writes: fixtures/clap_tiny (`rand_trunc`, folded spectrogram, text tower with padding), fixtures/clap_fused_tiny (`fusion`,
with a clip that is longer than the window)

Where transformers draws a crop at random, these fixtures take the first choice: the beginning of a long clip, and of each
third of it.
"""

import numpy as np
import torch
import torchaudio
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import ClapAudioConfig, ClapConfig, ClapFeatureExtractor, ClapModel, ClapTextConfig

from common import FIXTURES, Recorder, save_expected
from musicgen_tiny import fresh

SEED = 6
TEXTS = ["a dog", "a slow piano piece, recorded in a large hall"]


def audio_config(**changes):
    """Three stages of two blocks; the last stage is one window. The norms in the blocks have another epsilon than the others."""
    fields = dict(
        window_size=4, num_mel_bins=16, spec_size=64, hidden_size=32, depths=[2, 2, 2], num_attention_heads=[2, 4, 4],
        patch_embeds_hidden_size=8, layer_norm_eps=1e-3, hidden_dropout_prob=0.0, aff_block_r=2, num_hidden_layers=3,
    )
    return ClapAudioConfig(**{**fields, **changes})


def text_config(vocabulary):
    """Two layers over a byte-level vocabulary."""
    return ClapTextConfig(
        vocab_size=vocabulary, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=130, layer_norm_eps=1e-4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )


def byte_tokenizer():
    """A tokenizer.json of RoBERTa's kind: bytes and a few merges, `<s>` and `</s>` around the text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "a"), ("i", "n"), ("o", "r"), ("Ġ", "p"), ("o", "g"), ("in", "g"), ("d", "og")]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *alphabet, *(left + right for left, right in merges), "<mask>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in tokens if token.startswith("<") and len(token) > 1])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def randomise(model, seed):
    """Every parameter and floating-point buffer random, so that activations stay near 1 and inputs stay apart."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda tensor, std, mean=0.0: tensor.copy_(mean + std * torch.randn(tensor.shape, generator=generator))
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        leaf = name.rsplit(".", 1)[-1]
        is_first_norm = "audio_encoder.batch_norm" in name
        if not tensor.is_floating_point():
            continue
        if leaf == "running_mean":
            normal(tensor, 8.0 if is_first_norm else 0.3, -35.0 if is_first_norm else 0.0)
        elif leaf == "running_var":
            tensor.copy_((20.0**2 if is_first_norm else 1.0) * (0.5 + torch.rand(tensor.shape, generator=generator)))
        elif leaf.startswith("logit_scale"):
            normal(tensor, 0.1, 2.0)
        elif tensor.dim() < 2:
            # What all inputs have in common must not drown what sets them apart.
            is_last = "projection" in name or "audio_encoder.norm" in name or "pooler" in name
            normal(tensor, 0.05 if is_last else 0.2, 1.0 if leaf == "weight" else 0.0)
        elif leaf == "relative_position_bias_table" or "embeddings" in name:
            normal(tensor, 1.0)
        else:
            fan_in = tensor[0].numel()
            gain = 1.3
            if ".attention." in name:  # or all texts are what `<s>` is
                gain = 3.0 if "text_model" in name else 2.0
            normal(tensor, gain / fan_in**0.5)


def audio_points(recorder, model, inside):
    """Points of the audio tower, without those inside the blocks unless `inside`; tokens by row, then column."""
    encoder = model.audio_model.audio_encoder
    layer = 0
    for stage in encoder.layers:
        for index, block in enumerate(stage.blocks):
            at = f"encoder.{layer}"
            if index == 0:
                recorder.input(block, f"{at}.resid_pre")
            recorder.output(block, f"{at}.resid_post", lambda o: o[0])
            if inside:
                recorder.input(block.layernorm_after, f"{at}.resid_mid")
                recorder.output(block.output.dense, f"{at}.mlp_out")
            layer += 1
    recorder.output(encoder.patch_embed, "encoder.embed")
    recorder.output(encoder.norm, "encoder.final_norm")
    recorder.output(encoder.batch_norm, "audio.normalised", lambda x: x.transpose(1, 3))
    recorder.input(encoder.patch_embed, "audio.image")
    recorder.output(model.audio_model, "audio.pooled", lambda o: o.pooler_output)
    recorder.output(model.audio_projection, "audio.projected")


def text_points(recorder, model):
    """Every hook point of the text tower."""
    text = model.text_model
    heads = lambda x: x.view(*x.shape[:2], text.config.num_attention_heads, -1)
    recorder.output(text.embeddings, "text.encoder.embed")
    for index, layer in enumerate(text.encoder.layer):
        at = f"text.encoder.{index}"
        attention = getattr(layer.attention, "self")
        recorder.input(layer, f"{at}.resid_pre")
        for letter, name in [("q", "query"), ("k", "key"), ("v", "value")]:
            recorder.output(getattr(attention, name), f"{at}.self_attn.{letter}", heads)
        recorder.output(attention, f"{at}.self_attn.pattern", lambda o: o[1])
        recorder.input(layer.attention.output.dense, f"{at}.self_attn.z", heads)
        recorder.output(layer.attention.output.dense, f"{at}.self_attn_out")
        recorder.output(layer.attention, f"{at}.resid_mid")
        recorder.input(layer.intermediate, f"{at}.mlp_in")
        recorder.input(layer.output.dense, f"{at}.mlp_post")
        recorder.output(layer.output.dense, f"{at}.mlp_out")
        recorder.output(layer, f"{at}.resid_post")
    recorder.output(text.pooler, "text.pooled")
    recorder.output(model.text_projection, "text.projected")


def clip(seed, samples, rate):
    """Two moving tones over a little noise, with a silent tail."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / rate
    tones = 0.4 * np.sin(2 * np.pi * 330 * (1 + seed / 3) * t) + 0.2 * np.sin(2 * np.pi * 1500 * t * (1 + 0.3 * t))
    wave = tones + 0.02 * rng.standard_normal(samples)
    wave[int(samples * 0.9) :] = 0
    return wave.astype(np.float32)


def features_of(extractor, waves):
    """What the processor makes of the clips, with the first choice wherever it draws one."""
    np.random.choice, np.random.randint = (lambda options: options[0]), (lambda low, high: low)
    made = extractor([np.asarray(wave) for wave in waves], sampling_rate=extractor.sampling_rate, return_tensors="pt")
    return made["input_features"], made["is_longer"]


def resampled():
    """Sounds at other rates through torchaudio's filter, its kernel in 64 bit (`Resample`) and in 32 (`resample`)."""
    tensors = {}
    for rate, to in [(16000, 48000), (44100, 48000), (48000, 8000)]:
        wave = torch.tensor(clip(5, 400, rate))
        tensors[f"rate.{rate}.in"] = wave
        tensors[f"rate.{rate}.{to}"] = torchaudio.transforms.Resample(rate, to, dtype=torch.float64)(wave.double()).float()
        tensors[f"rate.{rate}.{to}.f32"] = torchaudio.functional.resample(wave, rate, to)
    return tensors


def spread(embeddings):
    """The largest cosine between two rows."""
    cosines = embeddings @ embeddings.T
    return cosines[~torch.eye(len(cosines), dtype=bool)].max().item()


def audio_side(name, model, extractor, waves):
    """Both front end and audio tower of one model."""
    mel, longer = features_of(extractor, waves)
    tensors = {f"wave.{index}": torch.tensor(wave) for index, wave in enumerate(waves)}
    tensors["audio.mel"], tensors["audio.is_longer"] = mel.float(), longer.long()
    with Recorder() as recorder:
        audio_points(recorder, model, inside=extractor.truncation == "rand_trunc")
        tensors["audio.embedding"] = model.get_audio_features(input_features=mel.float(), is_longer=longer).pooler_output
    tensors.update(recorder.tensors)
    double = model.double().get_audio_features(input_features=mel.double(), is_longer=longer).pooler_output
    model.float()
    floor = ((double - tensors["audio.embedding"]).abs().max() / double.abs().max()).item()
    print(f"{name}: audio rows at most {spread(tensors['audio.embedding']):.2f} alike, 32 bit against 64: {floor:.1e}")
    return tensors


def save(name, model, extractor, tokenizer, tensors, **notes):
    """The folder as transformers writes it, and the expectations."""
    folder = fresh(name)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    # One file with the front end, as published folders have it.
    processor = folder / "processor_config.json"
    assert (folder / "preprocessor_config.json").exists() and not processor.exists()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_expected(folder / "expected.safetensors", tensors, __file__, seed=SEED, **notes)
    return folder


def build(audio, tokenizer):
    """A random model of this shape."""
    text = text_config(tokenizer.get_vocab_size())
    config = ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=24)
    model = ClapModel(config).eval()
    model.set_attn_implementation("eager")
    randomise(model, SEED)
    return model


def main():
    """Write both checkpoints and their expectations."""
    tokenizer = byte_tokenizer()
    model = build(audio_config(), tokenizer)
    common = dict(sampling_rate=8000, max_length_s=1, frequency_min=50, frequency_max=3600, padding="repeatpad")
    extractor = ClapFeatureExtractor(
        feature_size=16, hop_length=32, fft_window_size=128, truncation="rand_trunc", **common
    )
    # Repeated twice and filled with silence, and cut.
    tensors = audio_side("clap_tiny", model, extractor, [clip(0, 3100, 8000), clip(1, 9000, 8000)])
    rows = [tokenizer.encode(text).ids for text in TEXTS]
    width = max(map(len, rows))
    ids = torch.tensor([row + [1] * (width - len(row)) for row in rows])
    mask = (ids != 1).long()
    with Recorder() as recorder:
        text_points(recorder, model)
        tensors["text.embedding"] = model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    tensors.update(recorder.tensors)
    tensors["text.ids"] = ids
    print(f"clap_tiny: texts {spread(tensors['text.embedding']):.2f} alike")
    joint = model(input_ids=ids, attention_mask=mask, input_features=tensors["audio.mel"], is_longer=None)
    tensors["logits_per_audio"] = joint.logits_per_audio
    tensors.update(resampled())
    folder = save("clap_tiny", model, extractor, tokenizer, tensors, texts=TEXTS)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")

    model = build(audio_config(num_mel_bins=64, enable_fusion=True), tokenizer)
    extractor = ClapFeatureExtractor(
        feature_size=64, hop_length=128, fft_window_size=512, truncation="fusion", **common
    )
    # Short, long, and longer than the window by less than one frame.
    waves = [clip(2, 3100, 8000), clip(3, 17000, 8000), clip(4, 8050, 8000)]
    tensors = audio_side("clap_fused_tiny", model, extractor, waves)
    assert tensors["audio.is_longer"].flatten().tolist() == [0, 1, 0]
    # Repeated beyond the end and cut, and filled with silence alone.
    for padding in ["repeat", "pad"]:
        extractor.padding = padding
        tensors[f"mel.{padding}"] = features_of(extractor, [waves[0], waves[1]])[0][:1, :1].float()
    extractor.padding = "repeatpad"
    save("clap_fused_tiny", model, extractor, tokenizer, tensors)


if __name__ == "__main__":
    main()
