// Sound as pictures: the waveform, and a mel spectrogram.

const WINDOW = 1024;
const BANDS = 80;
/** What is that much quieter than the loudest is black. */
const RANGE_DB = 80;

/** From quiet to loud, even in lightness. */
const STOPS = [[6, 4, 24], [55, 17, 92], [122, 32, 107], [187, 55, 84], [237, 105, 37], [251, 180, 44], [252, 254, 190]];

/** The colour of a share from 0 to 1; what is no number is dark. */
export function colour(share) {
  const place = (Math.min(Math.max(share, 0), 1) || 0) * (STOPS.length - 1);
  const below = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[below].map((from, channel) => from + (STOPS[below + 1][channel] - from) * (place - below));
}

/** Fits the canvas to what is seen of it; its size in pixels. */
function fit(canvas) {
  const scale = Math.min(globalThis.devicePixelRatio || 1, 2);
  const width = Math.max(1, Math.round((canvas.clientWidth || 600) * scale));
  const height = Math.max(1, Math.round((canvas.clientHeight || 100) * scale));
  canvas.width = width;
  canvas.height = height;
  return [width, height];
}

/** The mean of the channels. */
export function mono(channels) {
  if (channels.length === 1) return channels[0];
  return channels[0].map((_, at) => channels.reduce((sum, channel) => sum + channel[at], 0) / channels.length);
}

export function drawWave(canvas, samples) {
  const [width, height] = fit(canvas);
  const context = canvas.getContext('2d');
  // The theme's, by way of the element, for scripts see custom properties unresolved.
  context.fillStyle = getComputedStyle(canvas).color;
  context.clearRect(0, 0, width, height);
  for (let x = 0; x < width; x++) {
    const from = Math.floor((x * samples.length) / width);
    const to = Math.max(from + 1, Math.floor(((x + 1) * samples.length) / width));
    let [low, high] = [1, -1];
    for (let at = from; at < to; at++) {
      low = Math.min(low, samples[at]);
      high = Math.max(high, samples[at]);
    }
    [low, high] = [Math.max(low, -1), Math.min(high, 1)];
    const top = ((1 - high) / 2) * height;
    context.fillRect(x, top, 1, Math.max(1, ((high - low) / 2) * height));
  }
}

export function drawSpectrogram(canvas, samples, rate) {
  const [width] = fit(canvas);
  const columns = Math.min(width, 900, Math.max(1, Math.ceil(samples.length / 32)));
  const filters = melFilters(rate);
  const levels = new Float32Array(columns * BANDS);
  const [real, imaginary] = [new Float32Array(WINDOW), new Float32Array(WINDOW)];
  let loudest = 1e-12;
  for (let column = 0; column < columns; column++) {
    const middle = Math.round(((column + 0.5) * samples.length) / columns);
    imaginary.fill(0);
    for (let at = 0; at < WINDOW; at++) {
      const hann = 0.5 - 0.5 * Math.cos((2 * Math.PI * at) / WINDOW);
      real[at] = (samples[middle - WINDOW / 2 + at] ?? 0) * hann;
    }
    transform(real, imaginary);
    filters.forEach(({ from, weights }, band) => {
      let power = 0;
      weights.forEach((weight, index) => {
        const bin = from + index;
        power += weight * (real[bin] ** 2 + imaginary[bin] ** 2);
      });
      levels[column * BANDS + band] = power;
      loudest = Math.max(loudest, power);
    });
  }
  const image = new ImageData(columns, BANDS);
  for (let column = 0; column < columns; column++) {
    for (let band = 0; band < BANDS; band++) {
      const decibels = 10 * Math.log10(Math.max(levels[column * BANDS + band], 1e-20) / loudest);
      const at = 4 * ((BANDS - 1 - band) * columns + column);
      image.data.set([...colour(1 + decibels / RANGE_DB), 255], at);
    }
  }
  paint(canvas, image, true);
}

/** A map of `rows` × `steps` values; `low` is darkest, `high` brightest. */
export function drawMap(canvas, values, rows, steps, [low, high]) {
  const image = new ImageData(steps, rows);
  values.forEach((value, index) => {
    // The first layer is at the bottom.
    const [row, step] = [Math.floor(index / steps), index % steps];
    image.data.set([...colour((value - low) / (high - low)), 255], 4 * ((rows - 1 - row) * steps + step));
  });
  fit(canvas);
  paint(canvas, image, false);
}

export function drawLegend(canvas) {
  const image = new ImageData(canvas.width, 1);
  for (let x = 0; x < canvas.width; x++) image.data.set([...colour(x / (canvas.width - 1)), 255], 4 * x);
  paint(canvas, image, true);
}

function paint(canvas, image, smooth) {
  const small = new OffscreenCanvas(image.width, image.height);
  small.getContext('2d').putImageData(image, 0, 0);
  const context = canvas.getContext('2d');
  context.imageSmoothingEnabled = smooth;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** Triangles that are even in mel: for each band its first bin and the weights from there. */
function melFilters(rate) {
  const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
  const hertz = (mels) => 700 * (10 ** (mels / 2595) - 1);
  const edges = Array.from({ length: BANDS + 2 }, (_, index) => (hertz((mel(rate / 2) * index) / (BANDS + 1)) * WINDOW) / rate);
  return Array.from({ length: BANDS }, (_, band) => {
    const [left, peak, right] = edges.slice(band, band + 3);
    // Narrow bands of low pitches hold at least the bin that is nearest.
    const from = Math.min(Math.ceil(left), Math.round(peak));
    const to = Math.max(Math.floor(right), from);
    const weights = [];
    for (let bin = from; bin <= Math.min(to, WINDOW / 2); bin++) {
      const weight = bin < peak ? (bin - left) / (peak - left) : (right - bin) / (right - peak);
      weights.push(to === from ? 1 : Math.max(weight, 0));
    }
    if (!weights.some((weight) => weight > 0)) weights[0] = 1;
    return { from, weights };
  });
}

/** Fourier transform in place, of a power of two. */
function transform(real, imaginary) {
  const size = real.length;
  for (let at = 1, reversed = 0; at < size; at++) {
    let bit = size >> 1;
    for (; reversed & bit; bit >>= 1) reversed ^= bit;
    reversed ^= bit;
    if (at < reversed) {
      [real[at], real[reversed]] = [real[reversed], real[at]];
      [imaginary[at], imaginary[reversed]] = [imaginary[reversed], imaginary[at]];
    }
  }
  for (let length = 2; length <= size; length <<= 1) {
    const angle = (-2 * Math.PI) / length;
    for (let start = 0; start < size; start += length) {
      for (let index = 0; index < length / 2; index++) {
        const [cosine, sine] = [Math.cos(angle * index), Math.sin(angle * index)];
        const [a, b] = [start + index, start + index + length / 2];
        const [x, y] = [real[b] * cosine - imaginary[b] * sine, real[b] * sine + imaginary[b] * cosine];
        [real[b], imaginary[b]] = [real[a] - x, imaginary[a] - y];
        real[a] += x;
        imaginary[a] += y;
      }
    }
  }
}
