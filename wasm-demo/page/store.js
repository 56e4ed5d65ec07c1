// Models that are kept in this browser, in its private file system. For workers: files are written synchronously.

const MANIFEST = 'manifest.json';
const HUB = 'https://huggingface.co';

class Problem extends Error {
  constructor(message, hint) {
    super(message);
    this.hint = hint;
  }
}

const root = async () => (await navigator.storage.getDirectory()).getDirectoryHandle('models', { create: true });
/** A name that is one folder, whatever stands in it. */
const folderName = (id) => encodeURIComponent(id).replaceAll('.', '%2E');
const folderOf = async (id) => (await root()).getDirectoryHandle(folderName(id), { create: true });

/** Names of the shards that an index lists; none of them leads out of the folder. */
export function shards(text) {
  let names;
  try {
    names = [...new Set(Object.values(JSON.parse(text).weight_map))].sort();
  } catch {
    throw new Problem('model.safetensors.index.json does not parse.', 'Fetch the model again.');
  }
  const outside = names.find((name) => typeof name !== 'string' || /[/\\]/.test(name) || name.startsWith('.'));
  if (outside !== undefined) throw new Problem(`The index names ${JSON.stringify(outside)}, which lies outside the folder.`);
  return names;
}

async function readManifest(folder) {
  try {
    return JSON.parse(await (await (await folder.getFileHandle(MANIFEST)).getFile()).text());
  } catch {
    return null;
  }
}

/** Writes a small file, whole or not at all. */
async function writeText(folder, name, text) {
  const file = await folder.getFileHandle(name, { create: true });
  const stream = await file.createWritable();
  await stream.write(text);
  await stream.close();
}

async function sizeOf(folder, name) {
  try {
    return (await (await folder.getFileHandle(name)).getFile()).size;
  } catch {
    return 0;
  }
}

/** What is kept: `{id, bytes, have, complete, source}` each. */
export async function list() {
  const models = [];
  for await (const folder of (await root()).values()) {
    if (folder.kind !== 'directory') continue;
    const manifest = await readManifest(folder);
    const files = manifest?.files ?? [];
    let have = 0;
    for (const file of files) have += await sizeOf(folder, file.done ? file.name : `${file.name}.part`);
    models.push({
      id: manifest?.id ?? decodeURIComponent(folder.name),
      source: manifest?.source ?? null,
      have,
      bytes: files.every((file) => file.bytes) ? files.reduce((sum, file) => sum + file.bytes, 0) : null,
      complete: files.length > 0 && files.every((file) => file.done),
    });
  }
  const estimate = await navigator.storage.estimate?.();
  return { models: models.sort((a, b) => a.id.localeCompare(b.id)), usage: estimate?.usage, quota: estimate?.quota };
}

export async function remove(id) {
  await (await root()).removeEntry(folderName(id), { recursive: true });
}

/** The files of a model that is complete. */
export async function open(id) {
  const folder = await folderOf(id);
  const manifest = await readManifest(folder);
  if (!manifest?.files.every((file) => file.done)) throw new Problem(`${id} is not complete.`, 'Resume its download first.');
  return Promise.all(
    manifest.files.map(async ({ name }) => ({ name, blob: await (await folder.getFileHandle(name)).getFile() })),
  );
}

/**
 * Fetches a model file by file, each from where an earlier attempt stopped. `source` is `{hub}` or `{address}`.
 * Nothing is held in memory but one piece of the stream.
 */
export async function fetchModel({ id, source, signal, tell, digest }) {
  await navigator.storage.persist?.();
  const folder = await folderOf(id);
  let manifest = await readManifest(folder);
  if (!manifest) {
    const files = source.hub ? await filesOnHub(source.hub, signal) : await filesAt(source.address, signal);
    manifest = { id, source, files };
    await writeText(folder, MANIFEST, JSON.stringify(manifest));
  }
  for (const [index, file] of manifest.files.entries()) {
    if (file.done) continue;
    const report = (done, total) => tell({ file: file.name, index, count: manifest.files.length, done, total });
    const save = () => writeText(folder, MANIFEST, JSON.stringify(manifest));
    await fetchFile({ folder, file, signal, report, save, digest });
    file.done = true;
    await save();
  }
  return { id };
}

async function fetchFile({ folder, file, signal, report, save, digest }) {
  const part = await folder.getFileHandle(`${file.name}.part`, { create: true });
  const handle = await part.createSyncAccessHandle();
  try {
    let have = handle.getSize();
    if (!(file.bytes && have === file.bytes)) {
      let response = await get(file, have, signal);
      const total = Number(response.headers.get('content-range')?.split('/')[1]);
      if (response.status === 206 && file.bytes && total && total !== file.bytes) {
        // Another file than the one that was begun.
        await response.body?.cancel();
        have = 0;
        file.bytes = null;
        response = await get(file, 0, signal);
      }
      if (response.status === 200) have = 0;
      handle.truncate(have);
      file.bytes ??= total || Number(response.headers.get('content-length')) + have || null;
      await save();
      const stream = response.body.getReader();
      for (;;) {
        let piece;
        try {
          piece = await stream.read();
        } catch (error) {
          handle.flush();
          if (signal.aborted) throw new Problem('Stopped.', 'Resume goes on from here.');
          throw new Problem(`${file.name}: the connection broke after ${have} bytes (${error.message}).`, 'Resume goes on from here.');
        }
        if (piece.done) break;
        try {
          handle.write(piece.value, { at: have });
        } catch (error) {
          throw new Problem(`${file.name} does not fit into this browser’s storage (${error.message}).`, 'Delete a model, or free some disk space, and resume.');
        }
        have += piece.value.byteLength;
        report(have, file.bytes);
      }
      handle.flush();
      if (file.bytes && have !== file.bytes) {
        if (have > file.bytes) handle.truncate(0);
        throw new Problem(`${file.name}: ${have} bytes came of ${file.bytes}.`, 'Resume goes on from here.');
      }
      file.bytes = have;
    }
    if (file.sha256) verify(handle, file, digest, report);
  } finally {
    handle.close();
  }
  await part.move(file.name);
}

/** What came is what the Hub says it has. */
function verify(handle, file, digest, report) {
  const sum = digest();
  const buffer = new Uint8Array(4 << 20);
  for (let at = 0; at < file.bytes; ) {
    const read = handle.read(buffer, { at });
    if (read === 0) break;
    sum.update(buffer.subarray(0, read));
    at += read;
    report(at, file.bytes);
  }
  const found = sum.hex();
  if (found !== file.sha256) {
    handle.truncate(0);
    throw new Problem(`${file.name} was damaged on its way: its SHA-256 is ${found}, the Hub says ${file.sha256}.`, 'Resume fetches this file anew.');
  }
}

async function get(file, have, signal) {
  let response;
  try {
    response = await fetch(file.url, { signal, cache: 'no-store', headers: have > 0 ? { Range: `bytes=${have}-` } : {} });
  } catch (error) {
    if (signal.aborted) throw new Problem('Stopped.', 'Resume goes on from here.');
    throw new Problem(`${file.name} cannot be fetched (${error.message}).`, 'Is there a connection? Other hosts than the Hub and this page’s own are not asked: pick a folder instead.');
  }
  if (response.status === 416) {
    // There is less than what we have: begin anew.
    return get(file, 0, signal);
  }
  if (!response.ok) throw new Problem(`${file.name}: the server says ${response.status} ${response.statusText}`);
  return response;
}

/** What a model needs, out of the names that there are. */
function needed(names, index) {
  const single = names.includes('model.safetensors');
  const weights = single || !index ? ['model.safetensors'] : ['model.safetensors.index.json', ...shards(index)];
  const missing = ['config.json', 'tokenizer.json', ...weights].find((name) => !names.includes(name));
  if (missing) throw new Problem(`There is no ${missing}.`, 'Only models in transformers’ layout, with safetensors, run here.');
  return ['config.json', ...['generation_config.json'].filter((name) => names.includes(name)), 'tokenizer.json', ...weights];
}

async function filesOnHub(model, signal) {
  if (!/^[\w.-]+\/[\w.-]+$/.test(model)) throw new Problem(`${model} is no name of a model on the Hub.`, 'It looks like facebook/musicgen-small.');
  const base = `${HUB}/${model}/resolve/main/`;
  const api = { name: 'the list of files', url: `${HUB}/api/models/${model}/tree/main` };
  const entries = await (await get(api, 0, signal)).json();
  const names = entries.map((entry) => entry.path);
  const index = names.includes('model.safetensors.index.json')
    ? await (await get({ name: 'the index', url: `${base}model.safetensors.index.json` }, 0, signal)).text()
    : null;
  return needed(names, index).map((name) => {
    const entry = entries.find((candidate) => candidate.path === name);
    return { name, url: base + name, bytes: entry.size ?? null, sha256: entry.lfs?.oid ?? null, done: false };
  });
}

async function filesAt(address, signal) {
  const base = new URL(address.endsWith('/') ? address : `${address}/`, self.location.href).href;
  const names = [];
  const there = async (name) => {
    const response = await fetch(base + name, { method: 'HEAD', signal, cache: 'no-store' }).catch((error) => {
      throw new Problem(`${base} cannot be reached (${error.message}).`, 'Other hosts than the Hub and this page’s own are not asked: pick a folder instead.');
    });
    return response.ok;
  };
  for (const name of ['config.json', 'generation_config.json', 'tokenizer.json', 'model.safetensors', 'model.safetensors.index.json']) {
    if (await there(name)) names.push(name);
  }
  const index = names.includes('model.safetensors.index.json')
    ? await (await get({ name: 'the index', url: `${base}model.safetensors.index.json` }, 0, signal)).text()
    : null;
  const all = index && !names.includes('model.safetensors') ? [...names, ...shards(index)] : names;
  return needed(all, index).map((name) => ({ name, url: base + name, bytes: null, sha256: null, done: false }));
}
