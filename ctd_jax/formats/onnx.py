"""ONNX, from the equations that JAX traces (its jaxpr).

It covers what the networks of `ctd_jax.models`, `heatmaps.decode` and a softmax are made of. No published converter
does: jax2onnx 0.17.1, its newest version, fails under JAX 0.12 and, as all since 0.13.1, needs an older Orbax.
"""

import functools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend import core
from onnx import helper, numpy_helper

from ctd_jax.errors import UserError
from ctd_jax.formats import INPUT
from ctd_jax.models import layers
from ctd_jax.typing import Variables

OPSET = 18
ELEMENTWISE = {
    "add": "Add", "and": "And", "div": "Div", "eq": "Equal", "exp": "Exp", "log": "Log", "lt": "Less", "max": "Max",
    "min": "Min", "mul": "Mul", "sign": "Sign", "sqrt": "Sqrt", "sub": "Sub",
}  # fmt: skip


def write(
    body: Callable, variables: Variables, batch: jax.ShapeDtypeStruct, outputs: Sequence[str], metadata: dict[str, Any]
) -> bytes:
    """`body(variables, pictures)` as an ONNX file.

    Args:
      body: gives a tuple of arrays.
      variables: its first argument.
      batch: shape `[b, S, S, 3]` and type of the pictures, with a symbolic b.
      outputs: names of the results.
      metadata: is put into the file, each value as JSON.

    Raises:
      UserError: an equation of `body` has no translation here.
    """
    with layers.traced_for("any"):
        closed, shapes = jax.make_jaxpr(functools.partial(body, variables), return_shape=True)(batch)
    graph = _Graph()
    results = graph.run(closed.jaxpr, closed.consts, [INPUT])
    for result, name in zip(results, outputs, strict=True):
        graph.node("Identity", result, name=name)
    nodes: list[onnx.NodeProto] = []
    needed = set(outputs)
    for node in reversed(graph.nodes):
        if node.output[0] in needed:
            nodes.insert(0, node)
            needed.update(node.input)
    constants = [numpy_helper.from_array(array, name) for name, array in graph.constants.items() if name in needed]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "ctd_jax",
            [_info(INPUT, batch)],
            [_info(name, shape) for name, shape in zip(outputs, shapes, strict=True)],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="ctd_jax",
        ir_version=8,  # opset 18's, so that any onnxruntime that knows these operators reads it
    )
    helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def load(content: bytes, outputs: Sequence[str]) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The file in onnxruntime: function of pictures `[b, S, S, 3]`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda pictures: session.run(list(outputs), {INPUT: pictures})


def _info(name: str, like: jax.ShapeDtypeStruct) -> onnx.ValueInfoProto:
    shape = [n if isinstance(n, int) else str(n) for n in like.shape]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(like.dtype)), shape)


class _Graph:
    """Nodes and constants of the file. A value is a NumPy array as long as it depends on no input, else a name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._names: dict[tuple, str] = {}

    def run(self, jaxpr: core.Jaxpr, consts: list, inputs: list) -> list:
        """The values of the outputs of `jaxpr`."""
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*map(np.asarray, consts), *inputs], strict=True))
        for eqn in jaxpr.eqns:
            found = [np.asarray(v.val) if isinstance(v, core.Literal) else values[v] for v in eqn.invars]
            values |= zip(eqn.outvars, self._equation(eqn, found), strict=True)
        return [np.asarray(v.val) if isinstance(v, core.Literal) else values[v] for v in jaxpr.outvars]

    def _equation(self, eqn: core.JaxprEqn, values: list) -> list:
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if inner is not None:
            return self.run(inner.jaxpr, inner.consts, values)
        name, shape = eqn.primitive.name, _shape(eqn.outvars[0])
        if all(isinstance(v, np.ndarray) for v in values) and all(isinstance(n, int) for n in shape):
            return [np.asarray(eqn.primitive.bind(*values, **eqn.params))]
        if (
            name in ("sub", "max", "min")
            and isinstance(values[1], np.ndarray)
            and (fused := self._fused(name, *values))
        ):
            return [fused]
        if name in ELEMENTWISE:
            return [self.node(ELEMENTWISE[name], *values)]
        translate = getattr(self, f"_{name}", None)
        if translate is None:
            raise _unknown(eqn)
        return [translate(eqn, *values)]

    def _fused(self, name: str, x: str, constant: np.ndarray) -> str | None:
        """The forms that onnxruntime fuses with the convolution before them."""
        if name == "sub":
            return self.node("Add", x, -constant)
        if name == "max" and not constant.any():
            return self.node("Relu", x)
        if name == "min" and [(node.op_type, node.output[0]) for node in self.nodes[-1:]] == [("Relu", x)]:
            return self.node("Clip", self.nodes[-1].input[0], np.zeros_like(constant), constant)
        return None

    def node(self, operator: str, *values: Any, name: str | None = None, **attributes: Any) -> str:
        """Adds a node; returns the name of its result."""
        name = name or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self._name(v) for v in values], [name], **attributes))
        return name

    def _name(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        key = (value.tobytes(), value.shape, value.dtype)
        name = self._names.setdefault(key, f"c{len(self._names)}")
        self.constants[name] = value
        return name

    def _stop_gradient(self, _: core.JaxprEqn, x: str) -> str:
        return x

    def _ne(self, _: core.JaxprEqn, a: Any, b: Any) -> str:
        return self.node("Not", self.node("Equal", a, b))

    def _rem(self, _: core.JaxprEqn, a: Any, b: Any) -> str:
        return self.node("Mod", a, b, fmod=1)

    def _select_n(self, _: core.JaxprEqn, which: Any, false: Any, true: Any) -> str:
        return self.node("Where", which, true, false)

    def _convert_element_type(self, eqn: core.JaxprEqn, x: Any) -> str:
        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(eqn.params["new_dtype"])))

    def _broadcast_in_dim(self, eqn: core.JaxprEqn, x: Any) -> Any:
        """Nothing is repeated along the batch: the operations that follow are elementwise, and broadcast."""
        shape, places = eqn.params["shape"], eqn.params["broadcast_dimensions"]
        old = _shape(eqn.invars[0])
        sizes = [1] * len(shape)
        for size, place in zip(old, places, strict=True):
            sizes[place] = size
        if isinstance(x, np.ndarray):
            return x.reshape(sizes)
        x = self._reshaped(x, sizes)
        known = [n if isinstance(n, int) else 1 for n in shape]
        return x if tuple(sizes) == tuple(shape) else self.node("Expand", x, np.array(known))

    def _reshaped(self, x: str, sizes: Any) -> str:
        return self.node("Reshape", x, np.array([n if isinstance(n, int) else -1 for n in sizes]))

    def _reshape(self, eqn: core.JaxprEqn, x: str) -> str:
        return self._reshaped(x, eqn.params["new_sizes"])

    def _squeeze(self, eqn: core.JaxprEqn, x: str) -> str:
        return self.node("Squeeze", x, np.array(eqn.params["dimensions"]))

    def _transpose(self, eqn: core.JaxprEqn, x: str) -> str:
        return self.node("Transpose", x, perm=eqn.params["permutation"])

    def _concatenate(self, eqn: core.JaxprEqn, *parts: Any) -> str:
        return self.node("Concat", *parts, axis=eqn.params["dimension"])

    def _stack(self, eqn: core.JaxprEqn, *parts: Any) -> str:
        axis = eqn.params["axis"]
        return self.node("Concat", *(self.node("Unsqueeze", x, np.array([axis])) for x in parts), axis=axis)

    def _reduce_max(self, eqn: core.JaxprEqn, x: str) -> str:
        return self.node("ReduceMax", x, np.array(eqn.params["axes"]), keepdims=0)

    def _reduce_sum(self, eqn: core.JaxprEqn, x: str) -> str:
        return self.node("ReduceSum", x, np.array(eqn.params["axes"]), keepdims=0)

    def _argmax(self, eqn: core.JaxprEqn, x: str) -> str:
        (axis,) = eqn.params["axes"]
        return self.node("Cast", self.node("ArgMax", x, axis=axis, keepdims=0), to=onnx.TensorProto.INT32)

    def _pad(self, eqn: core.JaxprEqn, x: str, value: np.ndarray) -> str:
        before, after, between = zip(*eqn.params["padding_config"], strict=True)
        _only(eqn, not any(between))
        return self.node("Pad", x, np.array(before + after), value)

    def _slice(self, eqn: core.JaxprEqn, x: str) -> str:
        start, stop = eqn.params["start_indices"], eqn.params["limit_indices"]
        steps, sizes = eqn.params["strides"] or [1] * len(start), _shape(eqn.invars[0])
        cut = [i for i, n in enumerate(sizes) if (start[i], stop[i], steps[i]) != (0, n, 1)]
        parts = (start, stop, range(len(sizes)), steps)
        return self.node("Slice", x, *(np.array([part[i] for i in cut]) for part in parts)) if cut else x

    def _rev(self, eqn: core.JaxprEqn, x: str) -> str:
        axes = np.array(eqn.params["dimensions"])
        last, first = np.full_like(axes, -1), np.full_like(axes, np.iinfo(axes.dtype).min)
        return self.node("Slice", x, last, first, axes, last)

    def _gather(self, eqn: core.JaxprEqn, x: str, indices: Any) -> str:
        """x[:, i] with one constant i or a constant vector of them, and take_along_axis: along one axis."""
        numbers = eqn.params["dimension_numbers"]
        _only(eqn, len(numbers.start_index_map) == 1 and numbers.collapsed_slice_dims == numbers.start_index_map)
        (axis,) = numbers.start_index_map
        if numbers.operand_batching_dims:
            _only(eqn, all(n == 1 for n in eqn.params["slice_sizes"]))
            return self.node("GatherElements", x, self.node("Squeeze", indices, np.array([-1])), axis=axis)
        around = tuple(i for i in range(len(_shape(eqn.outvars[0]))) if indices.ndim == 1 or i != axis)
        _only(eqn, isinstance(indices, np.ndarray) and indices.ndim <= 2 and numbers.offset_dims == around)
        return self.node("Gather", x, indices.reshape(indices.shape[:-1]), axis=axis)

    def _dot_general(self, eqn: core.JaxprEqn, a: Any, b: Any) -> str:
        """The product of a map, along one of its axes, and a constant matrix. The other axis of the matrix becomes the
        last one of the result, or the first one if the matrix is the first operand, as in JAX."""
        (axes, batched), operands = eqn.params["dimension_numbers"], (a, b)
        matrix = next((i for i in (1, 0) if isinstance(operands[i], np.ndarray)), 1)
        known, x = operands[matrix], operands[1 - matrix]
        _only(eqn, isinstance(known, np.ndarray) and known.ndim == 2 and not any(batched) and len(axes[0]) == 1)
        ((axis,), (row,)), last = (axes[1 - matrix], axes[matrix]), len(_shape(eqn.invars[1 - matrix])) - 1
        if axis != last:
            x = self.node("Transpose", x, perm=[*(i for i in range(last + 1) if i != axis), axis])
        y = self.node("MatMul", x, known if row == 0 else np.ascontiguousarray(known.T))
        return y if matrix == 1 else self.node("Transpose", y, perm=[last, *range(last)])

    def _conv_general_dilated(self, eqn: core.JaxprEqn, x: str, kernel: np.ndarray) -> str:
        params, numbers = eqn.params, eqn.params["dimension_numbers"]
        dilated = math.prod((*params["lhs_dilation"], *params["rhs_dilation"], params["batch_group_count"])) != 1
        _only(eqn, not dilated and numbers.lhs_spec == numbers.out_spec)
        spec = numbers.lhs_spec  # where batch, channels and the two axes of the picture are
        y = self.node(
            "Conv",
            self.node("Transpose", x, perm=spec),
            np.ascontiguousarray(kernel.transpose(numbers.rhs_spec)),
            strides=params["window_strides"],
            pads=[n for side in zip(*params["padding"], strict=True) for n in side],
            group=params["feature_group_count"],
        )
        return self.node("Transpose", y, perm=np.argsort(spec).tolist())


def _shape(value: core.Var | core.Literal) -> tuple[Any, ...]:
    """Sizes of a value: numbers, and a symbol for the batch."""
    return value.aval.shape  # type: ignore[attr-defined]  # JAX's type is that of all values; those here are arrays


def _only(eqn: core.JaxprEqn, holds: bool) -> None:
    """Raises UserError unless the equation has the form that is translated here."""
    if not holds:
        raise _unknown(eqn)


def _unknown(eqn: core.JaxprEqn) -> UserError:
    return UserError(f"no ONNX for {' '.join(str(eqn).split())}; export to another format")
