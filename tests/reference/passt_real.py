"""Writes a PaSST-S of the real size with random weights, and what it makes of 4 s: 350 MB, so not into the repository.

    python tests/reference/passt_real.py [target/reference/passt_real]

Then `cargo test --release --workspace -- --ignored the_real_size` compares every block. Versions as in passt_tiny.py.
"""

import contextlib
import io
import pathlib
import sys
import time
import warnings

import numpy as np
import torch
from safetensors.torch import save_file

warnings.simplefilter("ignore")
torch.set_num_threads(1)
with contextlib.redirect_stdout(io.StringIO()):
    from hear21passt.models.passt import get_model
    from hear21passt.models.preprocess import AugmentMelSTFT

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/reference/passt_real")
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
with contextlib.redirect_stdout(io.StringIO()):
    mel = AugmentMelSTFT(n_mels=128, sr=32000, win_length=800, hopsize=320, n_fft=1024, freqm=48, timem=192, htk=False,
        fmin=0.0, fmax=None, norm=1, fmin_aug_range=10, fmax_aug_range=2000).eval()
    net = get_model(arch="passt_s_swa_p16_128_ap476", pretrained=False).eval()
for name, parameter in net.named_parameters():
    is_gain = name.endswith("weight") and parameter.dim() == 1
    parameter.data = torch.randn_like(parameter) * 0.04 + (1.0 if is_gain else 0.0)
torch.save(net.state_dict(), folder / "passt.pt")

t = np.arange(128000) / 32000
wave = 0.4 * np.sin(2 * np.pi * 330 * t) + 0.2 * np.sin(2 * np.pi * 900 * t * (1 + t))
wave = torch.tensor((wave + 0.05 * np.random.default_rng(0).standard_normal(128000)).astype(np.float32))
out = {"wave": wave}
for i, block in enumerate(net.blocks):
    block.register_forward_hook(lambda _, __, output, i=i: out.__setitem__(f"encoder.{i}.resid_post", output.clone()))
with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
    out["mel"] = mel(wave[None])
    out["logits"], out["features"] = net(out["mel"].unsqueeze(1))
    out["scene_logits"] = out["logits"][0].clone()
    start = time.perf_counter()
    net(mel(wave[None]).unsqueeze(1))
seconds = time.perf_counter() - start
save_file({name: tensor.contiguous() for name, tensor in out.items()}, folder / "reference.safetensors")
print(f"4 s classified in {seconds:.2f} s on one thread")
