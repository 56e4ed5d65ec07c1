// Workers that help the one that computes, where the page may share memory with them.

import { newLine, telling } from './line.js';

/** Milliseconds in which a worker has to be ready. */
const PATIENCE = 20_000;

let workers = [];

/** Sees to it that there are `count`, or as many as can be; how many there are. `module` is what all of them run. */
export async function gather(count, module, lost) {
  if (workers.length === count) return count;
  for (const worker of workers) worker.terminate();
  workers = [];
  const buffers = [];
  if (!globalThis.crossOriginIsolated) return 0;
  for (const { value, reason } of await Promise.allSettled(Array.from({ length: count }, () => started(module)))) {
    if (reason) {
      console.warn(`a worker that was to help: ${reason.message}`);
      continue;
    }
    workers.push(value.worker);
    buffers.push(value.buffer);
  }
  globalThis.tonoscopeLine = telling(buffers, lost);
  return workers.length;
}

async function started(module) {
  const buffer = newLine();
  const worker = new Worker('helper.js', { type: 'module' });
  return new Promise((done, fail) => {
    const give = (why) => {
      worker.terminate();
      fail(new Error(why));
    };
    const late = setTimeout(() => give('it is not ready in time'), PATIENCE);
    worker.onerror = (event) => {
      event.preventDefault();
      give(event.message || 'it could not be started');
    };
    worker.onmessage = () => {
      clearTimeout(late);
      done({ worker, buffer });
    };
    worker.postMessage({ module, buffer });
  });
}
