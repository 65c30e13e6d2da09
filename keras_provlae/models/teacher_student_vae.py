"""The teacher-student model: one code that grows, each student supervised by its predecessor (a baseline)."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_provlae.checks import check_count, non_negative
from keras_provlae.losses import bounded_log_var
from keras_provlae.models.beta_vae import end_of_trunk
from keras_provlae.models.growing_vae import GrowingVAE
from keras_provlae.optimizers import adam
from keras_provlae.training.prediction import on_any_rows

TERMS = ("teacher_codes", "jacobian", "cross_covariance")


@keras.saving.register_keras_serializable(package="keras_provlae")
class TeacherStudentVAE(GrowingVAE):
    """A VAE whose single code grows by groups of latents, each time supervised by the model before the growth.

    All latents are read at the end of one trunk, as in `BetaVAE`. At stage 0 the model is a plain VAE with the first
    group. `grow` copies the networks into a teacher and unlocks the next group: the student starts from the teacher's
    weights, keeps its latents (the factors f) and gets new ones (the nuisances n). From then on the loss has three more
    terms, each multiplied by the number of pixels and channels, because the reconstruction is summed over those:

        lambda_z * mean (f - z_teacher)^2 + lambda_xcov * |cov(n, f)| + lambda_jac * mean (
            [D_teacher(z_teacher) - D_teacher(P z_teacher)] - [D(n, f) - D(n, P f)] )^2

    with posterior means for n, f and z_teacher, and a random permutation P of the batch. The last term supervises the
    Jacobian by finite differences; no gradient reaches the teacher.

    The groups are the model's rungs, L the first, so everything that accepts a ladder model accepts this one. Codes
    begin with the first teacher's latents, as a ladder's begin with the deepest rung's (in Lezama's program they come
    last). Latents of a locked group have mean 0 and log variance 0 and are not decoded.

    Args:
        image_shape: `(height, width, channels)` in pixels.
        num_rungs: Int L >= 1: number of groups; L - 1 students follow the first teacher.
        latent_dim: Int >= 1, or L of them ordered from rung 1, the last student's: latents of each group.
        beta: Float >= 0. Weight of the KL term.
        lambda_z: Float >= 0. Weight of keeping the teacher's codes.
        lambda_jac: Float >= 0. Weight of the Jacobian supervision.
        lambda_xcov: Float >= 0. Weight of the cross-covariance of new and kept latents.
        stem: Channels of the stride-2 convolutions before the code, as `BetaVAE`.
        **kwargs: `likelihood`, `tc_weight`, `name`, `dtype` and the architecture, as `LadderVAE`.

    Raises:
        TypeError: If `num_rungs` is not an integer.
        ValueError: If a number is out of range.

    Example:
        >>> model = TeacherStudentVAE((8, 8, 1), num_rungs=2, latent_dim=3, stem=(4,), channels=4, dense=8)
        >>> model.grow()
        >>> model.stage, model.rung_slices
        (1, [(2, slice(0, 3, None)), (1, slice(3, 6, None))])

    Source: Lezama (2019), "Overcoming the disentanglement vs reconstruction trade-off via Jacobian supervision", ICLR,
    and its released program; Li et al. (2020), section 4.
    """

    fades_in = False

    def __init__(
        self,
        image_shape: Sequence[int],
        num_rungs: int,
        latent_dim: int | Sequence[int],
        beta: float = 1.0,
        lambda_z: float = 0.25,
        lambda_jac: float = 0.1,
        lambda_xcov: float = 1e-3,
        stem: Sequence[int] = (32, 32),
        **kwargs: Any,
    ):
        groups = _groups(num_rungs, latent_dim)
        lambda_z = non_negative("lambda_z", lambda_z)
        lambda_jac = non_negative("lambda_jac", lambda_jac)
        lambda_xcov = non_negative("lambda_xcov", lambda_xcov)
        super().__init__(image_shape, 1, sum(groups), beta=beta, stem=stem, rung_widths=groups, **kwargs)
        self.lambda_z, self.lambda_jac, self.lambda_xcov = lambda_z, lambda_jac, lambda_xcov

    def build(self, input_shape: Any) -> None:
        """Creates the teacher, the networks as they were before the last growth; called by the constructor."""
        super().build(input_shape)
        self.teacher_encoder = keras.models.clone_model(self.encoder)
        self.teacher_decoder = keras.models.clone_model(self.decoder)
        self.teacher_encoder.trainable = self.teacher_decoder.trainable = False
        self.further_trackers.update({name: keras.metrics.Mean(name=name) for name in TERMS})

    @classmethod
    def preset_settings(cls, preset: str) -> dict:
        """Constructor arguments: the preset's trunk, with the latents of each rung as a group at its end."""
        settings = super().preset_settings(preset)
        return {**end_of_trunk(settings), "num_rungs": settings["num_rungs"]}

    @staticmethod
    def default_optimizer() -> keras.Optimizer:
        """Adam with Lezama's learning rate 3e-4 and weight decay 1e-6 (decoupled, as in Keras)."""
        return adam(3e-4, epsilon=1e-8, weight_decay=1e-6)

    # === The two vectors ===

    def encoder_gates(self) -> Any:
        return self.unlocked()

    def decoder_gates(self) -> Any:
        return self.unlocked()

    def kl_weights(self) -> Any:
        """beta everywhere: the KL of locked latents is 0."""
        return self.loss_weights["beta"]

    def inference(self, images: Any, encode: Callable) -> tuple[Any, Any]:
        """A locked latent is the prior: mean 0, log variance 0. The network itself has one rung, always open."""
        mean, log_var = on_any_rows(lambda images: encode(images, ops.ones(1)), images)
        unlocked = self.per_latent(self.encoder_gates())
        return mean * unlocked, bounded_log_var(log_var * unlocked)

    def generative(self, codes: Any, decode: Callable) -> Any:
        codes = codes * self.per_latent(self.decoder_gates())
        return on_any_rows(lambda codes: decode(codes, ops.ones(1)), codes)

    # === The teacher ===

    def _unlock(self, stage, fade_in_steps):
        """The model becomes the teacher of what it grows into."""
        self.teacher_encoder.set_weights(self.encoder.get_weights())
        self.teacher_decoder.set_weights(self.decoder.get_weights())
        super()._unlock(stage, fade_in_steps)

    def further_weights(self) -> dict[str, Any]:
        height, width, channels = self.image_shape
        weights = zip(TERMS, (self.lambda_z, self.lambda_jac, self.lambda_xcov), strict=True)
        return {**super().further_weights(), **{name: height * width * channels * weight for name, weight in weights}}

    def further_terms(self, images: Any, y_pred: dict[str, Any]) -> dict[str, Any]:
        zeros = ops.zeros_like(y_pred["mean"][:, 0])
        permutation = ops.argsort(self.sampling(zeros, zeros))  # from the noise whose state is saved

        def supervised():
            return self._supervision(images, y_pred["mean"], permutation)

        def free():
            return tuple(ops.zeros((), "float32") for _ in TERMS)

        terms = ops.cond(self._stage() > 0, supervised, free)
        return {**super().further_terms(images, y_pred), **dict(zip(TERMS, terms, strict=True))}

    def _supervision(self, images, mean, permutation):
        """The three terms for one batch: the distance of codes, Jacobian and covariances to the teacher's."""
        kept = self.per_latent(ops.cast(self._rung_stages() < self._stage(), "float32"))
        new = self.per_latent(self.unlocked()) - kept

        teacher_mean, _ = self.teacher_encoder([images, ops.ones(1)])
        taught = ops.stop_gradient(kept * teacher_mean)
        codes = ops.mean(ops.sum(ops.square(kept * mean - taught), axis=-1)) / ops.sum(kept)

        def difference(decoder, factors, nuisances):
            """D(n, f) - D(n, P f), in pixels."""
            swapped = ops.take(factors, permutation, axis=0)
            pixels = ops.sigmoid(decoder([ops.concatenate([nuisances + factors, nuisances + swapped]), ops.ones(1)]))
            return pixels[: ops.shape(factors)[0]] - pixels[ops.shape(factors)[0] :]

        asked = ops.stop_gradient(difference(self.teacher_decoder, taught, ops.zeros_like(taught)))
        jacobian = ops.mean(ops.square(asked - difference(self.decoder, kept * mean, new * mean)))

        centered = mean - ops.mean(mean, axis=0)
        covariance = ops.matmul(ops.transpose(new * centered), kept * centered) / ops.cast(
            ops.shape(mean)[0], "float32"
        )
        # the norm's own gradient is infinite at 0
        cross_covariance = ops.sqrt(ops.sum(ops.square(covariance)) + 1e-12)
        return codes, jacobian, cross_covariance

    # === Keras ===

    def get_config(self) -> dict[str, Any]:
        lambdas = {"lambda_z": self.lambda_z, "lambda_jac": self.lambda_jac, "lambda_xcov": self.lambda_xcov}
        groups = {"num_rungs": self.num_rungs, "latent_dim": self.rung_widths[::-1]}
        return {**super().get_config(), **groups, **lambdas}


def _groups(num_rungs, latent_dim):
    """Widths of the groups, the first teacher's first."""
    check_count("num_rungs", num_rungs)
    widths = latent_dim if hasattr(latent_dim, "__len__") else [latent_dim] * num_rungs
    fits = len(widths) == num_rungs and all(
        hasattr(width, "__index__") and not isinstance(width, bool) and width >= 1 for width in widths
    )
    if not fits:
        raise ValueError(
            f"`latent_dim` must be an integer >= 1, or {num_rungs} of them, one per group ordered from the last "
            f"student's. Received: latent_dim={latent_dim!r}."
        )
    return tuple(int(width) for width in widths)[::-1]
