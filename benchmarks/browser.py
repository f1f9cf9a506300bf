"""The page in Chromium against Python: events, orders, time and memory.

    python -m benchmarks.browser --bundle=barista --recordings=DIR [--labels=LABELS.json]
        [--tflite=DIR] [--measures=files,rates,microphone,encoder,cold,memory] [--json=FILE]

| measure | what is compared |
| --- | --- |
| files | all events of 100 recordings, as WAV at 16 kHz; confidences within 0.001 |
| rates | texts of the same recordings at 8, 44.1 and 48 kHz, each read by the page and by Python |
| microphone | 20 orders through a fake microphone, and in Python, with what was said |
| encoder | CPU of an encoder: the engine, and `@tensorflow/tfjs-tflite`, installed in `--tflite` |
| cold | seconds from opening the page, with nothing cached, to the text of a recording |
| memory | WebAssembly memory and JavaScript heap after 100 and 500 utterances |

It needs Playwright and Chromium.  `--labels` maps names of recordings to `intent` and `slots`.
"""

import base64
import contextlib
import functools
import http.server
import io
import json
import pathlib
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from absl import app, flags
from playwright import sync_api as playwright

import firmware_sim
from benchmarks import report
from firmware_sim import bundle as bundles
from firmware_sim.recognizer import Recognizer
from firmware_sim.search.results import Event
from firmware_sim.sound import audio
from firmware_sim.web import __main__ as web
from firmware_sim.web import site

_RATE: Final = 16_000
_MEASURES: Final = ("files", "rates", "microphone", "encoder", "cold", "memory")
_RESULTS: Final = ("text", "command", "rejected")
_ORDERS: Final = 20
_PAUSE: Final = 2.0  # seconds between orders
_ARGUMENTS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
    *("--enable-precise-memory-info", "--js-flags=--expose-gc"),
)
_OPEN: Final = """async (early) => {
  const {createRecognizer} = await import('/speech/recognizer.js');
  window.recognizer = await createRecognizer({bundle: '/bundle/', early});
}"""
_TRANSCRIBE: Final = """async (sound) => {
  const bytes = Uint8Array.from(atob(sound), (c) => c.charCodeAt(0));
  const events = await recognizer.transcribe(bytes.buffer);
  return events.map(({samples, ...event}) => event);
}"""
# CPU is that of the renderer: one plan, run in the page itself.
_ENGINE: Final = """async ([name, times]) => {
  const read = async (url) => (await fetch(url)).arrayBuffer();
  const [wasm, plan] = await Promise.all([read('/speech/speech.wasm'), read(`/bundle/${name}`)]);
  const host = {event() {}, clock: () => 0};
  const {exports: e} = (await WebAssembly.instantiate(wasm, {host})).instance;
  const at = Math.ceil(e.__heap_base.value / 16) * 16;
  const missing = at + new Int32Array(plan, 12, 1)[0] - e.memory.buffer.byteLength;
  if (missing > 0) e.memory.grow(Math.ceil(missing / 65536));
  new Uint8Array(e.memory.buffer).set(new Uint8Array(plan), at);
  e.engine_open(at);
  window.run = () => { for (let i = 0; i < times; i++) e.engine_run(at); };
  window.run();
}"""
_TFLITE: Final = """async ([model, times]) => {
  tfweb.tflite_web_api.setWasmPath('/wasm/');
  const bytes = Uint8Array.from(atob(model), (c) => c.charCodeAt(0));
  const runner = await tfweb.TFLiteWebModelRunner.create(bytes.buffer, {numThreads: 1});
  window.run = () => { for (let i = 0; i < times; i++) runner.infer(); };
  window.run();
}"""

Samples = npt.NDArray[np.int16]


def wav(samples: npt.NDArray[Any], rate: int) -> str:
    """A WAV file of 16 bits in base64."""
    content = io.BytesIO()
    soundfile.write(content, samples, rate, subtype="PCM_16", format="WAV")
    return base64.b64encode(content.getvalue()).decode()


@contextlib.contextmanager
def served(directory: pathlib.Path, policy: str | None) -> Iterator[str]:
    """The address of a folder."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": _nothing})
    handler = functools.partial(quiet, directory=str(directory))
    server = (
        web.server(directory, policy, 0)
        if policy
        else http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    )
    with server as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://localhost:{serving.server_address[1]}/"
        serving.shutdown()


def _nothing(*_: Any) -> None:
    pass


class Page:
    """The page of a bundle in Chromium."""

    def __init__(self, browser: Any, address: str) -> None:
        self.context = browser.new_context()
        self.page = self.context.new_page()
        self.elsewhere: list[str] = []
        self.own = (address, "data:", "blob:")
        self.context.on("request", lambda request: self.requested(request.url))
        self.page.goto(address)
        self.ready()

    def requested(self, url: str) -> None:
        if not url.startswith(self.own):
            self.elsewhere.append(url)

    def ready(self) -> None:
        playwright.expect(self.page.locator("#state")).to_have_text("Ready", timeout=60_000)

    def open(self, early: bool) -> "Page":
        """Loads the bundle once more, for `hear`."""
        self.page.evaluate(_OPEN, early)
        return self

    def hear(self, sound: str) -> list[dict[str, Any]]:
        return list(self.page.evaluate(_TRANSCRIBE, sound))


def described(event: Event) -> dict[str, Any]:
    """An event of Python as the page gives it, without confidences."""
    command = event.command
    return {
        "kind": event.kind.value,
        "start": event.start,
        "end": event.end,
        "text": event.text,
        "intent": command.intent if command else None,
        "slots": command.slots if command else {},
    }


def same(found: Sequence[Mapping[str, Any]], expected: Sequence[Event]) -> bool:
    """Whether all events are equal, and all confidences within 0.001."""
    if len(found) != len(expected):
        return False
    for event, other in zip(found, expected, strict=True):
        wanted = described(other)
        if {key: event[key] for key in wanted} != wanted:
            return False
        if (event["confidence"] is None) != (other.confidence is None):
            return False
        if abs((event["confidence"] or 0) - (other.confidence or 0)) > 1e-3:
            return False
    return True


def texts(events: Sequence[Any]) -> list[str]:
    """Of the results, in their order."""
    return [
        event.text if isinstance(event, Event) else event["text"]
        for event in events
        if (event.kind.value if isinstance(event, Event) else event["kind"]) in _RESULTS
    ]


def files(page: Page, python: Recognizer, recordings: Sequence[Samples]) -> list[Any]:
    equal = sum(
        same(page.hear(wav(samples, _RATE)), list(python.listen([samples], early=True)))
        for samples in recordings
    )
    count = len(recordings)
    return ["events of files at 16 kHz, equal", f"{equal} of {count}", "all", equal == count]


def rates(page: Page, python: Recognizer, recordings: Sequence[Samples]) -> list[Any]:
    equal = count = 0
    for rate in (8_000, 44_100, 48_000):
        for samples in recordings:
            other = soxr.resample(samples.astype(np.float64) / 32768, _RATE, rate, "VHQ")
            content = wav(np.clip(other, -1, 1), rate)
            heard = audio.decode(io.BytesIO(base64.b64decode(content)), "recording")
            equal += texts(page.hear(content)) == texts(list(python.listen([heard])))
            count += 1
    share = equal / count
    return ["texts at 8, 44.1, 48 kHz, equal", f"{equal} of {count}", "98 %", share >= 0.98]


def orders(recordings: Sequence[Samples]) -> Samples:
    """One after the other, in a quiet room."""
    noise = np.random.default_rng(0)
    pause = [np.rint(noise.normal(0, 3, round(_PAUSE * _RATE))).astype(np.int16)]
    return np.concatenate([part for samples in recordings for part in (*pause, samples)] + pause)


def microphone(
    chromium: Any, address: str, python: Recognizer, recordings: Sequence[Samples], labels: Any
) -> list[Any]:
    sound = orders(recordings)
    expected = [event for event in python.listen([sound]) if event.kind.value in _RESULTS]
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch, "orders.wav")
        soundfile.write(path, sound, _RATE)
        capture = f"--use-file-for-fake-audio-capture={path}%noloop"
        browser = chromium.launch(executable_path=_chromium(), args=[*_ARGUMENTS, capture])
        page = Page(browser, address)
        page.open(early=False)
        page.page.evaluate(
            """() => {
              window.heard = [];
              recognizer.addEventListener('event', ({detail: {samples, ...event}}) =>
                window.heard.push(event));
              return recognizer.listen();
            }"""
        )
        page.page.wait_for_timeout(1000 * (len(sound) / _RATE + 2))
        page.page.evaluate("() => recognizer.stop()")
        heard = [x for x in page.page.evaluate("() => window.heard") if x["kind"] in _RESULTS]
        browser.close()
    right = [right_orders(x, labels) for x in (list(map(described, expected)), heard)]
    measured = f"{right[1]} right, Python {right[0]}, of {len(recordings)}"
    return ["orders by a fake microphone", measured, "at most 1 fewer", right[1] >= right[0] - 1]


def stripped(label: Mapping[str, Any]) -> dict[str, Any]:
    """Without the spaces around values that some labels have."""
    slots = {name: value.strip() for name, value in label["slots"].items()}
    return {"intent": label["intent"], "slots": slots}


def right_orders(events: Sequence[Mapping[str, Any]], labels: Sequence[Any]) -> int:
    """Commands that come in the order of the labels; a wrong one costs itself only."""
    found = [{"intent": x["intent"], "slots": x["slots"]} for x in events if x["intent"]]
    longest = np.zeros((len(found) + 1, len(labels) + 1), int)
    for i, command in enumerate(found):
        for j, label in enumerate(labels):
            through = longest[i, j] + (command == label)
            longest[i + 1, j + 1] = max(through, longest[i, j + 1], longest[i + 1, j])
    return int(longest[-1, -1])


def encoder(
    browser: Any, address: str, bundle: bundles.Bundle, tflite: str | None
) -> list[list[Any]]:
    """CPU of the renderer, engine and TensorFlow Lite in turns; the least of five."""
    times = 10
    needed = {"digits": 15, "barista": 75}.get(bundle.path.stem)
    engine = Page(browser, address).page
    engine.evaluate(_ENGINE, ["encoder.plan", times])
    runners, least = {"engine": engine}, {"engine": np.inf, "tfjs-tflite": np.inf}
    with contextlib.ExitStack() as stack:
        if tflite:
            other = stack.enter_context(served(pathlib.Path(tflite), None))
            page = browser.new_page()
            page.goto(f"{other}package.json")
            page.add_script_tag(url=f"{other}wasm/tflite_web_api_client.js")
            model = base64.b64encode(bundle.encoder.data).decode()
            page.evaluate(_TFLITE, [model, times])
            runners["tfjs-tflite"] = page
        session = browser.new_browser_cdp_session()
        for _ in range(5):
            for name, page in runners.items():
                begin = cpu(session)
                page.evaluate("() => window.run()")
                least[name] = min(least[name], 1000 * (cpu(session) - begin) / times)
    row = ["encoder, ms of CPU", f"{least['engine']:.1f}", f"{needed}"]
    rows = [[*row, needed is None or least["engine"] <= needed]]
    if tflite:
        ratio = least["tfjs-tflite"] / least["engine"]
        measured = f"{least['tfjs-tflite']:.0f}, {ratio:.1f} times"
        rows.append(["tfjs-tflite, ms of CPU", measured, "5 times", ratio >= 5])
    return rows


def cpu(session: Any) -> float:
    """Seconds of all renderers so far."""
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return float(sum(x["cpuTime"] for x in found if x["type"] == "renderer"))


def cold(browser: Any, address: str, samples: Samples) -> list[Any]:
    """A new context has nothing cached."""
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch, "a.wav")
        soundfile.write(path, samples, _RATE)
        begin = time.monotonic()
        page = Page(browser, address)
        loaded = time.monotonic() - begin
        page.page.set_input_files("#file", path)
        page.page.locator("#results .words").wait_for()
        seconds = time.monotonic() - begin
    measured = f"{seconds:.2f} s, of which {loaded:.2f} s to ready"
    return ["cold page to first text", measured, "2 s", seconds <= 2]


def memory(page: Page, samples: Samples) -> list[Any]:
    sound = wav(samples, _RATE)
    found = []
    for count in (100, 400):
        for _ in range(count):
            page.hear(sound)
        page.page.evaluate("() => gc()")
        heap = page.page.evaluate("() => performance.memory.usedJSHeapSize")
        found.append((page.page.evaluate("() => recognizer.memory"), heap))
    (wasm, heap), (later_wasm, later_heap) = found
    measured = f"WebAssembly {wasm:,} and {later_wasm:,}; heap {heap:,} and {later_heap:,} bytes"
    flat = wasm == later_wasm and later_heap < heap + 1_000_000
    return ["memory after 100 and 500 utterances", measured, "flat", flat]


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        raise ValueError("Chromium is not installed: apt-get install chromium.")
    return found


def measure(arguments: Any, address: str, python: Recognizer) -> Iterator[list[Any]]:
    """A row for each figure."""
    every = sorted(pathlib.Path(arguments.recordings).glob("*.*"))
    places = np.linspace(0, len(every) - 1, min(arguments.count, len(every)), dtype=int)
    recordings = [audio.read(every[i])[: 20 * _RATE] for i in places]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=_chromium(), args=[*_ARGUMENTS])
        if "cold" in arguments.measures:
            yield cold(browser, address, recordings[0])
        if "encoder" in arguments.measures:
            yield from encoder(browser, address, python.bundle, arguments.tflite)
        page = Page(browser, address).open(early=True)
        if "files" in arguments.measures:
            yield files(page, python, recordings)
        page.open(early=False)
        if "rates" in arguments.measures:
            yield rates(page, python, recordings)
        if "memory" in arguments.measures:
            yield memory(page, recordings[0])
        yield ["requests to elsewhere", len(page.elsewhere), "0", not page.elsewhere]
        browser.close()
        if "microphone" in arguments.measures and arguments.labels:
            labels = json.loads(pathlib.Path(arguments.labels).read_text("utf-8"))
            said = [stripped(labels[every[i].stem]) for i in places[:_ORDERS]]
            yield microphone(started.chromium, address, python, recordings[:_ORDERS], said)


def main(argv: Sequence[str]) -> int:
    del argv
    arguments: Any = flags.FLAGS
    machine = report.machine()
    try:
        python = firmware_sim.load(arguments.bundle, runtime="wasm")
        content = site.files(python.bundle, python.bundle.path.stem, [])
        later = ("bundle/", "speech/compiler.wasm")  # which is loaded for the first grammar
        own = sum(len(data) for name, data in content.items() if not name.startswith(later))
        rows = [["engine, core and page, bytes", f"{own:,}", "150,000", own <= 150_000]]
        with tempfile.TemporaryDirectory() as scratch:
            site.write(content, pathlib.Path(scratch, "site"))
            with served(pathlib.Path(scratch, "site"), site.policy(content)) as address:
                for row in measure(arguments, address, python):
                    print(*row, file=sys.stderr)
                    rows.append(row)
        figures = {"machine": machine, "bundle": arguments.bundle, "rows": rows}
        report.write_json(arguments.json, figures)
    except (OSError, ValueError, audio.AudioError, bundles.BundleError, site.SiteError) as error:
        return report.fail(error)
    print(report.heading(f"the page, {arguments.bundle}", machine))
    table = [[*row[:-1], report.verdict(bool(row[-1]))] for row in rows]
    print(report.table(["figure", "measured", "needed", "holds"], table))
    return 0


def run() -> None:
    flags.DEFINE_string("bundle", None, "Directory, .zip or name of the bundle.", required=True)
    flags.DEFINE_string("recordings", None, "Folder of recordings.", required=True)
    flags.DEFINE_integer("count", 100, "Recordings, spread over the folder.", lower_bound=1)
    flags.DEFINE_string("labels", None, "JSON: intent and slots of each recording.")
    flags.DEFINE_string("tflite", None, "Folder of @tensorflow/tfjs-tflite.")
    flags.DEFINE_list("measures", list(_MEASURES), "What to measure.")
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
