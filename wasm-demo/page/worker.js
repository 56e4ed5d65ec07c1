// Everything that takes time: the wasm package, and the files that it reads.

import init, { Digest, Session, self_test, start } from './pkg/tonoscope_wasm.js';
import { gather } from './crew.js';
import * as store from './store.js';

/** Larger than any tensor of a MusicGen; what asks for more is a damaged file. */
const LARGEST_READ = 256 * 1024 * 1024;

/** @type {Int32Array | null} */
let flag = null;
let cancelled = false;
let session = null;
/** Stops a download. */
let transfer = null;
/** Files that the package reads, by number. */
const files = [];
const reader = new FileReaderSync();
let told = 0;

const post = (data, move = []) => self.postMessage(data, move);

globalThis.tonoscopeHost = {
  readFile(file, from, to) {
    if (to - from > LARGEST_READ) throw new Error(`${Math.round((to - from) / 1e6)} MB at once are more than this page reads`);
    return new Uint8Array(reader.readAsArrayBuffer(files[file].slice(from, to)));
  },
  step(done, total) {
    const now = performance.now();
    if (now - told > 80 || done >= total) {
      told = now;
      post({ kind: 'step', done, total });
    }
    return cancelled || (flag !== null && Atomics.load(flag, 0) === 1);
  },
  stage: (name) => post({ kind: 'stage', name }),
  /** The next samples of each channel, while more are being made. */
  sound: (channels, from, rate) => post({ kind: 'sound', channels, from, rate }, channels.map(({ buffer }) => buffer)),
  /** What a step adds to the heat map. */
  heat: (column) => post({ kind: 'heat', column }),
  panicked: (message) => post({ kind: 'panic', message }),
  /** There is no memory for so many bytes more; most likely the last that is heard. */
  full: (bytes) => post({ kind: 'full', bytes }),
};

/** The package's code, which all workers share. */
async function compiled() {
  const address = new URL('./pkg/tonoscope_wasm_bg.wasm', import.meta.url);
  const response = await fetch(address);
  // Not every server knows what wasm is.
  if (response.headers.get('content-type') === 'application/wasm') return WebAssembly.compileStreaming(response);
  return WebAssembly.compile(await response.arrayBuffer());
}

let started = null;
/** The package, compiled when it is first needed: a worker that only fetches files does without. */
const ready = () =>
  (started ??= compiled().then(async (module) => {
    const wasm = await init({ module_or_path: module });
    start();
    return { module, memory: wasm.memory };
  }));

/** One of the workers that help has broken down, and what it held with it. */
function lost(message) {
  globalThis.tonoscopeHost.panicked(message);
  throw new WebAssembly.RuntimeError(message);
}

const about = (piece) => JSON.parse(piece.about());

const actions = {
  /** The GPU, calculating in `dtype`, against the CPU. */
  async selfTest({ dtype }) {
    await ready();
    return JSON.parse(await self_test(dtype));
  },

  /** Loads a model: `{source, device, weights, threads}`, `source` being files, a stored model, or the address of a small one; tests divide small matrices too. */
  async load({ source, device, weights, threads, divideFrom }) {
    const { module } = await ready();
    session?.free();
    session = null;
    files.length = 0;
    const found = source.files ?? (source.stored ? await store.open(source.stored) : await small(source.address));
    const text = async (name) => found.find((file) => file.name === name)?.blob.arrayBuffer();
    const bytes = async (name) => {
      const buffer = await text(name);
      return buffer && new Uint8Array(buffer);
    };
    const need = async (name) => {
      const content = await bytes(name);
      if (!content) throw new Problem(`There is no ${name}.`, 'A model is a folder in transformers’ layout: config.json, tokenizer.json, model.safetensors or its shards.');
      return content;
    };
    const [config, tokenizer, generation] = [await need('config.json'), await need('tokenizer.json'), await bytes('generation_config.json')];
    const index = await bytes('model.safetensors.index.json');
    const single = found.some((file) => file.name === 'model.safetensors');
    const names = single || !index ? ['model.safetensors'] : store.shards(new TextDecoder().decode(index));
    const shards = names.map((name) => {
      const file = found.find((candidate) => candidate.name === name);
      if (!file) throw new Problem(`There is no ${name}.`, 'The folder is not complete: fetch the model again, or copy the file.');
      return { name, file: files.push(file.blob) - 1, bytes: file.blob.size };
    });
    const members = await gather(device === 'cpu' ? threads - 1 : 0, module, lost);
    session = await Session.open(JSON.stringify({ device, weights, members, divide_from: divideFrom, shards }), config, generation, tokenizer);
    return { ...JSON.parse(session.about()), threads: members + 1 };
  },

  async generate(request) {
    const began = performance.now();
    const piece = await loaded().generate(JSON.stringify(request));
    const result = {
      ...about(piece),
      elapsed: (performance.now() - began) / 1000,
      codes: piece.codes(),
      wav: piece.wav(false),
      captures: piece.captures(),
      channels: [],
    };
    for (let channel = 0; channel < about(piece).channels; channel++) result.channels.push(piece.samples(channel));
    piece.free();
    return result;
  },

  async lens({ request, codes, alone, channels }) {
    const lens = await loaded().lens(JSON.stringify(request), codes, alone);
    const layers = [];
    for (let layer = 1; layer <= lens.layers(); layer++) {
      const sound = Array.from({ length: channels }, (_, channel) => lens.samples(layer, channel));
      layers.push({ channels: sound, codes: lens.codes(layer) });
    }
    const readings = JSON.parse(lens.readings());
    const judged = lens.judged();
    lens.free();
    return { layers, readings, judged: judged ? JSON.parse(judged) : null };
  },

  /** Loads a classifier out of files `{name, blob}`. */
  async loadJudge({ files: picked }) {
    const weights = picked.filter(({ name }) => name.endsWith('.safetensors'));
    if (weights.length !== 1) {
      throw new Problem(`There are ${weights.length} .safetensors files, expected one.`, 'A release file (.pt) has to be converted: its tensors saved under their names with the Python package safetensors.');
    }
    const [{ name, blob }] = weights;
    const beside = picked.find((file) => file.name === 'config.json');
    const shard = JSON.stringify({ name, file: files.push(blob) - 1, bytes: blob.size });
    return JSON.parse(loaded().loadJudge(shard, beside && (await beside.blob.text())));
  },

  loadEdits: ({ name, bytes }) => JSON.parse(loaded().loadEdits(name, bytes)),
  loadProbes: ({ name, bytes }) => JSON.parse(loaded().loadProbes(name, bytes)),
  direction: (request) => loaded().direction(JSON.stringify(request)),
  memory: async () => (await ready()).memory.buffer.byteLength,

  stored: () => store.list(),
  remove: ({ id }) => store.remove(id),
  async fetch({ id, source }) {
    await ready();
    transfer = new AbortController();
    const tell = (state) => post({ kind: 'transfer', ...state });
    try {
      return await store.fetchModel({ id, source, signal: transfer.signal, tell, digest: () => new Digest() });
    } finally {
      transfer = null;
    }
  },
  stopTransfer: () => transfer?.abort(),
};

/** An error with advice. */
class Problem extends Error {
  constructor(message, hint) {
    super(message);
    this.hint = hint;
  }
}

function loaded() {
  if (!session) throw new Problem('No model is loaded.', 'Load one first.');
  return session;
}

/** The files of a model that is small enough to be fetched each time. */
async function small(address) {
  const found = await Promise.all(
    ['config.json', 'generation_config.json', 'tokenizer.json', 'model.safetensors'].map(async (name) => {
      const response = await fetch(new URL(name, new URL(address, self.location.href)));
      if (!response.ok) throw new Problem(`${name}: the server says ${response.status} ${response.statusText}`);
      return { name, blob: await response.blob() };
    }),
  );
  return found;
}

self.onmessage = async ({ data }) => {
  if (data.kind === 'flag') {
    flag = data.flag;
    return;
  }
  if (data.kind === 'cancel') {
    cancelled = true;
    return;
  }
  const { id, action, args } = data;
  cancelled = false;
  try {
    post({ kind: 'answer', id, value: await actions[action](args) });
  } catch (error) {
    // What wasm throws by itself leaves it in no state to go on.
    if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError) {
      post({ kind: 'panic', message: error.message });
      return;
    }
    const [message, ...hint] = String(error?.message ?? error).split('\n');
    post({ kind: 'answer', id, error: { message, hint: error?.hint ?? hint.join('\n'), name: error?.name } });
  }
};
