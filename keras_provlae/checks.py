"""Checks of arguments that every part of the package shares."""

import importlib
import math
from numbers import Integral, Real
from types import ModuleType
from typing import Any


def check_count(name: str, number: Any, least: int = 1) -> None:
    """Checks that an argument is an integer of at least `least`.

    Args:
        name: Name of the argument, for the message.
        number: The argument.
        least: The smallest value allowed.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is too small.
    """
    if not isinstance(number, Integral) or isinstance(number, bool):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={number!r}.")
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}. Received: {name}={number}.")


def check_seed(seed: Any) -> None:
    """Checks that a seed is `None` or an integer >= 0."""
    if seed is not None:
        check_count("seed", seed, least=0)


def check_dataset_size(dataset_size: Any) -> None:
    """Checks that `dataset_size` is an integer of at least 2."""
    if not isinstance(dataset_size, Integral):
        raise TypeError(
            "`dataset_size` must be an integer, the number of training images: the total correlation needs it. "
            f"Received: dataset_size={dataset_size!r}."
        )
    if dataset_size < 2:
        raise ValueError(f"`dataset_size` must be at least 2. Received: dataset_size={dataset_size}.")


def check_number(name: str, number: Any, low: float, high: float) -> None:
    """Checks that an argument is a real number in [low, high].

    Args:
        name: Name of the argument, for the message.
        number: The argument.
        low: The smallest value allowed.
        high: The largest value allowed.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is out of range or NaN.
    """
    if not isinstance(number, Real) or isinstance(number, bool):
        raise TypeError(f"`{name}` must be a number. Received: {name}={number!r}.")
    if not low <= number <= high:  # type: ignore[operator]  # `Real` declares no >=
        raise ValueError(f"`{name}` must be in [{low:g}, {high:g}]. Received: {name}={number}.")


def non_negative(name: str, value: Any) -> float:
    """Returns a finite number >= 0 as a float.

    Args:
        name: Name of the argument, for the message.
        value: The argument.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is negative, infinite or NaN.
    """
    if not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number. Received: {name}={value!r}.")
    if not 0 <= value < math.inf:  # type: ignore[operator]  # as above
        raise ValueError(f"`{name}` must be a number >= 0. Received: {name}={value}.")
    return float(value)


def optional(module: str, extra: str, package: str) -> ModuleType:
    """Imports a module of an optional dependency.

    Args:
        module: Name of the module.
        extra: The extra of `keras_provlae` that installs it.
        package: Name of the package that has the module.

    Raises:
        ImportError: If it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'This needs {package}: pip install "keras_provlae[{extra}]" (or pip install {package}).'
        ) from error


def check_latent_names(names: Any, latents: int) -> None:
    """Checks that `latent_names` has one text for each of the latents."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"`latent_names` must be a list of texts, or None. Received: latent_names={names!r}.")
    if len(names) != latents:
        raise ValueError(f"`latent_names` must have a name for each of {latents} latents. Received: {names}.")
