"""Timelines of growth: samples of every rung and its information about the image (figure 5)."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_provlae.visualization.grids import Geometry, add_grid, columns_that_fit, geometry
from keras_provlae.visualization.picture import Picture, own_style
from keras_provlae.visualization.snapshot import Snapshot, as_snapshots
from keras_provlae.visualization.style import TITLE_HEIGHT, WIDTH, ink, name_data, place, rung_color, write
from keras_provlae.visualization.writers import rendered, write_gif

LABEL_WIDTH, BAR_WIDTH, GAP, HEADING_HEIGHT = 0.55, 0.62, 0.12, 0.52  # inches
MANY_RUNGS = 4  # with more, three stages in a line and one row of images per rung


@own_style()
def growth_timeline(snapshots: Sequence[Snapshot] | str | os.PathLike, data: Any = None) -> Picture:
    """Shows, for each stage, samples of every rung with a bar for I(x; z_l), and I(x; z) on top (figure 5).

    Args:
        snapshots: A `TraversalSnapshots` callback, its folder, one `Snapshot`, or several in any order. The last one of
            each stage is shown.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` writes no title.

    Returns:
        A figure with one axes per stage and rung for the samples, and one per stage for the bars, in the order of the
        stages; within a stage from the deepest rung, with the bars last. Locked rungs are pale.

    Raises:
        ValueError: If there is no snapshot, or they differ in rungs or images.

    Source: Li et al. (2020), figure 5.
    """
    last = {snapshot.stage: snapshot for snapshot in as_snapshots(snapshots)}
    stages = [last[stage] for stage in sorted(last)]
    across = min(len(stages), 4 if len(stages[0].rungs) <= MANY_RUNGS else 3)
    room = (WIDTH - LABEL_WIDTH) / across - BAR_WIDTH - 2 * GAP
    return name_data(_drawn(stages, across, room, data is not None), data)


@own_style()
def growth_gif(
    snapshots: Sequence[Snapshot] | str | os.PathLike,
    path: str | os.PathLike,
    data: Any = None,
    fps: float = 2,
    dpi: float = 100,
) -> Path:
    """Animates the growth, one frame per snapshot.

    Args:
        snapshots: As `growth_timeline`; all are shown, ordered by iteration.
        path: Path of the GIF.
        data: As `growth_timeline`.
        fps: Float > 0. Snapshots per second.
        dpi: Float > 0. Dots per inch.

    Returns:
        The path.

    Raises:
        ValueError: As `growth_timeline`.
    """
    snapshots = as_snapshots(snapshots)
    most = _longest(snapshots)
    frames = [_drawn([snapshot], 1, 5.0, data is not None, most) for snapshot in snapshots]
    return write_gif([rendered(name_data(frame, data), dpi) for frame in frames], path, fps)


def _longest(snapshots):
    """Nats of a bar of full length: the largest value, and at least 1."""
    return max(1.0, *(float(one.mi.max()) for one in snapshots))


class _Block(NamedTuple):
    """Layout of a stage; sizes in inches."""

    how: Geometry
    rows: int  # of images per rung
    columns: int
    most: float  # nats of a bar of full length

    @property
    def pitch(self):
        """Distance from rung to rung."""
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
    """Draws the blocks of some stages, `across` in a line; `room` is the width of a row of images, in inches."""
    rungs, n = stages[0].samples.shape[:2]
    columns = min(columns_that_fit(stages[0].samples.shape, room, 0.36), n)
    rows = 1 if rungs > MANY_RUNGS else min(2, -(-n // columns))
    columns = min(columns, -(-n // rows))
    how = geometry(stages[0].samples.shape, columns, room, largest=0.6 if rows * columns < n else None)
    block = _Block(how, rows, columns, _longest(stages) if most is None else most)
    lines, top = -(-len(stages) // across), TITLE_HEIGHT if named else 0.1
    size = max(LABEL_WIDTH + across * block.width, 3.6), top + lines * block.height(rungs) + 0.25
    figure = Picture(figsize=size)
    for number, stage in enumerate(stages):
        line, column = divmod(number, across)
        _draw_stage(figure, stage, LABEL_WIDTH + column * block.width, top + line * block.height(rungs), block)
        if column == 0:
            for axes, rung in zip(figure.axes[-rungs - 1 :], stage.rungs, strict=False):
                _name_rung(axes, rungs, rung)
    counts = sorted({stage.rows for stage in stages})
    ceilings = " or ".join(f"{math.log(count):.2f}" for count in counts)
    note = f"bars: I(x; zₗ) in nats, on {' or '.join(f'{count:,}' for count in counts)} images (at most {ceilings})"
    note += "; pale: still locked" if any(stage.locked.any() for stage in stages) else ""
    write(figure, 0.1, size[1] - 0.06, note)
    return figure


def _draw_stage(figure, stage, left, top, block):
    """Draws the heading of a stage, its samples rung by rung, and the bars."""
    fading = f"\nalpha = {stage.alpha:.2g}" if stage.alpha < 1 else ""
    heading = f"stage {stage.stage}, {stage.iteration:,} steps{fading}\nI(x; z) = {stage.mi_total:.2f} nats"
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
    """Draws a bar with its value for each rung, beside its samples."""
    for row, (rung, value) in enumerate(zip(stage.rungs, stage.mi, strict=True)):
        color = rung_color(len(stage.rungs), rung)
        axes.barh(row, max(value, 0.0), height=0.3, color=color, alpha=0.35 if stage.locked[row] else 1.0)
        axes.text(0.04 * most, row - 0.19, f"{max(value, 0.0):.2f}", fontsize=8, va="bottom", color=ink(color))
    axes.axvline(0, color="silver", linewidth=1)
    axes.set_xlim(0, 1.02 * most)
    axes.set_ylim(len(stage.rungs) - 0.5, -0.5)
    axes.set_axis_off()
