// The microphone, on the audio thread: blocks of 10 ms and more, as int16 at 16 kHz.
import {Resampler, SAMPLE_RATE, toInt16} from './sound.js';

const BLOCK = SAMPLE_RATE / 100;

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate);
    this.waiting = [];
    this.count = 0;
    this.frame = -1; // that comes next
    this.lost = 0; // frames that the audio thread missed
    this.port.onmessage = ({data}) => {
      if (data.port) this.out = data.port;
      else this.send(true);
    };
  }

  process([[samples]]) {
    if (this.done) return false;
    if (!samples || !this.out) return true; // the microphone has not begun, or has ended
    if (this.frame >= 0) this.lost += Math.max(0, currentFrame - this.frame);
    this.frame = currentFrame + samples.length;
    this.waiting.push(this.resampler.process(samples).slice());
    this.count += this.waiting.at(-1).length;
    if (this.count >= BLOCK) this.send(false);
    return true;
  }

  send(last) {
    const all = new Float32Array(this.count);
    let at = 0;
    for (const part of this.waiting) {
      all.set(part, at);
      at += part.length;
    }
    const samples = toInt16(all);
    this.out?.postMessage({samples, lost: this.lost / sampleRate, last}, [samples.buffer]);
    this.waiting = [];
    this.count = 0;
    this.done = last;
  }
}

registerProcessor('microphone', Microphone);
