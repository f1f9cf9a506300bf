"""The graph of a flatbuffer: its operators in the order in which they run, and their tensors."""

import dataclasses
import math
from typing import Any, Final

from ai_edge_litert import schema_py_generated as schema

_ELEMENT_BYTES: Final = {
    schema.TensorType.BOOL: 1,
    schema.TensorType.INT8: 1,
    schema.TensorType.UINT8: 1,
    schema.TensorType.INT16: 2,
    schema.TensorType.FLOAT32: 4,
    schema.TensorType.INT32: 4,
    schema.TensorType.INT64: 8,
}
_OPERATOR_NAMES: Final = {
    number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()
}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor; `name` may be empty, where an operator only moves values."""

    name: str
    shape: tuple[int, ...]
    bytes: int
    constant: bool


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator; `inputs` and `outputs` are positions in the graph's tensors."""

    name: str  # as in the schema: FULLY_CONNECTED; of a custom one its own name
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Graph:
    """The first subgraph of a flatbuffer, which is all that a bundle's models have."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def tensor_name(self, tensor: int) -> str:
        """The tensor's name; of an unnamed one that of the tensor whose values it holds."""
        makers = {i: operator for operator in self.operators for i in operator.outputs}
        while not self.tensors[tensor].name and tensor in makers:
            tensor = next(i for i in makers[tensor].inputs if not self.tensors[i].constant)
        return self.tensors[tensor].name

    def layer(self, operator: Operator) -> str:
        """The layer that an operator computes, or whose values it moves."""
        return self.tensor_name(operator.outputs[0])


def read(data: bytes) -> Graph:
    """The graph of a TFLite flatbuffer."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    tensors = []
    for tensor in graph.tensors:
        content = model.buffers[tensor.buffer].data
        shape = tuple(int(n) for n in (tensor.shape if tensor.shape is not None else ()))
        tensors.append(
            Tensor(
                name=tensor.name.decode(),
                shape=shape,
                bytes=math.prod(shape) * _ELEMENT_BYTES.get(tensor.type, 4),
                constant=content is not None and len(content) > 0,
            )
        )
    operators = tuple(
        Operator(
            _operator_name(model.operatorCodes[operator.opcodeIndex]),
            tuple(int(i) for i in operator.inputs if i >= 0),
            tuple(int(i) for i in operator.outputs),
        )
        for operator in graph.operators
    )
    return Graph(
        tuple(tensors),
        operators,
        tuple(int(i) for i in graph.inputs),
        tuple(int(i) for i in graph.outputs),
    )


def _operator_name(code: Any) -> str:
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == schema.BuiltinOperator.CUSTOM:
        return code.customCode.decode()
    return _OPERATOR_NAMES.get(number, f"operator {number}")
