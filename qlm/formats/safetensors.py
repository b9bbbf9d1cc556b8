"""safetensors files: a strict lazy reader and a writer.

    u64 N (little endian) | N bytes of JSON: {name: {"dtype", "shape", "data_offsets": [begin, end]}} | data

The JSON starts with "{", may be padded with spaces, and may hold {"__metadata__": {text: text}}.  Offsets count from
the data's start; sorted, the tensors tile the data with no hole and no overlap.  Elements are row-major, little endian.

A file is hostile until it has passed every check; no length that it claims is used before it was compared with the
file's size.  Data is read with pread, never mapped: a file that shrinks ends in an OSError.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import FormatError, UnsupportedError, shown
from . import strictjson
from .paths import path_text

Array = npt.NDArray[Any]
Path = str | os.PathLike[str]

MAX_HEADER = 100_000_000
_MAX_DIMS = 64
_MAX_BYTES = 2**63 - 1
_CHUNK = 64 << 20

# Bits of an element, and the name NumPy or ml_dtypes has for it; None: qlm can list such a tensor, not read it.
_DTYPES: dict[str, tuple[int, str | None]] = {
    "F64": (64, "float64"),
    "F32": (32, "float32"),
    "F16": (16, "float16"),
    "BF16": (16, "bfloat16"),
    "I64": (64, "int64"),
    "I32": (32, "int32"),
    "I16": (16, "int16"),
    "I8": (8, "int8"),
    "U64": (64, "uint64"),
    "U32": (32, "uint32"),
    "U16": (16, "uint16"),
    "U8": (8, "uint8"),
    "BOOL": (8, "bool"),
    "C64": (64, "complex64"),
    "F8_E4M3": (8, "float8_e4m3fn"),
    "F8_E5M2": (8, "float8_e5m2"),
    "F8_E8M0": (8, "float8_e8m0fnu"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
    "F6_E2M3": (6, None),
    "F6_E3M2": (6, None),
    "F4": (4, None),
}
_NAMES = {numpy_name: name for name, (_, numpy_name) in _DTYPES.items() if numpy_name is not None}


class Entry(NamedTuple):
    """Where a tensor stands in its file: bytes begin..end of the file, elements of the format's type `dtype`."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.end - self.begin


class SafetensorsFile(Mapping[str, Array]):
    """The tensors of a safetensors file by name, each read when it is asked for, as an array of its own.

    fd: an open descriptor of the file, which this object then owns; `path` is its name in messages.
    FormatError: not such a file.  UnsupportedError: a GGUF file, or (when it is read) a tensor of a type that NumPy
    and ml_dtypes lack.  OSError: the system's.
    """

    def __init__(self, path: Path, *, fd: int | None = None) -> None:
        self.path = path_text(path)
        self._fd = _open(self.path) if fd is None else fd
        self._close = weakref.finalize(self, os.close, self._fd)
        try:
            self.entries, self.metadata = _read_header(self.path, self._fd)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Array:
        return self.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, {len(self)} tensors)"

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; what was read stays.  Otherwise it is closed with the object."""
        self._close()

    def read(self, name: str) -> Array:
        """The tensor `name`, native byte order, writable.  KeyError: no such tensor."""
        entry = self.entries[name]
        if not self._close.alive:
            raise ValueError(f"{self.path} is closed")
        dtype = _numpy_dtype(entry.dtype, self.path, name)
        raw = np.empty(entry.nbytes, np.uint8)
        _read_exactly(self.path, self._fd, raw.data, entry.begin)
        if entry.dtype == "BOOL" and (raw > 1).any():
            at = entry.begin + int(np.argmax(raw > 1))
            raise FormatError("a boolean other than 0 and 1", file=self.path, key=name, offset=at)
        array = raw.view(dtype)
        if sys.byteorder == "big":
            array = array.byteswap()
        try:
            return array.reshape(entry.shape)
        except ValueError:  # NumPy 1 stops at 32 dimensions
            raise UnsupportedError(f"{self.path}: {name!r} has {len(entry.shape)} dimensions") from None


def _numpy_dtype(name: str, path: str, tensor: str) -> np.dtype[Any]:
    numpy_name = _DTYPES[name][1]
    if numpy_name is not None and not numpy_name.startswith(("bfloat", "float8")):
        return np.dtype(numpy_name)
    import ml_dtypes

    found: Any = getattr(ml_dtypes, numpy_name or "", None)
    if found is None:
        raise UnsupportedError(f"{path}: {shown(tensor)} has the type {name}, which qlm does not read")
    dtype: np.dtype[Any] = np.dtype(found)
    return dtype


# ---- opening -----------------------------------------------------------------------------------------------------


def _open(path: str) -> int:
    """A descriptor of the regular file `path`.  Never waits for the other end of a pipe."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "not a regular file", path)


def _read_exactly(path: str, fd: int, view: memoryview, offset: int) -> None:
    while view.nbytes:
        count = os.preadv(fd, [view[:_CHUNK]], offset)
        if count == 0:
            raise OSError(errno.EIO, "the file shrank while it was read", path)
        view, offset = view[count:], offset + count


def _read_bytes(path: str, fd: int, count: int, offset: int) -> bytes:
    data = bytearray(count)
    _read_exactly(path, fd, memoryview(data), offset)
    return bytes(data)


def _read_header(path: str, fd: int) -> tuple[dict[str, Entry], dict[str, str]]:
    size = os.fstat(fd).st_size
    head = _read_bytes(path, fd, min(size, 64), 0)
    try:
        return _parse_header(path, fd, size, head)
    except FormatError:
        _explain(path, head)
        raise


def _parse_header(path: str, fd: int, size: int, head: bytes) -> tuple[dict[str, Entry], dict[str, str]]:
    if size < 8:
        raise FormatError(f"not a safetensors file: {size} bytes, shorter than its length prefix", file=path, offset=0)
    length = int.from_bytes(head[:8], "little")
    if length > max(size - 8, MAX_HEADER):
        reason = f"not a safetensors file: its first 8 bytes, a header's length in such a file, say {length}"
        raise FormatError(reason, file=path, offset=0)
    if length > size - 8:
        reason = f"the header claims {length} bytes, {size - 8} are left in the file"
        raise FormatError(reason, file=path, offset=0)
    if length > MAX_HEADER:
        raise FormatError(f"the header claims {length} bytes, at most {MAX_HEADER} are allowed", file=path, offset=0)
    text = _read_bytes(path, fd, length, 8).rstrip(b" ")
    if not text.startswith(b"{"):
        raise FormatError("the header does not start with '{'", file=path, offset=8)
    header = strictjson.parse(text, file=path, offset=8)
    if not isinstance(header, dict):
        raise FormatError("the header is not a JSON object", file=path, offset=8)
    metadata = _metadata(path, header.pop("__metadata__", {}))
    entries = {name: _entry(path, name, value, 8 + length, size) for name, value in header.items()}
    _check_tiling(path, entries, 8 + length, size)
    return entries, metadata


def _metadata(path: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise FormatError("the metadata are not a JSON object", file=path, key="__metadata__")
    for key, text in value.items():
        if not isinstance(text, str):
            raise FormatError(f"metadata must be text, {shown(key)} is {shown(text)}", file=path, key="__metadata__")
    return value


def _entry(path: str, name: str, value: object, start: int, size: int) -> Entry:
    """Checks one tensor's description; `start` is where the data begin, `size` the file's length."""
    if not isinstance(value, dict):
        raise FormatError(f"a tensor must be described by a JSON object, got {shown(value)}", file=path, key=name)
    for field in ("dtype", "shape", "data_offsets"):
        if field not in value:
            raise FormatError(f"{field} is missing", file=path, key=name)
    dtype = value["dtype"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FormatError(f"unknown dtype {shown(dtype)}", file=path, key=name)
    shape = _integers(path, name, "shape", value["shape"])
    offsets = _integers(path, name, "data_offsets", value["data_offsets"])
    if len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1] <= size - start:
        reason = f"data_offsets must be begin <= end within the data's {size - start} bytes, got {shown(list(offsets))}"
        raise FormatError(reason, file=path, key=name)
    claimed = _bytes_of(path, name, dtype, shape)
    begin, end = offsets
    if claimed != end - begin:
        reason = f"{dtype} of shape {shown(list(shape))} takes {claimed} bytes, data_offsets span {end - begin}"
        raise FormatError(reason, file=path, key=name)
    return Entry(dtype, shape, start + begin, start + end)


def _integers(path: str, name: str, field: str, value: object) -> tuple[int, ...]:
    # type(), not isinstance(): JSON's true is no number
    if isinstance(value, list):
        for n in value:
            if type(n) is not int or n < 0:
                break
        else:
            return tuple(value)
    raise FormatError(f"{field} must be a list of integers >= 0, got {shown(value)}", file=path, key=name)


def _bytes_of(path: str, name: str, dtype: str, shape: tuple[int, ...]) -> int:
    """The bytes that a shape takes.  Python's integers do not wrap; what no machine could hold is refused."""
    if len(shape) > _MAX_DIMS:
        raise FormatError(f"{len(shape)} dimensions, at most {_MAX_DIMS} are allowed", file=path, key=name)
    bits, strides = _DTYPES[dtype][0], 1
    for n in shape:
        bits *= n
        strides *= max(n, 1)  # of an empty array too: NumPy computes its strides
    if strides * 8 > _MAX_BYTES:
        raise FormatError(f"the shape {shown(list(shape))} is too large", file=path, key=name)
    if bits % 8:
        raise FormatError(f"{dtype} of shape {shown(list(shape))} does not fill whole bytes", file=path, key=name)
    return bits // 8


def _check_tiling(path: str, entries: dict[str, Entry], start: int, size: int) -> None:
    at = start
    for begin, end, name in sorted((entry.begin, entry.end, name) for name, entry in entries.items()):
        if begin != at:
            what = "overlaps the one before it" if begin < at else f"leaves a hole of {begin - at} bytes"
            raise FormatError(f"the tensor {what}", file=path, key=name, offset=begin)
        at = end
    if at != size:
        raise FormatError(f"{size - at} bytes behind the last tensor", file=path, offset=at)


_HINTS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: `git lfs pull` fetches it"),
    (b"PK\x03\x04", "a zip archive (PyTorch's .bin and .pt files are such); qlm reads no pickles: convert it"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"{", "a JSON file"),
    *((bytes([0x80, protocol]), "a Python pickle, which qlm does not read: convert it") for protocol in range(2, 6)),
)


def _explain(path: str, head: bytes) -> None:
    """Raises the error that says what a file is, where its first bytes tell that it is something else."""
    if head[8:9] == b"{":
        return
    if head.startswith(b"GGUF"):
        raise UnsupportedError(f"{path}: a GGUF file; this version of qlm reads safetensors files")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise FormatError("not a safetensors file: an HTML page, not the file itself", file=path, offset=0)
    if head and not any(head):
        raise FormatError("not a safetensors file: it begins with zeros, as unfinished copies do", file=path, offset=0)
    for magic, hint in _HINTS:
        if head.startswith(magic):
            raise FormatError(f"not a safetensors file: {hint}", file=path, offset=0)
    if _is_text(head):
        raise FormatError("not a safetensors file: a text file", file=path, offset=0)


def _is_text(head: bytes) -> bool:
    """Printable, as the eight bytes of a length that fits in a file never are."""
    text = head.decode("utf-8", "ignore")
    return len(head) >= 8 and len(text.encode()) > len(head) - 4 and all(c.isprintable() or c.isspace() for c in text)


# ---- writing -----------------------------------------------------------------------------------------------------


class Sink(Protocol):
    """What a file is written into: an open binary file, or atomic.Writer."""

    def write(self, data: memoryview, /) -> object:
        """Takes all of the bytes."""


class Part(NamedTuple):
    """A tensor to be written: its type and shape, and the function that makes its data when their turn comes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    make: Callable[[], Array]

    @classmethod
    def of(cls, array: Array) -> Part:
        """Of an array that is there already."""
        return cls(array.dtype, array.shape, lambda: array)


def dtype_name(dtype: np.dtype[Any]) -> str | None:
    """The format's name of a NumPy or ml_dtypes type; None: it has none."""
    return _NAMES.get(dtype.name)


def write(sink: Sink, parts: Mapping[str, Part], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file, tensor by tensor.

    Tensors stand in falling order of element size, then by name, so that each is aligned and equal content makes
    equal files.  TypeError: a name or metadata that are not text, a dtype that the format lacks.  ValueError: a name
    or text that UTF-8 cannot hold, a header past the format's limit.
    """
    for name, part in parts.items():
        if dtype_name(part.dtype) is None:
            raise TypeError(f"tensors: {shown(name)} has the dtype {part.dtype}, which safetensors files cannot hold")
    order = sorted(parts, key=lambda name: (-parts[name].dtype.itemsize, name))
    header = _header(order, parts, dict(metadata or {}))
    sink.write(memoryview(len(header).to_bytes(8, "little") + header))
    for name in order:
        sink.write(_little_endian(parts[name].make()))


def _header(order: Iterable[str], parts: Mapping[str, Part], metadata: dict[str, str]) -> bytes:
    fields: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name in order:
        dtype, shape, _ = parts[name]
        end = at + dtype.itemsize * int(np.prod(shape, dtype=object))
        fields[name] = {"dtype": dtype_name(dtype), "shape": list(shape), "data_offsets": [at, end]}
        at = end
    try:
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"names and metadata must be valid Unicode, got {shown(error.object)}") from None
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"the names and metadata take {len(text)} bytes, the format allows {MAX_HEADER}")
    return text


def _little_endian(array: Array) -> memoryview:
    flat = np.ascontiguousarray(array).reshape(-1)
    order = flat.dtype.byteorder
    if order == ">" or (order == "=" and sys.byteorder == "big"):
        flat = flat.byteswap()
    return flat.view(np.uint8).data
