"""Checks shared by the callbacks: the epochs they are asked for, and the model."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras

from keras_provlae.checks import check_count
from keras_provlae.models.ladder_vae import LadderVAE


def check_every(every: Any) -> None:
    """Checks that `every` is `None`, an int >= 1, or a list of epochs from 0."""
    if isinstance(every, Sequence):
        for epoch in every:
            check_count("every", epoch, least=0)
    elif every is not None:
        check_count("every", every)


def check_epochs(callback: keras.callbacks.Callback) -> None:
    """Warns at the start of `fit` if `every` lists epochs beyond its end."""
    every = callback.every
    epochs: Any = (callback.params or {}).get("epochs")
    late = [epoch for epoch in every if epoch >= epochs] if isinstance(every, Sequence) and epochs else []
    if late:
        warnings.warn(
            f"{type(callback).__name__}: `every` lists epochs {', '.join(map(str, late))}, but this training ends "
            f"with epoch {epochs - 1}. Epochs are counted from 0.",
            stacklevel=2,
        )


def is_due(every: int | Sequence[int] | None, epoch: int, epochs: int, times: int) -> bool:
    """Returns whether the end of an epoch is due: a multiple of `every`, listed in it, or one of about `times`."""
    if isinstance(every, Sequence):
        return epoch in every
    return (epoch + 1) % (every or -(-epochs // times)) == 0


def check_ladder(callback: keras.callbacks.Callback, model: keras.Model) -> None:
    """Raises a `TypeError` unless the model is a `LadderVAE`."""
    if not isinstance(model, LadderVAE):
        raise TypeError(
            f"{type(callback).__name__} needs a LadderVAE, such as ProgressiveVAE. Received: {type(model).__name__}."
        )
