// The recogniser of a bundle, for any page.
//
//   import {createRecognizer} from './speech/recognizer.js';
//   const recognizer = await createRecognizer({bundle: 'bundle/'});
//   recognizer.addEventListener('command', ({detail}) => act(detail.intent, detail.slots));
//   await recognizer.listen();
//
// `bundle` is the folder that `python -m firmware_sim.web` writes. All computing is in a worker.
// recognizer.d.ts describes everything.
import {SAMPLE_RATE, decode} from './sound.js';

// A function that adds two vectors of 8 bits.
const SIMD = [
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 15, 1, 13, 0],
  ...[65, 0, 253, 15, 65, 0, 253, 15, 253, 110, 26, 11],
];
const FILES = ['bundle.json', 'core.bin', 'encoder.plan', 'decoder_step.plan'];
const SILENT_MILLISECONDS = 4000; // without any sound, not even noise
const STOP_MILLISECONDS = 1000; // that a microphone may take to hand out its last samples

// What is wrong, in words for whoever uses the page. `code` is for programs.
export class SpeechError extends Error {
  constructor(code, message, place = {}) {
    super(message);
    this.name = 'SpeechError';
    this.code = code;
    Object.assign(this, place);
  }
}

const MICROPHONE_ERRORS = {
  NotAllowedError: [
    'denied',
    'The browser may not use the microphone: allow it beside the address, then try again.',
  ],
  NotFoundError: ['missing', 'There is no microphone: connect one, or open a file.'],
  NotReadableError: ['busy', 'The microphone cannot be read: another program may be using it.'],
};

async function read(url, onProgress) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new SpeechError('network', `${url} cannot be loaded: check that the page is complete.`);
  }
  if (!response.ok) {
    throw new SpeechError('network', `${url} cannot be loaded (status ${response.status}).`);
  }
  const parts = [];
  const reader = response.body.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    parts.push(next.value);
    onProgress(next.value.length);
  }
  return new Blob(parts).arrayBuffer();
}

// The files of a bundle and the module, as ArrayBuffers, by name.
async function load(bundle, wasm, onProgress) {
  const description = JSON.parse(new TextDecoder().decode(await bundle('bundle.json', () => {})));
  const total = description.bytes;
  let loaded = 0;
  const progress = (bytes) => onProgress?.({loaded: (loaded += bytes), total});
  const names = FILES.slice(1);
  const all = await Promise.all([wasm(progress), ...names.map((x) => bundle(x, progress))]);
  return {description, wasm: all[0], core: all[1], encoder: all[2], step: all[3]};
}

// Reads files by name, from a folder or from memory.
function reader(bundle) {
  if (typeof bundle === 'string' || bundle instanceof URL) {
    const folder = new URL(`${bundle}`.replace(/\/?$/, '/'), document.baseURI);
    return (name, onProgress) => read(new URL(name, folder), onProgress);
  }
  return async (name, onProgress) => {
    onProgress(bundle[name].byteLength);
    return bundle[name].slice().buffer;
  };
}

/** See recognizer.d.ts. */
export async function createRecognizer({bundle, parts = {}, beam = 0, early = true, onProgress}) {
  if (typeof WebAssembly !== 'object' || !WebAssembly.validate(new Uint8Array(SIMD))) {
    throw new SpeechError(
      'simd',
      'This browser has no WebAssembly SIMD: use Chrome 91, Firefox 89, Safari 16.4, or later.',
    );
  }
  const own = (name) => new URL(name, import.meta.url);
  const wasm = (progress) =>
    parts.wasm ? parts.wasm.slice().buffer : read(own('speech.wasm'), progress);
  const compiler = () =>
    parts.compiler ? parts.compiler.slice().buffer : read(own('compiler.wasm'), () => {});
  const readPart = reader(bundle);
  const {description, ...files} = await load(readPart, wasm, onProgress);
  const worker = new Worker(parts.worker ?? own('worker.js'));
  const worklet = parts.worklet ?? own('worklet.js');
  const compilerParts = async () => {
    const bundleParts = ['core.bin', 'lexicon.bin'].map((name) => readPart(name, () => {}));
    return Promise.all([compiler(), ...bundleParts]);
  };
  const recognizer = new Recognizer(worker, worklet, description, compilerParts);
  await recognizer.open(files, {beam, early: Number(early)});
  return recognizer;
}

export class Recognizer extends EventTarget {
  constructor(worker, worklet, description, compilerParts) {
    super();
    this.bundle = description;
    this.memory = 0; // bytes
    this.listening = false;
    this.worker = worker;
    this.worklet = worklet;
    this.compilerParts = compilerParts;
    this.canCompile = false; // whether the worker has these parts
    this.waiting = null; // who waits for the worker's next answer
    worker.onmessage = ({data}) => this.take(data);
    worker.onerror = (event) => {
      this.take({type: 'error', message: `The recogniser stopped: ${event.message}`});
    };
  }

  async open({wasm, core, encoder, step}, settings) {
    const files = {core, encoder, step};
    const ready = this.answer();
    this.worker.postMessage({type: 'open', wasm, files, settings}, [wasm, core, encoder, step]);
    this.openMilliseconds = (await ready).milliseconds;
  }

  // The worker's next answer.
  answer() {
    return new Promise((resolve, reject) => (this.waiting = {resolve, reject}));
  }

  take(message) {
    const {type} = message;
    if (message.memory) this.memory = message.memory;
    if (type === 'event') {
      this.heard?.push(message.event);
      this.send('event', message.event);
      this.send(message.event.kind, message.event);
    } else if (type === 'level' || type === 'lost') {
      if (message.peak > 0) clearTimeout(this.silence);
      this.send(type, message);
    } else {
      const {waiting} = this;
      this.waiting = null;
      const {grammar, line, position} = message;
      const error =
        type === 'error' &&
        new SpeechError(grammar ? 'grammar' : 'failed', message.message, {line, position});
      if (error && waiting) waiting.reject(error);
      else if (error) this.send('error', error);
      else waiting?.resolve(message);
    }
  }

  send(type, detail) {
    this.dispatchEvent(new CustomEvent(type, {detail}));
  }

  async use(grammar) {
    if (this.waiting || this.heard) {
      throw new SpeechError('busy', 'It is computing already: wait for that first.');
    }
    if (grammar !== null && !this.bundle.lexicon) {
      throw new SpeechError(
        'trained',
        'This bundle understands only what it was trained for: take a general one.',
      );
    }
    const text = grammar === null || typeof grammar === 'string' ? grammar : JSON.stringify(grammar);
    const message = {type: 'use', text};
    if (grammar !== null && !this.canCompile) {
      message.compiler = await this.compilerParts();
      this.canCompile = true;
    }
    const used = this.answer();
    this.worker.postMessage(message, message.compiler ?? []);
    return (await used).milliseconds;
  }

  async transcribe(sound) {
    if (this.listening || this.heard) {
      throw new SpeechError('busy', 'It is listening already: stop that first.');
    }
    this.heard = [];
    try {
      let samples = sound;
      if (!(sound instanceof Int16Array)) {
        const buffer = sound instanceof Blob ? await sound.arrayBuffer() : sound;
        samples = await decode(buffer).catch((error) => {
          throw new SpeechError('file', error.message);
        });
      }
      const finished = this.answer();
      this.worker.postMessage({type: 'feed', samples});
      this.worker.postMessage({type: 'finish'});
      await finished;
      return this.heard;
    } finally {
      this.heard = null;
    }
  }

  async listen({deviceId} = {}) {
    if (this.listening || this.heard) {
      throw new SpeechError('busy', 'It is listening already: stop that first.');
    }
    if (!window.isSecureContext || !navigator.mediaDevices) {
      throw new SpeechError(
        'insecure',
        'Browsers give the microphone only to pages from https:// or localhost. Files work here.',
      );
    }
    this.listening = true;
    try {
      this.media = await navigator.mediaDevices.getUserMedia({
        audio: {
          deviceId,
          channelCount: 1,
          echoCancellation: false,
          noiseSuppression: false,
          autoGainControl: false,
        },
      });
      await this.connect();
    } catch (error) {
      await this.release();
      const [code, message] = MICROPHONE_ERRORS[error.name] ?? ['failed', error.message];
      throw new SpeechError(code, message);
    }
  }

  // From the microphone to the worker, not by way of the page.
  async connect() {
    try {
      this.context = new AudioContext({sampleRate: SAMPLE_RATE});
      this.source = this.context.createMediaStreamSource(this.media);
    } catch {
      await this.context?.close(); // Firefox resamples no microphone; the worklet does
      this.context = new AudioContext();
      this.source = this.context.createMediaStreamSource(this.media);
    }
    await this.context.audioWorklet.addModule(this.worklet);
    this.node = new AudioWorkletNode(this.context, 'microphone', {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: 'explicit',
    });
    const {port1, port2} = new MessageChannel();
    this.worker.postMessage({type: 'listen', port: port1}, [port1]);
    this.node.port.postMessage({port: port2}, [port2]);
    this.source.connect(this.node);
    this.context.resume(); // without an output, Firefox never ends this
    this.silence = setTimeout(() => {
      const message = 'No sound comes from the microphone: check that it is connected and on.';
      this.send('error', new SpeechError('silent', message));
    }, SILENT_MILLISECONDS);
    const [track] = this.media.getAudioTracks();
    track.onended = () => {
      this.send('error', new SpeechError('unplugged', 'The microphone is gone: connect it again.'));
      this.stop();
    };
  }

  /** Sampling rate of the microphone's sound, in Hz. */
  get rate() {
    return this.context?.sampleRate ?? null;
  }

  async stop() {
    if (!this.listening || !this.node) return;
    const finished = this.answer();
    const late = setTimeout(() => this.worker.postMessage({type: 'finish'}), STOP_MILLISECONDS);
    this.node.port.postMessage({});
    this.node = null;
    try {
      await finished;
    } finally {
      clearTimeout(late);
      await this.release();
    }
  }

  async release() {
    clearTimeout(this.silence);
    this.media?.getTracks().forEach((track) => {
      track.onended = null;
      track.stop();
    });
    this.source?.disconnect();
    if (this.context && this.context.state !== 'closed') await this.context.close();
    this.media = this.source = this.context = this.node = null;
    this.listening = false;
  }

  async close() {
    await this.release();
    this.worker.terminate();
  }
}
