"""Writes tests/fixtures/bare_tensors/: files of `torch.save(tensor)`, and such as must be refused.

    python tests/reference/bare_tensors.py        (torch 2.11.0)
"""

import pathlib
import zipfile

import torch

out = pathlib.Path(__file__).parent.parent / "fixtures" / "bare_tensors"
out.mkdir(parents=True, exist_ok=True)
tensor = torch.arange(24, dtype=torch.float32).reshape(3, 2, 4) / 8
torch.save(tensor, out / "tensor_embeddings.pt")
# A view: not in the order of its storage.
torch.save(tensor.transpose(0, 1)[:, 1:], out / "view.pt")
torch.save(tensor.double(), out / "double.pt")
torch.save([tensor, tensor], out / "list.pt")
torch.save(tensor, out / "legacy.pt", _use_new_zipfile_serialization=False)


class Code:
    def __reduce__(self):
        return eval, ("open('/tmp/tonoscope-code-has-run', 'w')",)


torch.save(Code(), out / "code.pt")
# A tensor beside which the pickle closes the dictionary that is put around it, and goes on.
with zipfile.ZipFile(out / "tensor_embeddings.pt") as source, zipfile.ZipFile(out / "smuggled.pt", "w") as target:
    for name in source.namelist():
        content = source.read(name)
        if name.endswith("data.pkl"):
            content = content[:-1] + b"sX\x05\x00\x00\x00othercbuiltins\neval\n(X\x01\x00\x00\x001tR."
        target.writestr(name, content)
print(torch.__version__, {path.name: path.stat().st_size for path in sorted(out.iterdir())})
