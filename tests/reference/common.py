"""What the fixture scripts share: paths, random weights, a tiny T5 tokenizer, recorders, and the writer."""

import json
import math
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import safetensors
import safetensors.torch
import tokenizers
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

torch.set_num_threads(1)
torch.set_grad_enabled(False)

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
MIN_GAP = 1e-3  # between the two largest logits wherever a greedy token is taken

MOODS = ["emotional", "passionate", "groovy", "energetic", "happy"]
GENRES = ["rock", "pop", "electronic", "jazz", "classical"]
INSTRUMENTS = ["guitar", "piano", "trumpet", "violin", "flute"]
TEMPI = ["fast", "medium", "slow", "moderate"]
PROMPTS = [
    "Compose a happy rock piece.",
    "Compose a passionate electronic piece, with a violin melody. Use a slow tempo.",
]


def sentences():
    """Every sentence of the prompt template."""
    return [
        f"Compose a {mood} {genre} piece, with a {instrument} melody. Use a {tempo} tempo."
        for mood in MOODS
        for genre in GENRES
        for instrument in INSTRUMENTS
        for tempo in TEMPI
    ]


def tiny_tokenizer():
    """A tokenizer.json of T5's kind (Unigram, Metaspace, `</s>` appended) over the prompt template.

    The scores are log frequencies counted here: `UnigramTrainer` gives another vocabulary on every run. Every
    third word is not a piece of its own, so that words fall apart too; all printable ASCII is covered.
    """
    words = {}
    for sentence in sentences():
        for word in sentence.split():
            words["▁" + word] = words.get("▁" + word, 0) + 1
    pieces = {}
    for index, word in enumerate(sorted(words)):
        whole = [] if index % 3 == 2 else [word]
        for piece in [word[:4], word[:6], word[-3:], word[-5:], *whole]:
            if len(piece) > 1:
                pieces[piece] = pieces.get(piece, 0) + words[word]
    total = sum(pieces.values())
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    vocab += [(piece, round(math.log(count / total), 6)) for piece, count in sorted(pieces.items())]
    vocab += [(chr(code), -9.0 - code / 1000) for code in range(33, 127)]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=2, byte_fallback=False))
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace("▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer


def save_tokenizer(tokenizer, folder):
    """`tokenizer.json`, and the `tokenizer_config.json` that makes it a T5 tokenizer."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "T5TokenizerFast", "model_max_length": 512, "extra_ids": 0,
        "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def tokenize(tokenizer, prompts):
    """Token ids padded with 0 at the right, and their mask."""
    rows = [tokenizer.encode(prompt).ids for prompt in prompts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def randomise(model, seed):
    """Give every parameter and every stored buffer a random value that keeps activations near 1.

    Left as they are initialised, EnCodec's codebooks are zeros and norms and biases do nothing.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, std=1.0, mean=0.0):
        tensor.copy_(mean + std * torch.randn(tensor.shape, generator=generator))

    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        leaf = name.rsplit(".", 1)[-1]
        if name.endswith("embed_tokens.weight") and "encoder" in name and tensor is shared_of(model, name):
            continue  # tied to `shared.weight`, which is set under that name
        elif leaf == "original1":  # direction of a weight-normalised convolution, of any length
            normal(tensor, 0.3)
        elif leaf == "original0":  # its length
            direction = model.state_dict()[name[: -len("original0")] + "original1"]
            fan_in = direction[0].numel()
            if "decoder.layers" in name and name.split(".conv.")[0].split(".")[-2] == "layers":
                module = model.get_submodule(name.split(".parametrizations")[0])
                if isinstance(module, torch.nn.ConvTranspose1d):  # two frames overlap in each sample
                    fan_in = 2 * direction.shape[0]
            length = 1.3 * math.sqrt(direction[0].numel() / fan_in)
            normal(tensor, 0.1 * length, length)
        elif leaf in ("embed", "embed_avg"):  # codebooks, finer from quantizer to quantizer
            quantizer = int(name.split("quantizer.layers.")[1].split(".")[0])
            normal(tensor, 0.8 * 0.7**quantizer)
        elif leaf == "cluster_size":
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
        elif leaf == "inited":
            tensor.fill_(1.0)
        elif "norm" in name.split(".")[-2] and leaf == "weight":
            normal(tensor, 0.1, 1.0)
        elif leaf == "bias" or "bias_" in leaf:
            normal(tensor, 0.1)
        elif "relative_attention_bias" in name:
            normal(tensor, 1.0)
        elif ".SelfAttention.q." in name:  # T5 does not scale its scores
            normal(tensor, 1.5 / math.sqrt(tensor.shape[1] * model_d_kv(model)))
        elif name.endswith("shared.weight"):
            normal(tensor, 1.0)
        elif "embed_tokens" in name:  # large beside the positions, or greedy generations run into loops
            normal(tensor, 1.0)
        elif "lm_heads" in name:
            normal(tensor, 2.0 / math.sqrt(tensor.shape[1]))
        elif ".encoder_attn.q_proj" in name or ".encoder_attn.k_proj" in name:  # look at some words more than at others
            normal(tensor, 1.5 / math.sqrt(tensor.shape[1]))
        elif ".decoder.layers." in name and (".self_attn." in name or ".fc" in name):  # what was played matters too
            normal(tensor, 1.5 / math.sqrt(tensor.shape[1]))
        elif tensor.dim() >= 2:
            normal(tensor, 1.0 / math.sqrt(tensor[0].numel()))
        else:
            raise ValueError(f"no rule for {name} {tuple(tensor.shape)}")
    last = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Conv1d) and ".decoder." in f".{n}"]
    if last:  # keep the audio inside -1 to 1
        parametrized = model.get_submodule(last[-1]).parametrizations.weight
        parametrized.original0.mul_(0.06)
        model.get_submodule(last[-1]).bias.mul_(0.1)


def shared_of(model, name):
    """The `shared.weight` that the T5 table `name` is tied to."""
    prefix = name.split("encoder.embed_tokens")[0]
    return dict(model.state_dict(keep_vars=True)).get(prefix + "shared.weight")


def model_d_kv(model):
    """Width of a T5 head."""
    return getattr(model.config, "d_kv", None) or model.config.text_encoder.d_kv


class Recorder:
    """Keeps outputs of modules under tonoscope's names while a `with` block runs."""

    def __init__(self):
        self.tensors = {}
        self.handles = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()

    def put(self, name, tensor):
        assert name not in self.tensors, name
        self.tensors[name] = tensor.detach().clone().contiguous()

    def output(self, module, name, change=lambda x: x):
        """Record what `module` returns, or the tensor that `change` makes of it."""
        self.handles.append(module.register_forward_hook(lambda m, i, o: self.put(name, change(o))))

    def input(self, module, name, change=lambda x: x):
        """Record the first argument of `module`."""
        self.handles.append(module.register_forward_pre_hook(lambda m, i: self.put(name, change(i[0]))))

    def t5(self, encoder):
        """Every hook point of a T5 encoder stack."""
        heads = lambda x: x.view(*x.shape[:2], encoder.config.num_heads, encoder.config.d_kv)
        self.output(encoder.embed_tokens, "encoder.embed")
        for index, block in enumerate(encoder.block):
            at = f"encoder.{index}"
            attention, feed_forward = block.layer[0].SelfAttention, block.layer[1]
            self.input(block, f"{at}.resid_pre")
            for letter in "qkv":
                self.output(getattr(attention, letter), f"{at}.self_attn.{letter}", heads)
            self.input(attention.o, f"{at}.self_attn.z", heads)
            self.output(attention, f"{at}.self_attn.pattern", lambda o: o[2])
            self.output(attention.o, f"{at}.self_attn_out")
            self.output(block.layer[0], f"{at}.resid_mid", lambda o: o[0])
            self.input(feed_forward, f"{at}.mlp_in")
            self.input(feed_forward.DenseReluDense.wo, f"{at}.mlp_post")
            self.output(feed_forward.DenseReluDense, f"{at}.mlp_out")
            self.output(feed_forward, f"{at}.resid_post")
        self.output(encoder.final_layer_norm, "encoder.final_norm")

    def musicgen_decoder(self, decoder):
        """Every hook point of `MusicgenForCausalLM`, logits as [rows, codebook, position, vocabulary]."""
        stack = decoder.model.decoder
        n_heads = decoder.config.num_attention_heads
        heads = lambda x: x.view(*x.shape[:2], n_heads, x.shape[-1] // n_heads)
        self.input(stack.layers[0], "decoder.embed")
        for index, layer in enumerate(stack.layers):
            at = f"decoder.{index}"
            self.input(layer, f"{at}.resid_pre")
            for name, attention in [("self_attn", layer.self_attn), ("cross_attn", layer.encoder_attn)]:
                for letter in "qkv":
                    self.output(getattr(attention, f"{letter}_proj"), f"{at}.{name}.{letter}", heads)
                self.input(attention.out_proj, f"{at}.{name}.z", heads)
                self.output(attention, f"{at}.{name}.pattern", lambda o: o[1])
                self.output(attention.out_proj, f"{at}.{name}_out")
            self.input(layer.encoder_attn_layer_norm, f"{at}.resid_mid")
            self.input(layer.final_layer_norm, f"{at}.mlp_in")
            self.input(layer.fc2, f"{at}.mlp_post")
            self.output(layer.fc2, f"{at}.mlp_out")
            self.output(layer, f"{at}.resid_post")
        self.output(stack.layer_norm, "decoder.final_norm")
        codebooks = decoder.num_codebooks
        self.output(decoder, "decoder.logits", lambda o: o.logits.view(-1, codebooks, *o.logits.shape[1:]))


def generate(model, frames, prompt_frames=0, **arguments):
    """Greedy `model.generate` of `frames` frames in all; codes, delayed codes, audio, guided logits, smallest gap."""
    seen = {}
    sample = type(model)._sample

    def recording_sample(self, *positional, **keywords):
        outputs = sample(self, *positional, **keywords)
        seen["ids"], seen["mask"] = outputs.sequences, keywords["decoder_delay_pattern_mask"]
        return outputs

    model._sample = recording_sample.__get__(model)
    codebooks = model.decoder.num_codebooks
    delays = codebooks // model.config.decoder.audio_channels - 1
    outputs = model.generate(
        **arguments, do_sample=False, max_new_tokens=frames - prompt_frames + delays,
        return_dict_in_generate=True, output_scores=True,
    )
    del model._sample
    delayed = model.decoder.apply_delay_pattern_mask(seen["ids"], seen["mask"])
    pad = model.config.decoder.pad_token_id
    rows = delayed.shape[0] // codebooks
    codes = delayed[delayed != pad].reshape(rows, codebooks, -1)
    assert codes.shape[-1] == frames, codes.shape
    logits = torch.stack([s.view(rows, codebooks, -1) for s in outputs.scores])
    steps = logits.shape[0]
    free = (seen["mask"] == -1)[:, -steps:].view(rows, codebooks, steps).permute(2, 0, 1)
    top = logits.topk(2, dim=-1).values
    gaps = torch.where(free, top[..., 0] - top[..., 1], torch.inf)  # forced tokens cannot go wrong
    return {
        "codes": codes, "delayed": delayed.view(rows, codebooks, -1), "audio": outputs.sequences,
        "logits": logits, "gaps": gaps, "gap": gaps.min().item(),
    }


def varied(codes, distinct=5):
    """Whether every codebook of every row takes at least `distinct` values."""
    return all(len(set(line.tolist())) >= distinct for row in codes for line in row)


def sorted_header(data):
    """A safetensors file with its metadata in order, so that every run writes the same bytes."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def save_expected(path, tensors, script, **notes):
    """Write `tensors` with what they were made by in the metadata."""
    metadata = {
        "library": "transformers", "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
        "tokenizers": tokenizers.__version__, "safetensors": safetensors.__version__,
        "script": f"tests/reference/{Path(script).name}", "dtype": "f32, eager attention, CPU",
    }
    metadata.update({key: value if isinstance(value, str) else json.dumps(value) for key, value in notes.items()})
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            assert tensor.isfinite().all(), name
    data = safetensors.torch.save({k: v.clone().contiguous() for k, v in tensors.items()}, metadata)
    path.write_bytes(sorted_header(data))
    for file in path.parent.glob("*.safetensors"):
        file.chmod(0o644)
    print(f"{path.parent.name}/{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes", file=sys.stderr)
