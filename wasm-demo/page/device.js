// What can compute here: the adapter, its limits, and whether it computes what the CPU does.

/** Limits that say something about models. */
const LIMITS = ['maxBufferSize', 'maxStorageBufferBindingSize', 'maxStorageBuffersPerShaderStage', 'maxComputeInvocationsPerWorkgroup', 'maxComputeWorkgroupStorageSize', 'maxComputeWorkgroupsPerDimension'];

/** More threads than this wait for memory and for each other. */
const MOST_THREADS = 8;
/** Half of the cores, for all wait for the one that something else keeps from its work; no more than mostly help. */
const usualThreads = (cores) => Math.min(4, Math.ceil(cores / 2));

export async function setUpDevice(app, asked) {
  const { find } = app;
  app.gpu = false;
  /** Before the GPU is used: a worker's GPU calculates in what it was first asked for, and is tested once. */
  app.testGpu = async (dtype) => {
    if (app.selfTest && app.selfTest.dtype !== dtype) app.engine.renew();
    if (app.selfTest?.dtype !== dtype) await selfTest(app, dtype);
    if (app.selfTest.ok || dtype === 'f32') return app.selfTest.ok;
    app.only32 = true;
    weights();
    return app.testGpu('f32');
  };
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
  if (adapter) {
    const { vendor, architecture, device, description } = adapter.info ?? {};
    const name = [description, vendor, architecture, device].filter(Boolean).join(', ') || 'an adapter that the browser does not name';
    const f16 = adapter.features.has('shader-f16') ? 'knows 16-bit numbers' : 'knows no 16-bit numbers';
    find('adapter').textContent = `GPU: ${name}; ${f16}.${adapter.info?.isFallbackAdapter ? ' It is a GPU in software, slower than the CPU.' : ''}`;
    for (const limit of LIMITS) {
      const row = find('limits').tBodies[0].insertRow();
      row.insertCell().textContent = limit;
      const value = adapter.limits[limit];
      row.insertCell().textContent = /Size$/.test(limit) && value >= 1 << 20 ? `${value / (1 << 20)} MiB` : value;
    }
    find('limits').hidden = false;
    app.gpu = true;
    if (adapter.info?.isFallbackAdapter && asked !== 'webgpu') {
      find('device').value = 'cpu';
      if (asked !== 'cpu') tell(app, 'This browser’s GPU is one in software, slower than the CPU, which is used instead.');
    } else if (asked !== 'cpu') {
      await app.testGpu('f32');
    }
  } else {
    find('adapter').textContent = 'No GPU: this browser offers no WebGPU adapter.';
    tell(app, 'This browser offers no WebGPU, so everything is computed on the CPU: the same music, slower. A current Chrome, Edge, Safari or Firefox with WebGPU is faster.');
  }
  if (!app.gpu) refuse(app);
  else if (asked === 'cpu') find('device').value = 'cpu';
  // Workers share memory where the server allows it; each holds a part of the matrices.
  const cores = navigator.hardwareConcurrency ?? 1;
  const most = globalThis.crossOriginIsolated ? Math.min(cores, MOST_THREADS) : 1;
  for (let threads = 1; threads <= most; threads++) find('threads').add(new Option(threads));
  find('threads').value = Math.min(most, usualThreads(cores));
  const weights = () => {
    const gpu = find('device').value === 'webgpu';
    find('threads-label').hidden = gpu || most === 1;
    const known = gpu ? ['f32', ...(adapter?.features.has('shader-f16') && !app.only32 ? ['f16'] : [])] : ['f32', 'f16', 'int8', 'int4'];
    for (const option of find('weights').options) option.disabled = !known.includes(option.value);
    if (!known.includes(find('weights').value)) find('weights').value = 'f32';
    const kept = find('weights').value;
    find('weights-note').textContent = {
      f32: '',
      f16: gpu
        ? 'In f16 the GPU keeps and computes everything in 16 bits: half the memory; results are off by some 0.1 %, and sampled music may go another way.'
        : 'f16 halves the memory of the matrices; each weight is off by up to 0.05 % of itself.',
      int8: 'int8 takes a quarter of the memory of the matrices; each weight is off by up to 0.4 % of the largest of its group of 64.',
      int4: 'int4 takes a seventh of the memory of the matrices; products are off by some 8 %: the music is another, and rougher.',
    }[kept];
  };
  find('device').onchange = find('weights').onchange = weights;
  weights();
  app.showMemory = async () => {
    const bytes = await app.engine.call('memory');
    find('memory').textContent = `The engine's memory: ${Math.round(bytes / (1 << 20))} MiB (without what is on the GPU).`;
  };
}

async function selfTest(app, dtype) {
  const { find } = app;
  find('model-state').textContent = 'Comparing the GPU with the CPU, which takes some seconds when shaders are compiled for the first time …';
  find('self-test').textContent = 'Comparing the GPU with the CPU …';
  try {
    const report = await app.engine.call('selfTest', { dtype });
    app.selfTest = { dtype, ...report };
    const found = report.blocks.map(({ name, error }) => `${name} ${error.toExponential(1)}`).join(', ');
    find('self-test').textContent = `Self-test in ${dtype} ${report.ok ? 'passed' : 'failed'}: largest difference between GPU and CPU, relative to the largest number: ${found} (allowed: ${report.bound.toExponential(0)}).`;
    if (!report.ok) fail(app, dtype, `This GPU computes something else than the CPU (${found}), so that its music would be noise.`);
  } catch (error) {
    app.selfTest = { dtype, ok: false, error: error.message };
    find('self-test').textContent = `The self-test did not finish: ${error.message}`;
    fail(app, dtype, 'The GPU failed its self-test, see the tab Device.');
  }
}

/** The next best. */
function fail(app, dtype, why) {
  if (dtype === 'f32') refuse(app);
  tell(app, `${why} ${dtype === 'f32' ? 'The CPU is used instead.' : 'It calculates in 32 bits instead.'}`);
}

/** No music on this GPU. */
function refuse(app) {
  app.gpu = false;
  app.find('device').querySelector('[value=webgpu]').disabled = true;
  app.find('device').value = 'cpu';
}

function tell(app, text) {
  app.find('notice').textContent = text;
  app.find('notice').hidden = false;
}
