// The worker that computes, seen from the page: calls that answer, events, and a way to stop that always works.

/** Milliseconds that a cancelled action has to end by itself. */
const PATIENCE = 3000;

/** Starts without an answer in between, after which the engine is given up. */
const ATTEMPTS = 3;

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** An error of the engine: what happened, what to do about it, and whether the engine had to be ended. */
export class EngineError extends Error {
  constructor({ message, hint, fatal }) {
    super(message);
    this.hint = hint;
    this.fatal = Boolean(fatal);
  }
}

export class Engine {
  /** `onEvent` is told `{kind: 'stage', name}`, `{kind: 'step', done, total}`, `{kind: 'transfer', …}`. */
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.calls = new Map();
    this.next = 1;
    this.failures = 0;
    this.start();
  }

  start() {
    // Shared memory needs headers that not every host sends. Without it a step on the GPU still hears the message.
    this.flag = globalThis.crossOriginIsolated ? new Int32Array(new SharedArrayBuffer(4)) : null;
    /** Bytes that the worker wanted and did not get. */
    this.full = null;
    const worker = new Worker('worker.js', { type: 'module' });
    this.worker = worker;
    // What a worker that was ended still had to say counts no more.
    worker.onmessage = ({ data }) => worker === this.worker && this.hear(data);
    worker.onerror = (event) => {
      event.preventDefault();
      if (worker === this.worker) this.die(event.message || 'the worker could not be started');
    };
    this.worker.postMessage({ kind: 'flag', flag: this.flag });
  }

  hear(data) {
    if (data.kind === 'panic') return this.die(data.message);
    if (data.kind === 'full') {
      this.full = data.bytes;
      return undefined;
    }
    if (data.kind !== 'answer') return this.onEvent(data);
    this.failures = 0;
    const call = this.calls.get(data.id);
    this.calls.delete(data.id);
    if (data.error) call?.reject(new EngineError(data.error));
    else call?.resolve(data.value);
  }

  /** Asks the worker; the answer or an `EngineError`. */
  call(action, args = {}) {
    const id = this.next++;
    if (this.flag) Atomics.store(this.flag, 0, 0);
    return new Promise((resolve, reject) => {
      if (this.failures >= ATTEMPTS) {
        reject(new EngineError({ message: 'The engine does not start.', hint: 'Reload the page; if that does not help, this browser lacks what the page needs.', fatal: true }));
        return;
      }
      this.calls.set(id, { resolve, reject });
      this.worker.postMessage({ kind: 'call', id, action, args });
    });
  }

  /** Stops what runs; if it does not listen, ends the worker, after which the model has to be loaded again. */
  cancel() {
    if (this.flag) Atomics.store(this.flag, 0, 1);
    this.worker.postMessage({ kind: 'cancel' });
    const waiting = [...this.calls.keys()];
    setTimeout(() => {
      if (waiting.some((id) => this.calls.has(id))) this.restart({ message: 'cancelled', fatal: true });
    }, PATIENCE);
  }

  /** Something in the worker broke beyond repair. */
  die(message) {
    const memory = this.full !== null || /memory|alloc|grow|out of bounds|unreachable|Lost/i.test(message);
    this.restart({
      message: this.full === null ? `The engine stopped: ${message}` : `This tab's memory is full: ${megabytes(this.full)} more were wanted.`,
      hint: memory
        ? 'The model or the music may be too large for this tab’s memory: close other tabs, make shorter music, keep the weights in f16, int8 or int4, or use a smaller model.'
        : 'It was started again. If this happens on the GPU only, choose the CPU.',
      fatal: true,
    });
  }

  /** Another worker in place of one that has nothing to do. */
  renew() {
    this.worker.terminate();
    this.start();
  }

  restart(error) {
    this.worker.terminate();
    const calls = [...this.calls.values()];
    this.calls.clear();
    this.failures += 1;
    if (this.failures < ATTEMPTS) this.start();
    for (const call of calls) call.reject(new EngineError(error));
    this.onEvent({ kind: 'restarted', error, engine: this });
  }
}
