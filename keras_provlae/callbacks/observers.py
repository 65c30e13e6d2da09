"""Observers for `fit`: they measure the model as it grows and add the values to `logs`."""

import abc
import warnings
from collections.abc import Sequence
from typing import Any

import keras

from keras_provlae import metrics
from keras_provlae.callbacks.checks import check_epochs, check_every, check_ladder, is_due
from keras_provlae.checks import check_count
from keras_provlae.metrics.encoding import check_encodable, encode_all, held_subset
from keras_provlae.metrics.posteriors import check_varied

TIMES = 10  # measurements during one `fit` by default


class PosteriorObserver(keras.callbacks.Callback, abc.ABC):
    """Measures the posteriors of a fixed subset of images at chosen epochs and at every unlock.

    Values go into `logs` at the end of an epoch, for `History` and for any `CSVLogger`, `TensorBoard` or
    `ModelCheckpoint` later in the list of callbacks. Epochs without a measurement repeat the last one.

    An unlock is measured at once, even in the middle of an epoch and wherever in the list this callback is: the
    observer is one of `model.growth_listeners`. These values go into `records` only.

    Args:
        every: Int >= 1: measure at the end of every `every` epochs. Or a list of epochs, counted from 0 as Keras does.
            `None` measures about ten times during `fit`. The first epoch, epochs with an unlock, and the last epoch
            are always measured.

    Attributes:
        records: All measurements of this `fit`, a list of dicts: `when` ("epoch", "unlock", or "end" where a later
            callback stopped the training), `epoch`, `iteration`, `stage`, and the values by name.
    """

    _measured_stage: int

    def __init__(self, every: int | Sequence[int] | None = None):
        super().__init__()
        check_every(every)
        self.every = every
        self.records: list[dict[str, Any]] = []

    @abc.abstractmethod
    def names(self) -> list[str]:
        """Names of the values, the same in every epoch."""

    @abc.abstractmethod
    def measure(self) -> dict[str, float]:
        """Measures the model in its current state."""

    def set_model(self, model: keras.Model) -> None:
        check_ladder(self, model)
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        check_encodable(self.model, self.images)
        check_epochs(self)
        self.params.setdefault("logged", []).extend(self.names())  # so that a later `CSVLogger` knows the columns
        self.records = []
        self._values: Any = None
        self._missed_epoch: int | None = None
        self._epoch: int | None = None  # between epochs
        if self.model.grows:
            self.model.growth_listeners.append(self)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch
        for record in self.records:
            if record["epoch"] is None:  # an earlier callback unlocked a rung at the start of this epoch
                record["epoch"] = epoch

    def before_unlock(self, model: keras.Model) -> None:
        """Does nothing: the old stage was measured at the end of its last epoch."""

    def after_unlock(self, model: keras.Model) -> None:
        """Measures the model before the first step of the new stage; called by `model.grow`."""
        self._record("unlock", self._epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = None
        epochs = self.params.get("epochs") or epoch + 1
        is_new_stage = self._values is None or self.model.stage != self._measured_stage
        is_last = epoch + 1 == epochs or self.model.stop_training
        self._missed_epoch = None
        if is_due(self.every, epoch, epochs, TIMES) or is_last or is_new_stage:
            self._values = self._record("epoch", epoch)
            self._measured_stage = self.model.stage
        else:
            self._missed_epoch = epoch
        if logs is not None:
            logs.update(self._values)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.params.pop("logged", None)  # `History` keeps `params`: only numbers may stay
        if self._missed_epoch is not None:  # a later callback stopped the training
            self._record("end", self._missed_epoch)

    def _record(self, when, epoch):
        values = self.measure()
        state = {"iteration": self.model.iteration, "stage": self.model.stage}
        self.records.append({"when": when, "epoch": epoch, **state, **values})
        return values


class InformationFlow(PosteriorObserver):
    """I(x; z_l) of every rung and I(x; z) during training: `mi_rung_L` .. `mi_rung_1`, `mi_total`, `i_over`.

    No value can exceed the log of `num_images` (6.9 nats for 1,000), so use these values to follow the growth. To
    report numbers, call `metrics.information_flow` on all images.

    Args:
        images: Float array `(n, height, width, channels)` in [0, 1], a `tf.data.Dataset` of batches of images,
            or any data that `metrics.evaluate` takes.
        every: As `PosteriorObserver`.
        num_images: Int >= 2. Size of the subset: random images of an array, the first of a data set.
        draws: Int >= 2. Draws of (x, z).
        seed: Int or `None`. Seed of the subset and of the draws, the same at every measurement.

    Raises:
        TypeError, ValueError: If the images or a number is invalid: at once, or at the start of `fit`.

    Example:
        >>> import numpy as np
        >>> callback = InformationFlow(np.zeros((100, 8, 8, 1), "float32"), every=5)

    Source: Li et al. (2020), section 4, figure 5 and tables 3 to 8.
    """

    def __init__(
        self,
        images: Any,
        every: int | Sequence[int] | None = None,
        num_images: int = 1000,
        draws: int = 1000,
        seed: int | None = 0,
    ):
        super().__init__(every)
        check_count("draws", draws, least=2)
        self.images, _ = held_subset(images, num_images, seed)
        self.draws, self.seed = draws, seed

    def names(self) -> list[str]:
        return [f"mi_rung_{rung}" for rung, _ in self.model.rung_slices] + ["mi_total", "i_over"]

    def measure(self) -> dict[str, float]:
        mean, log_var = encode_all(self.model, self.images)
        flow = metrics.information_flow(mean, log_var, self.model.rung_slices, self.draws, self.seed)
        return dict(zip(self.names(), [*map(float, flow.mi), flow.total, flow.i_over], strict=True))


class DisentanglementMonitor(PosteriorObserver):
    """MIG, MIG-sup and the FactorVAE score during training: `mig`, `mig_sup`, `factor_vae_score`.

    `mig_sup` and `factor_vae_score` are 0 while no latent is active.

    A small subset of a large grid overestimates the mutual information of sharp posteriors. To report numbers, call
    `metrics.evaluate`.

    Args:
        ground_truth: Images with factors, as `metrics.evaluate` takes them.
        every: As `PosteriorObserver`.
        num_images: Int >= 2. Size of the subset: random images, or the first of a data set.
        scores: The scores to follow, of `"mig"`, `"mig_sup"` and `"factor_vae_score"`. With a single factor the last is
            left out: it is 1 by definition.
        seed: Int or `None`. Seed of the subset and of the votes, the same at every measurement.

    Raises:
        TypeError, ValueError: If the data, a number or a score is invalid: at once, or at the start of `fit`.

    Source: Li et al. (2020), section 3.4.
    """

    SCORES = ("mig", "mig_sup", "factor_vae_score")

    def __init__(
        self,
        ground_truth: Any,
        every: int | Sequence[int] | None = None,
        num_images: int = 2000,
        scores: Sequence[str] = SCORES,
        seed: int | None = 0,
    ):
        super().__init__(every)
        if isinstance(scores, str):
            raise TypeError(f"`scores` must be a list of names. Received: {scores!r}; use [{scores!r}].")
        scores = tuple(scores)
        if not scores or any(score not in self.SCORES for score in scores):
            received = ", ".join(map(str, scores)) or "none"
            raise ValueError(f"`scores` must be among {', '.join(self.SCORES)}. Received: {received}.")
        self.images, self.factors = held_subset(ground_truth, num_images, seed)
        if self.factors is None:
            raise TypeError("`ground_truth` must have factors. Received: images only.")
        self.scores, self.seed = scores, seed
        if len(check_varied(self.factors, len(self.images), "The monitor").sizes) == 1:
            self.scores = tuple(score for score in scores if score != "factor_vae_score")
        if not self.scores:
            raise ValueError("With a single factor `factor_vae_score` is 1 by definition. Use mig or mig_sup.")

    def names(self) -> list[str]:
        return list(self.scores)

    def measure(self) -> dict[str, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # early in training no latent is active
            return self._scores(*encode_all(self.model, self.images))

    def _scores(self, mean, log_var):
        values = {}
        if {"mig", "mig_sup"} & set(self.scores):
            result = metrics.mutual_information(mean, log_var, self.factors)
            values["mig"] = metrics.mig(result.normalized)
            values["mig_sup"] = metrics.mig_sup(result.normalized, result.active) if result.active.any() else 0.0
        if "factor_vae_score" in self.scores:
            values["factor_vae_score"] = metrics.factor_vae_score(
                mean, self.factors, self.seed, num_train=1000, num_eval=1000
            )
        return {name: values[name] for name in self.scores}
