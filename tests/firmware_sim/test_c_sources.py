"""The exported C, compiled for a Cortex-M55 and for this machine, and run on this one.

No package carries the headers of a TensorFlow Lite Micro of today.  `firmware/tensorflow` declares
what `speech_tflm.cc` uses of them, and its interpreter hands every invocation to LiteRT's
reference kernels: the loop and its binding are the exported ones and the models are real, but
TFLite Micro's own C++ is not there.
"""

import ctypes
import itertools
import pathlib
import re
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from tflite_micro import runtime as tflite_micro

from firmware_sim import bundle, export_c, recognizer
from firmware_sim.c import block, signature
from firmware_sim.c.third_party import ThirdParty
from firmware_sim.recognizer import Recognizer
from firmware_sim.runtimes import runtime
from firmware_sim.search import options as search_options
from firmware_sim.search.beam import Decoder
from firmware_sim.search.options import Decoding, DecodingOptions
from tests.conftest import digit_grammar, synthesise
from tests.firmware_sim.conftest import DIGITS
from tests.firmware_sim.core import (
    BEAM,
    DECODER_STEP,
    ENCODER,
    FRAMES,
    MISMATCH,
    OK,
    Invoke,
)
from tests.firmware_sim.exported import (
    CORTEX_M55,
    Firmware,
    build,
    compile_sources,
    held_to,
    run_on_cortex_m55,
)


@pytest.fixture(scope="module")
def sources(loaded: bundle.Bundle, speech: NDArray[np.int16]) -> dict[str, str]:
    return export_c.export(loaded, speech)


@pytest.fixture(scope="module")
def exported(
    sources: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[pathlib.Path]:
    path = tmp_path_factory.mktemp("export") / "speech"
    export_c.write(sources, path)
    yield path


@pytest.fixture(scope="module")
def reference(loaded: bundle.Bundle) -> Invoke:
    """Both models on LiteRT's reference kernels."""
    models = [runtime.load("litert-reference", m) for m in (loaded.decoder_step, loaded.encoder)]
    return lambda encoder, inputs: models[encoder].invoke(inputs)


@pytest.fixture(scope="module")
def started(
    exported: pathlib.Path,
    loaded: bundle.Bundle,
    reference: Invoke,
    third_party: ThirdParty,
    tmp_path_factory: pytest.TempPathFactory,
) -> Firmware:
    return build(exported, loaded, reference, tmp_path_factory.mktemp("host"), third_party)


@pytest.fixture
def firmware(started: Firmware, reference: Invoke) -> Firmware:
    started.invoke = reference
    return started


@pytest.fixture(scope="module")
def cortex_m55_objects(
    exported: pathlib.Path, third_party: ThirdParty, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    out = tmp_path_factory.mktemp("cortex_m55")
    return compile_sources(*CORTEX_M55, exported, out, third_party)


def test_every_source_compiles_for_a_cortex_m55_without_a_warning(
    cortex_m55_objects: list[str],
) -> None:
    assert all(pathlib.Path(name).stat().st_size for name in cortex_m55_objects)


def test_the_self_test_runs_on_a_cortex_m55(
    cortex_m55_objects: list[str], exported: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert run_on_cortex_m55(exported, cortex_m55_objects, tmp_path) == (OK, "one two three")


def test_a_command_is_heard_on_a_cortex_m55(
    loaded: bundle.Bundle, third_party: ThirdParty, tmp_path: pathlib.Path
) -> None:
    held = held_to(loaded, digit_grammar(tmp_path / "digits.yaml", DIGITS, 0.5))
    sources = export_c.export(held, synthesise("five six seven", "en-us+m3"))
    assert "#define SPEECH_GOLDEN_COMMANDS 1" in sources["speech_golden.h"]
    export_c.write(sources, tmp_path / "c")
    objects = compile_sources(*CORTEX_M55, tmp_path / "c", tmp_path, third_party)
    assert run_on_cortex_m55(tmp_path / "c", objects, tmp_path) == (OK, "five six seven")


@pytest.mark.parametrize("beam", [1, 2, 4])
@pytest.mark.parametrize(
    ("text", "voice", "noise"),
    [
        ("one two three", "en-us+m3", 0),
        ("nine four zero seven", "en-us+f2", 0),
        ("nine four zero seven", "en-us+f2", 3000),
        ("six", "en-us+f4", 2000),
        ("eight eight eight five", "en+m7", 2000),
    ],
)
def test_c_finds_the_text_of_the_decoder(
    text: str,
    voice: str,
    noise: int,
    beam: int,
    firmware: Firmware,
    loaded: bundle.Bundle,
    reference: Invoke,
) -> None:
    audio = synthesise(text, voice)
    chance = np.random.default_rng(noise)
    audio = (audio // 2 + chance.normal(0, noise, len(audio))).astype(np.int16)
    features = recognizer.compute_features(loaded, audio)
    encoded = reference(True, recognizer.encoder_inputs(loaded, features))
    assert encoded is not None
    step = runtime.load("litert-reference", loaded.decoder_step)
    greedy = DecodingOptions(Decoding.GREEDY, ctc_weight=0.0)
    options = greedy if beam == 1 else DecodingOptions(Decoding.BEAM, beam)
    expected = Decoder(loaded, step, options).decode(encoded, len(features))
    assert expected.tokens
    assert firmware.decode(features, beam=beam) == (OK, loaded.tokenizer.text(expected.tokens))
    assert firmware.result == (len(expected.tokens), expected.ended)
    steps = 0

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        nonlocal steps
        steps += not encoder
        return reference(encoder, inputs)

    firmware.invoke = invoke
    firmware.decode(features, beam=beam)
    # A text that has ended ends those in C, too, that are less likely and not yet whole.
    assert len(expected.tokens) < steps <= len(expected.step_seconds)


@pytest.mark.parametrize("frames", [1, 4, 5, 511, 512])
def test_both_models_start_with_the_inputs_that_python_gives_them(
    frames: int, firmware: Firmware, loaded: bundle.Bundle, reference: Invoke
) -> None:
    features = np.random.default_rng(frames).integers(-128, 128, (frames, 40), np.int8)
    given: dict[bool, runtime.Tensors] = {}

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        given.setdefault(encoder, inputs)
        return reference(encoder, inputs) if encoder else None

    firmware.invoke = invoke
    assert firmware.decode(features)[0] == DECODER_STEP
    encoder_inputs = recognizer.encoder_inputs(loaded, features)
    encoded = reference(True, encoder_inputs)
    assert encoded is not None
    step = runtime.load("litert-reference", loaded.decoder_step)
    state = Decoder(loaded, step, DecodingOptions()).start(encoded, frames)
    for expected, found in ((encoder_inputs, given[True]), (state.inputs, given[False])):
        assert expected.keys() == found.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_an_utterance_leaves_nothing_to_the_next(
    firmware: Firmware, loaded: bundle.Bundle, speech: NDArray[np.int16]
) -> None:
    features = recognizer.compute_features(loaded, speech)
    first = firmware.decode(features)
    firmware.decode(np.full((loaded.limits.frames, 40), 127, np.int8))
    assert firmware.decode(features) == first


def test_the_self_test_passes_on_the_reference_kernels(firmware: Firmware) -> None:
    status, found = firmware.self_test()
    assert (status, found.tensor) == (OK, None)


def test_the_self_test_names_the_first_byte_that_differs_in_the_encoder(
    firmware: Firmware, loaded: bundle.Bundle, reference: Invoke
) -> None:
    wrong = loaded.encoder.outputs[1].name

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        outputs = reference(encoder, inputs)
        if encoder and outputs is not None:
            outputs[wrong].reshape(-1)[17] ^= 1
        return outputs

    firmware.invoke = invoke
    status, found = firmware.self_test()
    assert status == MISMATCH
    assert (found.tensor.decode(), found.step, found.index) == (wrong, -1, 17)
    assert found.expected ^ found.found == 1


def test_the_self_test_names_the_first_byte_that_differs_in_a_step(
    firmware: Firmware, reference: Invoke
) -> None:
    steps = 0

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        nonlocal steps
        outputs = reference(encoder, inputs)
        if not encoder and outputs is not None:
            if steps == 3:
                outputs["row_0"][0, 0, 5] ^= 1
            steps += 1
        return outputs

    firmware.invoke = invoke
    status, found = firmware.self_test()
    assert status == MISMATCH
    assert (found.tensor, found.step, found.index) == (b"row_0", 3, 5)


def test_a_text_that_does_not_end_is_cut_off_at_the_limit(
    firmware: Firmware, loaded: bundle.Bundle, reference: Invoke, speech: NDArray[np.int16]
) -> None:
    letter = loaded.tokenizer.tokens.index("e")

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        outputs = reference(encoder, inputs)
        if not encoder and outputs is not None:
            outputs["logits"][:] = 0
            outputs["logits"][0, [letter, loaded.tokenizer.blank, loaded.tokenizer.start]] = 1
        return outputs

    firmware.invoke = invoke
    features = recognizer.compute_features(loaded, speech)
    assert firmware.decode(features, beam=1) == (OK, "e" * loaded.limits.tokens)
    assert firmware.result == (loaded.limits.tokens, False)


def test_a_text_has_no_spaces_around_it(
    firmware: Firmware, loaded: bundle.Bundle, reference: Invoke, speech: NDArray[np.int16]
) -> None:
    pieces = ["<space>", "<space>", "e", "<space>", "a", "<space>"]
    tokens = [*map(loaded.tokenizer.tokens.index, pieces), loaded.tokenizer.end]

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        outputs = reference(encoder, inputs)
        if not encoder and outputs is not None:
            outputs["logits"][:] = 0
            outputs["logits"][0, tokens.pop(0)] = 1
        return outputs

    firmware.invoke = invoke
    assert firmware.decode(recognizer.compute_features(loaded, speech), beam=1) == (OK, "e a")


@pytest.mark.parametrize("apart", [True, False])
def test_c_finds_the_commands_of_the_decoder(
    apart: bool,
    loaded: bundle.Bundle,
    reference: Invoke,
    third_party: ThirdParty,
    tmp_path: pathlib.Path,
) -> None:
    """Of up to three spoken commands, a half, noise; or, with nothing between, of few letters."""
    content = digit_grammar(tmp_path / "digits.yaml", DIGITS, 0.5)
    if not apart:
        e, i, n, o = map(loaded.tokenizer.tokens.index, "eino")
        content |= {"states": 6, "intents": ["all"], "slots": ["x", "y"], "between": []}
        content |= {"finals": [[3, 0], [4, 0]], "reject_below": 0.0}
        # "n" is of one slot or of the other, and "nene" one command rather than two.
        arcs = [[0, n, 1, 0], [0, n, 2, 1], [1, e, 3, 0], [2, o, 4, 1], [2, i, 4, -1]]
        content |= {"arcs": [*arcs, [3, n, 5, 0], [5, e, 4, 0]]}
    held = held_to(loaded, content)
    texts = ["five six seven", "one two eight nine", "two two eight", "nine zero three four five"]
    spoken = [synthesise(text, "en-us+m3") for text in texts]
    noise = np.random.default_rng(1).integers(-3000, 3000, 30_000).astype(np.int16)
    utterances = [*spoken, np.concatenate(spoken[1:3]), np.concatenate([spoken[0]] * 3)]
    utterances += [spoken[0][:9_000], noise]
    export_c.write(export_c.export(held, spoken[0]), tmp_path / "c")
    firmware = build(tmp_path / "c", held, reference, tmp_path, third_party)
    listeners = {
        1: Recognizer(held, "litert-reference", DecodingOptions(Decoding.GREEDY)),
        4: Recognizer(held, "litert-reference"),
    }
    counts = set()
    for audio, (beam, listener) in itertools.product(utterances, listeners.items()):
        features = recognizer.compute_features(held, audio[: held.window])
        expected = listener.recognize(features, 0, len(audio)).commands
        assert firmware.decode(features, beam=beam)[0] == OK
        heard = firmware.commands()
        assert [x[:2] for x in heard] == [(x.intent, x.slots) for x in expected]
        for (*_, confidence), command in zip(heard, expected, strict=True):
            assert confidence == pytest.approx(command.confidence, abs=0.001)
        counts.add(len(heard))
    assert firmware.self_test()[0] == OK
    assert counts >= ({0, 1, 2} if apart else {2})


def test_the_first_of_equal_logits_wins(
    firmware: Firmware, loaded: bundle.Bundle, reference: Invoke, speech: NDArray[np.int16]
) -> None:
    assert loaded.tokenizer.end == min(set(range(31)) - {loaded.tokenizer.start})

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        outputs = reference(encoder, inputs)
        if not encoder and outputs is not None:
            outputs["logits"][:] = -128
        return outputs

    firmware.invoke = invoke
    assert firmware.decode(recognizer.compute_features(loaded, speech), beam=1) == (OK, "")


def test_errors_have_a_status_of_their_own(
    firmware: Firmware, loaded: bundle.Bundle, reference: Invoke, speech: NDArray[np.int16]
) -> None:
    features = recognizer.compute_features(loaded, speech)
    for frames in (-1, 0, loaded.limits.frames + 1):
        assert firmware.decode(features, frames)[0] == FRAMES
    for beam in (-1, search_options.BEAM + 1):
        assert firmware.decode(features, beam=beam)[0] == BEAM
    assert firmware.decode(features)[0] == OK
    assert firmware.result[0] > 0
    firmware.invoke = lambda encoder, inputs: None
    assert firmware.decode(features)[0] == ENCODER
    assert firmware.result == (0, False)  # nothing of the utterance before
    assert firmware.self_test()[0] == ENCODER
    firmware.invoke = lambda encoder, inputs: reference(True, inputs) if encoder else None
    assert firmware.decode(features)[0] == DECODER_STEP


def test_block_and_flatbuffers_are_in_flash_byte_for_byte_and_aligned(
    firmware: Firmware, loaded: bundle.Bundle
) -> None:
    constants = {
        "encoder_model": loaded.encoder.data,
        "decoder_step_model": loaded.decoder_step.data,
        "core_block": block.block(loaded, signature.read(loaded)),
    }
    for name, content in constants.items():
        data, address = firmware.array(f"speech_{name}", len(content))
        assert data == content
        assert address % 16 == 0


def test_features_are_quantized_as_in_python(firmware: Firmware, loaded: bundle.Bundle) -> None:
    function = firmware._library.firmware_feature
    function.argtypes, function.restype = [ctypes.c_uint16], ctypes.c_int8
    values = np.arange(1 << 16, dtype=np.uint16)
    found = np.array([function(int(value)) for value in values], np.int8)
    expected = recognizer.frontend.quantize(
        values, loaded.features.numerator, loaded.features.denominator, loaded.features.zero_point
    )
    np.testing.assert_array_equal(found, expected)


def test_the_resolver_has_room_for_exactly_its_operators(
    firmware: Firmware, sources: dict[str, str]
) -> None:
    assert f"MicroMutableOpResolver<{firmware.operators}>" in sources["speech_operators.h"]
    assert firmware.operators == sources["speech_operators.h"].count("resolver.Add") > 0


def test_tflite_micro_loads_both_models_into_the_stated_arenas(
    loaded: bundle.Bundle, sources: dict[str, str]
) -> None:
    for name, model in (("ENCODER", loaded.encoder), ("DECODER_STEP", loaded.decoder_step)):
        size = re.search(rf"SPEECH_{name}_ARENA_BYTES (\d+)", sources["speech_bundle.h"])
        assert size is not None
        arena = int(size.group(1))
        assert arena % 1024 == 0
        tflite_micro.Interpreter.from_bytes(model.data, arena_size=arena)
