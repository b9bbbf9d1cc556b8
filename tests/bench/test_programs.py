"""The programs of benchmarks/: tables made of results, peers that are absent, wrong or hold on to what they time."""

import copy
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from qlm.bench import kernels, results

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def programs(monkeypatch):
    """kernels.py and tables.py as modules; they stand in a folder of their own."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    before = dict(sys.modules)
    for name in ("kernels", "tables"):
        sys.modules.pop(name, None)
    yield importlib.import_module("kernels"), importlib.import_module("tables")
    for name in set(sys.modules) - set(before):
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(FOLDER)):
            del sys.modules[name]
    sys.modules.update({name: before[name] for name in ("kernels", "tables") if name in before})


@pytest.fixture
def page(programs, monkeypatch, tmp_path):
    """tables.py on a page and a folder of its own."""
    tables = programs[1]
    monkeypatch.setattr(tables, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(tables, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    return tmp_path / "page.md"


def run(tables, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["tables.py", *map(str, words)])
    return tables.main()


def a_result(cpu, seconds):
    row = {
        "section": "linear int8", "case": "8 x 4", "m": 2, "n": 8, "k": 4, "threads": 1, "contender": "qlm",
        "clock": "wall", "median": seconds, "gops": 1e-9 * 128 / seconds, "share": 0.5, "net_share": 0.75,
    }  # fmt: skip
    found = results.result([row, {**row, "contender": "peer", "share": 0.25}], seconds=1.0)
    return {**found, "machine": {**found["machine"], "cpu": cpu, "isa": "avx2"}}


def test_tables_are_kept_by_cpu(programs, page, monkeypatch, tmp_path):
    tables = programs[1]
    for cpu, seconds in (("CPU A", 1e-9), ("CPU B", 2e-9), ("CPU A", 4e-9)):
        results.save(tmp_path / "new.json", a_result(cpu, seconds))
        assert run(tables, monkeypatch, tmp_path / "new.json") == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.index("### CPU A, avx2") < text.index("### CPU B, avx2")
    a, b = text.split("### CPU B")
    assert "| 32.0 |   75% | 32.0 |" in a
    assert "| 64.0 |   75% | 64.0 |" in b
    assert len(list((tmp_path / "results").glob("*.json"))) == 2


def test_check_tells_what_is_out_of_date(programs, page, monkeypatch, capsys):
    tables = programs[1]
    assert run(tables, monkeypatch, "--check") == 1
    assert "out of date" in capsys.readouterr().err
    assert run(tables, monkeypatch) == 0
    assert run(tables, monkeypatch, "--check") == 0


def test_the_page_says_what_the_results_hold(programs, monkeypatch):
    assert run(programs[1], monkeypatch, "--check") == 0


# ---- peers -------------------------------------------------------------------------------------------------------


def a_case():
    weight = np.random.default_rng(0).standard_normal((16, 64), np.float32)
    kind = kernels.KINDS[0]
    return kernels.linear_case(kind, weight, kind.pack(weight), None, 3)


class Stub:
    """A peer whose product is the float one times `factor`, plus noise where that is not 1."""

    def __init__(self, work, missing=None, fails=False, right=True):
        self.work, self.missing, self.fails, self.right = work, missing, fails, right
        self.sections = {"linear int8": "stub int8"}

    def linear(self, kind, weight, x):
        if self.fails:
            raise RuntimeError("unknown shape")
        product = x @ weight.T if self.right else np.ones((len(x), len(weight)), np.float32)
        return self.work(lambda: product, lambda: product)


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({}, None),
        ({"missing": "not installed"}, "not installed"),
        ({"fails": True}, "does not run: unknown shape"),
        ({"right": False}, "wrong result"),
    ],
)
def test_a_peer_is_checked_before_it_is_timed(programs, options, note):
    module = programs[0]
    from peers.base import Work

    case = a_case()
    before = copy.copy(case.contenders)
    found = module.with_peers(case, [Stub(Work, **options)]).contenders
    assert found[:1] == before
    assert found[1].name == "stub int8"
    if note is None:
        assert found[1].call is not None
        assert found[1].note is None
    else:
        assert found[1].call is None
        assert found[1].note.startswith(note)


def test_a_peer_without_the_section_has_no_row(programs):
    from peers.base import Work

    peer = Stub(Work)
    peer.sections = {}
    assert len(programs[0].with_peers(a_case(), [peer]).contenders) == 1


def test_packing_for_peers(programs):
    from peers import base

    weight = np.random.default_rng(1).standard_normal((4, 64), np.float32)
    codes, scale = base.per_channel(weight)
    assert np.abs(codes * scale - weight).max() <= scale.max()
    codes, scale = base.per_group(weight, 32)
    assert np.abs((codes * scale).reshape(4, 64) - weight).max() <= scale.max()
    packed = base.two_a_byte(codes)
    low, high = (packed & 15).astype(np.int8), (packed >> 4).astype(np.int8)
    np.testing.assert_array_equal(np.where(low > 7, low - 16, low), codes[..., 0::2])
    np.testing.assert_array_equal(np.where(high > 7, high - 16, high), codes[..., 1::2])


def test_every_peer_says_whether_it_is_there(programs):
    from peers import peers

    found = list(peers(1))
    assert len(found) == len({peer.name for peer in found}) == 6
    for peer in found:
        assert peer.missing is None or peer.missing
        assert peer.sections or peer.model_rows
        if not peer.missing:
            assert peer.version()[0].isdigit()
