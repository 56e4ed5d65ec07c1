// One side of the comparison in a worker: `?ours` the page's package, `?theirs` onnxruntime-web. Both make the same steps.

const params = new URLSearchParams(self.location.search);
const bytesOf = async (address) => new Uint8Array(await (await fetch(address)).arrayBuffer());
const jsonOf = async (address) => (await fetch(address)).json();

/** Ours: whole pieces, of which the ends of the steps are noted. */
async function ours(device, threads) {
  const { default: init, Session, start } = await import('./pkg/tonoscope_wasm.js');
  const { gather } = await import('./crew.js');
  const module = await WebAssembly.compileStreaming(fetch('./pkg/tonoscope_wasm_bg.wasm'));
  const weights = await bytesOf('./model/model.safetensors');
  let ends = [];
  globalThis.tonoscopeHost = {
    readFile: (_file, from, to) => weights.slice(from, to),
    step: () => {
      ends.push(performance.now());
      return false;
    },
    stage: () => (ends = []),
    sound: () => {},
    heat: () => {},
    panicked: (message) => self.postMessage({ error: message }),
    full: (bytes) => self.postMessage({ error: `no memory for ${bytes} bytes` }),
  };
  await init({ module_or_path: module });
  start();
  const members = await gather(threads - 1, module, (message) => self.postMessage({ error: message }));
  const shards = [{ name: 'model.safetensors', file: 0, bytes: weights.length }];
  const files = await Promise.all(['config', 'generation_config', 'tokenizer'].map((name) => bytesOf(`./model/${name}.json`)));
  const session = await Session.open(JSON.stringify({ device, weights: 'f32', members, shards }), ...files);
  const made = async (request) => {
    const piece = await session.generate(JSON.stringify({ greedy: true, top_k: 0, temperature: 1, ...request }));
    const result = { codes: piece.codes(), captures: piece.captures() };
    piece.free();
    return result;
  };
  return {
    /** Tokens, and the logits of every step before guidance. */
    logits: (request) => made({ ...request, capture: ['decoder.logits'] }),
    /** Milliseconds of every step but the first; the choice of the tokens is a part of it. */
    async time(request) {
      await made(request);
      return ends.slice(1).map((end, at) => end - ends[at]);
    },
    threads: () => members + 1,
  };
}

/** Theirs: a step at a time, keys and values going from one to the next. */
async function theirs(provider, threads) {
  const ort = await import(provider === 'webgpu' ? './ort/ort.webgpu.min.mjs' : './ort/ort.wasm.min.mjs');
  ort.env.wasm.wasmPaths = new URL('./ort/', self.location.href).href;
  if (threads) ort.env.wasm.numThreads = threads;
  const about = await jsonOf('./inputs.json');
  const raw = await bytesOf('./inputs.bin');
  const [scores, ...caches] = about.outputs;
  const options = { executionProviders: [provider], graphOptimizationLevel: 'all' };
  // On a GPU keys and values stay there.
  if (provider === 'webgpu') options.preferredOutputLocation = Object.fromEntries([[scores, 'cpu'], ...caches.map((name) => [name, 'gpu-buffer'])]);
  const session = await ort.InferenceSession.create(await bytesOf('./step.onnx'), options);
  /** Fresh each time, for what has been on a GPU is gone. */
  const beginning = () => {
    let at = 0;
    return [...about.past, ...about.text].map(({ name, shape }) => {
      const length = shape.reduce((product, size) => product * size, 1);
      const values = new Float32Array(raw.slice(at, at + 4 * length).buffer);
      at += 4 * length;
      return [name, new ort.Tensor('float32', values, shape)];
    });
  };
  /** Runs the columns of `codes` `[codebook, frame]` with their delays; `tell(logits)` after each. */
  async function run(codes, tell) {
    const { codebooks, padding } = about;
    const frames = codes.length / codebooks;
    const feeds = Object.fromEntries(beginning());
    for (let column = 1; column < frames + codebooks - 1; column++) {
      const ids = Array.from({ length: 2 * codebooks }, (_, row) => {
        const frame = column - 1 - (row % codebooks);
        return BigInt(frame >= 0 && frame < frames ? codes[(row % codebooks) * frames + frame] : padding);
      });
      feeds[about.ids] = new ort.Tensor('int64', BigInt64Array.from(ids), [2 * codebooks, 1]);
      const made = await session.run(feeds);
      tell(made[scores].data);
      about.past.forEach(({ name }, index) => {
        feeds[name].dispose();
        feeds[name] = made[caches[index]];
      });
    }
  }
  return {
    async logits(codes) {
      const all = [];
      await run(codes, (logits) => all.push(...logits));
      return Float32Array.from(all);
    },
    async time(codes) {
      const ends = [performance.now()];
      await run(codes, () => ends.push(performance.now()));
      return ends.slice(1).map((end, at) => end - ends[at]);
    },
    threads: () => ort.env.wasm.numThreads,
  };
}

const side = params.has('ours') ? ours(params.get('device'), Number(params.get('threads'))) : theirs(params.get('device'), Number(params.get('threads')));
self.onmessage = async ({ data: [action, argument] }) => {
  try {
    self.postMessage({ value: await (await side)[action](argument) });
  } catch (error) {
    self.postMessage({ error: String(error?.message ?? error) });
  }
};
