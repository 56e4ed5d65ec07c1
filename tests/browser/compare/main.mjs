// Our decode step beside onnxruntime-web's, in the same browser session: `node main.mjs PAGE FOLDER`, with the environment that
// `run` sets; FOLDER is what decoder_step.py writes. Rounds of both sides alternate, so that what else the machine does meets
// both; a round's number is the median of its steps.

import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { readSafetensors, withBrowser, withServer } from '../browser.mjs';

const [page, folder] = process.argv.slice(2).map((path) => resolve(path));
const ROUNDS = Number(process.env.TONOSCOPE_ROUNDS ?? 7);
const about = JSON.parse(readFileSync(join(folder, 'inputs.json')));
/** Of the model that decoder_step.py makes. */
const FRAME_RATE = 50;
const REQUEST = { prompt: about.prompt, seconds: Number(process.env.TONOSCOPE_SECONDS ?? 1) };
/** Largest difference of the logits, relative to the largest: both add up in 32 bits, in other orders. */
const BOUND = 1e-4;

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const milliseconds = (values) => `${median(values).toFixed(2)} ms (${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)})`;

/** A worker of the tab, and what asks it. */
async function side(tab, query) {
  const worker = await tab.evaluateHandle((query) => new Worker(`worker.js?${query}`, { type: 'module' }), query);
  const ask = async (action, argument) => {
    const { value, error } = await worker.evaluate(
      (worker, [action, argument]) =>
        new Promise((done) => {
          const plain = (value) => (ArrayBuffer.isView(value) ? [...value] : value);
          worker.onmessage = ({ data: { value, error } }) =>
            done({ error, value: value?.codes ? { codes: plain(value.codes), captures: plain(value.captures) } : plain(value) });
          worker.onerror = (event) => done({ error: event.message ?? 'the worker could not be started' });
          worker.postMessage([action, argument]);
        }),
      [action, argument],
    );
    if (error) throw new Error(`${query}, ${action}: ${error}`);
    return value;
  };
  return { ask, end: () => worker.evaluate((worker) => worker.terminate()) };
}

/** How far the logits of the same tokens are apart, relative to the largest. */
function agreement(captured, theirs) {
  const { tensors } = readSafetensors(Buffer.from(captured));
  // `[branch, prompt, step, codebook, token]`, of which the first step is where theirs begin.
  const { shape, values } = tensors['decoder.logits'];
  const [branches, , steps, heads, vocabulary] = shape;
  assert.deepEqual([branches, heads], [2, about.codebooks]);
  assert.equal(theirs.length, branches * (steps - 1) * heads * vocabulary);
  const largest = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  let off = 0;
  for (let at = 0; at < theirs.length; at++) {
    const token = at % vocabulary;
    const head = Math.floor(at / vocabulary) % heads;
    const branch = Math.floor(at / (vocabulary * heads)) % branches;
    const step = 1 + Math.floor(at / (vocabulary * heads * branches));
    off = Math.max(off, Math.abs(theirs[at] - values[((branch * steps + step) * heads + head) * vocabulary + token]));
  }
  return off / largest;
}

async function compare(tab, device, threads) {
  const ours = await side(tab, `ours&device=${device}&threads=${threads}`);
  const theirs = await side(tab, `theirs&device=${device === 'cpu' ? 'wasm' : 'webgpu'}&threads=${threads}`);
  const { codes, captures } = await ours.ask('logits', { ...REQUEST, seconds: 0.1 });
  const off = agreement(captures, await theirs.ask('logits', codes));
  assert.ok(off <= BOUND, `the logits differ by ${off} of the largest`);
  assert.equal(await ours.ask('threads'), threads);
  assert.equal(await theirs.ask('threads'), threads);
  console.log(`${device}: logits agree within ${off.toExponential(1)} of the largest; both on ${threads} ${threads === 1 ? 'thread' : 'threads'}`);
  const frames = Math.round(REQUEST.seconds * FRAME_RATE);
  // Any tokens take as long.
  const tokens = Array.from({ length: about.codebooks * frames }, (_, at) => (at * 37) % about.padding);
  const rounds = { ours: [], theirs: [] };
  for (let round = -1; round < ROUNDS; round++) {
    const own = median(await ours.ask('time', REQUEST));
    const other = median(await theirs.ask('time', tokens));
    // The first round of each compiles and warms up.
    if (round < 0) continue;
    rounds.ours.push(own);
    rounds.theirs.push(other);
  }
  const ratios = rounds.theirs.map((other, round) => other / rounds.ours[round]);
  console.log(`  a step of ours ${milliseconds(rounds.ours)}, of onnxruntime-web ${milliseconds(rounds.theirs)}`);
  console.log(`  ours is ${median(ratios).toFixed(2)} times as fast (${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}, ${ROUNDS} rounds of ${frames + about.codebooks - 2} steps)`);
  await ours.end();
  await theirs.end();
}

const site = mkdtempSync(join(tmpdir(), 'tonoscope-compare-'));
try {
  for (const name of ['model', 'step.onnx', 'inputs.json', 'inputs.bin']) symlinkSync(join(folder, name), join(site, name));
  for (const name of ['pkg', 'crew.js', 'helper.js', 'line.js']) symlinkSync(join(page, name), join(site, name));
  symlinkSync(join(process.env.TONOSCOPE_ORT, 'dist'), join(site, 'ort'));
  cpSync(new URL('worker.js', import.meta.url), join(site, 'worker.js'));
  writeFileSync(join(site, 'index.html'), '<!doctype html><title>comparison</title>');
  await withServer(site, undefined, (address) =>
    withBrowser({ gpu: true }, async (browser) => {
      const tab = await browser.newPage();
      await tab.goto(address);
      assert.ok(await tab.evaluate(() => globalThis.crossOriginIsolated), 'threads need shared memory');
      const cores = await tab.evaluate(() => navigator.hardwareConcurrency);
      for (const threads of cores > 1 ? [1, cores] : [1]) await compare(tab, 'cpu', threads);
      const adapter = await tab.evaluate(async () => {
        const found = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' });
        return found && { name: [found.info.vendor, found.info.architecture, found.info.description].filter(Boolean).join(' '), software: found.info.isFallbackAdapter ?? false };
      });
      const software = adapter && (adapter.software || /swiftshader|llvmpipe|lavapipe/i.test(adapter.name));
      if (!adapter) console.log('webgpu: left out, there is no adapter');
      else if (software && !process.env.TONOSCOPE_COMPARE_SOFTWARE) console.log(`webgpu: left out, ${adapter.name} is software, whose times say nothing; TONOSCOPE_COMPARE_SOFTWARE=1 times it all the same`);
      else await compare(tab, 'webgpu', 1);
    }),
  );
} finally {
  rmSync(site, { recursive: true, force: true });
}
