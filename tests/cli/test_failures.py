"""What is wrong ends in one clear line and the right status, and leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from models.checkpoints import tiny_bert
from processes import ROOT, command, environment

from qlm import save_tensors
from qlm import tensors as tensors_of


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "COMMAND"),
        (["bogus"], "bogus"),
        (["quantize"], "MODEL"),
        (["quantize", "model", "out"], "--recipe"),
        (["embed", "model", "--bogus"], "--bogus"),
        (["compare", "model", "other"], "--data"),
        (["compare", "model", "--data", "file"], "nothing to compare"),
        (["cpu", "more"], "more"),
    ],
)
def test_wrong_usage(qlm, words, said):
    assert said in qlm(*words, status=2).err


def test_unknown_recipe_is_wrong_usage(qlm, encoder, texts, tmp_path):
    for words in (
        ["quantize", encoder, tmp_path / "out", "--recipe", "int7"],
        ["embed", encoder, "--recipe", "int7", "text"],
        ["compare", encoder, "--recipe", "int7", "--data", texts],
    ):
        error = qlm(*words, status=2).err
        assert "int7" in error
        assert "dynamic-int8" in error
    assert not list(tmp_path.iterdir())


def test_static_without_calibration_is_wrong_usage(qlm, encoder, texts, tmp_path):
    for words in (
        ["quantize", encoder, tmp_path / "out", "--recipe", "static-int8"],
        ["embed", encoder, "--recipe", "static-int16", "text"],
        ["compare", encoder, "--recipe", "static-int8", "--data", texts],
    ):
        assert "--calibration" in qlm(*words, status=2).err
    assert not list(tmp_path.iterdir())


def test_texts_and_file_together_are_wrong_usage(qlm, encoder, texts):
    assert "--file" in qlm("embed", encoder, "text", "--file", texts, status=2).err


@pytest.mark.parametrize("name", ["quantize", "compare", "inspect", "embed", "classify"])
def test_missing_model(qlm, name, tmp_path, texts):
    more = {
        "quantize": [tmp_path / "out", "--recipe", "dynamic-int8"],
        "compare": ["--recipe", "dynamic-int8", "--data", texts],
    }
    error = qlm(name, tmp_path / "absent", *more.get(name, []), status=1).err
    assert str(tmp_path / "absent") in error


def test_missing_data(qlm, encoder, tmp_path):
    missing = tmp_path / "absent.txt"
    assert "absent.txt" in qlm("embed", encoder, "--file", missing, status=1).err
    assert "absent.txt" in qlm("compare", encoder, "--recipe", "dynamic-int8", "--data", missing, status=1).err


def test_empty_and_binary_data(qlm, encoder, tmp_path):
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.touch()
    binary.write_bytes(b"good film\nbad \xff film\n")
    assert "empty.txt" in qlm("embed", encoder, "--file", empty, status=1).err
    error = qlm("embed", encoder, "--file", binary, status=1).err
    assert "UTF-8" in error
    assert "14" in error
    assert "standard input" in qlm("embed", encoder, stdin=b"\xff\n", status=1).err


def test_calibration_on_blank_lines_is_refused(qlm, encoder, tmp_path):
    blank = tmp_path / "blank.txt"
    blank.write_text("\n \n")
    words = ("quantize", encoder, tmp_path / "out", "--recipe", "static-int8", "--calibration", blank)
    assert "blank.txt: no texts" in qlm(*words, status=1).err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_answers_that_are_not_finite_are_failures(qlm, classifier, tmp_path, option):
    broken = tmp_path / "broken"
    shutil.copytree(classifier, broken)
    tensors = dict(tensors_of(broken / "model.safetensors").items())
    tensors["classifier.bias"] = np.full_like(tensors["classifier.bias"], np.nan)
    save_tensors(broken / "model.safetensors", tensors)
    done = qlm("classify", broken, "good", "bad", *option, status=1)
    assert "texts[0] is not finite" in done.err
    assert not done.out


def test_an_empty_name_is_shown(qlm):
    assert "'': No such file" in qlm("inspect", "", status=1).err


def test_sources_without_the_core_say_so(tmp_path):
    shutil.copytree(ROOT / "qlm", tmp_path / "qlm", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    packages = Path(np.__file__).parents[1]
    for words in (["-c", "import qlm"], ["-m", "qlm", "cpu"]):
        done = subprocess.run(
            [sys.executable, "-S", *words],  # without what an editable install adds to imports
            cwd=tmp_path,
            env=environment(PYTHONPATH=str(packages)),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert f"qlm is not built in {tmp_path}" in done.stderr.splitlines()[-1]


def test_classify_needs_a_classifier(qlm, encoder):
    assert qlm("classify", encoder, "text", status=1).err


def test_a_broken_checkpoint_leaves_no_output(qlm, encoder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(encoder, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    error = qlm("quantize", broken, tmp_path / "out", "--recipe", "dynamic-int8", status=1).err
    assert "model.safetensors" in error
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_debug_shows_the_traceback(qlm, encoder, tmp_path):
    assert "Traceback" in qlm("embed", tmp_path / "absent", "text", "--debug", status=1).err
    done = subprocess.run(
        command("embed", encoder, "text", "--recipe", "int7", "--debug"), capture_output=True, env=environment()
    )
    assert done.returncode == 2
    assert b"Traceback" in done.stderr


def test_an_output_without_a_parent_is_refused_before_the_work(qlm, tmp_path):
    out = tmp_path / "absent" / "out"
    assert str(out) in qlm("quantize", tmp_path / "no-model", out, "--recipe", "dynamic-int8", status=1).err


def test_force_does_not_take_a_folder_of_something_else(qlm, encoder, tmp_path):
    out = tmp_path / "home"
    out.mkdir()
    (out / "letter.txt").write_text("keep me")
    error = qlm("quantize", encoder, out, "--recipe", "dynamic-int8", "--force", status=1).err
    assert "letter.txt" in error
    assert [path.name for path in out.iterdir()] == ["letter.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_force_is_refused_before_the_work(qlm, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("keep me")
    for out in ("home", "home/letter.txt"):
        words = "quantize", tmp_path / "no-model", tmp_path / out, "--recipe", "dynamic-int8", "--force"
        assert str(tmp_path / "home") in qlm(*words, status=1).err


def test_calibration_that_is_missing_although_no_recipe_needs_it(qlm, encoder, tmp_path):
    options = "--recipe", "dynamic-int8", "--calibration", tmp_path / "absent.txt"
    assert "absent.txt" in qlm("quantize", encoder, tmp_path / "out", *options, status=1).err
    assert "absent.txt" in qlm("embed", encoder, "text", *options, status=1).err


def test_a_recipe_of_a_later_version_names_its_file(qlm, encoder, tmp_path):
    (tmp_path / "later.toml").write_text('weights = "int3"\n')
    error = qlm("quantize", encoder, tmp_path / "out", "--recipe", tmp_path / "later.toml", status=1).err
    assert "later.toml" in error
    assert "int3" in error


@pytest.mark.parametrize(("variable", "value"), [("QLM_ISA", "mmx"), ("QLM_NUM_THREADS", "none")])
def test_bad_variables_are_told_in_a_line(qlm, variable, value):
    assert variable in qlm("cpu", status=1, **{variable: value}).err


def without_descriptors(words, closed):
    shell = f'exec "$@" {closed}'
    return subprocess.run(
        ["sh", "-c", shell, "sh", *command(*words)], stderr=subprocess.PIPE, timeout=60, env=environment()
    )


def test_streams_that_are_closed(encoder):
    done = without_descriptors(["embed", encoder, "text"], ">&-")
    assert (done.returncode, done.stderr) == (0, b"")
    done = without_descriptors(["embed", encoder], "<&-")
    assert done.returncode == 2
    assert b"standard input" in done.stderr


def test_a_reader_that_leaves_is_no_error(encoder, texts):
    words = command("embed", encoder, "--file", texts)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        process.stdout.close()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == b""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_an_error(encoder, unbuffered):
    """Buffered, Python flushes once more at exit, and would leave with its own status 120."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command("embed", encoder, "text"), stdout=full, stderr=subprocess.PIPE, timeout=60,
            env=environment(PYTHONUNBUFFERED=unbuffered),
        )  # fmt: skip
    assert done.returncode == 1
    error = done.stderr.decode()
    assert error.startswith("qlm: error: ")
    assert error.count("\n") == 1


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory):
    """Large enough that to quantize it takes longer than the pauses below."""
    return tiny_bert(tmp_path_factory.mktemp("slow") / "model", hidden=768, heads=12, layers=12, intermediate=3072)


@pytest.mark.parametrize("pause", [0.0, 0.2, 0.5, 1.0])
def test_interrupt_leaves_nothing_half_done(qlm, slow_model, tmp_path, pause):
    """SIGINT at several moments after the work has begun: status 130, no traceback, and no file, or the whole folder
    where it was in its place already."""
    words = command("quantize", slow_model, tmp_path / "out", "--recipe", "weight-only-int4")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        wait_until_it_reads(process, slow_model / "model.safetensors")
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        _, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip(f"done before {pause} s")
    assert process.returncode == 130
    assert err == b""
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}
    if (tmp_path / "out").exists():
        qlm("inspect", tmp_path / "out")
    assert time.monotonic() - begin < 5  # the promise is 0.2 s; a loaded machine needs room


@pytest.mark.parametrize("module", ["numpy", "qlm._core", "argparse", "qlm.cli.program"])
def test_interrupt_while_the_command_is_imported(tmp_path, module):
    """The signal comes as the module is looked for, by a hook that the interpreter loads at its start."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING.format(module=module))
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    done = subprocess.run(command("cpu"), capture_output=True, timeout=60, env=environment(PYTHONPATH=path))
    assert (done.returncode, done.stderr) == (130, b"")


INTERRUPTING = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""


def wait_until_it_reads(process, path):
    """Until the process has the file open: the command is past its imports."""
    target = os.path.realpath(path)
    for _ in range(3000):
        descriptors = f"/proc/{process.pid}/fd"
        for name in os.listdir(descriptors):
            try:
                if os.readlink(f"{descriptors}/{name}") == target:
                    return
            except OSError:
                continue
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    raise AssertionError("the command never opened its model")
