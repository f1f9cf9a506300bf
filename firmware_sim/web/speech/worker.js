// The worker: it runs the core and the models, so that the page never waits for them.
'use strict';

const RATE = 16000;
const KINDS = ['', 'speech_began', 'early_text', 'speech_ended', 'text', 'command', 'rejected'];
const RESULTS = ['text', 'command', 'rejected'];
const CERTAIN = 65536;
const KEPT = 30 * RATE; // samples that are kept, to be saved
const AROUND = 0.3 * RATE; // samples saved on each side of speech
const CHUNK = 1600; // samples between two looks at the level
const HEADER_MEMORY = 3; // number of the field in a plan's header
const STATUS = {7: 'its parameters are damaged or of another version', 8: 'memory is too small'};

/** The module with a bundle: samples in, events out. */
class Core {
  constructor(wasm, {core, encoder, step}, {beam, early}, onEvent) {
    this.onEvent = onEvent;
    const host = {event: (...values) => this.take(...values), clock: () => performance.now()};
    const module = new WebAssembly.Module(wasm);
    this.exports = new WebAssembly.Instance(module, {host}).exports;
    this.end = this.exports.__heap_base.value;
    const plans = [encoder, step].map((plan) => this.open(plan));
    const block = this.put(core, core.byteLength);
    const size = this.exports.recognizer_size(block, core.byteLength, beam);
    if (size < 0) this.fail(-size);
    const memory = this.room(size);
    this.samples = this.room(2 * CHUNK);
    const blockOf = [block, core.byteLength];
    this.fail(this.exports.recognizer_open(memory, size, ...blockOf, beam, early, ...plans));
    this.decoder = new TextDecoder();
    this.times = this.counters();
  }

  get bytes() {
    return this.exports.memory.buffer.byteLength;
  }

  // Memory of `size` bytes, which is never given back.
  room(size) {
    const at = Math.ceil(this.end / 16) * 16;
    this.end = at + size;
    const missing = this.end - this.bytes;
    if (missing > 0) this.exports.memory.grow(Math.ceil(missing / 65536));
    return at;
  }

  put(content, size) {
    const at = this.room(size);
    new Uint8Array(this.exports.memory.buffer).set(new Uint8Array(content), at);
    return at;
  }

  open(plan) {
    const at = this.put(plan, new Int32Array(plan, 0, HEADER_MEMORY + 1)[HEADER_MEMORY]);
    if (this.exports.engine_open(at)) {
      throw new Error('The bundle was written for another version of this module: write it again.');
    }
    return at;
  }

  fail(status) {
    if (status) {
      const reason = STATUS[status] ?? `status ${status}`;
      throw new Error(`The bundle cannot be used: ${reason}. Write it again.`);
    }
  }

  feed(samples) {
    for (let at = 0; at < samples.length; at += CHUNK) {
      const part = samples.subarray(at, at + CHUNK);
      new Int16Array(this.exports.memory.buffer, this.samples, part.length).set(part);
      this.begun = performance.now();
      this.fail(this.exports.recognizer_feed(this.samples, part.length));
    }
  }

  finish() {
    this.begun = performance.now();
    this.fail(this.exports.recognizer_finish());
  }

  counters() {
    const e = this.exports;
    return {
      encoder: e.encoder_milliseconds(),
      decoder: e.step_milliseconds(),
      steps: e.step_runs(),
    };
  }

  string(at) {
    const bytes = new Uint8Array(this.exports.memory.buffer, at);
    return this.decoder.decode(bytes.slice(0, bytes.indexOf(0)));
  }

  // An event of recognizer.c.
  take(kind, start, end, text, confidence, intent, slots, slotCount) {
    const event = {
      kind: KINDS[kind],
      start,
      end,
      text: this.string(text),
      confidence: confidence < 0 ? null : confidence / CERTAIN,
      intent: intent ? this.string(intent) : null,
      slots: {},
      slotConfidence: {},
    };
    const numbers = new Int32Array(this.exports.memory.buffer, slots, 4 * slotCount);
    for (let i = 0; i < numbers.length; i += 4) {
      const name = this.string(numbers[i]);
      event.slots[name] = this.string(numbers[i + 1]);
      event.slotConfidence[name] = numbers[i + 3] / CERTAIN;
    }
    if (RESULTS.includes(event.kind) || event.kind === 'early_text') event.times = this.since();
    this.onEvent(event);
  }

  // Milliseconds since the last result, and of this call.
  since() {
    const now = this.counters();
    const times = {all: performance.now() - this.begun};
    for (const key of Object.keys(now)) times[key] = now[key] - this.times[key];
    this.times = now;
    return times;
  }
}

/** A stream: it keeps the last samples, and tells the level. */
class Stream {
  constructor(core) {
    this.core = core;
    this.kept = new Int16Array(KEPT);
    this.received = 0;
    this.meter = {peak: 0, bars: []};
  }

  feed(samples) {
    for (let at = 0; at < samples.length; at += CHUNK) {
      const part = samples.subarray(at, at + CHUNK);
      this.keep(part);
      this.core.feed(part);
    }
  }

  keep(samples) {
    const at = this.received % KEPT;
    const first = samples.subarray(0, KEPT - at);
    this.kept.set(first, at);
    this.kept.set(samples.subarray(first.length), 0);
    this.received += samples.length;
    for (let i = 0; i < samples.length; i += RATE / 100) {
      let low = 0;
      let high = 0;
      for (const x of samples.subarray(i, i + RATE / 100)) {
        low = Math.min(low, x);
        high = Math.max(high, x);
      }
      this.meter.peak = Math.max(this.meter.peak, high / 32768, -low / 32768);
      this.meter.bars.push([low / 32768, high / 32768]);
    }
    if (this.meter.bars.length >= 5) {
      postMessage({type: 'level', ...this.meter});
      this.meter = {peak: 0, bars: []};
    }
  }

  // Samples around speech, as far as they are kept.
  around({start, end}) {
    const first = Math.max(0, this.received - KEPT, start - AROUND);
    const last = Math.min(this.received, end + AROUND);
    const samples = new Int16Array(Math.max(0, last - first));
    for (let i = 0; i < samples.length; i++) samples[i] = this.kept[(first + i) % KEPT];
    return samples;
  }

  tell(event) {
    if (RESULTS.includes(event.kind)) {
      event.samples = this.around(event);
      event.times.quiet = ((this.received - event.end) / RATE) * 1000;
    }
    postMessage({type: 'event', event});
  }
}

let core;
let stream;

const handlers = {
  open({wasm, files, settings}) {
    const begin = performance.now();
    core = new Core(wasm, files, settings, (event) => stream.tell(event));
    stream = new Stream(core);
    postMessage({type: 'ready', milliseconds: performance.now() - begin, memory: core.bytes});
  },
  feed({samples}) {
    stream.feed(samples);
  },
  finish() {
    core.finish();
    stream = new Stream(core);
    postMessage({type: 'finished', memory: core.bytes});
  },
  listen({port}) {
    port.onmessage = ({data}) => {
      guarded(() => {
        stream.feed(data.samples);
        if (data.lost) postMessage({type: 'lost', seconds: data.lost});
        if (data.last) handlers.finish();
      });
    };
  },
};

function guarded(call) {
  try {
    call();
  } catch (error) {
    postMessage({type: 'error', message: error.message});
  }
}

self.onmessage = ({data}) => guarded(() => handlers[data.type](data));
