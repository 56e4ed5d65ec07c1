"""A MusicGen with random weights for both sides of the comparison: a folder for the page, its decoder step for onnxruntime.

Usage: python decoder_step.py OUT [--layers 8] [--width 512]
Writes `OUT/model/`, a Hugging Face folder, and of the same weights `OUT/step.onnx`: one column of tokens for a guidance pair
with its caches, as transformers computes it, exported. `OUT/inputs.json` and `inputs.bin` hold what the loop begins with: the
text's keys and values, and those of the first column, which is all padding. Needs torch, transformers, onnx and onnxscript;
text encoder and codec are as small as they can be, for the comparison is about the decoder.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, MusicgenForConditionalGeneration, T5Config
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

TOKENIZER = Path(__file__).resolve().parents[2] / "fixtures/musicgen_tiny/tokenizer.json"
PROMPT = "Compose a happy rock piece, with a guitar melody. Use a fast tempo."
VOCABULARY = 2048
CODEBOOKS = 4


def config(layers, width):
    text = T5Config(vocab_size=384, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_decoder_layers=2, num_heads=4)
    codec = EncodecConfig(
        target_bandwidths=[2.2], sampling_rate=32000, audio_channels=1, normalize=False, chunk_length_s=None, overlap=None,
        hidden_size=16, num_filters=4, num_residual_layers=1, upsampling_ratios=[8, 5, 4, 4], norm_type="weight_norm",
        kernel_size=7, last_kernel_size=7, residual_kernel_size=3, dilation_growth_rate=2, use_causal_conv=False,
        pad_mode="reflect", compress=2, num_lstm_layers=2, trim_right_ratio=1.0, codebook_size=VOCABULARY, codebook_dim=16,
        use_conv_shortcut=False,
    )
    decoder = MusicgenDecoderConfig(
        vocab_size=VOCABULARY, max_position_embeddings=2048, num_hidden_layers=layers, ffn_dim=4 * width,
        num_attention_heads=width // 64, hidden_size=width, activation_function="gelu", num_codebooks=CODEBOOKS,
        scale_embedding=False, audio_channels=1, pad_token_id=VOCABULARY, bos_token_id=VOCABULARY,
    )
    return MusicgenConfig(text_encoder=text, audio_encoder=codec, decoder=decoder)


class Step(torch.nn.Module):
    """Logits of one column, and the keys and values of all columns so far."""

    def __init__(self, decoder, width):
        super().__init__()
        self.decoder = decoder
        self.width = width

    def forward(self, input_ids, past, text):
        own, cross = DynamicCache(), DynamicCache()
        for layer, (keys, values) in enumerate(past):
            own.update(keys, values, layer)
        for layer, (keys, values) in enumerate(text):
            cross.update(keys, values, layer)
        cache = EncoderDecoderCache(own, cross)
        # The keys and values of the text are there: what they are made of is not looked at.
        states = torch.zeros(2, text[0][0].shape[2], self.width)
        made = self.decoder(input_ids=input_ids, encoder_hidden_states=states, past_key_values=cache, use_cache=True)
        return made.logits, pairs(cache.self_attention_cache)


def pairs(cache):
    return [(layer.keys, layer.values) for layer in cache.layers]


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    args = parser.parse_args()
    torch.manual_seed(7)
    model = MusicgenForConditionalGeneration(config(args.layers, args.width)).eval()
    model.decoder.config._attn_implementation = "eager"
    settings = model.generation_config
    settings.do_sample, settings.guidance_scale, settings.max_length = True, 3.0, 1500
    settings.decoder_start_token_id = settings.pad_token_id = settings.bos_token_id = VOCABULARY
    settings.eos_token_id = None
    folder = args.out / "model"
    model.save_pretrained(folder)
    shutil.copy(TOKENIZER, folder)

    ids = torch.tensor([Tokenizer.from_file(str(TOKENIZER)).encode(PROMPT).ids])
    states = model.enc_to_dec_proj(model.text_encoder(input_ids=ids).last_hidden_state)
    # The half without the prompt sees zeros, whose values are zeros whatever attends to them.
    states = torch.cat([states, torch.zeros_like(states)])
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    padding = torch.full((2 * CODEBOOKS, 1), VOCABULARY)
    model.decoder(input_ids=padding, encoder_hidden_states=states, past_key_values=cache, use_cache=True)
    past, text = pairs(cache.self_attention_cache), pairs(cache.cross_attention_cache)

    # Of two columns, for a length of 1 is taken for a constant.
    example = [(torch.cat([keys, keys], 2), torch.cat([values, values], 2)) for keys, values in past]
    length = torch.export.Dim("past", min=1, max=2046)
    own = [({2: length}, {2: length})] * args.layers
    step = Step(model.decoder, args.width).eval()
    program = torch.onnx.export(
        step, (padding, example, text), dynamo=True, dynamic_shapes=(None, own, [({}, {})] * args.layers), optimize=True
    )
    program.save(str(args.out / "step.onnx"))

    names = [value.name for value in program.model.graph.inputs]
    tensors = [tensor for pair in [*past, *text] for tensor in pair]
    inputs = [{"name": name, "shape": list(tensor.shape)} for name, tensor in zip(names[1:], tensors, strict=True)]
    about = {
        "prompt": PROMPT, "layers": args.layers, "width": args.width, "codebooks": CODEBOOKS, "padding": VOCABULARY,
        "ids": names[0], "past": inputs[: 2 * args.layers], "text": inputs[2 * args.layers :],
        "outputs": [value.name for value in program.model.graph.outputs],
    }
    (args.out / "inputs.json").write_text(json.dumps(about, indent=1) + "\n")
    (args.out / "inputs.bin").write_bytes(b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors))


if __name__ == "__main__":
    main()
