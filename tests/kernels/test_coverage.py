"""The table of cases and the runs leave no kernel and no tier out."""

import pytest
from kernel_case import MAKERS
from kernel_header import all_isas, signatures
from kernel_runners import EMULATED_MODELS, QEMU_CPUS, planned_runs


def test_every_kernel_has_cases():
    assert len(signatures()) > 30, "kernels.h was not read"
    assert set(MAKERS) == set(signatures())


def test_every_tier_can_be_run_somewhere_else():
    """A machine that lacks a tier emulates it, or runs it under qemu."""
    assert set(all_isas()) == {"scalar", *EMULATED_MODELS, *QEMU_CPUS}


@pytest.mark.parametrize("tiers", ["auto", "all"])
def test_the_plan_has_every_tier(tiers):
    for native in (("scalar",), ("scalar", "avx2"), tuple(all_isas())):
        planned = {isa for _, isa in planned_runs(tiers, native)}
        assert planned == set(all_isas())
