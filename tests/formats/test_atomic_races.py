"""Several saves of one target at a time, and what a crash left behind."""

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from saves import content, known, save, save_folder, strays, whole

from qlm.formats import atomic


def test_a_leftover_is_removed_and_a_living_save_is_not(tmp_path: Path) -> None:
    with atomic.write_file(tmp_path / "f") as outer:
        outer.write(b"outer")
        save(tmp_path / "f", b"inner")
        assert (tmp_path / "f").read_bytes() == b"inner"
    assert (tmp_path / "f").read_bytes() == b"outer"
    leftover = tmp_path / (atomic._prefix("f") + "0123456789ab")
    leftover.write_bytes(b"half")
    other = tmp_path / (atomic._prefix("g") + "0123456789ab")
    other.write_bytes(b"half")
    save(tmp_path / "f")
    assert strays(tmp_path, "f") == [other.name]


def test_savers_of_one_target_do_not_disturb_each_other(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work(text: str) -> None:
        try:
            for _ in range(10):
                save(tmp_path / "f", text.encode() * 5000)
                save_folder(tmp_path / "model", text)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(text,)) for text in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (tmp_path / "f").read_bytes() in [text.encode() * 5000 for text in "abcd"]
    assert content(tmp_path / "model") in [whole(text) for text in "abcd"]
    assert strays(tmp_path, "f", "model") == []


def test_a_folder_taken_for_a_leftover_before_it_was_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another save's cleaning can come between mkdir and the lock."""
    mkdir, made = os.mkdir, []

    def mkdir_and_lose(path: str, *args: Any, **options: Any) -> None:
        mkdir(path, *args, **options)
        made.append(path)
        if len(made) == 1:
            os.rmdir(path)

    monkeypatch.setattr(os, "mkdir", mkdir_and_lose)
    save_folder(tmp_path / "model", "a")
    assert len(made) > 1
    assert content(tmp_path / "model") == whole("a")
    assert strays(tmp_path, "model") == []


def test_a_folder_that_another_save_made_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target was absent when it was looked at, and is there when the new folder is renamed to it."""
    rename, tried = os.rename, []

    def rename_late(old: str, new: str) -> None:
        tried.append(new)
        if len(tried) == 1:
            os.mkdir(new)
            Path(new, "config.json").write_text("the other")
        rename(old, new)

    monkeypatch.setattr(os, "rename", rename_late)
    with atomic.write_folder(tmp_path / "model", known=known) as folder:
        Path(folder, "config.json").write_text("ours")
        tried.clear()
    assert content(tmp_path / "model") == {"config.json": "ours"}
    assert strays(tmp_path, "model") == []


@pytest.mark.parametrize("name", ["mkdir", "open", "rename", "fsync", "rmdir", "unlink", "close", "lstat"])
@pytest.mark.parametrize("when", [1, 2, 3])
def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, when: int) -> None:
    """A real signal, as a system call returns: also where the temporary has just been made, or is being removed."""
    save(tmp_path / "f", b"old")
    save_folder(tmp_path / "model", "a")
    real, calls = getattr(os, name), []

    def call(*args: Any, **options: Any) -> Any:
        calls.append(args)
        result = real(*args, **options)
        if len(calls) == when:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    for work in (lambda: save(tmp_path / "f", b"new"), lambda: save_folder(tmp_path / "model", "b")):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, call)
            calls.clear()
            with suppress(KeyboardInterrupt):
                work()
        assert strays(tmp_path, "f", "model") == []
    assert (tmp_path / "f").read_bytes() in (b"old", b"new")
    assert content(tmp_path / "model") in (whole("a"), whole("b"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
