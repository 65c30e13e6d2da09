import dataclasses

import numpy as np
import pytest
from keras import ops
from matplotlib.colors import to_rgb

from keras_provlae import metrics
from keras_provlae.visualization import Snapshot, growth_gif, growth_timeline
from keras_provlae.visualization.style import rung_color
from tests.visualization.conftest import blocks, labels, read_gif


@pytest.fixture(scope="module")
def held():
    return np.random.default_rng(1).random((40, 8, 8, 1), "float32")


@pytest.fixture(scope="module")
def snapshot(growing_model, held):
    return Snapshot.of(growing_model, held, n=6, draws=200, seed=3)


@pytest.fixture
def stages(snapshot):
    """Two snapshots of stage 0 and one of each later stage, unordered."""
    at = [(2, 30), (0, 5), (1, 20), (0, 10)]
    return [
        dataclasses.replace(
            snapshot, stage=stage, iteration=iteration, mi=snapshot.mi + iteration, mi_total=iteration / 4
        )
        for stage, iteration in at
    ]


def test_a_snapshot_shows_the_model(snapshot, growing_model, held):
    assert (snapshot.stage, snapshot.alpha, snapshot.iteration, snapshot.rows) == (1, 0.5, 5, 40)
    assert snapshot.rungs.tolist() == [3, 2, 1]
    assert snapshot.locked.tolist() == [False, False, True]
    for rung, samples in zip((3, 2, 1), snapshot.samples, strict=True):
        expected = ops.convert_to_numpy(growing_model.sample(6, rung=rung, around=held[:1], seed=3))
        assert np.abs(samples / 255 - expected).max() <= 0.5 / 255 + 1e-6
    flow = metrics.information_flow(*growing_model.encode(held), growing_model.rung_slices, 200, 3)
    np.testing.assert_allclose(snapshot.mi, flow.mi, atol=1e-4)
    assert snapshot.mi_total == pytest.approx(flow.total, abs=1e-4)


def test_a_snapshot_is_saved_and_loaded(snapshot, tmp_path):
    snapshot.save(tmp_path / "one.npz")
    loaded = Snapshot.load(tmp_path / "one.npz")
    for name, value in dataclasses.asdict(snapshot).items():
        np.testing.assert_array_equal(getattr(loaded, name), value, err_msg=name)
    assert type(loaded.stage) is int


def test_the_last_snapshot_of_each_stage_is_shown(stages):
    figure = growth_timeline(stages, data="rooms")
    assert len(figure.axes) == 3 * (3 + 1)
    headings = [text.get_text() for text in figure.texts if text.get_text().startswith("stage")]
    assert headings == [
        "stage 0, 10 steps\nalpha = 0.5\nI(x; z) = 2.50 nats",
        "stage 1, 20 steps\nalpha = 0.5\nI(x; z) = 5.00 nats",
        "stage 2, 30 steps\nalpha = 0.5\nI(x; z) = 7.50 nats",
    ]
    assert labels(axes.get_yticklabels()[0] for axes in figure.axes[:3]) == ["rung 3", "rung 2", "rung 1"]
    assert figure.get_suptitle() == "rooms"
    assert any("on 40 images (at most 3.69); pale: still locked" in text.get_text() for text in figure.texts)


def test_samples_and_bars(stages):
    figure = growth_timeline(stages)
    snapshot = stages[0]
    for number, rung in enumerate(snapshot.samples):
        axes = figure.axes[number]
        shown = blocks(axes).reshape(-1, 8, 8, 1)
        np.testing.assert_array_equal(shown, rung[: len(shown)] / 255)
        assert axes.images[0].get_alpha() == (0.35 if number == 2 else None)
    for bars, iteration in zip(figure.axes[3::4], (10, 20, 30), strict=True):
        widths = [patch.get_width() for patch in bars.patches]
        np.testing.assert_allclose(widths, snapshot.mi - 30 + iteration)
        assert [text.get_text() for text in bars.texts] == [f"{width:.2f}" for width in widths]
        assert bars.get_xlim() == figure.axes[3].get_xlim()  # one scale for all stages
        assert bars.get_xlim()[1] >= snapshot.mi.max()
        assert bars.get_ylim()[0] > bars.get_ylim()[1]  # downwards, beside the samples
        colors = [(*to_rgb(rung_color(3, rung)), 0.35 if rung == 1 else 1.0) for rung in (3, 2, 1)]
        assert [patch.get_facecolor() for patch in bars.patches] == colors


def test_bars_of_small_values_are_short(snapshot):
    bars = growth_timeline(dataclasses.replace(snapshot, mi=np.array([0.02, 0.01, 0.0]))).axes[-1]
    assert bars.get_xlim()[1] >= 1


def test_negative_estimates_are_drawn_as_0(snapshot):
    bars = growth_timeline(dataclasses.replace(snapshot, mi=np.array([2.0, -0.3, 1.0]))).axes[-1]
    assert [text.get_text() for text in bars.texts] == ["2.00", "0.00", "1.00"]


def test_the_animation_of_the_growth(stages, tmp_path):
    path = growth_gif(stages, tmp_path / "growth.gif", dpi=50)
    frames, info = read_gif(path)
    assert (len(frames), info["duration"]) == (4, 500)
    (blue,) = {tuple(int(255 * part) for part in to_rgb(rung_color(3, 3)))}
    lengths = [(np.abs(frame.astype(int) - blue).max(axis=-1) < 12).sum() for frame in frames]
    assert lengths == sorted(lengths)  # in the order of the iterations, on one scale
    assert lengths[0] < lengths[-1]


def test_invalid_snapshots_are_rejected(stages, snapshot, tmp_path):
    with pytest.raises(ValueError, match="same rungs.*Received: 0 snapshots"):
        growth_timeline([])
    with pytest.raises(ValueError, match="must have snapshots of `TraversalSnapshots` .*Received: .*empty"):
        growth_timeline(tmp_path / "empty")
    assert growth_timeline(snapshot).axes
    (tmp_path / "step_0000001_stage_0.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not a snapshot, or is damaged: .*step_0000001_stage_0.npz"):
        growth_timeline(tmp_path)
    other = dataclasses.replace(snapshot, rungs=snapshot.rungs[:2], samples=snapshot.samples[:2])
    with pytest.raises(ValueError, match="Received: 5 snapshots of 2 kinds"):
        growth_timeline([*stages, other])
