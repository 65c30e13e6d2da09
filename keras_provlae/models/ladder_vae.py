"""The abstract ladder VAE: everything that all the models of the paper share.

A ladder model answers two questions per optimizer step, each with a vector of one entry per rung: how much of the rung
passes (its gate), and the weight of its KL. Everything else, from the network to sampling, is written once, here.
"""

import abc
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_provlae import ladder, presets, pretrained
from keras_provlae.checks import check_dataset_size, non_negative
from keras_provlae.layers import Sampling
from keras_provlae.losses import bernoulli_nll, bounded_log_var, gaussian_kl, gaussian_nll, total_correlation
from keras_provlae.models.codes import checked_codes, hold_other_rungs
from keras_provlae.models.latent_names import LatentNames
from keras_provlae.models.loss_weights import LossWeight, LossWeights
from keras_provlae.training import replicas
from keras_provlae.training.image_checks import OWN_LOSS_RULE, check_images, check_pixels, within_unit
from keras_provlae.training.prediction import on_any_rows, predict_on_batch
from keras_provlae.training.trainer import ImageModel

LIKELIHOODS = {
    "bernoulli": bernoulli_nll,
    "gaussian": lambda images, logits: gaussian_nll(images, ops.sigmoid(logits)),
}
OF_PRESET = ("preset", "latent_names")  # what a config has beside the constructor's arguments
ARCHITECTURE = set(inspect.signature(ladder.ladder_spec).parameters) - {"image_shape", "num_rungs", "latent_dim"}


class LadderVAE(ImageModel, abc.ABC):
    """A variational ladder autoencoder; subclasses define the gates and the KL weights.

    Args:
        image_shape: `(height, width, channels)` in pixels.
        num_rungs: Int L >= 1. Rung L is the deepest, the most abstract.
        latent_dim: Int >= 1, or L of them ordered from rung 1: width of each rung's code.
        beta: Float >= 0, or L of them ordered from rung 1. Weight of the KL terms.
        likelihood: `"bernoulli"`, or `"gaussian"` with unit variance (a smaller variance
            is a smaller `beta`). The decoder's output passes a sigmoid under both.
        tc_weight: Float >= 0. Weight of the estimated total correlation of the unlocked rungs' latents (`tc_estimate`
            in the logs: see `losses.total_correlation`), on top of the KL terms: beta-TCVAE's beta - 1.
        dataset_size: Int. Number of training images, which the estimate of the total correlation needs. `None` leaves
            the term out.
        capacity: `None`, or float >= 0, or L of them ordered from rung 1: nats C_l, the information budget of each
            rung. An unlocked rung then pays beta |KL_l - C_l| instead of beta KL_l.
        rung_widths: `None`, or the columns of each rung, deepest first, in a model that divides the code of a single
            ladder rung into several (`TeacherStudentVAE`).
        own_weights: Values of a subclass's own `LossWeight`s; `None` leaves one out.
        name: Name of the model.
        dtype: Dtype policy; `None` takes the global one.
        **architecture: `channels`, `dense`, `stem`, `head_convs`, `head_dense`, `map_dense`,
            `decoder_convs`, `decoder_affine`, `activation`: see `ladder.ladder_spec`.

    Raises:
        ValueError: If a number is out of range or the image too small for L rungs.
        TypeError: If `**architecture` has an unknown name.

    `beta`, `tc_weight` and `capacity` are saved state, which may change during training: `model.beta = 4.0`, or
    `callbacks.Annealing`.

    Source: Li et al. (2020), sections 3.1, 3.2 and 5 (the total correlation as future work); Zhao et al. (2017);
    Chen et al. (2018), equation 4; Burgess et al. (2018), "Understanding disentangling in beta-VAE".
    """

    beta = LossWeight(per_rung=True)
    tc_weight = LossWeight(absent=0.0)
    capacity = LossWeight(per_rung=True)
    latent_names = LatentNames()
    grows = False  # whether rungs are unlocked one by one
    _is_regularized = False  # whether the last loss had terms of regularizers or of `add_loss`
    needs_maps = False  # whether a training step computes with the maps g_l
    step_wiring = ladder  # wires the layers in a training step; may be replaced by functions that give the same numbers

    def __init__(
        self,
        image_shape: Sequence[int],
        num_rungs: int,
        latent_dim: int | Sequence[int],
        beta: float | Sequence[float] = 1.0,
        likelihood: str = "bernoulli",
        tc_weight: float = 0.0,
        dataset_size: int | None = None,
        capacity: float | Sequence[float] | None = None,
        rung_widths: Sequence[int] | None = None,
        own_weights: Mapping[str, Any] | None = None,
        name: str | None = None,
        dtype: Any = None,
        **architecture: Any,
    ):
        super().__init__(name=name, dtype=dtype)
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"`likelihood` must be one of {sorted(LIKELIHOODS)}. Received: {likelihood!r}.")
        unknown = set(architecture) - ARCHITECTURE
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no argument {', '.join(sorted(unknown))}. "
                f"Its architecture has {', '.join(sorted(ARCHITECTURE))}."
            )

        # === Config ===
        self.spec = ladder.ladder_spec(image_shape, num_rungs, latent_dim, **architecture)
        self.rung_widths = self.spec.latent_dim[::-1] if rung_widths is None else tuple(rung_widths)
        if sum(self.rung_widths) != sum(self.spec.latent_dim):
            raise ValueError(f"`rung_widths` must divide {self.spec.latent_dim} latents. Received: {rung_widths}.")
        self.likelihood = likelihood
        self.dataset_size = dataset_size
        if dataset_size is not None or non_negative("tc_weight", tc_weight) > 0:
            check_dataset_size(dataset_size)
        self.loss_weights = LossWeights()
        tc_weight = None if dataset_size is None else tc_weight
        weights = {"beta": beta, "tc_weight": tc_weight, "capacity": capacity, **(own_weights or {})}
        for weight, value in weights.items():
            if value is not None:
                getattr(type(self), weight).create(self, value)
        self.preset: str | None = None  # set by `from_preset`

        # === Layers ===
        self._encoder_layers = ladder.encoder_layers(self.spec, self.dtype_policy)
        self.encoder = ladder.encoder_network(self.spec, self._encoder_layers)
        self.sampling = Sampling(name="sampling")
        self._decoder_layers = ladder.decoder_layers(self.spec, self.dtype_policy)
        self.decoder = ladder.decoder_network(self.spec, self._decoder_layers)

        # === Trackers ===
        rungs = range(len(self.rung_widths), 0, -1)
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction")
        self.kl_tracker = keras.metrics.Mean(name="kl")
        self.rung_trackers = [keras.metrics.Mean(name=f"kl_rung_{rung}") for rung in rungs]
        self.elbo_tracker = keras.metrics.Mean(name="elbo")
        self.regularization_tracker = keras.metrics.Mean(name="regularization")
        self.further_trackers = {} if dataset_size is None else {"tc_estimate": keras.metrics.Mean(name="tc_estimate")}

        self.build((None, *self.spec.image_shape))

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = False, **overrides: Any) -> Self:
        """Builds a model with the numbers of a preset, and on request with its pretrained weights.

        Args:
            preset: A name of `presets.preset`.
            load_weights: Bool. Whether to load trained weights, which `pretrained.names()` have.
            **overrides: Constructor arguments that replace the preset's.

        Returns:
            An uncompiled model of this class, with the name of the preset as `model.preset`.

        Raises:
            ValueError: If the preset is unknown, or has no weights for this class and architecture.
            TypeError: If this class has no argument of an override's name.
        """
        model = cls(**{**cls.preset_settings(preset), **overrides})
        model.preset = preset
        if load_weights:
            pretrained.load(model, preset)
        return model

    @classmethod
    def preset_settings(cls, preset: str) -> dict:
        """Constructor arguments that this class takes from a preset."""
        settings = presets.preset(preset)["model"]
        return {name: value for name, value in settings.items() if name not in ("gamma", "contour_weight")}

    # === What a concrete model defines ===

    @abc.abstractmethod
    def encoder_gates(self) -> Any:
        """The share of h_l that the head of each rung sees: float32 `(num_rungs,)`, deepest first."""

    @abc.abstractmethod
    def decoder_gates(self) -> Any:
        """The share of m_l(z_l) that enters the decoder: float32 `(num_rungs,)`, deepest first."""

    @abc.abstractmethod
    def kl_weights(self) -> Any:
        """The weight of each rung's KL in the loss: float32 `(num_rungs,)`, deepest first."""

    def unlocked(self) -> Any:
        """1 for unlocked rungs, else 0: float32 `(num_rungs,)`, deepest first."""
        return ops.ones(self.num_rungs, "float32")

    def further_weights(self) -> dict[str, Any]:
        """Weights of the loss terms other than reconstruction and KL: `{name: weight}`."""
        return {} if self.dataset_size is None else {"tc_estimate": self.loss_weights["tc_weight"]}

    def further_terms(self, images: Any, y_pred: dict[str, Any]) -> dict[str, Any]:
        """Those terms for one batch: `{name: float32 scalar}`, with the names of `further_weights`."""
        if self.dataset_size is None:
            return {}
        codes, mean, log_var = (y_pred[name] for name in ("codes", "mean", "log_var"))
        unlocked = self.per_latent(self.unlocked())
        estimate = total_correlation(codes, mean, log_var, self.dataset_size, unlocked)
        return {"tc_estimate": replicas.batch_mean(estimate)}

    # === State; a model that grows answers from its own counters ===

    @property
    def stage(self) -> int:
        """The progressive step s, 0 .. L - 1: the rungs L .. L - s are unlocked."""
        return self.num_rungs - 1

    @property
    def alpha(self) -> float:
        """The fade-in coefficient of the newest rung, 0.0 .. 1.0."""
        return 1.0

    @property
    def iteration(self) -> int:
        """Optimizer steps that this model has been trained for."""
        optimizer = getattr(self, "optimizer", None)  # an uncompiled model has none
        return 0 if optimizer is None else int(ops.convert_to_numpy(optimizer.iterations))

    @property
    def unlocked_rungs(self) -> list[int]:
        """Rungs that are part of the model so far: L .. L - s."""
        return list(range(self.num_rungs, self.num_rungs - self.stage - 1, -1))

    @property
    def is_grown(self) -> bool:
        """Returns whether every rung is unlocked."""
        return self.stage == self.num_rungs - 1

    # === The model as a function ===

    @property
    def image_shape(self) -> tuple:
        """`(height, width, channels)` in pixels."""
        return self.spec.image_shape

    @property
    def num_rungs(self) -> int:
        """L, the number of rungs."""
        return len(self.rung_widths)

    @property
    def rung_slices(self) -> list[tuple[int, slice]]:
        """`[(L, slice), ..., (1, slice)]`: the columns of each rung in means, log variances and codes."""
        slices, start = [], 0
        for rung, width in zip(range(self.num_rungs, 0, -1), self.rung_widths, strict=True):
            slices.append((rung, slice(start, start + width)))
            start += width
        return slices

    def per_latent(self, per_rung: Any) -> Any:
        """Repeats each rung's entry for each of its latents: from `(num_rungs,)` to `(sum of latent_dim,)`."""
        index = [index for index, width in enumerate(self.rung_widths) for _ in range(width)]
        return ops.take(per_rung, ops.convert_to_tensor(index, "int32"))

    def inference(self, images: Any, encode: Callable) -> tuple[Any, Any]:
        """q(z | x): `(mean, log_var)`, by a function of images and gates."""
        mean, log_var = on_any_rows(lambda images: encode(images, self.encoder_gates()), images)
        return mean, bounded_log_var(log_var)

    def generative(self, codes: Any, decode: Callable) -> Any:
        """p(x | z): logits, by a function of codes and gates."""
        return on_any_rows(lambda codes: decode(codes, self.decoder_gates()), codes)

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, Any]:
        """Computes the posterior, a sample of it, and the logits decoded from that sample.

        Args:
            inputs: Float tensor `(batch, height, width, channels)` in [0, 1]. Or a dict: that tensor as `"images"`, and
                `"rungs"`, int `(n,)`: only the deepest n rungs are decoded, and the others must be locked.
            training: Bool. Whether this is a training step.

        Returns:
            Dict of float32 tensors: `mean`, `log_var`, `codes` and `logits`.
        """
        images, rungs = self._images_and_rungs(inputs)
        wiring = self.step_wiring if training else ladder
        encode = functools.partial(wiring.encode, self._encoder_layers)
        maps: list[Any] | None = [] if training and self.needs_maps else None
        decode = functools.partial(wiring.decode, self._decoder_layers, rungs=rungs, maps=maps)
        mean, log_var = self.inference(self.checked(images), encode)
        codes = self.sampling(mean, log_var)
        outputs = {"mean": mean, "log_var": log_var, "codes": codes, "logits": self.generative(codes, decode)}
        return outputs if maps is None else {**outputs, "maps": maps}

    def _images_and_rungs(self, inputs):
        """The images, and the rungs to decode (`None` for all). The checks refuse any other dict."""
        if not (isinstance(inputs, dict) and "rungs" in inputs):
            return inputs, None
        deepest = self.spec.num_rungs
        return inputs["images"], range(deepest, deepest - inputs["rungs"].shape[0], -1)

    def encode(self, images: Any) -> tuple[Any, Any]:
        """Encodes images into the posterior q(z | x) of every rung; see `encode_on_batch` for many batches.

        Args:
            images: Float array or tensor `(batch, height, width, channels)` in [0, 1].

        Returns:
            `(mean, log_var)`, float32 tensors `(batch, sum of latent_dim)` with the columns of `rung_slices`.

        Raises:
            TypeError: If the images are not floating point.
            ValueError: If their shape or range is wrong, or one is NaN.
        """
        check_images(images, self.image_shape)
        check_pixels(images)
        return self.inference(within_unit(images), lambda images, gates: self.encoder([images, gates]))

    def encode_on_batch(self, images: Any) -> tuple[Any, Any]:
        """As `encode`, in a compiled function: several times faster for many batches of the same size.

        Args:
            images: As for `encode`.

        Returns:
            `(mean, log_var)`, float32 NumPy arrays `(batch, sum of latent_dim)`.

        Raises:
            TypeError, ValueError: As `encode`.
        """
        check_images(images, self.image_shape)
        check_pixels(images)
        encode = functools.partial(predict_on_batch, self.encoder)
        return tuple(map(ops.convert_to_numpy, self.inference(within_unit(images), encode)))

    def decode(self, codes: Any) -> Any:
        """Decodes codes into images.

        Args:
            codes: Float array or tensor `(batch, sum of latent_dim)`, deepest rung's columns first.

        Returns:
            Float32 tensor `(batch, height, width, channels)`: pixels in [0, 1].

        Raises:
            ValueError: If the codes have another width.
        """
        codes = checked_codes(self, ops.convert_to_tensor(codes, "float32"))
        return ops.sigmoid(self.generative(codes, lambda codes, gates: self.decoder([codes, gates])))

    def decode_on_batch(self, codes: Any) -> Any:
        """As `decode`, in a compiled function: several times faster for many batches.

        Args:
            codes: As for `decode`.

        Returns:
            Float32 NumPy array `(batch, height, width, channels)`: pixels in [0, 1].

        Raises:
            ValueError: As `decode`.
        """
        codes = checked_codes(self, ops.convert_to_numpy(codes).astype("float32"))
        logits = self.generative(codes, functools.partial(predict_on_batch, self.decoder))
        return ops.convert_to_numpy(ops.sigmoid(logits))

    def reconstruct(self, images: Any) -> Any:
        """Encodes images and decodes the means of their posteriors.

        Args:
            images: Float array or tensor `(batch, height, width, channels)` in [0, 1].

        Returns:
            Float32 tensor like `images`: pixels in [0, 1].

        Raises:
            TypeError, ValueError: As `encode`.
        """
        mean, _ = self.encode(images)
        return self.decode(mean)

    def sample(self, n: int, rung: int | None = None, around: Any = None, seed: int | None = None) -> Any:
        """Samples images from the prior of every rung, or of one rung with the others held.

        Args:
            n: Int >= 1. Number of images.
            rung: Int 1 .. L or `None`. The rung whose code is drawn; `None` draws all.
            around: One image, `(1, height, width, channels)`: the other rungs are held at its posterior means. Without
                it they are held at 0, the prior's mean.
            seed: Int or `None`. The same seed gives the same images.

        Returns:
            Float32 tensor `(n, height, width, channels)`: pixels in [0, 1].

        Raises:
            ValueError: If `n` is below 1, there is no such rung, or `around` is not one image or has no `rung`.

        Source: Li et al. (2020), figures 5 and 6.
        """
        if n < 1:
            raise ValueError(f"`n` must be at least 1. Received: n={n}.")
        codes = keras.random.normal((n, sum(self.spec.latent_dim)), dtype="float32", seed=seed)
        if rung is not None:
            codes = hold_other_rungs(self, codes, rung, around)
        elif around is not None:
            raise ValueError(f"`around` needs the `rung` to draw, one of 1 .. {self.num_rungs}. Received: rung=None.")
        return self.decode(codes)

    # === The objective ===

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Any:
        """Reconstruction, the weighted KL of every rung (equation 11) and further terms, averaged over the batch.

        Regularizers and `add_loss` terms are added as in any Keras model. Set them before `compile`, and again on a
        loaded model: files do not keep them.
        """
        if sample_weight is not None:
            raise ValueError(OWN_LOSS_RULE.format(name="sample_weight"))
        images, _ = self._images_and_rungs(x)
        images = within_unit(ops.cast(images, "float32"))
        reconstruction = replicas.batch_mean(LIKELIHOODS[self.likelihood](images, y_pred["logits"]))
        kls = gaussian_kl(y_pred["mean"][..., None], y_pred["log_var"][..., None])  # each latent by itself
        kls = replicas.batch_mean(kls)
        rung_kls = ops.stack([ops.sum(kls[columns]) for _, columns in self.rung_slices])
        loss = reconstruction + ops.sum(self.kl_weights() * self.kl_costs(rung_kls))
        further, weights = self.further_terms(images, y_pred), self.further_weights()
        loss += sum(weights[name] * term for name, term in further.items())
        regularization = [ops.sum(ops.cast(term, "float32")) for term in self.losses]
        self._is_regularized = bool(regularization)
        loss += sum(regularization)
        if training:
            loss = self.check_loss(loss, reconstruction, ops.sum(rung_kls))
        batch = ops.shape(images)[0]
        self._track(reconstruction, rung_kls, further, batch)
        if regularization:
            self.regularization_tracker.update_state(sum(regularization), sample_weight=batch)
        return replicas.share_of_loss(loss, batch)

    def kl_costs(self, rung_kls: Any) -> Any:
        """KL_l, or |KL_l - C_l| of unlocked rungs with information budgets (Burgess et al., 2018, equation 8)."""
        if "capacity" not in self.loss_weights.by_name:
            return rung_kls
        return ops.abs(rung_kls - self.loss_weights["capacity"] * self.unlocked())

    def _track(self, reconstruction, rung_kls, further, batch):
        """Logs the terms in nats per image; `kl` and `elbo` are over the unlocked rungs at beta 1 (equation 8)."""
        kl = ops.sum(self.unlocked() * rung_kls)
        self.reconstruction_tracker.update_state(reconstruction, sample_weight=batch)
        self.kl_tracker.update_state(kl, sample_weight=batch)
        self.elbo_tracker.update_state(-reconstruction - kl, sample_weight=batch)
        for index, tracker in enumerate(self.rung_trackers):
            tracker.update_state(rung_kls[index], sample_weight=batch)
        for name, term in further.items():
            self.further_trackers[name].update_state(term, sample_weight=batch)

    # === Keras ===

    def get_metrics_result(self) -> dict[str, Any]:
        """As Keras does; `regularization` only where there is any."""
        logs = super().get_metrics_result()
        if not self._is_regularized:
            logs.pop("regularization", None)
        return logs

    def _repr_html_(self):
        """A table of the rungs, for notebooks."""
        from keras_provlae.models.rungs_table import rungs_table

        return rungs_table(self)

    def build(self, input_shape: Any) -> None:
        """Does nothing: the constructor builds the networks."""

    def get_config(self) -> dict[str, Any]:
        return {
            **self.spec._asdict(),
            "num_rungs": self.spec.num_rungs,
            **self.loss_weights.initial,  # the present values are in the variables
            **({} if self.dataset_size is None else {"dataset_size": self.dataset_size}),
            "likelihood": self.likelihood,
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            **{name: getattr(self, name) for name in OF_PRESET if getattr(self, name) is not None},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        model = super().from_config({name: value for name, value in config.items() if name not in OF_PRESET})
        model.preset, model.latent_names = (config.get(name) for name in OF_PRESET)
        return model
