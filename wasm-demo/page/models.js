// Which model: the one that ships with the page, those kept in the browser, a folder, the Hub.

/** What ships with the page: where, and what it is. The first is loaded when the page opens. */
const SHIPPED = {
  nano: ['models/nano/', 'musicgen-nano (small, of our own; knows synthetic music)'],
  test: ['models/test/', 'test model (random weights, makes noise)'],
};

export async function setUpModels(app, asked) {
  const { find, engine, keeper } = app;
  let picked = null;

  const megabytes = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(1)} MB`);

  async function list() {
    let stored = { models: [] };
    try {
      stored = await keeper.call('stored');
      find('storage').textContent = stored.quota ? `This browser lets the page keep ${megabytes(stored.quota)}; ${megabytes(stored.usage)} are taken.` : '';
    } catch (error) {
      find('storage').textContent = `This browser keeps no models for the page (${error.message}).`;
    }
    const chosen = find('model').value;
    const option = (value, text) => Object.assign(document.createElement('option'), { value, textContent: text });
    const options = Object.entries(SHIPPED).map(([value, [, text]]) => option(value, text));
    if (picked) options.push(option('folder', `folder ${picked.name}`));
    for (const { id, complete } of stored.models) if (complete) options.push(option(`stored:${id}`, id));
    find('model').replaceChildren(...options);
    if (options.some(({ value }) => value === chosen)) find('model').value = chosen;
    const body = find('stored').tBodies[0];
    body.replaceChildren();
    find('stored').hidden = stored.models.length === 0;
    for (const model of stored.models) {
      const row = body.insertRow();
      row.insertCell().textContent = model.id;
      row.insertCell().textContent = megabytes(model.have);
      const share = model.bytes ? `${Math.floor((100 * model.have) / model.bytes)} %` : 'a part';
      row.insertCell().textContent = model.complete ? 'complete' : `${share} is here`;
      const cell = row.insertCell();
      if (!model.complete) cell.append(button('Resume', `Resume ${model.id}`, () => fetchModel(model.id, model.source)));
      cell.append(button('Delete', `Delete ${model.id}`, () => remove(model.id)));
    }
  }

  function button(text, label, onclick) {
    const made = Object.assign(document.createElement('button'), { type: 'button', textContent: text, onclick });
    made.setAttribute('aria-label', label);
    return made;
  }

  async function remove(id) {
    if (!confirm(`Delete ${id} from this browser?`)) return;
    try {
      await keeper.call('remove', { id });
    } catch (error) {
      app.showError(error);
    }
    await list();
  }

  app.onTransfer = ({ file, index, count, done, total }) => {
    find('transfer-bar').max = total ?? 1;
    if (total) find('transfer-bar').value = done;
    else find('transfer-bar').removeAttribute('value');
    find('transfer-text').textContent = `${file} (${index + 1} of ${count}): ${megabytes(done)}${total ? ` of ${megabytes(total)}` : ''}`;
  };

  async function fetchModel(id, source) {
    if (!find('transfer').hidden) return;
    app.clearError();
    find('transfer').hidden = false;
    find('transfer-text').textContent = 'asking …';
    try {
      await keeper.call('fetch', { id, source });
      await list();
      find('model').value = `stored:${id}`;
      find('transfer-text').textContent = '';
    } catch (error) {
      app.showError(error);
      await list();
    } finally {
      find('transfer').hidden = true;
    }
  }

  find('transfer-stop').onclick = () => keeper.call('stopTransfer');
  find('fetch-hub').onclick = () => {
    const hub = find('hub').value.trim();
    if (hub) fetchModel(hub, { hub });
  };
  find('fetch-url').onclick = () => {
    const address = find('url').value.trim();
    if (address) fetchModel(address, { address });
  };
  find('folder').onchange = async () => {
    const files = [...find('folder').files];
    if (files.length === 0) return;
    // Only what lies in the folder itself.
    const own = files.filter((file) => file.webkitRelativePath.split('/').length <= 2);
    picked = { name: files[0].webkitRelativePath.split('/')[0] || 'of yours', files: own.map((file) => ({ name: file.name, blob: file })) };
    await list();
    find('model').value = 'folder';
    await load();
  };

  function source(value) {
    if (value === 'folder') return { files: picked.files };
    if (value.startsWith('stored:')) return { stored: value.slice('stored:'.length) };
    return { address: SHIPPED[value][0] };
  }

  async function load() {
    app.about = app.piece = app.edits = app.probes = app.loaded = null;
    if (find('device').value === 'webgpu' && !(await app.testGpu(find('weights').value))) find('device').onchange();
    const choice = { value: find('model').value, device: find('device').value, weights: find('weights').value, threads: Number(find('threads').value) };
    find('model-state').textContent = 'Loading …';
    const began = performance.now();
    const about = await app.run('Loading the model', () => engine.call('load', { source: source(choice.value), device: choice.device, weights: choice.weights, threads: choice.threads }));
    if (!about) {
      find('model-state').textContent = 'No model is loaded.';
      app.update();
      return;
    }
    app.about = about;
    app.loaded = choice;
    find('guidance').placeholder = `the model's, ${about.guidance}`;
    find('model-state').textContent =
      `Ready: ${about.layers} layers of width ${about.width}, ${about.codebooks} codebooks, ${about.channels === 2 ? 'stereo' : 'mono'} at ${about.sample_rate} Hz, on the ` +
      `${choice.device === 'webgpu' ? 'GPU' : 'CPU'} (${about.weights}${about.threads > 1 ? `, ${about.threads} threads` : ''}), loaded in ${((performance.now() - began) / 1000).toFixed(1)} s.`;
    app.onLoaded.forEach((tell) => tell(about));
    app.update();
    await app.showMemory();
  }
  app.load = load;
  find('load').onclick = load;

  app.onRestarted = async (error, restarted) => {
    if (restarted !== engine) return;
    // What ran rejects by itself; the model is gone with the worker.
    const again = app.loaded;
    app.about = app.loaded = null;
    app.update();
    if (error.message !== 'cancelled') {
      find('model-state').textContent = 'The engine was started again; load the model again.';
      return;
    }
    if (!again) {
      find('model-state').textContent = 'No model is loaded.';
      return;
    }
    while (app.busy) await new Promise((resolve) => setTimeout(resolve, 50));
    await load();
  };

  await list();
  if (asked && [...find('model').options].some(({ value }) => value === asked)) find('model').value = asked;
  else if (asked) {
    find('notice').hidden = false;
    find('notice').textContent += ` The link asks for the model ${asked.replace(/^stored:/, '')}, which is not in this browser: fetch it below.`;
    find('more-models').open = true;
  }
  await load();
}
