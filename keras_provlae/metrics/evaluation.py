"""Every score of a model on data with known factors, each with how it was computed."""

import math
import sys
import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import keras
import numpy as np

from keras_provlae.metrics.card import ALL_COUNT, MetricCard
from keras_provlae.metrics.encoding import BATCH, encode, has_rungs, read
from keras_provlae.metrics.flow import check_slices
from keras_provlae.metrics.groups import GROUPS, Codes
from keras_provlae.metrics.posteriors import (
    UndefinedScoreError,
    check_factors,
    check_names,
    check_number,
    check_posterior,
    check_seed,
    factor_name,
)

ENCODING_SHARE = 0.5  # of `max_seconds` that encoding may take


def evaluate(
    model: keras.Model,
    ground_truth: Any,
    max_seconds: float | None = None,
    progress: bool = True,
    include: Sequence[str] | None = None,
    seed: int | None = 0,
    batch_size: int = BATCH,
    num_images: int | None = None,
    factor_names: Sequence[str] | None = None,
    data: str | None = None,
) -> MetricCard:
    """Encodes data with known factors and computes every score of this package.

    Args:
        model: A `LadderVAE`, or anything with `encode(images) -> (mean, log_var)` and `rung_slices`.
        ground_truth: A ground-truth data set, with `len`, `factors(index)`, `images(factors)` and
            `factor_names`; or `(images, factors)`, two arrays; or a `tf.data.Dataset` (or another iterable) of
            batches `(images, factors)`.
        max_seconds: Float or `None`. What it may take, roughly. Encoding gets half of it: if that is
            too little, a random subset of the rows is encoded (not of a data set that can only be read from
            its beginning: that is read to its end, and may leave no time for a score). Sampled scores then take
            fewer draws, and classifiers fewer rows, as each number says; what does not fit is left out,
            with the reason.
        progress: Bool. Show a progress bar while encoding and a line for each group of scores.
        include: Names of scores, or of groups of them (`metrics.GROUPS`); what is computed together
            comes together. `None` is all.
        seed: Int or `None`. Seed of everything that is drawn.
        batch_size: Int >= 1. Images encoded at once.
        num_images: Int >= 2 or `None`. Encode so many images, drawn by `seed`, where there are more; not of a data set
            that can only be read from its beginning. Unlike `max_seconds`, this gives the same rows everywhere.
        factor_names: Names of the factors; `None` asks `ground_truth.factor_names`.
        data: Name of the data for the card; `None` asks `ground_truth.source` and `.name`.

    Returns:
        A `MetricCard`: a dict of scores; `print` shows it as a table.

    Raises:
        TypeError, ValueError: If the ground truth, or a name in `include`, is unfit.

    Source: Li et al. (2020), sections 3.4 and 4.
    """
    begin = time.perf_counter()
    if not has_rungs(model):
        raise TypeError(
            "`model` must have `encode` and `rung_slices`, as ProgressiveVAE. "
            f"Received: {type(model).__name__}. For codes of another model take `evaluate_codes`."
        )
    _check_settings(include, seed, max_seconds)
    stream = read(ground_truth, batch_size)
    allowed = None if max_seconds is None else ENCODING_SHARE * max_seconds
    mean, log_var, factors = encode(model, stream, allowed, progress, seed, num_images)
    remaining = None if max_seconds is None else max(max_seconds - (time.perf_counter() - begin), 0.0)
    return evaluate_codes(
        mean,
        log_var,
        factors,
        model.rung_slices,
        max_seconds=remaining,
        progress=progress,
        include=include,
        seed=seed,
        factor_names=factor_names if factor_names is not None else getattr(ground_truth, "factor_names", None),
        data=data or _name_of(ground_truth),
        about={**_about(model), "encoding": f"{time.perf_counter() - begin:.1f} s"},
    )


def evaluate_codes(
    mean: Any,
    log_var: Any,
    factors: Any,
    rung_slices: Sequence[tuple[int, slice]] | None = None,
    max_seconds: float | None = None,
    progress: bool = False,
    include: Sequence[str] | None = None,
    seed: int | None = 0,
    factor_names: Sequence[str] | None = None,
    data: str = "unnamed",
    about: dict | None = None,
) -> MetricCard:
    """Every score of codes that are there already.

    Args:
        mean: Float array `(rows, latents)`.
        log_var: Float array like `mean`: natural log of the variance.
        factors: Integer array `(rows, factors)`. Factors with one value are left out, with a warning.
        rung_slices: As `model.rung_slices`; `None` is one rung.
        max_seconds: As `evaluate`.
        progress: Bool. Show a line for each group of scores.
        include: As `evaluate`.
        seed: As `evaluate`.
        factor_names: Names of the factors or `None`.
        data: Name of the data for the card.
        about: What else the card should say of what was evaluated.

    Returns:
        A `MetricCard`.

    Raises:
        TypeError, ValueError: If an array, or a name in `include`, is unfit.
    """
    _check_settings(include, seed, max_seconds)
    mean, log_var = check_posterior(mean, log_var)
    codes, sizes = _codes(mean, log_var, factors, rung_slices, factor_names, seed)
    facts = {
        "data": data,
        "factor checksum": _checksum(codes.factors),
        "factors": [f"{name} ({size})" for name, size in zip(codes.names, sizes, strict=True)],
        "rows": len(mean),
    }
    card = MetricCard(about={**(about or {}), **facts, "versions": _versions()})
    deadline = None if max_seconds is None else time.perf_counter() + max_seconds
    groups = {name: group for name, group in GROUPS.items() if include is None or _asked_for(name, group, include)}
    weight = sum(group.weight for group in groups.values())
    for name, group in groups.items():
        left = None if deadline is None else deadline - time.perf_counter()
        allowed = None if left is None else left * group.weight / weight
        weight -= group.weight
        before = set(card)
        if progress:
            print(f"{name}: ", end="", flush=True)
        _add_group(card, name, group, codes, facts, left, allowed)
        if progress:
            print(_outcome(card, name, before), flush=True)
    return card


def _add_group(card, name, group, codes, facts, left, allowed):
    """Computes a group, or says why not; conventions get the facts that hold for every score."""
    if left is not None and left <= 0:
        card.skipped[name] = "no time was left"
        return
    begin = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`log_var` lies in")  # said once already
            scores, result, skipped = _compute(group, codes, allowed)
    except (ImportError, UndefinedScoreError) as error:
        card.skipped[name] = str(error)
        return
    card.skipped.update(skipped)
    seconds = time.perf_counter() - begin
    for score in scores:
        convention = {"estimator": score.convention["estimator"], **facts, "active": ALL_COUNT, **score.convention}
        card[score.name] = replace(score, convention=convention, seconds=seconds)
    if result is not None:
        card.results[name] = result


def _compute(group, codes, allowed):
    """The group at its full size or, where time is short, at the largest size that a first try promises to fit."""
    if group.size is None or allowed is None:
        return group.compute(codes, group.size)
    begin = time.perf_counter()
    first = group.compute(codes, group.least)
    spent = max(time.perf_counter() - begin, 1e-9)
    size = min(group.size, int(group.least * (allowed - spent) / spent))
    return group.compute(codes, size) if size > group.least else first


def _outcome(card, group, before):
    """What a group came to, in one line."""
    if group in card.skipped:
        return f"left out, {card.skipped[group]}"
    new = [score for name, score in card.items() if name not in before]
    return f"{', '.join(f'{score.name} {score}' for score in new)} ({new[-1].seconds:.1f} s)"


def _check_settings(include, seed, max_seconds):
    check_seed(seed)
    if max_seconds is not None:
        check_number("max_seconds", max_seconds, 0, math.inf)
    if include is None:
        return
    if isinstance(include, str):
        raise TypeError(f"`include` must be a list of names. Received: {include!r}; use [{include!r}].")
    unknown = [name for name in include if not any(_asked_for(*group, [name]) for group in GROUPS.items())]
    if unknown or not len(include):
        known = [name for group in GROUPS for name in (group, *(f"{start}.." for start in GROUPS[group].names))]
        raise ValueError(f"`include` takes {', '.join(known)}. Received: {', '.join(unknown) or 'none'}.")


def _asked_for(name, group, include):
    return any(asked == name or asked.startswith(group.names) for asked in include)


def _codes(mean, log_var, factors, rung_slices, factor_names, seed):
    """What the scores are computed from, without the factors that have one value, and the sizes of the others."""
    checked = check_factors(factors, len(mean))
    factor_names = check_names(factor_names, len(checked.sizes))
    names = [factor_name(factor_names, factor) for factor in range(len(checked.sizes))]
    varied = [factor for factor, size in enumerate(checked.sizes) if size > 1]
    constant = [name for name, size in zip(names, checked.sizes, strict=True) if size == 1]
    if not varied:
        raise ValueError(f"At least one factor must have two values. Received: one value of {', '.join(constant)}.")
    if constant:
        warnings.warn(f"{', '.join(constant)}: one value in all rows, so left out of every score.", stacklevel=3)
    rung_slices = [(1, slice(0, mean.shape[1]))] if rung_slices is None else rung_slices
    rungs, columns = check_slices(rung_slices, mean.shape[1])
    slices = list(zip(rungs, columns, strict=True))
    names = tuple(names[factor] for factor in varied)
    codes = Codes(mean, log_var, checked.labels[:, varied], slices, names, seed)
    return codes, [checked.sizes[factor] for factor in varied]


def _checksum(labels):
    """Of which factors occur how often, in any order: other rows of the same data do not compare."""
    return f"{zlib.crc32(labels[np.lexsort(labels.T)].astype('<i8').tobytes()):08x}"


def _name_of(ground_truth):
    names = [getattr(ground_truth, name, None) for name in ("name", "source")]
    return " ".join(dict.fromkeys(name for name in names if isinstance(name, str))) or "unnamed"


def _about(model):
    facts = {"model": f"{type(model).__name__} {getattr(model, 'name', '')}".strip()}
    for name in "beta", "gamma", "stage", "alpha", "iteration":
        if hasattr(model, name):
            facts[name] = getattr(model, name)
    return facts


def _versions():
    found = {}
    for package in "keras", "numpy", "scikit-learn":
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    own = sys.modules[__package__.partition(".")[0]].__version__
    return {"keras_provlae": own, **found, "backend": keras.backend.backend()}
