"""Bad safetensors files, each named by what is wrong with it, and odd ones that must load."""

import gzip
import io
import json
import pickle
import random
import struct
import zipfile
from typing import Any

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DATA = struct.pack("<2f", 1.0, 2.0)


def file(header: bytes | str, data: bytes = b"", *, length: int | None = None) -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def one(data: bytes = DATA, **changes: Any) -> bytes:
    """A file of one tensor "a", with fields changed; a change to ... takes the field out."""
    fields = {key: value for key, value in {**F32, **changes}.items() if value is not ...}
    return file(json.dumps({"a": fields}), data)


def raw(fields: str, data: bytes = DATA) -> bytes:
    """The same with its fields spelled out."""
    return file('{"a":' + fields + "}", data)


def tensors(*ranges: tuple[int, int], data: int) -> bytes:
    """uint8 tensors over byte ranges of `data` bytes."""
    header = {
        f"t{i}": {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
        for i, (begin, end) in enumerate(ranges)
    }
    return file(json.dumps(header), bytes(data))


VALID = one()
_HEADER = VALID[8:-8]
_SPELLED = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


def _lengths() -> dict[str, bytes]:
    real = len(_HEADER)
    claims = {
        "length 0": 0,
        "length past the end by 1": real + len(DATA) + 1,
        "length 2**31": 2**31,
        "length 2**32 + the real one": 2**32 + real,
        "length 2**63": 2**63,
        "length 2**64 - 8, which wraps": 2**64 - 8,
        "length near 100 MB": 99_999_999,
        "length one short": real - 1,
        "length one long": real + 1,
    }
    cases = {name: struct.pack("<Q", claim) + VALID[8:] for name, claim in claims.items()}
    cases["length big-endian"] = struct.pack(">Q", real) + VALID[8:]
    cases["length prefix short"] = VALID[:7]
    cases["no byte at all"] = b""
    cases["nothing but the length"] = VALID[:8]
    return cases


def _tilings() -> dict[str, bytes]:
    return {
        "trailing byte": VALID + b"\0",
        "data missing": VALID[:-1],
        "trailing data without a tensor": file("{}", b"\0"),
        "hole in front": tensors((1, 4), data=4),
        "hole between": tensors((0, 2), (3, 4), data=4),
        "hole behind": tensors((0, 3), data=4),
        "overlap by a byte": tensors((0, 3), (2, 4), data=4),
        "the same range twice": tensors((0, 4), (0, 4), data=4),
        "one range inside another": tensors((0, 4), (1, 3), data=4),
        "ranges that start together": tensors((0, 2), (0, 4), data=4),
        "many tensors over one range": tensors(*[(0, 4)] * 1000, data=4),
        "empty tensor inside another": tensors((0, 4), (2, 2), data=4),
        "empty tensor past the end": tensors((0, 4), (5, 5), data=4),
    }


def _numbers() -> dict[str, bytes]:
    cases = {}
    wrong = {
        "negative": "-8",
        "a float": "8.0",
        "with an exponent": "8e0",
        "a string": '"8"',
        "null": "null",
        "a bool": "true",
        "past 64 bits": "18446744073709551624",
        "a list": "[8]",
    }
    for what, text in wrong.items():
        cases[f"offset {what}"] = raw(_SPELLED.replace("0,8", "0," + text))
        cases[f"dimension {what}"] = raw(_SPELLED.replace("[2]", f"[{text}]"))
    for field in F32:
        cases[f"{field} missing"] = one(**{field: ...})
        cases[f"{field} null"] = one(**{field: None})
        cases[f"{field} an object"] = one(**{field: {}})
    cases["offsets reversed"] = one(data_offsets=[8, 0])
    cases["one offset"] = one(data_offsets=[8])
    cases["three offsets"] = one(data_offsets=[0, 8, 8])
    cases["shape a number"] = one(shape=2)
    cases["shape too small"] = one(shape=[1])
    cases["shape too large"] = one(shape=[3])
    return cases


def _products() -> dict[str, bytes]:
    return {
        "elements wrap to 0": one(b"", shape=[2**32, 2**32], data_offsets=[0, 0]),
        "bytes wrap to 0": one(b"", shape=[2**62], data_offsets=[0, 0]),
        "bytes wrap to the real size": one(shape=[2**62 + 2]),
        "bits wrap to the real size": one(dtype="U8", shape=[2**61 + 8]),
        "65 dimensions": one(shape=[2] + [1] * 64),
        "huge and empty": one(b"", shape=[0, 2**63], data_offsets=[0, 0]),
        "huge strides and empty": one(b"", shape=[2**40, 0, 2**40], data_offsets=[0, 0]),
    }


def _types() -> dict[str, bytes]:
    return {
        "dtype unknown": one(dtype="F31"),
        "dtype in lower case": one(dtype="f32"),
        "dtype with a NUL": one(dtype="F32\0"),
        "dtype a number": one(dtype=32),
        "dtype empty": one(dtype=""),
        "3 elements of 4 bits": one(b"\0\0", dtype="F4", shape=[3], data_offsets=[0, 2]),
        "3 elements of 6 bits": one(b"\0\0\0", dtype="F6_E2M3", shape=[3], data_offsets=[0, 3]),
    }


def _duplicates() -> dict[str, bytes]:
    empty = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return {
        "duplicate name": file(f'{{"a":{empty},"a":{empty}}}'),
        "duplicate name by an escape": file(f'{{"a":{empty},"\\u0061":{empty}}}'),
        "duplicate field": raw(_SPELLED[:-1] + ',"dtype":"F32"}'),
        "duplicate field in an unknown one": raw(_SPELLED[:-1] + ',"x":{"y":1,"y":1}}'),
        "duplicate metadata": file('{"__metadata__":{},"__metadata__":{}}'),
        "duplicate metadata key": file('{"__metadata__":{"k":"1","k":"2"}}'),
    }


def _texts() -> dict[str, bytes]:
    def named(name: bytes) -> bytes:
        return file(b'{"' + name + b'":' + _SPELLED.encode() + b"}", DATA)

    return {
        "name not UTF-8": named(b"\xff"),
        "name cut inside a character": named(b"\xe2\x82"),
        "name overlong": named(b"\xc0\x80"),
        "name with a surrogate": named(b"\xed\xa0\x80"),
        "name with an escaped high surrogate": named(b"\\ud800"),
        "name with an escaped low surrogate": named(b"\\uDFFF"),
        "metadata with a lone surrogate": file('{"__metadata__":{"k":"\\ud800x"}}'),
        "name with a raw newline": named(b"\n"),
        "name with a raw NUL": named(b"\0"),
        "byte order mark": file(b"\xef\xbb\xbf" + _HEADER, DATA),
        "UTF-16": file(_HEADER.decode().encode("utf-16-le"), DATA),
        "UTF-16 with a mark": file(_HEADER.decode().encode("utf-16"), DATA),
        "NUL padding": file(_HEADER + b"\0\0", DATA),
        "space in front": file(b" " + _HEADER, DATA),
    }


_GRAMMAR = {
    "comma behind the last": '{"a":1,}',
    "comma missing": '{"a":1 "b":2}',
    "colon missing": '{"a" 1}',
    "value missing": '{"a":}',
    "key missing": "{:1}",
    "key a number": "{1:1}",
    "key without quotes": "{a:1}",
    "single quotes": "{'a':1}",
    "comment": "{/**/}",
    "unterminated object": '{"a":1',
    "unterminated string": '{"a',
    "unterminated escape": '{"a\\',
    "unterminated list": '{"a":[1',
    "closing bracket of the other kind": '{"a":[1}}',
    "two values": "{} {}",
    "text behind": "{}x",
    "unknown escape": '{"\\x41":1}',
    "short escape": '{"\\u12":1}',
    "escape that is no hex": '{"\\u12g4":1}',
    "NaN": '{"x":NaN}',
    "Infinity": '{"x":Infinity}',
    "-Infinity": '{"x":-Infinity}',
    "a number that overflows": '{"x":1e999}',
    "leading zero": '{"x":01}',
    "leading plus": '{"x":+1}',
    "no digit before the point": '{"x":.5}',
    "no digit behind the point": '{"x":1.}',
    "hexadecimal": '{"x":0x10}',
    "a number of 10 000 digits": '{"x":' + "9" * 10_000 + "}",
    "True": '{"x":True}',
    "an object cut open": "{",
    "17 levels": '{"x":' + "[" * 16 + "]" * 16 + "}",
    "100 000 lists": '{"x":' + "[" * 100_000 + "]" * 100_000 + "}",
    "100 000 objects": '{"x":' * 100_000 + "1" + "}" * 100_000,
    "100 000 lists never closed": '{"x":' + "[" * 100_000,
    "17 levels in an unknown field": '{"a":' + _SPELLED[:-1] + ',"x":' + "[" * 15 + "]" * 15 + "}}",
    "100 000 escaped quotes, unterminated": '{"' + '\\"' * 100_000,
}


def _shapes() -> dict[str, bytes]:
    values = {"null": "null", "a number": "1", "text": '"x"', "a list": "[]", "true": "true"}
    cases = {f"tensor described by {what}": raw(text) for what, text in values.items()}
    cases |= {f"metadata {what}": file(f'{{"__metadata__":{text}}}') for what, text in values.items()}
    values = {**values, "an object": "{}"}
    del values["text"]
    cases |= {f"metadata value {what}": file(f'{{"__metadata__":{{"k":{text}}}}}') for what, text in values.items()}
    return cases


def _archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 100)
    return buffer.getvalue()


# Files of another kind, and a word that their error must say.
OTHER_KINDS: dict[str, tuple[bytes, str]] = {
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64, "git lfs pull"),
    "HTML page": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "HTML"),
    "HTML page without a doctype": (b"\n<html><body>Not found</body></html>", "HTML"),
    "zip archive": (_archive(), "zip"),
    "gzip archive": (gzip.compress(VALID), "gzip"),
    "text": (b"# A title\n\nand some lines.\n", "not a safetensors file: a text file"),
    "text cut inside a character": (b"ab" + "\u91cf".encode() * 30, "a text file"),
    "random bytes": (random.Random(1).randbytes(3000), "not a safetensors file: its first 8 bytes"),
    "all zeros": (bytes(4096), "zeros"),
    "JSON file": (b'{"weight_map": {}, "metadata": {}}', "JSON"),
    **{f"pickle of protocol {p}": (pickle.dumps({"a": 1}, p), "pickle") for p in range(2, 6)},
}

CASES: dict[str, bytes] = {
    **_lengths(),
    **_tilings(),
    **_numbers(),
    **_products(),
    **_types(),
    **_duplicates(),
    **_texts(),
    **{f"JSON: {name}": file(text) for name, text in _GRAMMAR.items()},
    **_shapes(),
    **{name: data for name, (data, _) in OTHER_KINDS.items()},
}


def many(count: int) -> bytes:
    header = {f"layer.{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(count)}
    return file(json.dumps(header), bytes(count))


def many_metadata(count: int) -> bytes:
    return file(json.dumps({"__metadata__": {f"key {i}": str(i) for i in range(count)}}))


def _two(first: str, second: str) -> bytes:
    return file("{" + first + "," + second + "}", DATA + b"\x07")


_BYTE = '"b":{"dtype":"U8","shape":[],"data_offsets":[8,9]}'

CONTROLS: dict[str, bytes] = {
    "plain": VALID,
    "padded with spaces": file(_HEADER + b" " * 13, DATA),
    "no tensor": file("{}"),
    "metadata alone": file('{"__metadata__":{"k":"v"}}'),
    "0-d": one(DATA[:4], shape=[], data_offsets=[0, 4]),
    "empty": one(b"", shape=[0, 3], data_offsets=[0, 0]),
    "empty tensors that share an offset": tensors((0, 2), (2, 2), (2, 2), (2, 4), (4, 4), data=4),
    "tensors out of order": tensors((2, 4), (0, 2), data=4),
    "fields out of order": raw('{"data_offsets":[0,8],"shape":[2],"dtype":"F32"}'),
    "unknown field": raw(_SPELLED[:-1] + ',"x":[{"y":null}]}'),
    "spaces and newlines": raw(_SPELLED.replace(",", " ,\n\t")),
    "escapes in a name": file('{"\\u00e9\\n\\"\\\\\\ud83d\\ude00":' + _SPELLED + "}", DATA),
    "NaN data": one(struct.pack("<2f", float("nan"), float("inf"))),
    "data at odd offsets": file('{"a":' + _SPELLED + "} ", DATA),
    "tensor behind another": _two('"a":' + _SPELLED, _BYTE),
    "64 dimensions": one(DATA[:4], shape=[1] * 64, data_offsets=[0, 4]),
    "16 levels": raw(_SPELLED[:-1] + ',"x":' + "[" * 14 + "]" * 14 + "}"),
    "9000 tensors": many(9000),
}
