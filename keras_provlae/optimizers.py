"""Adam with the arithmetic of one variable in one operation, where TensorFlow has it."""

from typing import Any

import keras


def adam(*args: Any, **kwargs: Any) -> keras.optimizers.Adam:
    """The fastest Adam of this backend: a `FusedAdam` on TensorFlow, elsewhere `keras.optimizers.Adam`.

    Args:
        *args: As `keras.optimizers.Adam`.
        **kwargs: As `keras.optimizers.Adam`.

    Returns:
        An optimizer.

    Example:
        >>> adam(5e-4, epsilon=1e-8).epsilon
        1e-08
    """
    return (FusedAdam if keras.backend.backend() == "tensorflow" else keras.optimizers.Adam)(*args, **kwargs)


@keras.saving.register_keras_serializable(package="keras_provlae")
class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, an operation per variable instead of a dozen.

    The numbers, the arguments and the variables are those of `keras.optimizers.Adam`; on other backends its general
    code runs, which on PyTorch is slower than what Keras has for its own Adam there: see `adam`. On a CPU the update
    is memory traffic, and a dozen operations pass over every variable as often.

    Args:
        *args: As `keras.optimizers.Adam`.
        **kwargs: As `keras.optimizers.Adam`.

    Example:
        >>> FusedAdam(5e-4, epsilon=1e-8).epsilon
        1e-08

    Source: Kingma and Ba (2015), section 2, the order of operations that ends it.
    """

    _of_step = None  # what all variables share in a step that is fused

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if keras.backend.backend() == "tensorflow" and not self.amsgrad:
            import tensorflow as tf

            # once for all variables: a small operation takes as long as the update of a small variable
            if self._distribution_strategy.num_replicas_in_sync == 1:
                step = tf.cast(self.iterations + 1, tf.float32)
                beta_1, beta_2 = tf.constant(self.beta_1, tf.float32), tf.constant(self.beta_2, tf.float32)
                self._of_step = {
                    "beta1_power": beta_1**step,
                    "beta2_power": beta_2**step,
                    "lr": tf.cast(learning_rate, tf.float32),
                    "beta1": beta_1,
                    "beta2": beta_2,
                    "epsilon": tf.constant(self.epsilon, tf.float32),
                }
        super()._backend_update_step(grads, trainable_variables, learning_rate)
        self._of_step = None

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if not self._fuses(gradient, variable):
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        index = self._get_variable_index(variable)
        m, v = self._momentums[index].value, self._velocities[index].value
        tf.raw_ops.ResourceApplyAdam(var=variable.handle, m=m.handle, v=v.handle, grad=gradient, **self._of_step)

    def _fuses(self, gradient, variable):
        """Not where gradients are rows of an embedding, or not of the variable's float32."""
        if self._of_step is None:
            return False
        import tensorflow as tf

        return isinstance(gradient, tf.Tensor) and gradient.dtype == variable.dtype == tf.float32
