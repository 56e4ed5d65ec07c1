// What can compute here: the adapter, its limits, and whether it computes what the CPU does.

/** Limits that say something about models. */
const LIMITS = ['maxBufferSize', 'maxStorageBufferBindingSize', 'maxStorageBuffersPerShaderStage', 'maxComputeInvocationsPerWorkgroup', 'maxComputeWorkgroupStorageSize', 'maxComputeWorkgroupsPerDimension'];

export async function setUpDevice(app, asked) {
  const { find } = app;
  app.gpu = false;
  /** Once, before the GPU is used. */
  app.testGpu = async () => {
    if (!app.selfTest) await selfTest(app);
    return app.selfTest.ok;
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
      await app.testGpu();
    }
  } else {
    find('adapter').textContent = 'No GPU: this browser offers no WebGPU adapter.';
    tell(app, 'This browser offers no WebGPU, so everything is computed on the CPU: the same music, slower. A current Chrome, Edge, Safari or Firefox with WebGPU is faster.');
  }
  if (!app.gpu) refuse(app);
  else if (asked === 'cpu') find('device').value = 'cpu';
  const weights = () => {
    const gpu = find('device').value === 'webgpu';
    find('weights').disabled = gpu;
    if (gpu) find('weights').value = 'f32';
    const kept = find('weights').value;
    find('weights-note').textContent = {
      f32: '',
      f16: 'f16 halves the memory of the matrices; each weight is off by up to 0.05 % of itself.',
      int8: 'int8 takes a quarter of the memory of the matrices; each weight is off by up to 0.4 % of the largest of its group of 64.',
    }[kept];
  };
  find('device').onchange = find('weights').onchange = weights;
  weights();
  app.showMemory = async () => {
    const bytes = await app.engine.call('memory');
    find('memory').textContent = `The engine's memory: ${Math.round(bytes / (1 << 20))} MiB (without what is on the GPU).`;
  };
}

async function selfTest(app) {
  const { find } = app;
  find('model-state').textContent = 'Comparing the GPU with the CPU, which takes some seconds when shaders are compiled for the first time …';
  find('self-test').textContent = 'Comparing the GPU with the CPU …';
  try {
    const report = await app.engine.call('selfTest');
    app.selfTest = report;
    const found = report.blocks.map(({ name, error }) => `${name} ${error.toExponential(1)}`).join(', ');
    find('self-test').textContent = `Self-test ${report.ok ? 'passed' : 'failed'}: largest difference between GPU and CPU, relative to the largest number: ${found} (allowed: ${report.bound.toExponential(0)}).`;
    if (!report.ok) {
      refuse(app);
      tell(app, `This GPU computes something else than the CPU (${found}), so that its music would be noise. The CPU is used instead.`);
    }
  } catch (error) {
    app.selfTest = { ok: false, error: error.message };
    find('self-test').textContent = `The self-test did not finish: ${error.message}`;
    refuse(app);
    tell(app, 'The GPU failed its self-test, so the CPU is used instead. See the tab Device.');
  }
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
