"""The same numbers, sooner: faster equivalents of what a training step and `fit` compute.

`import keras_provlae` installs them, unless the environment variable `KERAS_PROVLAE_ACCELERATION` is `0`. The core
never imports this package: it has three places that `enable` fills and `disable` empties.

| place | plain | faster |
|---|---|---|
| `LadderVAE.step_wiring` | `ladder` | `step_networks`: fewer operations over large maps |
| `ImageModel.train_function_of` | Keras's loop | `step_function`: less work between two steps |
| `ImageModel.reads` | the data set as it is | `tf_data`: no wait for the autotuner at the end of an epoch |

Example:
    >>> import keras_provlae as kp
    >>> kp.acceleration.disable()
    >>> kp.acceleration.is_enabled()
    False
    >>> kp.acceleration.enable()
"""

import os

from keras_provlae import ladder
from keras_provlae.acceleration import step_networks
from keras_provlae.acceleration.step_function import train_function_of
from keras_provlae.acceleration.tf_data import without_autotuner
from keras_provlae.models.ladder_vae import LadderVAE
from keras_provlae.training.trainer import ImageModel

VARIABLE = "KERAS_PROVLAE_ACCELERATION"
_PLAIN = {"train_function_of": ImageModel.train_function_of, "reads": ImageModel.reads}


def enable() -> None:
    """Installs the faster equivalents for all models; a traced step takes them when it is traced anew."""
    LadderVAE.step_wiring = step_networks
    ImageModel.train_function_of = staticmethod(train_function_of)
    ImageModel.reads = staticmethod(without_autotuner)


def disable() -> None:
    """Removes them: every step is the plain computation of `ladder`, in Keras's own loop."""
    LadderVAE.step_wiring = ladder
    for name, function in _PLAIN.items():
        setattr(ImageModel, name, staticmethod(function))


def is_enabled() -> bool:
    """Returns whether the next trace of a step takes the faster equivalents."""
    return LadderVAE.step_wiring is step_networks


def install() -> None:
    """Enables them unless the environment variable is `0`; called once, by `import keras_provlae`.

    Raises:
        ValueError: If the variable is neither `0` nor `1`.
    """
    value = os.environ.get(VARIABLE, "1")
    if value not in ("0", "1"):
        raise ValueError(f"The environment variable {VARIABLE} must be 0 or 1. Received: {value!r}.")
    if value == "1":
        enable()
