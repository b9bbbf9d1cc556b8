"""Every kernel of kernels.h, on every tier, equals tests/reference.py bit for bit, inside its operands."""

import pytest
from kernel_case import check

GUARDS = ("right", "left")
SHOWN = 3  # wrong cases in the message of a failure


def run_cases(bench, tier, kernel: str, level: str) -> int:
    """Each case flush right, then flush left; returns how many."""
    runner, isa, constants = tier
    cases, problems = bench.cases(kernel, constants, level), []
    for case in cases:
        problems += [text for guard in GUARDS if (text := check(runner, isa, kernel, case, guard))]
        if len(problems) >= SHOWN:
            break
    assert not problems, f"seed {bench.seed}\n" + "\n".join(problems)
    assert cases, "no case was run"
    return len(GUARDS) * len(cases)


def test_kernel(bench, tier, run, kernel):
    mode, isa = run
    runner = tier[0]
    if mode == "native":
        same = bench.tested_at.setdefault((runner.address(isa, kernel), tier[2]), isa)
        if same != isa:  # this table borrows the function of another, which was tested under the same constants
            bench.cases_run[run][kernel] = bench.cases_run[mode, same][kernel]
            return
    bench.cases_run[run][kernel] = run_cases(bench, tier, kernel, "quick" if mode == "native" else "few")


@pytest.mark.slow
def test_kernel_at_all_lengths(bench, tier, run, kernel):
    run_cases(bench, tier, kernel, "all" if run[0] == "native" else "quick")
    bench.forget_cases()
