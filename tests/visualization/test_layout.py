"""No text covers another or is cut off, and no figure is wider than a README, whatever the model and the images."""

import matplotlib
import numpy as np
import pytest

from keras_provlae import metrics
from keras_provlae import visualization as v
from keras_provlae.visualization.animation import _cells
from keras_provlae.visualization.style import PALETTE, WIDTH, ink, rung_color
from keras_provlae.visualization.traversal_images import make_sweep
from tests.visualization.conftest import Painter, overlaps

CASES = {
    "one rung, gray": ((28, 28, 1), [10]),
    "8 rungs of 8, color": ((64, 64, 3), [8] * 8),
    "64 latents in one rung": ((32, 32, 3), [64]),
    "flat images": ((8, 96, 1), [1, 2, 2]),
    "tall images": ((96, 16, 3), [2, 3, 1, 2]),
    "tiny images": ((8, 8, 1), [2, 2]),
    "a tall figure": ((64, 64, 3), [6] * 4),
}
NAME = "ro$om_$ <procedural> 100 %"  # not math text
FACTORS = ["_$hue$_", "a_factor_with_a_name_" + 9 * "so_" + "long", "shape"]


@pytest.fixture
def painter(request):
    return Painter(*CASES[request.param])


@pytest.fixture
def drawn(painter):
    brightness = np.linspace(0, 1, 20, dtype="float32")[:, None, None, None]
    return brightness * np.random.default_rng(0).random((20, *painter.image_shape), "float32")


def check(figure):
    assert overlaps(figure) == []
    assert figure.get_figwidth() <= WIDTH + 1e-6


def cases(*names):
    return pytest.mark.parametrize("painter", names, indirect=True)


@cases("8 rungs of 8, color", "64 latents in one rung", "flat images", "tall images", "tiny images")
def test_pictures_of_a_model(painter, drawn):
    check(v.traversals(painter, drawn[:1], images=drawn, data=NAME))
    figure, *_ = _cells(painter, make_sweep(painter, drawn[:1], 2, 3.0, drawn, (0.05, 0.95)), NAME)
    check(figure)  # a frame of the animation
    check(v.rung_samples(painter, drawn[:1], n=20, data=NAME))
    check(v.reconstructions(painter, drawn, data=NAME))
    check(v.rung_swaps(painter, drawn[:2], drawn[2:4], data=NAME))
    for rung, columns in painter.rung_slices:
        if columns.stop - columns.start == 2:
            check(v.manifold(painter, rung, steps=5, data=NAME))


@cases("one rung, gray", "a tall figure")
def test_pictures_of_factors(painter, drawn):
    factors = np.arange(20)[:, None] // [1, 4, 10]
    mean, log_var = painter.encode(drawn)
    information = metrics.mutual_information(mean, log_var, factors, factor_names=FACTORS)
    check(v.traversals(painter, drawn[:1], images=drawn, information=information, order="factor", data=NAME))
    check(v.mutual_information_heatmap(information, painter.rung_slices, data=NAME))
    if painter.num_rungs == 1:  # many latents take long and only make the figure taller
        check(v.latent_responses(mean, log_var, factors, painter.rung_slices, FACTORS, data=NAME))


@cases("8 rungs of 8, color", "flat images", "tall images", "tiny images")
def test_a_timeline(painter):
    rungs = painter.num_rungs
    snapshots = [
        v.Snapshot(
            stage=stage,
            alpha=0.25 if stage else 1.0,
            iteration=1_200_000 + stage,
            rungs=np.arange(rungs, 0, -1),
            locked=np.arange(rungs) > stage,
            samples=np.zeros((rungs, 12, *painter.image_shape), "uint8"),
            mi=np.linspace(9.5, 0, rungs),
            mi_total=10.0,
            rows=1000,
        )
        for stage in range(min(rungs, 4))
    ]
    check(v.growth_timeline(snapshots, data="a name that is wider than any figure" * 4))


def test_curves_of_many_stages():
    stages = np.repeat(np.arange(8), 3)
    history = {"loss": 200.0 - stages, "reconstruction": 190.0 - stages, "stage": stages, "alpha": 0 * stages + 1.0}
    history |= {f"{name}_rung_{rung}": stages / rung for name in ("kl", "mi") for rung in range(1, 9)}
    check(v.training_curves({**history, "mi_total": stages}, data=NAME))


def test_stages_of_a_few_epochs_among_many():
    stages = np.array([0] * 200 + [1] * 2 + [2] * 200)
    history = {"reconstruction": 0.0 * stages, "kl_rung_1": 0.0 * stages, "stage": stages, "alpha": 0.0 * stages + 1}
    check(v.training_curves(history))


def test_comparisons():
    rng = np.random.default_rng(0)
    runs = [
        {
            "model": model,
            "beta": beta,
            "reconstruction": 100 + 5 * beta,
            **dict(zip(("mig", "mig_sup"), rng.random(2), strict=True)),
        }
        for model in ("pro-VLAE", "VLAE", "_VAE$", "a$b_c$d")
        for beta in (1, 4, 10)
    ]
    check(v.reconstruction_against_scores(runs, top=3, data=NAME))
    long = [{**run, "model": f"{run['model']} with a rather long name"} for run in runs]
    check(v.mig_against_mig_sup(long, data=NAME))


def test_names_without_room_are_rotated():
    factors = np.random.default_rng(0).integers(0, 2, (60, 30))
    mean = np.random.default_rng(1).normal(size=(60, 3))
    names = [f"attribute_number_{number}" for number in range(30)]
    information = metrics.mutual_information(mean, mean * 0 - 1, factors, factor_names=names)
    check(v.mutual_information_heatmap(information))
    check(v.latent_responses(mean, mean * 0 - 1, factors[:, 0]))


def test_rung_colors_are_fixed_and_text_is_readable():
    assert len(set(PALETTE)) == 8
    assert [rung_color(2, 2), rung_color(8, 8)] == PALETTE[:1] * 2  # the deepest
    for color in PALETTE:
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _rgb(ink(color))
        )
        assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) >= 4.5, color


def _rgb(color):
    return [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]


@cases("tiny images")
def test_global_state_of_matplotlib_is_unchanged(painter, drawn):
    import matplotlib.pyplot as plt

    before, backend = dict(matplotlib.rcParams), matplotlib.get_backend()
    v.traversals(painter, drawn[:1])
    v.reconstructions(painter, drawn[:2])
    assert (dict(matplotlib.rcParams), matplotlib.get_backend(), plt.get_fignums()) == (before, backend, [])
