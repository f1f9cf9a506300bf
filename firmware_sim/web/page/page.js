// The page: it shows what a recogniser hears.
import {createRecognizer} from './speech/recognizer.js';
import {SAMPLE_RATE, writeWav} from './speech/sound.js';

const MOST_RESULTS = 100; // older ones leave the page
const BAR = 2; // pixels of 10 ms in the waveform
const LOUD = 0.98; // level from which sound is likely to be clipped

const $ = (id) => document.getElementById(id);
const seconds = (samples) => (samples / SAMPLE_RATE).toFixed(2);
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function setState(text) {
  $('state').textContent = text;
}

function say(message) {
  $('message').textContent = message;
  $('message').hidden = !message;
}

const figures = {};

function setFigures(values) {
  Object.assign(figures, values);
  const items = Object.entries(figures).flatMap(([name, value]) => [
    element('dt', '', name),
    element('dd', '', value),
  ]);
  $('figures').replaceChildren(...items);
}

// The waveform: the newest sound on the right.
const bars = [];

function draw() {
  const canvas = $('waveform');
  const width = (canvas.width = canvas.clientWidth);
  const context = canvas.getContext('2d');
  context.fillStyle = getComputedStyle(canvas).color;
  const shown = bars.slice(-Math.floor(width / BAR));
  shown.forEach(([low, high], i) => {
    const middle = canvas.height / 2;
    const top = middle - high * middle;
    context.fillRect(i * BAR, top, 1, Math.max(1, (high - low) * middle));
  });
}

function showLevel({peak, bars: added}) {
  bars.push(...added);
  bars.splice(0, Math.max(0, bars.length - 2000));
  const db = 20 * Math.log10(Math.max(peak, 1e-4));
  const level = Math.round(100 * Math.max(0, 1 + db / 60));
  $('level').style.width = `${level}%`;
  $('level').classList.toggle('loud', peak >= LOUD);
  $('meter').setAttribute('aria-valuenow', level);
  requestAnimationFrame(draw);
}

function saveButton({start, samples}) {
  const button = element('button', '', 'Save WAV');
  button.type = 'button';
  button.onclick = () => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(writeWav(samples));
    link.download = `speech-${seconds(start)}.wav`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  return button;
}

function meaning({intent, slots, slotConfidence, confidence}) {
  const line = element('p', 'meaning');
  line.append(element('strong', '', `${intent} (${percent(confidence)})`));
  for (const [name, value] of Object.entries(slots)) {
    line.append(element('span', '', `${name}: ${value} (${percent(slotConfidence[name])})`));
  }
  return line;
}

function timesLine({start, end, times, confidence, kind}) {
  const parts = [`${seconds(start)} to ${seconds(end)} s`];
  if (kind !== 'command' && confidence !== null) parts.push(`confidence ${percent(confidence)}`);
  parts.push(
    `${times.quiet.toFixed(0)} ms of quiet, then ${times.all.toFixed(0)} ms: encoder ` +
      `${times.encoder.toFixed(0)}, decoder ${times.decoder.toFixed(0)} in ${times.steps} steps`,
  );
  return element('p', 'times', parts.join(' · '));
}

function showResult(event) {
  $('early').textContent = '';
  $('nothing').hidden = true;
  $('clear').hidden = false;
  const item = element('li', event.kind);
  const rejected = event.text ? `Not a command: ${event.text}` : 'Not a command';
  const text = event.kind === 'rejected' ? rejected : event.text || 'No words';
  item.append(element('p', 'words', text));
  if (event.intent) item.append(meaning(event));
  item.append(timesLine(event), saveButton(event));
  $('results').prepend(item);
  while ($('results').children.length > MOST_RESULTS) $('results').lastChild.remove();
}

function showGrammar({sentences, slots}) {
  $('grammar').hidden = sentences.length === 0;
  $('sentences').append(...sentences.map((text) => element('li', '', text)));
  for (const [name, values] of Object.entries(slots)) {
    const row = element('tr');
    const head = element('th', '', name);
    head.scope = 'row';
    row.append(head, element('td', '', values.join(', ')));
    $('slots').append(row);
  }
}

// What the field says about its phrases: what they are for, or what is wrong with them.
function showPhrases(state, error) {
  $('phrases-state').textContent = state;
  $('phrases-error').textContent = error;
  $('phrases-error').hidden = !error;
}

async function usePhrases(text) {
  showPhrases('Reading the phrases', '');
  try {
    const milliseconds = await recognizer.use(text);
    const listening = text === null ? 'As before' : 'These phrases are understood now';
    showPhrases(`${listening}: ${milliseconds.toFixed(0)} ms`, '');
    setFigures({Memory: megabytes(recognizer.memory)});
  } catch (error) {
    showPhrases('', error.line ? `Line ${error.line}: ${error.message}.` : error.message);
    if (error.position === undefined) return;
    const before = new TextEncoder().encode(text).slice(0, error.position);
    const at = new TextDecoder().decode(before).length;
    $('phrases').focus();
    $('phrases').setSelectionRange(at, text.length);
  }
}

function connectPhrases() {
  $('own').hidden = !recognizer.bundle.lexicon;
  $('phrases-form').onsubmit = (event) => {
    event.preventDefault();
    usePhrases($('phrases').value);
  };
  $('reset').onclick = () => usePhrases(null);
}

let recognizer;

async function open(sound, name) {
  say('');
  await stop();
  setState(`Reading ${name}`);
  $('listen').disabled = $('open').disabled = true;
  try {
    const events = await recognizer.transcribe(sound);
    if (!events.length) say(`No speech was found in ${name}.`);
  } catch (error) {
    say(error.message);
  }
  setFigures({Memory: megabytes(recognizer.memory)});
  $('listen').disabled = $('open').disabled = false;
  setState('Ready');
}

async function stop() {
  if (!recognizer.listening) return;
  await recognizer.stop().catch((error) => say(error.message));
  showListening();
}

function showListening() {
  const {listening} = recognizer;
  $('listen').textContent = listening ? 'Stop' : 'Listen';
  $('listen').setAttribute('aria-pressed', String(listening));
  setState(listening ? `Listening, ${recognizer.rate} Hz` : 'Ready');
}

async function toggle() {
  say('');
  if (recognizer.listening) {
    await stop();
    return;
  }
  setState('Waiting for the microphone');
  setFigures({'Sound lost': '0 ms'});
  await recognizer.listen().catch((error) => say(error.message));
  showListening();
}

function showExamples(examples, fetchExample) {
  for (const {file, text} of examples) {
    const button = element('button', '', `Example: ${text}`);
    button.type = 'button';
    button.onclick = async () => {
      await fetchExample(file).then(
        (sound) => open(sound, 'the example'),
        () => say('The example cannot be loaded.'),
      );
    };
    $('examples').append(button);
  }
}

function connect() {
  recognizer.addEventListener('level', ({detail}) => showLevel(detail));
  recognizer.addEventListener('early_text', ({detail}) => ($('early').textContent = detail.text));
  for (const kind of ['text', 'command', 'rejected']) {
    recognizer.addEventListener(kind, ({detail}) => showResult(detail));
  }
  recognizer.addEventListener('lost', ({detail}) => {
    setFigures({'Sound lost': `${(1000 * detail.seconds).toFixed(0)} ms`});
  });
  recognizer.addEventListener('error', ({detail}) => {
    say(detail.message);
    if (detail.code !== 'silent') setTimeout(showListening);
  });
  $('listen').onclick = toggle;
  $('open').onclick = () => $('file').click();
  $('file').onchange = ({target}) => {
    if (target.files.length) open(target.files[0], target.files[0].name);
    target.value = '';
  };
  $('clear').onclick = () => {
    $('results').replaceChildren();
    $('clear').hidden = true;
    $('nothing').hidden = false;
  };
}

function acceptDrops() {
  const over = (is) => (event) => {
    event.preventDefault();
    document.body.classList.toggle('over', is);
  };
  document.ondragover = over(true);
  document.ondragleave = over(false);
  document.ondrop = (event) => {
    over(false)(event);
    const [file] = event.dataTransfer.files;
    if (file && recognizer && !$('open').disabled) open(file, file.name);
  };
}

// Files that are part of the page itself, if it is a single one.
function embedded() {
  const script = $('assets');
  if (!script) return null;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const files = JSON.parse(script.textContent);
  const bundle = Object.fromEntries(Object.entries(files.bundle).map(([k, v]) => [k, bytes(v)]));
  const source = new Blob([bytes(files.worker)], {type: 'text/javascript'});
  return {
    bundle,
    parts: {
      wasm: bytes(files.wasm),
      compiler: bytes(files.compiler),
      worker: URL.createObjectURL(source),
      // Pages from file:// may not load a worklet from a blob.
      worklet: `data:text/javascript;base64,${files.worklet}`,
    },
  };
}

async function start() {
  const begin = performance.now();
  const own = embedded();
  const onProgress = ({loaded, total}) => {
    $('progress').value = loaded / total;
    $('progress-text').textContent = `Loading: ${megabytes(loaded)} of ${megabytes(total)}`;
  };
  acceptDrops();
  recognizer = await createRecognizer({bundle: 'bundle/', ...own, onProgress});
  const {bundle} = recognizer;
  document.title = `${bundle.name}: speech recognition`;
  $('title').textContent = bundle.name;
  connect();
  connectPhrases();
  showGrammar(bundle);
  showExamples(bundle.examples, async (file) =>
    own ? own.bundle[file].slice().buffer : (await fetch(`bundle/${file}`)).arrayBuffer(),
  );
  setFigures({
    Loaded: megabytes(bundle.bytes),
    'Ready after': `${(performance.now() - begin).toFixed(0)} ms`,
    'of which opening the bundle': `${recognizer.openMilliseconds.toFixed(0)} ms`,
    Memory: megabytes(recognizer.memory),
    Window: `${bundle.window.toFixed(2)} s`,
  });
  $('loading').hidden = true;
  $('listen').disabled = $('open').disabled = false;
  setState('Ready');
  if (!own && 'serviceWorker' in navigator && window.isSecureContext) {
    await navigator.serviceWorker.register('service.js').catch(() => {}); // works without it too
  }
}

start().catch((error) => {
  say(error.message);
  $('loading').hidden = true;
  setState('Not ready');
});
