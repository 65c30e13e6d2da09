"""Whether a latent means the same in every context: the effect of a factor within contexts of the others, and over all.

A code may hold scale times a sign that depends on the hues. Averaged over the hues such a latent knows nothing of the
scale, so MIG is low, although within any one context of hues it is a clean function of it. KL and total correlation do
not object. This is the difference between a flipped code and one that ignores the factor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_provlae.checks import check_count, check_seed
from keras_provlae.metrics.encoding import BATCH, encode_all
from keras_provlae.metrics.posteriors import check_names, factor_name
from keras_provlae.thresholds import ACTIVE_VARIANCE

ROWS = 24_000  # images that `context_effects` encodes, over all factors
FOLLOWED = 0.25  # of a latent's variance within contexts, above which it follows a factor
STEADY = 0.5  # of a factor's effect within contexts; what is left over all contexts of a latent that is not flipped


@dataclass(frozen=True, eq=False)
class ContextEffects:
    """The share of each latent's variance that each factor explains, within contexts of the other factors and over all.

    A context is one value of every other factor. `within` and `over` are the total and the first-order Sobol index of
    the factor; they are equal for a latent that means the same in every context.

    Attributes:
        within: Float64 `(factors, latents)` in [0, 1]: mean over contexts of the variance along the factor, as a share
            of the latent's variance. 0 for an idle latent, whose means hardly vary.
        over: Float64 `(factors, latents)` in [0, within]: the variance along the factor of the mean over contexts.
        agreement: Float64 `(factors, latents)` in [0.5, 1]: share of contexts in which the latent moves the same way
            along the factor; about 0.5 for noise and for a code flipped in half of them.
        contexts: Number of contexts for each factor.
        factor_names: Names of the factors.
    """

    within: np.ndarray
    over: np.ndarray
    agreement: np.ndarray
    contexts: tuple[int, ...]
    factor_names: tuple[str, ...]

    @property
    def best(self) -> np.ndarray:
        """The latent with the largest effect of each factor within contexts: int `(factors,)`."""
        return self.within.argmax(axis=1)

    @property
    def flipped(self) -> list[tuple[str, int]]:
        """`[(factor, latent)]`: the best latent of a factor where the effect cancels over contexts, in every latent.

        Only for factors that explain a quarter of their best latent within contexts.
        """
        return [
            (name, int(latent))
            for name, latent, within, over in zip(self.factor_names, self.best, self.within, self.over, strict=True)
            if within[latent] >= FOLLOWED and over.max() < STEADY * within[latent]
        ]

    def __str__(self) -> str:
        width = max(len("factor"), *map(len, self.factor_names))
        lines = [f"{'factor':{width}}  latent  within contexts  over all  same way in"]
        for factor, (name, latent) in enumerate(zip(self.factor_names, self.best, strict=True)):
            within, over, agreement = (matrix[factor, latent] for matrix in (self.within, self.over, self.agreement))
            lines.append(f"{name:{width}}  {latent:6}  {within:15.3f}  {over:8.3f}  {agreement:10.0%}")
        return "\n".join(lines)


def context_effects(
    model: Any, ground_truth: Any, num_images: int = ROWS, seed: int | None = 0, batch_size: int = BATCH
) -> ContextEffects:
    """Encodes every value of each factor in random contexts of the others, and compares the effects.

    Args:
        model: A `LadderVAE`, or any object with `encode(images) -> (mean, log_var)` and `rung_slices`.
        ground_truth: A `datasets.GroundTruth`, or an object with its `factor_sizes`, `factor_names` and `images`.
        num_images: Int >= 1. Number of images to encode, about; every factor gets the same number of contexts, at
            least two, and at most as many as there are.
        seed: Int or `None`. Seed of the contexts.
        batch_size: Int >= 1. Images per encoding batch.

    Returns:
        A `ContextEffects`; `print` shows it as a table.

    Raises:
        TypeError, ValueError: If an argument is invalid, or no factor has two values.

    Source: Sobol (1993), "Sensitivity estimates for nonlinear mathematical models", for the two indices; their use for
    codes is specific to this package.
    """
    sizes, names = check_grid(ground_truth)
    check_count("num_images", num_images)
    check_count("batch_size", batch_size)
    check_seed(seed)
    designs = context_designs(sizes, num_images, seed)
    rows = np.concatenate([design.reshape(-1, len(sizes)) for design in designs])
    starts = range(0, len(rows), batch_size)
    mean = np.concatenate(
        [encode_all(model, ground_truth.images(rows[start : start + batch_size]), batch_size)[0] for start in starts]
    )
    codes, begin = [], 0
    for design in designs:
        count = design.shape[0] * design.shape[1]
        codes.append(mean[begin : begin + count].reshape(*design.shape[:2], -1))
        begin += count
    return effects_of_codes(codes, names)


def has_grid(ground_truth: Any) -> bool:
    """Returns whether data has an image for every combination of its factors."""
    return callable(getattr(ground_truth, "images", None)) and hasattr(ground_truth, "factor_sizes")


def check_grid(ground_truth: Any) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Returns the sizes and names of the factors of data that has an image for every combination of them."""
    if not has_grid(ground_truth):
        raise TypeError(
            "`ground_truth` must have an image for every combination of its factors, as a datasets.GroundTruth. "
            f"Received: {type(ground_truth).__name__}."
        )
    sizes = tuple(map(int, ground_truth.factor_sizes))
    if max(sizes) < 2:
        raise ValueError(f"At least one factor must have two values. Received: factor_sizes={sizes}.")
    return sizes, tuple(ground_truth.factor_names)


def context_designs(sizes: Sequence[int], num_images: int, seed: int | None) -> list[np.ndarray]:
    """Draws contexts: for each factor an int array `(contexts, values of the factor, factors)`.

    Contexts of a factor are drawn without replacement from the values of the other factors.
    """
    rng, designs = np.random.default_rng(seed), []
    wanted = max(2, round(num_images / sum(sizes)))
    for factor, size in enumerate(sizes):
        others = [other for other in range(len(sizes)) if other != factor]
        grid = [sizes[other] for other in others]
        index = rng.choice(
            int(np.prod(grid, dtype="int64")), min(wanted, int(np.prod(grid, dtype="int64"))), replace=False
        )
        design = np.zeros((len(index), size, len(sizes)), "int64")
        if others:
            design[..., others] = np.stack(np.unravel_index(index, grid), axis=-1)[:, None]
        design[..., factor] = np.arange(size)
        designs.append(design)
    return designs


def effects_of_codes(codes: Sequence[Any], factor_names: Sequence[str] | None = None) -> ContextEffects:
    """Computes the effects from codes.

    Args:
        codes: One float array `(contexts, values, latents)` per factor: posterior means for every value of the factor
            in each of its contexts.
        factor_names: Names of the factors, or `None` for "factor 0" and so on.

    Returns:
        A `ContextEffects`.

    Raises:
        ValueError: If an array has another shape, or the arrays differ in their latents.

    Example:
        >>> scale, sign = np.arange(4.0), np.array([1.0, -1.0])
        >>> flipped = (sign[:, None] * scale)[..., None]  # the sign of the code depends on the context
        >>> effects = effects_of_codes([flipped, flipped.transpose(1, 0, 2)], ["scale", "hue"])
        >>> effects.flipped[0], float(effects.over[0, 0]), float(effects.agreement[0, 0])
        (('scale', 0), 0.0, 0.5)
    """
    codes = [np.asarray(each, "float64") for each in codes]
    if not codes or any(each.ndim != 3 or each.shape[2] != codes[0].shape[2] or not each.size for each in codes):
        shapes = [each.shape for each in codes]
        raise ValueError(f"`codes` must be arrays (contexts, values, latents), one per factor. Received: {shapes}.")
    names = check_names(factor_names, len(codes))
    variance = np.concatenate([each.reshape(-1, each.shape[2]) for each in codes]).var(axis=0)
    variance = np.where(variance > ACTIVE_VARIANCE, variance, np.inf)  # an idle latent is explained by nothing
    within, over, agreement = (np.zeros((len(codes), len(variance))) for _ in range(3))
    for factor, each in enumerate(codes):
        profiles = each - each.mean(axis=1, keepdims=True)  # along the factor, in every context
        count = len(profiles)
        total = np.square(profiles).mean(axis=(0, 1))
        steady = np.square(profiles.mean(axis=0)).mean(axis=0)
        # the mean of a few contexts has a share of their differences left: E steady = over + (within - over) / count
        unbiased = (count * steady - total) / (count - 1) if count > 1 else steady
        within[factor], over[factor] = total / variance, np.clip(unbiased, 0.0, total) / variance
        agreement[factor] = [_agreement(profiles[..., latent]) for latent in range(len(variance))]
    names = tuple(factor_name(names, factor) for factor in range(len(codes)))
    return ContextEffects(within.clip(0, 1), over.clip(0, 1), agreement, tuple(map(len, codes)), names)


def _agreement(profiles):
    """Share of contexts whose profile points the same way along the direction that explains most of all profiles."""
    *_, directions = np.linalg.svd(profiles, full_matrices=False)
    same = float(np.mean(profiles @ directions[0] > 0))
    return max(same, 1 - same)
