// What the page weighs: `node sizes.mjs FOLDER`.

import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';

/** What the .wasm is to stay below, compressed. */
const AIM = 3_000_000;

const [folder] = process.argv.slice(2);
const bytes = (number) => `${(number / 1e6).toFixed(2)} MB`.padStart(9);
const brotli = (content) => brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 } }).length;

let [rawOfPage, packedOfPage] = [0, 0];
for (const name of readdirSync(folder)) {
  const path = join(folder, name);
  if (!statSync(path).isFile()) continue;
  const content = readFileSync(path);
  rawOfPage += content.length;
  packedOfPage += brotli(content);
}
const glue = readFileSync(join(folder, 'pkg/tonoscope_wasm.js'));
const wasm = readFileSync(join(folder, 'pkg/tonoscope_wasm_bg.wasm'));
const packed = brotli(wasm);
console.log(`wasm                  ${bytes(wasm.length)}  brotli ${bytes(packed)}  (aim: below ${bytes(AIM).trim()})`);
console.log(`glue of the wasm      ${bytes(glue.length)}  brotli ${bytes(brotli(glue))}`);
console.log(`page                  ${bytes(rawOfPage)}  brotli ${bytes(packedOfPage)}`);
if (packed >= AIM) console.log(`the wasm is ${bytes(packed - AIM).trim()} above its aim`);
