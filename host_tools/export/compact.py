"""The same ONNX graph in as few bytes as it needs: short names, no remarks, no defaults, equal constants once."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

IR_VERSION = 8  # what ONNX Runtime 1.10 and later read
CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv")
POOLS = ("AveragePool", "MaxPool")
# What the standard says in words where it can name no value: strides, dilations and pads of as many axes as there are.
WORDED = {"strides": 1, "dilations": 1, "pads": 0}


def compact(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that computes the same; the names of inputs and outputs stay.

    Graphs with subgraphs keep their names: an inner graph may read any outer one.
    """
    small = onnx.ModelProto()
    small.CopyFrom(graph)
    inner = small.graph
    for kept in (small, inner, *inner.node, *inner.input, *inner.output, *inner.initializer):
        kept.doc_string = ""
        del kept.metadata_props[:]
    del inner.value_info[:]
    small.producer_name = small.producer_version = ""
    inner.name = "g"
    for node in inner.node:
        node.name = ""
    used = {"" if n.domain == "ai.onnx" else n.domain for n in inner.node}
    domains = [o for o in small.opset_import if o.domain in used]
    del small.opset_import[:]
    small.opset_import.extend(domains)
    standard = next((o.version for o in domains if not o.domain), 0)
    for node in inner.node:
        told = [a for a in node.attribute if not _is_default(node, a, standard)]
        del node.attribute[:]
        node.attribute.extend(told)
    if standard <= 18:
        small.ir_version = min(small.ir_version, IR_VERSION)
    if not any(a.type in (a.GRAPH, a.GRAPHS) for n in inner.node for a in n.attribute):
        _rename(inner)
    onnx.checker.check_model(small)
    return small


def _is_default(node: onnx.NodeProto, attribute: onnx.AttributeProto, standard: int) -> bool:
    """Whether an engine takes this value where nothing is told; `standard` is the version of ONNX' own operators."""
    if node.domain not in ("", "ai.onnx"):
        return False
    name, value = attribute.name, onnx.helper.get_attribute_value(attribute)
    if node.op_type in CONVOLUTIONS and name == "kernel_shape":
        return True  # the weights have it
    if node.op_type in (*CONVOLUTIONS, *POOLS) and name in WORDED:
        return set(value) == {WORDED[name]}
    default = onnx.defs.get_schema(node.op_type, standard, "").attributes[name].default_value
    return default.type == attribute.type and bool(onnx.helper.get_attribute_value(default) == value)


def _rename(inner: onnx.GraphProto) -> None:
    fixed = [v.name for v in (*inner.input, *inner.output)]
    names = dict.fromkeys(fixed, "") | {name: name for name in fixed}
    fresh = (name for name in _short() if name not in names.values())
    same: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    constants = []
    used = {i for n in inner.node for i in n.input} | {v.name for v in inner.output}
    for constant in inner.initializer:
        if constant.name not in used:
            continue
        value = numpy_helper.to_array(constant)
        key = (constant.data_type, value.shape, value.tobytes())
        if key not in same:
            same[key] = names.get(constant.name) or next(fresh)
            constants.append(numpy_helper.from_array(np.asarray(value), same[key]))
        names[constant.name] = same[key]
    for node in inner.node:
        for side in (node.input, node.output):
            for i, name in enumerate(side):
                if name:
                    if name not in names:
                        names[name] = next(fresh)
                    side[i] = names[name]
    del inner.initializer[:]
    inner.initializer.extend(constants)


def _short() -> Iterator[str]:
    letters = string.ascii_letters
    for length in itertools.count(1):
        for name in itertools.product(letters, repeat=length):
            yield "".join(name)
