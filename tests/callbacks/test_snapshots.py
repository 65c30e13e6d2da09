"""Snapshots: when they are taken, what they show, and which of an earlier run are kept."""

import dataclasses
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_provlae as kp
from keras_provlae.callbacks import TraversalSnapshots
from keras_provlae.visualization import Snapshot, growth_timeline, traversals
from keras_provlae.visualization.writers import rendered

QUICK = {"n": 2, "draws": 20}
NAME = "co$t_$5 <blobs> 100 %"  # not math text
SETTINGS = {"latent_dim": 1, "channels": 4, "dense": 8}


def small(num_rungs=2, cls=kp.ProgressiveVAE):
    return cls((8, 8, 1), num_rungs=num_rungs, **SETTINGS)


@pytest.fixture(scope="module")
def single():
    """A model with one rung, whose steps the tests set."""
    return small(1)


def moments(snapshots):
    return [(one.iteration, one.stage, one.alpha) for one in snapshots]


def begun(callback, model, iteration=0, **params):
    """Starts the callback in a `fit` of a model that has been trained for some steps."""
    callback.set_model(model)
    callback.set_params(params)
    model.iteration_variable.assign(iteration)
    model.stop_training = False
    callback.on_train_begin()
    return callback


def train(callback, model, first, last, unlock_epoch=None, per_epoch=2):
    """Runs the callback over epochs, with an unlock at the start of one, before the callback hears of that epoch."""
    for epoch in range(first, last):
        if epoch == unlock_epoch:
            model.grow(fade_in_steps=0)
        callback.on_epoch_begin(epoch)
        model.iteration_variable.assign_add(per_epoch)
        callback.on_epoch_end(epoch)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Four epochs of two steps with an unlock in the middle of epoch 1; pictures go to a folder and TensorBoard."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("run")
    images = np.random.default_rng(0).random((40, 8, 8, 1), "float32")
    model = small()
    model.compile()
    callback = TraversalSnapshots(
        folder / "new/pictures", images, every=[0], log_dir=folder / "board", around=images[3:4], data=NAME, **QUICK
    )
    grow = kp.GrowthCallback(kp.GrowthSchedule(unlock_iterations=[3]), fade_in_steps=2)
    model.fit(images, batch_size=20, epochs=4, verbose=0, callbacks=[grow, callback])
    return model, images, callback, folder


def test_a_snapshot_comes_right_before_each_unlock(run):
    _, _, callback, folder = run
    assert moments(callback.snapshots) == [(2, 0, 1.0), (3, 0, 1.0), (8, 1, 1.0)]
    assert [one.locked.tolist() for one in callback.snapshots] == [[False, True], [False, True], [False, False]]
    names = sorted(path.name for path in (folder / "new/pictures").iterdir())
    stems = ["step_0000002_stage_0", "step_0000003_stage_0", "step_0000008_stage_1"]
    assert names == ["growth_timeline.png", *(f"{stem}.{end}" for stem in stems for end in ("npz", "png"))]
    saved = [Snapshot.load(path) for path in sorted((folder / "new/pictures").glob("*.npz"))]
    assert moments(saved) == moments(callback.snapshots)


def test_pictures_show_the_model_and_go_to_tensorboard_too(run):
    model, images, callback, folder = run
    expected = rendered(traversals(model, images[3:4], images=images, data=NAME))
    with Image.open(folder / "new/pictures/step_0000008_stage_1.png") as written:
        np.testing.assert_array_equal(np.array(written), expected)
    samples = np.asarray(model.sample(2, rung=1, around=images[3:4], seed=0))
    assert np.abs(callback.snapshots[-1].samples[-1] / 255 - samples).max() <= 0.51 / 255
    (path,) = map(str, (folder / "board/pictures").glob("events*"))
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(path)]
    found = {
        (value.tag, event.step): tf.make_ndarray(value.tensor) for event in events for value in event.summary.value
    }
    assert list(found) == [*(("traversals", step) for step in (2, 3, 8)), ("growth_timeline", 8)]
    np.testing.assert_array_equal(tf.io.decode_png(found["traversals", 8][2]), expected)


def test_three_snapshots_by_default(single, images, tmp_path):
    callback = begun(TraversalSnapshots(tmp_path, images, **QUICK), single, epochs=7)
    train(callback, single, 0, 7, per_epoch=1)
    callback.on_train_end()
    assert [one.iteration for one in callback.snapshots] == [3, 6, 7]


def test_a_resumed_run_keeps_its_snapshots(images, tmp_path):
    """The first run is killed in epoch 3, right after epoch 2; the second unlocks a rung at once."""
    model = small(3)

    def new(iteration=0):
        model.stage_variable.assign(0)
        callback = TraversalSnapshots(tmp_path, images, every=[2], **QUICK)
        return begun(callback, model, iteration, epochs=6)

    train(new(), model, 0, 3, unlock_epoch=2)
    last = tmp_path / "step_0000006_stage_1.npz"
    dataclasses.replace(Snapshot.load(last), mi_total=42.0).save(last)
    callback = new()
    model.stage_variable.assign(1)
    model.iteration_variable.assign(6)  # as BackupAndRestore does after the start of this callback
    train(callback, model, 3, 6, unlock_epoch=3)
    callback.on_train_end()
    whole = [(4, 0), (6, 1), (12, 2)]
    assert [(one.iteration, one.stage) for one in callback.snapshots] == whole
    assert callback.snapshots[1].mi_total == 42.0  # kept, not taken again
    assert len(growth_timeline(tmp_path).axes) == 3 * 4
    callback = new(6)  # another `fit`, from step 6
    callback.on_epoch_begin(0)
    assert [one.iteration for one in callback.snapshots] == [4, 6]
    files = [path.name for path in sorted(tmp_path.glob("step_*"))]
    stems = [f"step_{iteration:07}_stage_{stage}" for iteration, stage in whole[:2]]
    assert files == [f"{stem}.{end}" for stem in stems for end in ("npz", "png")]
    begun(callback, model).on_epoch_begin(0)  # from the start
    assert callback.snapshots == []
    assert not list(tmp_path.glob("step_*"))


def test_useless_files_are_removed(single, images, tmp_path, capsys):
    """Snapshots of other rungs or another number of samples, and files cut off by a kill."""
    for number, (model, n) in enumerate([(small(2), 2), (single, 3), (single, 2)], start=1):
        model.iteration_variable.assign(number)
        Snapshot.of(model, images, n=n, draws=20).save(tmp_path / f"step_{number:07}_stage_0.npz")
    whole = (tmp_path / "step_0000003_stage_0.npz").read_bytes()
    (tmp_path / "step_0000004_stage_0.npz").write_bytes(whole[:500])
    (tmp_path / "step_0000005_stage_0.npz.part").write_bytes(whole[:500])
    (tmp_path / "step_list.npz").write_bytes(b"another file")
    (tmp_path / "step_0000006_stage_0.npz").mkdir()
    callback = begun(TraversalSnapshots(tmp_path, images, **QUICK), single, 9)
    callback.on_epoch_begin(0)
    assert [one.iteration for one in callback.snapshots] == [3]
    left = ["step_0000003_stage_0.npz", "step_0000006_stage_0.npz", "step_list.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert "resuming with 1 snapshots; removed 3 of another training" in capsys.readouterr().out


def test_restored_weights_discard_later_snapshots(single, images, tmp_path):
    callback = begun(TraversalSnapshots(tmp_path, images, every=1, **QUICK), single, epochs=9, steps=2)
    train(callback, single, 0, 3)
    single.iteration_variable.assign(4)  # as EarlyStopping does with restore_best_weights
    single.stop_training = True
    before = callback.snapshots[1]
    callback.on_train_end()
    assert callback.snapshots[1] is not before  # taken again, of the restored weights
    assert [one.iteration for one in callback.snapshots] == [2, 4]
    assert not list(tmp_path.glob("step_0000006*"))
    assert callback.params == {"epochs": 9, "steps": 2}  # `History` shows them


def test_the_subset_the_held_image_and_the_draws(single, images, tmp_path):
    callback = begun(TraversalSnapshots(tmp_path, images, n=2, num_images=30, draws=50, seed=4), single, 1)
    callback.take()
    (one,) = callback.snapshots
    assert one.rows == 30
    flow = kp.metrics.information_flow(*single.encode(callback.images), single.rung_slices, draws=50, seed=4)
    np.testing.assert_allclose(one.mi, flow.mi, atol=1e-5)
    place = np.random.default_rng(4).integers(30)
    np.testing.assert_array_equal(callback.around, callback.images[place : place + 1])
    assert isinstance(TraversalSnapshots(tmp_path, images, seed=None).seed, int)  # never Keras's own stream


def test_a_model_that_does_not_grow_counts_the_steps_of_its_optimizer(images, tmp_path):
    model = small(1, kp.VLAE)
    model.compile()
    callback = TraversalSnapshots(tmp_path, images, every=2, **QUICK)
    callback.set_model(model)
    callback.set_params({"epochs": 3})
    callback.on_train_begin()
    for epoch in range(3):
        callback.on_epoch_begin(epoch)
        model.optimizer.iterations.assign(2 * epoch + 2)
        callback.on_epoch_end(epoch)
    callback.on_train_end()
    assert [(one.stage, one.iteration) for one in callback.snapshots] == [(0, 4), (0, 6)]
    assert (tmp_path / "growth_timeline.png").is_file()


def test_invalid_arguments_are_rejected(single, images, tmp_path, monkeypatch):
    for settings, error, message in [
        ({"every": 0}, ValueError, "`every` must be at least 1"),
        ({"n": 0}, ValueError, "`n` must be at least 1"),
        ({"folder": None}, TypeError, "`folder` must be a path"),
        ({"seed": [1]}, TypeError, "`seed` must be an integer"),
    ]:
        with pytest.raises(error, match=message):
            TraversalSnapshots(**{"folder": tmp_path, "images": images, **settings})
    with pytest.raises(TypeError, match="TraversalSnapshots needs a LadderVAE.*Received: Sequential"):
        TraversalSnapshots(tmp_path, images).set_model(keras.Sequential())
    late = np.repeat(images, 7, axis=0)
    late[-1, 0, 0] = 2  # beyond the first batch
    for settings, message in [
        ({"images": images * 2}, "Images must"),
        ({"images": late}, "Images must"),
        ({"images": images, "around": images[:2]}, "`around` must be one image"),
    ]:
        with pytest.raises(ValueError, match=message):
            begun(TraversalSnapshots(tmp_path / "unused", **settings), single)
    assert not (tmp_path / "unused").exists()
    (tmp_path / "file").write_text("no folder")
    for folder, log_dir in (tmp_path / "file", None), (tmp_path / "used", tmp_path / "file"):
        with pytest.raises(OSError, match=r"Pictures cannot be written to .*file.*Give a folder that can"):
            begun(TraversalSnapshots(folder, images, log_dir=log_dir), single)
    with pytest.warns(UserWarning, match="TraversalSnapshots: `every` lists epochs 3, 9, but"):
        begun(TraversalSnapshots(tmp_path / "used", images, every=[1, 3, 9]), single, epochs=3)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r'"keras_provlae\[tensorboard\]"'):
        TraversalSnapshots(tmp_path, images, log_dir=tmp_path)
