"""Time of each operator of a flatbuffer by itself, as a flatbuffer with one operator.

XNNPACK runs a whole graph as one delegate node, so a profiler sees nothing in it.  The sum is not
the time of the graph: operators that follow one another share caches, and each invocation of a
single one costs about 5 microseconds.
"""

import collections
import dataclasses
import time
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from tflite_convert.inspect import OPERATOR_NAMES, operator_code

Kind = tuple[str, tuple[tuple[int, ...], ...]]  # operator, shapes of its inputs


@dataclasses.dataclass
class Operator:
    """Operators of one kind with inputs of the same shapes."""

    kind: Kind
    count: int
    interpreter: Any
    milliseconds: float = float("inf")  # of one; the shortest

    @property
    def total(self) -> float:
        return self.count * self.milliseconds


def take_apart(content: bytes) -> list[Operator]:
    """Every kind of operator in the flatbuffer, with random inputs, ready to be timed."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    firsts: dict[Kind, int] = {}
    counts: collections.Counter[Kind] = collections.Counter()
    for position, operator in enumerate(graph.operators):
        name = OPERATOR_NAMES[operator_code(model, operator)]
        shapes = tuple(
            tuple(int(n) for n in graph.tensors[i].shape) for i in operator.inputs if i >= 0
        )
        kind = (name, shapes)
        firsts.setdefault(kind, position)
        counts[kind] += 1
    return [Operator(kind, counts[kind], _alone(content, i)) for kind, i in firsts.items()]


def measure(profiles: list[list[Operator]], rounds: int) -> None:
    """Times the operators of several flatbuffers in turns; the shortest time of each stays."""
    for _ in range(rounds):
        for operators in profiles:
            for operator in operators:
                for _ in range(3):
                    begin = time.perf_counter()
                    operator.interpreter.invoke()
                    elapsed = (time.perf_counter() - begin) * 1000
                    operator.milliseconds = min(operator.milliseconds, elapsed)


def _alone(content: bytes, position: int) -> Any:
    """An interpreter, one thread, of the operator at `position`."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    operator = graph.operators[position]

    def constant(index: int) -> bool:
        data = model.buffers[graph.tensors[index].buffer].data
        return data is not None and len(data) > 0

    graph.operators = [operator]
    given = [i for i in operator.inputs if i >= 0 and not constant(i)]
    graph.inputs = list(dict.fromkeys(given))
    graph.outputs = list(operator.outputs)
    model.signatureDefs = []
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    interpreter = litert.Interpreter(model_content=bytes(builder.Output()), num_threads=1)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        values = rng.integers(0, 25, detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], values)
    return interpreter
