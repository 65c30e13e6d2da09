"""Warnings of a report, as sentences."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_provlae.report.measurements import Measurements, vary
from keras_provlae.thresholds import LEAST_NATS
from keras_provlae.visualization import Snapshot
from keras_provlae.visualization.history import epoch_numbers

FEWEST_IMAGES = 100
STILL_FALLING = 0.01  # relative fall of the loss over the last fifth of the last stage
NEARLY_ONE = 0.9  # alpha logged at the last step of a finished fade-in may be one step below 1
NEAR_CEILING = 0.98  # share of ln N above which a value of I(x; z) is only a lower bound


def model_warnings(
    model: keras.Model,
    found: Measurements,
    history: Mapping[str, Sequence[float]] | None = None,
    snapshots: Sequence[Snapshot] = (),
) -> list[str]:
    """Lists what is wrong with a model, and caveats of its numbers.

    Args:
        model: A `LadderVAE`.
        found: The measurements.
        history: {name: one number per epoch} or `None`.
        snapshots: Snapshots of the training, by iteration; they have alpha at the end of every stage.

    Returns:
        A list of sentences, possibly empty.
    """
    return [
        *_training(model, found),
        *_poor_rungs(model, found),
        *_kl_for_nothing(found),
        *_unused_latents(model, found),
        *_ceiling(found),
        *_growth(model, found),
        *(_fades(snapshots) if snapshots else _fades_by_epoch(history or {})),
        *_losses(history or {}),
        *_factors(found),
        *_flips(found),
    ]


def _training(model, found):
    if model.iteration == 0 and (model.grows or getattr(model, "optimizer", None) is not None):
        yield "The model was never trained: it has taken no optimizer step."
    if found.flow.rows < FEWEST_IMAGES:
        yield f"Only {found.flow.rows} images were measured: estimates of information are rough and too small."


def _poor_rungs(model, found):
    poor = {
        rung: max(value, 0.0)
        for rung, value in zip(found.flow.rungs, found.flow.mi, strict=True)
        if rung not in found.locked and value < LEAST_NATS
    }
    if poor:
        several = ", ".join(f"{rung} ({value:.3f})" for rung, value in poor.items())
        nothing_left = "the other rungs left nothing to learn, " if len(poor) < model.num_rungs else ""
        rungs, carry = ("Rungs", "carry") if len(poor) > 1 else ("Rung", "carries")
        yield (
            f"{rungs} {several} {carry} less than {LEAST_NATS:g} nats about the image. Possible causes: {nothing_left}"
            "beta is too large, or the training was too short."
        )


def _kl_for_nothing(found):
    """Warns of a large KL(q(z) || p(z)): the KL is I(x; z_l) plus this part, which carries no information."""
    flow = found.flow
    for (rung, columns), value in zip(found.rung_slices, flow.mi, strict=True):
        kl = float(found.use.kl[columns].sum())
        if kl - value > max(1.0, 0.5 * kl) and value < NEAR_CEILING * flow.ceiling and rung not in found.locked:
            yield (
                f"Rung {rung} pays {kl:.2f} nats of KL but carries only {max(value, 0.0):.2f}: its aggregate posterior "
                "is far from the prior, so samples of the prior do not look like the data."
            )


def _unused_latents(model, found):
    unused = {}
    for rung, columns in model.rung_slices:
        for column in range(columns.start, columns.stop):
            if rung not in found.locked and not found.use.active[column]:
                unused.setdefault(rung, []).append(column - columns.start)
    count = sum(map(len, unused.values()))
    if count:
        several = count > 1
        names = ", ".join(_latents(rung, places) for rung, places in unused.items())
        yield (
            f"{count} of {len(found.use.active)} latents {'are' if several else 'is'} never used "
            f"({'their' if several else 'its'} posterior means hardly vary): {names}."
        )


def _latents(rung, places):
    """Names latents: z_1[0], z_1[1]; or a long run as z_1[0] .. z_1[9]."""
    if len(places) > 3 and places[-1] - places[0] == len(places) - 1:
        return f"z_{rung}[{places[0]}] .. z_{rung}[{places[-1]}]"
    return ", ".join(f"z_{rung}[{place}]" for place in places)


def _ceiling(found):
    flow = found.flow
    values = {
        **{f"I(x; z_{rung})": value for rung, value in zip(flow.rungs, flow.mi, strict=True)},
        "I(x; z)": flow.total,
    }
    full = [f"{name} = {value:.2f}" for name, value in values.items() if value >= NEAR_CEILING * flow.ceiling]
    if full:
        yield (
            f"{', '.join(full)} {'are' if len(full) > 1 else 'is'} within 2% of the ceiling: {flow.rows:,} images "
            f"allow at most ln {flow.rows:,} = {flow.ceiling:.2f} nats. The codes tell nearly all of them apart, so on "
            "more images the value may be larger, and I_over smaller. Raise `num_images` if there are more."
        )


def _growth(model, found):
    if found.locked:
        rungs = ", ".join(map(str, sorted(found.locked, reverse=True)))
        one = len(found.locked) == 1
        yield (
            f"Rung{'' if one else 's'} {rungs} {'is' if one else 'are'} still locked: the training ended at stage "
            f"{model.stage} of {model.num_rungs - 1}."
        )
    alpha = model.alpha
    if alpha < 1:
        yield (
            f"The fade-in of rung {model.num_rungs - model.stage} never finished: alpha is {alpha:.2g}, after "
            f"{round(alpha * model.fade_in_steps):,} of {model.fade_in_steps:,} steps."
        )


def _fades(snapshots):
    """Warns of fade-ins that the next unlock cut short; for the last stage, `_growth` checks the model itself."""
    ends = {one.stage: one for one in snapshots}
    for stage in sorted(ends)[:-1]:
        if ends[stage].alpha < 1:
            rung = int(ends[stage].rungs[stage])
            yield (
                f"The fade-in of rung {rung} (stage {stage}) never finished: alpha was {ends[stage].alpha:.2g} after "
                f"{ends[stage].iteration:,} steps, in the last snapshot of this stage."
            )


def _fades_by_epoch(history):
    """Does the same without snapshots, from alpha in the last epoch that ended in a stage."""
    stages, alphas = list(history.get("stage", [])), list(history.get("alpha", []))
    epochs = epoch_numbers(history)
    for epoch in range(1, min(len(stages), len(alphas))):
        if stages[epoch] > stages[epoch - 1] and alphas[epoch - 1] < NEARLY_ONE:
            yield (
                f"The fade-in of stage {stages[epoch - 1]:g} may never have finished: alpha was "
                f"{alphas[epoch - 1]:.2g} at the last step of epoch {epochs[epoch - 1]}; the next epoch ended "
                "in the next stage."
            )


def _losses(history: Mapping[str, Sequence[float]]) -> Iterator[str]:
    losses: Sequence[Any] = history.get("loss", [])
    bad = [epoch for epoch, loss in zip(epoch_numbers(history), losses, strict=False) if not math.isfinite(loss)]
    if bad:
        yield f"The loss was not finite in epoch {bad[0]}{' and others' if len(bad) > 1 else ''}."
        return
    stages = list(history.get("stage", [0] * len(losses)))
    last = [loss for loss, stage in zip(losses, stages, strict=False) if stage == stages[-1]]
    tail = max(len(last) // 5, 1) if len(last) > 1 else 0
    if tail and last[-1 - tail] - last[-1] > STILL_FALLING * abs(last[-1]):
        yield (
            f"The loss was still falling when the training ended: from {last[-1 - tail]:.4g} to {last[-1]:.4g} in "
            f"the last {tail} epoch{'s' if tail > 1 else ''}. Train for longer."
        )


def _flips(found):
    if found.contexts is None:
        return
    for factor, latent in found.contexts.flipped:
        row = found.contexts.factor_names.index(factor)
        within, over = found.contexts.within[row, latent], found.contexts.over[row].max()
        same = found.contexts.agreement[row, latent]
        rung, columns = next((rung, columns) for rung, columns in found.rung_slices if latent < columns.stop)
        name = _latents(rung, [latent - columns.start])
        yield (
            f"{name} follows {factor} only within a context: it explains {within:.0%} of "
            f"the latent's variance where the other factors are fixed, but at most {over:.0%} of any latent's over all "
            f"of them, because the latent moves the same way in only {same:.0%} of the contexts. Scores such as MIG "
            "count this as no information."
        )


def _factors(found):
    if found.factors is not None and not vary(found.factors):
        yield "Every factor has one value in these images, so no score of disentanglement is defined."
