"""Adam with one fused operation per variable on TensorFlow."""

from typing import Any

import keras


def adam(*args: Any, **kwargs: Any) -> keras.optimizers.Adam:
    """Returns the fastest Adam for the current backend: `FusedAdam` on TensorFlow, else `keras.optimizers.Adam`.

    Args:
        *args: Arguments of `keras.optimizers.Adam`.
        **kwargs: Arguments of `keras.optimizers.Adam`.

    Example:
        >>> adam(5e-4, epsilon=1e-8).epsilon
        1e-08
    """
    return (FusedAdam if keras.backend.backend() == "tensorflow" else keras.optimizers.Adam)(*args, **kwargs)


@keras.saving.register_keras_serializable(package="keras_provlae")
class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` with one operation per variable instead of a dozen.

    Arguments, variables and updates are those of `keras.optimizers.Adam`. On a CPU the update is bound by memory
    traffic, and each operation is a pass over the variable. Only TensorFlow has the fused operation; for other
    backends use `adam`, because PyTorch's own Adam in Keras is faster than this class there.

    Args:
        *args: Arguments of `keras.optimizers.Adam`.
        **kwargs: Arguments of `keras.optimizers.Adam`.

    Example:
        >>> FusedAdam(5e-4, epsilon=1e-8).epsilon
        1e-08

    Source: Kingma and Ba (2015), the efficient form at the end of section 2.
    """

    _shared: Any = None  # inputs that all variables share during a fused step

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if keras.backend.backend() == "tensorflow" and not self.amsgrad:
            import tensorflow as tf

            # computed once for all variables: a scalar operation costs as much as updating a small variable
            if self._distribution_strategy.num_replicas_in_sync == 1:
                step = tf.cast(self.iterations + 1, tf.float32)
                beta_1, beta_2 = tf.constant(self.beta_1, tf.float32), tf.constant(self.beta_2, tf.float32)
                self._shared = {
                    "beta1_power": beta_1**step,
                    "beta2_power": beta_2**step,
                    "lr": tf.cast(learning_rate, tf.float32),
                    "beta1": beta_1,
                    "beta2": beta_2,
                    "epsilon": tf.constant(self.epsilon, tf.float32),
                }
        super()._backend_update_step(grads, trainable_variables, learning_rate)
        self._shared = None

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if not self._fuses(gradient, variable):
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        index = self._get_variable_index(variable)
        m, v = self._momentums[index].value, self._velocities[index].value
        tf.raw_ops.ResourceApplyAdam(var=variable.handle, m=m.handle, v=v.handle, grad=gradient, **self._shared)

    def _fuses(self, gradient, variable):
        """Whether the fused operation applies: not to sparse gradients, and to float32 only."""
        if self._shared is None:
            return False
        import tensorflow as tf

        return isinstance(gradient, tf.Tensor) and gradient.dtype == variable.dtype == tf.float32
