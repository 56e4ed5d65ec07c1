// How much memory the processes below one of this machine's have together. Of Linux alone.

import { readdirSync, readFileSync } from 'node:fs';

/** Milliseconds between two looks. */
const PERIOD = 250;

const read = (path) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // Processes come and go.
    return '';
  }
};

/** Bytes of all processes that descend from `root`, memory that several share counted once. */
function below(root) {
  const parents = new Map();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    // The name of the program, in brackets, may hold anything.
    const [, parent] = read(`/proc/${name}/stat`).replace(/^.*\) /s, '').split(' ');
    if (parent) parents.set(Number(name), Number(parent));
  }
  const descends = (process) => process === root || (parents.has(process) && descends(parents.get(process)));
  let kilobytes = 0;
  for (const process of parents.keys()) {
    if (process === root || !descends(process)) continue;
    kilobytes += Number(/^Pss:\s+(\d+) kB/m.exec(read(`/proc/${process}/smaps_rollup`))?.[1] ?? 0);
  }
  return 1024 * kilobytes;
}

/** Looks again and again; `peak()` is the most so far, in bytes. */
export function watchMemory(root) {
  let most = 0;
  const look = () => (most = Math.max(most, below(root)));
  const timer = setInterval(look, PERIOD);
  return {
    peak() {
      look();
      return most;
    },
    stop: () => clearInterval(timer),
  };
}
