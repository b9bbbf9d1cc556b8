"""Every kernel of kernels.h, on every tier, equals tests/reference.py bit for bit, inside its operands."""

import pytest
from kernel_case import Case, check

GUARDS = ("right", "left")
SHOWN = 3  # wrong cases in the message of a failure


def assert_right(runner, isa: str, kernel: str, cases: list[Case], seed: int) -> None:
    """Each case flush right, then flush left."""
    problems: list[str] = []
    for case in cases:
        problems += [text for guard in GUARDS if (text := check(runner, isa, kernel, case, guard))]
        if len(problems) >= SHOWN:
            break
    assert not problems, f"seed {seed}\n" + "\n".join(problems)
    assert cases, "no case was run"


def test_kernel(bench, tier, run, kernel):
    runner, isa, constants = tier
    mode = run[0]
    if mode == "native":
        same = bench.tested_at.setdefault((runner.address(isa, kernel), constants), isa)
        if same != isa:  # this table borrows the function of another, which was tested under the same constants
            bench.cases_run[run][kernel] = bench.cases_run[mode, same][kernel]
            return
    cases = bench.cases(kernel, constants, "quick" if mode == "native" else "few")
    assert_right(runner, isa, kernel, cases, bench.seed)
    bench.cases_run[run][kernel] = len(GUARDS) * len(cases)


def test_every_tier_that_should_have_run_did(request, bench):
    """Looks back at test_kernel, in its process: each kernel ran a case at least, or its runner was skipped aloud."""
    expected = [item.callspec.params for item in request.session.items if item.name.startswith("test_kernel[")]
    if not expected:
        pytest.skip("test_kernel is not part of this run")
    for params in expected:
        mode, isa = params["run"]
        ran = bench.cases_run.get((mode, isa), {}).get(params["kernel"], 0)
        assert ran > 0 or isa in bench.skipped, f"{params['kernel']} did not run on {isa} ({mode})"


@pytest.mark.slow
def test_kernel_at_all_lengths(bench, tier, run, kernel, rng, request):
    runner, isa, constants = tier
    cases = bench.cases(kernel, constants, "all" if run[0] == "native" else "quick")
    share = request.config.option.sample
    sampled = [case for case in cases if rng.random() < share] or cases[:1]
    assert_right(runner, isa, kernel, sampled, bench.seed)
