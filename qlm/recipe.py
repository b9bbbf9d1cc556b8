"""Recipe: what is done to each linear of a model and to its embedding tables, as data.

A recipe stays as it was written: `Recipe.layer(name)` resolves it for one linear, with nothing left out.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any

from .errors import FormatError, UnsupportedError, shown
from .formats import strictjson
from .methods import check_method, check_options
from .scheme import Scheme, check_keys, check_word, checked_group_size, checked_observer, fill

ACTIVATIONS = ("dynamic", "static")
OF_A_LAYER = ("weights", "activations", "group_size", "observer", "method", "activation_scheme", "method_options")
MAX_FILE = 1 << 20


@dataclass(frozen=True)
class LayerRecipe:
    """One linear's part of a recipe, complete: both schemes have a granularity and an observer."""

    weights: Scheme
    activations: str | None
    activation_scheme: Scheme | None
    methods: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def needs_calibration(self) -> bool:
        """Whether ranges of this linear's input must be known beforehand."""
        return self.activations == "static" or "smoothquant" in self.methods


@dataclass(frozen=True)
class Recipe:
    """How a model is quantized.

    weights: a dtype's name or a Scheme.  activations: None (weight-only), "dynamic" (ranges found while it runs) or
    "static" (ranges from calibration).  activation_scheme: None is asymmetric uint8, per token if dynamic, per tensor
    if static.  group_size: the weights'.  observer: the static activations'.  method: "rtn", "smoothquant", or
    several joined by "+"; method_options: its parameters ({"alpha": 0.85}).  embeddings: None (kept), a dtype's name
    (one scale per row) or a Scheme.  include, exclude: globs over the linears' names (`Model.layers`).  overrides:
    {glob: {any of the settings of a linear}}, later ones over earlier ones; weights None keeps a linear as it is.

    TypeError, ValueError: settings that mean nothing or contradict each other.  UnsupportedError: what a later
    version will have.
    """

    weights: str | Scheme = "int8"
    activations: str | None = None
    _: KW_ONLY
    group_size: int | None = None
    observer: str | None = None
    method: str = "rtn"
    activation_scheme: str | Scheme | None = None
    method_options: Mapping[str, Any] = field(default_factory=dict)
    embeddings: str | Scheme | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        normal = _normalized({name: getattr(self, name) for name in OF_A_LAYER}, "recipe")
        normal["embeddings"] = _scheme_or_name(self.embeddings, "embeddings")
        _embedding_scheme(normal["embeddings"])
        normal["include"] = _patterns("include", self.include)
        normal["exclude"] = _patterns("exclude", self.exclude)
        normal["overrides"] = _overrides(self.overrides)
        for name, value in normal.items():
            object.__setattr__(self, name, value)
        if self.weights is None:
            raise TypeError("weights must be a dtype's name or a Scheme, got None")
        self._check()

    def _check(self) -> None:
        resolved = [self._resolve([])] + [self._resolve([override]) for override in self.overrides.values()]
        is_static = any(layer is not None and layer.activations == "static" for layer in resolved)
        if self.observer not in (None, "minmax") and not is_static:
            raise ValueError(f"observer {self.observer!r} is for static activations, and the recipe has none")

    def _resolve(self, overrides: Iterable[Mapping[str, Any]]) -> LayerRecipe | None:
        settings = {name: getattr(self, name) for name in OF_A_LAYER}
        for override in overrides:
            settings = _override(settings, override)
        return _layer_recipe(settings)

    @property
    def embedding_scheme(self) -> Scheme | None:
        """The embedding tables' scheme, complete; None: they stay as they are."""
        return _embedding_scheme(self.embeddings)

    @property
    def needs_calibration(self) -> bool:
        """Whether any linear may need calibration data."""
        resolved = [self._resolve([])] + [self._resolve([override]) for override in self.overrides.values()]
        return any(layer is not None and layer.needs_calibration for layer in resolved)

    def layer(self, name: str) -> LayerRecipe | None:
        """What the linear `name` becomes; None: it stays as it is."""
        if self.include and not _matches(name, self.include):
            return None
        if _matches(name, self.exclude):
            return None
        return self._resolve(override for glob, override in self.overrides.items() if _matches(name, [glob]))

    def layers(self, names: Iterable[str]) -> dict[str, LayerRecipe | None]:
        """`layer` for each of a model's linears.  ValueError: a pattern that matches none of them."""
        names = list(names)
        for argument in ("include", "exclude", "overrides"):
            for glob in getattr(self, argument):
                if not fnmatch.filter(names, glob):
                    raise ValueError(f"{argument}: the pattern {shown(glob)} matches no layer")
        return {name: self.layer(name) for name in names}

    # ---- other forms ---------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The settings that differ from their defaults and the weights', in what JSON and TOML can say."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        defaults = {"method": "rtn"}
        return {
            name: _plain(value)
            for name, value in values.items()
            if value is not None and value not in ((), {}) and value != defaults.get(name)
        }

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_dict`."""
        check_keys(settings, [f.name for f in fields(cls)], "recipe")
        return cls(**settings)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Recipe:
        """Reads a TOML or JSON file.  FormatError: what is wrong with it."""
        settings = _read(path)
        try:
            return cls.from_dict(settings)
        except FormatError:
            raise
        except (TypeError, ValueError) as error:
            raise FormatError(str(error), file=path) from error
        except UnsupportedError as error:
            raise UnsupportedError(f"{os.fsdecode(path)}: {error}") from error

    @classmethod
    def of(cls, value: object, argument: str = "recipe") -> Recipe:
        """A Recipe, a recipe's name, a dictionary, or the path of a TOML or JSON file, as a Recipe."""
        if isinstance(value, Recipe):
            return value
        if isinstance(value, Mapping):
            return cls.from_dict(value)
        if isinstance(value, str) and value in RECIPES:
            return RECIPES[value]
        if isinstance(value, os.PathLike) or (isinstance(value, str) and value.endswith((".toml", ".json"))):
            return cls.from_file(value)
        if isinstance(value, str):
            known = ", ".join(RECIPES)
            raise ValueError(f"{argument} must be one of {known}, or a .toml or .json file, got {shown(value)}")
        raise TypeError(f"{argument} must be a name, a Recipe, a dictionary or a file, got {shown(value)}")


# ---- one layer ---------------------------------------------------------------------------------------------------


def _override(settings: dict[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with those of an override in place; what they contradict among the inherited ones gives way."""
    merged = {**settings, **override}
    if "weights" in override:
        own = override["weights"]
        if "group_size" not in override and isinstance(own, Scheme) and (own.granularity or own.group_size):
            merged["group_size"] = None
    elif "group_size" in override and isinstance(merged["weights"], Scheme):
        merged["weights"] = replace(merged["weights"], granularity=None, group_size=None)
    if "activations" in override and "activation_scheme" not in override:
        inherited = merged["activation_scheme"]
        if merged["activations"] is None:
            merged["activation_scheme"] = None
        elif isinstance(inherited, Scheme) and override["activations"] != settings["activations"]:
            merged["activation_scheme"] = replace(inherited, granularity=None, group_size=None)
    if merged["activations"] is None and "method" not in override and "smoothquant" in merged["method"]:
        merged["method"], merged["method_options"] = "rtn", {}
    if merged["activations"] != "static" and "observer" not in override:
        merged["observer"] = None
    return merged


def _layer_recipe(settings: Mapping[str, Any]) -> LayerRecipe | None:
    if settings["weights"] is None:
        return None
    weights = Scheme.of(settings["weights"], "weights")
    weights = fill(weights, "weights", group_size=settings["group_size"], observer=None, default="channel")
    if weights.granularity == "token":
        raise ValueError("weights: granularity 'token' is for activations")
    _check_weight_scheme(weights, "weights")
    activations = _activation_scheme(settings["activations"], settings["activation_scheme"], settings["observer"])
    if activations is not None:
        _check_pair(weights, activations)
    methods = check_method(settings["method"])
    if settings["activations"] is None and "smoothquant" in methods:
        raise ValueError(
            "method 'smoothquant' moves the activations' spread into the weights, activations=None has none"
        )
    options = check_options(methods, settings["method_options"])
    return LayerRecipe(weights, settings["activations"], activations, methods, options)


def _embedding_scheme(given: object) -> Scheme | None:
    if given is None:
        return None
    scheme = fill(Scheme.of(given, "embeddings"), "embeddings", group_size=None, observer=None, default="channel")
    if scheme.granularity not in ("channel", "group"):
        raise ValueError(f"embeddings are quantized per channel (row) or group, not per {scheme.granularity}")
    _check_weight_scheme(scheme, "embeddings")
    return scheme


def _activation_scheme(kind: str | None, given: object, observer: str | None) -> Scheme | None:
    if kind is None:
        if given is not None:
            raise ValueError("activation_scheme is given, but activations=None leaves them float")
        return None
    scheme = Scheme("uint8") if given is None else Scheme.of(given, "activation_scheme")
    static = kind == "static"
    filled = fill(
        scheme,
        "activation_scheme",
        group_size=None,
        observer=observer if static else None,
        default="tensor" if static else "token",
    )
    _check_activations(kind, filled)
    return filled


def _check_activations(kind: str, scheme: Scheme) -> None:
    allowed = ("tensor",) if kind == "static" else ("token", "group")
    if scheme.granularity not in allowed:
        why = {
            "token": "a token's range is not known before it runs",
            "tensor": "a row's result would depend on the other rows of its batch",
        }.get(str(scheme.granularity), f"there are {' and '.join(allowed)}")
        raise ValueError(f"activation_scheme: granularity {scheme.granularity!r} with {kind} activations: {why}")
    if scheme.type.bits < 8:
        raise UnsupportedError(f"activation_scheme: {scheme.dtype} activations are not supported yet")
    if kind == "dynamic" and scheme.observer != "minmax":
        raise ValueError(f"activation_scheme: observer {scheme.observer!r} is for static activations")
    if scheme.grid == "interval" and (kind == "static" or scheme.type.bits > 8):
        raise UnsupportedError(
            f"activation_scheme: grid 'interval' is for dynamic 8-bit activations, not {kind} {scheme.dtype}"
        )


def _check_weight_scheme(scheme: Scheme, place: str) -> None:
    if scheme.grid == "interval" and (scheme.type.bits > 8 or (scheme.type.bits <= 4 and scheme.group_size)):
        raise UnsupportedError(f"{place}: grid 'interval' of {scheme.granularity} {scheme.dtype} is not supported yet")


def _check_pair(weights: Scheme, activations: Scheme) -> None:
    if weights.grid == "interval" and activations.grid == "interval":
        raise UnsupportedError("grid 'interval' for both weights and activations is not supported yet")
    a, b = weights.group_size, activations.group_size
    if a and b and a % b and b % a:
        raise ValueError(f"group_size {a} of the weights and {b} of the activations: neither divides the other")


# ---- checks and plain forms --------------------------------------------------------------------------------------


def _normalized(settings: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The settings of a linear, each checked by itself."""
    check_keys(settings, list(OF_A_LAYER), place)
    normal = dict(settings)
    for name in ("weights", "activation_scheme"):
        if name in normal:
            normal[name] = _scheme_or_name(normal[name], name)
    if "group_size" in normal:
        normal["group_size"] = checked_group_size(normal["group_size"])
    if "method_options" in normal:
        if not isinstance(normal["method_options"], Mapping):
            raise TypeError(f"method_options must be a dictionary, got {shown(normal['method_options'])}")
        normal["method_options"] = dict(normal["method_options"])
    check_word("activations", normal.get("activations"), ACTIVATIONS)
    if "observer" in normal:
        normal["observer"] = checked_observer(normal["observer"])
    check_method(normal.get("method", "rtn"))
    return normal


def _scheme_or_name(value: object, argument: str) -> str | Scheme | None:
    if value is None:
        return None
    scheme = Scheme.of(value, argument)
    return scheme.dtype if isinstance(value, str) else scheme


def _patterns(argument: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{argument} must be a list of patterns, got {shown(value)}")
    patterns = tuple(value)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"{argument} must hold patterns, got {shown(pattern)}")
    return patterns


def _overrides(value: object) -> dict[str, dict[str, Any]]:
    if not isinstance(value, Mapping):
        raise TypeError(f"overrides must be a dictionary, got {shown(value)}")
    _patterns("overrides", value.keys())
    for pattern, settings in value.items():
        if not isinstance(settings, Mapping):
            raise TypeError(f"overrides[{shown(pattern)}] must be a dictionary, got {shown(settings)}")
    return {pattern: _normalized(settings, f"overrides[{shown(pattern)}]") for pattern, settings in value.items()}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _plain(value: Any) -> Any:
    if isinstance(value, Scheme):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


# ---- files -------------------------------------------------------------------------------------------------------


def _read(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    name = os.fsdecode(path)
    with open(name, "rb") as stream:
        data = stream.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise FormatError(f"a recipe is at most {MAX_FILE} bytes", file=name)
    value = _parse_toml(data, name) if name.endswith(".toml") else strictjson.parse(data, file=name)
    if not isinstance(value, dict):
        raise FormatError("a recipe is a JSON object", file=name)
    return value


def _parse_toml(data: bytes, name: str) -> object:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError as error:
            raise ImportError("TOML files need tomli on Python 3.10: pip install 'qlm[llm]'") from error
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise FormatError(f"not valid TOML: {error}", file=name) from None


# ---- names -------------------------------------------------------------------------------------------------------

RECIPES: dict[str, Recipe] = {
    "dynamic-int8": Recipe("int8", "dynamic", embeddings="int8"),
    "static-int8": Recipe("int8", "static", method="smoothquant", method_options={"alpha": 0.85}, embeddings="int8"),
    "dynamic-interval-int8": Recipe(
        "int8", "dynamic", activation_scheme=Scheme("uint8", grid="interval"), embeddings="int8"
    ),
    "weight-only-int8": Recipe("int8", embeddings="int8"),
    "weight-only-int4": Recipe(Scheme("int4", symmetric=False), group_size=32, embeddings="int8"),
    "static-int16": Recipe("int16", "static", activation_scheme="int16", embeddings="int16"),
}
