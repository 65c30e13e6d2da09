"""The abstract growing VAE whose maps are supervised in training: what each rung has to show, beside the image."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_provlae.models.contours import contour_nll, contour_read_outs
from keras_provlae.models.growing_vae import GrowingVAE
from keras_provlae.models.ladder_vae import LIKELIHOODS
from keras_provlae.models.loss_weights import LossWeight
from keras_provlae.models.multiscale import multiscale_nll, read_outs
from keras_provlae.training import replicas


class SupervisedVAE(GrowingVAE):
    """A `GrowingVAE` with guidance for what goes to which rung. Both terms are off unless their weight is given.

    Multi-scale supervision: the map g_l of every unlocked rung is read out by a 1 x 1 convolution and compared with the
    image averaged down to the map's size (`multiscale` in the logs), so that a deep rung answers for what is seen at
    its scale. Its weight falls linearly to 0 from the first unlock to the end of the last fade-in.

    Contour supervision: the maps m_l of all unlocked rungs but the deepest are read out by a 1 x 1 convolution each,
    and must together show the contours of the image (`contours` in the logs). They do so without the deepest rung, so
    that their codes mean the same in every context. Its weight is constant; `callbacks.Annealing` changes it.

    The logs are in nats per image, without the weights, and of training alone: validation leaves the terms out. The
    read-outs are saved with the model, and are no part of `decode`.

    Args:
        *args: As `GrowingVAE`.
        multiscale_weight: `None`, or float >= 0. Weight of multi-scale supervision.
        contour_weight: `None`, or float >= 0. Weight of contour supervision; 1 weighs a pixel's contour as its color.
        own_weights: As `GrowingVAE`.
        **kwargs: As `GrowingVAE`.

    Source: Li et al. (2020), section 5, names multi-scale supervision as future work; the contours are specific to this
    package.
    """

    multiscale_weight = LossWeight()
    contour_weight = LossWeight()
    _has_maps = False  # whether the last loss had the terms

    def __init__(
        self,
        *args: Any,
        multiscale_weight: float | None = None,
        contour_weight: float | None = None,
        own_weights: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        weights = {"multiscale_weight": multiscale_weight, "contour_weight": contour_weight, **(own_weights or {})}
        super().__init__(*args, own_weights=weights, **kwargs)  # type: ignore[misc]  # not among `args`

    @property
    def needs_maps(self) -> bool:  # type: ignore[override]  # an attribute of the base class that nothing sets
        return bool(self._supervised())

    def _supervised(self):
        """Names of the terms that this model has."""
        weights = {"multiscale": "multiscale_weight", "contours": "contour_weight"}
        return [name for name, weight in weights.items() if weight in self.loss_weights.by_name]

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        for name in self._supervised():
            self.further_trackers[name] = keras.metrics.Mean(name=name)
        if "multiscale" in self._supervised():
            self.read_outs = read_outs(self.image_shape, self._decoder_layers)
        if "contours" in self._supervised():
            self.contour_read_outs = contour_read_outs(self.image_shape, self._decoder_layers)

    def further_weights(self) -> dict[str, Any]:
        weights = super().further_weights()
        if "multiscale" in self._supervised():
            # alpha is 1 at stage 0; a single rung has nothing to grow
            grown = (ops.cast(self._stage(), "float32") - 1.0 + self._alpha()) / max(self.num_rungs - 1, 1)
            left = 1.0 - grown if self.num_rungs > 1 else 0.0
            weights["multiscale"] = left * self.loss_weights["multiscale_weight"]
        if "contours" in self._supervised():
            weights["contours"] = self.loss_weights["contour_weight"]
        return weights

    def further_terms(self, images: Any, y_pred: dict[str, Any]) -> dict[str, Any]:
        terms = super().further_terms(images, y_pred)
        self._has_maps = "maps" in y_pred
        if not self._has_maps:
            return terms
        own, joint = zip(*y_pred["maps"], strict=True)  # gate_l * m_l and g_l
        if "multiscale" in self._supervised():
            nats = multiscale_nll(images, joint, self.read_outs, LIKELIHOODS[self.likelihood], self.unlocked())
            terms["multiscale"] = replicas.batch_mean(nats)
        if "contours" in self._supervised():
            nats = contour_nll(images, own[1:], self.contour_read_outs, self.unlocked()[1:])
            terms["contours"] = replicas.batch_mean(nats)
        return terms

    def get_metrics_result(self) -> dict[str, Any]:
        """As Keras does; the terms of the maps only in training."""
        logs = super().get_metrics_result()
        if not self._has_maps:
            for name in self._supervised():
                logs.pop(name, None)
        return logs
