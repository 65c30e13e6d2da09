"""The abstract ladder VAE: everything that all the models of the paper share.

A ladder model answers two questions per optimisation step, each with a vector of one
entry per rung: how much of the rung passes (its gate), and what its KL weighs. The
rest, from the network to sampling, is written once, here.
"""

import abc
import inspect
from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_provlae import ladder, presets, replicas
from keras_provlae.layers import Sampling
from keras_provlae.losses import (
    bernoulli_nll,
    bounded_log_var,
    check_dataset_size,
    gaussian_kl,
    gaussian_nll,
    total_correlation,
)
from keras_provlae.models.dispatch import predict_on_batch
from keras_provlae.models.image_model import ImageModel
from keras_provlae.models.validation import (
    LOSS_RULE,
    OWN_LOSS_RULE,
    check_images,
    check_pixels,
    non_negative,
    require,
    within_unit,
)

LIKELIHOODS = {
    "bernoulli": bernoulli_nll,
    "gaussian": lambda images, logits: gaussian_nll(images, ops.sigmoid(logits)),
}
ARCHITECTURE = set(inspect.signature(ladder.ladder_spec).parameters) - {"image_shape", "num_rungs", "latent_dim"}


class LadderVAE(ImageModel, abc.ABC):
    """A variational ladder autoencoder; subclasses say what is gated and what the KL weighs.

    A concrete model defines `encoder_gates`, `decoder_gates` and `kl_weights`.

    Args:
        image_shape: `(height, width, channels)` in pixels.
        num_rungs: Int L >= 1. Rung L is the deepest, the most abstract.
        latent_dim: Int >= 1, or L of them ordered from rung 1: width of each rung's code.
        beta: Float >= 0. Weight of the KL terms.
        likelihood: `"bernoulli"`, or `"gaussian"` with unit variance (a smaller variance
            is a smaller `beta`). The decoder's output passes a sigmoid under both.
        tc_weight: Float >= 0. What the total correlation of the unlocked rungs' latents weighs in the loss,
            on top of the KL terms: beta-TCVAE's beta - 1. 0 leaves the term out.
        dataset_size: Int. Number of training images, which the estimate of the total correlation needs.
        latent_groups: `None`, or the widths of groups of latents that a model of one rung gates one by one,
            the first group's columns first (see `TeacherStudentVAE`): its `num_rungs` counts them.
        name: Name of the model.
        dtype: Dtype policy; `None` takes the global one.
        **architecture: `channels`, `dense`, `stem`, `head_convs`, `head_dense`, `map_dense`,
            `decoder_convs`, `decoder_affine`, `activation`: see `ladder.ladder_spec`.

    Raises:
        ValueError: If a number is out of range or the image too small for L rungs.
        TypeError: If `**architecture` has an unknown name.

    Source: Li et al. (2020), sections 3.1, 3.2 and 5 (the total correlation as future work); Zhao et al. (2017);
    Chen et al. (2018), equation 4.
    """

    _is_regularized = False  # whether the last loss had terms of regularizers or of `add_loss`

    def __init__(
        self,
        image_shape: Sequence[int],
        num_rungs: int,
        latent_dim: int | Sequence[int],
        beta: float = 1.0,
        likelihood: str = "bernoulli",
        tc_weight: float = 0.0,
        dataset_size: int | None = None,
        latent_groups: Sequence[int] | None = None,
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

        # === Layers ===
        self.spec = ladder.ladder_spec(image_shape, num_rungs, latent_dim, **architecture)
        self.latent_groups = self.spec.latent_dim[::-1] if latent_groups is None else tuple(latent_groups)
        if latent_groups is not None and (self.spec.num_rungs, self.spec.latent_dim) != (1, (sum(latent_groups),)):
            raise ValueError(
                "`latent_groups` divide the latents of a model of one rung. Received: "
                f"latent_groups={latent_groups}, num_rungs={num_rungs}, latent_dim={latent_dim}."
            )
        self.encoder = ladder.build_encoder(self.spec, self.dtype_policy, latent_groups)
        self.sampling = Sampling(name="sampling")
        self.decoder = ladder.build_decoder(self.spec, self.dtype_policy, latent_groups)

        # === Trackers ===
        rungs = range(self.num_rungs, 0, -1)
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction")
        self.kl_tracker = keras.metrics.Mean(name="kl")
        self.rung_trackers = [keras.metrics.Mean(name=f"kl_rung_{rung}") for rung in rungs]
        self.elbo_tracker = keras.metrics.Mean(name="elbo")
        self.regularization_tracker = keras.metrics.Mean(name="regularization")

        # === Config ===
        self.beta = non_negative("beta", beta)
        self.likelihood = likelihood
        self.tc_weight = non_negative("tc_weight", tc_weight)
        self.dataset_size = dataset_size
        if self.tc_weight > 0:
            check_dataset_size(dataset_size)
        self.further_trackers = {name: keras.metrics.Mean(name=name) for name in LadderVAE.further_weights(self)}
        self.preset = None  # `from_preset` says which
        self.build((None, *self.spec.image_shape))

    @classmethod
    def from_preset(cls, preset: str, **overrides: Any) -> Self:
        """A model with the paper's numbers for one data set.

        Args:
            preset: `"mnist"`, `"dsprites"`, `"shapes3d"` or `"celeb_a"`.
            **overrides: Constructor arguments that replace the preset's.

        Returns:
            An uncompiled model of this class, which remembers the name as `model.preset`.

        Raises:
            ValueError: If the preset is unknown; the message lists the known ones.
            TypeError: If this class has no argument of an override's name.
        """
        model = cls(**{**cls.preset_settings(preset), **overrides})
        model.preset = preset
        return model

    @classmethod
    def preset_settings(cls, preset: str) -> dict:
        """The constructor arguments that this class takes from a preset: a dict."""
        settings = presets.preset(preset)["model"]
        del settings["gamma"]
        return settings

    # === What a concrete model defines ===

    @abc.abstractmethod
    def encoder_gates(self) -> Any:
        """How much of h_l the head of each rung sees: float32 `(num_rungs,)`, deepest first."""

    @abc.abstractmethod
    def decoder_gates(self) -> Any:
        """How much of m_l(z_l) enters the decoder: float32 `(num_rungs,)`, deepest first."""

    @abc.abstractmethod
    def kl_weights(self) -> Any:
        """What the KL of each rung weighs in the loss: float32 `(num_rungs,)`, deepest first."""

    def unlocked(self) -> Any:
        """1 for rungs that are part of the model so far, else 0: float32 `(num_rungs,)`."""
        return ops.ones(self.num_rungs, "float32")

    def further_weights(self) -> dict[str, float]:
        """What the terms of the loss beside reconstruction and KL weigh: `{name: weight}`; constant."""
        return {"total_correlation": self.tc_weight} if self.tc_weight > 0 else {}

    def further_terms(self, images: Any, y_pred: dict[str, Any]) -> dict[str, Any]:
        """These terms for one batch: `{name: float32 scalar}`, with the names of `further_weights`."""
        if self.tc_weight == 0:
            return {}
        codes, mean, log_var = (y_pred[name] for name in ("codes", "mean", "log_var"))
        unlocked = self.per_latent(self.unlocked())
        estimate = total_correlation(codes, mean, log_var, self.dataset_size, unlocked)
        return {"total_correlation": replicas.batch_mean(estimate)}

    # === The model as a function ===

    @property
    def image_shape(self) -> tuple:
        """`(height, width, channels)` in pixels."""
        return self.spec.image_shape

    @property
    def num_rungs(self) -> int:
        """L, the number of rungs."""
        return len(self.latent_groups)

    @property
    def rung_slices(self) -> list[tuple[int, slice]]:
        """`[(L, slice), ..., (1, slice)]`: the columns of each rung in means, log variances and codes."""
        slices, start = [], 0
        for rung, width in zip(range(self.num_rungs, 0, -1), self.latent_groups, strict=True):
            slices.append((rung, slice(start, start + width)))
            start += width
        return slices

    def per_latent(self, per_rung: Any) -> Any:
        """A vector with an entry per rung, `(num_rungs,)`, with an entry per latent: `(sum of latent_dim,)`."""
        index = [index for index, width in enumerate(self.latent_groups) for _ in range(width)]
        return ops.take(per_rung, ops.convert_to_tensor(index, "int32"))

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """The posterior, a sample of it, and the logits decoded from that: a dict of four tensors.

        Keras hands `training` on to the layers: `ChannelAffine` asks for it.
        """
        encoder, decoder = self._networks_of_step()
        mean, log_var = self._infer(self._checked(images), encoder)
        codes = self.sampling(mean, log_var)
        logits = decoder([codes, self.decoder_gates()])
        return {"mean": mean, "log_var": log_var, "codes": codes, "logits": logits}

    def encode(self, images: Any) -> tuple[Any, Any]:
        """The posterior q(z | x) of every rung, in one pass; see `encode_on_batch` for many batches.

        Args:
            images: Float array or tensor `(batch, height, width, channels)` in [0, 1].

        Returns:
            `(mean, log_var)`, float32 tensors `(batch, sum of latent_dim)`, the deepest
            rung's columns first; see `rung_slices`.

        Raises:
            TypeError: If the images are not floating point.
            ValueError: If their shape or range is wrong, or one is NaN.
        """
        check_images(images, self.image_shape)
        check_pixels(images)
        return self._infer(within_unit(images), self.encoder)

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
        mean, log_var = predict_on_batch(self.encoder, [within_unit(images), self.encoder_gates()])
        return mean, ops.convert_to_numpy(bounded_log_var(log_var))

    def decode(self, codes: Any) -> Any:
        """The image that each code stands for.

        Args:
            codes: Float array or tensor `(batch, sum of latent_dim)`, deepest rung's columns first.

        Returns:
            Float32 tensor `(batch, height, width, channels)`: pixels in [0, 1].

        Raises:
            ValueError: If the codes have another width.
        """
        codes = self._checked_codes(ops.convert_to_tensor(codes, "float32"))
        return ops.sigmoid(self.decoder([codes, self.decoder_gates()]))

    def decode_on_batch(self, codes: Any) -> Any:
        """As `decode`, in a compiled function: several times faster for many batches.

        Args:
            codes: As for `decode`.

        Returns:
            Float32 NumPy array `(batch, height, width, channels)`: pixels in [0, 1].

        Raises:
            ValueError: As `decode`.
        """
        codes = self._checked_codes(ops.convert_to_numpy(codes).astype("float32"))
        logits = predict_on_batch(self.decoder, [codes, self.decoder_gates()])
        return ops.convert_to_numpy(ops.sigmoid(logits))

    def reconstruct(self, images: Any) -> Any:
        """The images decoded from the means of their posteriors.

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
        """New images from the prior: of every rung, or of one with the others held.

        Args:
            n: Int >= 1. Number of images.
            rung: Int 1 .. L or `None`. The rung whose code is drawn; `None` draws all.
            around: One image, `(1, height, width, channels)`, whose other rungs are held at
                their posterior means. Without it they are held at 0, the prior's mean.
            seed: Int or `None`. The same seed gives the same images.

        Returns:
            Float32 tensor `(n, height, width, channels)`: pixels in [0, 1].

        Raises:
            ValueError: If `n` is below 1, `rung` is not one of the model's, or `around`
                is not one image or comes without `rung`.

        Source: Li et al. (2020), figures 5 and 6.
        """
        if n < 1:
            raise ValueError(f"`n` must be at least 1. Received: n={n}.")
        codes = keras.random.normal((n, sum(self.spec.latent_dim)), dtype="float32", seed=seed)
        if rung is not None:
            codes = self._hold_other_rungs(codes, rung, around)
        elif around is not None:
            raise ValueError(f"`around` needs the `rung` to draw, one of 1 .. {self.num_rungs}. Received: rung=None.")
        return self.decode(codes)

    def _networks_of_step(self):
        """What `call` encodes and decodes with: a model may have quicker ones for a training step."""
        return self.encoder, self.decoder

    def _checked_codes(self, codes):
        width = sum(self.spec.latent_dim)
        if len(codes.shape) != 2 or codes.shape[1] != width:
            raise ValueError(
                f"`codes` must have the shape (batch, {width}): {self.num_rungs} rungs of widths "
                f"{self.latent_groups}, deepest first. Received: codes.shape={tuple(codes.shape)}."
            )
        return codes

    def _hold_other_rungs(self, codes, rung, around):
        columns = dict(self.rung_slices).get(rung)
        if columns is None:
            raise ValueError(f"`rung` must be 1 .. {self.num_rungs}. Received: rung={rung}.")
        held = ops.zeros_like(codes[:1])
        if around is not None:
            held, _ = self.encode(around)
            if held.shape[0] != 1:
                raise ValueError(f"`around` must be one image. Received: around.shape={tuple(around.shape)}.")
        held = ops.repeat(held, codes.shape[0], axis=0)
        return ops.concatenate([held[:, : columns.start], codes[:, columns], held[:, columns.stop :]], axis=1)

    def _infer(self, images, encoder):
        images = ops.convert_to_tensor(images)
        mean, log_var = encoder([images, self.encoder_gates()])
        return mean, bounded_log_var(log_var)

    # === The objective ===

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Reconstruction, the weighted KL of every rung (equation 11) and further terms, averaged over the batch.

        Regularizers of weights and activities, and what `add_loss` was given, are added as in any Keras model. Set
        them before `compile`, and again on a loaded model: files do not keep them.
        """
        if sample_weight is not None:
            raise ValueError(OWN_LOSS_RULE.format(name="sample_weight"))
        images = within_unit(ops.cast(x, "float32"))
        reconstruction = replicas.batch_mean(LIKELIHOODS[self.likelihood](images, y_pred["logits"]))
        kls = gaussian_kl(y_pred["mean"][..., None], y_pred["log_var"][..., None])  # each latent by itself
        kls = replicas.batch_mean(kls)
        rung_kls = ops.stack([ops.sum(kls[columns]) for _, columns in self.rung_slices])
        loss = reconstruction + ops.sum(self.kl_weights() * rung_kls)
        further, weights = self.further_terms(images, y_pred), self.further_weights()
        loss += sum(weights[name] * term for name, term in further.items())
        regularization = [ops.sum(ops.cast(term, "float32")) for term in self.losses]
        self._is_regularized = len(regularization) > 0
        if self._is_regularized:
            loss += sum(regularization)
        if not self.is_guarded:
            loss = require(loss, ops.isfinite(loss), LOSS_RULE, reconstruction, ops.sum(rung_kls))
        batch = ops.shape(images)[0]
        self._track(reconstruction, rung_kls, further, batch)
        if self._is_regularized:
            self.regularization_tracker.update_state(sum(regularization), sample_weight=batch)
        return replicas.share_of_loss(loss, batch)

    def _track(self, reconstruction, rung_kls, further, batch):
        """`kl` and `elbo` are those of equation 8 at beta 1: over the unlocked rungs, in nats per image."""
        kl = ops.sum(self.unlocked() * rung_kls)
        self.reconstruction_tracker.update_state(reconstruction, sample_weight=batch)
        self.kl_tracker.update_state(kl, sample_weight=batch)
        self.elbo_tracker.update_state(-reconstruction - kl, sample_weight=batch)
        for index, tracker in enumerate(self.rung_trackers):
            tracker.update_state(rung_kls[index], sample_weight=batch)
        for name, term in further.items():
            self.further_trackers[name].update_state(term, sample_weight=batch)

    # === Keras ===

    def get_metrics_result(self):
        """As Keras does; `regularization` only where there is any."""
        logs = super().get_metrics_result()
        if not self._is_regularized:
            logs.pop("regularization", None)
        return logs

    def _repr_html_(self):
        """What a notebook shows: a table of the rungs."""
        from keras_provlae.models.rungs_table import rungs_table

        return rungs_table(self)

    def build(self, input_shape):
        """Nothing more to do: the networks are built in the constructor."""

    def get_config(self):
        return {
            **self.spec._asdict(),
            "num_rungs": self.spec.num_rungs,
            **({} if self.latent_groups == self.spec.latent_dim[::-1] else {"latent_groups": self.latent_groups}),
            "beta": self.beta,
            "likelihood": self.likelihood,
            **({"tc_weight": self.tc_weight, "dataset_size": self.dataset_size} if self.tc_weight else {}),
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            **({} if self.preset is None else {"preset": self.preset}),
        }

    @classmethod
    def from_config(cls, config):
        settings = dict(config)
        preset = settings.pop("preset", None)
        model = super().from_config(settings)
        model.preset = preset
        return model
