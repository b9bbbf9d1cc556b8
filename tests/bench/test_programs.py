"""The programs of benchmarks/: tables made of results, peers that are absent, wrong or hold on to what they time."""

import copy
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import qlm
from qlm.bench import kernels, results

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def programs(monkeypatch):
    """kernels.py and tables.py as modules; they stand in a folder of their own."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    before = dict(sys.modules)
    own = ("kernels", "tables", "goals", "models")  # tests have such names too
    for name in own:
        sys.modules.pop(name, None)
    yield importlib.import_module("kernels"), importlib.import_module("tables")
    for name in set(sys.modules) - set(before):
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(FOLDER)):
            del sys.modules[name]
    sys.modules.update({name: before[name] for name in own if name in before})


@pytest.fixture
def page(programs, monkeypatch, tmp_path):
    """tables.py on a page and a folder of its own."""
    tables = programs[1]
    monkeypatch.setattr(tables, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(tables, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(tables, "PAGES", tmp_path / "tables")
    monkeypatch.setattr(tables, "README", tmp_path / "README.md")
    for name, word in (("page.md", "goals"), ("README.md", "speed")):
        marks = f"<!-- {word}: begin (benchmarks/tables.py) -->", f"<!-- {word}: end -->"
        (tmp_path / name).write_text(f"before\n{marks[0]}\nold\n{marks[1]}\nafter\n")
    return tmp_path / "page.md"


def run(tables, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["tables.py", *map(str, words)])
    return tables.main()


def a_row(**facts):
    row = {"section": "linear int8", "threads": 1, "contender": "qlm", "clock": "wall", "median": 1e-6, "loops": {}}
    row |= {"n": 1024, "k": 1024, "m": 128, **facts}
    return {"case": f"{row['n']} x {row['k']}", "gops": 2e-9 * row["m"] * row["n"] * row["k"] / row["median"], **row}


def a_result(cpu, *rows, isa="avx2"):
    found = results.result(rows, seconds=1.0)
    return {**found, "machine": {**found["machine"], "cpu": cpu, "isa": isa, "caches": {"L1": 1 << 15, "L2": 1 << 25}}}


def two_rows(seconds):
    row = a_row(median=seconds, m=2, n=8, k=4, share=0.5, net_share=0.75)
    return row, {**row, "contender": "peer", "share": 0.25}


def test_shares_are_of_the_fastest_loop_of_all_cases(programs):
    """The loop of the second case had one of two cores; limits of reading and of one thread are their own."""
    facts = {"limit": "int8 (zmm)", "threads": 2, "net_share": None}
    rows = [a_row(median=1e-3, share=0.9, **facts), a_row(median=1e-3, share=1.8, **facts | {"net_share": 1.9})]
    rows += [
        a_row(median=1e-3, share=1.8, **facts | {"limit": "read (zmm)"}),
        a_row(share=0.8, **facts | {"threads": 1}),
    ]
    for found in (results.result(rows, seconds=1.0), programs[1].taken_together(a_result("CPU", *rows))):
        shares = [row["share"] for row in found["rows"]]
        assert shares == pytest.approx([0.9, 0.9, 1.8, 0.8])
        assert found["rows"][1]["net_share"] == pytest.approx(0.95)
        assert found["rows"][0]["net_share"] is None


def test_tables_are_kept_by_cpu(programs, page, monkeypatch, tmp_path):
    tables = programs[1]
    for cpu, seconds in (("CPU A", 1e-9), ("CPU B", 2e-9), ("CPU A", 4e-9)):
        results.save(tmp_path / "new.json", a_result(cpu, *two_rows(seconds)))
        assert run(tables, monkeypatch, tmp_path / "new.json") == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.index("### CPU A, avx2") < text.index("### CPU B, avx2")
    assert "[All tables](tables/cpu-a-avx2.md)" in text
    assert "| 32.0 |   75% | 32.0 |" in (tmp_path / "tables/cpu-a-avx2.md").read_text()
    assert "| 64.0 |   75% | 64.0 |" in (tmp_path / "tables/cpu-b-avx2.md").read_text()
    assert len(list((tmp_path / "results").glob("*.json"))) == 2


def test_check_tells_what_is_out_of_date(programs, page, monkeypatch, capsys, tmp_path):
    tables = programs[1]
    assert run(tables, monkeypatch, "--check") == 1
    assert "page.md is out of date" in capsys.readouterr().err
    assert run(tables, monkeypatch) == 0
    assert run(tables, monkeypatch, "--check") == 0
    (tmp_path / "tables/of-a-cpu-without-results.md").write_text("old")
    assert run(tables, monkeypatch, "--check") == 1
    assert run(tables, monkeypatch) == 0
    assert not list((tmp_path / "tables").iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": 3}, "machine"),
        ({"machine": {"cpu": "x"}}, "machine"),
        ({"software": None}, "software"),
        ({"rows": {}}, "rows"),
        ({"rows": [{}]}, "rows"),
    ],
)
def test_a_result_that_is_none_is_named(programs, page, monkeypatch, tmp_path, change, words):
    results.save(tmp_path / "bad.json", a_result("x", a_row()))
    (tmp_path / "bad.json").write_text(json.dumps({**results.load(tmp_path / "bad.json"), **change}))
    with pytest.raises(SystemExit, match=f"bad.json: {words} must be"):
        run(programs[1], monkeypatch, tmp_path / "bad.json")


def test_speed_is_of_the_cpu_as_it_is_the_fastest_first(programs):
    row = a_row(section="model", case="32 x 128", batch=32, length=128, contender="qlm float", median=0.3)
    rows = [row, {**row, "contender": "peer", "median": 0.2}, {**row, "threads": 2, "median": 0.15}]
    rows += [{**row, "case": "1 x 16", "batch": 1, "length": 16, "median": 1e-3}, {**row, "contender": "none"}]
    rows[-1].pop("median")
    found = a_result("CPU", *rows, isa="avx512")
    found["machine"]["features"] = ["avx512f"]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in programs[1].speed(found).splitlines()[2:]]
    assert lines[0] == ["", "32 x 128, one thread", "1 x 16, one thread", "32 x 128, 2 threads"]
    assert lines[2:] == [["peer", "200 ms", "-", "-"], ["qlm float", "300 ms", "1.00 ms", "150 ms"]]
    found["machine"]["isa"] = "avx2"
    assert programs[1].speed(found) == ""
    assert programs[1].speed(a_result("CPU", a_row())) == ""


def test_the_page_says_what_the_results_hold(programs, monkeypatch):
    assert run(programs[1], monkeypatch, "--check") == 0


# ---- goals -------------------------------------------------------------------------------------------------------


def lines_of(tables, found):
    """The cells of each goal's line, by its work and what it is set beside."""
    lines = [line.split("|")[1:-1] for line in tables.goal_section("name", found).splitlines() if line.startswith("|")]
    return {(cells[0].strip(), cells[1].strip()): [cell.strip() for cell in cells[2:]] for cells in lines}


def test_a_goal_tells_the_range_how_many_reach_it_and_what_falls_short(programs):
    rows = [a_row(share=0.91), a_row(n=2048, share=0.84), a_row(n=512, share=0.1), a_row(share=0.88, threads=2)]
    lines = lines_of(programs[1], a_result("CPU", *rows, isa="avx512vnni"))
    assert lines["int8, 128 rows and more, outputs and inputs >= 768", "peak"] == [
        ">= 90 / 87 %",
        "**84** to 91 %; 1 of 2, least 128 x 1024 -> 2048",
        "88 %",
        "[int8 `linear`, end to end](performance/int8-linear.md)",
    ]
    assert lines["quantize int8 g32, 1 MiB", "plain quantize loop"] == [">= 58 %", "not measured", "", ""]


def test_a_goal_beside_peers_is_of_the_fastest_that_does_the_same(programs):
    peers = {"ONNX Runtime dynamic": 3e-6, "torch dynamic": 2.5e-6, "oneDNN, int8 in": 0.5e-6}
    rows = [a_row(m=1), *(a_row(m=1, contender=name, median=seconds) for name, seconds in peers.items())]
    rows.append({**a_row(m=1, contender="OpenVINO static"), "median": None, "note": "not installed"})
    lines = lines_of(programs[1], a_result("CPU", *rows, isa="avx512vbmi"))
    assert lines["the same beside peers that take floats", "best peer"][:2] == [">= 1.00x", "not measured"]
    assert lines["that row beside oneDNN, which is given int8 codes", "oneDNN"][1] == "**0.50**x"
    assert lines["that row beside peers that take floats", "best peer"] == [">= 2.00x", "2.50x", "", ""]


def test_arrays_are_set_beside_the_plain_loop_and_a_call_beside_seconds(programs):
    loops = {"quantize (zmm)": 1.0, "quantize stream (zmm)": 0.5, "rows (zmm)": 3.0}
    rows = [
        a_row(section="quantize rows", case=case, nbytes=nbytes, median=2.0, net=1.25, loops=loops)
        for case, nbytes in (("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("64 MiB", 64 << 20), ("256 MiB", 256 << 20))
    ]
    rows[1]["loops"] = {}  # of an older result
    rows.append(a_row(section="call overhead", case="linear", median=2e-6))
    lines = lines_of(programs[1], a_result("CPU", *rows))
    found = next(figures for (work, _), figures in lines.items() if work == "quantize rows")
    assert found[:2] == [">= 55 / 57 / 78 / 78 %", "80 / - / **50** / **50** %"]
    assert lines["a call's own time, `linear` on 1 x 64 x 64", ""][:2] == ["<= 1.50 us", "**2.00 us**"]


def test_a_rate_that_falls_is_found(programs):
    rows = [a_row(m=m, gops=100.0 if m < 7 else 90.0) for m in range(1, 33)]
    lines = lines_of(programs[1], a_result("CPU", *rows))
    found = lines["int8, 1 to 32 rows: the rate never falls", "rate at a row more"]
    assert found[1] == "**0.90** to 1.00x; 30 of 31, least 6 to 7 rows of 1024 x 1024"
    lines = lines_of(programs[1], a_result("CPU", *rows[:20]))
    assert lines["int8, 1 to 32 rows: the rate never falls", "rate at a row more"][1] == "not measured"


def test_every_goal_names_a_page(programs):
    goals = sys.modules["goals"]
    for name in {name for names in goals.PARTS.values() for name in names.values()}:
        assert programs[1].part_link(name).endswith(f"](performance/{name}.md)")
    assert {goal.part for goal in goals.GOALS} == set(goals.PARTS)
    assert [goals.goals_of(isa) for isa in ("avx2", "avxvnni", "avx512", "avx512vnni", "avx512vbmi", "neon")] == [
        "avx2", None, None, "vnni", "vnni", None,
    ]  # fmt: skip


# ---- what is run -------------------------------------------------------------------------------------------------


def arguments(programs, monkeypatch, *words):
    module = programs[0]
    monkeypatch.setattr(module, "finish", lambda args, rows, versions: None)
    ran = []
    monkeypatch.setattr(module, "measure", lambda case, **_: ran.append((case.section, case.name, case.facts)) or [])
    monkeypatch.setattr(sys, "argv", ["kernels.py", "--peer", "none", *words])
    before = qlm.get_num_threads()
    try:
        module.main()
    finally:
        qlm.set_num_threads(before)
    return ran


def test_weights_of_a_shape_are_run_alone(programs, monkeypatch):
    words = ("--section", "linear int8", "--section", "linear int4 g32", "--shape", "48x64", "--rows", "1,3")
    ran = arguments(programs, monkeypatch, *words)
    assert {name for _, name, _ in ran} == {"48 x 64"}
    assert {facts["m"] for _, _, facts in ran} == {1, 3}
    assert {section for section, _, _ in ran} == {"linear int8", "linear int4 g32"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threads", "0"], "'0'"),
        (["--shape", "axb"], "'axb'"),
        (["--rows", "1,x"], "'1,x'"),
        (["--seconds", "0"], "--seconds"),
        (["--clock", "cpu", "--threads", "2"], "--threads 1"),
        (["--save", "absent/out.json"], "absent/out.json"),
    ],
)
def test_wrong_usage_is_told_before_the_work(programs, monkeypatch, capsys, words, said):
    with pytest.raises(SystemExit, match="2"):
        arguments(programs, monkeypatch, *words)
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_picture_that_cannot_be_drawn_is_told_before_the_work(programs, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    with pytest.raises(SystemExit, match="2"):
        arguments(programs, monkeypatch, "--plot", "picture")
    assert "--plot must end in" in capsys.readouterr().err


def test_no_case_begins_when_the_minutes_are_over(programs, monkeypatch, capsys):
    words = ("--section", "linear int8", "--shape", "48x64")
    assert arguments(programs, monkeypatch, *words, "--minutes", "1000")
    assert not arguments(programs, monkeypatch, *words, "--minutes", "0")
    assert "stopped after 0 minutes" in capsys.readouterr().err


# ---- peers -------------------------------------------------------------------------------------------------------


def a_case():
    weight = np.random.default_rng(0).standard_normal((16, 64), np.float32)
    kind = kernels.KINDS[0]
    return kernels.linear_case(kind, weight, kind.pack(weight), None, 3)


class Stub:
    """A peer whose product is the float one times `factor`, plus noise where that is not 1."""

    def __init__(self, work, missing=None, fails=False, right=True, rows=None):
        self.work, self.missing, self.fails, self.right, self.rows = work, missing, fails, right, rows
        self.sections = {"linear int8": "stub int8"}

    def linear(self, kind, weight, x):
        if self.fails:
            raise RuntimeError("unknown shape")
        product = (x @ weight.T if self.right else np.ones((len(x), len(weight)), np.float32))[: self.rows]
        return self.work(lambda: product, lambda: product)


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({}, None),
        ({"missing": "not installed"}, "not installed"),
        ({"fails": True}, "does not run: unknown shape"),
        ({"right": False}, "wrong result: cosine"),
        ({"rows": 0}, "wrong result: 0 values"),
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


def test_peers_are_held_to_the_instruction_set_in_use(programs, monkeypatch):
    from peers import base

    class Held(base.Peer):
        avx2 = {"QLM_TEST_HELD": "AVX2"}  # noqa: RUF012

    def on(isa, *isas):
        monkeypatch.setattr(base.qlm, "cpu_info", lambda: {"isa": isa, "isas": isas})

    monkeypatch.setattr(base.os, "environ", {})
    on("avx512", "avx2", "avx512")
    assert Held(1).missing is base.Peer(1).missing is None
    assert not base.os.environ
    on("avx2", "scalar", "avx2")
    assert Held(1).missing is base.Peer(1).missing is None
    assert not base.os.environ
    on("avx2", "avx2", "avx512")
    assert Held(1).missing is None
    assert base.os.environ == Held.avx2
    assert base.Peer(1).missing == "cannot be held to AVX2"


def test_ggml_is_held_to_avx2_by_a_build_of_its_own(programs, monkeypatch, tmp_path):
    from peers import base, ggml_peer

    def on(isa, *isas):
        monkeypatch.setattr(base.qlm, "cpu_info", lambda: {"isa": isa, "isas": isas})
        ggml_peer.libraries.cache_clear()

    def make(folder):
        for path in ggml_peer.library_paths(folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return folder

    native, known, named = make(tmp_path / "native"), tmp_path / "known", tmp_path / "named"
    spec = type("Spec", (), {"submodule_search_locations": [str(native / "llama_cpp")]})
    monkeypatch.setattr(ggml_peer.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(ggml_peer, "AVX2_FOLDER", known)
    monkeypatch.delenv(ggml_peer.AVX2_VARIABLE, raising=False)
    for isas in (("avx512", "avx2", "avx512"), ("avx2", "scalar", "avx2")):
        on(*isas)
        assert ggml_peer.installed() == native
    on("avx2", "avx2", "avx512")
    assert ggml_peer.installed() is None
    assert ggml_peer.Ggml(1).missing == "not built for AVX2"
    assert make(known) == ggml_peer.installed()
    monkeypatch.setenv(ggml_peer.AVX2_VARIABLE, str(named))
    assert ggml_peer.installed() is None
    assert make(named) == ggml_peer.installed()
    library = type("Library", (), {name: lambda _: 0 for name in ggml_peer.BEYOND_AVX2})
    monkeypatch.setattr(ggml_peer, "libraries", lambda: (None, library()))
    assert ggml_peer.Ggml(1).missing is None
    monkeypatch.setattr(library, "ggml_cpu_has_avx512", lambda _: 1)
    assert ggml_peer.Ggml(1).missing == "built for more than AVX2"


def test_a_model_of_a_peer_runs_or_says_why_not(programs):
    models = importlib.import_module("models")

    class Some:
        name, missing, model_rows = "Some", None, ("a", "b", "c")

        def encoders(self, checkpoint):
            return {"a": len, "b": "not on this instruction set"}

    encoders, missing = models.others(None, [Some()])
    assert encoders == {"a": len}
    assert {one.name: one.note for one in missing} == {"b": "not on this instruction set", "c": "not installed"}
