"""The strict JSON reader: everything that json.dumps writes is read, what strict JSON lacks is refused."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlm import FormatError
from qlm.formats import strictjson

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def depth(value: object) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(values, st.booleans(), st.sampled_from([None, 1]))
def test_what_json_writes_is_read(value: object, ascii_only: bool, indent: int | None) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    if depth(value) > strictjson.MAX_DEPTH:
        with pytest.raises(FormatError):
            strictjson.parse(data, file="f")
        return
    assert strictjson.parse(data, file="f") == value


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0123eE+-.dtrufalsn \n', max_size=60).map(str.encode))
def test_any_bytes_give_a_value_or_a_format_error(data: bytes) -> None:
    refused: FormatError | None = None
    try:
        value = strictjson.parse(data, file="f", offset=100)
    except FormatError as error:
        refused = error
    if refused is None:
        assert value == json.loads(data)
    else:
        assert 100 <= (refused.offset or 0) <= 100 + len(data)


@pytest.mark.parametrize("bracket", ["[]", "{}"])
@pytest.mark.parametrize("levels", [1, 15, 16, 17, 18, 33, 100_000])
def test_nesting_is_bounded(bracket: str, levels: int) -> None:
    opening = bracket[0] if bracket == "[]" else '{"a":'
    inner = bracket if levels else "1"
    data = (opening * (levels - 1) + inner + bracket[1] * (levels - 1)).encode()
    if levels <= 16:
        strictjson.parse(data, file="f")
    else:
        with pytest.raises(FormatError, match="nested"):
            strictjson.parse(data, file="f")


def test_brackets_in_text_do_not_nest() -> None:
    text = "[{" * 100 + '\\"[' + "\\\\"
    assert strictjson.parse(json.dumps([text]).encode(), file="f") == [text]


def test_the_error_says_where() -> None:
    with pytest.raises(FormatError) as caught:
        strictjson.parse('{"é": }'.encode(), file="dir/config.json", offset=8)
    assert caught.value.offset == 8 + len('{"é": '.encode())
    assert str(caught.value).startswith("dir/config.json: ")


def test_numbers_keep_their_kind() -> None:
    value = strictjson.parse(b'{"a": 1, "b": 1.0, "c": 1e2, "d": -0.0}', file="f")
    assert isinstance(value, dict)
    assert [type(value[key]) for key in "abcd"] == [int, float, float, float]
    assert math.copysign(1, value["d"]) == -1
