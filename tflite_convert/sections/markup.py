"""HTML tables and SVG figures of a report."""

import dataclasses
import html
import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, GREY = "#1f5fa8", "#d9730d", "#2e7d4f", "#b3261e", "#8a8f98"

STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 980px; padding: 16px; background: #fff; color: #1b1e23;
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .4em 0 .2em; }
h2 { font-size: 1.2rem; margin: 2.2em 0 .5em; padding-top: .5em; border-top: 2px solid #e4e7eb; }
h3 { font-size: 1rem; margin: 1.2em 0 .3em; }
p { margin: .4em 0 .8em; max-width: 46em; }
code { font-size: .88em; background: #f3f5f7; padding: .1em .3em; border-radius: 3px;
  overflow-wrap: anywhere; }
small, .quiet { color: #5a616b; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .4em 0 1em; font-size: .92rem; }
th, td { padding: .32em .9em .32em 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e4e7eb; }
th { font-weight: 600; color: #454b54; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.total td { font-weight: 600; }
.figures { display: flex; flex-wrap: wrap; gap: 16px; }
.figures > div { flex: 1 1 320px; max-width: 470px; }
svg.plot, img.plot { width: 100%; height: auto; display: block; }
.missing { background: #fff6e5; border-left: 4px solid #d9730d; padding: .5em .8em; }
.good { color: #2e7d4f; font-weight: 600; } .bad { color: #b3261e; font-weight: 600; }
.ladder { max-width: 430px; margin: 1em 0; padding: 10px 0; border: solid #b58a5a;
  border-width: 0 9px; border-radius: 5px; }
.rung { display: flex; justify-content: space-between; align-items: baseline; gap: 12px;
  background: #f0e3d2; border-block: 2px solid #b58a5a; padding: .35em .8em; }
.rung b { white-space: nowrap; font-variant-numeric: tabular-nums; }
.between { padding: .5em .8em; text-align: center; font-size: .86rem; }
@media (max-width: 480px) { table { font-size: .82rem; } th, td { padding-right: .6em; } }
.bar { height: 5px; background: #f1d3d0; margin: 3px auto 0; width: 70%; }
.bar i { display: block; height: 5px; background: #2e7d4f; }
summary { cursor: pointer; font-weight: 600; padding: .3em 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1em 1em; margin: .6em 0;
  font-size: .92rem; }
dt { color: #5a616b; } dd { margin: 0; overflow-wrap: anywhere; }
del { color: #b3261e; } ins { color: #2e7d4f; text-decoration: none; font-weight: 600; }
"""


def escaped(value: Any) -> str:
    return html.escape(str(value))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Sequence[int] = ()) -> str:
    """A table; columns in `numeric` are aligned right. Only cells of `Markup` are not escaped."""

    def row(cells: Sequence[Any], tag: str) -> str:
        parts = []
        for i, cell in enumerate(cells):
            kind = ' class="n"' if i in numeric else ""
            content = cell.html if isinstance(cell, Markup) else escaped(cell)
            parts.append(f"<{tag}{kind}>{content}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    head = f"<thead>{row(header, 'th')}</thead>" if any(header) else ""
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


@dataclasses.dataclass(frozen=True)
class Markup:
    """HTML that is not to be escaped."""

    html: str


def missing(error: Exception | str) -> str:
    return f'<p class="missing">{escaped(error)}</p>'


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def kilobytes(size: int) -> str:
    return f"{size / 1000:,.1f} kB"


def figure(width: float, height: float) -> Figure:
    """A figure in inches. Text has 9 points, readable on a phone of 5 inches' width."""
    result = Figure(figsize=(width, height), layout="constrained")
    matplotlib.rcParams.update({"font.size": 9, "svg.fonttype": "path", "axes.linewidth": 0.6})
    return result


def svg(drawing: Figure, label: str) -> str:
    """The figure as inline SVG; its ids begin with the label, so that figures do not share any."""
    out = io.StringIO()
    matplotlib.rcParams["svg.hashsalt"] = label
    drawing.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    prefix = re.sub(r"\W+", "-", label)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{prefix}-", text)
    size = re.match(r'<svg[^>]*?viewBox="([^"]*)"', text, re.S)
    box = size.group(1) if size else "0 0 100 100"
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    opening = (
        f'<svg class="plot" role="img" aria-label="{escaped(label)}" viewBox="{box}"'
        ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1)


def plain_axes(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
