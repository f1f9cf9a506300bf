"""A general model: its bundle, a grammar compiled onto it, and what the device side makes of it."""

import json
import pathlib
import shutil
import subprocess

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from firmware_sim import bundle as bundles
from firmware_sim import fit, parity
from firmware_sim.bundle import BundleError
from firmware_sim.fitting import device
from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.phones import PHONES
from firmware_sim.recognizer import Recognizer, compute_features, encoder_inputs
from firmware_sim.runtimes import runtime
from firmware_sim.search.options import DecodingOptions
from firmware_sim.search.results import EventKind
from tests.conftest import REPOSITORY, add_file, run_module

HOME = REPOSITORY / "grammars" / "home.yaml"


@pytest.fixture(scope="module")
def at_home(general: pathlib.Path) -> pathlib.Path:
    out = general.parent / "home.bundle"
    done = run_module(
        "firmware_sim.compile", f"--grammar={HOME}", f"--bundle={general}", f"--out={out}"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"bundle: {out}" in done.stdout
    return out


def test_the_engine_of_the_browser_runs_a_general_model(general: pathlib.Path) -> None:
    loaded = bundles.load(general)
    noise = np.random.default_rng(0).integers(-128, 128, (loaded.limits.frames, 40), np.int8)
    assert parity.compare_runtimes(loaded, [noise], "wasm", "tflm").equal


def test_a_general_bundle_has_phones_and_a_lexicon(general: pathlib.Path) -> None:
    loaded = bundles.load(general)
    assert loaded.phones is not None and loaded.phones.names == PHONES
    assert loaded.grammar is None and loaded.lexicon is not None
    assert json.loads((general / "manifest.json").read_text())["format_version"] == 4
    spec = loaded.encoder.output("phone_logits")
    assert (spec.shape, spec.dtype) == ((1, 32, len(PHONES) + 1), "int8")


def test_a_compiled_bundle_has_the_grammar_and_the_same_models(
    general: pathlib.Path, at_home: pathlib.Path
) -> None:
    before, after = bundles.load(general), bundles.load(at_home)
    assert after.encoder == before.encoder
    assert after.grammar is not None and after.grammar.name == "home"
    assert after.grammar.of_phones and "thermostat" in after.grammar.words
    assert bundles.load(f"{at_home}.zip").grammar == after.grammar


def test_runtimes_compute_the_same_phones(
    at_home: pathlib.Path, speech: npt.NDArray[np.int16]
) -> None:
    loaded = bundles.load(at_home)
    features = compute_features(loaded, speech)[:128]
    outputs = [
        runtime.load(name, loaded.encoder, 1).invoke(encoder_inputs(loaded, features))
        for name in ("litert-reference", "tflm")
    ]
    np.testing.assert_array_equal(outputs[0]["phone_logits"], outputs[1]["phone_logits"])


def test_speech_of_less_confidence_is_rejected(
    at_home: pathlib.Path, speech: npt.NDArray[np.int16]
) -> None:
    recogniser = Recognizer(bundles.load(at_home)).use(HOME, reject_below=0.3)
    result = recogniser.transcribe(speech[:20000])
    assert result.text == "" and not result.commands
    assert all(set((x.free_text or "").split()) <= set(PHONES) for x in result.segments)
    sentence = recogniser.use(HOME, reject_below=0.0).transcribe(speech[:20000])
    assert sentence.text and sentence.commands[0].confidence < 0.3
    kinds = [event.kind for event in recogniser.listen([speech[:20000]])]
    assert kinds[0] == EventKind.SPEECH_BEGAN
    assert set(kinds[1:]) == {EventKind.SPEECH_ENDED, EventKind.REJECTED}


def test_a_recogniser_of_other_commands_leaves_the_first_as_it_is(
    general: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    calls = tmp_path / "calls.yaml"
    calls.write_text(
        "context:\n  expressions:\n    call:\n      - call $name:name\n  slots:\n    name: [anna]\n"
    )
    first = Recognizer(bundles.load(general))
    home = first.use(HOME)
    further = first.use(calls, {"name": ["Maria Shevchenko", "o'brien"]})
    assert first.bundle.grammar is None
    assert home.bundle.grammar is not None and home.bundle.grammar.name == "home"
    assert further.bundle.grammar is not None
    assert {"maria", "shevchenko", "o'brien", "anna"} <= set(further.bundle.grammar.words)
    with pytest.raises(GrammarError, match="has no slot 'names': there are name"):
        first.use(calls, {"names": ["maria"]})
    with pytest.raises(GrammarError, match="'r2d2' cannot be said"):
        first.use(calls, {"name": ["r2d2"]})


def test_a_model_of_its_own_commands_takes_no_other_grammar(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(BundleError, match="understands only what it was trained for"):
        Recognizer(bundles.load(digits_bundle)).use(HOME)
    out = tmp_path / "out"
    done = run_module(
        "firmware_sim.compile", f"--grammar={HOME}", "--bundle=digits", f"--out={out}"
    )
    assert done.returncode == 1 and not out.exists()
    assert "understands only what it was trained for" in done.stderr
    assert done.stderr.count("\n") == 1


def test_words_that_no_lexicon_has_are_named(general: pathlib.Path, tmp_path: pathlib.Path) -> None:
    grammar = tmp_path / "shop.yaml"
    grammar.write_text("context:\n  expressions:\n    buy:\n      - buy flumbrix\n")
    done = run_module(
        "firmware_sim.compile",
        "--reject_below=0.25",
        f"--grammar={grammar}",
        f"--bundle={general}",
        f"--out={tmp_path / 'out'}",
    )
    assert done.returncode == 0
    assert "  flumbrix: F L AH M B R IH K S" in done.stdout
    held = bundles.load(tmp_path / "out").grammar
    assert held is not None and held.reject_below == 0.25


def test_a_grammar_over_phones_needs_no_decoder_on_a_device(at_home: pathlib.Path) -> None:
    found = fit.fit(bundles.load(at_home), device.load("stm32h743"), DecodingOptions())
    assert [x.what for x in found.flash] == ["encoder.tflite", "tokens", "grammar"]
    used = {need.what: need.bytes for need in found.ram}
    assert 100_000 < used["paths through the grammar"] < 200_000
    assert not any("decoder" in what or "caches" in what for what in used)


def test_the_c_core_takes_the_block_of_a_general_bundle_and_that_of_its_grammar(
    general: pathlib.Path, at_home: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    def export(bundle: pathlib.Path, kind: str) -> subprocess.CompletedProcess[str]:
        out = f"--out={tmp_path / kind}"
        return run_module("firmware_sim.export_c", f"--bundle={bundle}", f"--format={kind}", out)

    assert export(at_home, "block").returncode == export(at_home, "grammar").returncode == 0
    block, grammar = ((tmp_path / kind).read_bytes() for kind in ("block", "grammar"))
    assert grammar[40:] in block and len(grammar) < len(block) - 5_000
    for bundle, kind, message in (
        (general, "grammar", "has no grammar; give it one"),
        (at_home, "sources", "its grammars are over phones"),
    ):
        done = export(bundle, kind)
        assert done.returncode == 1
        assert message in done.stderr and done.stderr.count("\n") == 1


def test_compile_says_what_may_go_wrong(general: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The untrained model's bundle has no measured confusions, and a window of 1.3 s."""
    path = tmp_path / "shop.yaml"
    path.write_text(
        "context:\n  expressions: {buy: [please buy one more $w for the brillig siobhan]}\n"
        "  slots: {w: [sail, sale, boat]}\n  pronunciations: {siobhan: SH AH V AO N}\n"
    )
    done = run_module(
        "firmware_sim.compile", f"--bundle={general}", f"--grammar={path}",
        f"--out={tmp_path / 'shop'}", "--sample=0",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout
    assert "1 words are not in the lexicon" in said and "  brillig: B R IH L" in said
    assert "siobhan:" not in said
    assert "1 pairs of words sound alike" in said and "  sail and sale: said alike" in said
    assert "longer than the 1.3 s that the model hears at once" in said
    assert "'please buy one more sail for the brillig siobhan': about " in said


def test_confusions_of_another_size_are_refused(
    general: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    copy = add_file(general, tmp_path / "b", "confusions", {"file": "confusions.bin"}, bytes(9))
    with pytest.raises(bundles.BundleError, match=r"confusions\.bin: 9 bytes instead of 1599"):
        bundles.load(copy)


def test_a_bundle_whose_decoder_learned_nothing_asks_for_a_grammar(
    general: pathlib.Path, speech: npt.NDArray[np.int16], tmp_path: pathlib.Path
) -> None:
    taught = shutil.copytree(general, tmp_path / "phrases")
    manifest = json.loads((taught / "manifest.json").read_text())
    (taught / "manifest.json").write_text(json.dumps({**manifest, "understands": "phrases"}))
    recogniser = Recognizer(bundles.load(taught))
    with pytest.raises(BundleError, match=r"firmware_sim.compile --bundle=phrases"):
        recogniser.transcribe(speech)
    with pytest.raises(BundleError, match="by Recognizer"):
        list(recogniser.listen([speech]))
    assert recogniser.arena_bytes["decoder_step"] == 0
    assert recogniser.use(HOME).transcribe(speech[:20000]).segments
    soundfile.write(tmp_path / "order.wav", speech, 16_000)
    done = run_module("firmware_sim.transcribe", f"--bundle={taught}", f"{tmp_path}/order.wav")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "understands phrases, no free text" in done.stderr
    site = run_module("firmware_sim.web", f"--bundle={taught}", f"--out={tmp_path / 'site'}")
    assert site.returncode == 1 and "understands phrases, no free text" in site.stderr
