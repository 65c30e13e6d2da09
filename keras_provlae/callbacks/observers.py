"""Observers for `fit`: they measure the model as it grows and put what they find into `logs`."""

import abc
import warnings
from collections.abc import Sequence
from typing import Any

import keras

from keras_provlae import metrics
from keras_provlae.callbacks.checks import check_epochs, check_every, check_ladder, is_chosen
from keras_provlae.checks import check_count
from keras_provlae.metrics.encoding import check_encodable, encode_all, held_subset
from keras_provlae.metrics.posteriors import check_varied

TIMES = 10  # measurements over the epochs of `fit`, where nothing else is asked for


class PosteriorObserver(keras.callbacks.Callback, abc.ABC):
    """Measures the posteriors of a held subset of images at chosen epochs and at every unlock.

    Values go into `logs` at the end of the epoch, so `History`, `CSVLogger`, `TensorBoard` and `ModelCheckpoint`
    that come after this callback in the list see them. Epochs without a measurement repeat the last one.
    Every measurement is in `records`; that of an unlock, before the first step of the new stage, is there only.

    Args:
        every: Int >= 1: measure at the end of every so many epochs. Or a list of epochs, counted from 0 as Keras
            does. `None` is about ten times over the epochs of `fit`. The first epoch, those in which a
            rung was unlocked, and the last are always measured.

    Attributes:
        records: A list of dicts: `when` ("epoch", "unlock", or "end" of a training that was stopped), `epoch`,
            `iteration`, `stage`, and the values by name. They begin anew with every `fit`, a resumed one included.
    """

    def __init__(self, every: int | Sequence[int] | None = None):
        super().__init__()
        check_every(every)
        self.every = every
        self.records = []

    @abc.abstractmethod
    def names(self) -> list[str]:
        """Names of the values, the same in every epoch."""

    @abc.abstractmethod
    def measure(self) -> dict[str, float]:
        """The values of the model as it is."""

    def set_model(self, model):
        check_ladder(self, model)
        super().set_model(model)

    def on_train_begin(self, logs=None):
        check_encodable(self.model, self.images)
        check_epochs(self)
        self.params.setdefault("logged", []).extend(self.names())  # a `CSVLogger` that comes later knows its columns
        self.records = []
        self._values = self._epoch_missed = None
        self._epoch = 0
        if self.model.grows:
            self.model.growth_listeners.append(self)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def before_unlock(self, model: keras.Model) -> None:
        """Nothing to do: the end of the epoch before has measured the model."""

    def after_unlock(self, model: keras.Model) -> None:
        """Measures the model at an unlock; called by `model.grow`."""
        self._record("unlock", self._epoch)

    def on_epoch_end(self, epoch, logs=None):
        epochs = self.params.get("epochs") or epoch + 1
        unlocked = self._values is None or self.model.stage != self._stage_at_measurement
        last = epoch + 1 == epochs or self.model.stop_training
        self._epoch_missed = None
        if is_chosen(self.every, epoch, epochs, TIMES) or last or unlocked:
            self._values = self._record("epoch", epoch)
            self._stage_at_measurement = self.model.stage
        else:
            self._epoch_missed = epoch
        if logs is not None:
            logs.update(self._values)

    def on_train_end(self, logs=None):
        self.params.pop("logged", None)  # of this `fit`; `History` keeps the others, which are plain numbers
        if self._epoch_missed is not None:  # a later callback stopped the training
            self._record("end", self._epoch_missed)

    def _record(self, when, epoch):
        values = self.measure()
        facts = {"iteration": self.model.iteration, "stage": self.model.stage}
        self.records.append({"when": when, "epoch": epoch, **facts, **values})
        return values


class InformationFlow(PosteriorObserver):
    """I(x; z_l) of every rung and I(x; z) during training: `mi_rung_L` .. `mi_rung_1`, `mi_total`, `i_over`.

    The values are those of the held images: none can exceed the log of their number (6.9 nats for 1,000),
    so they follow the growth; for numbers to report take `metrics.information_flow` of all images.

    Args:
        images: Float array `(n, height, width, channels)` in [0, 1], a `tf.data.Dataset` of batches of images,
            or what `metrics.evaluate` takes.
        every: As `PosteriorObserver`.
        num_images: Int >= 2. Images to hold: random ones of an array, the first of a data set.
        draws: Int >= 2. Draws of (x, z).
        seed: Int or `None`. Seed of the choice and of the draws, the same at every measurement.

    Raises:
        TypeError, ValueError: If the images or a number are unfit: as it is made, or at the start of `fit`.

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

    `mig_sup` and `factor_vae_score` are 0 as long as no latent is active.

    The values are those of the held images; few images of a large grid raise the mutual information that
    sharp posteriors seem to have. For numbers to report take `metrics.evaluate`.

    Args:
        ground_truth: What `metrics.evaluate` takes.
        every: As `PosteriorObserver`.
        num_images: Int >= 2. Images to hold: random ones, or the first of a data set.
        scores: Names of `"mig"`, `"mig_sup"`, `"factor_vae_score"` to follow. The last is left out where there
            is a single factor: it would be 1 by definition.
        seed: Int or `None`. Seed of the choice and of the votes, the same at every measurement.

    Raises:
        TypeError, ValueError: If the data or a number are unfit, or a score is unknown: as it is made, or at the start
            of `fit`.

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
            raise ValueError(f"`scores` takes {', '.join(self.SCORES)}. Received: {received}.")
        self.images, self.factors = held_subset(ground_truth, num_images, seed)
        if self.factors is None:
            raise TypeError("`ground_truth` must have factors. Received: images alone.")
        self.scores, self.seed = scores, seed
        if len(check_varied(self.factors, len(self.images), "The monitor").sizes) == 1:
            self.scores = tuple(score for score in scores if score != "factor_vae_score")
        if not self.scores:
            raise ValueError("With a single factor `factor_vae_score` is 1 by definition. Follow mig or mig_sup.")

    def names(self) -> list[str]:
        return list(self.scores)

    def measure(self) -> dict[str, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # early in training no latent is active
            return self._scores(*encode_all(self.model, self.images))

    def _scores(self, mean, log_var):
        found = {}
        if {"mig", "mig_sup"} & set(self.scores):
            result = metrics.mutual_information(mean, log_var, self.factors)
            found["mig"] = metrics.mig(result.normalized)
            found["mig_sup"] = metrics.mig_sup(result.normalized, result.active) if result.active.any() else 0.0
        if "factor_vae_score" in self.scores:
            found["factor_vae_score"] = metrics.factor_vae_score(
                mean, self.factors, self.seed, num_train=1000, num_eval=1000
            )
        return {name: found[name] for name in self.scores}
