"""The command in fresh processes, and tiny models to give it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest
from models.checkpoints import sentences, tiny_bert, write_pooling
from processes import command, environment

LABELS = ("negative", "positive")


@pytest.fixture(scope="session")
def qlm():
    """qlm(words..., stdin=b"", status=0) runs the command and returns its CompletedProcess, whose status it checks.

    A failure must leave one line on stderr, wrong usage argparse's usage and one line, and neither a traceback.
    """

    def run(*words, stdin=b"", status=0, cwd=None, **changes):
        done = subprocess.run(
            command(*words), input=stdin, capture_output=True, timeout=120, cwd=cwd, env=environment(**changes)
        )
        done.out, done.err = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == status, (words, done.returncode, done.err)
        if status == 0:
            assert done.err == "", done.err
        if status == 1 and "--debug" not in words:
            assert done.err.startswith("qlm: error: "), done.err
            assert done.err.count("\n") == 1, done.err
        if status == 2:
            assert done.err.startswith("usage: "), done.err
            assert "error: " in done.err.splitlines()[-1], done.err
        return done

    return run


@pytest.fixture(scope="session")
def on_terminal():
    """on_terminal(words..., columns=80): what the command writes on a terminal, escape codes taken out.

    errors=True: what it writes on stderr is in it.  Other keywords change its environment.
    """

    def run(*words, columns=80, errors=False, **changes):
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            command(*words),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal if errors else subprocess.PIPE,
            env=environment(TERM="xterm", **changes),
        )
        os.close(terminal)
        parts = []
        while True:
            try:
                part = os.read(controller, 65536)
            except OSError:  # Linux's way to say that the other side has closed
                break
            if not part:
                break
            parts.append(part)
        os.close(controller)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode()).replace("\r\n", "\n")

    return run


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    folder = tiny_bert(tmp_path_factory.mktemp("models") / "encoder")
    write_pooling(folder)
    return folder


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "classifier"
    return tiny_bert(folder, labels=LABELS, prefix="bert.", dtype="float16", seed=1)


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "texts.txt"
    path.write_text("\n".join(sentences(40)) + "\n")
    return path


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """40 texts with labels: names and indices mixed, as the rule allows."""
    path = tmp_path_factory.mktemp("data") / "labelled.tsv"
    words = ("negative", "1", "positive", "0")
    path.write_text("".join(f"{words[i % 4]}\t{text}\n" for i, text in enumerate(sentences(40))))
    return path
