"""The tensor arena during a run of a graph: the place and the life of each tensor.

TFLite Micro plans the arena before the first inference: tensors by size, the largest first, each
at the lowest offset that is free for as long as the tensor lives (greedy by size; Pisarchyk and
Lee, arXiv 2001.03288).  `plan` does the same.  The rest of the arena holds the interpreter's own
structures, and scratch memory of kernels.
"""

import dataclasses
import html
from collections.abc import Sequence
from typing import Final

from firmware_sim.runtimes import graph
from firmware_sim.runtimes.model import Model

_ALIGNMENT: Final = 16  # bytes

_HEIGHT: Final = 450  # of one map, pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 46, 74  # its margins
_NARROWEST: Final = 1110  # plot, pixels
_ACROSS: Final = 6.0  # pixels for an operator, at least
_LETTER, _LINE = 6.4, 11  # width and height of a letter, pixels
_LABELLED: Final = 0.04  # of the arena: larger tensors bear their name
_COLOURS: Final = {
    "input, output": "#8a8f98",
    "front end": "#7fa8d9",
    "encoder": "#8cc4a0",
    "decoder": "#f0b27a",
}


@dataclasses.dataclass(frozen=True)
class Placement:
    """A tensor's place in the arena, bytes, and its life, operators counted from 1."""

    name: str
    bytes: int  # rounded up to the alignment
    offset: int
    first: int  # operator that writes it; 0 for an input of the graph
    last: int  # the last operator that reads it
    port: bool  # an input or output of the graph


@dataclasses.dataclass(frozen=True)
class Plan:
    """The arena of one model."""

    placements: tuple[Placement, ...]  # the largest first
    layers: tuple[str, ...]  # of the operators, in order

    @property
    def bytes(self) -> int:
        """The arena's size, without the interpreter's structures and kernels' scratch memory."""
        return max((p.offset + p.bytes for p in self.placements), default=0)

    def live_bytes(self, operator: int) -> int:
        """Sum of the tensors that live while an operator runs, counted from 1."""
        return sum(p.bytes for p in self.placements if p.first <= operator <= p.last)


def plan(model: Model) -> Plan:
    """Plans the arena as TFLite Micro does."""
    content = graph.read(model.data)
    first = dict.fromkeys(content.inputs, 0)
    last: dict[int, int] = {}
    for time, operator in enumerate(content.operators, 1):
        for i in operator.outputs:
            first.setdefault(i, time)
        last.update(dict.fromkeys((*operator.inputs, *operator.outputs), time))
    last.update(dict.fromkeys(content.outputs, len(content.operators)))

    ports = {*content.inputs, *content.outputs}
    waiting = [
        Placement(
            name=content.tensor_name(i),
            bytes=-(-tensor.bytes // _ALIGNMENT) * _ALIGNMENT,
            offset=0,
            first=first[i],
            last=last[i],
            port=i in ports,
        )
        for i, tensor in enumerate(content.tensors)
        if i in first and i in last
    ]
    placed: list[Placement] = []
    # Of equal size, TFLite Micro takes the last of the file first.
    for i in sorted(range(len(waiting)), key=lambda i: (-waiting[i].bytes, -i)):
        new = waiting[i]
        offset = 0
        for other in sorted(placed, key=lambda p: p.offset):
            if other.first > new.last or new.first > other.last:
                continue
            if other.offset - offset >= new.bytes:
                break
            offset = max(offset, other.offset + other.bytes)
        placed.append(dataclasses.replace(new, offset=offset))
    return Plan(tuple(placed), tuple(content.layer(operator) for operator in content.operators))


def svg(plans: Sequence[tuple[str, Plan]]) -> str:
    """A map of each named plan, one below the other: operators to the right, offsets upwards."""
    most = max(len(content.layers) for _, content in plans) + 1
    width = _LEFT + max(_NARROWEST, round(_ACROSS * most)) + _RIGHT
    height = len(plans) * _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="DejaVu Sans, sans-serif" font-size="10.5">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for position, (title, content) in enumerate(plans):
        parts.append(f'<g transform="translate(0,{position * _HEIGHT})">')
        parts += _map(title, content, width)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"])


def _map(title: str, content: Plan, width: int) -> list[str]:
    operators, size = len(content.layers), content.bytes
    right = width - _RIGHT
    across = (right - _LEFT) / (operators + 1)  # pixels for an operator; 0 is the inputs
    up = (_HEIGHT - _TOP - _BOTTOM) / size  # pixels for a byte
    floor = _HEIGHT - _BOTTOM

    def text(x: float, y: float, words: str, extra: str = "") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{html.escape(words)}</text>'

    fullest = max(range(operators + 1), key=content.live_bytes)
    heading = (
        f"{title}: {_kib(size)} planned; most alive at once {_kib(content.live_bytes(fullest))}, "
        f"at operator {fullest} of {operators}, {content.layers[max(fullest - 1, 0)]}"
    )
    parts = [text(_LEFT, 16, heading, 'font-size="13" font-weight="600"')]
    for i, (name, colour) in enumerate(_COLOURS.items()):
        left = _LEFT + 110 * i
        parts.append(f'<rect x="{left}" y="25" width="10" height="10" fill="{colour}"/>')
        parts.append(text(left + 15, 34, name))
    labels = []
    for tensor in content.placements:
        x, high = _LEFT + tensor.first * across, tensor.bytes * up
        wide = (tensor.last - tensor.first + 1) * across
        y = floor - tensor.offset * up - high
        about = (
            f"{tensor.name}: {tensor.bytes:,} bytes at {tensor.offset:,}, operators "
            f"{tensor.first} to {tensor.last}"
        )
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" '
            f'fill="{_COLOURS[_part(tensor)]}" stroke="#fff" stroke-width="0.4">'
            f"<title>{html.escape(about)}</title></rect>"
        )
        if tensor.bytes >= _LABELLED * size:
            labels += _label(tensor.name, x, y, wide, high)
    parts += labels
    for step in range(5):
        y = floor - step / 4 * size * up
        parts.append(f'<path d="M{_LEFT - 4} {y:.1f}H{_LEFT}" stroke="#5a616b"/>')
        parts.append(text(_LEFT - 7, y + 4, _kib(step * size // 4), 'text-anchor="end"'))
    parts.append(f'<path d="M{_LEFT} {_TOP}V{floor}H{right}" stroke="#5a616b" fill="none"/>')
    free = 0.0
    for start, name in _sections(content.layers):
        x = _LEFT + start * across
        parts.append(f'<path d="M{x:.1f} {floor}v5" stroke="#5a616b"/>')
        if free <= x <= right - _LETTER * len(name):
            parts.append(text(x + 2, floor + 14, name))
            free = x + _LETTER * (len(name) + 1)
    parts.append(text(_LEFT, floor + 32, "operators, in the order in which they run"))
    return parts


def _label(name: str, x: float, y: float, width: float, height: float) -> list[str]:
    """The name inside its rectangle, upright where that fits better, or none that can be read."""
    long = _LETTER * len(name)
    middle_x, middle_y = x + width / 2, y + height / 2
    words = html.escape(name)
    if long <= width and height >= _LINE - 2:
        return [
            f'<text x="{middle_x:.1f}" y="{middle_y + 4:.1f}" text-anchor="middle">{words}</text>'
        ]
    if long <= height and width >= _LINE - 4:
        return [
            f'<text transform="translate({middle_x + 3.5:.1f},{middle_y:.1f}) rotate(-90)" '
            f'text-anchor="middle">{words}</text>'
        ]
    return []


def _part(tensor: Placement) -> str:
    if tensor.port:
        return "input, output"
    if tensor.name.startswith(("decoder", "embedding", "logits")):
        return "decoder"
    return "encoder" if tensor.name.startswith(("encoder", "ctc")) else "front end"


def _sections(layers: Sequence[str]) -> list[tuple[int, str]]:
    """Operator (from 1) and name where a block of layers, `encoder_0` and the like, begins."""
    sections: list[tuple[int, str]] = []
    for position, layer in enumerate(layers, 1):
        block = layer.split("/")[0]
        if "/" in layer and block not in [name for _, name in sections]:
            sections.append((position, block))
    return sections


def _kib(size: int) -> str:
    return f"{size / 1024:.0f} KiB"
