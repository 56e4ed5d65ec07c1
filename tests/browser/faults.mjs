// What a browser may do to the page: give it too little memory, hide its tab.

import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorOf, fill, idle, open, withBrowser, withCandidBrowser, withServer } from './browser.mjs';

const MEMORY_SECTION = 5;

function leb(number) {
  const bytes = [];
  do {
    bytes.push((number & 127) | (number > 127 ? 128 : 0));
    number >>>= 7;
  } while (number > 0);
  return bytes;
}

function readLeb(bytes, at) {
  let [value, shift] = [0, 0];
  for (;;) {
    const byte = bytes[at++];
    value += (byte & 127) * 2 ** shift;
    shift += 7;
    if (byte < 128) return [value, at];
  }
}

/** The module, with a memory that grows by no more than `pages` of 64 KiB: what a tab on a small phone is given. */
export function limited(wasm, pages) {
  for (let at = 8; at < wasm.length; ) {
    const [size, content] = readLeb(wasm, at + 1);
    if (wasm[at] === MEMORY_SECTION) {
      const [count, limits] = readLeb(wasm, content);
      const [least] = readLeb(wasm, limits + 1);
      assert.equal(count, 1);
      const section = [1, 1, ...leb(least), ...leb(least + pages)];
      return Buffer.concat([wasm.subarray(0, at), Buffer.from([MEMORY_SECTION, ...leb(section.length), ...section]), wasm.subarray(content + size)]);
    }
    at = content + size;
  }
  throw new Error('the module has no memory of its own');
}

async function tooLittleMemory({ page, check }) {
  const folder = mkdtempSync(join(tmpdir(), 'tonoscope-memory-'));
  try {
    const site = join(folder, 'site');
    cpSync(page, site, { recursive: true });
    const module = join(site, 'pkg/tonoscope_wasm_bg.wasm');
    writeFileSync(module, limited(readFileSync(module), 8));
    await withServer(site, undefined, (address) =>
      withBrowser({ gpu: false }, (browser) =>
        check('too little memory: said with a number and advice, each time', async () => {
          const tab = await browser.newPage();
          await tab.goto(`${address}#device=cpu&model=test`);
          const told = async () => {
            await tab.waitForFunction(() => !document.getElementById('error').hidden, null, { timeout: 60_000 });
            await idle(tab);
            return errorOf(tab);
          };
          const error = await told();
          assert.match(error, /^This tab's memory is full: [\d.]+ MB more were wanted\.\n/);
          assert.match(error, /close other tabs, make shorter music, .* or use a smaller model/);
          assert.match(await tab.textContent('#model-state'), /No model is loaded|load the model again/);
          // The worker was started anew, and can be asked again.
          await tab.evaluate(() => (document.getElementById('error').hidden = true));
          await tab.click('#load');
          assert.match(await told(), /memory is full/);
          await tab.close();
          return error.split('\n')[0];
        }),
      ),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function hiddenTab({ page, check, same, GREEDY }) {
  await withServer(page, undefined, (address) =>
    withCandidBrowser((browser) =>
      check('a tab that is hidden goes on, and shows what it made', async () => {
        const tab = await open(browser, address, '#device=cpu');
        await fill(tab, GREEDY);
        const other = await browser.newPage();
        await tab.waitForFunction(() => document.visibilityState === 'hidden', null, { polling: 50, timeout: 10_000 });
        await tab.evaluate(() => document.getElementById('generate').click());
        await idle(tab);
        assert.equal(await tab.evaluate(() => document.visibilityState), 'hidden');
        const piece = await tab.evaluate(() => ({ codes: [...globalThis.tonoscope.piece.codes], samples: [...globalThis.tonoscope.piece.channels[0]] }));
        const said = same(piece, 'greedy');
        await tab.bringToFront();
        await tab.waitForFunction(() => document.visibilityState === 'visible', null, { polling: 50, timeout: 10_000 });
        const painted = await tab.evaluate(() => {
          const canvas = document.querySelector('#piece-player .wave');
          return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0);
        });
        assert.ok(painted, 'the waveform is drawn');
        await other.close();
        await tab.close();
        return said;
      }),
    ),
  );
}

export async function faultTests(given) {
  await tooLittleMemory(given);
  await hiddenTab(given);
}
