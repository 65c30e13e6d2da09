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
    auto_growth,
    callbacks,
    conversion,
    datasets,
    export,
    growth,
    guard,
    ladder,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    presets,
    report,
    visualization,
)
from keras_provlae.auto_growth import AutoGrowth
from keras_provlae.growth import GrowthCallback, GrowthSchedule
from keras_provlae.guard import GrowthGuard
from keras_provlae.models import VLAE, BetaVAE, LadderVAE, ProgressiveVAE, TeacherStudentVAE

__version__ = "0.1.0"

__all__ = [
    "VLAE",
    "AutoGrowth",
    "BetaVAE",
    "GrowthCallback",
    "GrowthGuard",
    "GrowthSchedule",
    "LadderVAE",
    "ProgressiveVAE",
    "TeacherStudentVAE",
    "auto_growth",
    "callbacks",
    "conversion",
    "datasets",
    "export",
    "growth",
    "guard",
    "ladder",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "presets",
    "report",
    "visualization",
]
