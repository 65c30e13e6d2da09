"""Snapshots of a model during training, in memory and in files."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from keras_provlae.metrics import information_flow
from keras_provlae.metrics.encoding import encode_all
from keras_provlae.visualization.model_images import as_images, check_model, locked_rungs, rung_images

FILE_NAME = re.compile(r"step_\d{7,}_stage_\d+\.npz")  # as `TraversalSnapshots` names them


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Samples of every rung, and the rungs' information about the image, at one step of a training.

    Attributes:
        stage: Int, 0 .. L - 1.
        alpha: Float, 0.0 .. 1.0.
        iteration: Int. Optimizer steps taken.
        rungs: Int array `(L,)`, deepest first; the order of the other arrays.
        locked: Bool array `(L,)`. Whether the rung is still locked, so its code does not reach the image.
        samples: Uint8 array `(L, n, height, width, channels)`: each rung drawn from its prior, the others held.
        mi: Float64 array `(L,)`. I(x; z_l) in nats.
        mi_total: Float. I(x; z) in nats.
        rows: Int. Number of images behind `mi` and `mi_total`, which cannot exceed ln `rows`.
    """

    stage: int
    alpha: float
    iteration: int
    rungs: np.ndarray
    locked: np.ndarray
    samples: np.ndarray
    mi: np.ndarray
    mi_total: float
    rows: int

    @property
    def kind(self) -> tuple:
        """The rungs, and number and shape of the samples: equal in snapshots that share a figure."""
        return (*map(int, self.rungs), *self.samples.shape[1:])

    @classmethod
    def of(
        cls,
        model: keras.Model,
        images: Any,
        around: Any = None,
        n: int = 12,
        draws: int = 1000,
        seed: int | None = 0,
    ) -> Self:
        """Takes a snapshot of the current model.

        Args:
            model: A `LadderVAE`.
            images: Float array `(rows, height, width, channels)` in [0, 1], rows >= 2: the images of I(x; z_l).
            around: One image, `(1, height, width, channels)`, whose codes are held; `None` takes the first.
            n: Int >= 1. Samples per rung, from the same codes in all snapshots with the same seed.
            draws: Int >= 2. Draws of (x, z) for I(x; z_l).
            seed: Int or `None`. Seed of all draws.

        Raises:
            TypeError, ValueError: If an argument is invalid.
        """
        check_model(model)
        images = as_images(images, least=2)
        around = images[:1] if around is None else around
        flow = information_flow(*encode_all(model, images), model.rung_slices, draws, seed)
        locked = locked_rungs(model)
        return cls(
            stage=model.stage,
            alpha=model.alpha,
            iteration=model.iteration,
            rungs=np.array(flow.rungs),
            locked=np.array([rung in locked for rung in flow.rungs]),
            samples=np.round(255 * rung_images(model, around, n, seed)).astype("uint8"),
            mi=flow.mi,
            mi_total=flow.total,
            rows=flow.rows,
        )

    def save(self, path: str | os.PathLike) -> None:
        """Writes the snapshot to an npz file, atomically."""
        part = Path(f"{path}.part")
        with part.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})
        os.replace(part, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Loads a snapshot that `save` wrote; raises a `ValueError` for any other file."""
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                values = {name: arrays[name] for name in arrays.files}
        except FileNotFoundError:
            raise
        except Exception as error:  # a damaged file fails in many ways
            raise ValueError(f"This file is not a snapshot, or is damaged: {path} ({error}).") from error
        return cls(**{name: value if value.ndim else value.item() for name, value in values.items()})


def snapshot_files(folder: str | os.PathLike) -> list[Path]:
    """Files in a folder that are named like a snapshot, sorted."""
    return sorted(path for path in Path(folder).glob("step_*.npz") if FILE_NAME.fullmatch(path.name) and path.is_file())


def as_snapshots(given: Any) -> list[Snapshot]:
    """Returns the given snapshots, or those in a folder, sorted by iteration; checks that all are of one kind."""
    if isinstance(given, str | os.PathLike):
        snapshots = [Snapshot.load(path) for path in snapshot_files(given)]
        if not snapshots:
            raise ValueError(f"The folder must have snapshots of `TraversalSnapshots` (step_*.npz). Received: {given}.")
    else:
        given = getattr(given, "snapshots", given)  # of the callback
        snapshots = [given] if isinstance(given, Snapshot) else list(given) if isinstance(given, Iterable) else [given]
        if not all(isinstance(one, Snapshot) for one in snapshots):
            raise TypeError(
                "`snapshots` must be those of a `TraversalSnapshots`, or its folder. "
                f"Received: {', '.join(sorted({type(one).__name__ for one in snapshots}))}."
            )
    kinds = {one.kind for one in snapshots}
    if len(kinds) != 1:
        raise ValueError(
            "`snapshots` must be at least one, all with the same rungs, sample count and image shape. "
            f"Received: {len(snapshots)} snapshots of {len(kinds)} kinds."
        )
    return sorted(snapshots, key=lambda one: one.iteration)
