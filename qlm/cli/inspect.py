"""list the tensors of a file, or the layers of a model

A safetensors FILE: name, dtype, shape and bytes of each tensor. A MODEL: name, shape, bits and bytes of each linear
layer, and the sum of it all. Only headers are read of a FILE.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from qlm.cli.output import print_json, print_pairs, print_table

if TYPE_CHECKING:
    pass

# The words of safetensors in NumPy's; a word that is not here is shown in small letters.
NUMPY_WORDS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
    "C64": "complex64",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="MODEL|FILE", help="a model's folder, pkg:NAME, or a safetensors file")


def run(arguments: argparse.Namespace) -> None:
    if arguments.target.startswith("pkg:") or os.path.isdir(arguments.target):
        show_model(arguments)
    else:
        show_file(arguments)


def show_file(arguments: argparse.Namespace) -> None:
    from qlm.views import size

    tensors, metadata = read_headers(arguments.target)
    total = sum(tensor["nbytes"] for tensor in tensors.values())
    if arguments.json:
        print_json({"tensors": tensors, "nbytes": total, "metadata": metadata})
        return
    rows = [
        [name, tensor["dtype"], shape_text(tensor["shape"]), f"{tensor['nbytes']:,}"]
        for name, tensor in tensors.items()
    ]
    print_table(["tensor", "dtype", "shape", "bytes"], rows, left=2)
    print(f"\n{len(tensors)} tensors, {size(total)}")


def read_headers(path: str) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    from qlm.formats.safetensors import SafetensorsFile

    with SafetensorsFile(path) as file:
        tensors = {
            name: {
                "dtype": NUMPY_WORDS.get(entry.dtype, entry.dtype.lower()),
                "shape": list(entry.shape),
                "nbytes": entry.nbytes,
            }
            for name, entry in file.entries.items()
        }
        return tensors, file.metadata


def shape_text(shape: list[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def show_model(arguments: argparse.Namespace) -> None:
    import qlm
    from qlm.views import number, size

    model = qlm.load(arguments.target)
    facts = {"family": model.family, "num_parameters": model.num_parameters, "nbytes": model.nbytes}
    layers = {
        name: {"shape": list(layer.shape), "bits": layer.bits, "nbytes": layer.nbytes}
        for name, layer in model.layers.items()
    }
    if arguments.json:
        print_json({**facts, "labels": list(model.labels or []), "layers": layers})
        return
    rows = [
        [name, shape_text(layer["shape"]), number(layer["bits"]), f"{layer['nbytes']:,}"]
        for name, layer in layers.items()
    ]
    print_table(["layer", "shape", "bits", "bytes"], rows)
    linear_bytes = sum(layer["nbytes"] for layer in layers.values())
    print()
    print_pairs(
        [
            ("family", model.family),
            ("parameters", f"{model.num_parameters:,}"),
            ("linears", f"{len(layers)}, {size(linear_bytes)}"),
            ("all", size(model.nbytes)),
        ]
    )
