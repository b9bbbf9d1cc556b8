"""What all tests share: options, the seed, the instruction sets of this CPU."""

import os
import random
import signal

import numpy as np
import pytest

TIERS = ("auto", "native", "emulated", "qemu", "all")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--tiers",
        choices=TIERS,
        default=os.environ.get("QLM_TEST_TIERS", "auto"),
        help="how kernel tests run the instruction sets: natively, emulated (x86), under qemu (NEON), all of these; "
        "auto (the default): natively where this CPU can, else emulated or under qemu. Also QLM_TEST_TIERS",
    )
    parser.addoption(
        "--seed",
        type=int,
        default=os.environ.get("QLM_TEST_SEED"),
        help="seed of all random test data; drawn and printed where not given. Also QLM_TEST_SEED",
    )
    parser.addoption("--sample", type=float, default=1.0, help="share of the cases that slow sweeps run, 0 to 1")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.tiers not in TIERS:
        raise pytest.UsageError(f"QLM_TEST_TIERS is {config.option.tiers!r}, not one of {', '.join(TIERS)}")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # As in a shell's background jobs; children would inherit it, and tests send them SIGINT.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(2**32)
        os.environ["QLM_TEST_SEED"] = str(config.option.seed)  # of all the processes that share the tests


def pytest_report_header(config: pytest.Config) -> str:
    return f"qlm: --seed {config.option.seed} --tiers {config.option.tiers}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests run where -m names the marker, and only there."""
    if "slow" in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    return request.config.option.seed


@pytest.fixture
def rng(seed: int, request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of this test: they depend on the seed and the test's name alone."""
    return np.random.default_rng([seed, *request.node.nodeid.encode()])


@pytest.fixture(scope="session")
def isas() -> tuple[str, ...]:
    """The words of QLM_ISA that this CPU can run."""
    from qlm import _core

    return tuple(_core.cpu_info()["isas"])
