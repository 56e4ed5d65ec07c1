"""Makes `import torch` work on a machine without CUDA where torch was installed from PyPI with --no-deps.

That build is linked against CUDA libraries of some 2.5 GB. This compiles one small shared object (with gcc; readelf
is needed too) which defines every CUDA symbol that torch's own libraries leave open, and links it under each name
they ask for, inside the active virtual environment. Every stub returns an error code, so torch finds no GPU;
its CPU kernels are untouched. Not needed where torch comes from its CPU index or with its CUDA packages.

Usage: python make_cuda_stubs.py   (in the virtual environment; torch itself is not imported)
"""

import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

PACKAGES = Path(sysconfig.get_paths()["purelib"])
CUDA_LIBRARY = re.compile(
    r"lib(cudart|cudnn|cufile|cusparse|cusparseLt|cufft|curand|cublas|cublasLt|nccl|nvshmem_host|cusolver|cupti|nvrtc"
    r"|nvJitLink|nvToolsExt|cuda)\.so"
)
CUDA_SYMBOL = re.compile(r"_{0,2}(cu|cuda|nccl|nvshmem|nvrtc|nv|cupti)\w*$")


def readelf(*arguments):
    """Lines of readelf's output."""
    return subprocess.run(["readelf", *arguments], capture_output=True, text=True).stdout.splitlines()


def open_symbols(libraries):
    """Names of CUDA libraries that torch wants, and the symbols it leaves open with their versions."""
    wanted, defined, undefined = set(), set(), {}
    for library in libraries:
        for line in readelf("-d", library):
            found = re.search(r"NEEDED.*\[(.*?)\]", line)
            if found and CUDA_LIBRARY.match(found[1]):
                wanted.add(found[1])
        for line in readelf("-W", "--dyn-syms", library):
            fields = line.split()
            if len(fields) < 8 or fields[0] == "Num:":
                continue
            name, _, version = fields[7].partition("@")
            if fields[6] != "UND":
                defined.add(name)
            elif fields[4] == "GLOBAL":
                undefined[name] = version.strip("@")
    return wanted, {n: v for n, v in undefined.items() if n not in defined and CUDA_SYMBOL.match(n)}


def main():
    """Compile and link."""
    wanted, symbols = open_symbols(sorted((PACKAGES / "torch" / "lib").glob("*.so*")))
    lines = ['#define API __attribute__((visibility("default")))', 'static const char *text = "no CUDA here";']
    for name in sorted(symbols):
        if "String" in name or "ErrorName" in name:
            lines.append(f"API const char *{name}(void) {{ return text; }}")
        else:
            lines.append(f"API long {name}(void) {{ return 100; }}")
    versions = {}
    for name, version in symbols.items():
        if version:
            versions.setdefault(version, []).append(name)
    script = "".join(f"{v} {{ global: {'; '.join(sorted(names))}; }};\n" for v, names in sorted(versions.items()))
    folder = PACKAGES / "nvidia" / "cu13" / "lib"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as build:
        build = Path(build)
        (build / "stub.c").write_text("\n".join(lines) + "\n")
        (build / "stub.map").write_text(script)
        command = ["gcc", "-shared", "-fPIC", "-O0", "-w", "-fno-builtin", "-o", "libcudastub.so", "stub.c"]
        subprocess.check_call([*command, "-Wl,--version-script=stub.map"] if versions else command, cwd=build)
        shutil.copy(build / "libcudastub.so", folder)
    for name in wanted:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("libcudastub.so")
    print(f"{len(symbols)} symbols for {len(wanted)} libraries in {folder}")


if __name__ == "__main__":
    main()
