"""From a recipe of `presets.recipe`, or of a few numbers, to a model and the callbacks that train it."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_provlae.callbacks import Annealing
from keras_provlae.checks import check_count, check_dataset_size, non_negative
from keras_provlae.growth import GrowthCallback, GrowthSchedule
from keras_provlae.models import ProgressiveVAE
from keras_provlae.optimizers import adam


def even_recipe(
    image_shape: Sequence[int],
    num_rungs: int = 3,
    latent_dim: int | Sequence[int] = 3,
    beta: float = 1.0,
    tc_weight: float = 0.0,
    new_rung_pressure: float = 1.0,
    last_pressure: float = 1.0,
    iterations: int = 16_000,
    batch_size: int = 100,
    dataset_size: int | None = None,
    **model: Any,
) -> dict[str, Any]:
    """Writes a recipe from a few numbers, for your own images or for a search.

    The stages share the optimizer steps evenly, and a new rung fades in over a quarter of its stage. A rung that is new
    in a stage pays `beta * new_rung_pressure` for its KL, the older ones `beta`. In the first half of the last stage
    the weights of the older rungs and of the total correlation fall to `last_pressure` times themselves. Adam's
    learning rate is 1e-3, and 3e-4 in the last fifth.

    Args:
        image_shape: `(height, width, channels)` in pixels.
        num_rungs: Int L >= 1.
        latent_dim: Int >= 1, or L of them ordered from rung 1: width of each rung's code.
        beta: Float >= 0. KL weight.
        tc_weight: Float >= 0. Weight of the total correlation; needs `dataset_size`.
        new_rung_pressure: Float >= 0. KL weight of a new rung, in units of `beta`.
        last_pressure: Float >= 0. Share of the weights that is left at the end.
        iterations: Int >= 2 L. Optimizer steps of the whole training.
        batch_size: Int >= 1. Images per step.
        dataset_size: Int or `None`. Number of training images, as for `ProgressiveVAE`.
        **model: Further constructor arguments of `ProgressiveVAE`, such as `gamma` and `channels`.

    Returns:
        A dict of plain numbers with `model` and `training`, as `presets.recipe` returns it.

    Raises:
        TypeError, ValueError: If a number is invalid. The constructor of the model checks the others.

    Example:
        >>> recipe = even_recipe((32, 32, 3), beta=2.0, new_rung_pressure=0.5, last_pressure=0.1, iterations=6_000)
        >>> recipe["training"]["unlock_iterations"]
        [2000, 4000]
        >>> recipe["training"]["annealing"]["beta"][1]  # rung 2 is new, rung 1 is still locked
        [2.0, 1.0, 2.0]
    """
    check_count("num_rungs", num_rungs)
    check_count("iterations", iterations, least=2 * num_rungs)
    check_count("batch_size", batch_size)
    beta, tc_weight = non_negative("beta", beta), non_negative("tc_weight", tc_weight)
    if tc_weight > 0 or dataset_size is not None:
        check_dataset_size(dataset_size)
    new = beta * non_negative("new_rung_pressure", new_rung_pressure)
    share = non_negative("last_pressure", last_pressure)
    ends = [round(iterations * stage / num_rungs) for stage in range(num_rungs + 1)]

    def betas(stage: int, older: float) -> list[float]:  # from rung 1; those of locked rungs have no effect
        return [new if 0 < stage == num_rungs - rung else older for rung in range(1, num_rungs + 1)]

    last, fallen = num_rungs - 1, (ends[-1] - ends[-2]) // 2
    annealing: dict[str, dict[int, Any]] = {"beta": {stage: betas(stage, beta) for stage in range(last)}}
    annealing["beta"][last] = [(0, betas(last, beta)), (fallen, betas(last, beta * share))]
    if dataset_size is not None:
        annealing["tc_weight"] = dict.fromkeys(range(last), tc_weight)
        annealing["tc_weight"][last] = [(0, tc_weight), (fallen, tc_weight * share)]
    ladder = {"image_shape": tuple(image_shape), "num_rungs": num_rungs, "latent_dim": latent_dim}
    weights = {"beta": beta, "tc_weight": tc_weight, "dataset_size": dataset_size}
    return {
        "model": {**ladder, **weights, **model},
        "training": {
            "batch_size": batch_size,
            "iterations": iterations,
            "unlock_iterations": ends[1:-1],
            "fade_in_steps": iterations // (4 * num_rungs),
            "annealing": annealing,
            "learning_rate": [(0, 1e-3), (iterations * 4 // 5, 3e-4)],
            "adam_epsilon": 1e-8,
        },
    }


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
