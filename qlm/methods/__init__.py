"""Methods by name.  A method is a file with one function; a recipe joins several with "+"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UnsupportedError, shown

LATER = ("gptq", "awq", "hqq", "sparsegpt", "autoround")


def _alpha(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"method_options: alpha must be a number, got {shown(value)}")
    if not 0 <= value <= 1:
        raise ValueError(f"method_options: alpha must be from 0 to 1, got {value}")
    return float(value)


# Each method's parameters: default and check.
METHODS: dict[str, dict[str, tuple[Any, Callable[[object], Any]]]] = {
    "rtn": {},
    "smoothquant": {"alpha": (0.5, _alpha)},
}
ROUNDING = ("rtn",)


def check_method(method: object) -> tuple[str, ...]:
    """The methods that "a+b" names, ending with one that rounds.  UnsupportedError: a method of a later version."""
    if not isinstance(method, str):
        raise TypeError(f"method must be a string, got {shown(method)}")
    words = method.split("+")
    for word in words:
        if word in LATER:
            raise UnsupportedError(f"method: {word} is not supported yet, there are {', '.join(METHODS)}")
        if word not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, or several joined by +, got {shown(method)}")
    if len(set(words)) != len(words) or any(word in ROUNDING for word in words[:-1]):
        raise ValueError(f"method: each comes once, and {' or '.join(ROUNDING)} last, got {shown(method)}")
    return tuple(words) if words[-1] in ROUNDING else (*words, "rtn")


def check_options(methods: tuple[str, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of the methods, defaults filled in.  ValueError: an unknown one."""
    parameters = {name: parameter for method in methods for name, parameter in METHODS[method].items()}
    for name in options:
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise ValueError(f"method_options: {'+'.join(methods)} has no {shown(name)} (its parameters: {known})")
    return {name: check(options.get(name, default)) for name, (default, check) in parameters.items()}
