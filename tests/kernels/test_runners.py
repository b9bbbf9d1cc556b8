"""The runners notice what they are there to notice: a kernel that is told of one element more than there is."""

import subprocess
import sys

import numpy as np
import pytest
from kernel_runners import KernelFault

F32 = np.float32
NATIVE_CALL = """
import sys
sys.path[:0] = {path!r}
import numpy as np
from kernel_runners import NativeRunner
a = np.ones(5, np.float32)
NativeRunner().call("scalar", "add_f32", a, a, {count}, np.zeros({room}, np.float32), guard={guard!r})
"""


def call_natively(count: int, room: int, guard: str) -> subprocess.CompletedProcess[str]:
    code = NATIVE_CALL.format(path=sys.path, count=count, room=room, guard=guard)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("guard", ["right", "left"])
def test_native_call_within_bounds(guard):
    assert call_natively(5, 5, guard).returncode == 0


def test_native_over_read_is_a_fault():
    assert call_natively(6, 6, "right").returncode < 0


def test_native_write_beyond_the_output_is_seen_on_the_unguarded_side():
    done = call_natively(5, 4, "left")
    assert done.returncode == 1
    assert "wrote outside of its outputs" in done.stderr


@pytest.mark.parametrize(("mode", "isa"), [("emulated", "avx2"), ("qemu", "neondot")])
def test_foreign_over_read_and_over_write(mode, isa, bench):
    runner, a = bench.runner(mode), np.ones(5, F32)
    out = np.zeros(5, F32)
    assert runner.call(isa, "add_f32", a, a, 5, out) is None
    assert (out == 2).all()
    with pytest.raises(KernelFault):
        runner.call(isa, "add_f32", a, a, 6, np.zeros(6, F32))
    with pytest.raises(KernelFault):
        runner.call(isa, "add_f32", a, a, 5, np.zeros(4, F32), guard="left")
    assert runner.call(isa, "squares_f32", a, 5) == F32(5)  # it works again after a fault


@pytest.mark.parametrize(("mode", "isa"), [("emulated", "avxvnni"), ("emulated", "avx512"), ("qemu", "neoni8mm")])
def test_foreign_tables_are_those_of_this_source(mode, isa, bench):
    constants = bench.runner(mode).constants(isa)
    assert constants.k_step in (2, 4, 8)
    assert constants.nr % 16 == 0
    assert 0 < constants.mr_8 <= 16
