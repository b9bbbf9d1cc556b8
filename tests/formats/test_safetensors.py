"""The safetensors reader and writer: both ways through the safetensors library, laziness, faults."""

import errno
import gc
import io
import os
import threading
from collections.abc import Iterator, Sequence
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
from layouts import lay_out, layouts

import qlm
from qlm.formats import safetensors as module
from qlm.formats.safetensors import Part, SafetensorsFile, write

NUMPY_TYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", "c8")
ML_TYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu")


def written(arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    sink = io.BytesIO()
    write(sink, {name: Part.of(array) for name, array in arrays.items()}, metadata)
    return sink.getvalue()


def stored(path: Path, data: bytes) -> SafetensorsFile:
    path.write_bytes(data)
    return SafetensorsFile(path)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype.newbyteorder("="), b.shape, b.astype(a.dtype).tobytes())


@st.composite
def arrays(draw: Any) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from(NUMPY_TYPES)))
    x = draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
    return np.asarray(lay_out(x, draw(layouts())))


names = st.text(max_size=8).filter(lambda name: name != "__metadata__")


@given(
    st.dictionaries(names, arrays(), max_size=4), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
)
def test_what_is_written_is_read_by_both(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("written") / "f"
    data = written(tensors, metadata)
    theirs = safetensors.numpy.load(data)
    with stored(path, data) as mine:
        assert mine.keys() == theirs.keys() == tensors.keys()
        assert mine.metadata == metadata
        for name, array in tensors.items():
            assert same(mine[name], array)
            assert same(theirs[name], array)
            assert mine[name].flags.writeable
            assert mine[name].flags.aligned


@given(st.dictionaries(names, arrays(), max_size=4))
def test_what_the_library_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, np.ndarray]
) -> None:
    plain = {name: np.ascontiguousarray(x).reshape(x.shape) for name, x in tensors.items()}
    data = safetensors.numpy.save(plain, {"format": "np"})
    with stored(tmp_path_factory.mktemp("theirs") / "f", data) as mine:
        assert mine.metadata == {"format": "np"}
        assert mine.keys() == tensors.keys()
        assert all(same(mine[name], array) for name, array in tensors.items())


@pytest.mark.parametrize("name", ML_TYPES)
def test_types_of_ml_dtypes(tmp_path: Path, name: str) -> None:
    dtype = getattr(ml_dtypes, name, None)
    if dtype is None:
        pytest.skip(f"this ml_dtypes has no {name}")
    x = np.arange(256, dtype=np.uint8).repeat(np.dtype(dtype).itemsize).view(dtype).reshape(4, 64)
    with stored(tmp_path / "f", written({"x": x})) as file:
        assert file["x"].dtype == dtype
        assert file["x"].tobytes() == x.tobytes()


def test_equal_content_makes_equal_files() -> None:
    a, b = np.ones(3), np.ones((2, 2), np.int8)
    assert written({"a": a, "b": b}) == written({"b": b, "a": a})


def test_each_tensor_is_aligned(tmp_path: Path) -> None:
    tensors = {f"{i}{t}": np.ones(i, t) for i in (1, 3) for t in ("u1", "u2", "f4", "f8")}
    with stored(tmp_path / "f", written(tensors, {"some": "text"})) as file:
        for name, entry in file.entries.items():
            assert entry.begin % tensors[name].dtype.itemsize == 0


def test_the_mapping(tmp_path: Path) -> None:
    file = stored(tmp_path / "f", written({"a": np.ones(2), "b": np.zeros(0)}))
    assert (len(file), sorted(file), "a" in file, "c" in file, 1 in file) == (2, ["a", "b"], True, False, False)
    with pytest.raises(KeyError):
        file["c"]
    assert file.get("c") is None
    assert "2 tensors" in repr(file)
    file.close()
    file.close()
    with pytest.raises(ValueError, match="is closed"):
        file["a"]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_are_closed(tmp_path: Path) -> None:
    data = written({"a": np.ones(2)})
    gc.collect()
    before = open_descriptors()
    for _ in range(20):
        stored(tmp_path / "f", data)
    with pytest.raises(qlm.FormatError):
        stored(tmp_path / "f", data[:-1])
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(OSError):
            SafetensorsFile(path)
    gc.collect()
    assert open_descriptors() == before


def test_only_what_is_asked_for_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(written({"small": np.ones(1), "large": np.ones(100_000)}))
    counts: list[int] = []
    real = os.preadv

    def preadv(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        count = real(fd, buffers, offset)
        counts.append(count)
        return count

    monkeypatch.setattr(module.os, "preadv", preadv)
    with SafetensorsFile(path) as file:
        assert file.entries["large"].nbytes == 800_000
        np.testing.assert_array_equal(file["small"], [1])
    assert sum(counts) < 1000


# ---- faults --------------------------------------------------------------------------------------------------------


def test_a_file_that_shrinks(tmp_path: Path) -> None:
    file = stored(tmp_path / "f", written({"a": np.ones(1000)}))
    os.truncate(tmp_path / "f", 4000)
    with pytest.raises(OSError, match="shrank") as caught:
        file["a"]
    assert caught.value.errno == errno.EIO
    assert caught.value.filename == str(tmp_path / "f")


def test_a_file_that_is_replaced_is_read_as_it_was(tmp_path: Path) -> None:
    file = stored(tmp_path / "f", written({"a": np.ones(10)}))
    qlm.save_tensors(tmp_path / "f", {"a": np.zeros(20)})
    np.testing.assert_array_equal(file["a"], np.ones(10))


def test_short_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv
    monkeypatch.setattr(module.os, "preadv", lambda fd, buffers, offset: real(fd, [buffers[0][:3]], offset))
    with stored(tmp_path / "f", written({"a": np.arange(50.0)})) as file:
        np.testing.assert_array_equal(file["a"], np.arange(50.0))


@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_read_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(written({"a": np.ones(3)}))
    real, calls = os.preadv, 0

    def preadv(*arguments: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == when:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*arguments)

    monkeypatch.setattr(module.os, "preadv", preadv)
    with pytest.raises(OSError, match="Input/output error"):
        SafetensorsFile(path)["a"]
    np.testing.assert_array_equal(SafetensorsFile(path)["a"], np.ones(3))


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        SafetensorsFile(tmp_path / "fifo")
    with pytest.raises(IsADirectoryError):
        SafetensorsFile(tmp_path)
    with pytest.raises(FileNotFoundError):
        SafetensorsFile(tmp_path / "absent")


def test_threads_share_a_file(tmp_path: Path) -> None:
    tensors = {str(i): np.full(10_000, i, np.int32) for i in range(16)}
    wrong: list[str] = []
    with stored(tmp_path / "f", written(tensors)) as file:

        def work() -> None:
            wrong.extend(name for name, array in tensors.items() if not np.array_equal(file[name], array))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_an_open_descriptor_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(written({"a": np.ones(3)}))
    fd = os.open(path, os.O_RDONLY)
    with SafetensorsFile("shown", fd=fd) as file:
        np.testing.assert_array_equal(file["a"], np.ones(3))
        assert "shown" in repr(file)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(fd)


# ---- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [object, "U3", "M8[s]", np.longdouble, complex, [("a", "f4")]])
def test_dtypes_that_the_format_lacks(dtype: Any) -> None:
    with pytest.raises(TypeError, match="'a' has the dtype"):
        written({"a": np.zeros(2, dtype)})


def test_text_that_utf8_cannot_hold() -> None:
    with pytest.raises(ValueError, match="valid Unicode"):
        written({"\ud800": np.zeros(1)})
    with pytest.raises(ValueError, match="valid Unicode"):
        written({"a": np.zeros(1)}, {"k": "\udfff"})


def test_parts_are_made_one_at_a_time() -> None:
    """A part's data are asked for when their turn comes, and are not kept."""
    alive: list[int] = []

    class Counted(np.ndarray):
        def __del__(self) -> None:
            alive.remove(id(self))

    def make() -> np.ndarray:
        array = np.zeros(1000, np.uint8).view(Counted)
        alive.append(id(array))
        assert len(alive) == 1
        return array

    write(io.BytesIO(), {str(i): Part(np.dtype(np.uint8), (1000,), make) for i in range(5)})
    assert alive == []


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()
