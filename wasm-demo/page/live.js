// Music that is still being made, heard while it is.

import { output } from './player.js';

/** Seconds of music that there are before it begins, so that the first hiccup is not heard. */
const LEAST = 0.3;
/** Of the pace so far, what is counted on: later steps look back further and take longer. */
const TRUST = 0.85;

export class Live {
  /** For `seconds` of music; `tell(text)` is told when it is to be heard. */
  constructor(seconds, tell) {
    this.seconds = seconds;
    this.tell = tell;
    this.made = performance.now();
    this.pieces = [];
    this.have = 0;
    /** On the clock of the output, when the music's first sample was heard; `null` before. */
    this.began = null;
    this.sources = [];
    this.stopped = false;
  }

  /** The next samples of each channel. */
  add({ channels, from, rate }) {
    if (this.stopped) return;
    const piece = { channels, at: from / rate, rate };
    this.pieces.push(piece);
    this.have = piece.at + channels[0].length / rate;
    if (this.began !== null) this.schedule(piece);
    else this.consider();
  }

  /** Begins as soon as what is there, and what comes until it is used up, will last to the end. */
  consider() {
    const pace = (TRUST * this.have) / ((performance.now() - this.made) / 1000);
    const needed = Math.min(this.seconds, Math.max(LEAST, this.seconds * (1 - pace)));
    if (this.have < needed) {
      this.tell(`to be heard in ${Math.ceil((needed - this.have) / pace)} s`);
      return;
    }
    this.tell('playing');
    this.began = output().currentTime + 0.05;
    this.pieces.forEach((piece) => this.schedule(piece));
  }

  schedule({ channels, at, rate }) {
    const context = output();
    const buffer = context.createBuffer(channels.length, channels[0].length, rate);
    channels.forEach((samples, channel) => buffer.copyToChannel(samples, channel));
    const late = context.currentTime - (this.began + at);
    // It did run dry: the music waits, and everything after it is later by as much.
    if (late > 0) this.began += late + 0.05;
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(context.destination);
    source.start(this.began + at);
    this.sources.push(source);
  }

  /** Ends at the time `when` of the output's clock, or now. */
  stop(when = 0) {
    this.stopped = true;
    for (const source of this.sources) source.stop(when);
  }
}
