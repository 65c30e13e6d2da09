"""The small layers that the ladder is made of; each one is serialisable."""

from typing import Any

import keras
from keras import ops

from keras_provlae.replicas import SeedGenerator

PACKAGE = "keras_provlae"


def tensorflow_on_cpu() -> bool:
    """Whether TensorFlow computes and sees no GPU: what is faster then was tried nowhere else."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.get_visible_devices("GPU")


@keras.saving.register_keras_serializable(package=PACKAGE)
class Sampling(keras.layers.Layer):
    """Draws `z = mean + exp(log_var / 2) * noise`, the reparameterised sample of q(z | x).

    The layer owns its noise: the state of its `SeedGenerator` is saved with the
    weights, so a training that is resumed draws the noise that the
    uninterrupted one would have drawn. (Keras itself does not save that state.)
    Replicas of `tf.distribute` draw noise of their own.

    Args:
        seed: Int or `None`. Seed of the noise; `None` takes one from
            `keras.utils.set_random_seed`.
        **kwargs: Arguments of `keras.layers.Layer`. The dtype is float32
            whatever the policy, as the posterior's is.

    Call arguments:
        mean: Float tensor `(batch, latent_dim)`.
        log_var: Float tensor like `mean`: natural log of the variance.

    Returns:
        Float32 tensor `(batch, latent_dim)`.

    Example:
        >>> import numpy as np
        >>> z = Sampling(seed=0)(np.zeros((2, 3)), np.full((2, 3), -30.0))
        >>> tuple(z.shape), bool(np.abs(np.array(z)).max() < 1e-5)
        ((2, 3), True)

    Source: Li et al. (2020), equations 4 and 6.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = SeedGenerator(seed)
        self.built = True

    def call(self, mean: Any, log_var: Any) -> Any:
        noise = keras.random.normal(ops.shape(mean), dtype="float32", seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * noise

    def compute_output_spec(self, mean, log_var):
        return keras.KerasTensor(mean.shape, dtype="float32")

    def save_own_variables(self, store):
        store["seed"] = self.seed_generator.state

    def load_own_variables(self, store):
        self.seed_generator.state.assign(store["seed"])

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package=PACKAGE)
class ChannelAffine(keras.layers.Layer):
    """Scales and shifts every channel: `gain * x / sqrt(1 + epsilon) + offset`.

    This is what the authors' batch normalisation amounts to: they run it with
    the moving mean 0 and the moving variance 1 that it starts with, in training
    as well, and never update either. Batch statistics are never used.

    Args:
        epsilon: Float >= 0. What batch normalisation adds to the variance.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `(batch, ..., channels)`.
        training: Bool. The same values either way; TensorFlow computes maps in one operation if true, on a CPU.

    Returns:
        Float tensor like `inputs`.

    Raises:
        ValueError: If `epsilon` is negative.

    Example:
        >>> import numpy as np
        >>> float(ChannelAffine(epsilon=0.0)(np.full((1, 2), 3.0))[0, 0])
        3.0

    Source: the authors' released program (not in the paper).
    """

    def __init__(self, epsilon: float = 1e-3, **kwargs: Any):
        super().__init__(**kwargs)
        if epsilon < 0:
            raise ValueError(f"`epsilon` must not be negative. Received: epsilon={epsilon}.")
        self.epsilon = epsilon

    def build(self, input_shape):
        channels = {"shape": (input_shape[-1],), "autocast": False}
        self.gain = self.add_weight(initializer="ones", name="gain", **channels)
        self.offset = self.add_weight(initializer="zeros", name="offset", **channels)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if training and self._can_fuse(inputs.shape):
            return self._fused(inputs)
        return inputs * ops.cast(self.scale, inputs.dtype) + ops.cast(self.offset, inputs.dtype)

    @property
    def scale(self) -> Any:
        """What every channel is multiplied by, `gain / sqrt(1 + epsilon)`: tensor `(channels,)`."""
        return self.gain * (1.0 + self.epsilon) ** -0.5

    def _can_fuse(self, shape):
        """Not small maps: the operation waits for its threads longer than it works."""
        if self.variable_dtype != "float32":
            return False
        return len(shape) == 4 and None not in shape[1:] and shape[1] * shape[2] >= 128 and tensorflow_on_cpu()

    def _fused(self, maps):
        """The same: the gradients of gain, offset and maps in one pass over the maps, not in four."""
        import tensorflow as tf

        mean, variance = tf.zeros_like(self.offset.value), tf.ones_like(self.gain.value)
        return tf.raw_ops.FusedBatchNormV3(
            x=maps, scale=self.gain.value, offset=self.offset.value, mean=mean, variance=variance,
            epsilon=self.epsilon, is_training=False,
        ).y  # fmt: skip

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Gate(keras.layers.Layer):
    """Multiplies the features of one rung by that rung's gate, its alpha.

    Args:
        index: Int. The rung's place in the gate vector, 0 for the deepest.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        features: Float tensor `(batch, ...)`.
        gates: Float32 tensor `(num_rungs,)`, deepest rung first, each 0 to 1.

    Returns:
        Float tensor like `features`.

    Example:
        >>> import numpy as np
        >>> float(Gate(index=1)(np.ones((1, 1)), np.array([1.0, 0.25]))[0, 0])
        0.25

    Source: Li et al. (2020), equation 9.
    """

    def __init__(self, index: int, **kwargs: Any):
        kwargs.setdefault("autocast", False)  # alpha stays float32 up to the product
        super().__init__(**kwargs)
        self.index = index

    def call(self, features: Any, gates: Any) -> Any:
        return features * ops.cast(gates[self.index], features.dtype)

    def compute_output_spec(self, features, gates):
        return keras.KerasTensor(features.shape, dtype=features.dtype)

    def get_config(self):
        return {**super().get_config(), "index": self.index}
