// Lines between the worker that computes and those that help it: memory that both ends see, and who is to look at it.

/** Numbers and values that fit. */
const NUMBERS = 64;
const VALUES = 1 << 20;
/** Looks before an end goes to sleep: some hundred microseconds, in which the next command mostly comes. */
const LOOKS = 1 << 16;

/** States of a line. */
const [DONE, TOLD, BROKEN] = [0, 1, 2];

export const newLine = () => new SharedArrayBuffer(4 * (4 + NUMBERS + VALUES));

/** Both ends see the same. */
function ends(buffer) {
  return {
    /** The state, the command, how many numbers, and how many bytes of a message. */
    state: new Int32Array(buffer, 0, 4),
    numbers: new Uint32Array(buffer, 16, NUMBERS),
    values: new Float32Array(buffer, 16 + 4 * NUMBERS, VALUES),
  };
}

/** Waits while the state is `state`. */
function whileIs(line, state) {
  for (let look = 0; look < LOOKS; look++) if (Atomics.load(line.state, 0) !== state) return;
  while (Atomics.load(line.state, 0) === state) Atomics.wait(line.state, 0, state);
}

function becomes(line, state) {
  Atomics.store(line.state, 0, state);
  Atomics.notify(line.state, 0);
}

/** The end of the worker that tells others; `lost(message)` is called when one of them has broken down. */
export function telling(buffers, lost) {
  const lines = buffers.map(ends);
  const ready = (line) => {
    whileIs(line, TOLD);
    if (Atomics.load(line.state, 0) === BROKEN) lost(new TextDecoder().decode(new Uint8Array(line.values.buffer, line.values.byteOffset, line.state[3]).slice()));
  };
  return {
    capacity: () => VALUES,
    tell(member, command, numbers, values) {
      const line = lines[member];
      ready(line);
      line.state[1] = command;
      line.state[2] = numbers.length;
      line.numbers.set(numbers);
      line.values.set(values);
      becomes(line, TOLD);
    },
    answer(member, values) {
      const line = lines[member];
      ready(line);
      values.set(line.values.subarray(0, values.length));
    },
  };
}

/** The end of a worker that is told. */
export function told(buffer) {
  const line = ends(buffer);
  return {
    next() {
      whileIs(line, DONE);
      return line.state[1];
    },
    count: () => line.state[2],
    numbers: (into) => into.set(line.numbers.subarray(0, into.length)),
    take: (into) => into.set(line.values.subarray(0, into.length)),
    give: (values) => line.values.set(values),
    done: () => becomes(line, DONE),
    /** Says why nothing more will come. */
    breakDown(message) {
      const bytes = new TextEncoder().encode(message).slice(0, 4 * VALUES);
      new Uint8Array(line.values.buffer, line.values.byteOffset).set(bytes);
      line.state[3] = bytes.length;
      becomes(line, BROKEN);
    },
  };
}
