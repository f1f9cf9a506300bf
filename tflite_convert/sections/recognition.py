"""What the models recognise: word error rates, and the ladder from float to the device."""

from pathlib import Path
from typing import Any

from tflite_convert.sections.markup import Markup, escaped, percent, table
from tflite_convert.sections.run import Run

DISAGREEMENTS = 10  # utterances shown whose texts differ between float and int8


def word_error_rates(run: Run) -> str:
    """The table of word error rates, and texts in which float and int8 differ."""
    ladder = run.ladder
    names = {row["key"]: row["name"] for row in ladder["rungs"]}
    rows = []
    kinds = ("float", "float_litert", "ptq", "ptq_litert")  # the quantization-aware ones follow
    for row in sorted(
        ladder["rungs"], key=lambda x: kinds.index(x["key"]) if x["key"] in kinds else len(kinds)
    ):
        same = f"{percent(row['identical'])} of {names[row['above']]}" if row["above"] else ""
        rows.append([row["name"], percent(row["wer"]), row["utterances"], same])
    parts = [
        f"<p>Test set <code>{escaped(Path(ladder['manifest']).name)}</code>, measured"
        f" {escaped(ladder['created'])}; greedy decoding.</p>",
        table(["model", "WER", "utterances", "same texts"], rows, (1, 2)),
    ]
    order = [key for key in ("float", "qat", "litert_reference", "litert") if key in names]
    device = order[-1]
    differ = [
        x
        for x in ladder["utterances"]
        if device in x["texts"] and x["texts"][device] != x["texts"].get("float")
    ]
    if differ:
        shown = [
            [x["reference"], marked(x, "float"), marked(x, device)] for x in differ[:DISAGREEMENTS]
        ]
        more = f" (here {len(shown)} of them)" if len(differ) > len(shown) else ""
        parts.append(
            f"<details><summary>{len(differ)} texts differ between float and 8 bits{more}"
            "</summary>" + table(["said", "float", "8 bits"], shown) + "</details>"
        )
    return "".join(parts)


def marked(utterance: dict[str, Any], key: str) -> Markup:
    """A text, green if right."""
    text = utterance["texts"].get(key, "")
    tag = "ins" if text == utterance["reference"] else "del"
    return Markup(f"<{tag}>{escaped(text) or '(nothing)'}</{tag}>")


def ladder(run: Run) -> str:
    """The rungs from the float model down to the device."""
    content = run.ladder
    names = {row["key"]: row["name"] for row in content["rungs"]}
    parts = []
    for row in content["rungs"]:
        if not row["main"]:
            continue
        fewer = row["utterances"] < content["rungs"][0]["utterances"]
        first = f"<br><small>first {row['utterances']} utterances</small>" if fewer else ""
        if row["above"]:
            share = row["identical"]
            parts.append(
                f'<div class="between">{percent(share)} of {row["compared"]} texts as'
                f' {escaped(names[row["above"]])}<div class="bar">'
                f'<i style="width:{100 * share:.2f}%"></i></div></div>'
            )
        parts.append(
            f'<div class="rung"><span>{escaped(row["name"])}{first}</span>'
            f"<b>WER {percent(row['wer'])}</b></div>"
        )
    return (
        "<p>Every step down must agree with the one above. XNNPACK is the fast path of phones,"
        " TFLite Micro that of microcontrollers; the latter is held against LiteRT's reference"
        f' kernels, which it has to equal.</p><div class="ladder">{"".join(parts)}</div>'
    )
