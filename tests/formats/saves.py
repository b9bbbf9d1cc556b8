"""What the tests of saves share: a file's save, a folder's, and what is found afterwards."""

import os
from pathlib import Path
from typing import Any

from qlm.formats import atomic

NEW = b"new content" * 1000
KNOWN = {"config.json", "model.safetensors", "1_Pooling/config.json"}


def known(name: str) -> bool:
    return name in KNOWN


def save(path: Path, data: bytes = NEW) -> None:
    with atomic.write_file(path) as file:
        file.write(data)


def save_and_fail(path: Path, error: type[BaseException]) -> None:
    with atomic.write_file(path) as file:
        file.write(NEW)
        raise error


def save_folder(path: Path, text: str, **options: Any) -> None:
    with atomic.write_folder(path, known=known, **options) as folder:
        for name in KNOWN:
            target = Path(folder, name)
            target.parent.mkdir(exist_ok=True)
            target.write_text(f"{text} {name}")


def save_folder_and_fail(path: Path, error: type[BaseException]) -> None:
    with atomic.write_folder(path, known=known) as folder:
        Path(folder, "config.json").write_text("half")
        raise error


def content(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def whole(text: str) -> dict[str, str]:
    return {name: f"{text} {name}" for name in KNOWN}


def strays(folder: Path, *wanted: str) -> list[str]:
    return sorted(set(os.listdir(folder)) - set(wanted))
