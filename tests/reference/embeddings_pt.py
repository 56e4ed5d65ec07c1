"""Embeddings as they are published: one tensor in a file of `torch.save`, and files that pretend to be that.

Usage: python embeddings_pt.py
Writes: fixtures/embeddings_pt/
"""

import io
import pickle
import shutil
import zipfile

import torch

from common import FIXTURES

FOLDER = FIXTURES / "embeddings_pt"


class Calls:
    """Asks for a call when it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, ("touch embeddings_pt_ran",)


def with_pickle(source, name, change):
    """The archive `source` with another pickle in it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(FOLDER / name, "w", zipfile.ZIP_STORED) as new:
        for entry in old.namelist():
            content = old.read(entry)
            new.writestr(entry, change(content) if entry.endswith("/data.pkl") else content)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randn(3, 2, 4, generator=generator)
    torch.save(tensor, FOLDER / "plain.pt")
    # Rows of a larger tensor, in another order of axes.
    torch.save(torch.randn(4, 5, 2, generator=generator).permute(1, 2, 0)[1:4], FOLDER / "strided.pt")
    torch.save({"embeddings": tensor}, FOLDER / "dictionary.pt")
    torch.save(tensor.to(torch.int64), FOLDER / "whole_numbers.pt")
    evil = pickle.dumps(Calls(), protocol=2)
    with_pickle(FOLDER / "plain.pt", "code.pt", lambda _: evil)
    # The call's result is dropped, and a good tensor follows.
    with_pickle(FOLDER / "plain.pt", "hidden_code.pt", lambda good: evil[:-1] + b"0" + good[2:])
    with io.open(FOLDER / "values.txt", "w") as file:
        for name in ("plain", "strided"):
            values = torch.load(FOLDER / f"{name}.pt").flatten().tolist()
            file.write(name + " " + " ".join(str(value) for value in values) + "\n")
    print(f"torch {torch.__version__}")


if __name__ == "__main__":
    main()
