// A small static server: `node serve.mjs FOLDER [PORT]`. With the headers that shared memory needs, the page's
// Content-Security-Policy, and ranges, so that broken downloads go on.

import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize, resolve, sep } from 'node:path';
import { pathToFileURL } from 'node:url';

const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.mjs': 'text/javascript; charset=utf-8',
  '.wasm': 'application/wasm',
};

const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self' data:; " +
  "connect-src 'self' https://huggingface.co https://*.huggingface.co https://*.hf.co; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS = {
  'Content-Security-Policy': POLICY,
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-cache',
};

/**
 * Serves `folder` on this machine alone. `meddle(request, path)` may return `{cut}`, bytes after which the connection
 * breaks, or `{headers: {name: null}}` to leave headers out: tests do.
 */
export function serve(folder, port = 0, meddle = () => ({})) {
  const root = resolve(folder);
  const server = createServer((request, response) => {
    const asked = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    const path = join(root, normalize(asked).replace(/^(\.\.[/\\])+/, ''), asked.endsWith('/') ? 'index.html' : '');
    const { cut, headers = {} } = meddle(request, asked) ?? {};
    const all = Object.fromEntries(Object.entries({ ...HEADERS, ...headers }).filter(([, value]) => value !== null));
    let size;
    try {
      const found = statSync(path);
      if (!found.isFile() || !path.startsWith(root + sep)) throw new Error('no file');
      size = found.size;
    } catch {
      response.writeHead(404, all).end('not here');
      return;
    }
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const [from, to] = range ? [Number(range[1]), range[2] ? Math.min(Number(range[2]), size - 1) : size - 1] : [0, size - 1];
    if (range && from >= size) {
      response.writeHead(416, { ...all, 'Content-Range': `bytes */${size}` }).end();
      return;
    }
    response.writeHead(range ? 206 : 200, {
      ...all,
      'Content-Type': TYPES[extname(path)] ?? 'application/octet-stream',
      'Content-Length': to - from + 1,
      'Accept-Ranges': 'bytes',
      ...(range ? { 'Content-Range': `bytes ${from}-${to}/${size}` } : {}),
    });
    if (request.method === 'HEAD' || size === 0) {
      response.end();
      return;
    }
    if (cut === undefined) {
      createReadStream(path, { start: from, end: to }).pipe(response);
      return;
    }
    const part = createReadStream(path, { start: from, end: Math.min(to, from + cut - 1) });
    part.on('data', (chunk) => response.write(chunk));
    part.on('end', () => setTimeout(() => response.destroy(), 200));
  });
  return new Promise((done) => server.listen(port, '127.0.0.1', () => done(server)));
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [folder, port] = process.argv.slice(2);
  const server = await serve(folder, Number(port ?? 8000));
  console.log(`http://localhost:${server.address().port}/  (Ctrl-C ends it)`);
}
