"""Small scenes with a hierarchy of factors: the kind of scene determines which details are visible."""

import functools

import numpy as np

from keras_provlae.datasets.ground_truth import GroundTruth
from keras_provlae.datasets.renders import Render

SIZE = 64  # pixels
SCENES = ("sea", "city", "forest")
DAYLIGHTS = ("dawn", "noon", "dusk", "night")
DETAILS = ("waves", "windows", "fruit")  # in the sea, city and forest

_SAMPLES = 4  # per pixel and axis
_EDGES = (0, 21, 43, 64)  # columns of the places left, middle, right
_CENTERS = (10.5, 32.0, 53.5)
_HORIZON = {"sea": 40.0, "city": 50.0, "forest": 46.0}
_SKY = np.array([[235, 170, 160], [130, 200, 250], [240, 140, 80], [25, 30, 70]]) / 255
_LIGHT = np.array([[1.0, 0.85, 0.8], [1.0, 1.0, 1.0], [0.85, 0.62, 0.55], [0.38, 0.42, 0.6]])
_PAINTS = {  # ground, object, second part of the object, detail
    "sea": np.array([[30, 95, 165], [245, 245, 235], [125, 65, 35], [190, 225, 250]]) / 255,
    "city": np.array([[115, 115, 120], [165, 85, 75], [165, 85, 75], [255, 225, 110]]) / 255,
    "forest": np.array([[115, 175, 75], [35, 110, 55], [105, 70, 40], [225, 45, 55]]) / 255,
}
_GROUND, _BODY, _PART, _DETAIL = 1, 2, 3, 4  # 0 is the sky


def scenes() -> GroundTruth:
    """Builds 49,152 procedural images, 64 x 64 x 3, with a hierarchy of factors.

    Two abstract factors change the whole image: `scene` (sea, city, forest) and `daylight` (dawn, noon, dusk, night).
    Three local factors, `left`, `middle` and `right`, are the sizes 0 .. 3 of the boat, house or tree there. Of the
    details `waves`, `windows` and `fruit`, 0 .. 3, only one is visible, in its own scene. So deep rungs should learn
    scene and daylight, and shallow rungs the rest.

    Factors, last one fastest: scene 3, daylight 4, left 4, middle 4, right 4, waves 4, windows 4, fruit 4. Each image
    appears 16 times, once for each combination of the invisible details. So images, and codes, carry at most a third
    of the entropy of a detail factor.

    Returns:
        A `GroundTruth` named `"scenes"`.

    Example:
        >>> truth = scenes()
        >>> city = truth.images([1, 3, 2, 0, 1, 0, 3, 0])  # a city at night, all windows lit
        >>> bool((truth.images([1, 3, 2, 0, 1, 3, 3, 2]) == city).all())  # a city has no waves or fruit
        True

    Source: ours, to test the claim of Li et al. (2020) that deep rungs learn abstract factors.
    """
    sizes = {place: range(4) for place in ("left", "middle", "right", *DETAILS)}
    values = {"scene": SCENES, "daylight": DAYLIGHTS, **sizes}
    return GroundTruth(values, (SIZE, SIZE, 3), Render(_placing), "scenes", "procedural")


def _placing(ops):
    """Builds the `render` that joins three strips."""
    strips = [ops.constant(_strips(place), "float32") for place in range(3)]
    in_scene = ops.constant(np.eye(3), "int32")

    def render(factors):
        scene, daylight = factors[:, 0], factors[:, 1]
        detail = ops.sum(ops.gather(in_scene, scene) * factors[:, 5:8], axis=1)
        first = (scene * 4 + detail) * 4
        parts = [ops.gather(strips[place], (first + factors[:, 2 + place]) * 4 + daylight) for place in range(3)]
        return ops.concat(parts, axis=2)

    return render


@functools.cache
def _strips(place):
    """Draws a third of every image, `(192, 64, width, 3)`, in the order scene, detail, size, daylight."""
    rows = (np.arange(SIZE * _SAMPLES) + 0.5) / _SAMPLES
    columns = rows[_EDGES[place] * _SAMPLES : _EDGES[place + 1] * _SAMPLES]
    x, y = np.meshgrid(columns, rows)
    strips = []
    for scene, draw in zip(SCENES, (_draw_sea, _draw_city, _draw_forest), strict=True):
        for detail, size in np.ndindex(4, 4):
            label = np.where(y < _HORIZON[scene], 0, _GROUND)
            draw(label, x - _CENTERS[place], x, y, size, detail)
            share = (label[..., np.newaxis] == np.arange(5)).reshape(SIZE, _SAMPLES, -1, _SAMPLES, 5).mean(axis=(1, 3))
            strips += [share @ _palette(scene, daylight) for daylight in range(4)]
    return np.stack(strips)


def _palette(scene, daylight):
    """Returns the colors of sky, ground, body, part and detail `(5, 3)`."""
    paints = _PAINTS[scene] * _LIGHT[daylight]
    if scene == "city":
        paints[_DETAIL - 1] = _PAINTS[scene][_DETAIL - 1]  # windows glow
    return np.vstack([_SKY[daylight], paints])


def _draw_sea(label, across, x, y, size, detail):
    """Draws a boat with a sail of a given size, and waves. `across` is the distance from the center of the strip."""
    for height in (51.0, 58.0):
        label[np.abs(y - height - detail * np.sin(2 * np.pi * x / 16)) < 0.7] = _DETAIL
    deck, top = 42.0, 42.0 - (9 + 7 * size)
    label[(y >= deck) & (y < deck + 5) & (np.abs(across) < 8 - 0.8 * (y - deck))] = _PART
    label[(y < deck - 1) & (y > top) & (across > -2) & (across < -2 + 9 * (y - top) / (deck - top))] = _BODY


def _draw_city(label, across, x, y, size, detail):
    """Draws a house whose size sets the floors, and whose detail sets the lit windows."""
    street = _HORIZON["city"]
    top = street - (10 + 10 * size)
    label[(y < street) & (y > top) & (np.abs(across) < 7.5)] = _BODY
    column, floor = np.floor((across + 7.5) / 5), np.floor((street - y) / 5)
    framed = (np.abs((across + 7.5) % 5 - 2.5) < 1.4) & (np.abs((street - y) % 5 - 2.5) < 1.4)
    lit = (column + floor) % 3 < detail
    label[framed & lit & (y < street) & (y > top) & (np.abs(across) < 7.5)] = _DETAIL


def _draw_forest(label, across, x, y, size, detail):
    """Draws a tree whose size sets the crown, and whose detail sets the fruit."""
    foot, radius = _HORIZON["forest"] + 4, 4.5 + 1.8 * size
    center = foot - 8 - radius
    label[(y < foot) & (y > center) & (np.abs(across) < 1.6)] = _PART
    label[np.hypot(across, y - center) < radius] = _BODY
    for fruit in range(2 * detail):
        angle, distance = 2.4 * fruit + 0.5, radius * (0.25 + 0.11 * fruit)
        spot = np.hypot(across - distance * np.cos(angle), y - center - distance * np.sin(angle))
        label[spot < 1.2] = _DETAIL
