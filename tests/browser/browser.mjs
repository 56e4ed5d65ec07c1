// A Chromium with or without WebGPU, a server for the page, and what tests ask of them.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serve } from '../../wasm-demo/serve.mjs';

const { chromium } = await import(process.env.TONOSCOPE_PLAYWRIGHT);

const FLAGS = [
  '--headless=new', '--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--autoplay-policy=no-user-gesture-required',
];
/** Without the first of these, this Chromium has no adapter. */
const GPU = ['--enable-unsafe-webgpu', '--enable-webgpu-developer-features'];

/** Removes a profile. The browser's helpers may outlive it and write: `rmSync` does not try again what they fill meanwhile. */
async function discard(profile) {
  for (const began = Date.now(); ; await new Promise((done) => setTimeout(done, 200))) {
    try {
      return rmSync(profile, { recursive: true, force: true });
    } catch (error) {
      if (Date.now() - began > 20_000) return console.warn(`\`${profile}\` stays: ${error.message}`);
    }
  }
}

/** Runs `work(browser)` in a fresh profile. */
export async function withBrowser({ gpu }, work) {
  const profile = mkdtempSync(join(tmpdir(), 'tonoscope-chromium-'));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.TONOSCOPE_CHROMIUM,
    ignoreDefaultArgs: ['--headless', '--disable-gpu', '--enable-unsafe-swiftshader'],
    args: [...FLAGS, ...(gpu ? GPU : [])],
    viewport: { width: 1100, height: 900 },
  });
  try {
    return await work(browser);
  } finally {
    await browser.close();
    await discard(profile);
  }
}

/** As `withBrowser` without GPU, of a browser whose tabs are hidden by others: Playwright makes its own believe otherwise. */
export async function withCandidBrowser(work) {
  const profile = mkdtempSync(join(tmpdir(), 'tonoscope-chromium-'));
  const running = spawn(process.env.TONOSCOPE_CHROMIUM, [...FLAGS, '--remote-debugging-port=0', `--user-data-dir=${profile}`, 'about:blank'], { stdio: 'ignore' });
  const ended = new Promise((done) => running.once('exit', done));
  try {
    let port;
    for (const began = Date.now(); !port; await new Promise((done) => setTimeout(done, 50))) {
      const file = join(profile, 'DevToolsActivePort');
      if (existsSync(file)) port = readFileSync(file, 'utf8').split('\n')[0];
      assert.ok(port || Date.now() - began < 30_000, 'the browser does not start');
    }
    const browser = await chromium.connectOverCDP(`http://127.0.0.1:${port}`, { noDefaults: true });
    return await work(browser.contexts()[0]);
  } finally {
    running.kill();
    await ended;
    await discard(profile);
  }
}

/** Runs `work(address, server)` beside a server of `folder`. */
export async function withServer(folder, meddle, work) {
  const server = await serve(folder, 0, meddle);
  try {
    return await work(`http://localhost:${server.address().port}/`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** A tab with the page in it, its model loaded: the test model, unless the fragment says another. What goes wrong on the way is in `tab.complaints`. */
export async function open(browser, address, fragment = '') {
  const tab = await browser.newPage();
  tab.complaints = [];
  tab.on('console', (message) => message.type() === 'error' && tab.complaints.push(message.text()));
  tab.on('pageerror', (error) => tab.complaints.push(String(error)));
  tab.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(address) && !/^(blob|data):/.test(url)) tab.complaints.push(`a request to ${url}`);
  });
  await tab.goto(address + (fragment.includes('model=') ? fragment : `${fragment || '#'}&model=test`));
  await loaded(tab);
  return tab;
}

/** A step takes seconds on a GPU in software where others compute as well. Asked by the clock: a hidden tab paints nothing. */
const PATIENCE = { timeout: 900_000, polling: 50 };

export const loaded = (tab) => tab.waitForFunction(() => globalThis.tonoscope?.about && !globalThis.tonoscope.busy, null, PATIENCE);
export const idle = (tab) => tab.waitForFunction(() => !globalThis.tonoscope.busy, null, PATIENCE);

/** Fills in the form of the first tab. */
export async function fill(tab, { prompt, seconds, greedy, seed }) {
  await tab.click('#tab-generate');
  await tab.fill('#prompt', prompt);
  await tab.fill('#seconds', String(seconds));
  await tab.setChecked('#greedy', Boolean(greedy));
  if (seed !== undefined) await tab.fill('#seed', String(seed));
}

/** Presses Generate; codes and samples of what comes. */
export async function generate(tab) {
  await tab.click('#generate');
  await idle(tab);
  const error = await errorOf(tab);
  assert.equal(error, null);
  return tab.evaluate(() => ({ codes: [...globalThis.tonoscope.piece.codes], samples: [...globalThis.tonoscope.piece.channels[0]], elapsed: globalThis.tonoscope.piece.elapsed }));
}

export const errorOf = (tab) => tab.evaluate(() => (document.getElementById('error').hidden ? null : document.getElementById('error').textContent));

/** Samples of a mono WAV file of 32-bit floats. */
export function readWav(path) {
  const bytes = readFileSync(path);
  let at = 12;
  while (bytes.toString('latin1', at, at + 4) !== 'data') at += 8 + bytes.readUInt32LE(at + 4);
  const length = bytes.readUInt32LE(at + 4) / 4;
  return Float32Array.from({ length }, (_, index) => bytes.readFloatLE(at + 8 + 4 * index));
}

/** By type: bytes of a number, and the number at a place. */
const NUMBERS = {
  F32: [4, (bytes, at) => bytes.readFloatLE(at)],
  I64: [8, (bytes, at) => Number(bytes.readBigInt64LE(at))],
};

/** Tensors of a safetensors file, as numbers. */
export function readSafetensors(bytes) {
  const length = Number(bytes.readBigUInt64LE(0));
  const { __metadata__: metadata, ...header } = JSON.parse(bytes.toString('utf8', 8, 8 + length));
  const tensors = Object.fromEntries(
    Object.entries(header).map(([name, { dtype, shape, data_offsets: [from, to] }]) => {
      const [size, number] = NUMBERS[dtype];
      const values = Array.from({ length: (to - from) / size }, (_, index) => number(bytes, 8 + length + from + size * index));
      return [name, { shape, values }];
    }),
  );
  return { metadata, tensors };
}

/** The largest difference. */
export function furthest(found, expected) {
  assert.equal(found.length, expected.length);
  return expected.reduce((most, value, index) => Math.max(most, Math.abs(found[index] - value)), 0);
}
