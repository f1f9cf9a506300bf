// Sound: WAV files, and resampling to the 16 kHz that recognisers hear.

export const SAMPLE_RATE = 16000;

// The filter of a resampler: flat to 91 % of the lower Nyquist frequency, 120 dB down at all of it.
// Fitted to soxr's high quality, which Python resamples by.
const LOBES = 90.4; // on each side
const STEPS = 512; // of its table, in a lobe
const ROLL_OFF = 0.95687; // where it is halfway down
const BETA = 12.315; // of the Kaiser window

// Rounds as Python does, halves to even.
function rounded(x) {
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 !== 0 ? up - 1 : up;
}

/** Numbers from -1 to 1 as int16. */
export function toInt16(samples) {
  return Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, rounded(x * 32768))));
}

function bessel(x) {
  let sum = 1;
  for (let k = 1, term = 1; k < 50; k++) {
    term *= (x / 2 / k) ** 2;
    sum += term;
  }
  return sum;
}

// One side of a sinc under a Kaiser window; the last value is 0.
function makeFilter() {
  const table = new Float64Array(Math.ceil(LOBES * STEPS) + 2);
  for (let i = 0; i < LOBES * STEPS; i++) {
    const x = i / STEPS;
    const sinc = i === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
    table[i] = (sinc * bessel(BETA * Math.sqrt(1 - (x / LOBES) ** 2))) / bessel(BETA);
  }
  return table;
}

/** Resamples sound block by block, by a windowed sinc. */
export class Resampler {
  /** rate: of what comes in, in Hz. */
  constructor(rate) {
    this.step = rate / SAMPLE_RATE; // input samples for an output
    this.cutoff = ROLL_OFF * Math.min(1, 1 / this.step);
    this.reach = Math.ceil(LOBES / this.cutoff); // input samples on each side
    this.filter = rate === SAMPLE_RATE ? null : makeFilter();
    this.kept = new Float32Array(this.reach); // the last input; before it there is silence
    this.place = this.reach; // of the next output, in `kept`
  }

  /** The next samples, as numbers from -1 to 1; `last`: none come after them. */
  process(samples, last = false) {
    if (!this.filter) return samples;
    const tail = last ? this.reach : 0;
    const input = new Float32Array(this.kept.length + samples.length + tail);
    input.set(this.kept);
    input.set(samples, this.kept.length);
    const output = [];
    for (; this.place + this.reach < input.length; this.place += this.step) {
      output.push(this.at(input, this.place));
    }
    const used = Math.max(0, Math.floor(this.place) - this.reach);
    this.kept = input.slice(used);
    this.place -= used;
    return Float32Array.from(output);
  }

  at(input, place) {
    const scale = this.cutoff * STEPS;
    const first = Math.max(0, Math.ceil(place - this.reach));
    const end = Math.floor(place + this.reach);
    let sum = 0;
    for (let i = first; i <= end; i++) {
      const x = Math.abs(i - place) * scale;
      const j = Math.floor(x);
      if (j >= LOBES * STEPS) continue;
      sum += input[i] * (this.filter[j] + (x - j) * (this.filter[j + 1] - this.filter[j]));
    }
    return sum * this.cutoff;
  }
}

// How to read a sample: by the number of the format, and bits.
const READERS = {
  '1/8': (view, at) => (view.getUint8(at) - 128) / 128,
  '1/16': (view, at) => view.getInt16(at, true) / 32768,
  '1/24': (view, at) => (view.getUint16(at, true) + 65536 * view.getInt8(at + 2)) / 8388608,
  '1/32': (view, at) => view.getInt32(at, true) / 2147483648,
  '3/32': (view, at) => view.getFloat32(at, true),
  '3/64': (view, at) => view.getFloat64(at, true),
};

function chunks(view) {
  const found = {};
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const name = String.fromCharCode(...new Uint8Array(view.buffer, view.byteOffset + at, 4));
    const size = view.getUint32(at + 4, true);
    if (!(name in found)) found[name] = {at: at + 8, size};
    at += 8 + size + (size % 2);
  }
  return found;
}

/**
 * A WAV file as {rate, samples}, channels averaged; null if it is another file, or in a format that
 * only the browser knows. Throws an Error if it is damaged.
 */
export function readWav(buffer) {
  const view = new DataView(buffer);
  const is = (at, text) => [...text].every((c, i) => view.getUint8(at + i) === c.charCodeAt(0));
  if (view.byteLength < 12 || !is(0, 'RIFF') || !is(8, 'WAVE')) return null;
  const {'fmt ': format, data} = chunks(view);
  if (!format || !data) throw new Error('The WAV file is damaged: it has no sound.');
  let kind = view.getUint16(format.at, true);
  if (kind === 0xfffe && format.size >= 26) kind = view.getUint16(format.at + 24, true);
  const channels = view.getUint16(format.at + 2, true);
  const rate = view.getUint32(format.at + 4, true);
  const bits = view.getUint16(format.at + 14, true);
  const read = READERS[`${kind}/${bits}`];
  if (!read || channels === 0) return null;
  const streamed = data.size === 0 || data.size >= 0x7fff0000; // written into a pipe
  const there = view.byteLength - data.at;
  if (!streamed && data.size > there) {
    throw new Error('The WAV file is cut off: it has fewer samples than its header says.');
  }
  const width = (bits / 8) * channels;
  const samples = new Float32Array(Math.floor((streamed ? there : data.size) / width));
  for (let i = 0; i < samples.length; i++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += read(view, data.at + i * width + (c * bits) / 8);
    samples[i] = sum / channels;
  }
  return {rate, samples};
}

/** A WAV file of int16 samples at 16 kHz. */
export function writeWav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, value) => [...value].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, 'RIFF');
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channel
  view.setUint32(24, SAMPLE_RATE, true);
  view.setUint32(28, 2 * SAMPLE_RATE, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, 'data');
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((x, i) => view.setInt16(44 + 2 * i, x, true));
  return new Blob([view], {type: 'audio/wav'});
}

/**
 * Any file that the browser decodes as int16 samples at 16 kHz. Throws an Error that says what is
 * wrong with it.
 */
export async function decode(buffer) {
  if (buffer.byteLength === 0) throw new Error('The file is empty.');
  const wav = readWav(buffer);
  let sound;
  if (wav) {
    sound = new Resampler(wav.rate).process(wav.samples, true);
  } else {
    try {
      const context = new OfflineAudioContext(1, 1, SAMPLE_RATE); // decoding resamples to its rate
      const decoded = await context.decodeAudioData(buffer);
      const channels = Array.from({length: decoded.numberOfChannels}, (_, c) =>
        decoded.getChannelData(c),
      );
      sound = channels[0].map((_, i) => channels.reduce((s, x) => s + x[i], 0) / channels.length);
    } catch {
      throw new Error('This is no audio file that the browser can decode: choose a WAV or FLAC.');
    }
  }
  if (sound.length === 0) throw new Error('The file holds no samples.');
  return toInt16(sound);
}
