// A classifier that judges the layers, against the command line's.

import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorOf, fill, generate, idle, loaded, open, withServer } from './browser.mjs';

const here = new URL('.', import.meta.url).pathname;

export async function judgeTests({ browser, page, check, GREEDY }) {
  const expected = JSON.parse(readFileSync(join(here, 'expected/judge.json')));
  const folder = mkdtempSync(join(tmpdir(), 'tonoscope-judge-'));
  const [weights, config] = ['passt_tiny.safetensors', 'config.json'].map((name) => join(folder, name));
  cpSync(join(here, '../fixtures/passt_tiny/passt_tiny.safetensors'), weights);
  writeFileSync(config, JSON.stringify(expected.config));
  try {
    await withServer(page, undefined, async (address) => {
      const tab = await open(browser, address, '#device=cpu');
      const read = async (seconds) => {
        await fill(tab, { ...GREEDY, seconds });
        await generate(tab);
        await tab.click('#tab-lens');
        await tab.click('#lens');
        await idle(tab);
      };
      const pick = async (files) => {
        await tab.setInputFiles('#judge-files', files);
        // The page says that it is loading before this call returns.
        await tab.waitForFunction(() => /classes|No judge/.test(document.getElementById('judge-state').textContent));
      };
      await check('without a judge, nobody says what the layers sound like', async () => {
        await read(expected.seconds);
        assert.equal(await errorOf(tab), null);
        assert.equal(await tab.locator('#readings .judged:visible').count(), 0);
      });
      await check('what is no judge is refused with words', async () => {
        await tab.click('#judge-part summary');
        await pick([config]);
        const error = await errorOf(tab);
        assert.match(error, /There are 0 .safetensors files, expected one/);
        await pick([join(page, 'models/test/model.safetensors')]);
        assert.match(await errorOf(tab), /head\.1\.weight/);
        return (await errorOf(tab)).split('\n')[0];
      });
      await check('a PaSST recognises in every layer what it does on the command line', async () => {
        await pick([weights, config]);
        assert.equal(await errorOf(tab), null);
        assert.match(await tab.textContent('#judge-state'), /19 classes/);
        assert.equal(await tab.inputValue('#concept'), 'guitar');
        await read(expected.seconds);
        assert.equal(await errorOf(tab), null);
        const judged = await tab.evaluate(() => globalThis.tonoscope.lens.judged);
        judged.forEach(({ ndcg, top }, layer) => {
          assert.ok(Math.abs(ndcg.guitar - expected.ndcg[layer]) < 1e-6, `layer ${layer + 1}: ${ndcg.guitar}, ${expected.ndcg[layer]} on the command line`);
          assert.ok(top.length === 3 && top[0][1] >= top[1][1] && top[1][1] >= top[2][1]);
        });
        const shown = await tab.locator('#readings tbody tr:first-child .judged').allTextContents();
        assert.equal(shown[1], expected.ndcg[0].toFixed(3));
        for (const [name, width] of [['judge', 1100], ['phone-judge', 390]]) {
          await tab.setViewportSize({ width, height: 900 });
          await tab.screenshot({ path: join(page, `../screenshots/${name}.png`), fullPage: true });
        }
        await tab.setViewportSize({ width: 1100, height: 900 });
        return expected.ndcg.map((value) => value.toFixed(3)).join(', ');
      });
      await check('music that is too short for the judge is called that', async () => {
        await read(0.1);
        assert.match(await errorOf(tab), /0\.10 s of music are too little for the judge, who needs 0\.15 s/);
      });
      await check('another load of the model keeps the judge', async () => {
        await tab.click('#load');
        await loaded(tab);
        await tab.waitForFunction(() => !document.getElementById('concept').disabled);
        await read(expected.seconds);
        const judged = await tab.evaluate(() => globalThis.tonoscope.lens.judged);
        assert.ok(Math.abs(judged[0].ndcg.guitar - expected.ndcg[0]) < 1e-6);
      });
      assert.deepEqual(tab.complaints, []);
      await tab.close();
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
