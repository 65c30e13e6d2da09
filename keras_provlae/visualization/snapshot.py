"""What a model makes of every rung at one moment of its training, in memory and in files."""

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
    """What a model made of every rung at one moment, and what the rungs knew of the image.

    Attributes:
        stage: Int, 0 .. L - 1.
        alpha: Float, 0.0 .. 1.0.
        iteration: Int. Optimiser steps taken.
        rungs: Int array `(L,)`, the deepest first, as the rows of the others.
        locked: Bool array `(L,)`. Whether the rung's code does not reach the image yet.
        samples: Uint8 array `(L, n, height, width, channels)`: each rung drawn from its prior, the others held.
        mi: Float64 array `(L,)`. I(x; z_l) in nats.
        mi_total: Float. I(x; z) in nats.
        rows: Int. Images that the information is of: it cannot exceed ln rows.
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
        """What snapshots must share to be drawn beside one another: the rungs, and number and shape of the samples."""
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
        """The snapshot of a model as it is.

        Args:
            model: A `LadderVAE`; one that does not grow is at its last stage.
            images: Float array `(rows, height, width, channels)` in [0, 1], at least two: those that I(x; z_l) is of.
            around: One image, `(1, height, width, channels)`, whose codes are held; `None` takes the first.
            n: Int >= 1. Images drawn for each rung, from the same codes in every snapshot with the same seed.
            draws: Int >= 2. Draws of (x, z) for I(x; z_l).
            seed: Int or `None`. Seed of all draws.

        Returns:
            A `Snapshot`.

        Raises:
            TypeError, ValueError: If an argument is unfit.
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
        """Writes the snapshot as an npz file, whole or not at all."""
        part = Path(f"{path}.part")
        with part.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})
        os.replace(part, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """The snapshot that `save` wrote; a `ValueError` for any other file."""
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                values = {name: arrays[name] for name in arrays.files}
        except FileNotFoundError:
            raise
        except Exception as error:  # a damaged file fails in many ways
            raise ValueError(f"This file is no snapshot, or not a whole one: {path} ({error}).") from error
        return cls(**{name: value if value.ndim else value.item() for name, value in values.items()})


def snapshot_files(folder: str | os.PathLike) -> list[Path]:
    """The files in a folder that have the name of a snapshot."""
    return sorted(path for path in Path(folder).glob("step_*.npz") if FILE_NAME.fullmatch(path.name) and path.is_file())


def as_snapshots(given: Any) -> list[Snapshot]:
    """The snapshots of a folder of `TraversalSnapshots`, or those that are given, by iteration; all of one kind."""
    if isinstance(given, str | os.PathLike):
        snapshots = [Snapshot.load(path) for path in snapshot_files(given)]
        if not snapshots:
            raise ValueError(f"There is no snapshot of `TraversalSnapshots` in {given}: no step_*.npz.")
    else:
        given = getattr(given, "snapshots", given)  # of the callback
        snapshots = [given] if isinstance(given, Snapshot) else list(given) if isinstance(given, Iterable) else [given]
        if not all(isinstance(one, Snapshot) for one in snapshots):
            raise TypeError(
                "`snapshots` must be what `TraversalSnapshots` keeps, or its folder. "
                f"Received: {', '.join(sorted({type(one).__name__ for one in snapshots}))}."
            )
    kinds = {one.kind for one in snapshots}
    if len(kinds) != 1:
        raise ValueError(
            "`snapshots` must be at least one, all of models with the same rungs and of as many images. "
            f"Received: {len(snapshots)} snapshots of {len(kinds)} kinds."
        )
    return sorted(snapshots, key=lambda one: one.iteration)
