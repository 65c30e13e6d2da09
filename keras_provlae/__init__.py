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
    presets,
    report,
    visualization,
)
from keras_provlae.growth import GrowthCallback, GrowthSchedule
from keras_provlae.models import VLAE, BetaVAE, LadderVAE, ProgressiveVAE, TeacherStudentVAE

__version__ = "0.1.0"

__all__ = [
    "VLAE",
    "BetaVAE",
    "GrowthCallback",
    "GrowthSchedule",
    "LadderVAE",
    "ProgressiveVAE",
    "TeacherStudentVAE",
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
    "presets",
    "report",
    "visualization",
]
