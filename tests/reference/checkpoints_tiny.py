"""Checkpoints as other programs write them, around the weights of the other fixtures.

`LoRA` adapters of musicgen_tiny in PEFT's files, with the logits of the merged model: `W + s B A` is computed here as
PEFT's `LoraLayer.get_delta_weight` does, `s` being alpha / r, or alpha / sqrt(r) with `use_rslora`. The codec of
musicgen_tiny with zeros beyond its ends. clap_tiny under the names of laion_clap, whose conversion is that of
transformers, `convert_clap_original_pytorch_to_hf.py`. passt_tiny as PyTorch Lightning saves a training. t5_tiny as shards of
pickles. The codec of musicgen_tiny_audiocraft with the interpolations that Hydra leaves in `xp.cfg`, and one that is only
named. A pickle that is larger in memory than any model.

Usage: python checkpoints_tiny.py   (after musicgen_tiny_audiocraft.py, clap_tiny.py and passt_tiny.py)
Writes: fixtures/checkpoints_tiny
"""

import json
import math
import re

import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from transformers import EncodecModel, MusicgenForConditionalGeneration

from common import FIXTURES, save_expected
from musicgen_tiny import fresh

DECODER = "decoder.model.decoder."
ADAPTED = [f"{DECODER}layers.{layer}.{name}" for layer in range(3) for name in ("self_attn.q_proj", "encoder_attn.v_proj", "fc1")]
ADAPTED += ["text_encoder.encoder.block.1.layer.0.SelfAttention.k"]
EMBEDDED = [f"{DECODER}embed_tokens.0", f"{DECODER}embed_tokens.3"]
RANK, ALPHA, PATTERN = 4, 6, {"fc1": 20}


def adapter(model, folder, rslora, seed):
    """Write an adapter with random parts; the merged weights by name."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: 0.3 * torch.randn(shape, generator=generator)
    weights, merged = {}, {}
    parameters = dict(model.named_parameters())
    for module in ADAPTED + EMBEDDED:
        weight = parameters[f"{module}.weight"]
        alpha = next((value for end, value in PATTERN.items() if module.endswith(f".{end}")), ALPHA)
        scale = alpha / math.sqrt(RANK) if rslora else alpha / RANK
        if module in EMBEDDED:
            down, up = draw(RANK, weight.shape[0]), draw(weight.shape[1], RANK)
            weights[f"base_model.model.{module}.lora_embedding_A"] = down
            weights[f"base_model.model.{module}.lora_embedding_B"] = up
            merged[f"{module}.weight"] = weight + scale * (up @ down).T
        else:
            down, up = draw(RANK, weight.shape[1]), draw(weight.shape[0], RANK)
            weights[f"base_model.model.{module}.lora_A.weight"] = down
            weights[f"base_model.model.{module}.lora_B.weight"] = up
            merged[f"{module}.weight"] = weight + scale * (up @ down)
    saved = parameters["enc_to_dec_proj.weight"] + draw(*parameters["enc_to_dec_proj.weight"].shape)
    weights["base_model.model.enc_to_dec_proj.weight"] = merged["enc_to_dec_proj.weight"] = saved
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "adapter_model.safetensors")
    config = {
        "alpha_pattern": PATTERN, "auto_mapping": None, "base_model_name_or_path": "musicgen_tiny", "bias": "none",
        "fan_in_fan_out": False, "inference_mode": True, "layer_replication": None, "lora_alpha": ALPHA,
        "lora_dropout": 0.05, "modules_to_save": ["enc_to_dec_proj"], "peft_type": "LORA", "r": RANK,
        "rank_pattern": {}, "target_modules": ["q_proj", "v_proj", "fc1", "k", "embed_tokens"], "task_type": None,
        "use_dora": False, "use_rslora": rslora,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return merged


def logits(model, expected, merged):
    """Logits over the codes of musicgen_tiny with other weights: [row, codebook, column, token]."""
    model.load_state_dict(merged, strict=False)
    ids, mask, codes = expected["input_ids"], expected["attention_mask"], expected["decoder_input_ids"]
    states = model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    rows, codebooks, columns = codes.shape
    out = model(
        encoder_outputs=(torch.cat([states, torch.zeros_like(states)]),),
        attention_mask=torch.cat([mask, torch.zeros_like(mask)]), decoder_input_ids=codes.reshape(-1, columns),
    ).logits
    return out.reshape(rows, codebooks, columns, -1)


def padded_codec(model, expected, tensors):
    """The same codec, with zeros in place of mirror images."""
    config = model.audio_encoder.config
    config.pad_mode = "constant"
    codec = EncodecModel(config).eval()
    codec.load_state_dict(model.audio_encoder.state_dict())
    tensors["padded.audio"] = codec.decode(expected["encodec.codes_in"][None], [None]).audio_values
    tensors["padded.short_audio"] = codec.decode(expected["encodec.short_codes_in"][None], [None]).audio_values
    tensors["padded.embeddings"] = codec.encoder(expected["encodec.wave_in"])


def laion_names(state):
    """transformers' names of a CLAP as laion_clap has them, with tensors that only laion_clap has."""
    result, joined = {}, {}
    for name, value in state.items():
        if name.startswith("audio_model.audio_encoder."):
            new = "audio_branch." + name.removeprefix("audio_model.audio_encoder.")
            for old, to in [
                ("batch_norm.", "bn0."), ("attention.output.dense", "attn.proj"), ("attention.self.", "attn."),
                ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2"), ("layernorm_before", "norm1"),
                ("layernorm_after", "norm2"),
            ]:
                new = new.replace(old, to)
            part = re.match(r"(.*\.attn\.)(query|key|value)\.(weight|bias)$", new)
            if part:
                joined.setdefault(f"{part[1]}qkv.{part[3]}", {})[part[2]] = value
                continue
        elif name.startswith("text_model."):
            new = "text_branch." + name.removeprefix("text_model.")
        else:
            new = name.replace("_projection.linear1.", "_projection.0.").replace("_projection.linear2.", "_projection.2.")
        result[f"module.{new}"] = value
    for name, parts in joined.items():
        result[f"module.{name}"] = torch.cat([parts["query"], parts["key"], parts["value"]])
    others = [
        "audio_branch.spectrogram_extractor.stft.conv_real.weight", "audio_branch.logmel_extractor.melW",
        "audio_branch.tscam_conv.weight", "audio_branch.head.weight", "text_transform.sequential.0.weight",
        "audio_transform.sequential.3.bias",
    ]
    return result | {f"module.{name}": torch.ones(2) for name in others}


def shards(folder):
    """t5_tiny as transformers saved it before safetensors."""
    state = load_file(FIXTURES / "t5_tiny" / "model.safetensors")
    names, index = sorted(state), {}
    for shard, part in enumerate([names[: len(names) // 2], names[len(names) // 2 :]], 1):
        file = f"pytorch_model-{shard:05}-of-00002.bin"
        torch.save({name: state[name] for name in part}, folder / file)
        index |= {name: file for name in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}) + "\n")


def codecs(folder):
    """`compression_state_dict.bin` as Hydra writes its configuration, and as `export_pretrained_compression_model` does."""
    package = torch.load(FIXTURES / "musicgen_tiny_audiocraft" / "compression_state_dict.bin", weights_only=True)
    config = OmegaConf.create(package["xp.cfg"])
    config.encodec.sample_rate, config.encodec.channels = "${sample_rate}", "${channels}"
    config.seanet.channels, config.seanet.causal = "${channels}", "${encodec.causal}"
    config.seanet.residual_kernel_size = None  # absent, so that it has its default
    package["xp.cfg"] = OmegaConf.to_yaml(config)
    torch.save(package, folder / "interpolated.bin")
    torch.save({"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.3.0"}, folder / "pretrained.bin")


def main():
    """Write everything."""
    folder = fresh("checkpoints_tiny")
    musicgen = FIXTURES / "musicgen_tiny"
    expected = load_file(musicgen / "expected.safetensors")
    tensors = {}
    for name, rslora, seed in [("adapter", False, 21), ("adapter_rslora", True, 22)]:
        model = MusicgenForConditionalGeneration.from_pretrained(musicgen, attn_implementation="eager")
        merged = adapter(model, folder / name, rslora, seed)
        tensors[f"{name}.logits"] = logits(model, expected, {key: value.detach() for key, value in merged.items()})
    model = MusicgenForConditionalGeneration.from_pretrained(musicgen, attn_implementation="eager")
    assert torch.allclose(logits(model, expected, {}).flatten(), expected["decoder.logits"].flatten(), atol=1e-5)
    padded_codec(model, expected, tensors)
    save_expected(folder / "expected.safetensors", tensors, __file__, rank=RANK, alpha=ALPHA)

    shards(folder)
    codecs(folder)
    torch.save({"weight": torch.zeros(1).expand(1 << 15, 1 << 14)}, folder / "expanded.pt")

    clap = load_file(FIXTURES / "clap_tiny" / "model.safetensors")
    training = {"epoch": 3, "name": "tiny", "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4, "params": [0]}]}}
    torch.save({**training, "state_dict": laion_names(clap)}, folder / "clap_laion.pt")

    passt = load_file(FIXTURES / "passt_tiny" / "passt_tiny.safetensors")
    state = {f"net_swa.{name}": value for name, value in passt.items()}
    # What the average was taken of lies beside it, and is not what is used.
    state |= {f"net.{name}": torch.zeros_like(passt[name]) for name in ("cls_token", "head.1.bias")}
    state |= {"mel.window": torch.ones(4)}
    torch.save({"epoch": 1, "global_step": 2, "pytorch-lightning_version": "2.1.0", "state_dict": state,
                "optimizer_states": [{"state": {0: {"step": torch.tensor(2.0)}}}], "loops": {}}, folder / "passt.ckpt")


if __name__ == "__main__":
    main()
