"""Stand-ins for packages that audiocraft, stable-audio-tools and k-diffusion import but that inference never uses.

`import fakemods` before them. The finder is appended, so a package that is really installed wins.
"""

import importlib.abc
import importlib.machinery
import sys
import types

UNUSED = {
    "alias_free_torch", "auraloss", "cleanfid", "clip", "dac", "dctorch", "demucs", "einops_exts", "ema_pytorch",
    "encodec", "jsonmerge", "kornia", "laion_clap", "librosa", "local_attention", "natten", "pedalboard", "pesq",
    "prefigure", "pystoi", "pytorch_lightning", "pywt", "skimage", "spacy", "torchdiffeq", "vector_quantize_pytorch",
    "wandb", "webdataset", "xformers",
}


class _Anything:
    """Answers every call and attribute with another of its kind; as a decorator it returns its argument."""

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, *args, **kwargs):
        return args[0] if len(args) == 1 and callable(args[0]) else self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()

    def __mro_entries__(self, bases):
        return (object,)


class _Module(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in UNUSED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.append(_Finder())
