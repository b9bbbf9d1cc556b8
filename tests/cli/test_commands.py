"""Each command does its job in a fresh process, in text and in JSON."""

import json

import numpy as np
import pytest
from models.checkpoints import sentences
from processes import ROOT

import qlm as package


def test_version_and_help(qlm):
    assert qlm("--version").out.strip() == f"qlm {package.__version__}"
    text = qlm("--help").out
    for name in ("quantize", "compare", "inspect", "embed", "classify", "bench", "cpu"):
        assert name in text
        assert "--json" in qlm(name, "--help").out


def test_cpu(qlm):
    found = json.loads(qlm("cpu", "--json", QLM_NUM_THREADS="1").out)
    assert found["isa"] == package.cpu_info()["isa"]
    assert found["isa"] in found["isas"]
    assert set(found["isas"]) <= set(found["compiled"])
    assert found["threads"] == 1
    assert isinstance(found["features"], list)
    text = qlm("cpu").out
    assert found["isa"] in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_start_imports_nothing_heavy(qlm):
    import subprocess
    import sys

    code = "import sys, qlm.cli; print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tokenizers", "rich", "matplotlib", "torch", "jinja2"} & set(modules)


def test_quantize_writes_a_model_that_loads(qlm, encoder, tmp_path):
    out = tmp_path / "int8"
    found = json.loads(qlm("quantize", encoder, out, "--recipe", "dynamic-int8", "--json").out)
    model = package.load(out)
    assert found["nbytes"] == model.nbytes
    assert found["num_parameters"] == model.num_parameters
    assert found["size_ratio"] == pytest.approx(found["reference_nbytes"] / found["nbytes"])
    twin = package.quantize_model(package.load(encoder), "dynamic-int8")
    np.testing.assert_array_equal(model.embed(sentences(5)), twin.embed(sentences(5)))


def test_quantize_says_what_it_saved(qlm, encoder, tmp_path):
    line = qlm("quantize", encoder, tmp_path / "int4", "--recipe", "weight-only-int4").out
    assert line.count("\n") == 1
    assert "int4" in line
    assert "smaller" in line


def test_quantize_calibrates_a_static_recipe(qlm, classifier, labelled, tmp_path):
    out = tmp_path / "static"
    qlm("quantize", classifier, out, "--recipe", "static-int8", "--calibration", labelled)
    calibration = [line.split("\t")[1] for line in labelled.read_text().splitlines()]
    twin = package.quantize_model(package.load(classifier), "static-int8", calibration=calibration)
    np.testing.assert_array_equal(package.load(out).classify(sentences(5)), twin.classify(sentences(5)))


def test_quantize_takes_a_recipe_file(qlm, encoder, tmp_path):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"weights": "int8", "activations": "dynamic", "exclude": ["*.output.dense"]}))
    qlm("quantize", encoder, tmp_path / "out", "--recipe", recipe)
    bits = {layer.bits for layer in package.load(tmp_path / "out").layers.values()}
    assert len(bits) == 2


def test_force_replaces_the_old_model(qlm, encoder, tmp_path):
    out = tmp_path / "model"
    qlm("quantize", encoder, out, "--recipe", "weight-only-int8")
    before = (out / "model.safetensors").read_bytes()
    refused = qlm("quantize", encoder, out, "--recipe", "weight-only-int4", status=1)
    assert "--force" in refused.err
    assert (out / "model.safetensors").read_bytes() == before
    qlm("quantize", encoder, out, "--recipe", "weight-only-int4", "--force")
    assert (out / "model.safetensors").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_embed_from_arguments_file_and_input(qlm, encoder, texts):
    lines = texts.read_text().splitlines()[:3]
    expected = package.load(encoder).embed(lines)
    by_argument = json.loads(qlm("embed", encoder, "--json", *lines).out)["embeddings"]
    np.testing.assert_array_equal(np.array(by_argument, np.float64), expected)
    by_input = qlm("embed", encoder, stdin="\n".join(lines).encode()).out
    np.testing.assert_array_equal(np.loadtxt(by_input.splitlines(), dtype=np.float32), expected)
    by_file = qlm("embed", encoder, "--file", texts).out
    np.testing.assert_array_equal(np.loadtxt(by_file.splitlines(), dtype=np.float32)[:3], expected)
    assert len(by_file.splitlines()) == 40


def test_embed_quantizes_while_loading(qlm, encoder, texts):
    lines = texts.read_text().splitlines()
    found = json.loads(qlm("embed", encoder, "--recipe", "dynamic-int8", "--json", "--file", texts).out)["embeddings"]
    expected = package.load(encoder, recipe="dynamic-int8").embed(lines)
    np.testing.assert_array_equal(np.array(found), expected)


def test_embed_calibrates_too(qlm, encoder, texts):
    words = ("embed", encoder, "--recipe", "static-int8", "--calibration", texts, "--json", "good film")
    model = package.quantize_model(package.load(encoder), "static-int8", calibration=texts.read_text().splitlines())
    np.testing.assert_array_equal(json.loads(qlm(*words).out)["embeddings"], model.embed(["good film"]))


def test_classify(qlm, classifier):
    lines = ["good film", "bad\tstory", ""]
    logits = package.load(classifier).classify(lines)
    found = json.loads(qlm("classify", classifier, "--json", stdin="\n".join([*lines, ""]).encode()).out)
    np.testing.assert_array_equal(np.array(found["logits"]), logits)
    assert found["labels"] == ["negative", "positive"]
    assert found["predictions"] == [found["labels"][i] for i in logits.argmax(axis=1)]
    assert "accuracy" not in found
    rows = [
        line.split("\t", 2)
        for line in qlm("classify", classifier, stdin="\n".join(lines[:2]).encode()).out.splitlines()
    ]
    assert [row[0] for row in rows] == found["predictions"][:2]
    assert [row[2] for row in rows] == lines[:2]
    for row, logit in zip(rows, logits.astype(float), strict=False):
        assert float(row[1]) == pytest.approx(np.exp(logit.max()) / np.exp(logit).sum(), abs=1e-4)


def test_classify_a_labelled_file(qlm, classifier, labelled):
    found = json.loads(qlm("classify", classifier, "--json", "--file", labelled).out)
    pairs = [line.split("\t") for line in labelled.read_text().splitlines()]
    names = {"0": "negative", "1": "positive"}
    truth = [names.get(label, label) for label, _ in pairs]
    np.testing.assert_array_equal(found["logits"], package.load(classifier).classify([text for _, text in pairs]))
    share = np.mean([a == b for a, b in zip(truth, found["predictions"], strict=True)])
    assert found["accuracy"]["value"] == share
    assert found["accuracy"]["low"] < share < found["accuracy"]["high"]


def test_blank_lines_leave_a_file_labelled(qlm, classifier, labelled, tmp_path):
    lines = labelled.read_text().splitlines()
    (tmp_path / "file.tsv").write_bytes("\r\n".join(["", *lines[:3], "", *lines[3:], "", ""]).encode())
    found = json.loads(qlm("classify", classifier, "--file", tmp_path / "file.tsv", "--json").out)
    assert found == json.loads(qlm("classify", classifier, "--file", labelled, "--json").out)


def test_a_file_with_one_unlabelled_line_is_not_labelled(qlm, classifier, labelled, tmp_path):
    mixed = tmp_path / "mixed.tsv"
    mixed.write_text(labelled.read_text() + "neutral\tfilm\n")
    found = json.loads(qlm("classify", classifier, "--json", "--file", mixed).out)
    assert "accuracy" not in found
    np.testing.assert_array_equal(found["logits"][-1], package.load(classifier).classify("neutral\tfilm"))


def test_compare_one_candidate(qlm, encoder, texts, tmp_path):
    out = tmp_path / "int8"
    qlm("quantize", encoder, out, "--recipe", "dynamic-int8")
    found = json.loads(qlm("compare", encoder, out, "--data", texts, "--json").out)
    report = package.compare(package.load(encoder), package.load(out), texts.read_text().splitlines())
    assert found["cosine"] == report.cosine.to_dict()
    assert found["cosine"]["min"] <= found["cosine"]["value"]
    assert found["layers"] == report.to_dict()["layers"]
    assert found["agreement"] is None
    assert found["texts"] == 40
    assert found["speedup"]["low"] <= found["speedup"]["value"] <= found["speedup"]["high"]
    assert found["candidate"] == "int8"


def test_compare_several_side_by_side(qlm, classifier, labelled, tmp_path):
    out = tmp_path / "int8"
    qlm("quantize", classifier, out, "--recipe", "dynamic-int8")
    words = (
        "compare", classifier, out, "--recipe", "static-int8", "--recipe", "weight-only-int8",
        "--calibration", labelled, "--data", labelled,
    )  # fmt: skip
    found = json.loads(qlm(*words, "--json").out)
    assert list(found) == ["int8", "static-int8", "weight-only-int8"]
    for report in found.values():
        assert report["accuracy"] is not None
        assert report["flips"]["value"] == pytest.approx(1 - report["agreement"]["value"])
    text = qlm(*words).out
    assert all(name in text for name in found)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert qlm(*words, "--markdown").out.count("| static-int8") == 1


def test_compare_recipes_alone(qlm, encoder, texts):
    words = ("compare", encoder, "--recipe", "dynamic-int8", "--data", texts)
    assert json.loads(qlm(*words, "--json").out)["candidate"] == "dynamic-int8"
    assert "dynamic-int8 against encoder" in qlm(*words).out


def test_progress_shows_on_a_terminal_alone(on_terminal, classifier, labelled, tmp_path):
    pytest.importorskip("rich", reason="rich is not installed")
    words = ("quantize", classifier, tmp_path / "out", "--recipe", "static-int8", "--calibration", labelled)
    shown = on_terminal(*words, errors=True)
    assert "quantizing" in shown
    assert shown.splitlines()[-1].startswith(str(tmp_path / "out"))


def test_terminals_do_without_rich(on_terminal, classifier, labelled, tmp_path):
    (tmp_path / "rich.py").write_text("raise ImportError('absent for this test')")
    words = ("compare", classifier, "--recipe", "dynamic-int8", "--data", labelled)
    path = f"{tmp_path}:{ROOT}"
    plain = on_terminal(*words, errors=True, PYTHONPATH=path)
    assert "cosine" in plain
    assert "comparing" not in plain


def test_compare_on_a_terminal_keeps_to_its_columns(on_terminal, classifier, labelled):
    words = ("compare", classifier, "--recipe", "dynamic-interval-int8", "--recipe", "weight-only-int4")
    shown = on_terminal(*words, "--data", labelled)
    assert "cosine" in shown
    assert "agree" in shown
    assert max(map(len, shown.splitlines())) <= 80
