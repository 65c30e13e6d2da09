"""Writes figures and animations to files."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image  # a dependency of matplotlib

from keras_provlae.visualization.style import PALETTE, ink

KEPT = np.array(  # 8-bit colors that every animation keeps: white, black, and each rung's for lines and text
    [
        (255, 255, 255),
        (0, 0, 0),
        *(np.round(255 * np.array(to_rgb(tone))) for color in PALETTE for tone in (color, ink(color))),
    ]
).astype("uint8")


def write_png(figure: Figure, path: str | os.PathLike, dpi: float = 150) -> Path:
    """Writes a figure as a PNG file.

    Args:
        figure: A matplotlib figure.
        path: Path of the file; its folder is created, an existing file is replaced.
        dpi: Float > 0. Dots per inch.

    Returns:
        The path.

    Raises:
        ValueError: If `path` does not end in .png.

    Example:
        >>> import tempfile
        >>> write_png(Figure(), tempfile.mkdtemp() + "/new/empty.png").name
        'empty.png'
    """
    path = _prepared(path, ".png")
    figure.savefig(path, format="png", dpi=dpi)
    return path


def write_gif(frames: Iterable[Any], path: str | os.PathLike, fps: float = 10, dpi: float = 100) -> Path:
    """Writes a looping animation as a GIF file.

    Args:
        frames: Figures, or uint8 arrays `(height, width, 3)`, all of one size.
        path: Path of the file; its folder is created, an existing file is replaced.
        fps: Float > 0. Frames per second; browsers play at most 50.
        dpi: Float > 0. Dots per inch of frames that are figures.

    Returns:
        The path.

    Raises:
        ValueError: If `path` does not end in .gif, there is no frame, they differ in size, or `fps` is not positive.
    """
    if not fps > 0:
        raise ValueError(f"`fps` must be positive. Received: fps={fps}.")
    pixels = [rendered(frame, dpi) if isinstance(frame, Figure) else np.asarray(frame) for frame in frames]
    sizes = sorted({frame.shape for frame in pixels})
    if len(sizes) != 1:
        raise ValueError(f"`frames` must be at least one, all of the same size. Received: {sizes or 'no frame'}.")
    path = _prepared(path, ".gif")
    first, *others = map(Image.fromarray, _in_256_colors(pixels))
    first.save(path, "GIF", save_all=True, append_images=others, duration=1000 / fps, loop=0)
    return path


def rendered(figure: Figure, dpi: float = 100) -> np.ndarray:
    """Renders a figure to pixels: uint8 `(height, width, 3)`."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _in_256_colors(frames):
    """Quantizes the frames to one shared palette of 256 colors that includes those of the rungs.

    Otherwise the encoder would give small areas, such as labels, the colors of large ones.
    """
    some = np.concatenate(frames[:: -(-len(frames) // 8)])
    if len(np.unique(np.concatenate([frame.reshape(-1, 3) for frame in frames]), axis=0)) <= 256:
        return frames
    chosen = Image.fromarray(some).quantize(256 - len(KEPT), Image.Quantize.MEDIANCUT).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*chosen[: 3 * (256 - len(KEPT))], *np.ravel(KEPT)])
    return [_quantized(frame, palette) for frame in frames]


def _quantized(frame, palette):
    """Quantizes a frame; restores exact colors such as white, which Pillow only approximates."""
    quantized = np.array(Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB"))
    exact = np.isin(_packed(frame), _packed(KEPT))
    quantized[exact] = frame[exact]
    return quantized


def _packed(colors):
    return colors.astype("uint32") @ np.array([1 << 16, 1 << 8, 1], "uint32")


def _prepared(path, suffix):
    path = Path(path)
    if path.suffix.lower() != suffix:
        raise ValueError(f"`path` must end in {suffix}. Received: {path}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
