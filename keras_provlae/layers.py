"""The small layers that the ladder is made of; each one is serializable."""

from typing import Any

import keras
from keras import ops

from keras_provlae.training.replicas import SeedGenerator

PACKAGE = "keras_provlae"


@keras.saving.register_keras_serializable(package=PACKAGE)
class Sampling(keras.layers.Layer):
    """Draws `z = mean + exp(log_var / 2) * noise`, the reparameterized sample of q(z | x).

    The state of the layer's `SeedGenerator` is saved with the weights, so a resumed run draws the same noise as an
    uninterrupted one. (Keras itself does not save that state.) Under `tf.distribute` each replica draws its own noise.

    Args:
        seed: Int or `None`. Seed of the noise; `None` takes one from
            `keras.utils.set_random_seed`.
        **kwargs: Arguments of `keras.layers.Layer`. The dtype is always float32, like the posterior's.

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

    def compute_output_spec(self, mean: Any, log_var: Any) -> keras.KerasTensor:
        return keras.KerasTensor(mean.shape, dtype="float32")

    def save_own_variables(self, store: Any) -> None:
        store["seed"] = self.seed_generator.state

    def load_own_variables(self, store: Any) -> None:
        self.seed_generator.state.assign(store["seed"])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package=PACKAGE)
class ChannelAffine(keras.layers.Layer):
    """Scales and shifts every channel: `gain * x / sqrt(1 + epsilon) + offset`.

    This is what the authors' batch normalization amounts to: even in training they run it with its initial moving
    mean 0 and moving variance 1 and never update them. Batch statistics are never used.

    Args:
        epsilon: Float >= 0. Added to the variance, as in batch normalization.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `(batch, ..., channels)`.

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

    def build(self, input_shape: Any) -> None:
        channels = {"shape": (input_shape[-1],), "autocast": False}
        self.gain = self.add_weight(initializer="ones", name="gain", **channels)
        self.offset = self.add_weight(initializer="zeros", name="offset", **channels)

    def call(self, inputs: Any) -> Any:
        return inputs * ops.cast(self.scale, inputs.dtype) + ops.cast(self.offset, inputs.dtype)

    @property
    def scale(self) -> Any:
        """The factor of every channel, `gain / sqrt(1 + epsilon)`: tensor `(channels,)`."""
        return self.gain * (1.0 + self.epsilon) ** -0.5

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Gate(keras.layers.Layer):
    """Multiplies the features of one rung by its gate, alpha.

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

    def compute_output_spec(self, features: Any, gates: Any) -> keras.KerasTensor:
        return keras.KerasTensor(features.shape, dtype=features.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "index": self.index}
