"""The paper's tables and figures, one command each; see `python -m keras_provlae.experiments --help`.

Read in this order: `runs` (the dict that describes a run), `sources` and `training` (one run), `records`, `progress`,
`runner`, `executors` and `cluster` (many runs), `scales` (their sizes), the experiments `comparison`,
`information_flow`, `ablation` and `traversals` with the paper's numbers in `paper`, and `suite` (from the grid of runs
to the page). `selection` chooses among finished runs without labels.

Example:
    >>> from keras_provlae.experiments import scales, runs
    >>> run = scales.run("small", "mnist", beta=1, L=3, latent_dim=3, seed=0)
    >>> runs.title(runs.complete(run))
    'pro-VLAE mnist L 3 x 3 beta 1 gamma 0.5 fade-in 500 seed 0'
"""

from keras_provlae.experiments.records import read_results
from keras_provlae.experiments.runner import execute_all
from keras_provlae.experiments.selection import select
from keras_provlae.experiments.suite import EXPERIMENTS, run_experiment, write_report

__all__ = ["EXPERIMENTS", "execute_all", "read_results", "run_experiment", "select", "write_report"]
