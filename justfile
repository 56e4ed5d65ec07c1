# What there is to do here. `just --list` shows it.

# Everything that must hold before a change lands
check:
    .ci/run

# Unit tests, parity, properties, snapshots
test:
    cargo test --release --workspace

# Mutated files for every parser of outside input, as many as INPUTS each
fuzz inputs="100000":
    TONOSCOPE_FUZZ_INPUTS={{inputs}} cargo test --release --workspace --test fuzz -- --nocapture
    TONOSCOPE_FUZZ_INPUTS={{inputs}} cargo test --release --workspace --lib fuzz:: -- --nocapture

# Parity at real size, with random weights made by transformers in FOLDER; see tests/reference/README.md
parity folder:
    TONOSCOPE_REAL_SIZE={{folder}} cargo test --release --workspace --test all -- --ignored real_size --nocapture

# CLAP at real size, with random weights made by `tests/reference/clap_real.py FOLDER`
parity-clap folder:
    TONOSCOPE_REAL_CLAP={{folder}} cargo test --release --workspace --test all -- --ignored real_clap --nocapture

# Stable Audio Open at real size, with random weights made by `tests/reference/stable_audio_real.py FOLDER 216`
parity-stable-audio folder:
    TONOSCOPE_REAL_SIZE_SAO={{folder}} cargo test --release --workspace --test all -- --ignored real_stable_audio --nocapture

# Speed at musicgen-small's real size
bench:
    cargo bench --workspace --bench musicgen

# The same, side by side with transformers; needs the Python of tests/reference/README.md
bench-against-torch:
    python tests/reference/bench_musicgen.py --interleave "cargo run --release --quiet --workspace --example bench_json"

# From the start of the process to the first tokens, side by side; FOLDER as for `parity`
bench-first-token folder:
    cargo build --release --workspace
    python tests/reference/bench_first_token.py {{folder}} --interleave "${CARGO_TARGET_DIR:-target}/release/tonoscope generate --model {{folder}} --device cpu --greedy --duration 0.02 --overwrite --out $(mktemp -d) --prompt 'Compose a happy rock piece, with a guitar melody. Use a fast tempo.'"

# Does it type-check with CUDA? Needs no toolkit
cuda:
    DOCS_RS=1 cargo check --release -p tonoscope-backends --features cuda

# Known vulnerabilities; needs the network
audit:
    cargo deny check advisories

# Accept changed snapshots one by one
review:
    cargo insta review

# The page: built, its size told, served at http://localhost:PORT/. Needs node
demo port="8000":
    wasm-demo/build
    node wasm-demo/serve.mjs "${CARGO_TARGET_DIR:-target}/wasm-demo" {{port}}

# The page as it is published, in headless Chromium, against the command line; needs chromium, node and npm
test-browser:
    TONOSCOPE_BROWSER=required tests/browser/run

# A decode step of the page beside onnxruntime-web's; PYTHON needs torch, transformers, onnx and onnxscript
compare-browser:
    tests/browser/compare/run

# musicgen-small's real size in the page, with random weights that `tests/reference/real_size.py FOLDER` has made
real-size-browser folder:
    tests/browser/real_size/run {{folder}}
