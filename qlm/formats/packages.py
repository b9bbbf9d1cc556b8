"""Models that ship inside an installed Python package, found without importing it: "pkg:NAME"."""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.metadata
import importlib.util
import os

from ..errors import shown

PREFIX = "pkg:"
MAX_FOLDERS = 10_000


def find_model(name: str) -> str:
    """The folder of the package `name` (as it is imported or as it is installed), else the nearest of its subfolders,
    that holds a config.json or one *.gguf.  FileNotFoundError: no such package, or no model in it."""
    roots = _folders_of(name)
    if not roots:
        raise FileNotFoundError(errno.ENOENT, f"no installed package {shown(name)}", PREFIX + name)
    for root in roots:
        found = _first_with_model(root)
        if found is not None:
            return found
    raise FileNotFoundError(errno.ENOENT, f"the package {shown(name)} holds no model", PREFIX + name)


def _folders_of(name: str) -> list[str]:
    for module in (name, name.replace("-", "_"), *_modules_of_distribution(name)):
        # A dotted name would import its parent.
        if module.isidentifier():
            spec = _spec(module)
            if spec is not None and spec.submodule_search_locations:
                return [os.fspath(folder) for folder in spec.submodule_search_locations]
    return []


def _spec(module: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


def _modules_of_distribution(name: str) -> list[str]:
    """The top-level packages that an installed distribution brought."""
    try:
        files = importlib.metadata.files(name) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return []
    return sorted({file.parts[0] for file in files if len(file.parts) > 1 and file.parts[-1] == "__init__.py"})


def _first_with_model(root: str) -> str | None:
    """Breadth first, in the order of names."""
    level, seen = [root], 0
    while level and seen < MAX_FOLDERS:
        below: list[str] = []
        for folder in level:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
            if _holds_model([entry.name for entry in found]):
                return folder
            below += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
        seen += len(level)
        level = below
    return None


def _holds_model(names: list[str]) -> bool:
    return "config.json" in names or sum(name.endswith(".gguf") for name in names) == 1
