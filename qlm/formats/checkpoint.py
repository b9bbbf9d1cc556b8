"""Checkpoints in Hugging Face's form: a folder with config.json, weights as safetensors, and a tokenizer's files.

Names that a file gives (shards of an index, parts of modules.json) are single relative names, opened relative to the
folder's descriptor.  A link is followed where it stays inside the folder or, in a hub cache
(models--*/snapshots/<revision>), inside the same repository's blobs.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from functools import cached_property
from typing import Any

from ..errors import FormatError, UnsupportedError, shown
from . import atomic, packages, strictjson
from .tensors import TensorFile

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# What a save copies as it is, where it is there.
ASSETS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
MAX_TEXT = 256 << 20
MAX_CONFIG = 16 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Folder:
    """The files of one folder by relative name.  OSError: the system's; NotADirectoryError: not a folder."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, _DIRECTORY)
        self._close = weakref.finalize(self, os.close, self._fd)

    def close(self) -> None:
        """Closes the folder; files that were opened stay."""
        self._close()

    def name(self, name: str) -> str:
        """The path of a file, for messages."""
        return os.path.join(self.path, name)

    def names(self) -> list[str]:
        """All names in the folder, sorted."""
        return sorted(os.listdir(self._fd))

    def open(self, name: str) -> int:
        """A descriptor of the regular file `name` (parts joined by "/").  FileNotFoundError: there is none.
        FormatError: a name or link that leaves the folder, or not a regular file."""
        parts = name.split("/")
        for part in parts:
            check_name(part, self.path)
        try:
            fd = _open_below(self._fd, parts)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                raise OSError(error.errno, error.strerror, self.name(name)) from None
            fd = self._open_link(name)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FormatError("not a regular file", file=self.name(name))
        return fd

    def _open_link(self, name: str) -> int:
        """Opens what a link points to, from a root it must stay below, part by part without following any link: a
        link that is exchanged after the check is refused by the system."""
        target = os.path.realpath(self.name(name))
        home = os.path.realpath(self.path)
        for root in (home, _blobs(home)):
            if root is None or not target.startswith(root + os.sep):
                continue
            root_fd = os.open(root, _DIRECTORY)
            try:
                return _open_below(root_fd, os.path.relpath(target, root).split(os.sep))
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.name(name)) from None
            finally:
                os.close(root_fd)
        raise FormatError("a link that leaves the model's folder", file=self.name(name))

    def read(self, name: str, limit: int = MAX_TEXT) -> bytes:
        """The bytes of a file.  FormatError: more than `limit`."""
        with open(self.open(name), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > limit:
                raise FormatError(f"{size} bytes, at most {limit} are allowed", file=self.name(name))
            data = stream.read(size + 1)
        if len(data) < size:
            raise OSError(errno.EIO, "the file shrank while it was read", self.name(name))
        return data

    def read_if_there(self, name: str, limit: int = MAX_TEXT) -> bytes | None:
        """`read`, or None where there is no such file."""
        try:
            return self.read(name, limit)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def has(self, name: str) -> bool:
        """Whether `name` is there; what it is is checked when it is opened."""
        try:
            os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except OSError:
            return False
        return True


def check_name(name: str, file: str, key: str | None = None) -> None:
    """FormatError: not a name that could stand alone in a folder."""
    reason = None
    if not name or name in (".", ".."):
        reason = "names no file"
    elif "/" in name or "\\" in name or "\0" in name:
        reason = "is not a single relative name"
    elif len(os.fsencode(name)) > 255:
        reason = "is too long for a file name"
    if reason is not None:
        raise FormatError(f"{shown(name)} {reason}", file=file, key=key)


def _open_below(fd: int, parts: list[str]) -> int:
    held = []
    try:
        for part in parts[:-1]:
            fd = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            held.append(fd)
        return os.open(parts[-1], _FILE, dir_fd=fd)
    finally:
        for each in held:
            os.close(each)


def _blobs(home: str) -> str | None:
    """The folder of a hub cache that holds the contents of the snapshot `home`."""
    snapshots, _ = os.path.split(home)
    repository, word = os.path.split(snapshots)
    if word != "snapshots" or not os.path.basename(repository).startswith("models--"):
        return None
    return os.path.join(repository, "blobs")


# ---- weights -----------------------------------------------------------------------------------------------------


def _open_weights(folder: Folder) -> dict[str, TensorFile]:
    """The file that holds each tensor."""
    if folder.has(WEIGHTS):
        file = TensorFile(folder.name(WEIGHTS), fd=folder.open(WEIGHTS))
        return dict.fromkeys(file, file)
    if folder.has(INDEX):
        return _open_shards(folder)
    raise _no_weights(folder)


def _no_weights(folder: Folder) -> Exception:
    names = folder.names()
    if any(name.endswith(".gguf") for name in names):
        return UnsupportedError(f"{folder.path}: GGUF models are not supported yet")
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in names):
        return FormatError(
            "holds weights as Python pickles, which qlm does not read: convert them to safetensors", file=folder.path
        )
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder.name(WEIGHTS))


def _open_shards(folder: Folder) -> dict[str, TensorFile]:
    path = folder.name(INDEX)
    index = strictjson.parse(folder.read(INDEX), file=path)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError("weight_map must be a JSON object that is not empty", file=path, key="weight_map")
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str):
            raise FormatError(f"weight_map must name files, got {shown(shard)}", file=path, key=tensor)
        check_name(shard, path, tensor)
        if not shard.endswith(".safetensors"):
            raise FormatError(f"{shown(shard)} is not a safetensors file", file=path, key=tensor)
    shards = {name: _open_shard(folder, name, path) for name in sorted(set(weight_map.values()))}
    for tensor, shard in weight_map.items():
        if tensor not in shards[shard]:
            raise FormatError(f"{shown(shard)} does not hold this tensor", file=path, key=tensor)
    return {tensor: shards[shard] for tensor, shard in weight_map.items()}


def _open_shard(folder: Folder, name: str, index: str) -> TensorFile:
    try:
        fd = folder.open(name)
    except FileNotFoundError:
        raise FormatError(f"the shard {shown(name)} is missing", file=index, key="weight_map") from None
    return TensorFile(folder.name(name), fd=fd)


# ---- the checkpoint ----------------------------------------------------------------------------------------------


class Checkpoint:
    """A model's folder, opened: `config` is config.json's content.

    OSError: the system's, FileNotFoundError where config.json or (of `files`) the weights are missing.  FormatError: a
    file that is not what it should be.  UnsupportedError: GGUF.
    """

    def __init__(self, path: str) -> None:
        self.folder = Folder(path)
        self.path = path
        if not self.folder.has("config.json") and any(name.endswith(".gguf") for name in self.folder.names()):
            raise UnsupportedError(f"{path}: GGUF models are not supported yet")
        self.config = self._config()

    @cached_property
    def files(self) -> dict[str, TensorFile]:
        """The file that holds each tensor.  Opened when first asked for: a folder of a family that qlm does not run
        may hold its weights in any form, and what is wrong with it is the family."""
        return _open_weights(self.folder)

    def _config(self) -> dict[str, Any]:
        config = strictjson.parse(self.folder.read("config.json", MAX_CONFIG), file=self.config_file)
        if not isinstance(config, dict):
            raise FormatError("not a JSON object", file=self.config_file)
        return config

    @property
    def config_file(self) -> str:
        """The path of config.json, for messages."""
        return self.folder.name("config.json")

    @property
    def weights_file(self) -> str:
        """The path of the weights, or of their index, for messages."""
        return self.folder.name(WEIGHTS if self.folder.has(WEIGHTS) else INDEX)

    @property
    def qlm(self) -> dict[str, Any]:
        """What a save of qlm wrote into the metadata of the weights, {} where another program wrote them."""
        return next((file.qlm for file in self.files.values() if file.qlm), {})

    def json(self, name: str) -> object | None:
        """A small JSON file's value; None where there is no such file."""
        data = self.folder.read_if_there(name, MAX_CONFIG)
        return None if data is None else strictjson.parse(data, file=self.folder.name(name))

    def assets(self) -> dict[str, bytes]:
        """The files that a save copies as they are."""
        parts = [f"{name}/config.json" for name in self.folder.names() if is_module_folder(name)]
        found = {name: self.folder.read_if_there(name) for name in (*ASSETS, *parts)}
        return {name: data for name, data in found.items() if data is not None}


def is_module_folder(name: str) -> bool:
    """sentence-transformers' folders: 1_Pooling, 2_Normalize."""
    index, _, word = name.partition("_")
    return index.isdecimal() and word.isidentifier()


def is_written_by_save(name: str) -> bool:
    """Whether a save of a model may write the file `name`, relative with "/"."""
    if name in ("config.json", WEIGHTS, *ASSETS):
        return True
    folder, _, rest = name.partition("/")
    return is_module_folder(folder) and rest == "config.json"


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The model's folder `path`, or "pkg:NAME", a model that ships in an installed package."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a string or a path, got {shown(path)}")
    name = os.fsdecode(os.fspath(path))
    if name.startswith(packages.PREFIX):
        return Checkpoint(packages.find_model(name.removeprefix(packages.PREFIX)))
    if "\0" in name:
        raise ValueError(f"path must not hold a NUL character, got {shown(name)}")
    if name.endswith(".gguf") and os.path.isfile(name):
        raise UnsupportedError(f"{name}: GGUF models are not supported yet")
    atomic.recover(name)
    if not os.path.lexists(name):
        raise FileNotFoundError(errno.ENOENT, "No such folder (qlm downloads no models)", name)
    return Checkpoint(name)
