// A worker that multiplies by the share of the matrices that it was given, until it is ended.

import init, { help, start } from './pkg/tonoscope_wasm.js';
import { told } from './line.js';

self.onmessage = async ({ data: { module, buffer } }) => {
  const line = told(buffer);
  globalThis.tonoscopeLine = line;
  let full = 0;
  let panic = null;
  globalThis.tonoscopeHost = { panicked: (message) => (panic = message), full: (bytes) => (full = bytes) };
  try {
    await init({ module_or_path: module });
    start();
    self.postMessage('ready');
    help();
  } catch (error) {
    line.breakDown(full ? `no memory for ${full} bytes in a worker that helps` : (panic ?? String(error?.message ?? error)));
  }
};
