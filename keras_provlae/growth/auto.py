"""Growth without a schedule: the validation ELBO and the newest rung decide."""

import math
from typing import Any, NamedTuple

from keras import ops

from keras_provlae.checks import check_count
from keras_provlae.messages import say
from keras_provlae.metrics.encoding import check_encodable, encode_all
from keras_provlae.metrics.information import active_latents
from keras_provlae.thresholds import LEAST_NATS


class AutoGrowth:
    """`GrowthCallback("auto")`: the next rung is unlocked when the validation ELBO stops improving.

    An epoch counts as an improvement when `val_elbo` is above the best of its stage by more than `min_delta`. Epochs of
    a fade-in never count against the patience. When the patience is used up, the newest rung must carry `min_nats`;
    if it does not, growth ends there, and it was one rung too many. After the last unlock, training goes on to the
    end of `fit`, or until an `EarlyStopping` ends it. A resumed run restarts its patience.

    Args:
        patience: Int >= 1. Epochs without an improvement.
        min_delta: Float >= 0. Nats per image.
        min_nats: Float >= 0. The least `val_kl_rung_l`, in nats per image, of a rung that is worth its place.
        images: Float array `(n, height, width, channels)` in [0, 1], or `None`. With it, the advice at the end says
            how many latents each rung uses (those whose means vary).

    Attributes:
        advice: `None`, or at the end of `fit` an `Advice`; it is printed as well.

    Raises:
        ValueError: If a number is out of range.
        TypeError: If `patience` is not an integer, or `images` no array of images.

    Example:
        >>> AutoGrowth(patience=3, min_nats=0.05).advice is None
        True
    """

    def __init__(self, patience: int = 3, min_delta: float = 0.1, min_nats: float = LEAST_NATS, images: Any = None):
        check_count("patience", patience)
        for name, value in ("min_delta", min_delta), ("min_nats", min_nats):
            if not 0 <= value < math.inf:
                raise ValueError(f"`{name}` must be a finite number >= 0. Received: {name}={value}.")
        if images is not None and (len(getattr(images, "shape", ())) != 4 or not images.shape[0]):
            received = f"shape {tuple(images.shape)}" if hasattr(images, "shape") else type(images).__name__
            raise TypeError(
                f"`images` must be an array (n, height, width, channels), n at least 1. Received: {received}. Of a "
                "ground truth take `truth.sample(1000)[0]`."
            )
        self.patience, self.min_delta, self.min_nats, self.images = patience, min_delta, min_nats, images
        self.advice: Advice | None = None
        self.begin()

    def begin(self, model: Any = None) -> None:
        """Starts a new `fit`: resets the patience, and rejects bad images before the first epoch."""
        if model is not None and self.images is not None:
            check_encodable(model, ops.convert_to_numpy(self.images))
        self.best, self.waited = -math.inf, 0
        self.ended: str | None = None

    def end_epoch(self, model: Any, logs: dict) -> bool:
        """Decides whether the next rung is due, after an epoch with these logs.

        Raises:
            ValueError: If the epoch was not validated.
        """
        if "val_elbo" not in logs:
            raise ValueError(
                "Automatic growth follows the ELBO of validation images: give `fit` its `validation_data` "
                "(and `validation_freq=1`). Received: an epoch without `val_elbo`."
            )
        if self.ended or model.is_grown:
            return False
        if logs["val_elbo"] > self.best + self.min_delta:
            self.best, self.waited = logs["val_elbo"], 0
            return False
        self.waited += model.alpha >= 1.0
        if self.waited < self.patience:
            return False
        rung = model.num_rungs - model.stage
        nats = logs[f"val_kl_rung_{rung}"]
        if nats < self.min_nats:
            self.ended = f"Rung {rung} carries {nats:.2g} nats, less than {self.min_nats:g}: the growth ends there."
            say(self.ended, new_line=True)
            return False
        self.best, self.waited = -math.inf, 0
        return True

    def end(self, model: Any, logs: dict) -> "Advice | None":
        """Derives the advice about L and the widths of the codes; `None` where no epoch was validated."""
        kls: dict[int, Any] = {rung: logs.get(f"val_kl_rung_{rung}") for rung in model.unlocked_rungs}
        if None in kls.values():
            return None
        used = None if self.images is None else _used_latents(model, self.images)
        carries = [nats >= self.min_nats and (used is None or used[rung] > 0) for rung, nats in kls.items()]
        num_rungs = max(1, [*carries, False].index(False))  # of the deepest: one below an empty one does not count
        widths = None if used is None else tuple(max(used[rung], 1) for rung in list(kls)[:num_rungs])[::-1]
        self.advice = Advice(num_rungs, widths, kls, used, num_rungs == model.num_rungs and all(carries))
        return self.advice


class Advice(NamedTuple):
    """Suggestions for the next training, from an automatic growth.

    Attributes:
        num_rungs: Int. How many of the deepest rungs carry enough.
        latent_dim: A tuple ordered from rung 1, as the models take it: the latents that these rungs use; or `None`.
        nats: `{rung: nats}` of the unlocked rungs, deepest first.
        used_latents: `{rung: number of latents}`, or `None`.
        fully_grown: Bool. Whether all rungs are used, so that one more may be worth a try.
    """

    num_rungs: int
    latent_dim: tuple | None
    nats: dict
    used_latents: dict | None
    fully_grown: bool

    def __str__(self) -> str:
        carried = ", ".join(f"rung {rung} {nats:.2f}" for rung, nats in self.nats.items())
        lines = [f"Nats on validation images: {carried}."]
        if self.used_latents is not None:
            used = ", ".join(f"rung {rung} {number}" for rung, number in self.used_latents.items())
            lines.append(f"Latents in use: {used}.")
        suggestion = f"num_rungs={self.num_rungs}"
        if self.latent_dim is not None:
            suggestion += f", latent_dim={self.latent_dim}"
        more = ", or one rung more: every rung is used." if self.fully_grown else "."
        lines.append(f"Suggested: {suggestion}{more}")
        return " ".join(lines)


def _used_latents(model, images):
    """The number of active latents of each unlocked rung."""
    mean, _ = encode_all(model, images)
    active = active_latents(mean)
    return {rung: int(active[columns].sum()) for rung, columns in model.rung_slices if rung in model.unlocked_rungs}
