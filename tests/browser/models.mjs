// Models from elsewhere: fetched, broken off, resumed, kept, deleted; folders; what is damaged.

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorOf, fill, generate, idle, loaded, open, withServer } from './browser.mjs';

const SHARDS = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];

/** The test model in two shards and their index. */
function shard(from, to) {
  mkdirSync(to, { recursive: true });
  for (const name of ['config.json', 'generation_config.json', 'tokenizer.json']) cpSync(join(from, name), join(to, name));
  const bytes = readFileSync(join(from, 'model.safetensors'));
  const length = Number(bytes.readBigUInt64LE(0));
  const { __metadata__, ...header } = JSON.parse(bytes.toString('utf8', 8, 8 + length));
  const names = Object.keys(header).sort();
  const map = {};
  SHARDS.forEach((file, index) => {
    const own = names.filter((_, at) => at % 2 === index);
    const parts = [];
    const described = {};
    let at = 0;
    for (const name of own) {
      const [start, end] = header[name].data_offsets;
      parts.push(bytes.subarray(8 + length + start, 8 + length + end));
      described[name] = { ...header[name], data_offsets: [at, at + end - start] };
      at += end - start;
      map[name] = file;
    }
    const text = Buffer.from(JSON.stringify(described).padEnd(Math.ceil(JSON.stringify(described).length / 8) * 8));
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(text.length));
    writeFileSync(join(to, file), Buffer.concat([prefix, text, ...parts]));
  });
  writeFileSync(join(to, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map: map }));
}

const transferred = (tab) => tab.waitForFunction(() => document.getElementById('transfer').hidden, null, { timeout: 60_000 });

export async function modelTests({ browser, page, check, same, GREEDY }) {
  const folder = mkdtempSync(join(tmpdir(), 'tonoscope-models-'));
  const site = join(folder, 'site');
  cpSync(page, site, { recursive: true });
  shard(join(page, 'models/test'), join(site, 'models/sharded'));
  // The first attempt to get the second shard breaks off half way.
  let breaks = 1;
  const ranges = [];
  const meddle = (request, path) => {
    if (path.endsWith(SHARDS[1]) && request.method === 'GET') {
      ranges.push(request.headers.range ?? 'all');
      if (breaks-- > 0) return { cut: 100_000 };
    }
    return {};
  };
  try {
    await withServer(site, meddle, async (address) => {
      const tab = await open(browser, address);
      await tab.click('#more-models summary');
      await check('a download that breaks off says so', async () => {
        await tab.fill('#url', `${address}models/sharded`);
        await tab.click('#fetch-url');
        await transferred(tab);
        const error = await errorOf(tab);
        assert.match(error, /model-00002-of-00002.safetensors/);
        assert.match(error, /Resume goes on from here/);
        return error.replace('\n', ' ');
      });
      await check('after a reload it is resumed where it stopped', async () => {
        await tab.reload();
        await loaded(tab);
        await tab.click('#more-models summary');
        assert.match(await tab.textContent('#stored tbody'), /% is here/);
        await tab.click('#stored button:text("Resume")');
        await transferred(tab);
        assert.equal(await errorOf(tab), null);
        assert.match(await tab.textContent('#stored tbody'), /complete/);
        assert.match(ranges.at(-1), /^bytes=[1-9]\d*-$/);
        return ranges.at(-1);
      });
      await check('the kept model in two shards gives the same music', async () => {
        await tab.click('#load');
        await loaded(tab);
        await fill(tab, GREEDY);
        return same(await generate(tab), 'greedy');
      });
      await check('it is deleted', async () => {
        tab.once('dialog', (dialog) => dialog.accept());
        await tab.click('#stored button:text("Delete")');
        await tab.waitForFunction(() => document.getElementById('stored').hidden);
        const left = await tab.evaluate(async () => {
          const models = await (await navigator.storage.getDirectory()).getDirectoryHandle('models');
          const names = [];
          for await (const name of models.keys()) names.push(name);
          return names;
        });
        assert.deepEqual(left, []);
      });
      await check('an address without a model says what is missing', async () => {
        await tab.fill('#url', `${address}pkg`);
        await tab.click('#fetch-url');
        await transferred(tab);
        assert.match(await errorOf(tab), /There is no config.json/);
      });
      const pick = async (name) => {
        await tab.setInputFiles('#folder', join(folder, name));
        await tab.waitForFunction(() => globalThis.tonoscope.busy || !document.getElementById('error').hidden);
        await idle(tab);
        await tab.waitForTimeout(100);
      };
      const picked = (name) => join(folder, name);
      await check('a folder', async () => {
        cpSync(join(page, 'models/test'), picked('whole'), { recursive: true });
        await tab.setInputFiles('#folder', picked('whole'));
        await tab.waitForFunction(() => globalThis.tonoscope.loaded?.value === 'folder');
        await loaded(tab);
        await fill(tab, GREEDY);
        return same(await generate(tab), 'greedy');
      });
      const damaged = async (name, change, wanted) => {
        await check(`a folder whose ${name}`, async () => {
          const to = picked(name.replaceAll(' ', '-'));
          cpSync(join(site, 'models/sharded'), to, { recursive: true });
          change(to);
          await pick(name.replaceAll(' ', '-'));
          const error = await errorOf(tab);
          assert.match(error ?? 'nothing', wanted);
          return error.replace('\n', ' ');
        });
      };
      const second = (to) => join(to, SHARDS[1]);
      await damaged('shard is cut short', (to) => writeFileSync(second(to), readFileSync(second(to)).subarray(0, -10)), /00002.*is corrupt or truncated: its header promises \d+ bytes, the file has \d+/);
      await damaged('shard is missing', (to) => rmSync(second(to)), /There is no model-00002-of-00002.safetensors/);
      await damaged(
        'header is damaged',
        (to) => {
          const bytes = readFileSync(second(to));
          bytes[40] = 0;
          writeFileSync(second(to), bytes);
        },
        /00002.*is corrupt or truncated/,
      );
      await damaged('config is of another kind', (to) => writeFileSync(join(to, 'config.json'), '{"model_type": "bert"}'), /`model_type` is `bert`, expected `musicgen`/);
      await damaged(
        'tensor is larger than any',
        (to) => {
          // A header that promises 1.2 GB of a tensor, in a file that has them only by its header.
          const bytes = readFileSync(second(to));
          const length = Number(bytes.readBigUInt64LE(0));
          const header = JSON.parse(bytes.toString('utf8', 8, 8 + length));
          const [name] = Object.keys(header);
          header[name].shape = [300_000_000];
          const text = Buffer.from(JSON.stringify(header));
          const prefix = Buffer.alloc(8);
          prefix.writeBigUInt64LE(BigInt(text.length));
          writeFileSync(second(to), Buffer.concat([prefix, text, bytes.subarray(8 + length)]));
        },
        /00002.*is corrupt or truncated/,
      );
      await check('after all that, the test model loads again', async () => {
        await tab.selectOption('#model', 'test');
        await tab.click('#load');
        await loaded(tab);
        await fill(tab, GREEDY);
        return same(await generate(tab), 'greedy');
      });
      await tab.close();
    });
    // A host that does not send the headers for shared memory.
    const plain = () => ({ headers: { 'Cross-Origin-Embedder-Policy': null, 'Cross-Origin-Opener-Policy': null } });
    await withServer(page, plain, async (address) => {
      await check('without shared memory, Cancel ends the worker and loads the model again', async () => {
        const tab = await open(browser, address);
        assert.equal(await tab.evaluate(() => globalThis.crossOriginIsolated), false);
        await fill(tab, { ...GREEDY, seconds: 110 });
        await tab.click('#generate');
        await tab.waitForFunction(() => /tokens\/s/.test(document.getElementById('pace').textContent), null, { timeout: 60_000 });
        await tab.click('#cancel');
        await idle(tab);
        assert.equal(await tab.textContent('#piece-about'), 'Cancelled.');
        await loaded(tab);
        await fill(tab, GREEDY);
        const said = same(await generate(tab), 'greedy');
        await tab.close();
        return said;
      });
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
