"""How the rungs share the image between them while the model grows (figure 5)."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

import keras
import numpy as np
from keras import ops
from matplotlib.figure import Figure

from keras_provlae.metrics import information_flow
from keras_provlae.metrics.encoding import encode_all
from keras_provlae.metrics.posteriors import optional
from keras_provlae.visualization.grids import Geometry, add_grid, columns_that_fit, geometry
from keras_provlae.visualization.latent_use import as_images, check_model, locked_rungs, rung_images
from keras_provlae.visualization.style import TITLE_HEIGHT, WIDTH, ink, name_data, place, rung_color, write
from keras_provlae.visualization.writers import rendered, write_gif

LABEL_WIDTH, BAR_WIDTH, GAP, HEADING_HEIGHT = 0.55, 0.62, 0.12, 0.52  # inches
FILE_NAME = re.compile(r"step_\d{7,}_stage_\d+\.npz")  # as `TraversalSnapshots` names them
MANY_RUNGS = 4  # above it, three stages beside one another and one row of images per rung


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
            model: A `LadderVAE`; one that does not grow is at stage 0.
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
            stage=getattr(model, "stage", 0),
            alpha=getattr(model, "alpha", 1.0),
            iteration=iteration_of(model),
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


def iteration_of(model: keras.Model) -> int:
    """Optimiser steps that a model has been trained for, as far as it knows."""
    if hasattr(model, "iteration"):
        return model.iteration
    optimizer = getattr(model, "optimizer", None)
    return 0 if optimizer is None else int(ops.convert_to_numpy(optimizer.iterations))


def growth_timeline(snapshots: Sequence[Snapshot] | str | os.PathLike, data: Any = None) -> Figure:
    """Stage by stage, samples of every rung with a bar for I(x; z_l), and I(x; z) on top (figure 5).

    Args:
        snapshots: The callback `TraversalSnapshots`, or its folder, or what `Snapshot.of` returns: one or several in
            any order. The last one of each stage is shown.
        data: What the images are, for the title: a text, or the `GroundTruth` itself; `None` is no title.

    Returns:
        A figure with one axes per stage and rung for the samples, and one per stage for the bars: first all
        of stage 0, the deepest rung on top and the bars last. Rungs that are still locked are pale.

    Raises:
        ValueError: If there is no snapshot, or they are of models with other rungs or images.

    Source: Li et al. (2020), figure 5.
    """
    last = {snapshot.stage: snapshot for snapshot in as_snapshots(snapshots)}
    stages = [last[stage] for stage in sorted(last)]
    across = min(len(stages), 4 if len(stages[0].rungs) <= MANY_RUNGS else 3)
    room = (WIDTH - LABEL_WIDTH) / across - BAR_WIDTH - 2 * GAP
    return name_data(_drawn(stages, across, room, data is not None), data)


def growth_gif(
    snapshots: Sequence[Snapshot] | str | os.PathLike,
    path: str | os.PathLike,
    data: Any = None,
    fps: float = 2,
    dpi: float = 100,
) -> Path:
    """An animation of the growth, one snapshot after the other.

    Args:
        snapshots: As `growth_timeline`; all are shown, in the order of their iterations.
        path: Where the GIF goes.
        data: As `growth_timeline`.
        fps: Float > 0. Snapshots per second.
        dpi: Float > 0. Dots per inch.

    Returns:
        The path.

    Raises:
        ImportError: If imageio is not installed.
        ValueError: As `growth_timeline`.
    """
    optional("imageio.v3", "examples", "imageio")  # before anything is drawn
    snapshots = as_snapshots(snapshots)
    most = _longest(snapshots)
    frames = [_drawn([snapshot], 1, 5.0, data is not None, most) for snapshot in snapshots]
    return write_gif([rendered(name_data(frame, data), dpi) for frame in frames], path, fps)


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
        snapshots = [given] if isinstance(given, Snapshot) else list(given)
    kinds = {one.kind for one in snapshots}
    if len(kinds) != 1:
        raise ValueError(
            "`snapshots` must be at least one, all of models with the same rungs and of as many images. "
            f"Received: {len(snapshots)} snapshots of {len(kinds)} kinds."
        )
    return sorted(snapshots, key=lambda one: one.iteration)


def _longest(snapshots):
    """What the longest bar stands for: the most that a rung carries, or a nat where none carries that much."""
    return max(1.0, *(float(one.mi.max()) for one in snapshots))


class _Block(NamedTuple):
    """How one stage is drawn: sizes in inches."""

    how: Geometry
    rows: int  # of images per rung
    columns: int
    most: float  # nats of the longest bar

    @property
    def pitch(self):
        """From rung to rung."""
        return self.how.inches(self.rows, self.columns)[1] + 0.04

    @property
    def bars_left(self):
        return self.how.inches(self.rows, self.columns)[0] + 0.04

    @property
    def width(self):
        return max(self.how.inches(self.rows, self.columns)[0] + BAR_WIDTH + 2 * GAP, 1.75)

    def height(self, rungs):
        return HEADING_HEIGHT + rungs * self.pitch + 0.1


def _drawn(stages, across, room, named, most=None):
    """The blocks of some stages, so many beside one another; `room` is what a row of images may take, in inches."""
    rungs, n = stages[0].samples.shape[:2]
    columns = min(columns_that_fit(stages[0].samples.shape, room, 0.36), n)
    rows = 1 if rungs > MANY_RUNGS else min(2, -(-n // columns))
    columns = min(columns, -(-n // rows))
    how = geometry(stages[0].samples.shape, columns, room, largest=0.6 if rows * columns < n else None)
    block = _Block(how, rows, columns, _longest(stages) if most is None else most)
    lines, top = -(-len(stages) // across), TITLE_HEIGHT if named else 0.1
    size = max(LABEL_WIDTH + across * block.width, 3.6), top + lines * block.height(rungs) + 0.25
    figure = Figure(figsize=size)
    for number, stage in enumerate(stages):
        line, column = divmod(number, across)
        _draw_stage(figure, stage, LABEL_WIDTH + column * block.width, top + line * block.height(rungs), block)
        if column == 0:
            for axes, rung in zip(figure.axes[-rungs - 1 :], stage.rungs, strict=False):
                _name_rung(axes, rungs, rung)
    rows = sorted({stage.rows for stage in stages})
    most_nats = ", which allow at most " + " or ".join(f"{math.log(count):.2f}" for count in rows)
    note = f"bars: $I(x; z_l)$ in nats, of {' or '.join(f'{count:,}' for count in rows)} images{most_nats}"
    note += "; pale: still locked" if any(stage.locked.any() for stage in stages) else ""
    write(figure, 0.1, size[1] - 0.06, note)
    return figure


def _draw_stage(figure, stage, left, top, block):
    """The heading of a stage, its samples rung by rung, and the bars."""
    fading = f"\nalpha = {stage.alpha:.2g}" if stage.alpha < 1 else ""
    heading = f"stage {stage.stage}, {stage.iteration:,} steps{fading}\n$I(x; z)$ = {stage.mi_total:.2f} nats"
    write(figure, left + 0.03, top + HEADING_HEIGHT - 0.05, heading)
    top += HEADING_HEIGHT
    shown = stage.samples[:, : block.rows * block.columns] / 255
    for row, images in enumerate(shown):
        faint = bool(stage.locked[row])
        add_grid(figure, left, top + row * block.pitch, images, block.rows, block.how, faint=faint)
    bars = place(figure, left + block.bars_left, top, BAR_WIDTH, len(shown) * block.pitch - 0.04)
    _draw_bars(bars, stage, block.most)


def _name_rung(axes, num_rungs, rung):
    axes.set_yticks([sum(axes.get_ylim()) / 2], [f"rung {rung}"], fontsize=8, fontweight="bold")
    axes.get_yticklabels()[0].set_color(ink(rung_color(num_rungs, rung)))


def _draw_bars(axes, stage, most):
    """A bar for each rung, beside its samples, with its number."""
    for row, (rung, value) in enumerate(zip(stage.rungs, stage.mi, strict=True)):
        color = rung_color(len(stage.rungs), rung)
        axes.barh(row, max(value, 0.0), height=0.3, color=color, alpha=0.35 if stage.locked[row] else 1.0)
        axes.text(0.04 * most, row - 0.19, f"{max(value, 0.0):.2f}", fontsize=8, va="bottom", color=ink(color))
    axes.axvline(0, color="silver", linewidth=1)
    axes.set_xlim(0, 1.02 * most)
    axes.set_ylim(len(stage.rungs) - 0.5, -0.5)
    axes.set_axis_off()
