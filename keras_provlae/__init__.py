"""Progressive learning and disentanglement of hierarchical representations, in Keras 3.

Example:
    >>> import keras_provlae as kp
    >>> model = kp.ProgressiveVAE.from_preset("mnist")
    >>> model.stage, model.num_rungs
    (0, 3)

Source: Li et al. (2020), "Progressive learning and disentanglement of hierarchical
representations", ICLR.
"""

from keras_provlae import (
    acceleration,
    callbacks,
    conversion,
    datasets,
    export,
    growth,
    ladder,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    presets,
    pretrained,
    recipes,
    report,
    training,
    visualization,
)
from keras_provlae.growth import AutoGrowth, GrowthCallback, GrowthGuard, GrowthSchedule
from keras_provlae.models import VLAE, BetaVAE, LadderVAE, ProgressiveVAE, TeacherStudentVAE
from keras_provlae.training.errors import InvalidImagesError, NonFiniteLossError

acceleration.install()

__version__ = "0.1.0"

__all__ = [
    "VLAE",
    "AutoGrowth",
    "BetaVAE",
    "GrowthCallback",
    "GrowthGuard",
    "GrowthSchedule",
    "InvalidImagesError",
    "LadderVAE",
    "NonFiniteLossError",
    "ProgressiveVAE",
    "TeacherStudentVAE",
    "acceleration",
    "callbacks",
    "conversion",
    "datasets",
    "export",
    "growth",
    "ladder",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "presets",
    "pretrained",
    "recipes",
    "report",
    "training",
    "visualization",
]
