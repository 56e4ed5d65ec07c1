// DecoderLens: every layer's music, side by side.

import { Player, saveAs, wavOf } from './player.js';

export function setUpLens(app) {
  const { find, engine } = app;
  const player = new Player(find('lens-player'), 'a layer');
  app.lensPlayer = player;
  let onB = false;

  const name = (layer, all) => (layer === all ? `${layer}, the whole model` : `${layer} of ${all}`);

  function show() {
    const all = player.tracks.length;
    const layer = onB ? Number(find('layer-b').value) : Number(find('layer').value);
    player.choose(layer - 1);
    find('layer-text').textContent = name(Number(find('layer').value), all);
    find('layer').setAttribute('aria-valuetext', `layer ${name(Number(find('layer').value), all)}`);
    find('ab').setAttribute('aria-pressed', String(onB));
    find('ab').textContent = onB ? `B: layer ${find('layer-b').value}` : `A: layer ${find('layer').value}`;
    [...find('readings').tBodies[0].rows].forEach((row, index) => {
      if (index + 1 === layer) row.setAttribute('aria-current', 'true');
      else row.removeAttribute('aria-current');
    });
  }

  find('layer').oninput = () => {
    onB = false;
    show();
  };
  find('layer-b').onchange = show;
  find('ab').onclick = () => {
    onB = !onB;
    show();
  };

  find('lens').onclick = async () => {
    const { request, codes, channels, sample_rate: rate } = app.piece;
    const alone = find('lens-mode').value === 'alone';
    const lens = await app.run('Reading the layers', () => engine.call('lens', { request, codes, alone, channels: channels.length }));
    if (!lens) return;
    app.lens = lens;
    const tracks = lens.layers.map(({ channels: sound }, index) => ({
      label: `layer ${index + 1}`,
      channels: sound,
      rate,
      save: () => saveAs(`layer-${index + 1}.wav`, wavOf(sound, rate)),
    }));
    const all = tracks.length;
    // The value after the most that it may be.
    find('layer').max = all;
    find('layer').value = all;
    find('layer-b').replaceChildren(...tracks.map((_, index) => Object.assign(document.createElement('option'), { value: index + 1, textContent: name(index + 1, all) })));
    find('layer-b').value = Math.max(1, all - 1);
    const body = find('readings').tBodies[0];
    body.replaceChildren();
    for (const reading of lens.readings) {
      const row = body.insertRow();
      row.insertCell().textContent = reading.layer;
      row.insertCell().textContent = `${(100 * reading.agrees).toFixed(0)} %`;
      row.insertCell().textContent = reading.rank.toFixed(1);
      row.insertCell().textContent = reading.entropy.toFixed(3);
      row.insertCell().textContent = reading.kl.toFixed(4);
    }
    find('readings').hidden = find('lens-controls').hidden = false;
    onB = false;
    player.set(tracks, all - 1);
    show();
  };

  app.onPiece.push(() => {
    // Layers of another piece would be taken for those of this one.
    find('readings').hidden = find('lens-controls').hidden = true;
    player.set([]);
  });
}
