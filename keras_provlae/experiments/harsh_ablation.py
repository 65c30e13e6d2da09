"""Table 2 once more, at a learning rate at which trainings fail without the paper's strategies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_provlae.experiments import ablation

TITLE = "Ablation at a high learning rate (table 2)"
HARSH = {  # what differs from the runs of `ablation`
    "smoke": {"learning_rate": 4e-3},
    "small": {
        "learning_rate": 4e-3, "iterations": 3000, "num_images": 5000, "scores": ("mutual_information", "unsupervised"),
    },
    "paper": {"learning_rate": 4e-3},
}  # fmt: skip


def grid(scale: str, seed: int) -> list[dict]:
    """Returns the runs of one seed: one per combination of strategies."""
    return [{**run, **HARSH[scale]} for run in ablation.grid(scale, seed)]


def report(results: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Returns a Markdown page: see `ablation.report`."""
    return ablation.report(results, folder, TITLE)
