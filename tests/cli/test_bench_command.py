"""`qlm bench` in fresh processes: what it prints, saves and draws, and what it refuses.  No test looks at a time."""

import json

import pytest

import qlm as package
from qlm.bench import results

# Results are saved to six digits: what is computed from two of them may be off by as much.
SIX_DIGITS = 2e-5

BRIEF = ("--quick", "--seconds", "0.001", "--threads", "1")


@pytest.fixture(scope="module")
def kernels(qlm, tmp_path_factory):
    """One brief run over the kernels: (its JSON, the folder with what it saved and drew)."""
    folder = tmp_path_factory.mktemp("bench")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    done = qlm("bench", *BRIEF, "--json", "--save", folder / "out.json", "--plot", folder / "out.png")
    return json.loads(done.out), folder


def test_json_is_what_was_saved(kernels):
    found, folder = kernels
    assert results.load(folder / "out.json") == found
    assert (found["format"], found["version"]) == ("qlm-bench", 1)
    assert found["machine"]["isa"] == package.cpu_info()["isa"]
    assert found["machine"]["cpu"]
    assert found["software"]["qlm"] == package.__version__
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")


def test_every_kind_of_kernel_has_its_rows(kernels):
    rows = kernels[0]["rows"]
    sections = {row["section"] for row in rows}
    assert {"call overhead", "linear int8", "linear int4 g32", "linear float32", "quantize", "dequantize"} <= sections
    for row in rows:
        assert 0 < row["best"] <= row["low"] <= row["median"] <= row["high"]
        assert row["threads"] == 1
        if row["section"].startswith("linear"):
            assert row["gops"] == pytest.approx(2e-9 * row["m"] * row["n"] * row["k"] / row["median"], rel=SIX_DIGITS)


def test_shares_are_of_loops_of_the_same_run(kernels):
    rows = [row for row in kernels[0]["rows"] if row["section"] == "linear int8"]
    if package.cpu_info()["isa"] == "scalar":
        assert all(row["share"] is None for row in rows)
        return
    for row in rows:
        assert {name.partition(" (")[0] for name in row["loops"]} == {"int8", "read"}
        assert row["limit_seconds"] <= row["loops"][row["limit"]]
        assert row["share"] == pytest.approx(row["limit_seconds"] / row["median"], rel=SIX_DIGITS)
    of_peak = [row for row in kernels[0]["rows"] if row.get("gops") and (row["limit"] or "").startswith("int8")]
    ratios = [row["limit_seconds"] / row["loops"][row["limit"]] for row in of_peak]
    assert max(ratios) == pytest.approx(1, rel=SIX_DIGITS)
    peak = of_peak[0]["gops"] / of_peak[0]["share"]
    assert [row["gops"] / row["share"] for row in of_peak] == pytest.approx([peak] * len(of_peak), rel=SIX_DIGITS)
    assert {row["what"] for row in kernels[0]["rows"] if row["section"] == "limits"} >= {"int8", "read", "quantize"}


def test_text_keeps_to_its_columns(on_terminal):
    shown = on_terminal("bench", *BRIEF)
    assert "linear int4 g32, 1 thread" in shown
    assert "128 x 1536 x 384" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_tier_without_loops_has_no_shares(qlm, encoder):
    shown = qlm("bench", encoder, *BRIEF, QLM_ISA="scalar").out
    assert "qlm dynamic-int8" in shown
    assert "median" in shown
    assert "share" not in shown


def test_a_model_by_recipe_and_size(qlm, encoder, texts):
    words = ("--size", "2x7", "--size", "1x3", "--recipe", "static-int8", "--calibration", texts)
    found = json.loads(qlm("bench", encoder, *BRIEF, *words, "--json").out)
    assert [(row["case"], row["contender"]) for row in found["rows"]] == [
        (size, name) for size in ("2 x 7", "1 x 3") for name in ("qlm float", "qlm static-int8")
    ]
    for row in found["rows"]:
        assert row["model"] == "encoder"
        assert (row["batch"], row["length"]) in [(2, 7), (1, 3)]
        assert row["speedup"] > 0
    assert found["rows"][0]["speedup"] == 1


def test_a_quick_look_with_calibration_data_is_static_too(qlm, encoder, texts):
    found = json.loads(qlm("bench", encoder, *BRIEF, "--calibration", texts, "--json").out)
    assert {row["contender"] for row in found["rows"]} == {"qlm float", "qlm dynamic-int8", "qlm static-int8"}


def test_all_recipes_that_can_be(qlm, encoder):
    words = ("--size", "1x3", "--seconds", "0.001", "--threads", "1", "--json")
    found = json.loads(qlm("bench", encoder, *words).out)
    names = {row["contender"].removeprefix("qlm ") for row in found["rows"]}
    assert {"float", "dynamic-int8", "weight-only-int8"} <= names
    assert "static-int8" not in names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "dynamic-int8"], "--recipe is of no use without MODEL"),
        (["--size", "1x2"], "--size is of no use without MODEL"),
        (["--threads", "0"], "--threads"),
        (["--seconds", "-1"], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
        (["--clock", "cpu", "--threads", "2"], "--threads 1"),
        (["model", "--size", "many"], "many"),
        (["model", "--size", "0x5"], "0x5"),
        (["model", "--recipe", "int7"], "int7"),
        (["model", "--recipe", "static-int8"], "--calibration"),
    ],
)
def test_wrong_usage(qlm, words, said):
    assert said in qlm("bench", *words, status=2).err


def test_an_unknown_picture_is_wrong_usage(qlm, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert ".doc" in qlm("bench", *BRIEF, "--plot", tmp_path / "out.doc", status=2).err


def test_failures_come_before_the_work(qlm, encoder, tmp_path):
    for option in ("--save", "--plot"):
        assert "absent" in qlm("bench", option, tmp_path / "absent" / "out.png", status=1).err
        assert "a folder" in qlm("bench", option, tmp_path, status=1).err
    assert "absent" in qlm("bench", tmp_path / "absent", status=1).err
    assert "100000 tokens" in qlm("bench", encoder, "--size", "1x100000", status=1).err


def test_without_matplotlib(qlm, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('absent for this test')")
    from processes import ROOT

    error = qlm("bench", "--plot", tmp_path / "out.png", status=1, PYTHONPATH=f"{tmp_path}:{ROOT}").err
    assert "qlm[plot]" in error
    assert not (tmp_path / "out.png").exists()
