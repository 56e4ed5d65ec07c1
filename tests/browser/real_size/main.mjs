// musicgen-small's real size in a tab: `node main.mjs PAGE FOLDER`, with the environment that `run` sets; FOLDER is what
// tests/reference/real_size.py writes. Loads it, makes a second of music, compares the tokens with transformers', and says how
// long that took and how much memory the browser had at most.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { errorOf, fill, generate, idle, loaded, open, readSafetensors, withBrowser, withServer } from '../browser.mjs';
import { watchMemory } from './memory.mjs';

const [page, folder] = process.argv.slice(2).map((path) => resolve(path));
const weights = process.env.TONOSCOPE_WEIGHTS ?? 'f32';
const threads = process.env.TONOSCOPE_THREADS;
const seconds = Number(process.env.TONOSCOPE_SECONDS ?? 1);
/** Of the two largest logits: what is closer may be told apart otherwise by another order of adding up. */
const TIE = 1e-3;
/** What fetches 2.4 GB from a disk and multiplies by them fifty times may take a while. */
const PATIENCE = { timeout: 1_800_000, polling: 200 };

const { metadata, tensors } = readSafetensors(readFileSync(join(folder, 'expected.safetensors')));
const [prompt] = JSON.parse(metadata.prompts);
const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;

/** How many of the tokens are transformers', in words; a difference that is no tie is an error. */
function agreement(codes) {
  const { shape: [, codebooks, all], values: wanted } = tensors['greedy.codes'];
  const { shape: [, prompts], values: gaps } = tensors['greedy.gaps'];
  const frames = codes.length / codebooks;
  assert.ok(frames <= all, `transformers made ${all} frames`);
  // After that the delays of the last frame are filled up, where the longer piece of transformers goes on.
  for (let step = 0; step <= frames; step++) {
    for (let codebook = 0; codebook < codebooks; codebook++) {
      const frame = step - codebook;
      if (frame < 0 || frame >= frames) continue;
      const [found, expected] = [codes[codebook * frames + frame], wanted[codebook * all + frame]];
      if (found === expected) continue;
      const gap = gaps[step * prompts * codebooks + codebook];
      assert.ok(gap < TIE || weights !== 'f32', `frame ${frame} of codebook ${codebook} is ${found}, of transformers ${expected}, with a gap of ${gap}`);
      return `${step} steps are transformers', then there is another token`;
    }
  }
  return `the tokens of all ${frames + 1} steps that a longer piece shares are transformers'`;
}

await withServer(page, undefined, (address) =>
  withBrowser({ gpu: false }, async (browser) => {
    const memory = watchMemory(process.pid);
    const tab = await open(browser, address, '#device=cpu');
    const before = memory.peak();
    await tab.selectOption('#weights', weights);
    if (threads) await tab.selectOption('#threads', threads);
    await tab.click('#more-models summary');
    await tab.setInputFiles('#folder', folder);
    await tab.waitForFunction(() => globalThis.tonoscope.loaded?.value === 'folder' || !document.getElementById('error').hidden, null, PATIENCE);
    assert.equal(await errorOf(tab), null);
    await loaded(tab);
    console.log(await tab.textContent('#model-state'));
    const atLoad = memory.peak();
    await fill(tab, { prompt, seconds, greedy: true });
    await generate(tab);
    const most = memory.peak();
    // To look at a browser's memory takes a core. The second time, too, all that is slow has been compiled.
    memory.stop();
    const { codes, samples, elapsed } = await generate(tab);
    assert.ok(samples.every(Number.isFinite) && samples.some((sample) => sample !== 0), 'sound');
    console.log(`${seconds} s of music in ${elapsed.toFixed(1)} s, ${(codes.length / elapsed).toFixed(1)} tokens/s: ${agreement(codes)}`);
    const module = await tab.evaluate(() => globalThis.tonoscope.engine.call('memory'));
    console.log(`memory: the module's ${megabytes(module)}; all of the browser's processes ${megabytes(before)} with the test model, at most ${megabytes(atLoad)} while loading, ${megabytes(most)} in all`);
    await tab.close();
  }),
);
