"""The page in a real browser: Debian's Chromium, driven by Playwright, with a fake microphone."""

import base64
import io
import pathlib
import re
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

import firmware_sim
from firmware_sim import bundle as bundles
from firmware_sim.web import __main__ as web
from firmware_sim.web import site
from tests.conftest import REPOSITORY
from tests.firmware_sim import core

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
FAKE = "--use-fake-device-for-media-stream"
ALLOW, DENY = "--use-fake-ui-for-media-stream", "--use-fake-ui-for-media-stream=deny"
RATE = 16000
PATIENCE = 30_000  # ms
# The events of a WAV file in base64, by the module that the page uses.
TRANSCRIBE = """
async (sounds) => {
  const {createRecognizer} = await import('/speech/recognizer.js');
  const recognizer = await createRecognizer({bundle: '/bundle/'});
  const all = [];
  for (const sound of sounds) {
    const bytes = Uint8Array.from(atob(sound), (c) => c.charCodeAt(0));
    const events = await recognizer.transcribe(bytes.buffer);
    all.push(events.map(({samples, ...event}) => ({...event, memory: recognizer.memory})));
  }
  await recognizer.close();
  return all;
}
"""
# The events of a WAV file after several grammars, in both forms.
USE = """
async (sound) => {
  const {createRecognizer} = await import('/speech/recognizer.js');
  const recognizer = await createRecognizer({bundle: '/bundle/'});
  const long = Array.from({length: 20}, (_, i) => `${'please '.repeat(i)} go`).join('\\n');
  const memory = [];
  for (let i = 0; i < 6; i++) {
    await recognizer.use(long);
    const refused = await recognizer.use('go (').catch((error) => error.code);
    if (refused !== 'grammar') throw new Error(refused);
    const phrase = ['one [two, three] (four)', 'blork'];
    await recognizer.use({context: {expressions: {phrase}}});
    memory.push(recognizer.memory);
  }
  if (new Set(memory).size > 1) throw new Error(memory.join());
  const bytes = Uint8Array.from(atob(sound), (c) => c.charCodeAt(0));
  const events = await recognizer.transcribe(bytes.buffer);
  await recognizer.use(null);
  await recognizer.close();
  return events.map(({samples, ...event}) => event);
}
"""
REFUSED = """
async () => {
  const {createRecognizer} = await import('/speech/recognizer.js');
  const recognizer = await createRecognizer({bundle: '/bundle/'});
  const refused = await recognizer.use('go').catch(({code, message}) => [code, message]);
  await recognizer.close();
  return refused;
}
"""


def recording(name: str, number: int) -> NDArray[np.int16]:
    """An example of the page: int16 [samples], 16 kHz."""
    path = sorted((site.EXAMPLES / name).iterdir())[number]
    samples: NDArray[np.int16] = soundfile.read(path, dtype="int16")[0]
    return samples


def wav(samples: NDArray[Any], rate: int = RATE, subtype: str = "PCM_16") -> str:
    """A WAV file in base64."""
    content = io.BytesIO()
    soundfile.write(content, samples, rate, subtype=subtype, format="WAV")
    return base64.b64encode(content.getvalue()).decode()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What the microphone hears: both orders, with pauses."""
    pause = np.random.default_rng(0).normal(0, 3, RATE).astype(np.int16)
    parts = [pause, recording("barista", 0), pause, recording("barista", 1), pause, pause, pause]
    path = tmp_path_factory.mktemp("microphone") / "orders.wav"
    soundfile.write(path, np.concatenate(parts), RATE)
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        yield started.chromium


@pytest.fixture(scope="module")
def browser(chromium: Any, spoken: pathlib.Path) -> Iterator[Any]:
    """It may use the microphone, which hears `spoken` from each start on."""
    microphone = f"--use-file-for-fake-audio-capture={spoken}"
    options = [*QUIET, FAKE, ALLOW, microphone]
    opened = chromium.launch(executable_path=CHROMIUM, args=options)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def barista() -> firmware_sim.Recognizer:
    return firmware_sim.load("barista", runtime="wasm")


@pytest.fixture(scope="module")
def address(
    barista: firmware_sim.Recognizer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Where the page of `barista` is served."""
    folder = tmp_path_factory.mktemp("site")
    content = site.files(barista.bundle, "barista", sorted((site.EXAMPLES / "barista").iterdir()))
    site.write(content, folder)
    with web.server(folder, site.policy(content), 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://localhost:{serving.server_address[1]}/"
        serving.shutdown()


@pytest.fixture(scope="module")
def general_address(
    general: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Where the page of a general bundle is served."""
    folder = tmp_path_factory.mktemp("general-site")
    content = site.files(bundles.load(general), "general", [])
    site.write(content, folder)
    with web.server(folder, site.policy(content), 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://localhost:{serving.server_address[1]}/"
        serving.shutdown()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page that is ready; it may have no error, and request nothing from elsewhere."""
    context = browser.new_context(accept_downloads=True)
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    own = (address, "data:", "blob:")
    context.on("request", lambda x: x.url.startswith(own) or wrong.append(x.url))
    opened.goto(address)
    wait_for(opened, "#state", "Ready")
    yield opened
    context.close()
    assert wrong == []


def wait_for(opened: Any, place: str, text: str | re.Pattern[str]) -> None:
    playwright.expect(opened.locator(place)).to_have_text(text, timeout=PATIENCE)


def converted(event: dict[str, Any]) -> core.Event:
    slots = {k: (v, event["slotConfidence"][k]) for k, v in event["slots"].items()}
    place = event["start"], event["end"]
    words = event["text"], event["confidence"], event["intent"]
    return core.Event(event["kind"], *place, *words, slots)


def test_events_of_files_are_those_of_python(page: Any, barista: firmware_sim.Recognizer) -> None:
    noise = np.random.default_rng(1).normal(0, 300, 2 * RATE).astype(np.int16)
    first, second = recording("barista", 0), recording("barista", 1)
    speech = np.concatenate([noise // 50, first, noise, second[: RATE * 2], noise // 50, second])
    high = soxr.resample(first.astype(np.float64) / 32768, RATE, 44_100, "VHQ")
    sounds = [
        wav(speech),
        wav(np.stack([first, first // 2], 1), subtype="PCM_24"),
        wav(high, 44_100, "FLOAT"),
    ]
    found = [[*map(converted, events)] for events in page.evaluate(TRANSCRIBE, sounds)]
    mono = np.rint(first / 2 + first // 2 / 2).astype(np.int16)
    for events, samples in zip(found, (speech, mono), strict=False):
        expected = [core.converted(event) for event in barista.listen([samples], early=True)]
        core.assert_same_events(events, expected)
    assert {event.kind for event in found[0]} >= {"early_text", "command", "rejected"}
    assert found[2][-1].text == "can i get a medium mocha with skim milk"


def test_memory_does_not_grow(page: Any) -> None:
    sound = wav(recording("barista", 1)[: 2 * RATE])
    events = page.evaluate(TRANSCRIBE, [sound] * 8)
    assert len({event["memory"] for utterance in events for event in utterance}) == 1


def test_an_example_is_heard_with_its_meaning(page: Any) -> None:
    page.get_by_role("button", name="Example: can i get").click()
    wait_for(page, "#results .words", "can i get a medium mocha with skim milk")
    wait_for(page, "#results .meaning", re.compile("orderDrink.*size: medium.*skim milk"))
    playwright.expect(page.locator("#sentences li")).to_have_count(12)


def test_the_microphone_is_heard_and_let_go(page: Any) -> None:
    page.get_by_role("button", name="Listen").click()
    orders = page.locator("#results .words")
    playwright.expect(orders).to_have_count(2, timeout=PATIENCE)
    playwright.expect(page.locator("#state")).to_have_text(re.compile(r"Listening, \d+ Hz"))
    page.get_by_role("button", name="Stop").click()
    wait_for(page, "#state", "Ready")
    assert page.locator("#listen").get_attribute("aria-pressed") == "false"
    assert orders.all_text_contents()[-2:] == [
        "make me a large dark roast latte with some sugar",
        "can i get a medium mocha with skim milk",
    ]


def test_phrases_that_are_typed_hold_the_model(
    browser: Any, general_address: str, general: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """An untrained model hears no command for sure, but the same one in both."""
    page = browser.new_page()
    page.goto(general_address)
    wait_for(page, "#state", "Ready")
    page.get_by_text("Other phrases").click()
    page.get_by_label("A phrase in each line").fill("one two\nturn [on, off\n")
    page.get_by_role("button", name="Listen for these").click()
    wait_for(page, "#phrases-error", 'Line 2: "]" is missing: close the bracket.')
    assert page.evaluate("() => document.querySelector('#phrases').selectionStart") == 21
    page.get_by_label("A phrase in each line").fill("one [two, three] (four)\nblork")
    page.get_by_role("button", name="Listen for these").click()
    wait_for(page, "#phrases-state", re.compile("These phrases are understood now"))
    playwright.expect(page.locator("#phrases-error")).to_be_hidden()
    sound = recording("barista", 0)
    (tmp_path / "grammar.yaml").write_text(
        "context: {expressions: {phrase: ['one [two, three] (four)', blork]}}"
    )
    held = firmware_sim.load(general, runtime="wasm").use(tmp_path / "grammar.yaml")
    expected = [core.converted(event) for event in held.listen([sound], early=True)]
    page.set_input_files("#file", {"name": "a.wav", "mimeType": "audio/wav",
                                   "buffer": base64.b64decode(wav(sound))})  # fmt: skip
    playwright.expect(page.locator("#results .rejected")).to_have_count(
        sum(event.kind == "rejected" for event in expected), timeout=PATIENCE
    )
    assert {event.kind for event in expected} >= {"rejected", "early_text"}
    found = page.evaluate(USE, wav(sound))
    core.assert_same_events([*map(converted, found)], expected)
    page.close()


def test_a_bundle_that_was_trained_for_its_grammar_takes_no_other(page: Any) -> None:
    playwright.expect(page.locator("#own")).to_be_hidden()
    assert page.evaluate(REFUSED) == [
        "trained",
        "This bundle understands only what it was trained for: take a general one.",
    ]


def test_what_was_heard_is_saved(page: Any, tmp_path: pathlib.Path) -> None:
    sound = tmp_path / "order.wav"
    soundfile.write(sound, recording("barista", 1), RATE)
    page.set_input_files("#file", sound)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save WAV").click()
    download.value.save_as(tmp_path / "saved.wav")
    saved, rate = soundfile.read(tmp_path / "saved.wav", dtype="int16")
    assert rate == RATE
    whole = recording("barista", 1)
    places = np.flatnonzero(whole[: len(whole) - len(saved) + 1] == saved[0])
    assert any(np.array_equal(whole[i : i + len(saved)], saved) for i in places)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file is empty."),
        (b"no sound at all", "This is no audio file"),
        (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0"
         b"data\0\1\0\0\0\0", "The WAV file is cut off"),
        (base64.b64decode(wav(np.zeros(RATE, np.int16))), "No speech was found in a.wav."),
    ],
)  # fmt: skip
def test_a_file_that_gives_nothing_is_explained(page: Any, content: bytes, message: str) -> None:
    page.set_input_files("#file", {"name": "a.wav", "mimeType": "audio/wav", "buffer": content})
    wait_for(page, "#message", re.compile(message))
    wait_for(page, "#state", "Ready")


def test_the_page_cannot_send_anything(page: Any) -> None:
    refused = page.evaluate(
        """() => new Promise((resolve) => {
          const told = ({effectiveDirective}) => resolve(effectiveDirective);
          document.addEventListener('securitypolicyviolation', told);
          fetch('https://example.org/').catch(() => {});
        })"""
    )
    assert refused == "connect-src"


def test_the_page_works_without_a_network(browser: Any, address: str) -> None:
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(address)
    wait_for(opened, "#state", "Ready")
    opened.evaluate("() => navigator.serviceWorker.ready.then(() => true)")
    context.set_offline(True)
    opened.reload()
    wait_for(opened, "#state", "Ready")
    opened.get_by_role("button", name="Example: can i get").click()
    wait_for(opened, "#results .words", "can i get a medium mocha with skim milk")
    context.close()


def test_a_single_file_works_by_itself_on_a_phone(browser: Any, tmp_path: pathlib.Path) -> None:
    loaded = bundles.load(REPOSITORY / "pretrained" / "digits")
    content = site.files(loaded, "digits", sorted((site.EXAMPLES / "digits").iterdir()))
    site.write_single(site.single(content), tmp_path / "digits.html")
    context = browser.new_context(offline=True, viewport={"width": 360, "height": 640})
    opened = context.new_page()
    opened.goto((tmp_path / "digits.html").as_uri())
    wait_for(opened, "#state", "Ready")
    opened.get_by_role("button", name="Example: two zero two six").click()
    wait_for(opened, "#results .words", "two zero two six")
    opened.get_by_role("button", name="Listen").click()
    wait_for(opened, "#state", re.compile("Listening"))
    assert opened.evaluate("() => document.documentElement.scrollWidth") <= 360
    context.close()


def test_the_keyboard_reaches_everything(page: Any) -> None:
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement.textContent.trim()"))
    assert reached[:2] == ["Listen", "Open a file"]
    assert reached[2].startswith("Example:") and "What may be said" in reached


def test_a_page_of_ten_lines_recognises(browser: Any, address: str) -> None:
    opened = browser.new_page()
    opened.goto(f"{address}speech/example.html")
    playwright.expect(opened.locator("#log")).to_have_text(re.compile("ready"), timeout=PATIENCE)
    opened.close()


@pytest.mark.parametrize(
    ("arguments", "host", "message"),
    [
        ((FAKE, DENY), "localhost", "may not use the microphone: allow it"),
        ((ALLOW,), "localhost", "There is no microphone: connect one, or open a file."),
        ((FAKE, ALLOW), "page.test", "only to pages from https:// or localhost. Files work here."),
    ],
    ids=["denied", "missing", "insecure"],
)
def test_without_a_microphone_the_page_says_why(
    arguments: tuple[str, ...], host: str, message: str, chromium: Any, address: str
) -> None:
    options = [*QUIET, *arguments, "--host-resolver-rules=MAP page.test 127.0.0.1"]
    opened = chromium.launch(executable_path=CHROMIUM, args=options)
    page = opened.new_page()
    page.goto(address.replace("localhost", host))
    wait_for(page, "#state", "Ready")
    page.get_by_role("button", name="Listen").click()
    wait_for(page, "#message", re.compile(re.escape(message)))
    wait_for(page, "#state", "Ready")
    opened.close()


def test_a_browser_without_simd_is_told_so(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.add_init_script("WebAssembly.validate = () => false")
    page.goto(address)
    wait_for(page, "#message", re.compile("has no WebAssembly SIMD: use Chrome 91"))
    wait_for(page, "#state", "Not ready")
    page.close()
