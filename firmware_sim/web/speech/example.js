// A recogniser on a page of your own.
import {createRecognizer} from './recognizer.js';
const log = (line) => (document.getElementById('log').textContent += `${line}\n`);
const recognizer = await createRecognizer({bundle: '../bundle/'});
recognizer.addEventListener('text', ({detail}) => log(detail.text));
recognizer.addEventListener('command', ({detail}) => log(JSON.stringify(detail.slots)));
const listen = () => recognizer.listen().catch((error) => log(error.message));
document.getElementById('listen').onclick = listen;
log('ready');
