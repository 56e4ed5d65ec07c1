"""What the command line makes of the test checkpoint, for the browser to be compared with.

    python tests/browser/expected.py target/release/tonoscope

writes `tests/browser/expected/`, and the two examples that the page offers, in `wasm-demo/page/models/`: a direction, the
difference of the mean residual streams of two prompts, and probes of three instruments.
"""

import csv
import json
import math
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
MODEL = HERE.parent / "fixtures/musicgen_tiny"
JUDGE = HERE.parent / "fixtures/passt_tiny/passt_tiny.safetensors"
EXAMPLE = HERE.parent.parent / "wasm-demo/page/models/guitar_to_piano.safetensors"
PROBES = EXAMPLE.with_name("instruments.probes.safetensors")
INSTRUMENTS = "guitar,piano,violin"
PROMPT = "Compose a happy rock piece, with a guitar melody. Use a fast tempo."
OTHER = PROMPT.replace("guitar", "piano")
# Seconds of music: on a GPU in software a step takes a second.
LENGTHS = {"long": "0.125", "short": "0.02"}


def read(path):
    """Header and tensors (shape, bytes) of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    data = content[8 + length :]
    metadata = header.pop("__metadata__", {})
    return metadata, {name: (of["shape"], data[slice(*of["data_offsets"])]) for name, of in header.items()}


def write(path, metadata, tensors):
    header, data = {"__metadata__": metadata}, b""
    for name, (shape, content) in sorted(tensors.items()):
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def direction(run, folder):
    means = []
    for name, prompt in [("from", PROMPT), ("to", OTHER)]:
        run("generate", "--prompt", prompt, "--greedy", "--duration", LENGTHS["long"], "--capture", "decoder.*.resid_post:mean_time", "--out", folder / name)
        means.append(read(folder / name / "capture.safetensors")[1])
    edits, tensors = [], {}
    for name, (shape, before) in sorted(means[0].items()):
        point = name.split(":")[0]
        _, after = means[1][name]
        # `[branch, prompt, feature]`, of one prompt.
        branches, _, features = shape
        numbers = [struct.unpack(f"<{branches * features}f", part) for part in (before, after)]
        values = [b - a for a, b in zip(*numbers)]
        tensors[point] = ([1, 1, branches, 1, features], struct.pack(f"<{len(values)}f", *values))
        value = {"tensor": point, "axes": ["branch", "head", "feature"]}
        edits.append({"points": point, "scope": {}, "change": {"do": "add", "value": value, "scale": 1.0}})
    write(EXAMPLE, {"tonoscope.edits": json.dumps(edits)}, tensors)


def fit_probes(call, run, folder):
    """Probes of the instruments, which have learnt from the means of short pieces."""
    folder.mkdir()
    each = ["--concepts", INSTRUMENTS, "--prompts-per-concept", "8"]
    (folder / "prompts.txt").write_text(call("prompts", "template", *each))
    run("generate", "--prompts", folder / "prompts.txt", "--duration", "0.02", "--capture", "decoder.*.resid_post", "--out", folder)
    call("probe-activations", folder / "capture.safetensors", "--concepts", INSTRUMENTS, "--folds", "4", "--out", folder)
    shutil.copy(folder / "probes.safetensors", PROBES)


def read_off(capture):
    """By label, what the probes make of every layer and step: `[layer, step]`, row-major. Without the program's help."""
    metadata, tensors = read(PROBES)
    _, captured = read(capture)
    numbers = lambda code, content: struct.unpack(f"<{len(content) // struct.calcsize(code)}{code}", content)
    about = json.loads(metadata["tonoscope.probes"])
    found = {label: [] for label in about["labels"]}
    for point in sorted(about["points"]):
        mean, scale, weights, intercept = (numbers("d", tensors[f"{point}.{part}"][1]) for part in ["mean", "scale", "weights", "intercept"])
        # `[branch, prompt, step, feature]`: the conditional branch of the only prompt.
        (_, _, steps, width), content = captured[point]
        values = numbers("f", content)
        for step in range(steps):
            row = [(x - m) * s for x, m, s in zip(values[step * width : (step + 1) * width], mean, scale)]
            scores = [b + sum(w * x for w, x in zip(weights[at * width :], row)) for at, b in enumerate(intercept)]
            shares = [math.exp(score - max(scores)) for score in scores]
            for label, share in zip(about["labels"], shares):
                found[label].append(round(share / sum(shares), 9))
    return found


def main(program):
    def call(*args):
        return subprocess.run([program, *args], check=True, stdout=subprocess.PIPE, text=True).stdout

    def run(command, *args):
        call(command, "--model", MODEL, "--device", "cpu", *args, "--overwrite")

    shutil.rmtree(HERE / "expected", ignore_errors=True)
    (HERE / "expected").mkdir()
    EXAMPLE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        direction(run, folder)
        fit_probes(call, run, folder / "probes")
        found = {"prompt": PROMPT}
        for length, seconds in LENGTHS.items():
            found[length] = of_length(run, folder / length, HERE / "expected" / length, seconds)
        # The model inside the program, which the page opens with.
        call("generate", "--device", "cpu", "--prompt", PROMPT, "--greedy", "--duration", "0.5", "--tokens", "--out", folder / "nano")
        found["nano"] = {"seconds": 0.5, "greedy": codes(folder / "nano")[0]}
        (HERE / "expected/tokens.json").write_text(json.dumps(found) + "\n")
        (HERE / "expected/judge.json").write_text(json.dumps(judged(run, folder / "judged"), indent=1) + "\n")


def of_length(run, folder, out, seconds):
    """Writes the sounds of this length; its tokens, by run."""
    out.mkdir()
    greedy = ["--greedy", "--duration", seconds]
    runs = {
        "greedy": [*greedy, "--capture", "decoder.*.resid_post:mean_time"],
        "sampled": ["--seed", "7", "--duration", seconds],
        "edited": [*greedy, "--edit", EXAMPLE],
    }
    found = {"seconds": float(seconds)}
    for name, args in runs.items():
        run("generate", "--prompt", PROMPT, *args, "--tokens", "--float", "--out", folder / name)
        found[name] = codes(folder / name)[0]
        shutil.copy(folder / name / "piece_0000.wav", out / f"{name}.wav")
    shutil.copy(folder / "greedy/capture.safetensors", out / "capture.safetensors")
    run("generate", "--prompt", PROMPT, *greedy, "--capture", "decoder.*.resid_post", "--out", folder / "steps")
    (out / "probes.json").write_text(json.dumps(read_off(folder / "steps/capture.safetensors")) + "\n")
    for mode in ["teacher-forced", "early-exit"]:
        run("lens", "--prompt", PROMPT, *greedy, "--mode", mode, "--no-judge", "--tokens", "--out", folder / mode)
        found[mode] = codes(folder / mode)
    assert found["edited"] != found["greedy"], "the edits change something"
    return found


def judged(run, folder):
    """What a tiny PaSST recognises in every layer of a piece that is long enough for it; what its checkpoint does not say."""
    relevant = ["Guitar", "Acoustic guitar", "Electric guitar", "Bass guitar", "Plucked string instrument"]
    others = ["Piano", "Electric piano", "Keyboard (musical)", *[f"class {index}" for index in range(11)]]
    config = {
        "model_type": "passt", "mel": {"n_mels": 36}, "img_size": [36, 98], "num_heads": 4, "max_model_window": 1000,
        "scene_hop": 250, "labels": [*relevant, *others],
    }
    judge = folder / "judge"
    judge.mkdir(parents=True)
    shutil.copy(JUDGE, judge)
    (judge / "config.json").write_text(json.dumps(config))
    # A template that makes the one prompt.
    concepts = folder / "guitar.toml"
    concepts.write_text(
        f"""template = "{PROMPT.replace("guitar", "[INSTRUMENT]").replace("fast", "[TEMPO]")}"
            slots = [{{ name = "INSTRUMENT", words = ["guitar"] }}, {{ name = "TEMPO", words = ["fast"] }}]
            concepts = [{{ name = "guitar", slot = "INSTRUMENT", label = "Guitar", relevant = {json.dumps(relevant)} }}]
        """
    )
    seconds = "0.25"
    run(
        "lens", "--concepts", concepts, "--prompts-per-concept", "1", "--greedy", "--duration", seconds,
        "--mode", "teacher-forced", "--judge", judge, "--out", folder / "out",
    )
    with (folder / "out/recognisability.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["prompt"] for row in rows} == {PROMPT}
    return {"seconds": float(seconds), "config": config, "ndcg": [float(row["ndcg"]) for row in rows]}


def codes(folder):
    """Per piece or layer, `[codebook, frame]` row-major."""
    (shape, content), = read(folder / "tokens.safetensors")[1].values()
    numbers = struct.unpack(f"<{len(content) // 8}q", content)
    each = shape[-1] * shape[-2]
    return [numbers[at : at + each] for at in range(0, len(numbers), each)]


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).absolute())
