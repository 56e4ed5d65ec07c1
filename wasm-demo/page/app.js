// The page: what its controls do.

import { setUpDevice } from './device.js';
import { setUpEdits } from './edits.js';
import { Engine } from './engine.js';
import { setUpLens } from './lens.js';
import { Live } from './live.js';
import { setUpModels } from './models.js';
import { Player, saveAs } from './player.js';
import { setUpProbes } from './probes.js';

const find = (id) => document.getElementById(id);

const EXAMPLES = [
  'Compose a happy rock piece, with a guitar melody. Use a fast tempo.',
  'A calm piano piece in a minor key, slow tempo, with soft strings',
  '80s synth pop with a drum machine and a bright lead',
  'Solo cello, melancholic, recorded in a church',
];

/** What all parts of the page share. */
const app = {
  find,
  saveAs,
  about: null,
  piece: null,
  /** The map that what is read off a run goes to. */
  heat: null,
  device: null,
  busy: false,
  onLoaded: [],
  onPiece: [],
  onTheme: [],
  showError,
  clearError: () => (find('error').hidden = true),
  run,
  request,
};
app.engine = new Engine(hear);
/** Fetches and keeps models, whatever the other one computes. */
app.keeper = new Engine(hear);
// For tests, which watch what the page knows.
globalThis.tonoscope = app;

function showError(error) {
  find('error').textContent = [error.message, error.hint].filter(Boolean).join('\n');
  find('error').hidden = false;
  find('error').scrollIntoView({ block: 'nearest' });
}

let pace = { began: 0, done: 0, codebooks: 0 };

function hear(event) {
  if (event.kind === 'stage') {
    const names = { loading: 'Loading the model', generating: 'Generating', decoding: 'Turning tokens into sound', reading: 'Reading the layers', judging: 'Asking the judge' };
    find('stage').textContent = names[event.name] ?? event.name;
    find('bar').removeAttribute('value');
    find('pace').textContent = '';
    pace = { began: performance.now(), stage: event.name };
  } else if (event.kind === 'step') {
    find('bar').max = event.total;
    find('bar').value = event.done;
    const seconds = (performance.now() - pace.began) / 1000;
    const rate = event.done / seconds;
    const left = Math.ceil((event.total - event.done) / rate);
    const percent = `${Math.floor((100 * event.done) / event.total)} %`;
    find('pace').textContent =
      pace.stage === 'generating'
        ? `${percent}, ${rate.toFixed(1)} steps/s, ${(rate * (app.about?.codebooks ?? 1)).toFixed(0)} tokens/s, ${left} s left`
        : `${percent}, ${left} s left`;
  } else if (event.kind === 'transfer') {
    app.onTransfer?.(event);
  } else if (event.kind === 'sound') {
    app.live?.add(event);
  } else if (event.kind === 'heat') {
    app.heat?.add(event.column);
  } else if (event.kind === 'restarted') {
    app.onRestarted?.(event.error, event.engine);
  }
}

/** Runs a long action: progress, Cancel, one at a time; `undefined` if it failed or was cancelled. */
async function run(stage, work) {
  if (app.busy) return undefined;
  app.busy = true;
  app.clearError();
  find('stage').textContent = stage;
  find('bar').removeAttribute('value');
  find('pace').textContent = '';
  find('working').hidden = false;
  find('cancel').disabled = false;
  document.body.setAttribute('aria-busy', 'true');
  update();
  try {
    return await work();
  } catch (error) {
    if (error.message === 'cancelled') find('piece-about').textContent = 'Cancelled.';
    else showError(error);
    return undefined;
  } finally {
    app.busy = false;
    find('working').hidden = true;
    document.body.removeAttribute('aria-busy');
    update();
  }
}

/** Which buttons make sense now. */
function update() {
  const idle = Boolean(app.about) && !app.busy;
  find('load').disabled = app.busy;
  find('generate').disabled = find('make-direction').disabled = find('export').disabled = !idle;
  find('lens').disabled = !idle || !app.piece;
  find('edited').disabled = find('edit-save').disabled = !idle || !app.edits;
  find('probed').disabled = !idle || !app.probes;
  find('probe-concept').disabled = !app.probes;
  find('edit-file').disabled = find('probe-file').disabled = !idle;
  find('edit-example').disabled = find('probe-example').disabled = !idle || app.loaded?.value !== 'test';
}
app.update = update;

/** The run that the form describes. */
function request() {
  const number = (id) => (find(id).value === '' ? null : Number(find(id).value));
  return {
    prompt: find('prompt').value,
    seconds: number('seconds') ?? 0,
    guidance: number('guidance'),
    greedy: find('greedy').checked,
    seed: find('seed').value.trim(),
    top_k: number('top-k') ?? 0,
    temperature: number('temperature') ?? 0,
  };
}

find('cancel').onclick = () => {
  find('cancel').disabled = true;
  find('stage').textContent = 'Stopping';
  app.engine.cancel();
};

// Generate

const player = new Player(find('piece-player'), 'the piece');
app.player = player;

find('piece').onsubmit = async (event) => {
  event.preventDefault();
  const asked = request();
  player.pause();
  app.live = find('live').checked ? new Live(asked.seconds, (text) => (find('live-state').textContent = text)) : null;
  const piece = await run('Generating', () => app.engine.call('generate', asked));
  find('live-state').textContent = '';
  if (!piece) {
    app.live?.stop();
    app.live = null;
    return;
  }
  app.piece = { ...piece, request: asked };
  player.set([{ label: asked.prompt || 'no prompt', channels: piece.channels, rate: piece.sample_rate, save: () => saveAs(fileName(asked), piece.wav) }]);
  // What sounds goes on in the player, without a gap.
  player.follow(app.live);
  const tie = piece.first_tie
    ? ` At step ${piece.first_tie.step} two tokens were so close that another device may choose otherwise.`
    : '';
  find('piece-about').textContent =
    `${piece.seconds.toFixed(2)} s of music in ${piece.elapsed.toFixed(1)} s: ${piece.frames} frames of ${piece.codebooks} tokens, ` +
    `${((piece.frames * piece.codebooks) / piece.elapsed).toFixed(0)} tokens/s.${tie}`;
  app.onPiece.forEach((tell) => tell());
  update();
};

function fileName({ prompt, seed, greedy }) {
  const words = prompt.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '').slice(0, 40) || 'music';
  return `${words}-${greedy ? 'greedy' : seed || 0}.wav`;
}

find('greedy').onchange = () => {
  for (const id of ['seed', 'top-k', 'temperature']) find(id).disabled = find('greedy').checked;
};

for (const text of EXAMPLES) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = text.length > 34 ? `${text.slice(0, 32)}…` : text;
  button.title = text;
  button.onclick = () => (find('prompt').value = text);
  find('examples').append(button);
}

// A link that reproduces a run

const FIELDS = ['prompt', 'seconds', 'guidance', 'seed', 'top-k', 'temperature'];

function link() {
  const fields = new URLSearchParams(FIELDS.map((id) => [id, find(id).value]).filter(([, value]) => value !== ''));
  if (find('greedy').checked) fields.set('greedy', '1');
  fields.set('model', find('model').value);
  fields.set('device', find('device').value);
  return `${location.href.split('#')[0]}#${fields}`;
}

find('link').onclick = async () => {
  history.replaceState(null, '', link());
  try {
    await navigator.clipboard.writeText(location.href);
    find('link-state').textContent = 'Copied.';
  } catch {
    find('link-state').textContent = 'It is in the address bar now.';
  }
};

function readLink() {
  const fields = new URLSearchParams(location.hash.slice(1));
  for (const id of FIELDS) if (fields.has(id)) find(id).value = fields.get(id);
  if (fields.has('prompt') && !fields.has('guidance')) find('guidance').value = '';
  find('greedy').checked = fields.get('greedy') === '1';
  find('greedy').onchange();
  return { model: fields.get('model'), device: fields.get('device') };
}

// Tabs

const tabs = [...document.querySelectorAll('[role=tab]')];

function choose(tab) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute('aria-selected', String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    find(other.getAttribute('aria-controls')).hidden = !chosen;
  }
}

tabs.forEach((tab, index) => {
  tab.onclick = () => choose(tab);
  tab.onkeydown = ({ key }) => {
    const last = tabs.length - 1;
    const to = { ArrowRight: index === last ? 0 : index + 1, ArrowLeft: index === 0 ? last : index - 1, Home: 0, End: last }[key];
    if (to === undefined) return;
    choose(tabs[to]);
    tabs[to].focus();
  };
});

// Theme

const theme = find('theme');
const redraw = () => {
  player.draw();
  app.onTheme.forEach((tell) => tell());
};
theme.value = localStorage.getItem('theme') ?? '';
theme.onchange = () => {
  if (theme.value) document.documentElement.dataset.theme = theme.value;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem('theme', theme.value);
  redraw();
};
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
theme.onchange();

const asked = readLink();
setUpLens(app);
setUpProbes(app);
setUpEdits(app);
await setUpDevice(app, asked.device);
await setUpModels(app, asked.model);
