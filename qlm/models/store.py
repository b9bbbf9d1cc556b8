"""Models in folders: a checkpoint's tensors by the names a family uses, and the folder that a save writes.

A quantized linear is stored as `<layer>.weight` (codes), `<layer>.weight_scale`, and `_zero_point` or `_offset` where
it has them; a static one adds `<layer>.activation_scale` and `<layer>.activation_zero_point`, SmoothQuant
`<layer>.input_scale`.  `__metadata__["qlm"]` gives, beside the table of tensors, the recipe and for each layer how its
input becomes integers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import dtypes
from ..arrays import Array, Floats
from ..errors import FormatError, UnsupportedError, shown
from ..formats import atomic
from ..formats.checkpoint import Checkpoint, is_written_by_save
from ..formats.tensors import write_tensors
from ..qtensor import QTensor
from ..scheme import MAX_GROUP
from .linear import Activations, Linear, Weight, divisors
from .weights import Weights

CONFIG_KEY, VERSION = "qlm", 1
# 1 / scale is finite for scales above this.
LEAST_SCALE = np.float32(2.0**-128)
KEYS = ("kind", "dtype", "granularity", "group_size", "symmetric", "grid")


# ---- reading -----------------------------------------------------------------------------------------------------


class CheckpointSource:
    """The tensors of a checkpoint (models/weights.py, Source) by a family's names: short_name(the checkpoint's own)."""

    def __init__(self, checkpoint: Checkpoint, short_name: Callable[[str], str]) -> None:
        self._checkpoint = checkpoint
        self._originals: dict[str, str] = {}
        for original in checkpoint.files:
            short = short_name(original)
            if short in self._originals:
                reason = f"the tensor is there twice, as {shown(self._originals[short])} too"
                raise FormatError(reason, file=checkpoint.files[original].path, key=original)
            self._originals[short] = original
        layers = checkpoint.qlm.get("layers", {})
        if not isinstance(layers, dict):
            raise FormatError("layers must be a JSON object", file=checkpoint.weights_file, key="layers")
        self._layers = layers
        for layer in layers:
            if f"{layer}.weight" not in checkpoint.files:
                raise FormatError("qlm's metadata describe a layer that is not there", file=self.file(""), key=layer)

    def __contains__(self, name: object) -> bool:
        return name in self._originals

    def original(self, name: str) -> str:
        return self._originals.get(name, name)

    def file(self, name: str) -> str:
        original = self._originals.get(name)
        return self._checkpoint.weights_file if original is None else self._checkpoint.files[original].path

    def read(self, name: str) -> Weight:
        original = self._originals[name]
        return self._checkpoint.files[original][original]

    def linear(self, name: str, weight: Weight, bias: Array | None) -> Linear:
        described = self._layers.get(self.original(f"{name}.weight").removesuffix(".weight"))
        input_scale = self._input_scale(name, weight.shape[1])
        if described is None and f"{name}.activation_scale" in self:
            raise self._refused(f"{name}.activation_scale", "qlm's metadata do not describe the layer's activations")
        activations = None if described is None else self._activations(name, described)
        if activations is not None:
            self._check_fit(name, weight, activations, input_scale)
        return Linear(name, weight, bias, activations, input_scale)

    def _input_scale(self, name: str, features: int) -> Floats | None:
        if f"{name}.input_scale" not in self:
            return None
        return self._positive(f"{name}.input_scale", (features,))

    def _positive(self, name: str, shape: tuple[int, ...]) -> Floats:
        """A float32 tensor of numbers > 0 whose inverses are finite, as scales must be."""
        value = self.read(name) if name in self else None
        if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.shape != shape:
            raise self._refused(name, f"must be float32 of the shape {list(shape)}")
        if not (np.isfinite(value) & (value > LEAST_SCALE)).all():
            raise self._refused(name, "must be finite and > 0, and so must be its inverse")
        return value

    def _activations(self, name: str, described: object) -> Activations:
        if not isinstance(described, dict) or not set(KEYS) <= described.keys():
            raise self._refused(name, f"activations must give {', '.join(KEYS)}, got {shown(described)}")
        kind, grid, group, symmetric = (described[key] for key in ("kind", "grid", "group_size", "symmetric"))
        if kind not in ("dynamic", "static") or grid not in ("affine", "interval") or type(symmetric) is not bool:
            raise self._refused(name, f"unknown activations {shown(described)}")
        if group is not None and (type(group) is not int or not 1 <= group <= MAX_GROUP):
            raise self._refused(name, f"group_size must be null or from 1 to {MAX_GROUP}, got {shown(group)}")
        if (grid == "interval" and (symmetric or kind == "static")) or (kind == "static" and group is not None):
            raise self._refused(name, f"activations that contradict themselves: {shown(described)}")
        qtype = self._qtype(name, described["dtype"])
        if qtype.bits < 8 or (grid == "interval" and qtype.bits > 8):
            raise UnsupportedError(f"{self.file(name)}: {name} has {grid} activations of {qtype.name}")
        if kind == "dynamic":
            return Activations("dynamic", qtype.name, symmetric, grid, group)
        scale = self._positive(f"{name}.activation_scale", ())
        zero_point = self._zero_point(f"{name}.activation_zero_point", qtype)
        return Activations("static", qtype.name, symmetric, grid, None, np.float32(scale), zero_point)

    def _qtype(self, name: str, word: object) -> dtypes.QType:
        try:
            return dtypes.get(word)
        except (TypeError, ValueError) as error:
            raise self._refused(name, str(error)) from None
        except UnsupportedError as error:
            raise UnsupportedError(f"{self.file(name)}: {self.original(name)}: {error}") from None

    def _zero_point(self, name: str, qtype: dtypes.QType) -> int:
        value = self.read(name) if name in self else None
        if not isinstance(value, np.ndarray) or value.dtype != np.int32 or value.shape != ():
            raise self._refused(name, "must be one int32")
        if not qtype.min <= int(value) <= qtype.max:
            raise self._refused(name, f"must be within {qtype.min}..{qtype.max}, got {int(value)}")
        return int(value)

    def _check_fit(self, name: str, weight: Weight, activations: Activations, input_scale: Floats | None) -> None:
        """What the C core would refuse later."""
        if not isinstance(weight, QTensor):
            raise self._refused(name, "quantized activations meet a float weight")
        a, b = weight.group_size, activations.group_size
        if a and b and a % b and b % a:
            raise self._refused(
                name, f"group_size {a} of the weight, {b} of the activations: neither divides the other"
            )
        if weight.offset is not None and activations.grid == "interval":
            raise UnsupportedError(f"{self.file(name)}: {name} has float offsets of both weight and activations")
        if activations.scale is not None and input_scale is not None:
            both = divisors(activations.scale, input_scale)
            if not (np.isfinite(both) & (both > LEAST_SCALE)).all():
                raise self._refused(f"{name}.input_scale", "its product with activation_scale vanishes or overflows")

    def _refused(self, name: str, reason: str) -> FormatError:
        return FormatError(reason, file=self.file(name), key=self.original(name))


def check_version(config: dict[str, Any], file: str) -> None:
    """Of a folder that qlm saved.  UnsupportedError: by a later version."""
    mark = config.get(CONFIG_KEY)
    if mark is None:
        return
    version = mark.get("version") if isinstance(mark, dict) else None
    if type(version) is not int or version < 1:
        raise FormatError(f"must give a version, an integer > 0, got {shown(mark)}", file=file, key=CONFIG_KEY)
    if version > VERSION:
        raise UnsupportedError(f"{file}: written by a newer qlm (format version {version}, this one reads {VERSION})")


# ---- writing -----------------------------------------------------------------------------------------------------


class Saved(NamedTuple):
    """What is written of a model: config.json's content, weights, other files, the recipe's settings."""

    config: dict[str, Any]
    weights: Weights
    assets: Mapping[str, bytes]
    recipe: dict[str, Any] | None


def save_model(path: str | os.PathLike[str], model: Saved, *, overwrite: bool) -> None:
    """Writes the folder, or leaves what is there (Model.save)."""
    with atomic.write_folder(path, known=is_written_by_save, overwrite=overwrite) as folder:
        try:
            _write_files(model, folder)
        except OSError as error:  # of a folder that is gone when it is read
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def check_target(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Whether `path` may be saved to, before the work on what is saved: raises what `save_model` would."""
    atomic.check_target(path, known=is_written_by_save, overwrite=overwrite)


def _write_files(model: Saved, folder: str) -> None:
    for name, data in _texts(model).items():
        target = os.path.join(folder, *name.split("/"))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "xb") as stream:
            stream.write(data)
    with open(os.path.join(folder, "model.safetensors"), "xb", buffering=0) as stream:
        write_tensors(_Whole(stream), dict(model.weights.tensors()), metadata={"format": "pt"}, extra=_described(model))


class _Whole:
    """An unbuffered file that takes all of what it is given."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, data: memoryview) -> None:
        while data.nbytes:
            data = data[self._stream.write(data) :]


def _texts(model: Saved) -> dict[str, bytes]:
    mark = {} if _described(model) is None else {CONFIG_KEY: {"version": VERSION}}
    config = {**model.config, **mark}
    text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return {"config.json": text.encode(), **model.assets}


def _described(model: Saved) -> dict[str, Any] | None:
    layers = {
        model.weights.stored_name(name, "").removesuffix("."): _layer(linear.activations)
        for name, linear in model.weights.linears.items()
        if linear.activations is not None
    }
    if model.recipe is None:
        return {"layers": layers} if layers else None
    return {"recipe": model.recipe, "layers": layers}


def _layer(activations: Activations) -> dict[str, Any]:
    granularity = "tensor" if activations.kind == "static" else "group" if activations.group_size else "token"
    values = (
        activations.kind,
        activations.dtype,
        granularity,
        activations.group_size,
        activations.symmetric,
        activations.grid,
    )
    return dict(zip(KEYS, values, strict=True))
