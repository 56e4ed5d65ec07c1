// The page against the command line: `node main.mjs FOLDER`, with the environment that `run` sets.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorOf, fill, furthest, generate, idle, loaded, open, readSafetensors, readWav, withBrowser, withServer } from './browser.mjs';
import { crewTests } from './crew.mjs';
import { faultTests } from './faults.mjs';
import { judgeTests } from './judge.mjs';
import { modelTests } from './models.mjs';
import { probeTests } from './probes.mjs';

const [page] = process.argv.slice(2);
const here = new URL('.', import.meta.url).pathname;
const all = JSON.parse(readFileSync(join(here, 'expected/tokens.json')));
/** What the command line makes, by the path that is compared with it. */
let expected = all.long;
let length = 'long';
const shots = join(page, '../screenshots');
mkdirSync(shots, { recursive: true });
const GREEDY = { prompt: all.prompt, seconds: all.long.seconds, greedy: true };
/** `cpu` or `webgpu`: no more than the checks of that path. */
const only = process.env.TONOSCOPE_ONLY;
const report = [];

/** One thing that must hold; says how long it took. */
async function check(name, work) {
  const began = performance.now();
  const said = await work();
  const line = `ok  ${name}${said ? `: ${said}` : ''} (${((performance.now() - began) / 1000).toFixed(1)} s)`;
  report.push(line);
  console.log(line);
}

/** Tokens and sound are those of the command line. */
function same(piece, name) {
  assert.deepEqual(piece.codes, expected[name], `the tokens of ${name}`);
  const off = furthest(piece.samples, readWav(join(here, `expected/${length}/${name}.wav`)));
  assert.ok(off <= 1e-4, `the sound of ${name} is off by ${off}`);
  return `the command line's ${piece.codes.length} tokens, sound within ${off.toExponential(1)}`;
}

/** On the GPU, which is one in software where this usually runs, only what runs on the device in another way. */
async function paths(browser, address, device) {
  const began = performance.now();
  length = device === 'cpu' ? 'long' : 'short';
  expected = all[length];
  GREEDY.seconds = expected.seconds;
  const tab = await open(browser, address, `#device=${device}`);
  const on = (what) => `${device}: ${what}`;
  await check(on('the device is used'), async () => {
    const state = await tab.textContent('#model-state');
    assert.match(state, device === 'cpu' ? /on the CPU/ : /on the GPU/);
    const test = await tab.evaluate(() => globalThis.tonoscope.selfTest);
    if (device === 'cpu') return '';
    assert.equal(test.ok, true);
    return `ready after ${((performance.now() - began) / 1000).toFixed(1)} s; ${test.blocks.map(({ name, error }) => `${name} ${error.toExponential(1)}`).join(', ')}`;
  });
  await check(on('greedy'), async () => {
    await fill(tab, GREEDY);
    return same(await generate(tab), 'greedy');
  });
  await check(on('lens, every layer along the music'), async () => {
    await tab.click('#tab-lens');
    await tab.click('#lens');
    await idle(tab);
    assert.equal(await errorOf(tab), null);
    const codes = await tab.evaluate(() => globalThis.tonoscope.lens.layers.map((layer) => [...layer.codes]));
    assert.deepEqual(codes, expected['teacher-forced']);
    assert.equal(await tab.locator('#readings tbody tr').count(), 3);
    // By keyboard: one layer down, then to B and back; always the same place in the music.
    await tab.click('#lens-player .play');
    await tab.focus('#layer');
    await tab.keyboard.press('ArrowLeft');
    assert.equal(await tab.textContent('#layer-text'), '2 of 3');
    assert.equal(await tab.evaluate(() => globalThis.tonoscope.lensPlayer.current), 1);
    await tab.selectOption('#layer-b', '1');
    await tab.click('#ab');
    assert.equal(await tab.evaluate(() => globalThis.tonoscope.lensPlayer.current), 0);
    assert.equal(await tab.getAttribute('#ab', 'aria-pressed'), 'true');
    return `${codes.length} layers`;
  });
  if (device === 'cpu') await check(on('it is heard while it is made, and goes on in the player'), async () => {
    await fill(tab, { ...GREEDY, seconds: 3 });
    await tab.click('#generate');
    const begun = () => {
      const { busy, live } = globalThis.tonoscope;
      return busy && live?.began != null && { have: live.have, seconds: live.seconds };
    };
    const { have, seconds } = await (await tab.waitForFunction(begun, null, { polling: 10, timeout: 120_000 })).jsonValue();
    assert.ok(have < seconds, 'it begins before all of it is there');
    await tab.waitForFunction(() => !globalThis.tonoscope.busy, null, { polling: 10, timeout: 120_000 });
    const after = await tab.evaluate(() => {
      const { live, piece, player } = globalThis.tonoscope;
      const heard = live.pieces.flatMap(({ channels }) => [...channels[0]]);
      const same = heard.length === piece.channels[0].length && heard.every((sample, at) => sample === piece.channels[0][at]);
      return { same, pieces: live.pieces.length, playing: Boolean(player.sources), place: player.now() };
    });
    assert.ok(after.same, 'what was heard is the piece');
    assert.ok(after.playing && after.place > 0, 'the player goes on');
    await tab.click('#piece-player .play');
    await fill(tab, GREEDY);
    same(await generate(tab), 'greedy');
    await tab.click('#tab-lens');
    return `begun with ${have.toFixed(2)} of ${seconds} s, in ${after.pieces} pieces`;
  });
  if (device === 'cpu') await check(on('lens, every layer by itself'), async () => {
    await tab.selectOption('#lens-mode', 'alone');
    await tab.click('#lens');
    await idle(tab);
    const codes = await tab.evaluate(() => globalThis.tonoscope.lens.layers.map((layer) => [...layer.codes]));
    assert.deepEqual(codes, expected['early-exit']);
  });
  await check(on('sampled'), async () => {
    await fill(tab, { ...GREEDY, greedy: false, seed: 7 });
    return same(await generate(tab), 'sampled');
  });
  await fill(tab, GREEDY);
  await check(on('an edit of the command line, and the heat map of its direction'), async () => {
    await tab.click('#tab-edits');
    await tab.click('#edit-example');
    await tab.waitForFunction(() => globalThis.tonoscope.edits);
    await tab.click('#edited');
    await idle(tab);
    assert.equal(await errorOf(tab), null);
    const made = await tab.evaluate(() => globalThis.tonoscope.edited.map((piece) => ({ codes: [...piece.codes], samples: [...piece.channels[0]] })));
    same(made[0], 'greedy');
    const said = same(made[1], 'edited');
    const heat = await tab.evaluate(() => [...globalThis.tonoscope.editMap.values()]);
    const steps = expected.edited.length / 4 + 3;
    assert.equal(heat.length, 3 * steps);
    assert.ok(heat.every((value) => Math.abs(value) <= 1 + 1e-6) && heat.some((value) => Math.abs(value) > 0.05));
    assert.equal(await tab.isVisible('#heat-figure'), true);
    return said;
  });
  if (device === 'cpu') await check(on('the heat map grows while the music is made'), async () => {
    await fill(tab, { ...GREEDY, seconds: 1 });
    await tab.click('#tab-edits');
    await tab.click('#edited');
    const steps = () => {
      const shown = /, (\d+) steps/.exec(document.querySelector('#heat-figure .about').textContent);
      return globalThis.tonoscope.busy && !document.getElementById('heat-figure').hidden && shown && Number(shown[1]);
    };
    const first = await (await tab.waitForFunction(steps, null, { polling: 10, timeout: 120_000 })).jsonValue();
    await idle(tab);
    const all = await tab.evaluate(() => globalThis.tonoscope.editMap.columns.length);
    assert.match(await tab.textContent('#heat-figure .about'), new RegExp(`, ${all} steps`));
    assert.ok(first > 0 && first < all);
    await fill(tab, GREEDY);
    await tab.click('#tab-edits');
    return `${first} of ${all} steps were seen first`;
  });
  if (device === 'cpu') await check(on('strength 0 leaves every token as it is'), async () => {
    await tab.focus('#strength');
    await tab.fill('#strength', '0');
    await tab.click('#edited');
    await idle(tab);
    const codes = await tab.evaluate(() => [...globalThis.tonoscope.edited[1].codes]);
    assert.deepEqual(codes, expected.greedy);
  });
  if (device === 'cpu') await check(on('captures'), async () => {
    const [download] = await Promise.all([tab.waitForEvent('download'), tab.click('#export')]);
    const found = readSafetensors(readFileSync(await download.path()));
    const wanted = readSafetensors(readFileSync(join(here, `expected/${length}/capture.safetensors`)));
    assert.deepEqual(JSON.parse(found.metadata.axes), JSON.parse(wanted.metadata.axes));
    assert.deepEqual(JSON.parse(found.metadata.spec), JSON.parse(wanted.metadata.spec));
    assert.deepEqual(JSON.parse(found.metadata.prompts), JSON.parse(wanted.metadata.prompts));
    let most = 0;
    for (const [name, { shape, values }] of Object.entries(wanted.tensors)) {
      assert.deepEqual(found.tensors[name].shape, shape);
      const largest = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
      most = Math.max(most, furthest(found.tensors[name].values, values) / largest);
    }
    assert.ok(most <= 1e-5, `captures are off by ${most}`);
    return `within ${most.toExponential(1)} of the command line's`;
  });
  if (device === 'cpu') await check(on('a direction made of prompts is the difference of the captures'), async () => {
    await tab.locator('#panel-edits summary').click();
    await tab.click('#make-direction');
    await idle(tab);
    assert.equal(await errorOf(tab), null);
    await tab.waitForFunction(() => globalThis.tonoscope.edits?.name === 'direction.safetensors');
    const found = readSafetensors(Buffer.from(await tab.evaluate(() => [...globalThis.tonoscope.edits.bytes])));
    const wanted = readSafetensors(readFileSync(join(page, 'models/guitar_to_piano.safetensors')));
    assert.deepEqual(JSON.parse(found.metadata['tonoscope.edits']).map((edit) => edit.points), JSON.parse(wanted.metadata['tonoscope.edits']).map((edit) => edit.points));
    for (const [name, { values }] of Object.entries(wanted.tensors)) assert.ok(furthest(found.tensors[name].values, values) <= 1e-4, name);
  });
  await probeTests({ tab, page, device, codes: expected.greedy, expected: join(here, `expected/${length}/probes.json`), check: (name, work) => check(on(name), work), request: GREEDY });
  await check(on('cancel, and go on'), async () => {
    await fill(tab, { ...GREEDY, seconds: 60 });
    await tab.click('#generate');
    await tab.waitForFunction(() => /tokens\/s/.test(document.getElementById('pace').textContent), null, { timeout: 300_000 });
    const began = performance.now();
    await tab.click('#cancel');
    await idle(tab);
    const took = performance.now() - began;
    assert.equal(await tab.textContent('#piece-about'), 'Cancelled.');
    await loaded(tab);
    await fill(tab, GREEDY);
    if (device === 'cpu') same(await generate(tab), 'greedy');
    return `stopped after ${took.toFixed(0)} ms`;
  });
  await check(on('a wrong value is refused with words'), async () => {
    await fill(tab, { ...GREEDY, greedy: false, seed: 'abc' });
    await tab.click('#generate');
    await idle(tab);
    assert.match(await errorOf(tab), /a seed of `abc`/);
    await fill(tab, GREEDY);
  });
  await check(on('the link says the whole run'), async () => {
    await fill(tab, { ...GREEDY, prompt: 'Ä & ü # 100 %' });
    await tab.click('#link');
    const link = await tab.evaluate(() => location.hash);
    assert.match(link, new RegExp(`device=${device}`));
    // A second worker would test the GPU again, which takes half of all the time.
    if (device === 'webgpu') return;
    const other = await open(browser, address, link);
    assert.equal(await other.inputValue('#prompt'), 'Ä & ü # 100 %');
    assert.equal(await other.isChecked('#greedy'), true);
    assert.equal(await other.inputValue('#device'), device);
    await other.close();
  });
  if (device === 'webgpu') {
    await check(on('16 bits that the GPU does not have after all'), async () => {
      const weights = () => tab.locator('#weights option:not([disabled])').evaluateAll((all) => all.map(({ value }) => value));
      if ((await weights()).includes('f16')) return 'this GPU has them';
      await tab.evaluate(() => {
        const { has } = GPUSupportedFeatures.prototype;
        GPUSupportedFeatures.prototype.has = function (name) { return name === 'shader-f16' || has.call(this, name); };
        document.querySelector('#device').onchange();
      });
      assert.deepEqual(await weights(), ['f32', 'f16']);
      await tab.selectOption('#weights', 'f16');
      await tab.click('#load');
      await loaded(tab);
      assert.match(await tab.textContent('#notice'), /calculates in 32 bits instead/);
      assert.match(await tab.textContent('#model-state'), /on the GPU \(f32\)/);
      assert.deepEqual(await weights(), ['f32']);
    });
  }
  await check(on('nothing was complained about, and no other host asked'), async () => assert.deepEqual(tab.complaints, []));
  await tab.close();
}

async function withoutGpu(browser, address) {
  [length, expected] = ['long', all.long];
  GREEDY.seconds = expected.seconds;
  await check('no WebGPU: a notice, and the CPU', async () => {
    const tab = await open(browser, address);
    assert.match(await tab.textContent('#notice'), /no WebGPU/);
    assert.equal(await tab.inputValue('#device'), 'cpu');
    await fill(tab, GREEDY);
    const said = same(await generate(tab), 'greedy');
    await tab.screenshot({ path: join(shots, 'no-webgpu.png'), fullPage: true });
    await tab.close();
    return said;
  });
  await check('without a word about it, the page opens with a model that makes music', async () => {
    const tab = await browser.newPage();
    await tab.goto(address);
    await loaded(tab);
    assert.equal(await tab.inputValue('#model'), 'nano');
    await fill(tab, { ...GREEDY, seconds: all.nano.seconds });
    const { codes, elapsed } = await generate(tab);
    assert.deepEqual(codes, all.nano.greedy);
    await tab.screenshot({ path: join(shots, 'nano.png'), fullPage: true });
    await tab.close();
    return `the command line's ${codes.length} tokens, ${(all.nano.seconds / elapsed).toFixed(1)} x real time`;
  });
  for (const weights of ['f16', 'int8', 'int4']) {
    await check(`weights in ${weights}`, async () => {
      const tab = await open(browser, address);
      await tab.selectOption('#weights', weights);
      assert.match(await tab.textContent('#weights-note'), /memory/);
      await tab.click('#load');
      await loaded(tab);
      await fill(tab, GREEDY);
      const piece = await generate(tab);
      assert.equal(piece.codes.length, expected.greedy.length);
      await tab.close();
      const agree = piece.codes.filter((code, index) => code === expected.greedy[index]).length;
      return `${agree} of ${piece.codes.length} greedy tokens are those of f32`;
    });
  }
}

/** Pictures to look at. */
async function pictures(browser, address) {
  for (const [name, scheme, width] of [['light', 'light', 1100], ['dark', 'dark', 1100], ['phone', 'light', 390], ['phone-dark', 'dark', 390]]) {
    const tab = await open(browser, address, '#device=cpu');
    await tab.emulateMedia({ colorScheme: scheme });
    await tab.setViewportSize({ width, height: 900 });
    await fill(tab, { ...GREEDY, seconds: 0.25 });
    await generate(tab);
    const shot = async (panel) => {
      const wide = await tab.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(wide, 0, `${panel} is wider than the window at ${width}`);
      await tab.waitForTimeout(150);
      await tab.screenshot({ path: join(shots, `${name}-${panel}.png`), fullPage: true });
    };
    await shot('generate');
    await tab.click('#tab-lens');
    await tab.click('#lens');
    await idle(tab);
    await shot('lens');
    await tab.click('#tab-probes');
    await tab.click('#probe-example');
    await tab.waitForFunction(() => globalThis.tonoscope.probes);
    await tab.click('#probed');
    await idle(tab);
    await shot('probes');
    await tab.click('#tab-edits');
    await tab.click('#edit-example');
    await tab.waitForFunction(() => globalThis.tonoscope.edits);
    await tab.click('#edited');
    await idle(tab);
    await shot('edits');
    await tab.click('#tab-device');
    await shot('device');
    await tab.close();
  }
}

const began = performance.now();
await withServer(page, undefined, async (address) => {
  await withBrowser({ gpu: true }, async (browser) => {
    for (const device of ['cpu', 'webgpu'].filter((device) => !only || device === only)) await paths(browser, address, device);
    if (only) return;
    await check('pictures of every tab in both themes, also at a phone’s width', () => pictures(browser, address));
  });
  if (!only) await withBrowser({ gpu: false }, (browser) => withoutGpu(browser, address));
});
if (!only) {
  await withBrowser({ gpu: false }, async (browser) => {
    await modelTests({ browser, page, check, same, GREEDY });
    await judgeTests({ browser, page, check, GREEDY });
  });
  await crewTests({ page, check, nano: all.nano, GREEDY });
  await faultTests({ page, check, same, GREEDY });
}
writeFileSync(join(shots, 'report.txt'), `${report.join('\n')}\n`);
console.log(`\n${report.length} checks in ${((performance.now() - began) / 1000).toFixed(0)} s; pictures in ${shots}`);
