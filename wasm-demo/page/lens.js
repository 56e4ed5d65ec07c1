// DecoderLens: every layer's music, side by side.

import { Player, saveAs, wavOf } from './player.js';

export function setUpLens(app) {
  const { find, engine } = app;
  const player = new Player(find('lens-player'), 'a layer');
  app.lensPlayer = player;
  app.onTheme.push(() => player.draw());
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

  // The judge

  /** Files of the judge, which every model that is loaded anew is told again. */
  let judge = null;

  async function loadJudge() {
    find('concept').disabled = true;
    try {
      const about = await engine.call('loadJudge', { files: judge });
      const chosen = find('concept').value;
      const option = (value) => Object.assign(document.createElement('option'), { value, textContent: value || 'none' });
      find('concept').replaceChildren(option(''), ...about.concepts.map(option));
      find('concept').value = about.concepts.includes(chosen) ? chosen : (about.concepts[0] ?? '');
      find('concept').disabled = about.concepts.length === 0;
      find('judge-state').textContent =
        `The judge tells ${about.classes} classes apart${about.concepts.length ? '' : ', none of which is one of the paper’s ten concepts'}. It is asked when the layers are read.`;
    } catch (error) {
      judge = null;
      find('judge-state').textContent = 'No judge is loaded.';
      app.showError(error);
    }
  }

  find('judge-files').onchange = async () => {
    const files = [...find('judge-files').files];
    if (files.length === 0) return;
    app.clearError();
    find('judge-state').textContent = 'Loading the judge …';
    judge = files.map((file) => ({ name: file.name, blob: file }));
    if (app.about) await loadJudge();
  };
  app.onLoaded.push(() => judge && loadJudge());

  function showJudged() {
    const judged = app.lens?.judged;
    const concept = find('concept').value;
    for (const cell of find('readings').querySelectorAll('.judged')) cell.hidden = !judged;
    if (!judged) return;
    find('judged-concept').textContent = concept || 'no concept';
    [...find('readings').tBodies[0].rows].forEach((row, index) => {
      const { top, ndcg } = judged[index];
      const [hears, recognised] = row.querySelectorAll('.judged');
      hears.textContent = `${top[0][0]}, ${(100 * top[0][1]).toFixed(0)}\u00a0%`;
      hears.title = top.map(([name, probability]) => `${name} ${(100 * probability).toFixed(1)} %`).join(', ');
      recognised.textContent = concept ? ndcg[concept].toFixed(3) : '';
    });
  }
  find('concept').onchange = showJudged;

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
      row.insertCell().textContent = `${(100 * reading.agrees).toFixed(0)}\u00a0%`;
      row.insertCell().textContent = reading.rank.toFixed(1);
      row.insertCell().textContent = reading.entropy.toFixed(3);
      row.insertCell().textContent = reading.kl.toFixed(4);
      row.insertCell().className = row.insertCell().className = 'judged';
    }
    showJudged();
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
