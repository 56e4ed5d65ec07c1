"""A tiny gated T5 encoder (as T5 v1.1 and FLAN have) with every intermediate of one padded forward.

Usage: python t5_gated_tiny.py
Writes: fixtures/t5_gated_tiny
"""

import torch
from transformers import T5EncoderModel

from common import PROMPTS, Recorder, randomise, save_expected, save_tokenizer, tiny_tokenizer, tokenize
from musicgen_tiny import fresh, t5_config

SEED = 11


def main():
    """Write the checkpoint and its expectations."""
    config = t5_config().to_dict()
    config.update(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    config = type(t5_config()).from_dict({k: v for k, v in config.items() if k not in ("dense_act_fn", "is_gated_act")})
    model = T5EncoderModel(config).eval()
    model.set_attn_implementation("eager")
    assert model.config.is_gated_act and model.config.dense_act_fn == "gelu_new"
    randomise(model, SEED)
    tokenizer = tiny_tokenizer()
    # The second prompt is long enough for every bucket of the position bias.
    prompts = [PROMPTS[0], " ".join([PROMPTS[1]] * 7)]
    ids, mask = tokenize(tokenizer, prompts)
    with Recorder() as recorder:
        recorder.t5(model.encoder)
        output = model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(output, recorder.tensors["encoder.final_norm"])
    folder = fresh("t5_gated_tiny")
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    tensors = {"input_ids": ids, "attention_mask": mask, **recorder.tensors}
    save_expected(folder / "expected.safetensors", tensors, __file__, seed=SEED, prompts=prompts)


if __name__ == "__main__":
    main()
