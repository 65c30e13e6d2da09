from importlib.resources import files

import numpy as np
import pytest

from keras_provlae.datasets import shapes3d, shapes3d_renderer
from keras_provlae.datasets.shapes3d import twin

FLOOR, WALL, OBJECT, SCALE, SHAPE, ORIENTATION = range(6)


@pytest.fixture(scope="module")
def truth():
    return twin()


@pytest.fixture(scope="module")
def maps():
    with files("keras_provlae.datasets").joinpath("shapes3d_maps.npz").open("rb") as file, np.load(file) as content:
        return content["maps"].reshape(8, 4, 15, 64, 64, 4)


def test_the_grid_is_that_of_the_original(truth):
    assert (len(truth), truth.image_shape) == (480_000, (64, 64, 3))
    assert truth.factor_names == ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    assert truth.factor_sizes == (10, 10, 10, 8, 4, 15)
    assert truth.factors(1).tolist() == [0, 0, 0, 0, 0, 1]
    assert truth.factors(479_999).tolist() == [9, 9, 9, 7, 3, 14]
    assert [values[[0, -1]].tolist() for values in truth.factor_values] == [
        [0.0, 0.9], [0.0, 0.9], [0.0, 0.9], [0.75, 1.25], ["cube", "capsule"], [-30.0, 30.0],
    ]  # fmt: skip
    assert (truth.name, truth.source) == ("shapes3d", "procedural")


def test_tfds_has_the_same_grid(truth):
    import tensorflow_datasets as tfds

    features = tfds.builder("shapes3d").info.features
    assert features["image"].shape == truth.image_shape
    assert tuple(features[f"label_{name}"].num_classes for name in truth.factor_names) == truth.factor_sizes


def test_images_mix_the_colors_of_sky_floor_wall_and_object(truth, maps):
    factors = truth.factors(np.random.default_rng(0).integers(len(truth), size=50))
    images = truth.images(factors)
    red, orange, yellow = [1, 0, 0], [1, 0.6, 0], [0.8, 1, 0]  # hues 0, 0.1 and 0.2 at full saturation and value
    hues = np.array([red, orange, yellow, [0.2, 1, 0], [0, 1, 0.4], [0, 1, 1], [0, 0.4, 1], [0.2, 0, 1],
                     [0.8, 0, 1], [1, 0, 0.6]])  # fmt: skip
    for image, row in zip(images, factors, strict=True):
        share = maps[tuple(row[SCALE:])] / 255
        colors = np.vstack([[153 / 255, 226 / 255, 249 / 255], hues[row[:3]]])
        np.testing.assert_allclose(image, share @ colors, atol=1e-6)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("geometry", [(0, 0, 0), (7, 0, 11), (3, 1, 7), (5, 2, 2), (7, 3, 14)])
def test_the_shipped_maps_are_those_of_the_renderer(maps, geometry):
    rendered = 255 * shapes3d_renderer.shading_maps(*geometry)
    wrong = np.abs(rendered - maps[geometry]) > 0.51
    assert wrong.sum() <= 4  # a ray along an edge may hit either side, depending on the machine
    assert np.abs(rendered - maps[geometry]).max() <= 255 / 8


def test_the_maps_are_small():
    assert files("keras_provlae.datasets").joinpath("shapes3d_maps.npz").stat().st_size < 400_000


def test_a_pixel_has_one_part(maps):
    for geometry in (0, 0, 0), (4, 3, 9):
        label = maps[geometry] > 127
        sure = (maps[geometry][..., 0] == 255) | (maps[geometry][..., 0] == 0)
        assert (label.sum(axis=-1)[sure] <= 1).all()


def test_round_objects_look_the_same_from_everywhere(maps):
    """The camera turns around them: the outline stays the same, unlike the shadow."""
    for shape in 1, 2, 3:
        outlines = maps[5, shape, ..., OBJECT + 1] > 0
        assert np.mean(outlines != outlines[7]) < 0.002


def test_straight_ahead_the_room_is_symmetric(maps):
    """At orientation 0 degrees, sky, wall and object are mirror-symmetric, unlike the shading."""
    for shape in range(4):
        seen = maps[4, shape, 7] > 0
        for part in 0, 2, 3:
            assert np.mean(seen[..., part] != seen[:, ::-1, part]) < 0.01, (shape, part)


def test_left_views_mirror_right_views(maps):
    for step in 3, 7:
        left, right = maps[4, 0, 7 - step] > 0, maps[4, 0, 7 + step] > 0
        for part in 0, 2, 3:
            assert np.mean(left[..., part] != right[:, ::-1, part]) < 0.01


def test_a_larger_scale_is_a_larger_object(maps):
    area = (maps[..., 3] > 0).sum(axis=(3, 4))
    assert (np.diff(area, axis=0) > 0).all()


def test_a_sphere_has_its_area_in_perspective(maps):
    """A sphere of radius r at distance d appears as a circle of radius f tan(asin(r / d)) near the optical axis."""
    focal = 32 / np.tan(np.radians(22.5))
    for k, scale in enumerate(0.75 + 0.5 * np.arange(8) / 7):
        radius = 0.61 * scale
        distance = np.hypot(4.0, 1.222 - radius)
        expected = np.pi * (focal * np.tan(np.arcsin(radius / distance))) ** 2
        covered = (maps[k, 2, 7, ..., 3] > 0).sum()
        border = 2 * np.sqrt(np.pi * expected)
        # touched pixels include about half of the border
        assert abs(covered - 0.6 * border - expected) < 0.05 * expected


def test_real_frames(shared, truth, maps):
    """Dithered, downsampled frames of the original against the nearest image of the twin."""
    frames = np.load(shared / "data/shapes3d/3dshapes_gif64.npy").astype("float32") / 255
    share = maps[..., ::4, ::4, :].reshape(480, -1, 4).astype("float32") / 255  # a few pixels suffice to rank
    power = np.einsum("gpk,gpk->gk", share, share)
    geometry = np.stack(np.unravel_index(np.arange(480), (8, 4, 15)), axis=1)
    hues = truth.images([[hue, hue, hue, 0, 0, 7] for hue in range(10)])
    hues = hues[:, 60, 2] / hues[:, 60, 2].max(axis=1, keepdims=True)
    palette = np.concatenate([np.broadcast_to([[153, 226, 249]], (10, 3)) / 255, hues]).astype("float32")
    errors = []
    for frame in frames:
        pixels = frame[::4, ::4].reshape(-1, 3)
        colors = np.einsum("gpk,pc->gkc", share, pixels) / power[..., np.newaxis]
        hue = ((colors[:, 1:, np.newaxis] - hues) ** 2).sum(axis=-1).argmin(axis=-1)
        chosen = np.concatenate([np.zeros((480, 1), int), 10 + hue], axis=1)
        coarse = np.abs(share @ palette[chosen] - pixels).mean(axis=(1, 2))
        best = np.argsort(coarse)[:8]
        images = truth.images(np.hstack([hue, geometry])[best])
        errors.append(255 * np.abs(images - frame).mean(axis=(1, 2, 3)).min())
    assert len(errors) == 53
    assert np.mean(errors) < 7.5
    assert np.max(errors) < 12


def test_auto_prints_that_it_is_the_twin(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert shapes3d().source == "procedural"
    line = capsys.readouterr().out
    assert line.startswith("shapes3d: the procedural twin, rendered on demand; the original is neither prepared by ")
    assert line.count("\n") == 1
    assert shapes3d("procedural").source == "procedural"
    assert capsys.readouterr().out == ""
