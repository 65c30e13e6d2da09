"""Progressive learning and disentanglement of hierarchical representations, in Keras 3.

Example:
    >>> import keras_provlae as kp
    >>> model = kp.ProgressiveVAE.from_preset("mnist")
    >>> model.stage, model.num_rungs
    (0, 3)

Source: Li et al. (2020), "Progressive learning and disentanglement of hierarchical
representations", ICLR.
"""

import importlib
from typing import TYPE_CHECKING, Any

# Imported at once: these register their classes with Keras, so that `keras.saving.load_model` finds them. The rest of
# the package is imported when it is first used.
from keras_provlae import acceleration, metrics, models
from keras_provlae.models import VLAE, BetaVAE, LadderVAE, ProgressiveVAE, TeacherStudentVAE
from keras_provlae.training.errors import InvalidImagesError, NonFiniteLossError

if TYPE_CHECKING:
    from keras_provlae import (
        callbacks,
        conversion,
        datasets,
        experiments,
        export,
        growth,
        ladder,
        layers,
        losses,
        optimizers,
        presets,
        pretrained,
        recipes,
        report,
        training,
        visualization,
    )
    from keras_provlae.growth import AutoGrowth, GrowthCallback, GrowthGuard, GrowthSchedule

acceleration.install()

__version__ = "0.2.0"

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
    "experiments",
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

_OF_GROWTH = ("AutoGrowth", "GrowthCallback", "GrowthGuard", "GrowthSchedule")


if not TYPE_CHECKING:  # type checkers know every name from the imports above, and report others

    def __getattr__(name: str) -> Any:
        """Imports a part of the package when it is first used."""
        if name in _OF_GROWTH:
            return getattr(importlib.import_module("keras_provlae.growth"), name)
        if name in __all__:
            return importlib.import_module(f"keras_provlae.{name}")
        raise AttributeError(f"module 'keras_provlae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
