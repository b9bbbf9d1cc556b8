"""list the tensors of a file, or the layers of a model

A safetensors FILE: name, dtype, shape and bytes of each tensor. A MODEL: name, shape, bits and bytes of each linear
layer, and the sum of it all. Only headers are read of a FILE.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .output import print_json, print_pairs, print_table

if TYPE_CHECKING:
    from ..formats.tensors import TensorInfo
    from ..models import Model

# The words of safetensors in NumPy's; a word that is not here is shown in small letters.
NUMPY_WORDS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
    "C64": "complex64",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="MODEL|FILE", help="a model's folder, pkg:NAME, or a safetensors file")


def run(arguments: argparse.Namespace) -> None:
    target = arguments.target
    if not target.startswith("pkg:") and not os.path.isdir(target):
        show_tensors(file_tensors(target), arguments)
        return
    import qlm

    try:
        model = qlm.load(target)
    except qlm.UnsupportedError:
        # A checkpoint of a family that qlm does not run still has tensors.
        tensors = folder_tensors(target)
        if not tensors:
            raise
        show_tensors(tensors, arguments)
        return
    show_model(model, arguments)


# ---- tensors -----------------------------------------------------------------------------------------------------


def file_tensors(path: str) -> dict[str, TensorInfo]:
    from ..formats.tensors import TensorFile

    with TensorFile(path) as file:
        return {name: file.info(name) for name in file}


def folder_tensors(path: str) -> dict[str, TensorInfo]:
    """The tensors of all the weights' files; none of a folder without weights, or in no format that qlm reads."""
    from ..errors import UnsupportedError
    from ..formats.checkpoint import open_checkpoint

    try:
        files = open_checkpoint(path).files
    except (UnsupportedError, FileNotFoundError):
        return {}
    return {name: file.info(name) for name, file in files.items()}


def show_tensors(tensors: Mapping[str, TensorInfo], arguments: argparse.Namespace) -> None:
    from ..views import size

    total = sum(info.nbytes for info in tensors.values())
    if arguments.json:
        rows = {
            name: {"dtype": dtype_word(info.dtype), "shape": list(info.shape), "nbytes": info.nbytes}
            for name, info in tensors.items()
        }
        print_json({"tensors": rows, "nbytes": total})
        return
    print_table(
        ["tensor", "dtype", "shape", "bytes"],
        [[name, dtype_word(info.dtype), shape_text(info.shape), f"{info.nbytes:,}"] for name, info in tensors.items()],
        left=2,
    )
    print(f"\n{len(tensors)} tensors, {size(total)}")


def dtype_word(word: str) -> str:
    return NUMPY_WORDS.get(word, word.lower())


def shape_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


# ---- models ------------------------------------------------------------------------------------------------------


def show_model(model: Model, arguments: argparse.Namespace) -> None:
    if arguments.json:
        layers = {
            name: {"shape": list(layer.shape), "bits": layer.bits, "nbytes": layer.nbytes}
            for name, layer in model.layers.items()
        }
        facts = {"family": model.family, "num_parameters": model.num_parameters, "nbytes": model.nbytes}
        print_json({**facts, "labels": list(model.labels or ()), "layers": layers})
        return
    from ..views import number, size

    rows = [
        [name, shape_text(layer.shape), number(layer.bits), f"{layer.nbytes:,}"] for name, layer in model.layers.items()
    ]
    print_table(["layer", "shape", "bits", "bytes"], rows)
    print()
    print_pairs(
        [
            ("family", model.family),
            ("parameters", f"{model.num_parameters:,}"),
            ("layers", f"{len(rows)}, {size(sum(layer.nbytes for layer in model.layers.values()))}"),
            ("all", size(model.nbytes)),
        ]
    )
