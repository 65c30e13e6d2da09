"""The scores as `keras.metrics.Metric`: collect codes batch by batch, then compute the result."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np

from keras_provlae.metrics import binned, classifiers, fixed_factor, robustness, unsupervised
from keras_provlae.metrics.infomec import infomec
from keras_provlae.metrics.information import mutual_information
from keras_provlae.metrics.mig import mig, mig_sup
from keras_provlae.metrics.posteriors import check_labels, to_numpy


def _mig(mean, log_var, factors, method="quadrature", draws=10_000, seed=0):
    return mig(mutual_information(mean, log_var, factors, method=method, draws=draws, seed=seed).normalized)


def _mig_sup(mean, log_var, factors, method="quadrature", draws=10_000, seed=0):
    result = mutual_information(mean, log_var, factors, method=method, draws=draws, seed=seed)
    return mig_sup(result.normalized, result.active)


class PosteriorMetric(keras.metrics.Metric):
    """Computes a score from all codes received since the last `reset_state`.

    Codes are kept in main memory, so call `update_state` eagerly, not inside a compiled function.

    Args:
        name: Name of the metric; `None` uses the score's name.
        dtype: As in `keras.metrics.Metric`.
        **settings: Arguments of the function that computes the score, such as `seed`.

    Raises:
        TypeError: If the function has no argument of that name.

    Example:
        >>> import keras_provlae as kp
        >>> metric = kp.metrics.MIG()
        >>> factors = np.array([[0], [0], [1], [1]])
        >>> metric.update_state(factors, (np.array([[0.0], [0.0], [9.0], [9.0]]), np.full((4, 1), -4.0)))
        >>> round(float(metric.result()), 4)
        1.0
    """

    score_name: ClassVar[str]
    score: ClassVar[Callable]  # takes `mean`, `log_var`, `factors` or some of them, and its settings

    def __init__(self, name: str | None = None, dtype: Any = None, **settings: Any):
        allowed = set(inspect.signature(self.score).parameters) - {"mean", "log_var", "factors"}
        unknown = set(settings) - allowed
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no argument {', '.join(sorted(unknown))}. "
                f"It has {', '.join(sorted(allowed)) or 'none'}."
            )
        super().__init__(name=name or self.score_name, dtype=dtype)
        self.settings = settings
        self.reset_state()

    def update_state(self, factors: Any, posterior: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            factors: Integer array `(batch, factors)`, or integral floats.
            posterior: `(mean, log_var)`, float arrays `(batch, latents)`, as returned by `model.encode`;
                or a dict with these keys, as returned by `model.predict`.
            sample_weight: Not supported.

        Raises:
            TypeError: If `posterior` is not such a pair, or factors are not numbers.
            ValueError: If `sample_weight` is given, factors are not integral, or the number of factors or latents
                changes.
            RuntimeError: If called inside a compiled function.
        """
        if sample_weight is not None:
            raise ValueError(f"{type(self).__name__} weights all rows equally: leave out `sample_weight`.")
        if isinstance(posterior, dict) and {"mean", "log_var"} <= set(posterior):
            posterior = posterior["mean"], posterior["log_var"]
        if not isinstance(posterior, tuple | list) or len(posterior) != 2:
            size = f" of {len(posterior)}" if hasattr(posterior, "__len__") else ""
            raise TypeError(
                "`posterior` must be (mean, log_var), as returned by `model.encode`. "
                f"Received: {type(posterior).__name__}{size}."
            )
        batch = [_to_numpy(part) for part in (factors, *posterior)]
        if batch[0].ndim == 1:
            batch[0] = batch[0][:, None]
        shapes = [part.shape for part in batch]
        if any(len(shape) != 2 for shape in shapes) or len({len(part) for part in batch}) > 1 or shapes[1] != shapes[2]:
            raise ValueError(
                "A batch must be factors (batch, factors), mean (batch, latents) and log_var (batch, latents). "
                f"Received: the shapes {', '.join(map(str, shapes))}."
            )
        if self._batches and any(a.shape[1:] != b.shape[1:] for a, b in zip(batch, self._batches[-1], strict=True)):
            raise ValueError(
                "Every batch must have as many factors and latents as the first. Received: "
                f"{batch[0].shape[1]} and {batch[1].shape[1]} instead of "
                f"{self._batches[0][0].shape[1]} and {self._batches[0][1].shape[1]}."
            )
        self._batches.append([check_labels(batch[0]), *batch[1:]])

    def result(self) -> Any:
        """Computes the score of all rows so far: a float32 scalar tensor, or a dict of them.

        Raises:
            ValueError: If there are no rows yet, or the score is undefined for them.
        """
        if not self._batches:
            raise ValueError(f"{type(self).__name__} has no rows yet: call `update_state` first.")
        factors, mean, log_var = (np.concatenate(parts) for parts in zip(*self._batches, strict=True))
        arrays = {"factors": factors, "mean": mean, "log_var": log_var}
        wanted = inspect.signature(self.score).parameters
        value = type(self).score(**{name: arrays[name] for name in arrays if name in wanted}, **self.settings)
        if not hasattr(value, "_asdict"):
            return keras.ops.convert_to_tensor(value, "float32")
        numbers = {name: part for name, part in value._asdict().items() if np.ndim(part) == 0}
        return {f"{self.name}_{name}": keras.ops.convert_to_tensor(part, "float32") for name, part in numbers.items()}

    def reset_state(self) -> None:
        """Forgets all rows."""
        self._batches: list[list[np.ndarray]] = []

    def get_config(self) -> dict:
        return {"name": self.name, "dtype": self.dtype, **self.settings}


def _to_numpy(array):
    try:
        return to_numpy("batch", array)
    except Exception as error:  # each backend raises its own error for symbolic tensors
        raise RuntimeError(
            "Codes are collected in main memory: call `update_state` eagerly, outside of compiled functions, such as "
            f"in a loop over the data. Received: {type(array).__name__}."
        ) from error


register = keras.saving.register_keras_serializable("keras_provlae")


@register
class MIG(PosteriorMetric):
    """Mutual information gap by `mutual_information` and `mig`. Settings: `method`, `draws`, `seed`."""

    score_name = "mig"
    score = staticmethod(_mig)


@register
class MIGSup(PosteriorMetric):
    """MIG-sup over the active latents, by `mutual_information` and `mig_sup`. Settings: `method`, `draws`, `seed`."""

    score_name = "mig_sup"
    score = staticmethod(_mig_sup)


@register
class FactorVAEScore(PosteriorMetric):
    """`factor_vae_score`, with its settings."""

    score_name = "factor_vae_score"
    score = staticmethod(fixed_factor.factor_vae_score)


@register
class BetaVAEScore(PosteriorMetric):
    """`beta_vae_score`, with its settings."""

    score_name = "beta_vae_score"
    score = staticmethod(fixed_factor.beta_vae_score)


@register
class DCI(PosteriorMetric):
    """`dci`, with its settings: a dict of disentanglement, completeness and informativeness."""

    score_name = "dci"
    score = staticmethod(classifiers.dci)


@register
class SAP(PosteriorMetric):
    """`sap`, with its settings."""

    score_name = "sap"
    score = staticmethod(classifiers.sap)


@register
class Explicitness(PosteriorMetric):
    """`explicitness`, with its settings."""

    score_name = "explicitness"
    score = staticmethod(classifiers.explicitness)


@register
class Modularity(PosteriorMetric):
    """`modularity`, with its settings."""

    score_name = "modularity"
    score = staticmethod(binned.modularity)


@register
class HistogramMIG(PosteriorMetric):
    """`histogram_mig`, with its settings. Not comparable with `MIG`."""

    score_name = "histogram_mig"
    score = staticmethod(binned.histogram_mig)


@register
class IRS(PosteriorMetric):
    """`irs`, with its settings."""

    score_name = "irs"
    score = staticmethod(robustness.irs)


@register
class InfoMEC(PosteriorMetric):
    """`infomec`, with its settings: a dict of modularity, explicitness and compactness."""

    score_name = "infomec"
    score = staticmethod(infomec)


@register
class GaussianTotalCorrelation(PosteriorMetric):
    """`gaussian_total_correlation`; uses only the means."""

    score_name = "gaussian_total_correlation"
    score = staticmethod(unsupervised.gaussian_total_correlation)


@register
class WassersteinCorrelation(PosteriorMetric):
    """`wasserstein_correlation`, with its settings; uses only the means."""

    score_name = "wasserstein_correlation"
    score = staticmethod(unsupervised.wasserstein_correlation)


@register
class LatentInformation(PosteriorMetric):
    """`latent_information`, with its settings; uses only the means."""

    score_name = "latent_information"
    score = staticmethod(binned.latent_information)
