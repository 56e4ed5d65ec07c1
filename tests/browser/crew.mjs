// Workers that help on the CPU: what they make is what one makes alone, and what happens when one of them fails.

import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorOf, fill, generate, idle, open, withBrowser, withServer } from './browser.mjs';

/** Loads the model anew, with matrices divided however small they are; how many threads there are. */
const divided = (tab, threads, weights) =>
  tab.evaluate(
    async ([threads, weights]) => {
      const about = await globalThis.tonoscope.engine.call('load', { source: { address: 'models/nano/' }, device: 'cpu', weights, threads, divideFrom: 1 });
      return about.threads;
    },
    [threads, weights],
  );

/** The page with another `helper.js`. */
async function withHelper(page, change, work) {
  const folder = mkdtempSync(join(tmpdir(), 'tonoscope-crew-'));
  try {
    const site = join(folder, 'site');
    cpSync(page, site, { recursive: true });
    const helper = join(site, 'helper.js');
    writeFileSync(helper, change(readFileSync(helper, 'utf8')));
    await withServer(site, undefined, (address) => withBrowser({ gpu: false }, (browser) => work(browser, address)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export async function crewTests({ page, check, nano, GREEDY }) {
  const piece = { ...GREEDY, seconds: nano.seconds };
  await withServer(page, undefined, (address) =>
    withBrowser({ gpu: false }, async (browser) => {
      const tab = await open(browser, address, '#device=cpu&model=nano');
      await check('threads: three workers make the command line’s tokens', async () => {
        assert.equal(await divided(tab, 3, 'f32'), 3);
        await fill(tab, piece);
        const { codes } = await generate(tab);
        assert.deepEqual(codes, nano.greedy);
        return `${codes.length} tokens`;
      });
      for (const weights of ['f16', 'int8', 'int4']) {
        await check(`threads: in ${weights} two make what one makes, to the last bit`, async () => {
          const pieces = [];
          for (const threads of [1, 2]) {
            assert.equal(await divided(tab, threads, weights), threads);
            pieces.push(await generate(tab));
          }
          assert.deepEqual(pieces[0].codes, pieces[1].codes);
          assert.deepEqual(pieces[0].samples, pieces[1].samples);
        });
      }
      assert.deepEqual(tab.complaints, []);
      await tab.close();
    }),
  );
  // After some hundred parts and products.
  const breaks = (script) => {
    const changed = script.replace('tonoscopeLine = line;', "tonoscopeLine = { ...line, take: (into) => { if (++taken > 300) throw new Error('broken on purpose'); line.take(into); } };");
    assert.notEqual(changed, script);
    return `let taken = 0;\n${changed}`;
  };
  await withHelper(page, breaks, (browser, address) =>
    check('threads: one that breaks down is said, and the engine starts again', async () => {
      const tab = await open(browser, address, '#device=cpu&model=nano');
      assert.equal(await divided(tab, 2, 'f32'), 2);
      await fill(tab, piece);
      await tab.click('#generate');
      await idle(tab);
      const error = await errorOf(tab);
      assert.match(error, /^The engine stopped: broken on purpose/);
      assert.equal(await divided(tab, 1, 'f32'), 1);
      await tab.close();
      return error.split('\n')[0];
    }),
  );
  await withHelper(page, () => 'this is no script', (browser, address) =>
    check('threads: where no worker starts, one makes all', async () => {
      const tab = await open(browser, address, '#device=cpu&model=nano');
      assert.equal(await divided(tab, 2, 'f32'), 1);
      await fill(tab, piece);
      assert.deepEqual((await generate(tab)).codes, nano.greedy);
      await tab.close();
    }),
  );
}
