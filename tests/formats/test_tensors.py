"""save_tensors and tensors: arrays and QTensors bit for bit, readable by the safetensors library, strict in reading."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import qlm
from qlm import QTensor, dtypes
from qlm.formats.tensors import pack_codes, unpack_codes

TYPES = tuple(dtypes.TYPES)


@st.composite
def qtensors(draw: Any) -> QTensor:
    qtype = dtypes.get(draw(st.sampled_from(TYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6))
    values = draw(hnp.arrays(qtype.storage, shape, elements=st.integers(qtype.min, qtype.max)))
    kinds: list[dict[str, int]] = [{}]
    if shape:
        kinds += [{"axis": draw(st.integers(0, len(shape) - 1))}, {"group_size": draw(st.integers(1, 7))}]
    options = draw(st.sampled_from(kinds))
    params = np.shape(qlm.quantize(values, qtype.name, **options).scale)
    numbers = st.floats(-100, 100, width=16)
    scale = draw(hnp.arrays(draw(st.sampled_from([np.float16, np.float32])), params, elements=numbers))
    zero = draw(st.none() | hnp.arrays(qtype.storage, params, elements=st.integers(qtype.min, qtype.max)))
    offset = draw(st.none() | hnp.arrays(np.float32, params, elements=numbers)) if zero is None else None
    return QTensor.from_parts(values, scale, zero, offset=offset, dtype=qtype.name, **options)


@given(st.dictionaries(st.sampled_from("abc"), qtensors() | hnp.arrays(np.float32, 3), max_size=3))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("tensors") / "f"
    qlm.save_tensors(path, tensors, metadata={"made": "by a test"})
    with qlm.tensors(path) as file:
        assert file.keys() == tensors.keys()
        assert file.metadata == {"made": "by a test"}
        for name, tensor in tensors.items():
            read = file[name]
            if isinstance(tensor, QTensor):
                assert read == tensor
                assert file.info(name)[:3] == (tensor.dtype, tensor.shape, tensor.nbytes)
            else:
                assert read.tobytes() == tensor.tobytes()
    assert path.stat().st_size >= sum(tensor.nbytes for tensor in tensors.values())


@given(st.sampled_from(["int4", "uint4"]), st.data())
def test_packing_of_4_bits(dtype: str, data: st.DataObject) -> None:
    qtype = dtypes.get(dtype)
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    values = data.draw(hnp.arrays(qtype.storage, shape, elements=st.integers(qtype.min, qtype.max)))
    packed = pack_codes(values, 4)
    assert packed.dtype == np.uint8
    assert packed.nbytes == math.prod(shape[:-1]) * ((shape[-1] + 1) // 2 if shape else 1)
    np.testing.assert_array_equal(unpack_codes(packed, shape, qtype), values)
    assert unpack_codes(packed, shape, qtype).dtype == qtype.storage


def test_low_bits_come_first_and_rows_fill_bytes() -> None:
    packed = pack_codes(np.array([[1, 2, -1], [-8, 7, 0]], np.int8), 4)
    assert packed.tolist() == [[0x21, 0x0F], [0x78, 0x00]]


def test_the_library_reads_the_parts(tmp_path: Path) -> None:
    q = qlm.quantize(np.arange(12.0).reshape(3, 4), "uint4", axis=0)
    qlm.save_tensors(tmp_path / "f", {"w": q, "b": np.ones(2)})
    plain = safetensors.numpy.load_file(tmp_path / "f")
    assert plain.keys() == {"w", "w_scale", "w_zero_point", "b"}
    np.testing.assert_array_equal(plain["w"], pack_codes(q.values, 4))
    np.testing.assert_array_equal(plain["w_scale"], q.scale)
    np.testing.assert_array_equal(plain["w_zero_point"], q.zero_point)
    with safetensors.safe_open(tmp_path / "f", "np") as file:
        table = json.loads(file.metadata()["qlm"])
    entry = {"dtype": "uint4", "shape": [3, 4], "axis": 0, "group_size": None}
    assert table == {"version": 1, "tensors": {"w": entry}}


def test_arrays_alone_need_no_table(tmp_path: Path) -> None:
    x = np.arange(6, dtype=">i4").reshape(2, 3).T
    qlm.save_tensors(tmp_path / "f", {"x": x, "h": np.ones(2, ml_dtypes.bfloat16), "list": [1.0, 2.0]})
    with safetensors.safe_open(tmp_path / "f", "np") as file:
        assert file.metadata() is None
    file = qlm.tensors(tmp_path / "f")
    assert file["x"].dtype == np.int32
    np.testing.assert_array_equal(file["x"], x)
    assert file["h"].dtype == ml_dtypes.bfloat16


def test_the_mapping(tmp_path: Path) -> None:
    q = qlm.quantize([1.0, 2.0])
    qlm.save_tensors(tmp_path / "f", {"w": q, "w_other": np.ones(1)})
    with qlm.tensors(tmp_path / "f") as file:
        assert (sorted(file), len(file), "w" in file, "w_scale" in file) == (["w", "w_other"], 2, True, False)
        with pytest.raises(KeyError):
            file["w_scale"]
        with pytest.raises(KeyError):
            file.info("w_scale")
        assert "2 tensors, 1 of them quantized" in repr(file)
        assert file.info("w_other") == ("F64", (1,), 8, None, None)
    with pytest.raises(ValueError, match="closed"):
        file["w"]


def test_a_save_replaces_the_file_or_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    qlm.save_tensors(path, {"a": np.ones(2)})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        qlm.save_tensors(path, {"a": np.array(["x"])})
    assert path.read_bytes() == before
    qlm.save_tensors(path, qlm.tensors(path))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


ONE = np.ones(1)


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "words"),
    [
        ([ONE], None, TypeError, "tensors must be a mapping"),
        ({1: ONE}, None, TypeError, "names must be text, got 1"),
        ({"__metadata__": ONE}, None, ValueError, "'__metadata__' cannot be a tensor's name"),
        ({"a": None}, None, TypeError, "'a' has the dtype object"),
        ({"a": "x"}, None, TypeError, "'a' has the dtype <U1"),
        ({"a": qlm.quantize(ONE), "a_scale": ONE}, None, ValueError, "'a_scale' is both"),
        ({"a_scale": ONE, "a": qlm.quantize(ONE)}, None, ValueError, "'a_scale' is both"),
        ({"a": qlm.quantize(ONE), "a_offset": np.float32(1)}, None, ValueError, "'a_offset' is both"),
        ({"a_zero_point": np.int8(1), "a": qlm.quantize(ONE)}, None, ValueError, "'a_zero_point' is both"),
        ({"a": ONE}, {"k": 1}, TypeError, "metadata must be text, got 'k': 1"),
        ({"a": ONE}, [("k", "v")], TypeError, "metadata must be a mapping"),
        ({"a": ONE}, {"qlm": "{}"}, ValueError, "the key 'qlm' is qlm's own"),
        ({"\ud800": ONE}, None, ValueError, "valid Unicode"),
    ],
)
def test_what_cannot_be_saved(tmp_path: Path, tensors: Any, metadata: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        qlm.save_tensors(tmp_path / "f", tensors, metadata=metadata)
    assert list(tmp_path.iterdir()) == []


# ---- malformed tables ----------------------------------------------------------------------------------------------


def uint4_file(change: Callable[[dict[str, np.ndarray], dict[str, Any]], Any]) -> bytes:
    """A saved uint4 tensor "w" [2, 5] with a scale for each row, after `change` of its parts and its table's entry."""
    parts = {
        "w": np.zeros((2, 3), np.uint8),
        "w_scale": np.ones(2, np.float32),
        "w_zero_point": np.full(2, 8, np.uint8),
    }
    entry: dict[str, Any] = {"dtype": "uint4", "shape": [2, 5], "axis": 0, "group_size": None}
    text = change(parts, entry)
    if text is None:
        text = json.dumps({"version": 1, "tensors": {"w": entry}})
    return safetensors.numpy.save(parts, {"qlm": text if isinstance(text, str) else json.dumps(text)})


def put(key: str, value: Any) -> Callable[..., Any]:
    return lambda parts, entry: (parts if key in parts or key.startswith("w") else entry).__setitem__(key, value)


def table(value: Any) -> Callable[..., Any]:
    return lambda parts, entry: value


def unchanged(parts: Any, entry: Any) -> None:
    return None


def dropped(key: str) -> Callable[..., Any]:
    def change(parts: dict[str, np.ndarray], entry: dict[str, Any]) -> None:
        del (parts if key in parts else entry)[key]

    return change


F32 = np.float32
MALFORMED: dict[str, Callable[..., Any]] = {
    "table not JSON": table("{"),
    "table a list": table([]),
    "table with a duplicate key": table('{"version":1,"version":1}'),
    "table nested too deep": table('{"version":1,"x":' + "[" * 17 + "]" * 17 + "}"),
    "version missing": table({"tensors": {}}),
    "version text": table({"version": "1"}),
    "version true": table({"version": True}),
    "version 0": table({"version": 0}),
    "tensors a list": table({"version": 1, "tensors": []}),
    "entry null": table({"version": 1, "tensors": {"w": None}}),
    "entry of an absent tensor": table({"version": 1, "tensors": {"v": {}}}),
    **{f"{key} missing": dropped(key) for key in ("dtype", "shape", "axis", "group_size", "w_scale", "w_zero_point")},
    "dtype unknown": put("dtype", "float4"),
    "dtype a number": put("dtype", 4),
    "shape too long a row": put("shape", [2, 7]),
    "shape too short a row": put("shape", [2, 4]),
    "shape of other rows": put("shape", [3, 5]),
    "shape negative": put("shape", [-2, 5]),
    "shape a bool": put("shape", [True, 5]),
    "shape text": put("shape", "2"),
    "axis out of range": put("axis", 2),
    "axis negative": put("axis", -1),
    "axis a float": put("axis", 0.0),
    "axis of the wrong length": put("axis", 1),
    "axis and group": put("group_size", 2),
    "group 0": lambda parts, entry: entry.update(axis=None, group_size=0),
    "group of the wrong number": lambda parts, entry: entry.update(axis=None, group_size=2),
    "codes of another type": put("w", np.zeros((2, 3), np.int8)),
    "codes of another shape": put("w", np.zeros((3, 2), np.uint8)),
    "scale of another type": put("w_scale", np.ones(2)),
    "scale of another shape": put("w_scale", np.ones((2, 1), F32)),
    "zero point of another type": put("w_zero_point", np.zeros(2, np.int8)),
    "zero point of another shape": put("w_zero_point", np.zeros(3, np.uint8)),
    "zero point and offset": put("w_offset", np.zeros(2, F32)),
}
BAD_VALUES: dict[str, Callable[..., Any]] = {
    "scale NaN": put("w_scale", np.array([1, np.nan], F32)),
    "scale infinite": put("w_scale", np.array([-np.inf, 1], F32)),
    "zero point past 4 bits": put("w_zero_point", np.array([8, 16], np.uint8)),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_bad_table_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(uint4_file(MALFORMED[name]))
    with pytest.raises(qlm.FormatError) as caught:
        qlm.tensors(path)
    assert str(path) in str(caught.value)
    assert caught.value.key is not None or caught.value.offset is not None


@pytest.mark.parametrize("name", BAD_VALUES)
def test_bad_values_are_refused_when_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(uint4_file(BAD_VALUES[name]))
    with qlm.tensors(path) as file, pytest.raises(qlm.FormatError) as caught:
        file["w"]
    assert str(caught.value.key).startswith("w_")


def test_the_unchanged_file_loads_and_odd_scales_too(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(uint4_file(unchanged))
    assert qlm.tensors(path)["w"].shape == (2, 5)
    path.write_bytes(uint4_file(put("w_scale", np.array([-1, 0], F32))))
    np.testing.assert_array_equal(qlm.tensors(path)["w"].dequantize(), [[8] * 5, [0] * 5])


def test_what_a_later_version_may_write(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(uint4_file(table({"version": 2})))
    with pytest.raises(qlm.UnsupportedError, match="newer qlm"):
        qlm.tensors(path)
    path.write_bytes(uint4_file(put("dtype", "nf4")))
    with qlm.tensors(path) as file:
        assert file.info("w").dtype == "nf4"
        with pytest.raises(qlm.UnsupportedError, match="nf4"):
            file["w"]


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [(None, TypeError, "path must be a string or a path, got None"), ("a\0b", ValueError, "path must not hold a NUL")],
)
def test_a_path_that_is_none_is_named(path: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        qlm.tensors(path)
    with pytest.raises(error, match=words):
        qlm.save_tensors(path, {})
