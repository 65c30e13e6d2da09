"""What a reader should be warned of, in words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_provlae.report.measurements import Measurements

LEAST_INFORMATION = 0.1  # nats: a rung with less says next to nothing of the image
NEAR_CEILING = 0.98  # of ln N: nearer, and a value says no more


def findings(model: keras.Model, found: Measurements, history: Mapping[str, Sequence[float]] | None) -> list[str]:
    """Sentences, each of something that is not as it should be or that a number must be read with.

    Args:
        model: A `LadderVAE`.
        found: What was measured.
        history: {name: one number per epoch} or `None`.

    Returns:
        A list, empty where there is nothing to warn of.
    """
    return [
        *_poor_rungs(found),
        *_unused_latents(model, found),
        *_ceiling(found),
        *_growth(model, found),
        *_fades(history or {}),
        *_losses(history or {}),
    ]


def _poor_rungs(found):
    for rung, value in zip(found.flow.rungs, found.flow.mi, strict=True):
        if rung not in found.locked and value < LEAST_INFORMATION:
            yield (
                f"Rung {rung} carries {max(value, 0.0):.3f} nats of the image, less than {LEAST_INFORMATION:g}: the "
                "other rungs left it nothing to learn, or beta is too large for what it could add, or it was trained "
                "too briefly."
            )


def _unused_latents(model, found):
    unused = [
        f"z_{rung}[{column - columns.start}]"
        for rung, columns in model.rung_slices
        for column in range(columns.start, columns.stop)
        if rung not in found.locked and not found.use.active[column]
    ]
    if unused:
        several = len(unused) > 1
        yield (
            f"{len(unused)} of {len(found.use.active)} latents {'are' if several else 'is'} never used (the means of "
            f"{'their' if several else 'its'} posteriors hardly vary): {', '.join(unused)}."
        )


def _ceiling(found):
    flow = found.flow
    values = {
        **{f"I(x; z_{rung})": value for rung, value in zip(flow.rungs, flow.mi, strict=True)},
        "I(x; z)": flow.total,
    }
    full = [f"{name} = {value:.2f}" for name, value in values.items() if value >= NEAR_CEILING * flow.ceiling]
    if full:
        yield (
            f"{', '.join(full)} {'are' if len(full) > 1 else 'is'} at the ceiling, ln {flow.rows:,} = "
            f"{flow.ceiling:.2f} nats: these codes tell nearly all of the {flow.rows:,} images apart, so of all images "
            "it may be more. Measure more of them to see (`num_images`)."
        )


def _growth(model, found):
    if found.locked:
        rungs = ", ".join(map(str, sorted(found.locked, reverse=True)))
        one = len(found.locked) == 1
        yield (
            f"Rung{'' if one else 's'} {rungs} {'is' if one else 'are'} still locked: the training ended at stage "
            f"{model.stage} of {model.num_rungs - 1}."
        )
    alpha = getattr(model, "alpha", 1.0)
    if alpha < 1:
        yield (
            f"The fade-in of rung {model.num_rungs - model.stage} never finished: alpha is {alpha:.2g} after "
            f"{model.iteration:,} steps, and the fade takes {model.fade_in_steps:,} from the unlock on."
        )


def _fades(history):
    """Fade-ins that the next unlock cut short; the last stage's is seen from the model itself."""
    stages, alphas = list(history.get("stage", [])), list(history.get("alpha", []))
    for epoch in range(1, min(len(stages), len(alphas))):
        if stages[epoch] > stages[epoch - 1] and alphas[epoch - 1] < 1:
            yield (
                f"The fade-in of stage {stages[epoch - 1]:g} never finished: alpha was {alphas[epoch - 1]:.2g} when "
                f"the next rung was unlocked, after epoch {epoch}."
            )


def _losses(history):
    losses: Sequence[Any] = history.get("loss", [])
    bad = [epoch for epoch, loss in enumerate(losses, start=1) if not math.isfinite(loss)]
    if bad:
        yield f"The loss was not finite in epoch {bad[0]}{' and others' if len(bad) > 1 else ''}."
