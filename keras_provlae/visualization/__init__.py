"""Pictures of models and trainings, as matplotlib figures."""

from keras_provlae.visualization.curves import training_curves
from keras_provlae.visualization.images import reconstructions, rung_samples, traversals

__all__ = ["reconstructions", "rung_samples", "training_curves", "traversals"]
