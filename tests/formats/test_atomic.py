"""Saves: new content complete, or the old left whole, whatever system call fails; nothing stays behind."""

import ctypes
import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from saves import NEW, content, known, save, save_and_fail, save_folder, save_folder_and_fail, strays, whole

from qlm.formats import atomic

OLD = b"old content"
CHILD = {**os.environ, "PYTHONPATH": str(Path(atomic.__file__).parents[2])}


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


# ---- files ---------------------------------------------------------------------------------------------------------


def test_a_new_file(tmp_path: Path) -> None:
    save(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == NEW
    assert strays(tmp_path, "f") == []


def test_the_mode_of_a_new_file_is_the_umasks(tmp_path: Path, umask: None) -> None:
    save(tmp_path / "f")
    assert stat.S_IMODE(os.stat(tmp_path / "f").st_mode) == 0o640


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(OLD)
    os.chmod(tmp_path / "f", 0o604)
    save(tmp_path / "f")
    assert stat.S_IMODE(os.stat(tmp_path / "f").st_mode) == 0o604
    assert (tmp_path / "f").read_bytes() == NEW


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "real").mkdir()
    if exists:
        (tmp_path / "real" / "f").write_bytes(OLD)
    (tmp_path / "link").symlink_to("real/f")
    save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "f").read_bytes() == NEW
    assert strays(tmp_path, "real", "link") == []


def test_an_exception_leaves_the_target(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(OLD)
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error):
            save_and_fail(tmp_path / "f", error)
    assert (tmp_path / "f").read_bytes() == OLD
    assert strays(tmp_path, "f") == []


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "-rf", " ", "a\nb"])
def test_any_name_that_the_system_allows(tmp_path: Path, name: str) -> None:
    save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == NEW


@pytest.mark.parametrize("data", [b"", bytearray(b"xy"), memoryview(b"abcdef")[::1]])
def test_what_can_be_written(tmp_path: Path, data: Any) -> None:
    save(tmp_path / "f", data)
    assert (tmp_path / "f").read_bytes() == bytes(data)


def test_targets_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    cases: list[tuple[Any, int]] = [
        (tmp_path, errno.EISDIR),
        (tmp_path / "fifo", errno.EINVAL),
        ("/dev/null", errno.EINVAL),
        (tmp_path / "loop", errno.ELOOP),
        (tmp_path / "absent" / "f", errno.ENOENT),
        ("", errno.ENOENT),
        (tmp_path / ("n" * 256), errno.ENAMETOOLONG),
    ]
    for path, code in cases:
        with pytest.raises(OSError) as caught:
            save(path)
        assert caught.value.errno == code
        assert caught.value.filename == os.fspath(path)
    assert strays(tmp_path, "fifo", "loop") == []
    with pytest.raises(ValueError, match="NUL"):
        save(Path("a\0b"))


def test_bytes_paths_and_relative_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(os.fsencode("f"))  # type: ignore[arg-type]
    save("./f")  # type: ignore[arg-type]
    assert strays(tmp_path) == ["f"]


# ---- faults --------------------------------------------------------------------------------------------------------

CALLS = ("open", "write", "fsync", "rename", "fchmod", "close", "mkdir", "chmod", "listdir")


def failing(monkeypatch: pytest.MonkeyPatch, name: str, when: int, code: int) -> Callable[[], int]:
    """Makes the `when`-th call of os.<name> by the module fail; returns how often it was called."""
    real, calls = getattr(os, name), 0

    def call(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == when:
            if name == "close":
                real(*args, **options)  # the descriptor is gone either way
            raise OSError(code, os.strerror(code))
        return real(*args, **options)

    monkeypatch.setattr(atomic.os, name, call)
    return lambda: calls


def sweep(name: str, attempt: Callable[[], None], check: Callable[[bool], None], code: int = errno.ENOSPC) -> int:
    """Fails the first, second, ... call until an attempt makes no more; `check` hears whether it raised."""
    failures = 0
    for when in range(1, 100):
        with pytest.MonkeyPatch.context() as monkeypatch:
            count = failing(monkeypatch, name, when, code)
            error: OSError | None = None
            try:
                attempt()
            except OSError as raised:
                error = raised
        check(error is not None)
        failures += error is not None
        if count() < when:
            return failures
    raise AssertionError("no end")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_file_is_old_or_new_whatever_fails(tmp_path: Path, name: str, code: int) -> None:
    path = tmp_path / "f"

    def attempt() -> None:
        path.write_bytes(OLD)
        os.chmod(path, 0o600)
        save(path)

    def check(failed: bool) -> None:
        assert path.read_bytes() in ((OLD, NEW) if failed else (NEW,))
        save(tmp_path / "f")
        assert strays(tmp_path, "f") == []

    failures = sweep(name, attempt, check, code)
    if name in ("open", "write", "fsync", "rename", "fchmod"):
        assert failures > 0


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_old_or_new_whatever_fails(
    tmp_path: Path, name: str, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", no_exchange)
    save_folder(path, "old")
    current = "old"

    def attempt() -> None:
        save_folder(path, "new" if current == "old" else "old")

    def check(failed: bool) -> None:
        nonlocal current
        atomic.recover(path)  # as a load does
        assert content(path) in (whole("old"), whole("new"))
        if not failed:
            assert content(path) == whole("new" if current == "old" else "old")
        save_folder(path, "old")
        assert strays(tmp_path, "model") == []
        current = "old"

    assert sweep(name, attempt, check) >= (name in ("mkdir", "open", "fsync"))


def no_exchange(a: str, b: str) -> None:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), b)


def test_short_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(atomic.os, "write", lambda fd, data: real(fd, data[:7]))
    save(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == NEW


def test_an_error_names_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "write", 1, errno.ENOSPC)
    with pytest.raises(OSError) as caught:
        save(tmp_path / "f")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "f")


def test_a_full_disk_of_limited_file_size(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(OLD)
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "from qlm.formats import atomic\n"
        "with atomic.write_file(sys.argv[1]) as file: file.write(bytes(11000))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "f")]
    done = subprocess.run(command, env=CHILD, capture_output=True, text=True)
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert (tmp_path / "f").read_bytes() == OLD
    assert strays(tmp_path, "f") == []


# ---- kills and leftovers -------------------------------------------------------------------------------------------

ENDLESS = """
import sys
from qlm.formats import atomic
while True:
    if sys.argv[2] == "file":
        with atomic.write_file(sys.argv[1]) as file:
            file.write(b"a" * 1000); file.write(b"b" * 1000)
    else:
        with atomic.write_folder(sys.argv[1], known=lambda name: name in "ab") as folder:
            for name in "ab": open(f"{folder}/{name}", "w").write(name * 1000)
    print("saved", flush=True)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_kill_at_any_moment(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "target"
    for round_number in range(8):
        command = [sys.executable, "-c", ENDLESS, str(path), kind]
        with subprocess.Popen(command, env=CHILD, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.003 * round_number)
            process.send_signal(signal.SIGKILL)
        if kind == "file":
            assert path.read_bytes() == b"a" * 1000 + b"b" * 1000
        else:
            atomic.recover(path)
            assert content(path) == {"a": "a" * 1000, "b": "b" * 1000}
    if kind == "file":
        save(path)
    else:
        with atomic.write_folder(path, known=lambda name: name in "ab") as folder:
            Path(folder, "a").write_text("x")
    assert strays(tmp_path, "target") == []


# ---- folders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced(tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", no_exchange)
    for text in ("first", "second"):
        save_folder(tmp_path / "model", text)
        assert content(tmp_path / "model") == whole(text)
        assert strays(tmp_path, "model") == []


def test_folder_and_file_modes(tmp_path: Path, umask: None) -> None:
    path = tmp_path / "model"
    save_folder(path, "first")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o750
    assert stat.S_IMODE(os.stat(path / "config.json").st_mode) == 0o640
    os.chmod(path, 0o700)
    os.chmod(path / "config.json", 0o604)
    save_folder(path, "second")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(path / "config.json").st_mode) == 0o604


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    save_folder(tmp_path / "real", "first")
    (tmp_path / "link").symlink_to("real")
    save_folder(tmp_path / "link", "second")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == whole("second")


@pytest.mark.parametrize("name", ["notes.txt", "1_Pooling/mine.json", "link", "link-to-folder", ".git/config"])
def test_a_file_that_no_save_writes_is_not_lost(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model"
    save_folder(path, "first")
    (path / name).parent.mkdir(exist_ok=True)
    if name.startswith("link"):
        (path / name).symlink_to("/" if "folder" in name else "config.json")
    else:
        (path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"holds '{name}', which no save writes"):
        save_folder(path, "second")
    assert (path / "config.json").read_text() == "first config.json"
    assert strays(tmp_path, "model") == []


def test_a_foreign_file_that_comes_while_a_save_runs(tmp_path: Path) -> None:
    save_folder(tmp_path / "model", "first")

    def disturbed() -> None:
        with atomic.write_folder(tmp_path / "model", known=known) as folder:
            Path(folder, "config.json").write_text("second")
            (tmp_path / "model" / "notes.txt").write_text("mine")

    with pytest.raises(ValueError, match=r"notes\.txt"):
        disturbed()
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"
    assert strays(tmp_path, "model") == []


def test_targets_that_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(NotADirectoryError):
        save_folder(tmp_path / "file", "x")
    with pytest.raises(FileNotFoundError):
        save_folder(tmp_path / "absent" / "model", "x")
    save_folder(tmp_path / "model", "first")
    with pytest.raises(FileExistsError):
        save_folder(tmp_path / "model", "second", overwrite=False)
    assert content(tmp_path / "model") == whole("first")
    (tmp_path / "empty").mkdir()
    save_folder(tmp_path / "empty", "first")
    assert strays(tmp_path, "file", "model", "empty") == []


def test_an_exception_leaves_the_folder(tmp_path: Path) -> None:
    save_folder(tmp_path / "model", "first")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            save_folder_and_fail(tmp_path / "model", error)
    assert content(tmp_path / "model") == whole("first")
    assert strays(tmp_path, "model") == []


def test_a_crash_between_two_renames_is_undone(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save_folder(path, "first")
    os.rename(path, atomic._aside(str(path)))
    atomic.recover(path)
    assert content(path) == whole("first")
    os.rename(path, atomic._aside(str(path)))
    save_folder(path, "second")
    assert content(path) == whole("second")
    assert strays(tmp_path, "model") == []
    atomic.recover(tmp_path / "absent")
    assert strays(tmp_path, "model") == []


def test_the_exchange_is_one_step_where_the_system_has_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "x").touch()
    if not hasattr(ctypes.CDLL(None), "renameat2"):
        pytest.skip("this C library has no renameat2")
    atomic._exchange(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b" / "x").exists()
    with pytest.raises(FileNotFoundError):
        atomic._exchange(str(tmp_path / "a"), str(tmp_path / "absent"))


def test_everything_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real_sync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        events.append("sync " + os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        real_sync(fd)

    def rename(a: str, b: str) -> None:
        real_rename(a, b)
        events.append("rename " + os.path.basename(b))

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    monkeypatch.setattr(atomic.os, "rename", rename)
    save(tmp_path / "f")
    assert [event.split()[0] for event in events] == ["sync", "rename", "sync"]
    assert events[1:] == ["rename f", f"sync {tmp_path.name}"]
    events.clear()
    save_folder(tmp_path / "model", "x")
    at = events.index("rename model")
    assert {event.split()[1] for event in events[:at]} >= {"config.json", "model.safetensors", "1_Pooling"}
    assert events[at + 1 :] == [f"sync {tmp_path.name}"]
