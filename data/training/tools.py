"""What the scripts of this folder share: the program's output, and its files. Needs nothing but Python."""

import csv
import json
import struct
import subprocess


def told(program, *arguments):
    """What the program prints."""
    return subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def rows(path):
    """Lines of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_tensor(path):
    """Metadata, name, shape and bytes of the one tensor in a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    ((name, entry),) = header.items()
    begin, end = entry["data_offsets"]
    return metadata, name, entry["shape"], data[8 + length :][begin:end]


def write_tensor(path, metadata, name, shape, data):
    """The opposite."""
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": metadata, name: entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
