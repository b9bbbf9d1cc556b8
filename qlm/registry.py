"""The model families that qlm runs, by what config.json says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import FormatError, UnsupportedError, shown
from .models.base import Model
from .models.bert import Bert

FAMILIES: dict[str, type[Model]] = {Bert.family: Bert}


def family_of(config: Mapping[str, Any], file: str) -> type[Model]:
    """The class of a model with this config.  FormatError: the config does not say.  UnsupportedError: another one."""
    kind = config.get("model_type")
    if kind is None and "architectures" in config:
        kind = _from_architectures(config["architectures"], file)
    if not isinstance(kind, str):
        raise FormatError(f"must name the model's family, got {shown(kind)}", file=file, key="model_type")
    if kind not in FAMILIES:
        architectures = config.get("architectures")
        name = architectures[0] if isinstance(architectures, list) and architectures else kind
        raise UnsupportedError(
            f"{file}: the architecture {shown(name)} is not supported, there is {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def _from_architectures(architectures: object, file: str) -> str:
    """Old configs have no model_type: "BertModel" -> "bert"."""
    if not isinstance(architectures, list) or not architectures or not isinstance(architectures[0], str):
        raise FormatError(f"must be a list of strings, got {shown(architectures)}", file=file, key="architectures")
    word: str = architectures[0]
    for family in FAMILIES:
        if word.lower().startswith(f"{family}model") or word.lower().startswith(f"{family}for"):
            return family
    raise UnsupportedError(f"{file}: the architecture {shown(word)} is not supported, there is {', '.join(FAMILIES)}")
