"""Writes tests/fixtures/passt_tiny/: a tiny random PaSST as the release file and as safetensors, and every intermediate.

    python tests/reference/passt_tiny.py        (hear21passt 0.0.26, timm 1.0.31, torch 2.11.0, torchaudio 2.11.0)

The front end is run twice: in 32 bit as published, and in 64 bit (`*_f64`, stored in 32), which says how far 32 bit is to
be trusted: about 2e-5 of the largest value where a quiet band stands beside a loud one.
"""

import contextlib
import io
import pathlib
import sys
import warnings

import numpy as np
import torch
from safetensors.torch import save_file

warnings.simplefilter("ignore")
torch.set_num_threads(1)
with contextlib.redirect_stdout(io.StringIO()):
    from hear21passt.models.passt import PaSST
    from hear21passt.models.preprocess import AugmentMelSTFT
    from hear21passt.wrapper import PasstBasicWrapper

OUT = pathlib.Path(__file__).parent.parent / "fixtures" / "passt_tiny"


def front_end(n_mels):
    return AugmentMelSTFT(n_mels=n_mels, sr=32000, win_length=800, hopsize=320, n_fft=1024, freqm=48, timem=192, htk=False,
        fmin=0.0, fmax=None, norm=1, fmin_aug_range=10, fmax_aug_range=2000).eval()


def distance(single, double):
    return f"{((single - double).abs().max() / double.abs().max()).item():.2e}"


def mel_twice(n_mels, wave):
    """The front end in 32 bit, and with window, banks and all arithmetic in 64."""
    single = front_end(n_mels)(wave)
    torch.set_default_dtype(torch.float64)
    double = front_end(n_mels)(wave.double())
    torch.set_default_dtype(torch.float32)
    assert single.dtype == torch.float32 and double.dtype == torch.float64
    print(f"{n_mels} bands: 32 bit against 64: {distance(single, double)}", file=sys.stderr)
    return single, double.float()


def main():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    config = dict(stride=10, num_classes=19, distilled=True, img_size=(36, 98), embed_dim=32, depth=3, num_heads=4)
    net = PaSST(u_patchout=0, s_patchout_t=0, s_patchout_f=0, **config)
    for name, parameter in net.named_parameters():
        is_gain = name.endswith("weight") and ("norm" in name or name == "head.0.weight")
        parameter.data = torch.randn_like(parameter) * 0.2 + (1.0 if is_gain else 0.0)
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert "head_dist.weight" in weights
    wrapper = PasstBasicWrapper(mel=front_end(36), net=net, mode="all", max_model_window=1000, scene_hop=250).eval()

    def clip(samples):
        t = np.arange(samples) / 32000
        tones = 0.4 * np.sin(2 * np.pi * 330 * t) + 0.2 * np.sin(2 * np.pi * 2500 * t * (1 + t))
        return torch.tensor((tones + 0.05 * rng.standard_normal(samples)).astype(np.float32))

    waves = torch.stack([clip(16000), 0.1 * clip(16000)])
    long = clip(35200)
    t = np.arange(32000 * 4) / 32000
    tones = (0.5 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * 3000 * t)).astype(np.float32)
    out = {"waves": waves, "long": long}
    with torch.no_grad():
        out["mel"], out["mel_f64"] = mel_twice(36, waves)
        # The signal of shared/reference/front_ends.py, every seventh frame.
        single, double = mel_twice(128, torch.tensor(tones)[None])
        out["tones_mel"], out["tones_mel_f64"] = single[0, :, ::7], double[0, :, ::7]
        spec = out["mel"].unsqueeze(1)
        hooks = [("encoder.final_norm", net.norm)]
        hooks += [(f"encoder.{i}.resid_post", block) for i, block in enumerate(net.blocks)]
        hooks += [(f"encoder.{i}.self_attn_out", block.attn) for i, block in enumerate(net.blocks)]
        hooks += [(f"encoder.{i}.mlp_post", block.mlp.act) for i, block in enumerate(net.blocks)]
        hooks += [(f"encoder.{i}.mlp_out", block.mlp) for i, block in enumerate(net.blocks)]
        handles = [
            module.register_forward_hook(lambda _, __, output, name=name: out.__setitem__(name, output.clone()))
            for name, module in hooks
        ]
        handles.append(
            net.blocks[0].register_forward_pre_hook(lambda _, args: out.__setitem__("encoder.embed", args[0].clone()))
        )
        out["logits"], out["features"] = net(spec)
        for handle in handles:
            handle.remove()
        both = wrapper.get_scene_embeddings(waves)
        out["scene_logits"], out["scene_features"] = both[:, :19], both[:, 19:]
        both = wrapper.get_scene_embeddings(long[None])
        out["long_logits"], out["long_features"] = both[0, :19], both[0, 19:]
        double_logits, _ = net.double()(spec.double())
        print(f"logits: 32 bit against 64: {distance(out['logits'], double_logits)}", file=sys.stderr)
    OUT.mkdir(parents=True, exist_ok=True)
    torch.save(weights, OUT / "passt_tiny.pt")
    save_file(weights, OUT / "passt_tiny.safetensors")
    metadata = dict(library="hear21passt", version="0.0.26", torch=torch.__version__)
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, OUT / "reference.safetensors", metadata=metadata)


with contextlib.redirect_stdout(io.StringIO()):
    main()
