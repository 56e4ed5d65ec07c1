// A map of layers × steps that grows while a run is made.

import { drawLegend, drawMap } from './picture.js';

export class HeatMap {
  /** Builds itself inside `figure`; `range(values)` is what the darkest and the brightest colour mean. */
  constructor(figure, caption, range) {
    figure.innerHTML = `
      <figcaption>${caption}: <span class="about"></span></figcaption>
      <canvas class="map" role="img" width="800" height="240"></canvas>
      <div class="legend" aria-hidden="true"><span class="low"></span><canvas class="colours" width="200" height="10"></canvas><span class="high"></span></div>`;
    this.figure = figure;
    this.caption = caption;
    this.range = range;
    this.waiting = false;
    this.begin([]);
  }

  /** Of a run that has not begun: a row for each of `points`, `numbers` read at each. */
  begin(points, numbers = 1) {
    this.points = points;
    this.numbers = numbers;
    this.number = 0;
    /** By step, `[number, row]`. */
    this.columns = [];
    this.draw();
  }

  add(column) {
    this.columns.push(column);
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  /** Shows another of the numbers. */
  choose(number) {
    this.number = number;
    this.draw();
  }

  /** What is shown, `[row, step]`. */
  values() {
    const steps = this.columns.length;
    const rows = this.points.length;
    const values = new Float32Array(rows * steps);
    this.columns.forEach((column, step) => {
      for (let row = 0; row < rows; row++) values[row * steps + step] = column[this.number * rows + row];
    });
    return values;
  }

  draw() {
    const { points, figure } = this;
    const steps = this.columns.length;
    figure.hidden = steps === 0;
    if (steps === 0) return;
    const values = this.values();
    const [low, high] = this.range(values);
    const find = (selector) => figure.querySelector(selector);
    drawMap(find('.map'), values, points.length, steps, [low, high]);
    drawLegend(find('.colours'));
    find('.low').textContent = low.toFixed(2);
    find('.high').textContent = high.toFixed(2);
    find('.about').textContent = `${points[0]} (bottom) to ${points.at(-1)} (top), ${steps} steps`;
    const mean = (row) => values.subarray(row * steps, (row + 1) * steps).reduce((sum, value) => sum + value, 0) / steps;
    const means = points.map((point, row) => `${point} ${mean(row).toFixed(2)}`);
    find('.map').setAttribute('aria-label', `${this.caption}: ${points.length} layers by ${steps} steps; means: ${means.join(', ')}`);
  }
}
