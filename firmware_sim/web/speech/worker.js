// The worker: it runs the core and the models, so that the page never waits for them.
'use strict';

const RATE = 16000;
const KINDS = ['', 'speech_began', 'early_text', 'speech_ended', 'text', 'command', 'rejected'];
const RESULTS = ['text', 'command', 'rejected'];
const CERTAIN = 65536;
const KEPT = 30 * RATE; // samples that are kept, to be saved
const AROUND = 0.3 * RATE; // samples saved on each side of speech
const CHUNK = 1600; // samples between two looks at the level
const LEAST_ROOM = 1 << 18; // bytes in which a grammar is compiled first
const MOST_ROOM = 1 << 28;
const ERROR_MESSAGE = 12; // bytes before the message in a grammar's error
const HEADER_MEMORY = 3; // number of the field in a plan's header
const STATUS = {
  7: 'its parameters are damaged or of another version',
  8: 'memory is too small',
  9: 'its lexicon is damaged',
};
const NO_MEMORY = 8;
const NO_GRAMMAR = 10;

/** A module and its memory, which is handed out from its beginning to its end. */
class Instance {
  constructor(wasm, imports) {
    this.exports = new WebAssembly.Instance(new WebAssembly.Module(wasm), imports).exports;
    this.end = this.exports.__heap_base.value;
    this.decoder = new TextDecoder();
  }

  get bytes() {
    return this.exports.memory.buffer.byteLength;
  }

  // Memory of `size` bytes.
  room(size) {
    const at = Math.ceil(this.end / 16) * 16;
    this.end = at + size;
    const missing = this.end - this.bytes;
    if (missing > 0) this.exports.memory.grow(Math.ceil(missing / 65536));
    return at;
  }

  // Where a copy of some bytes is, and how many.
  put(content) {
    const bytes = new Uint8Array(content);
    const at = this.room(bytes.length);
    new Uint8Array(this.exports.memory.buffer).set(bytes, at);
    return [at, bytes.length];
  }

  string(at) {
    const bytes = new Uint8Array(this.exports.memory.buffer, at);
    return this.decoder.decode(bytes.slice(0, bytes.indexOf(0)));
  }
}

/** The compiler: the block of a grammar's text, as bytes. All its memory is given back. */
function compile(wasm, core, lexicon, text) {
  const compiler = new Instance(wasm, {});
  const contents = [core, lexicon, new TextEncoder().encode(text)];
  const given = contents.flatMap((content) => compiler.put(content));
  const free = compiler.end;
  for (let room = LEAST_ROOM; room <= MOST_ROOM; room *= 2) {
    compiler.end = free;
    const at = compiler.room(room);
    const {memory} = compiler.exports;
    const size = compiler.exports.grammar_compile(...given, at, room);
    if (size > 0) return new Uint8Array(memory.buffer, at, size).slice();
    if (-size === NO_GRAMMAR) {
      const place = compiler.exports.grammar_error();
      const [, position, line] = new Uint32Array(memory.buffer, place, 3);
      const error = new Error(compiler.string(place + ERROR_MESSAGE));
      throw Object.assign(error, {grammar: true, position, line});
    }
    if (-size !== NO_MEMORY) fail(-size);
  }
  throw new Error('The grammar is too large for this page: use fewer words.');
}

function fail(status) {
  if (status) {
    const reason = STATUS[status] ?? `status ${status}`;
    throw new Error(`The bundle cannot be used: ${reason}. Write it again.`);
  }
}

/** The module with a bundle: samples in, events out. */
class Core extends Instance {
  constructor(wasm, {core, encoder, step}, {beam, early}, onEvent) {
    const host = {event: (...values) => this.take(...values), clock: () => performance.now()};
    super(wasm, {host});
    this.onEvent = onEvent;
    this.plans = [encoder, step].map((plan) => this.open(plan));
    this.block = this.put(core);
    this.settings = [beam, early];
    this.samples = this.room(2 * CHUNK);
    this.fixed = this.end; // the recogniser's memory and its grammar come after it
    this.begin(this.size(0, 0));
    this.times = this.counters();
  }

  // Bytes of the recogniser's memory with a grammar.
  size(grammar, bytes) {
    const size = this.exports.recognizer_size(...this.block, this.settings[0], grammar, bytes);
    if (size < 0) fail(-size);
    return size;
  }

  // Makes the recogniser, without a grammar of its own.
  begin(size) {
    this.end = this.fixed;
    this.memory = [this.room(size), size];
    const given = [...this.memory, ...this.block, ...this.settings, ...this.plans];
    fail(this.exports.recognizer_open(...given));
    this.grammar = this.end;
  }

  // Holds what is heard from now on to a grammar's block; null: to the bundle's own. `finish` is
  // called if the recogniser has to begin again, in more memory.
  use(grammar, finish) {
    fail(this.exports.recognizer_use(0, 0));
    if (!grammar) return;
    this.end = this.grammar;
    let given = this.put(grammar);
    const size = this.size(...given);
    if (size > this.memory[1]) {
      finish();
      this.begin(size);
      given = this.put(grammar);
    }
    fail(this.exports.recognizer_use(...given));
  }

  open(plan) {
    const at = this.room(new Int32Array(plan, 0, HEADER_MEMORY + 1)[HEADER_MEMORY]);
    new Uint8Array(this.exports.memory.buffer).set(new Uint8Array(plan), at);
    if (this.exports.engine_open(at)) {
      throw new Error('The bundle was written for another version of this module: write it again.');
    }
    return at;
  }

  feed(samples) {
    for (let at = 0; at < samples.length; at += CHUNK) {
      const part = samples.subarray(at, at + CHUNK);
      new Int16Array(this.exports.memory.buffer, this.samples, part.length).set(part);
      this.begun = performance.now();
      fail(this.exports.recognizer_feed(this.samples, part.length));
    }
  }

  finish() {
    this.begun = performance.now();
    fail(this.exports.recognizer_finish());
  }

  counters() {
    const e = this.exports;
    return {
      encoder: e.encoder_milliseconds(),
      decoder: e.step_milliseconds(),
      steps: e.step_runs(),
    };
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
let parts; // of the compiler: its module, the bundle's block and lexicon

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
  use({text, compiler}) {
    const begin = performance.now();
    parts = compiler ?? parts;
    const grammar = text === null ? null : compile(...parts, text);
    core.use(grammar, () => {
      core.finish();
      stream = new Stream(core);
    });
    postMessage({type: 'used', milliseconds: performance.now() - begin, memory: core.bytes});
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
    const {message, grammar, position, line} = error;
    postMessage({type: 'error', message, grammar, position, line});
  }
}

self.onmessage = ({data}) => guarded(() => handlers[data.type](data));
