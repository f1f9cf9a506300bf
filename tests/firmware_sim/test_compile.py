import pathlib

from tests.conftest import REPOSITORY, run_module

GRAMMAR = REPOSITORY / "grammars" / "barista.yaml"


def test_a_grammar_is_counted_and_sampled() -> None:
    done = run_module("firmware_sim.compile", f"--grammar={GRAMMAR}", "--sample=20")
    assert (done.returncode, done.stderr) == (0, "")
    first, *samples = done.stdout.splitlines()
    assert first.startswith("barista: 1 intents, ")
    assert len(samples) == 20
    assert all("\torderDrink(" in sample for sample in samples)


def test_a_bad_grammar_is_one_sentence_with_its_line(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "tea.yaml"
    path.write_text("context:\n  expressions:\n    order:\n      - $tea\n")
    done = run_module("firmware_sim.compile", f"--grammar={path}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{path}, line 4: $tea is not defined: add it under `slots` or rename it\n"
    )
