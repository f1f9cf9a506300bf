/** Speech recognition in the browser: a bundle, and sound of a microphone or a file. */

/** What happened in a stream. */
export interface SpeechEvent {
  /** `text` comes from a bundle without a grammar, `command` and `rejected` from one with it. */
  kind: 'speech_began' | 'early_text' | 'speech_ended' | 'text' | 'command' | 'rejected';
  /** Samples from the beginning of the stream, at 16 kHz. */
  start: number;
  end: number;
  /** Of `rejected`, what was heard freely. */
  text: string;
  /** 0 to 1; null if there is none. */
  confidence: number | null;
  /** Of `command`. */
  intent: string | null;
  slots: Record<string, string>;
  slotConfidence: Record<string, number>;
  /** Of a result: the sound, at 16 kHz. */
  samples?: Int16Array;
  /** Of a text: milliseconds of computing, and of quiet that was waited for. */
  times?: {all: number; encoder: number; decoder: number; steps: number; quiet?: number};
}

/** bundle.json. */
export interface BundleDescription {
  name: string;
  /** Of all files that are loaded. */
  bytes: number;
  /** Seconds that are recognised at once; longer speech is cut at its pauses. */
  window: number;
  /** Some sentences of the grammar; empty without one. */
  sentences: string[];
  /** Some values of each slot. */
  slots: Record<string, string[]>;
  examples: {file: string; text: string}[];
  /** Bytes of the lexicon, which is loaded for the first grammar; 0: the bundle takes none. */
  lexicon: number;
}

/** `message` says what is wrong and what to do. */
export class SpeechError extends Error {
  code:
    | 'simd'
    | 'network'
    | 'denied'
    | 'missing'
    | 'busy'
    | 'insecure'
    | 'unplugged'
    | 'silent'
    | 'file'
    | 'grammar'
    | 'trained'
    | 'failed';
  /** Of `grammar`: where it is in the text, a line from 1 on and bytes of UTF-8. */
  line?: number;
  position?: number;
}

export interface Level {
  /** 0 to 1. */
  peak: number;
  /** Lowest and highest sample of each 10 ms, from -1 to 1. */
  bars: [number, number][];
}

export interface Options {
  /** The folder that `python -m firmware_sim.web` writes, or its files by name. */
  bundle: string | URL | Record<string, Uint8Array>;
  /** Where the parts of this module are, if not beside it. */
  parts?: {wasm?: Uint8Array; compiler?: Uint8Array; worker?: string | URL; worklet?: string | URL};
  /** Hypotheses of the search; 0: as many as the bundle says. */
  beam?: number;
  /** Whether to give `early_text`. */
  early?: boolean;
  onProgress?: (progress: {loaded: number; total: number}) => void;
}

interface Events {
  /** Every SpeechEvent; each comes by its kind too. */
  event: CustomEvent<SpeechEvent>;
  speech_began: CustomEvent<SpeechEvent>;
  early_text: CustomEvent<SpeechEvent>;
  speech_ended: CustomEvent<SpeechEvent>;
  text: CustomEvent<SpeechEvent>;
  command: CustomEvent<SpeechEvent>;
  rejected: CustomEvent<SpeechEvent>;
  level: CustomEvent<Level>;
  /** Sound that the browser lost, in seconds since listening began. */
  lost: CustomEvent<{seconds: number}>;
  error: CustomEvent<SpeechError>;
}

export class Recognizer extends EventTarget {
  readonly bundle: BundleDescription;
  /** Bytes of WebAssembly memory; only larger grammars make it grow after opening. */
  readonly memory: number;
  readonly listening: boolean;
  /** Hz of the microphone's sound as the browser gives it; null if it is off. */
  readonly rate: number | null;

  /** Takes the microphone, until `stop`. Throws a SpeechError. */
  listen(options?: {deviceId?: string}): Promise<void>;
  /** Recognises what is left, and lets the microphone go. The bundle stays loaded. */
  stop(): Promise<void>;
  /** All events of a recording: a file, or int16 samples at 16 kHz. Throws a SpeechError. */
  transcribe(sound: Blob | ArrayBuffer | Int16Array): Promise<SpeechEvent[]>;
  /** Holds what is heard from now on to a grammar: a phrase in each line, with `[a, b]` for
   * alternatives and `(c)` for optional words; or what a YAML parser makes of a grammar's file. null:
   * back to the bundle's own. Resolves to milliseconds of computing. Throws a SpeechError. */
  use(grammar: string | object | null): Promise<number>;
  /** Ends the worker. */
  close(): Promise<void>;

  addEventListener<K extends keyof Events>(
    type: K,
    listener: (event: Events[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Loads a bundle. Throws a SpeechError. */
export function createRecognizer(options: Options): Promise<Recognizer>;
