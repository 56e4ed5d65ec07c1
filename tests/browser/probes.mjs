// Probes of the command line, read off every layer and step, against the same computed from the command line's captures.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorOf, fill, furthest, idle } from './browser.mjs';

/** The stream of another device differs in its last digits; probabilities by no more than that makes of the scores. */
const BOUND = 1e-5;

const LAYERS = 3;

export async function probeTests({ tab, page, device, codes, expected, check, request }) {
  const wanted = JSON.parse(readFileSync(expected));
  const labels = Object.keys(wanted);
  const steps = wanted[labels[0]].length / LAYERS;
  await fill(tab, request);
  await tab.click('#tab-probes');
  await check('every layer and step is as likely a guitar, a piano, a violin as on the command line', async () => {
    await tab.click('#probe-example');
    await tab.waitForFunction(() => globalThis.tonoscope.probes);
    assert.match(await tab.textContent('#probe-about'), /guitar, piano, violin, told apart at 3 places .* by logistic probes that have learnt from 24 prompts/);
    await tab.click('#probed');
    await idle(tab);
    assert.equal(await errorOf(tab), null);
    assert.deepEqual(await tab.evaluate(() => [...globalThis.tonoscope.probed.codes]), codes);
    assert.equal(await tab.isVisible('#probe-figure'), true);
    let most = 0;
    for (const label of labels) {
      await tab.selectOption('#probe-concept', { label });
      const found = await tab.evaluate(() => [...globalThis.tonoscope.probeMap.values()]);
      most = Math.max(most, furthest(found, wanted[label]));
      const all = wanted[label];
      assert.ok(Math.max(...all) - Math.min(...all) > 0.1, `${label} is more likely here than there`);
    }
    assert.ok(most <= BOUND, `probabilities are off by ${most}`);
    assert.match(await tab.textContent('#probe-figure .about'), new RegExp(`decoder.0.resid_post \\(bottom\\) to decoder.2.resid_post \\(top\\), ${steps} steps`));
    return `${labels.length} concepts, ${LAYERS} layers, ${steps} steps within ${most.toExponential(1)}`;
  });
  if (device !== 'cpu') return;
  await check('the map grows while the music is made, and shows another concept meanwhile', async () => {
    await fill(tab, { ...request, seconds: 1 });
    await tab.click('#tab-probes');
    await tab.selectOption('#probe-concept', { label: labels[0] });
    await tab.click('#probed');
    // Within the page: between two questions from outside, a busy machine may finish the music.
    const [first, before, after] = await tab.evaluate(async () => {
      const began = performance.now();
      const begun = () => {
        const { busy, probeMap: map } = globalThis.tonoscope;
        return busy && !document.getElementById('probe-figure').hidden && map.columns.length;
      };
      while (!begun() && performance.now() - began < 120_000) await new Promise((done) => setTimeout(done, 5));
      const select = document.getElementById('probe-concept');
      const shown = () => {
        select.onchange();
        return globalThis.tonoscope.probeMap.values()[0];
      };
      const [first, before] = [begun(), shown()];
      select.value = 1;
      return [first, before, shown()];
    });
    assert.notEqual(before, after);
    await idle(tab);
    const all = await tab.evaluate(() => globalThis.tonoscope.probeMap.columns.length);
    assert.ok(first > 0 && first < all);
    await fill(tab, request);
    return `${first} of ${all} steps were seen first`;
  });
  await check('what are no probes, or those of another model, is refused with words', async () => {
    await tab.click('#tab-probes');
    const folder = mkdtempSync(join(tmpdir(), 'tonoscope-probes-'));
    const example = readFileSync(join(page, 'models/instruments.probes.safetensors'));
    const said = [];
    const refused = async (name, bytes, words) => {
      const path = join(folder, name);
      writeFileSync(path, bytes);
      await tab.evaluate(() => (document.getElementById('error').hidden = true));
      await tab.setInputFiles('#probe-file', path);
      await tab.waitForFunction(() => !document.getElementById('error').hidden);
      assert.match(await errorOf(tab), words);
      assert.match(await tab.textContent('#probe-about'), /No probes are loaded/);
      assert.equal(await tab.isDisabled('#probed'), true);
      said.push((await errorOf(tab)).split('\n')[0]);
    };
    try {
      await refused('edits.safetensors', readFileSync(join(page, 'models/guitar_to_piano.safetensors')), /`edits.safetensors`: there are no probes/);
      await refused('short.safetensors', example.subarray(0, -8), /`short.safetensors` is corrupt or truncated/);
      await refused('deep.safetensors', renamed(example, 'decoder.2.', 'decoder.7.'), /no hook point `decoder.7.resid_post`/);
      // As wide as the stream, where the model is wider.
      await refused('wide.safetensors', renamed(example, 'resid_post', 'mlp_post'), /at `decoder.0.mlp_post` takes 32 features, the model has 64\nthe file is of another model/);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    return said.join('; ');
  });
}

/** A safetensors file in whose header one word is another that is no longer. */
function renamed(bytes, from, to) {
  const length = Number(bytes.readBigUInt64LE(0));
  const header = bytes.toString('latin1', 8, 8 + length).replaceAll(from, to).padEnd(length);
  return Buffer.concat([bytes.subarray(0, 8), Buffer.from(header, 'latin1'), bytes.subarray(8 + length)]);
}
