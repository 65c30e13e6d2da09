"""Pictures of models and trainings, as matplotlib figures."""

from keras_provlae.visualization.curves import training_curves
from keras_provlae.visualization.heatmaps import mutual_information_heatmap, rung_factor_heatmap
from keras_provlae.visualization.images import reconstructions, rung_samples, traversals

__all__ = [
    "mutual_information_heatmap",
    "reconstructions",
    "rung_factor_heatmap",
    "rung_samples",
    "training_curves",
    "traversals",
]
