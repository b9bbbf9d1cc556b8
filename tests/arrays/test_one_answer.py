"""The same bits on every instruction set of this CPU and with any number of threads."""

import os
import subprocess
import sys
from pathlib import Path

import digest_worker

import qlm

WORKER = Path(__file__).with_name("digest_worker.py")


def run(isa: str, threads: int) -> str:
    environment = {**os.environ, "QLM_ISA": isa, "QLM_NUM_THREADS": str(threads)}
    environment["PYTHONPATH"] = str(Path(qlm.__file__).parents[1])
    done = subprocess.run([sys.executable, str(WORKER)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, count, digest = done.stdout.split()
    assert (name, int(count)) == (isa, threads)
    return digest


def test_every_isa_and_number_of_threads(isas: tuple[str, ...]) -> None:
    wanted = digest_worker.digest()
    digests = {(isa, threads): run(isa, threads) for isa in isas for threads in (1, 2)}
    assert len(digests) >= 2
    assert {setting for setting, digest in digests.items() if digest != wanted} == set()


def test_threads_of_a_running_process() -> None:
    before, wanted = qlm.get_num_threads(), digest_worker.digest()
    try:
        for threads in (1, 2, 3, 8):
            qlm.set_num_threads(threads)
            assert digest_worker.digest() == wanted
    finally:
        qlm.set_num_threads(before)
