"""Arrays and QTensors in one safetensors file.

A QTensor `name` is stored as `name` (its codes; below 8 bits packed into U8 along the last axis, low bits first, each
row padded to a byte), `name_scale`, and `name_zero_point` or `name_offset` where it has them.  `__metadata__["qlm"]`,
JSON, is {"version": 1, "tensors": {name: {"dtype", "shape", "axis", "group_size"}}} and may hold more for its reader.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import dtypes, qparams
from ..arrays import Array, params_shape
from ..dtypes import QType
from ..errors import FormatError, UnsupportedError, shown
from ..qtensor import QTensor
from . import atomic, strictjson
from .safetensors import Entry, Part, Path, SafetensorsFile, Sink, dtype_name, write

VERSION = 1
METADATA_KEY = "qlm"
_SUFFIXES = ("scale", "zero_point", "offset")


class TensorInfo(NamedTuple):
    """What a file says of a tensor, without reading it; dtype: the format's word, or the type of the codes."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    axis: int | None = None
    group_size: int | None = None


def tensors(path: Path) -> TensorFile:
    """The tensors of a safetensors file by name, arrays and QTensors, each read when it is asked for.

    bfloat16 tensors are ml_dtypes.bfloat16 arrays.  FormatError: a bad file.  UnsupportedError: a GGUF file, or (when
    it is read) a tensor of a type that qlm does not read.  OSError: the system's.
    """
    return TensorFile(path)


def save_tensors(path: Path, tensors: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None) -> None:
    """Writes arrays and QTensors by name into one safetensors file, which qlm.tensors reads back bit for bit.

    The file appears in one step; an existing one is replaced, or left whole if anything fails.
    TypeError, ValueError: a name, tensor or metadata that such a file cannot hold.  OSError: the system's.
    """
    parts, texts = describe(tensors, metadata)
    with atomic.write_file(path) as sink:
        write(sink, parts, texts)


def write_tensors(
    sink: Sink,
    tensors: Mapping[str, Any],
    *,
    metadata: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """The same into an open file; `extra` joins the JSON of `__metadata__["qlm"]`."""
    parts, texts = describe(tensors, metadata, extra)
    write(sink, parts, texts)


# ---- writing -----------------------------------------------------------------------------------------------------


def describe(
    tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None, extra: Mapping[str, Any] | None = None
) -> tuple[dict[str, Part], dict[str, str]]:
    """The parts of the file and its metadata, everything checked, nothing packed yet."""
    texts = _checked_metadata(metadata)
    parts: dict[str, Part] = {}
    table: dict[str, Any] = {}
    for name, tensor in _checked_names(tensors):
        if isinstance(tensor, QTensor):
            table[name] = _description(tensor)
        parts.update(_parts_of(name, tensor))
    if table or extra:
        header = {"version": VERSION, "tensors": table, **(extra or {})}
        texts[METADATA_KEY] = json.dumps(header, separators=(",", ":"), allow_nan=False)
    return parts, texts


def _checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping of text to text, got {shown(metadata)}")
    for key, text in metadata.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"metadata must be text, got {shown(key)}: {shown(text)}")
        if key == METADATA_KEY:
            raise ValueError(f"metadata: the key {METADATA_KEY!r} is qlm's own")
    return dict(metadata)


def _checked_names(tensors: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The items.  ValueError: a name that a QTensor's part has, or would have: it could not be told from the part."""
    if not isinstance(tensors, Mapping):
        raise TypeError(f"tensors must be a mapping of names to arrays, got {shown(type(tensors).__name__)}")
    quantized = [name for name, tensor in tensors.items() if isinstance(tensor, QTensor)]
    taken = {f"{name}_{suffix}" for name in quantized for suffix in _SUFFIXES}
    for name, tensor in tensors.items():
        if name in taken:
            raise ValueError(f"tensors: {shown(name)} is both a tensor and a part of another one")
        if not isinstance(name, str):
            raise TypeError(f"tensors: names must be text, got {shown(name)}")
        if name == "__metadata__":
            raise ValueError("tensors: '__metadata__' cannot be a tensor's name")
        yield name, tensor


def _description(q: QTensor) -> dict[str, Any]:
    return {"dtype": q.dtype, "shape": list(q.shape), "axis": q.axis, "group_size": q.group_size}


def _parts_of(name: str, tensor: Any) -> Iterator[tuple[str, Part]]:
    if isinstance(tensor, Part):
        yield name, tensor
        return
    if not isinstance(tensor, QTensor):
        yield name, _array_part(name, tensor)
        return
    if tensor.bits < 8:
        shape = packed_shape(tensor.shape, tensor.bits)
        yield name, Part(np.dtype(np.uint8), shape, lambda: pack_codes(tensor.values, tensor.bits))
    else:
        yield name, Part.of(tensor.values)
    for suffix in _SUFFIXES:
        value = getattr(tensor, suffix)
        if value is not None:
            yield f"{name}_{suffix}", Part.of(np.asarray(value))


def _array_part(name: str, tensor: Any) -> Part:
    array = np.asarray(tensor)
    if dtype_name(array.dtype) is None:
        raise TypeError(f"tensors: {shown(name)} has the dtype {array.dtype}, which safetensors files cannot hold")
    return Part.of(array)


def packed_shape(shape: tuple[int, ...], bits: int) -> tuple[int, ...]:
    """The shape of packed codes: bytes along the last axis."""
    return (*shape[:-1], -(-shape[-1] * bits // 8)) if shape else ()


def pack_codes(values: Array, bits: int) -> Array:
    """4-bit codes -> uint8, two neighbours of the last axis a byte, the first in the low half."""
    _check_bits(bits)
    rows = (np.atleast_1d(values) & 15).astype(np.uint8)
    low, high = rows[..., 0::2], rows[..., 1::2]
    packed: Array = low.copy()
    packed[..., : high.shape[-1]] |= high << 4
    return packed.reshape(packed_shape(values.shape, bits))


def unpack_codes(packed: Array, shape: tuple[int, ...], qtype: QType) -> Array:
    """The codes that `pack_codes` packed, in their shape and dtype."""
    _check_bits(qtype.bits)
    rows = np.atleast_1d(packed)
    last = shape[-1] if shape else 1
    codes = np.empty((*rows.shape[:-1], last), np.uint8)
    codes[..., 0::2] = rows & 15
    codes[..., 1::2] = (rows >> 4)[..., : last // 2]
    if qtype.signed:
        codes = (codes ^ 8) - np.uint8(8)  # the sign bit of 4, spread over the byte
    return codes.view(qtype.storage).reshape(shape)


def _check_bits(bits: int) -> None:
    if bits != 4:
        raise UnsupportedError(f"packing codes of {bits} bits is not supported yet")


# ---- reading -----------------------------------------------------------------------------------------------------


class _Stored(NamedTuple):
    """A QTensor of the file, as its description says; qtype None: a type that this version lacks."""

    dtype: str
    qtype: QType | None
    shape: tuple[int, ...]
    axis: int | None
    group_size: int | None


class TensorFile(Mapping[str, "Array | QTensor"]):
    """The tensors of a file, by the names they were saved under; a QTensor's parts are not listed on their own."""

    def __init__(self, path: Path, *, fd: int | None = None) -> None:
        self.file = SafetensorsFile(path, fd=fd)
        try:
            self.qlm = _parse_table(self.file)
            self.quantized = _read_table(self.file, self.qlm)
        except BaseException:
            self.file.close()
            raise
        hidden = {f"{name}_{suffix}" for name in self.quantized for suffix in _SUFFIXES}
        self._names = {name: None for name in self.file if name not in hidden}

    @property
    def path(self) -> str:
        """The file's path."""
        return self.file.path

    @property
    def metadata(self) -> dict[str, str]:
        """The file's metadata, without qlm's own."""
        return {key: text for key, text in self.file.metadata.items() if key != METADATA_KEY}

    def info(self, name: str) -> TensorInfo:
        """A tensor's type, shape and bytes, without reading it.  KeyError: no such tensor."""
        if name not in self._names:
            raise KeyError(name)
        stored = self.quantized.get(name)
        entry = self.file.entries[name]
        if stored is None:
            return TensorInfo(entry.dtype, entry.shape, entry.nbytes)
        keys = [name, *(f"{name}_{suffix}" for suffix in _SUFFIXES)]
        nbytes = sum(self.file.entries[key].nbytes for key in keys if key in self.file.entries)
        return TensorInfo(stored.dtype, stored.shape, nbytes, stored.axis, stored.group_size)

    def __getitem__(self, name: str) -> Array | QTensor:
        if name not in self._names:
            raise KeyError(name)
        stored = self.quantized.get(name)
        return self.file.read(name) if stored is None else self._read_quantized(name, stored)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __repr__(self) -> str:
        return f"TensorFile({self.path!r}, {len(self)} tensors, {len(self.quantized)} of them quantized)"

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; what was read stays.  Otherwise it is closed with the object."""
        self.file.close()

    def _read_quantized(self, name: str, stored: _Stored) -> QTensor:
        qtype = stored.qtype
        if qtype is None:
            raise UnsupportedError(f"{self.path}: {shown(name)} has codes of the type {stored.dtype}")
        codes = self.file.read(name)
        values = unpack_codes(codes, stored.shape, qtype) if qtype.bits < 8 else codes
        scale, zero, offset = (self._read_param(name, suffix) for suffix in _SUFFIXES)
        for suffix, part in (("scale", scale), ("offset", offset)):
            if part is not None and not np.isfinite(part).all():
                raise FormatError("a value that is not finite", file=self.path, key=f"{name}_{suffix}")
        if zero is not None and ((zero < qtype.min) | (zero > qtype.max)).any():
            raise FormatError(f"a zero point outside {qtype.name}", file=self.path, key=f"{name}_zero_point")
        return QTensor._make(values, qparams.Params(scale, zero, offset), qtype, stored.axis, stored.group_size)

    def _read_param(self, name: str, suffix: str) -> Any:
        key = f"{name}_{suffix}"
        return self.file.read(key)[()] if key in self.file.entries else None


def _parse_table(file: SafetensorsFile) -> dict[str, Any]:
    """The JSON object under the metadata's key "qlm", {} where there is none."""
    text = file.metadata.get(METADATA_KEY)
    if text is None:
        return {}
    try:
        value = strictjson.parse(text.encode(), file=file.path)
    except FormatError as error:  # its offset counts within the text, not the file
        raise FormatError(error.reason, file=file.path, key=METADATA_KEY) from None
    if not isinstance(value, dict) or "version" not in value:
        raise FormatError("the metadata of qlm are not an object with a version", file=file.path, key=METADATA_KEY)
    version = value["version"]
    if type(version) is not int or version < 1:
        raise FormatError(f"version must be an integer >= 1, got {shown(version)}", file=file.path, key=METADATA_KEY)
    if version > VERSION:
        raise UnsupportedError(f"{file.path}: written by a newer qlm (format version {version}, this one reads 1)")
    return value


def _read_table(file: SafetensorsFile, table: dict[str, Any]) -> dict[str, _Stored]:
    described = table.get("tensors", {})
    if not isinstance(described, dict):
        raise FormatError("the table of tensors is not an object", file=file.path, key=METADATA_KEY)
    return {name: _checked_stored(file, name, value) for name, value in described.items()}


def _checked_stored(file: SafetensorsFile, name: str, value: Any) -> _Stored:
    def refuse(reason: str) -> FormatError:
        return FormatError(reason, file=file.path, key=name)

    if name not in file.entries:
        raise refuse("qlm's metadata describe a tensor that the file does not hold")
    if not isinstance(value, dict) or not {"dtype", "shape", "axis", "group_size"} <= value.keys():
        raise refuse("qlm's metadata must give dtype, shape, axis and group_size")
    dtype, shape = value["dtype"], value["shape"]
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise refuse(f"shape must be a list of integers >= 0, got {shown(shape)}")
    if not isinstance(dtype, str):
        raise refuse(f"dtype must be text, got {shown(dtype)}")
    axis, group = value["axis"], value["group_size"]
    if axis is not None and not (type(axis) is int and 0 <= axis < len(shape)):
        raise refuse(f"axis must be null or within 0..{len(shape) - 1}, got {shown(axis)}")
    if group is not None and not (type(group) is int and group >= 1 and shape and axis is None):
        raise refuse(f"group_size must be null or at least 1, beside no axis, got {shown(group)}")
    try:
        qtype = dtypes.get(dtype)
    except UnsupportedError:
        return _Stored(dtype, None, tuple(shape), axis, group)
    except ValueError as error:
        raise refuse(str(error)) from None
    stored = _Stored(dtype, qtype, tuple(shape), axis, group)
    _check_parts(file, name, stored, qtype)
    return stored


def _check_parts(file: SafetensorsFile, name: str, stored: _Stored, qtype: QType) -> None:
    """Codes and parameters have the types and shapes that the description asks for."""
    entries, storage = file.entries, dtype_name(qtype.storage) or ""
    if qtype.bits < 8:
        _check_entry(file, name, ("U8",), packed_shape(stored.shape, qtype.bits))
    else:
        _check_entry(file, name, (storage,), stored.shape)
    params = params_shape(stored.shape, stored.axis, stored.group_size)
    types = {"scale": ("F32", "F16"), "zero_point": (storage,), "offset": ("F32",)}
    for suffix, allowed in types.items():
        key = f"{name}_{suffix}"
        if key in entries or suffix == "scale":
            _check_entry(file, key, allowed, params)
    if f"{name}_zero_point" in entries and f"{name}_offset" in entries:
        raise FormatError("both a zero point and an offset", file=file.path, key=name)
    if not qtype.signed and f"{name}_zero_point" not in entries and f"{name}_offset" not in entries:
        raise FormatError(f"{qtype.name} codes without a zero point or an offset", file=file.path, key=name)


def _check_entry(file: SafetensorsFile, key: str, types: tuple[str, ...], shape: tuple[int, ...]) -> None:
    entry: Entry | None = file.entries.get(key)
    if entry is None:
        raise FormatError("the tensor is missing", file=file.path, key=key)
    if entry.dtype not in types or entry.shape != shape:
        wanted = f"{' or '.join(types)} of shape {list(shape)}"
        raise FormatError(f"must be {wanted}, is {entry.dtype} of shape {list(entry.shape)}", file=file.path, key=key)
