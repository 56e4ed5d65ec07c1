// Plays one of several sounds of one length; switching between them keeps the place and leaves no gap.

import { drawSpectrogram, drawWave, mono } from './picture.js';

/** Seconds of the cross-fade, short enough to be heard as a switch, long enough not to click. */
const FADE = 0.005;

let context = null;

/** Where sound goes, made when the first is to be heard: browsers want a click before. */
export function output() {
  context ??= new AudioContext();
  context.resume();
  return context;
}

/** The player that sounds; one at a time. */
let sounding = null;

export class Player {
  /** Builds itself inside `element`; `name` is what its pictures are called for those who do not see them. */
  constructor(element, name) {
    this.name = name;
    this.tracks = [];
    this.current = 0;
    this.place = 0;
    element.classList.add('player');
    element.hidden = true;
    element.innerHTML = `
      <div class="stage"><canvas class="wave" role="img"></canvas><canvas class="spectrogram" role="img"></canvas><div class="needle"></div></div>
      <div class="controls">
        <button type="button" class="play">Play</button>
        <input type="range" min="0" max="1" step="any" value="0" aria-label="Place in the music">
        <span class="time"></span>
        <label class="inline"><input type="checkbox" class="loop"> Repeat</label>
        <button type="button" class="save">Save as WAV</button>
      </div>`;
    this.element = element;
    const find = (selector) => element.querySelector(selector);
    [this.wave, this.spectrogram, this.needle] = [find('.wave'), find('.spectrogram'), find('.needle')];
    [this.button, this.slider, this.time, this.loop, this.save] = [find('.play'), find('[type=range]'), find('.time'), find('.loop'), find('.save')];
    this.button.onclick = () => (this.sources ? this.pause() : this.play());
    this.slider.oninput = () => this.seek(Number(this.slider.value));
    this.loop.onchange = () => this.sources && (this.pause(), this.play());
    this.save.onclick = () => this.tracks[this.current]?.save();
    new ResizeObserver(() => this.draw()).observe(element);
  }

  /** `tracks`: `{label, channels, rate, save}` each, of one length. */
  set(tracks, current = 0) {
    this.pause();
    this.place = 0;
    this.tracks = tracks;
    this.buffers = null;
    this.current = Math.min(current, tracks.length - 1);
    this.element.hidden = tracks.length === 0;
    this.draw();
    this.show();
  }

  get seconds() {
    const track = this.tracks[this.current];
    return track ? track.channels[0].length / track.rate : 0;
  }

  /** Seconds into the music. */
  now() {
    if (!this.sources) return this.place;
    const passed = this.place + context.currentTime - this.began;
    return this.loop.checked ? passed % this.seconds : Math.min(passed, this.seconds);
  }

  /** Hears another track, at the same place. */
  choose(index) {
    if (index === this.current || !this.tracks[index]) return;
    this.current = index;
    this.gains?.forEach((gain, at) => gain.gain.setTargetAtTime(at === index ? 1 : 0, context.currentTime, FADE));
    this.draw();
    this.show();
  }

  /** Goes on with what `live` is playing, of the same music. */
  follow(live) {
    if (live?.began == null) return;
    this.play(live);
  }

  /** From its place; or from that of `live`, at whose end it takes over. */
  play(live = null) {
    if (!this.tracks.length) return;
    output();
    if (sounding && sounding !== this) sounding.pause();
    sounding = this;
    if (!live && this.place >= this.seconds) this.place = 0;
    this.buffers ??= this.tracks.map(({ channels, rate }) => {
      const buffer = context.createBuffer(channels.length, channels[0].length, rate);
      channels.forEach((samples, channel) => buffer.copyToChannel(samples, channel));
      return buffer;
    });
    // All tracks run side by side; one is loud.
    const when = context.currentTime + 0.02;
    if (live) {
      this.place = Math.min(Math.max(when - live.began, 0), this.seconds);
      live.stop(when);
    }
    this.gains = this.buffers.map((_, at) => {
      const gain = context.createGain();
      gain.gain.value = at === this.current ? 1 : 0;
      gain.connect(context.destination);
      return gain;
    });
    this.sources = this.buffers.map((buffer, at) => {
      const source = context.createBufferSource();
      source.buffer = buffer;
      source.loop = this.loop.checked;
      source.connect(this.gains[at]);
      source.start(when, this.place);
      return source;
    });
    this.sources[0].onended = () => this.sources && !this.loop.checked && this.stop();
    this.began = when;
    this.button.textContent = 'Pause';
    const tick = () => {
      if (!this.sources) return;
      this.show();
      requestAnimationFrame(tick);
    };
    tick();
  }

  pause() {
    if (!this.sources) return;
    this.place = Math.max(0, this.now());
    this.silence();
  }

  /** At the end. */
  stop() {
    this.silence();
    this.place = 0;
    this.show();
  }

  silence() {
    const [sources, gains] = [this.sources, this.gains];
    this.sources = this.gains = null;
    sources?.forEach((source) => source.stop());
    gains?.forEach((gain) => gain.disconnect());
    this.button.textContent = 'Play';
  }

  seek(seconds) {
    const playing = Boolean(this.sources);
    if (playing) this.silence();
    this.place = Math.min(Math.max(seconds, 0), this.seconds);
    if (playing) this.play();
    this.show();
  }

  show() {
    const [now, whole] = [Math.max(0, this.now()), this.seconds];
    this.slider.max = whole;
    this.slider.value = now;
    this.slider.setAttribute('aria-valuetext', `${now.toFixed(1)} of ${whole.toFixed(1)} seconds`);
    this.time.textContent = `${now.toFixed(1)} / ${whole.toFixed(1)} s`;
    this.needle.style.left = `${whole ? (100 * now) / whole : 0}%`;
  }

  draw() {
    const track = this.tracks[this.current];
    if (!track || !this.element.clientWidth) return;
    const samples = mono(track.channels);
    drawWave(this.wave, samples);
    drawSpectrogram(this.spectrogram, samples, track.rate);
    this.wave.setAttribute('aria-label', `Waveform of ${this.name}: ${track.label}`);
    this.spectrogram.setAttribute('aria-label', `Mel spectrogram of ${this.name}: ${track.label}`);
  }
}

/** Bytes of a 16-bit WAV file. */
export function wavOf(channels, rate) {
  const [count, length] = [channels.length, channels[0].length];
  const bytes = new DataView(new ArrayBuffer(44 + 2 * count * length));
  const text = (at, word) => [...word].forEach((letter, index) => bytes.setUint8(at + index, letter.charCodeAt(0)));
  text(0, 'RIFF');
  bytes.setUint32(4, 36 + 2 * count * length, true);
  text(8, 'WAVEfmt ');
  bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true);
  bytes.setUint16(22, count, true);
  bytes.setUint32(24, rate, true);
  bytes.setUint32(28, rate * count * 2, true);
  bytes.setUint16(32, count * 2, true);
  bytes.setUint16(34, 16, true);
  text(36, 'data');
  bytes.setUint32(40, 2 * count * length, true);
  for (let at = 0; at < length; at++) {
    for (let channel = 0; channel < count; channel++) {
      const sample = Math.min(Math.max(Math.round(channels[channel][at] * 32768), -32768), 32767);
      bytes.setInt16(44 + 2 * (at * count + channel), sample, true);
    }
  }
  return new Uint8Array(bytes.buffer);
}

/** Hands bytes to the user as a file. */
export function saveAs(name, bytes) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([bytes]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
