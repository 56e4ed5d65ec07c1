"""The checkpoint of musicgen_tiny in audiocraft's layout, and codes that slide beyond the window.

audiocraft itself loads what is written here (strictly) and must agree with transformers: logits and audio within
1e-5, greedy codes exactly, including `MusicGen._generate_tokens` beyond `max_duration`. It puts no mask on padded
text, so it runs prompt by prompt; the codes that are stored come from transformers with both prompts in one batch.

Usage: python musicgen_tiny_audiocraft.py   (after musicgen_tiny.py)
Writes: fixtures/musicgen_tiny_audiocraft, fixtures/musicgen_tiny/expected_long.safetensors
"""

import warnings

import fakemods  # noqa: F401  (before audiocraft)
import torch
import xformers.ops
from safetensors.torch import load_file
from transformers import MusicgenForConditionalGeneration, PreTrainedTokenizerFast, T5EncoderModel

from common import FIXTURES, MIN_GAP, PROMPTS, generate, save_expected, tiny_tokenizer, tokenize
from musicgen_tiny import fresh

warnings.simplefilter("ignore")
xformers.ops.unbind = torch.unbind

import audiocraft  # noqa: E402
import audiocraft.modules.conditioners as conditioners  # noqa: E402
import audiocraft.modules.transformer  # noqa: E402
from audiocraft.models.loaders import load_compression_model, load_lm_model  # noqa: E402
from audiocraft.models.musicgen import MusicGen  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

audiocraft.modules.transformer.set_efficient_attention_backend("torch")

WINDOW, STRIDE, TOTAL = 20, 12, 40  # frames; the real ones are 1500 and 900


def language_model_config(config):
    """`xp.cfg` of a language model: the keys of the real file that building the model reads."""
    decoder = config.decoder
    return {
        "device": "cuda", "dtype": "float16", "solver": "musicgen", "sample_rate": 32000, "channels": 1,
        "lm_model": "transformer_lm", "compression_model_checkpoint": "//pretrained/facebook/encodec_32khz",
        "dataset": {"segment_duration": WINDOW / 800},
        "transformer_lm": {
            "dim": decoder.hidden_size, "num_heads": decoder.num_attention_heads,
            "num_layers": decoder.num_hidden_layers, "hidden_scale": decoder.ffn_dim // decoder.hidden_size,
            "n_q": decoder.num_codebooks, "card": decoder.vocab_size, "dropout": 0.0, "emb_lr": None,
            "activation": "gelu", "norm_first": True, "bias_ff": False, "bias_attn": False, "bias_proj": False,
            "past_context": None, "causal": True, "custom": False, "memory_efficient": True,
            "attention_as_float32": False, "layer_scale": None, "positional_embedding": "sin", "xpos": False,
            "checkpointing": "none", "weight_init": "gaussian", "depthwise_init": "current",
            "zero_bias_init": True, "norm": "layer_norm", "cross_attention": False, "qk_layer_norm": False,
            "qk_layer_norm_cross": False, "attention_dropout": None, "kv_repeat": 1, "two_step_cfg": False,
        },
        "codebooks_pattern": {
            "modeling": "delay",
            "delay": {"delays": list(range(decoder.num_codebooks)), "flatten_first": 0, "empty_initial": 0},
        },
        "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
        "attribute_dropout": {"text": {"description": 0.0}},
        "fuser": {
            "cross_attention_pos_emb": False, "cross_attention_pos_emb_scale": 1, "sum": [], "prepend": [],
            "cross": ["description"], "input_interpolate": [],
        },
        "conditioners": {
            "args": {"merge_text_conditions_p": 0.25, "drop_desc_p": 0.5},
            "description": {
                "model": "t5",
                "t5": {"name": "t5-base", "finetune": False, "word_dropout": 0.3, "normalize_text": False},
            },
        },
    }


def compression_config(config):
    """`xp.cfg` of an EnCodec."""
    codec = config.audio_encoder
    return {
        "device": "cuda", "dtype": "float32", "solver": "compression", "sample_rate": codec.sampling_rate,
        "channels": 1, "compression_model": "encodec",
        "encodec": {
            "autoencoder": "seanet", "quantizer": "rvq", "sample_rate": codec.sampling_rate, "channels": 1,
            "causal": False, "renormalize": False,
        },
        "seanet": {
            "dimension": codec.hidden_size, "channels": 1, "causal": False, "n_filters": codec.num_filters,
            "n_residual_layers": codec.num_residual_layers, "ratios": list(codec.upsampling_ratios),
            "activation": "ELU", "activation_params": {"alpha": 1.0}, "norm": "weight_norm", "norm_params": {},
            "kernel_size": codec.kernel_size, "residual_kernel_size": codec.residual_kernel_size,
            "last_kernel_size": codec.last_kernel_size, "dilation_base": codec.dilation_growth_rate,
            "pad_mode": "reflect", "true_skip": True, "compress": codec.compress, "lstm": codec.num_lstm_layers,
            "disable_norm_outer_blocks": 0, "encoder": {},
            "decoder": {"trim_right_ratio": 1.0, "final_activation": None, "final_activation_params": None},
        },
        "rvq": {
            "n_q": codec.num_quantizers, "bins": codec.codebook_size, "q_dropout": False, "decay": 0.99,
            "kmeans_init": True, "kmeans_iters": 50, "threshold_ema_dead_code": 2, "orthogonal_reg_weight": 0.0,
            "orthogonal_reg_active_codes_only": False, "orthogonal_reg_max_codes": None,
        },
    }


def language_model_state(model):
    """transformers' decoder and projection under audiocraft's names."""
    state = {}
    for name, value in model.enc_to_dec_proj.state_dict().items():
        state[f"condition_provider.conditioners.description.output_proj.{name}"] = value
    source = model.decoder.state_dict()
    for name, value in source.items():
        name = name.removeprefix("model.decoder.")
        if name.startswith("layer_norm."):
            name = "out_" + name.removeprefix("layer_")
        if ".k_proj." in name or ".v_proj." in name:
            continue  # joined with q below
        if ".q_proj." in name:
            whole = f"model.decoder.{name}"
            value = torch.cat([source[whole.replace(".q_proj.", f".{letter}_proj.")] for letter in "qkv"])
            name = name.replace("q_proj.weight", "in_proj_weight")
        for old, new in [
            ("embed_tokens.", "emb."), ("lm_heads.", "linears."), ("encoder_attn_layer_norm", "norm_cross"),
            ("encoder_attn", "cross_attention"), ("self_attn_layer_norm", "norm1"), ("final_layer_norm", "norm2"),
            ("fc1", "linear1"), ("fc2", "linear2"),
        ]:
            name = name.replace(old, new)
        state["transformer." + name if name.startswith("layers.") else name] = value.clone()
    return state


def compression_state(model):
    """transformers' EnCodec under audiocraft's names; convolutions sit in one more wrapper there."""
    state = {}
    for name, value in model.audio_encoder.state_dict().items():
        if ".conv." in name:
            layer = model.audio_encoder.get_submodule(name.split(".conv.")[0] + ".conv")
            kind = "convtr" if isinstance(layer, torch.nn.ConvTranspose1d) else "conv"
            name = name.replace(".conv.", f".{kind}.{kind}.")
        for old, new in [
            ("coder.layers.", "coder.model."), ("parametrizations.weight.original0", "weight_g"),
            ("parametrizations.weight.original1", "weight_v"), ("quantizer.layers.", "quantizer.vq.layers."),
            (".codebook.", "._codebook."),
        ]:
            name = name.replace(old, new)
        state[name] = value.clone()
    return state


def slide(model, ids, mask, prompt=None):
    """`_generate_tokens` of audiocraft/models/genmodel.py in whole frames, over transformers' `generate`."""
    pieces, offset, gaps = [] if prompt is None else [prompt], 0, []
    length = 0 if prompt is None else prompt.shape[-1]
    while offset + length < TOTAL:
        given = {} if prompt is None else {"decoder_input_ids": prompt.reshape(-1, length)}
        window = min(TOTAL - offset, WINDOW)
        made = generate(model, window, length, input_ids=ids, attention_mask=mask, guidance_scale=3.0, **given)
        gaps.append(made["gap"])
        pieces.append(made["codes"][..., length:])
        prompt = made["codes"][..., STRIDE:]
        length = prompt.shape[-1]
        offset += STRIDE
    return torch.cat(pieces, dim=-1), min(gaps)


def audiocraft_model(folder, model):
    """audiocraft's MusicGen from the files in `folder`; its T5 is the one of t5_tiny."""
    text = FIXTURES / "t5_tiny"
    conditioners.T5Tokenizer = type("Local", (), {"from_pretrained": lambda name: PreTrainedTokenizerFast(
        tokenizer_file=str(text / "tokenizer.json"), pad_token="<pad>", eos_token="</s>", unk_token="<unk>")})
    conditioners.T5EncoderModel = type("Local", (), {"from_pretrained": lambda name: T5EncoderModel.from_pretrained(
        text, attn_implementation="eager")})
    conditioners.T5Conditioner.MODELS_DIMS["t5-base"] = model.text_encoder.config.d_model
    music = MusicGen("tiny", load_compression_model(folder), load_lm_model(folder), max_duration=30)
    assert music.frame_rate == 800
    music.max_duration = WINDOW / 800  # afterwards: the constructor wants more than its default stride of 18 s
    return music


def close(name, got, want, bound=1e-5):
    """Fail unless `got` is within `bound` of `want`, relative to its largest value."""
    error = ((got - want).abs().max() / want.abs().max()).item()
    print(f"{name}: largest relative difference {error:.1e}")
    assert error < bound, name


def main():
    """Write the files, load them with audiocraft, compare, and slide."""
    model = MusicgenForConditionalGeneration.from_pretrained(FIXTURES / "musicgen_tiny", attn_implementation="eager")
    expected = load_file(FIXTURES / "musicgen_tiny" / "expected.safetensors")
    folder = fresh("musicgen_tiny_audiocraft")
    for file, state, config in [
        ("state_dict.bin", language_model_state(model), language_model_config(model.config)),
        ("compression_state_dict.bin", compression_state(model), compression_config(model.config)),
    ]:
        package = {"best_state": state, "xp.cfg": OmegaConf.to_yaml(OmegaConf.create(config)),
                   "version": audiocraft.__version__, "exported": True}
        torch.save(package, folder / file)

    music = audiocraft_model(folder, model)
    ids, mask = tokenize(tiny_tokenizer(), PROMPTS)
    attributes = [conditioners.ConditioningAttributes(text={"description": prompt}) for prompt in PROMPTS]
    whole = mask.sum(1).argmax().item()  # the prompt without padding: audiocraft does not mask
    conditions = music.lm.condition_provider(music.lm.condition_provider.tokenize([attributes[whole]]))
    logits = music.lm(expected["decoder_input_ids"][whole : whole + 1], [], conditions)
    close("logits", logits, expected["decoder.logits"][whole : whole + 1])
    close("audio", music.compression_model.decode(expected["encodec.codes_in"]), expected["encodec.audio"])
    codes, _ = music.compression_model.encode(expected["encodec.wave_in"])
    assert torch.equal(codes, expected["encodec.codes_out"])

    prompt = expected["continue.prompt_codes"][..., :5].repeat(2, 1, 1)
    long, gap = slide(model, ids, mask)
    long_continue, gap_continue = slide(model, ids, mask, prompt)
    assert min(gap, gap_continue) > MIN_GAP, (gap, gap_continue)
    for frames, start, want in [(20, None, expected["greedy.codes"]), (TOTAL, None, long), (TOTAL, prompt, long_continue)]:
        music.set_generation_params(
            use_sampling=False, duration=frames / 800, cfg_coef=3.0, extend_stride=STRIDE / 800)
        for row in range(2):
            given = None if start is None else start[row : row + 1]
            attribute, _ = music._prepare_tokens_and_attributes([PROMPTS[row]], None)
            got = music._generate_tokens(attribute, given)
            assert torch.equal(got[0], want[row]), (frames, row)
    print("greedy codes of audiocraft, in the window and beyond, equal those of transformers")
    tensors = {"input_ids": ids, "attention_mask": mask, "long.codes": long, "long_continue.prompt_codes": prompt,
               "long_continue.codes": long_continue}
    save_expected(
        FIXTURES / "musicgen_tiny" / "expected_long.safetensors", tensors, __file__, prompts=PROMPTS,
        audiocraft=audiocraft.__version__, window_frames=WINDOW, stride_frames=STRIDE, total_frames=TOTAL,
        guidance=3.0, min_gap={"long": gap, "long_continue": gap_continue},
    )


if __name__ == "__main__":
    main()
