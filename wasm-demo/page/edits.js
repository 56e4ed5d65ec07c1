// Directions: where a piece goes along them, what adding them does, and their files.

import { HeatMap } from './heat.js';
import { Player, saveAs } from './player.js';

const EXAMPLE = 'models/guitar_to_piano.safetensors';

export function setUpEdits(app) {
  const { find, engine } = app;
  const player = new Player(find('edit-player'), 'the piece');
  const map = new HeatMap(find('heat-figure'), 'How far the stream points along the direction (cosine), by layer and step', (values) => {
    const most = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
    return [-most, most];
  });
  app.editPlayer = player;
  app.editMap = map;

  async function load(name, bytes) {
    app.clearError();
    try {
      const about = await engine.call('loadEdits', { name, bytes });
      app.edits = { name, bytes, ...about };
      const points = [...new Set(about.edits.map((edit) => edit.points))];
      const kinds = [...new Set(about.edits.map((edit) => edit.change.do))].join(', ');
      find('edit-about').textContent = `${name}: ${about.edits.length} edits (${kinds}) at ${points.slice(0, 3).join(', ')}${points.length > 3 ? ' …' : ''}; ${about.directions.length} directions to follow.`;
    } catch (error) {
      app.edits = null;
      find('edit-about').textContent = 'No edits are loaded.';
      app.showError(error);
    }
    app.update();
  }

  find('edit-file').onchange = async () => {
    const [file] = find('edit-file').files;
    if (file) await load(file.name, new Uint8Array(await file.arrayBuffer()));
  };
  find('edit-example').onclick = async () => {
    const response = await fetch(EXAMPLE);
    await load('guitar_to_piano.safetensors', new Uint8Array(await response.arrayBuffer()));
  };
  find('edit-save').onclick = () => saveAs(app.edits.name, app.edits.bytes);

  find('make-direction').onclick = async () => {
    const lines = (id) => find(id).value.split('\n').map((line) => line.trim()).filter(Boolean);
    const made = await app.run('Making a direction', () => engine.call('direction', { from: lines('from'), to: lines('to'), piece: app.request() }));
    if (made) await load('direction.safetensors', made);
  };

  find('strength').oninput = () => (find('strength-text').textContent = find('strength').value);

  find('edited').onclick = async () => {
    const request = app.request();
    const how = { strength: Number(find('strength').value), layers: [Number(find('first-layer').value), Number(find('last-layer').value)] };
    const { directions } = app.edits;
    const made = await app.run('Generating', async () => {
      const plain = await engine.call('generate', request);
      map.begin(directions);
      app.heat = map;
      return [plain, await engine.call('generate', { ...request, edits: how, heat: directions.length > 0 ? 'directions' : null })];
    });
    if (!made) return;
    map.draw();
    const labels = ['without the edits', `with the edits, strength ${how.strength}`];
    player.set(
      made.map((piece, index) => ({ label: labels[index], channels: piece.channels, rate: piece.sample_rate, save: () => saveAs(index ? 'edited.wav' : 'unedited.wav', piece.wav) })),
      find('hear-edited').checked ? 1 : 0,
    );
    app.edited = made;
  };

  find('hear-edited').onchange = () => player.choose(find('hear-edited').checked ? 1 : 0);

  find('export').onclick = async () => {
    const capture = find('capture').value.split(',').map((part) => part.trim()).filter(Boolean);
    const piece = await app.run('Generating', () => engine.call('generate', { ...app.request(), capture }));
    if (!piece) return;
    app.captured = piece.captures;
    if (piece.captures) saveAs('capture.safetensors', piece.captures);
    else app.showError({ message: 'Nothing was asked for.', hint: 'Name a hook point, such as decoder.*.resid_post:mean_time.' });
  };

  app.onLoaded.push((about) => {
    find('edit-about').textContent = 'No edits are loaded.';
    find('first-layer').value = 0;
    find('first-layer').max = find('last-layer').max = about.layers - 1;
    find('last-layer').value = about.layers - 1;
    find('points').replaceChildren(...about.points.map((point) => Object.assign(document.createElement('option'), { value: point })));
    map.begin([]);
    player.set([]);
  });
  app.onTheme.push(() => player.draw());
}
