"""Defaults of the references' configuration classes, for the fields that tonoscope reads.

Usage: python config_defaults.py
Writes: fixtures/config_defaults.json: class → field → default
"""

import ast
import json
from importlib.util import find_spec
from pathlib import Path

from transformers import (
    ClapAudioConfig, ClapConfig, ClapFeatureExtractor, ClapTextConfig, EncodecConfig, MusicgenDecoderConfig, T5Config,
)

from common import FIXTURES

# In these classes `None` stands for what is written beside it, or decides nothing that is read.
TRANSFORMERS = {
    T5Config: "vocab_size d_model d_kv d_ff num_layers num_heads relative_attention_num_buckets "
              "relative_attention_max_distance layer_norm_epsilon feed_forward_proj pad_token_id",
    MusicgenDecoderConfig: "vocab_size num_hidden_layers ffn_dim num_attention_heads hidden_size activation_function "
                           "scale_embedding num_codebooks audio_channels pad_token_id",
    EncodecConfig: "sampling_rate audio_channels target_bandwidths num_filters num_residual_layers upsampling_ratios "
                   "hidden_size kernel_size last_kernel_size residual_kernel_size dilation_growth_rate compress "
                   "num_lstm_layers codebook_size norm_type pad_mode use_causal_conv use_conv_shortcut normalize "
                   "chunk_length_s",
    ClapAudioConfig: "window_size num_mel_bins spec_size hidden_act patch_size patch_stride hidden_size depths "
                     "num_attention_heads enable_fusion fusion_type patch_embed_input_channels patch_embeds_hidden_size "
                     "enable_patch_layer_norm qkv_bias mlp_ratio aff_block_r layer_norm_eps",
    ClapTextConfig: "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act "
                    "max_position_embeddings type_vocab_size layer_norm_eps pad_token_id",
    ClapConfig: "projection_dim projection_hidden_act",
    ClapFeatureExtractor: "feature_size sampling_rate hop_length max_length_s fft_window_size frequency_min "
                          "frequency_max truncation padding",
}
# File, class, fields. Read off the source: importing them needs packages that nothing else here does.
SIGNATURES = [
    ("diffusers/models/transformers/stable_audio_transformer.py", "StableAudioDiTModel",
     "sample_size in_channels num_layers attention_head_dim num_attention_heads num_key_value_attention_heads "
     "out_channels cross_attention_dim time_proj_dim global_states_input_dim cross_attention_input_dim"),
    ("diffusers/models/autoencoders/autoencoder_oobleck.py", "AutoencoderOobleck",
     "encoder_hidden_size downsampling_ratios channel_multiples decoder_channels decoder_input_channels "
     "audio_channels sampling_rate"),
    ("diffusers/schedulers/scheduling_cosine_dpmsolver_multistep.py", "CosineDPMSolverMultistepScheduler",
     "sigma_min sigma_max sigma_data prediction_type"),
]


def signature(file, name):
    """Defaults of the arguments of a class's constructor."""
    package, rest = file.split("/", 1)
    source = (Path(find_spec(package).submodule_search_locations[0]) / rest).read_text()
    body = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name).body
    init = next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == "__init__").args
    named = init.args[len(init.args) - len(init.defaults):]
    return {argument.arg: ast.literal_eval(default) for argument, default in zip(named, init.defaults)}


def main():
    """Write the defaults."""
    defaults = {}
    for kind, fields in TRANSFORMERS.items():
        values = kind().to_dict()
        defaults[kind.__name__] = {field: values[field] for field in fields.split()}
    for file, name, fields in SIGNATURES:
        values = signature(file, name)
        defaults[name] = {field: values[field] for field in fields.split()}
    text = json.dumps(defaults, indent=1, sort_keys=True)
    (FIXTURES / "config_defaults.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
