"""Computes every score of a model on data with known factors, and records how each was computed."""

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

from keras_provlae.checks import check_number, check_seed
from keras_provlae.messages import say
from keras_provlae.metrics.card import ALL_COUNT, MetricCard
from keras_provlae.metrics.contexts import context_effects, has_grid
from keras_provlae.metrics.encoding import BATCH, check_readable, encode, has_rungs, read
from keras_provlae.metrics.flow import check_slices
from keras_provlae.metrics.groups import GROUPS, Codes, Scores
from keras_provlae.metrics.posteriors import UndefinedScoreError, check_factors, check_posterior, random_rows

ENCODING_SHARE = 0.5  # share of `max_seconds` for encoding


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
    strict: bool = False,
) -> MetricCard:
    """Encodes data with known factors and computes every score of this package.

    Checks all arguments before encoding anything. A score that cannot be computed is left out; `skipped` of the
    card gives the reason.

    Args:
        model: A `LadderVAE`, or any object with `encode(images) -> (mean, log_var)` and `rung_slices`.
        ground_truth: A ground-truth data set with `len`, `factors(index)`, `images(factors)` and
            `factor_names`; or two arrays `(images, factors)`; or batches `(images, factors)`: a `tf.data.Dataset`,
            a PyTorch DataLoader, a `PyDataset` or another iterable. Factors are integers or integral floats.
            Factors with a single value are dropped with a warning.
        max_seconds: Float or `None`. Approximate time limit in seconds. Encoding gets half of it and takes a random
            subset of the rows if needed. A data set that cannot be indexed by row is read to its end, which may
            leave no time for scores. Scores then use fewer draws or rows, as their conventions record, or are left
            out.
        progress: Bool. Show a progress bar while encoding and a line per group of scores.
        include: Names of scores or of groups (`metrics.GROUPS`). Scores of one group are computed together.
            `None` computes all.
        seed: Int or `None`. Seed of all random draws.
        batch_size: Int >= 1. Images per encoding batch.
        num_images: Int >= 2 or `None`. Maximum number of images, drawn with `seed`; needs data that can be
            indexed by row. Unlike `max_seconds`, it picks the same rows on every machine.
        factor_names: Names of the factors; `None` reads `ground_truth.factor_names`.
        data: Name of the data on the card; `None` reads `ground_truth.name` and `.source`.
        strict: Bool. Raise the error of a score that cannot be computed. Scores for which no time is left are
            still left out.

    Returns:
        A `MetricCard`: a dict of scores; `print` shows it as a table.

    Raises:
        TypeError, ValueError: If an argument is invalid, or no factor has two values. With batches, constant
            factors show only at the end: then only the scores that need factors are left out.

    Source: Li et al. (2020), sections 3.4 and 4.
    """
    begin = time.perf_counter()
    if not has_rungs(model):
        raise TypeError(
            "`model` must have `encode` and `rung_slices`, as ProgressiveVAE. "
            f"Received: {type(model).__name__}. For codes of another model use `evaluate_codes`."
        )
    _check_settings(include, seed, max_seconds, data)
    names = factor_names if factor_names is not None else getattr(ground_truth, "factor_names", None)
    stream = read(ground_truth, batch_size, names)
    check_readable(stream, num_images)
    constant = _warn_of_constant(_known_factors(stream, names, num_images, seed))
    allowed = None if max_seconds is None else ENCODING_SHARE * max_seconds
    mean, log_var, labels = encode(model, stream, allowed, progress, seed, num_images)
    factors = check_factors(labels, len(mean), names)
    _warn_of_constant(factors, reported=constant)
    return _card(
        *check_posterior(mean, log_var),
        factors.varied(),
        model.rung_slices,
        None if max_seconds is None else max(max_seconds - (time.perf_counter() - begin), 0.0),
        progress,
        include,
        seed,
        data or _name_of(ground_truth),
        {**_about(model), "encoding": f"{time.perf_counter() - begin:.1f} s"},
        strict,
        _contexts(model, ground_truth, seed, batch_size),
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
    strict: bool = False,
) -> MetricCard:
    """Computes every score from given codes, as `evaluate` does after encoding.

    Args:
        mean: Float array `(rows, latents)`.
        log_var: Float array like `mean`: natural log of the variance.
        factors: Integer array `(rows, factors)`, or integral floats. Factors with a single value are dropped with a
            warning.
        rung_slices: As `model.rung_slices`; `None` treats all latents as one rung.
        max_seconds: As in `evaluate`.
        progress: Bool. Show a line per group of scores.
        include: As in `evaluate`.
        seed: As in `evaluate`.
        factor_names: Names of the factors, or `None`.
        data: Name of the data on the card.
        about: Additional facts for the card.
        strict: As in `evaluate`.

    Returns:
        A `MetricCard`.

    Raises:
        TypeError, ValueError: If an argument is invalid, or no factor has two values.
    """
    _check_settings(include, seed, max_seconds, data)
    mean, log_var = check_posterior(mean, log_var)
    factors = check_factors(factors, len(mean), factor_names)
    _require_varied(factors)
    _warn_of_constant(factors)
    rung_slices = [(1, slice(0, mean.shape[1]))] if rung_slices is None else rung_slices
    return _card(
        mean, log_var, factors.varied(), rung_slices, max_seconds, progress, include, seed, data, about, strict
    )


def _contexts(model, ground_truth, seed, batch_size):
    """A function from a number of images to the effects within contexts; `None` if combinations lack an image."""
    if not has_grid(ground_truth):
        return None
    return lambda images: context_effects(model, ground_truth, images, seed, batch_size)


def _card(
    mean, log_var, factors, rung_slices, max_seconds, progress, include, seed, data, about, strict, contexts=None
):
    """Computes the card of checked codes and factors; without factors, only the scores that need none."""
    rungs, columns = check_slices(rung_slices, mean.shape[1])
    codes = Codes(mean, log_var, factors, list(zip(rungs, columns, strict=True)), seed, contexts)
    facts = {
        "data": data,
        "factor checksum": _checksum(factors.labels),
        "factors": [f"{name} ({size})" for name, size in zip(factors.names, factors.sizes, strict=True)],
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
        outcome = _add_group(card, name, group, codes, facts, left, allowed, strict)
        if progress:
            say(f"{name}: {outcome}")
    return card


def _add_group(card, name, group, codes, facts, left, allowed, strict):
    """Adds a group's scores, or the reason they are left out, to the card. Returns a line for the progress output."""
    if left is not None and left <= 0:
        card.skipped[name] = "no time was left"
        return f"left out, {card.skipped[name]}"
    begin = time.perf_counter()
    try:
        if group.of_factors and not codes.factors.sizes:
            raise UndefinedScoreError("no factor has two values")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`log_var` lies in")  # already raised once
            scores, result, skipped = _compute(group, codes, allowed)
    except Exception as error:  # the other scores are still valid
        scores, result, skipped = Scores([], skipped={name: error})
    if strict and skipped:
        failed, error = next(iter(skipped.items()))
        error.add_note(f"`strict=True`: {failed} of the card cannot be computed.")
        raise error
    reasons = {failed: _reason(error) for failed, error in skipped.items()}
    card.skipped.update(reasons)
    seconds = time.perf_counter() - begin
    for score in scores:
        convention = {"estimator": score.convention["estimator"], **facts, "active": ALL_COUNT, **score.convention}
        card[score.name] = replace(score, convention=convention, seconds=seconds)
    if result is not None:
        card.results[name] = result
    if name in reasons:
        return f"left out, {reasons[name]}"
    parts = [f"{score.name} {score}" for score in scores]
    parts += [f"{failed} left out, {reason}" for failed, reason in reasons.items()]
    return f"{', '.join(parts)} ({seconds:.1f} s)"


def _reason(error):
    """Formats an error as one line; errors other than `ValueError` and `ImportError` start with their type."""
    text = " ".join(str(error).split())
    return text if text and isinstance(error, ValueError | ImportError) else f"{type(error).__name__}: {text}"


def _compute(group, codes, allowed):
    """Computes a group at full size, or at the size that a first small run predicts to fit the time limit."""
    if group.size is None or allowed is None:
        return group.compute(codes, group.size)
    begin = time.perf_counter()
    first = group.compute(codes, group.least)
    spent = max(time.perf_counter() - begin, 1e-9)
    size = min(group.size, int(group.least * (allowed - spent) / spent))
    return group.compute(codes, size) if size > group.least else first


def _check_settings(include, seed, max_seconds, data):
    check_seed(seed)
    if not isinstance(data, str | None):
        raise TypeError(f"`data` must be the name of the data. Received: data={data!r}.")
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


def _known_factors(stream, names, num_images, seed):
    """Checked factors of the rows to encode, or `None` if they come only with the images."""
    if stream.factors is None:
        return None
    drawn = num_images is not None and seed is not None  # without a seed the encoded rows are not known yet
    rows = random_rows(stream.rows, num_images, seed) if drawn else None
    factors = check_factors(stream.factors(rows), stream.rows if rows is None else len(rows), names)
    _require_varied(factors)
    return factors


def _require_varied(factors):
    if max(factors.sizes) == 1:
        raise ValueError(
            f"At least one factor must have two values. Received: one value of {', '.join(factors.constant())} in all "
            f"{len(factors.labels)} rows. Pass rows in which a factor varies."
        )


def _warn_of_constant(factors, reported=()):
    """Warns of factors with a single value that are not yet `reported`. Returns the names of all of them."""
    constant = [] if factors is None else factors.constant()
    new = [name for name in constant if name not in reported]
    if new:
        warnings.warn(
            f"{', '.join(new)}: one value in all rows, so left out of every score. Pass rows in which it varies, or "
            "leave the factor out.",
            stacklevel=3,
        )
    return constant


def _checksum(labels):
    """Checksum of the factor rows in any order, so scores of different subsets cannot be compared."""
    rows = labels[np.lexsort(labels.T)] if labels.size else labels
    return f"{zlib.crc32(rows.astype('<i8').tobytes()):08x}"


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
