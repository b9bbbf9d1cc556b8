"""Many threads at once, forks, Ctrl-C, arrays that change during a call: the same answers, no code out of bounds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qlm

THREADS, ROUNDS = 16, 100
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(qlm.__file__).parents[1])}


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    before = qlm.get_num_threads()
    qlm.set_num_threads(4)
    yield
    qlm.set_num_threads(before)


def operands(rng: np.random.Generator) -> tuple[np.ndarray, qlm.QTensor]:
    x = rng.standard_normal((64, 256)).astype(np.float32)
    return x, qlm.quantize(rng.standard_normal((256, 256)), axis=0)


def together(work: Callable[[int], None], count: int = THREADS) -> list[BaseException]:
    """Runs work(number) on as many threads at a time; the errors."""
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait(60)
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_many_threads_on_the_same_arrays(rng: np.random.Generator) -> None:
    x, weight = operands(rng)
    packed = qlm.pack(weight)
    groups = qlm.pack(qlm.quantize(weight.dequantize(), "uint4", group_size=32))
    calls: list[Callable[[], np.ndarray]] = [
        lambda: qlm.quantize(x, axis=0).values,
        lambda: weight.dequantize(),
        lambda: qlm.linear(x, packed, activation="gelu"),
        lambda: qlm.linear(x[:1], packed),
        lambda: qlm.linear(x[:5], groups, input="int8"),
        lambda: qlm.linear(x[:9], groups, input="float32"),
        lambda: qlm.linear(x, groups, group_size=64, residual=x),
        lambda: qlm.matmul(weight.values, weight.values.T),
        lambda: qlm.matmul(x, x.T),
    ]
    wanted = [call().tobytes() for call in calls]

    def work(number: int) -> None:
        for turn in range(ROUNDS):
            which = (number + turn) % len(calls)
            assert calls[which]().tobytes() == wanted[which]
            if turn % 10 == number % 10:
                qlm.set_num_threads(1 + turn % 5)

    assert together(work) == []


def test_many_threads_that_need_other_layouts_of_one_weight(rng: np.random.Generator) -> None:
    """A layout is made when an input first needs it, and kept beside the weight."""
    x, weight = operands(rng)
    options: list[dict[str, Any]] = [{}, {"group_size": 32}, {"group_size": 64}, {"input": "int16"}]
    options += [{"input": "int16", "group_size": 16}]
    wanted = [qlm.linear(x, qlm.pack(weight), **option).tobytes() for option in options]
    for _ in range(5):
        packed = qlm.pack(weight)

        def work(number: int, packed: qlm.PackedWeight = packed) -> None:
            for turn in range(len(options)):
                which = (number + turn) % len(options)
                assert qlm.linear(x, packed, **options[which]).tobytes() == wanted[which]

        assert together(work) == []


def test_an_array_that_another_thread_changes(rng: np.random.Generator) -> None:
    """No code leaves its range, whatever a value becomes between the pass for the range and that for the codes."""
    x = rng.standard_normal((256, 256)).astype(np.float32)
    large, small = x * 1e6, x.copy()
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            x[:] = large
            x[:] = small

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(200):
            codes = qlm.quantize(x, "int4", axis=0).values
            assert codes.min() >= -7
            assert codes.max() <= 7
    finally:
        stop.set()
        changer.join()


CHILD = """
import os, sys, threading
import numpy as np
import qlm

qlm.set_num_threads(4)
weight = qlm.pack(qlm.quantize(np.random.default_rng(1).standard_normal((512, 512)), axis=0))
x = np.random.default_rng(2).standard_normal((256, 512)).astype(np.float32)
wanted = qlm.linear(x, weight).tobytes()
busy = len(sys.argv) > 1
if busy:
    threading.Thread(target=lambda: [qlm.linear(x, weight) for _ in range(10**6)], daemon=True).start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        os._exit(0 if qlm.linear(x, weight).tobytes() == wanted else 3)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert qlm.linear(x, weight).tobytes() == wanted
print("done", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("busy", [[], ["busy"]], ids=["idle", "busy"])
def test_a_child_forked_after_use_works(busy: list[str]) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILD, *busy]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr


LONG = """
import sys
import numpy as np
import qlm

wide = np.ones((600, 60000), np.float32)
codes = np.ones((3000, 3000), np.int8)
given = qlm.quantize(np.ones((3000, 3000)), axis=0)
weight = qlm.pack(given)
x = np.ones((3000, 3000), np.float32)
rows = None, 3000
linear = "linear", rows, qlm._core.Input("dynamic", "int8"), (weight._packed,), None, None, rows, (rows,)
program = qlm._core.Program(3000, 1, (linear,) * 6)
call = {
    "quantize": lambda: qlm.quantize(wide, group_size=7),
    "matmul": lambda: qlm.matmul(codes, codes),
    "float": lambda: qlm.matmul(x, x),
    "linear": lambda: qlm.linear(x, weight),
    "groups": lambda: qlm.linear(x, weight, group_size=60),
    "pack": lambda: qlm.pack(x),
    "another layout": lambda: qlm.linear(x[:1], qlm.pack(given), group_size=60),
    "forward": lambda: program.run(x, np.arange(0, 3001, 150)),
}[sys.argv[1]]
call()
print("ready", flush=True)
try:
    while True:
        call()
except KeyboardInterrupt:
    q = qlm.quantize(np.ones(3))
    print("stopped", q.values.tolist(), flush=True)
"""


@pytest.mark.parametrize(
    "name", ["quantize", "matmul", "float", "linear", "groups", "pack", "another layout", "forward"]
)
def test_ctrl_c_ends_a_long_call(name: str, rng: np.random.Generator) -> None:
    """At a random moment; the next call works.  The promise is 200 ms; a loaded machine needs room."""
    command = [sys.executable, "-c", LONG, name]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        assert process.stdout.readline() == "stopped [127, 127, 127]\n"
        took = time.monotonic() - begin
    assert process.returncode == 0
    assert took < 5


@pytest.mark.parametrize(("outputs", "group"), [(4, 16), (1, 1)])
def test_signals_are_seen_where_few_outputs_take_long(outputs: int, group: int) -> None:
    """Nearly all of the time is that of the activations' groups: a call in one piece would run the handler once."""
    x = np.ones((300 * group, 4096), np.float32)
    weight = qlm.pack(qlm.quantize(np.ones((outputs, 4096)), "int4", group_size=16))
    runs: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: runs.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        qlm.linear(x, weight, group_size=group)
        seen = len(runs)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen > 2
