"""Load a model, quantize it: the work on whole models."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np

from . import _core
from .arrays import Floats, to_float32
from .calibration import Progress, Seen, Statistics, calibrate
from .errors import FormatError, UnsupportedError, shown
from .formats.checkpoint import Checkpoint, open_checkpoint
from .formats.tokenizer import read_tokenizer, require_library
from .methods.rtn import round_to_nearest
from .methods.smoothquant import input_scales
from .models.base import Folder, Model
from .models.linear import Activations, Linear, Linears, Table, divided
from .models.pooling import read_pooling
from .models.store import CONFIG_KEY, CheckpointSource, check_version
from .models.weights import Convert, Weights, read_weights
from .qtensor import QTensor
from .recipe import LayerRecipe, Recipe
from .registry import family_of
from .scheme import Scheme

# ---- loading -----------------------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str], *, recipe: object = None, activations: str | EllipsisType | None = ...) -> Model:
    """A model that runs here, from a Hugging Face folder (config.json and safetensors, sharded or not; a hub cache's
    snapshot), a folder that `Model.save` wrote, or "pkg:NAME", a model inside an installed Python package.

    recipe: quantize while loading, tensor by tensor (what `quantize_model` takes, without calibration).
    activations: `...` does as the folder says; None leaves the activations of quantized weights float; "dynamic" gives
    them one 8-bit range per token.
    ImportError: the extra qlm[llm] is missing.  FormatError: a bad file.  UnsupportedError: another architecture.
    OSError: the system's.  ValueError: a recipe that needs calibration.
    """
    require_library()
    if activations is not ... and activations is not None:
        if not isinstance(activations, str):
            raise TypeError(f"activations must be None or 'dynamic', got {shown(activations)}")
        if activations != "dynamic":
            raise ValueError(f"activations must be None or 'dynamic', got {shown(activations)}")
    wanted = None if recipe is None else Recipe.of(recipe)
    if wanted is not None and wanted.needs_calibration:
        raise ValueError("recipe: it needs calibration data: load the float model, then use quantize_model")
    model = _load(open_checkpoint(path), wanted)
    return model if activations is ... else _with_activations(model, activations)


def _load(checkpoint: Checkpoint, recipe: Recipe | None) -> Model:
    file = checkpoint.config_file
    check_version(checkpoint.config, file)
    config = {key: value for key, value in checkpoint.config.items() if key != CONFIG_KEY}
    family = family_of(config, file)
    source = CheckpointSource(checkpoint, family.short_name)
    layout = family.layout(config, source, file)
    folder = _read_folder(checkpoint, family, config)
    saved = _saved_recipe(checkpoint)
    if recipe is None:
        return family(config, read_weights(source, layout), folder, saved)
    plan = recipe.layers(layout.linears)
    scheme = recipe.embedding_scheme
    convert = Convert(
        lambda linear: quantize_linear(Job(linear, plan[linear.name])),
        lambda table: table if scheme is None else quantize_table(table, scheme),
    )
    return family(config, read_weights(source, layout, convert), folder, recipe)


def _read_folder(checkpoint: Checkpoint, family: type[Model], config: Mapping[str, Any]) -> Folder:
    limits = family.limits(config, checkpoint.config_file)
    pooling = read_pooling(checkpoint, limits.hidden)
    assets = checkpoint.assets()
    tokenizer = read_tokenizer(
        assets,
        checkpoint.path,
        vocab_size=limits.vocab_size,
        positions=limits.positions,
        max_length=pooling.max_length,
        lower_case=pooling.lower_case,
    )
    return Folder(tokenizer, pooling, assets)


def _saved_recipe(checkpoint: Checkpoint) -> Recipe | None:
    settings = checkpoint.qlm.get("recipe")
    if settings is None:
        return None
    if not isinstance(settings, dict):
        raise FormatError("must be a JSON object", file=checkpoint.weights_file, key="recipe")
    try:
        return Recipe.from_dict(settings)
    except (TypeError, ValueError) as error:
        raise FormatError(str(error), file=checkpoint.weights_file, key="recipe") from error
    except UnsupportedError as error:
        raise UnsupportedError(f"{checkpoint.weights_file}: recipe: {error}") from error


def _with_activations(model: Model, kind: str | None) -> Model:
    """The model with the activations of its quantized linears as asked."""
    activations = None if kind is None else Activations("dynamic", "uint8")
    linears = {
        name: replace(linear, activations=activations) if isinstance(linear.weight, QTensor) else linear
        for name, linear in model.weights.linears.items()
    }
    recipe = model.recipe
    if recipe is not None:
        recipe = Recipe(
            recipe.weights,
            kind,
            group_size=recipe.group_size,
            embeddings=recipe.embeddings,
            include=recipe.include,
            exclude=recipe.exclude,
        )
    return _rebuilt(model, replace(model.weights, linears=Linears(linears)), recipe)


def _rebuilt(model: Model, weights: Weights, recipe: Recipe | None) -> Model:
    return type(model)(model.config, weights, model.folder, recipe)


# ---- quantizing --------------------------------------------------------------------------------------------------


def quantize_model(
    model: Model,
    recipe: object,
    *,
    calibration: object = None,
    progress: bool | Progress | None = None,
    executor: Executor | None = None,
) -> Model:
    """A quantized model; the given one is left alone.

    recipe: a name ("dynamic-int8", "static-int8", ...), a Recipe, a dictionary, or a TOML or JSON file.
    calibration: what a static recipe finds its ranges from: texts, token arrays, or an iterable of batches of them.
    progress: called as progress(done, total, what), total 0 where it is not known; True draws a bar with rich.
    executor: any concurrent.futures.Executor, which gets one piece of work for each linear; None: threads.
    ValueError: a static recipe without calibration, a pattern that matches no layer, weights or activations that are
    not finite (by the tensor's name), a model that is quantized already.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model must be a Model, got {shown(model)}")
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(f"executor must be a concurrent.futures.Executor or None, got {shown(executor)}")
    wanted = Recipe.of(recipe)
    plan = wanted.layers(model.weights.linears)
    _check_float(model, plan, wanted.embedding_scheme)
    with _progress(progress) as report:
        statistics = _statistics(model, plan, calibration, report)
        jobs = _jobs(model, plan, statistics)
        tables = list(model.weights.tables.values()) if wanted.embedding_scheme is not None else []
        total = len(jobs) + len(tables)
        linears = _run_jobs(jobs, executor, lambda done, name: report(done, total, name))
        quantized_tables = dict(model.weights.tables)
        for done, table in enumerate(tables, len(jobs) + 1):
            assert wanted.embedding_scheme is not None
            quantized_tables[table.name] = quantize_table(table, wanted.embedding_scheme)
            report(done, total, table.name)
    merged = {name: linears.get(name, linear) for name, linear in model.weights.linears.items()}
    weights = replace(model.weights, linears=Linears(merged), tables=quantized_tables)
    return _rebuilt(model, weights, wanted)


class Job(NamedTuple):
    """The work on one linear: all it needs, so that it can run in another process."""

    linear: Linear
    recipe: LayerRecipe | None
    seen: Seen | None = None
    input_scale: Floats | None = None


def quantize_linear(job: Job) -> Linear:
    """The linear as its part of the recipe wants it."""
    linear, recipe = job.linear, job.recipe
    if recipe is None:
        return linear
    if isinstance(linear.weight, QTensor):
        raise ValueError(f"recipe: {linear.name} is quantized already; start from the float model")
    weight = linear.weight
    if job.input_scale is not None:
        with np.errstate(all="ignore"):
            weight = np.multiply(to_float32(weight), job.input_scale)
    codes = round_to_nearest(weight, recipe.weights, f"{linear.name}.weight")
    return replace(linear, weight=codes, activations=_activations(job), input_scale=job.input_scale)


def quantize_table(table: Table, scheme: Scheme) -> Table:
    """An embedding table by a complete scheme."""
    if isinstance(table.weight, QTensor):
        raise ValueError(f"recipe: {table.name} is quantized already; start from the float model")
    return Table(table.name, round_to_nearest(table.weight, scheme, f"{table.name}.weight"))


def _activations(job: Job) -> Activations | None:
    recipe = job.recipe
    assert recipe is not None
    scheme = recipe.activation_scheme
    if scheme is None:
        return None
    if recipe.activations == "dynamic":
        symmetric = scheme.grid == "affine" and scheme.is_symmetric
        return Activations("dynamic", scheme.dtype, symmetric, scheme.grid, scheme.group_size)
    assert scheme.observer is not None
    low, high = _static_range(job, scheme.observer)
    scale, zero_point = _core.choose_qparams(low, high, scheme.dtype, scheme.is_symmetric)
    return Activations(
        "static", scheme.dtype, scheme.is_symmetric, scale=np.float32(scale[0]), zero_point=int(zero_point[0])
    )


def _static_range(job: Job, observer: str) -> tuple[Floats, Floats]:
    """(min, max) of what is quantized: the input, divided by SmoothQuant's scales where it has them."""
    assert job.seen is not None
    if job.input_scale is None:
        return job.seen.tensor(observer)
    low, high = (divided(ends, job.input_scale) for ends in job.seen.columns(observer))
    return np.array([low.min()], np.float32), np.array([high.max()], np.float32)


def _check_float(model: Model, plan: Mapping[str, LayerRecipe | None], embeddings: Scheme | None) -> None:
    quantized = [
        name for name, part in plan.items() if part and isinstance(model.weights.linears[name].weight, QTensor)
    ]
    if embeddings is not None:
        quantized += [name for name, table in model.weights.tables.items() if isinstance(table.weight, QTensor)]
    if quantized:
        raise ValueError(f"model: {quantized[0]} is quantized already; start from the float model")


def _statistics(
    model: Model, plan: Mapping[str, LayerRecipe | None], data: object, report: Progress
) -> Statistics | None:
    parts = [part for part in plan.values() if part is not None and part.needs_calibration]
    if not parts:
        return None
    if data is None:
        raise ValueError("calibration must be given: the recipe finds ranges from data")
    if isinstance(data, Statistics):
        return data
    schemes = [part.activation_scheme for part in parts if part.activation_scheme is not None]
    averages = any(scheme.observer == "moving_average" for scheme in schemes)
    return calibrate(model, data, averages=averages, progress=report)


def _jobs(model: Model, plan: Mapping[str, LayerRecipe | None], statistics: Statistics | None) -> list[Job]:
    jobs = []
    scales: dict[tuple[object, float], Floats] = {}
    for name, part in plan.items():
        if part is None:
            continue
        linear = model.weights.linears[name]
        if statistics is None or not part.needs_calibration:
            jobs.append(Job(linear, part))
            continue
        scale = _input_scale(model, name, part, statistics, scales) if "smoothquant" in part.methods else None
        jobs.append(Job(linear, part, statistics.of(name), scale))
    return jobs


def _input_scale(
    model: Model,
    name: str,
    part: LayerRecipe,
    statistics: Statistics,
    known: dict[tuple[object, float], Floats],
) -> Floats:
    """SmoothQuant's scales, the same for all linears that share an input."""
    sharing, alpha = statistics.sharing(name), part.options["alpha"]
    key = sharing, alpha
    if key not in known:
        observer = part.activation_scheme.observer if part.activation_scheme is not None else "minmax"
        low, high = statistics.of(name).columns(observer or "minmax")
        weights = ((other, np.asarray(model.weights.linears[other].weight)) for other in sharing)
        known[key] = input_scales(low, high, weights, alpha)
    return known[key]


# ---- running the work --------------------------------------------------------------------------------------------


def _run_jobs(jobs: list[Job], executor: Executor | None, report: Callable[[int, str], None]) -> dict[str, Linear]:
    """The linears by name.  An error or Ctrl-C cancels what has not begun and ends what runs."""
    own = None if executor is not None else ThreadPoolExecutor(_core.get_num_threads(), "qlm-quantize")
    pool = executor if executor is not None else own
    assert pool is not None
    futures: list[Future[Linear]] = []
    try:
        futures = [pool.submit(quantize_linear, job) for job in jobs]
        names = dict(zip(futures, (job.linear.name for job in jobs), strict=True))
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            report(done, names[future])
        return {job.linear.name: future.result() for job, future in zip(jobs, futures, strict=True)}
    except BaseException as error:
        for future in futures:
            future.cancel()
        if own is not None and isinstance(error, KeyboardInterrupt):
            _core.interrupt_calls()
        raise
    finally:
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _progress(progress: bool | Progress | None) -> Iterator[Progress]:
    """What `progress` asks for, as a callback."""
    if progress is None or progress is False:
        yield lambda done, total, what: None
    elif progress is True:
        with _bar() as report:
            yield report
    elif callable(progress):
        yield progress
    else:
        raise TypeError(f"progress must be a function, True or None, got {shown(progress)}")


@contextmanager
def _bar() -> Iterator[Progress]:
    try:
        from rich.console import Console
        from rich.progress import Progress as Bar
    except ImportError as error:
        raise ImportError("progress=True needs rich: pip install 'qlm[llm]'") from error
    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("quantizing", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total or None, description=what)
