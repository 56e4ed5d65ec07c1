// Fitted probes: how likely each layer finds a concept, while the music is made.

import { HeatMap } from './heat.js';
import { Player, saveAs } from './player.js';

const EXAMPLE = 'models/instruments.probes.safetensors';

export function setUpProbes(app) {
  const { find, engine } = app;
  const player = new Player(find('probe-player'), 'the piece');
  const map = new HeatMap(find('probe-figure'), 'Probability of the concept, by layer and step', () => [0, 1]);
  app.probePlayer = player;
  app.probeMap = map;

  function describe(name, { labels, points, all, kind, branch, per_frame: perFrame, rows }) {
    const [method] = Object.keys(kind);
    const learnt = perFrame ? 'steps' : 'prompts, each the mean over its steps';
    const half = branch === 'cond' ? '' : ' in the unconditional half';
    const left = all > points.length ? ` ${all - points.length} probes of other places are left out.` : '';
    return `${name}: ${labels.join(', ')}, told apart at ${points.length} places (${points[0]} to ${points.at(-1)})${half} by ${method} probes that have learnt from ${rows} ${learnt}.${left}`;
  }

  function forget() {
    app.probes = null;
    find('probe-about').textContent = 'No probes are loaded.';
    find('probe-concept').replaceChildren();
    map.begin([]);
  }

  async function load(name, bytes) {
    app.clearError();
    forget();
    try {
      const about = await engine.call('loadProbes', { name, bytes });
      app.probes = about;
      find('probe-about').textContent = describe(name, about);
      find('probe-concept').replaceChildren(...about.labels.map((label, index) => Object.assign(document.createElement('option'), { value: index, textContent: label })));
    } catch (error) {
      app.showError(error);
    }
    app.update();
  }

  find('probe-file').onchange = async () => {
    const [file] = find('probe-file').files;
    if (file) await load(file.name, new Uint8Array(await file.arrayBuffer()));
  };
  find('probe-example').onclick = async () => {
    const response = await fetch(EXAMPLE);
    await load('instruments.probes.safetensors', new Uint8Array(await response.arrayBuffer()));
  };
  find('probe-concept').onchange = () => map.choose(Number(find('probe-concept').value));

  find('probed').onclick = async () => {
    const request = app.request();
    const { points, labels } = app.probes;
    player.set([]);
    const piece = await app.run('Generating', () => {
      map.begin(points, labels.length);
      map.choose(Number(find('probe-concept').value));
      app.heat = map;
      return engine.call('generate', { ...request, heat: 'probes' });
    });
    if (!piece) return;
    map.draw();
    app.probed = piece;
    player.set([{ label: request.prompt || 'no prompt', channels: piece.channels, rate: piece.sample_rate, save: () => saveAs('probed.wav', piece.wav) }]);
  };

  app.onLoaded.push(() => {
    forget();
    player.set([]);
  });
  app.onTheme.push(() => player.draw());
}
