"""Files and folders that are replaced in one step, or left as they were.

New content is written beside its target under a temporary name, synced, and renamed over the target; then the folder
that holds it is synced.  A folder is exchanged with its target in one system call where the file system can do that,
else by two renames, between which a crash leaves the old folder under a name that `recover` knows.

A temporary is locked (flock) as long as its writer lives.  One that nobody locks was left by a crash: the next save of
the same target removes it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import signal
import stat
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from .paths import path_text

Path = str | os.PathLike[str]

_CHUNK = 8 << 20
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_FILLED_SINCE = (errno.ENOTEMPTY, errno.EEXIST)  # another save was first
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


class Writer:
    """The bytes of a file that is being written."""

    def __init__(self, fd: int, target: str) -> None:
        self._fd = fd
        self._target = target

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends all of `data`.  OSError names the target."""
        view = memoryview(data)
        if not view.nbytes:
            return
        view = view.cast("B")
        with _naming(self._target):
            while view.nbytes:
                view = view[os.write(self._fd, view[:_CHUNK]) :]


@contextmanager
def write_file(path: Path) -> Iterator[Writer]:
    """A Writer whose bytes become the file `path` when the block ends; an exception leaves the target as it was.

    A link is followed.  A replaced file's mode is kept, a new file's comes from the umask.
    OSError: the target is a folder or a special file, or the system refuses.
    """
    target = _resolve(path)
    mode = _file_mode(target)
    _remove_leftovers(target)
    temporary, fd = None, -1
    try:
        with _naming(target), _interrupts_wait():
            temporary, fd = _create(target, folder=False)
        yield Writer(fd, target)
        with _naming(target):
            if mode is not None:
                os.fchmod(fd, mode)
            os.fsync(fd)
        with _naming(target), _interrupts_wait():
            os.rename(temporary, target)
            temporary = None
            _sync(os.path.dirname(target))
    finally:
        with _interrupts_wait():
            _drop(temporary, fd)


@contextmanager
def write_folder(path: Path, *, known: Callable[[str], bool], overwrite: bool = True) -> Iterator[str]:
    """The path of an empty folder that becomes `path` when the block ends; an exception leaves the target as it was.

    known(name) tells whether a save writes a file of that name ("model.safetensors", "1_Pooling/config.json"): a
    target that holds any other file is refused, for it is not a saved folder.  A link to a folder is followed.
    ValueError: a foreign file.  FileExistsError: a target that exists, without `overwrite`.  OSError: the system's.
    """
    target = _resolve(path)
    recover(target)
    _check_folder(target, known, overwrite)
    _remove_leftovers(target)
    temporary, fd = None, -1
    try:
        with _naming(target), _interrupts_wait():
            temporary, fd = _create(target, folder=True)
        yield temporary
        with _naming(target):
            _copy_modes(target, temporary)
            _sync_tree(temporary)
            _check_folder(target, known, overwrite)
        with _naming(target), _interrupts_wait():
            temporary = _install(temporary, target)
            try:
                _sync(os.path.dirname(target))
            finally:
                _drop(temporary, fd)
                temporary, fd = None, -1
    finally:
        with _interrupts_wait():
            _drop(temporary, fd)


def _drop(temporary: str | None, fd: int) -> None:
    """Removes a temporary, or what it was exchanged for, and closes its descriptor; -1 is none."""
    if temporary is not None:
        with suppress(OSError):
            if stat.S_ISDIR(os.lstat(temporary).st_mode):
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                os.unlink(temporary)
    if fd >= 0:
        os.close(fd)


def check_target(path: Path, *, known: Callable[[str], bool], overwrite: bool = True) -> None:
    """Raises what `write_folder` would of a target that it does not replace."""
    _check_folder(_resolve(path), known, overwrite)


def recover(path: Path) -> None:
    """Undoes half a replacement of the folder `path`: a crash between two renames left the old one aside."""
    target = _resolve(path)
    if not os.path.lexists(target):
        with suppress(OSError):
            os.rename(_aside(target), target)


def _resolve(path: Path) -> str:
    """The absolute path behind links."""
    text = path_text(path)
    if not text:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
    target = os.path.realpath(text)
    if os.path.islink(target):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), text)
    return target


def _file_mode(target: str) -> int | None:
    """The permissions of the regular file to be replaced, None where there is none."""
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", target)
    return stat.S_IMODE(mode)


def _check_folder(target: str, known: Callable[[str], bool], overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    if not os.path.isdir(target):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), target)
    for name in _names(target):
        if not known(name):
            raise ValueError(f"path: {target} holds {name!r}, which no save writes; it is not replaced")


def _names(folder: str) -> Iterator[str]:
    """Every file below `folder`, relative, with "/"; links and special files count as files."""
    for where, folders, files in os.walk(folder, onerror=_raise):
        inside = os.path.relpath(where, folder)
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        for name in files + links:
            yield name if inside == "." else f"{inside}/{name}"


def _raise(error: OSError) -> None:
    raise error


# ---- temporaries ------------------------------------------------------------------------------------------------


def _prefix(target: str) -> str:
    # A checksum of the name, not the name: a name of 255 bytes has no room for more.
    return f".qlm-{zlib.crc32(os.fsencode(os.path.basename(target))):08x}-"


def _aside(target: str) -> str:
    return os.path.join(os.path.dirname(target), _prefix(target) + "old")


def _create(target: str, *, folder: bool) -> tuple[str, int]:
    """A new file or folder beside `target`, with a locked descriptor of it."""
    while True:
        path = os.path.join(os.path.dirname(target), _prefix(target) + os.urandom(6).hex())
        try:
            if folder:
                os.mkdir(path)
                fd = _open_folder(path)
            else:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        # Until it is locked, another save may take it for a leftover.
        if fd is not None and _lock(fd, otherwise=True) and os.path.lexists(path):
            return path, fd
        if fd is not None:
            os.close(fd)


def _open_folder(path: str) -> int | None:
    """A descriptor of a folder, None where it is gone."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _lock(fd: int, *, otherwise: bool) -> bool:
    """Whether this descriptor now holds the lock; `otherwise` where the file system knows no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return otherwise
    return True


def _remove_leftovers(target: str) -> None:
    """What earlier saves of `target` left behind, except what a living one holds.  Failing to clean is no error."""
    parent, prefix = os.path.dirname(target), _prefix(target)
    with suppress(OSError):
        for name in os.listdir(parent):
            if name.startswith(prefix):
                with suppress(OSError):
                    _remove_unlocked(os.path.join(parent, name))


def _remove_unlocked(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not _lock(fd, otherwise=False):
            return
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    finally:
        os.close(fd)


# ---- renames and syncs ------------------------------------------------------------------------------------------


def _install(new: str, target: str) -> str | None:
    """Puts the folder `new` in the place of `target`.  Returns where the replaced folder now is, if there was one."""
    if not os.path.lexists(target):
        try:
            os.rename(new, target)
            return None
        except OSError as error:
            if error.errno not in _FILLED_SINCE:
                raise
    try:
        _exchange(new, target)
    except OSError as error:
        if error.errno not in _CANNOT_EXCHANGE:
            raise
        return _install_by_two_renames(new, target)
    return new


def _install_by_two_renames(new: str, target: str) -> str:
    old = _aside(target)
    os.rename(target, old)
    try:
        os.rename(new, target)
    except BaseException:
        os.rename(old, target)
        raise
    return old


def _exchange(a: str, b: str) -> None:
    """Exchanges two paths in one step (Linux: renameat2 with RENAME_EXCHANGE).  ENOSYS where there is no such call."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), b)
    if renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), b)


def _copy_modes(old: str, new: str) -> None:
    """A folder's and its files' permissions outlive their replacement."""
    if not os.path.isdir(old):
        return
    os.chmod(new, stat.S_IMODE(os.stat(old).st_mode))
    for name in _names(new):
        with suppress(FileNotFoundError, NotADirectoryError):
            os.chmod(os.path.join(new, name), stat.S_IMODE(os.stat(os.path.join(old, name)).st_mode))


def _sync_tree(folder: str) -> None:
    for where, _, files in os.walk(folder, topdown=False, onerror=_raise):
        for name in files:
            _sync(os.path.join(where, name))
        _sync(where)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """A Ctrl-C comes when the block has ended: steps that take a moment, and would leave something behind in between.
    Only the main thread hears of one."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            handler(*caught[0])


@contextmanager
def _naming(target: str) -> Iterator[None]:
    """Errors of the system name the target, not a temporary that is gone when they are read."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, target) from error
