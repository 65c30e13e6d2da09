"""From a recipe of `presets.recipe` to a model and the callbacks that train it."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_provlae.callbacks import Annealing
from keras_provlae.growth import GrowthCallback, GrowthSchedule
from keras_provlae.models import ProgressiveVAE
from keras_provlae.optimizers import adam


def compiled_model(recipe: Mapping[str, Any], **overrides: Any) -> ProgressiveVAE:
    """Builds and compiles the model of a recipe.

    Args:
        recipe: As `presets.recipe` returns it.
        **overrides: Constructor arguments that replace the recipe's.

    Returns:
        A `ProgressiveVAE` at stage 0, with Adam.

    Example:
        >>> from keras_provlae import presets
        >>> model = compiled_model(presets.recipe("shapes3d"), channels=4)
        >>> model.stage, model.tc_weight
        (0, 4.0)
    """
    training = recipe["training"]
    model = ProgressiveVAE(**{**recipe["model"], **overrides})
    model.compile(adam(_rate(training["learning_rate"]), epsilon=training["adam_epsilon"]))
    return model


def fit_callbacks(recipe: Mapping[str, Any], verbose: int = 0) -> list[keras.callbacks.Callback]:
    """The callbacks that grow the model of a recipe and change the weights of its loss.

    Args:
        recipe: As `presets.recipe` returns it. `training["iterations"]` is the number of optimizer steps to `fit`.
        verbose: 1 announces every unlock.

    Returns:
        A `GrowthCallback`, and an `Annealing` if the recipe has any, to put before others.
    """
    training = recipe["training"]
    growth = GrowthCallback(
        GrowthSchedule(unlock_iterations=training["unlock_iterations"]),
        fade_in_steps=training["fade_in_steps"],
        max_fade_fraction=None,
        verbose=verbose,
    )
    schedules = {name: _stages(values) for name, values in training["annealing"].items()}
    return [growth, Annealing(**schedules)] if schedules else [growth]


def _rate(points: float | Sequence[Sequence[float]]) -> Any:
    """A learning rate, or pairs (step from which it holds, learning rate)."""
    if isinstance(points, float):
        return points
    (_, first), *later = points
    steps = [step for step, _ in later]
    return keras.optimizers.schedules.PiecewiseConstantDecay(steps, [first, *(rate for _, rate in later)])


def _stages(values):
    """A schedule with integer stages; JSON has made them texts in recipes of finished runs."""
    return {int(stage): points for stage, points in values.items()} if isinstance(values, Mapping) else values
