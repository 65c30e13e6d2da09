"""Pictures of models and trainings as matplotlib figures; `write_png` and `write_gif` write them to files.

Models: `traversals`, `rung_samples`, `rung_swaps`, `manifold`, `reconstructions`. Trainings: `training_curves`,
`growth_timeline`, `growth_shocks`. Codes and factors: `mutual_information_heatmap`, `rung_factor_heatmap`,
`latent_responses`, `context_sweeps`. Comparisons: `reconstruction_against_scores`, `mig_against_mig_sup`. Animations:
`traversals_gif`, `growth_gif`.
"""

from keras_provlae.visualization.animation import traversals_gif
from keras_provlae.visualization.comparison import mig_against_mig_sup, reconstruction_against_scores
from keras_provlae.visualization.contexts import context_sweeps
from keras_provlae.visualization.curves import training_curves
from keras_provlae.visualization.heatmaps import mutual_information_heatmap, rung_factor_heatmap
from keras_provlae.visualization.images import reconstructions, rung_samples, rung_swaps
from keras_provlae.visualization.manifold import manifold
from keras_provlae.visualization.responses import latent_responses
from keras_provlae.visualization.shocks import growth_shocks
from keras_provlae.visualization.snapshot import Snapshot
from keras_provlae.visualization.timeline import growth_gif, growth_timeline
from keras_provlae.visualization.traversals import traversals
from keras_provlae.visualization.writers import write_gif, write_png

__all__ = [
    "Snapshot",
    "context_sweeps",
    "growth_gif",
    "growth_shocks",
    "growth_timeline",
    "latent_responses",
    "manifold",
    "mig_against_mig_sup",
    "mutual_information_heatmap",
    "reconstruction_against_scores",
    "reconstructions",
    "rung_factor_heatmap",
    "rung_samples",
    "rung_swaps",
    "training_curves",
    "traversals",
    "traversals_gif",
    "write_gif",
    "write_png",
]
