import contextlib
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_provlae as kp
from keras_provlae.callbacks import TraversalSnapshots
from keras_provlae.visualization import Snapshot, traversals
from keras_provlae.visualization.writers import rendered

QUICK = {"n": 2, "draws": 20}
NAME = "co$t_$5 <blobs> 100 %"  # no formula


def read_png(path):
    with Image.open(path) as image:
        return np.array(image)


def moments(snapshots):
    return [(one.iteration, one.stage, one.alpha) for one in snapshots]


def fit(model, images, callback, epochs=6, grow=None):
    """Two steps an epoch, with unlocks after two and four epochs."""
    model.compile(keras.optimizers.SGD(1e-3))
    grow = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[2, 4]), fade_in_steps=2) if grow is None else grow
    model.fit(images, batch_size=20, epochs=epochs, verbose=0, callbacks=[grow, callback])
    return callback


def at(callback, model, iteration, params=None):
    """The callback at the beginning of a `fit` of a model that has been trained for so long."""
    callback.set_model(model)
    callback.set_params(params or {})
    model.iteration_variable.assign(iteration)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    return callback


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training whose pictures go into a folder and to TensorBoard: model, images, callback, folder."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("run")
    images = np.random.default_rng(0).random((40, 8, 8, 1), "float32")
    model = kp.ProgressiveVAE((8, 8, 1), num_rungs=3, latent_dim=2, channels=4, dense=8)
    callback = TraversalSnapshots(
        folder / "new/pictures", images, every=[0], log_dir=folder / "board", around=images[3:4], data=NAME, **QUICK
    )
    return model, images, fit(model, images, callback), folder


def test_the_end_of_every_stage_is_seen_before_the_next_rung_is_unlocked(run):
    _, _, callback, folder = run
    assert moments(callback.snapshots) == [(2, 0, 1.0), (4, 0, 1.0), (8, 1, 1.0), (12, 2, 1.0)]
    locked = [one.locked.tolist() for one in callback.snapshots[1:]]
    assert locked == [[False, True, True], [False, False, True], [False, False, False]]
    names = sorted(path.name for path in (folder / "new/pictures").iterdir())
    stems = ["step_0000002_stage_0", "step_0000004_stage_0", "step_0000008_stage_1", "step_0000012_stage_2"]
    assert names == ["growth_timeline.png", *(f"{stem}.{end}" for stem in stems for end in ("npz", "png"))]
    kept = [Snapshot.load(path) for path in sorted((folder / "new/pictures").glob("*.npz"))]
    assert moments(kept) == moments(callback.snapshots)


def test_pictures_are_the_traversals_of_the_model(run):
    model, images, callback, folder = run
    expected = rendered(traversals(model, images[3:4], images=images, data=NAME))
    written = read_png(folder / "new/pictures/step_0000012_stage_2.png")
    np.testing.assert_array_equal(written, expected)
    samples = np.asarray(model.sample(2, rung=1, around=images[3:4], seed=0))
    assert np.abs(callback.snapshots[-1].samples[-1] / 255 - samples).max() <= 0.51 / 255


def test_tensorboard_gets_the_same_pictures(run):
    tf = pytest.importorskip("tensorflow")
    folder = run[-1]
    (path,) = map(str, (folder / "board/pictures").glob("events*"))
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(path)]
    found = {
        (value.tag, event.step): tf.make_ndarray(value.tensor) for event in events for value in event.summary.value
    }
    steps = {2: 0, 4: 0, 8: 1, 12: 2}
    assert list(found) == [*(("traversals", step) for step in steps), ("growth_timeline", 12)]
    for step, stage in steps.items():
        written = read_png(folder / f"new/pictures/step_{step:07}_stage_{stage}.png")
        np.testing.assert_array_equal(tf.io.decode_png(found["traversals", step][2]), written)


def test_an_unlock_in_the_middle_of_an_epoch(make_model, images, tmp_path):
    grow = kp.GrowthCallback(kp.GrowthSchedule(unlock_iterations=[3, 4]))
    callback = fit(make_model(), images, TraversalSnapshots(tmp_path, images, every=9, **QUICK), epochs=3, grow=grow)
    assert [(one.iteration, one.stage) for one in callback.snapshots] == [(3, 0), (4, 1), (6, 2)]


def test_about_three_times_by_default(make_model, images, tmp_path):
    model = make_model(num_rungs=1)
    callback = at(TraversalSnapshots(tmp_path, images, **QUICK), model, 0, {"epochs": 7})
    for epoch in range(7):
        model.iteration_variable.assign(epoch + 1)
        callback.on_epoch_end(epoch)
    callback.on_train_end()
    assert [one.iteration for one in callback.snapshots] == [3, 6, 7]


def test_a_resumed_training_goes_on_with_its_snapshots(make_model, images, tmp_path):
    for stop_after in 3, None:
        stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs, last=stop_after: _stop(epoch, last))
        callback = TraversalSnapshots(tmp_path / "pictures", images, every=[0, 2], **QUICK)
        model = make_model()
        model.compile(keras.optimizers.SGD(1e-3))
        schedule = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[2, 5]))
        callbacks = [schedule, callback, keras.callbacks.BackupAndRestore(tmp_path / "backup"), stop]
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(images, batch_size=20, epochs=6, verbose=0, callbacks=callbacks)
    assert [one.iteration for one in callback.snapshots] == [2, 4, 6, 10, 12]
    assert len(kp.visualization.growth_timeline(tmp_path / "pictures").axes) == 3 * 4
    again = at(TraversalSnapshots(tmp_path / "pictures", images, every=9, **QUICK), make_model(), 6)
    assert [one.iteration for one in again.snapshots] == [2, 4, 6]  # a second `fit`, of a model with six steps
    files = [path.name for path in sorted((tmp_path / "pictures").glob("step_*"))]
    stems = ["step_0000002_stage_0", "step_0000004_stage_0", "step_0000006_stage_1"]
    assert files == [f"{stem}.{end}" for stem in stems for end in ("npz", "png")]
    assert at(again, make_model(), 0).snapshots == []  # another training
    assert not list((tmp_path / "pictures").glob("step_*"))


def _stop(epoch, last):
    if epoch == last:
        raise KeyboardInterrupt


def test_files_that_are_of_no_use_are_removed(make_model, images, tmp_path, capsys):
    """Of other rungs, of another number of samples, and cut off when a process was killed."""
    for number, (model, n) in enumerate([(make_model(num_rungs=2), 2), (make_model(), 3), (make_model(), 2)], start=1):
        model.iteration_variable.assign(number)
        Snapshot.of(model, images, n=n, draws=20).save(tmp_path / f"step_{number:07}_stage_0.npz")
    whole = (tmp_path / "step_0000003_stage_0.npz").read_bytes()
    (tmp_path / "step_0000004_stage_0.npz").write_bytes(whole[:500])
    (tmp_path / "step_0000005_stage_0.npz.part").write_bytes(whole[:500])
    (tmp_path / "step_list.npz").write_bytes(b"of somebody else")
    (tmp_path / "step_0000006_stage_0.npz").mkdir()
    callback = at(TraversalSnapshots(tmp_path, images, **QUICK), make_model(), 9)
    assert [one.iteration for one in callback.snapshots] == [3]
    left = ["step_0000003_stage_0.npz", "step_0000006_stage_0.npz", "step_list.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert "going on with 1 snapshots; 3 of another training removed" in capsys.readouterr().out


def test_weights_that_were_brought_back_take_their_snapshots_along(make_model, images, tmp_path):
    model = make_model(num_rungs=1)
    params = {"epochs": 9, "steps": 2}
    callback = at(TraversalSnapshots(tmp_path, images, every=1, **QUICK), model, 0, params)
    for epoch in range(3):
        model.iteration_variable.assign(2 * epoch + 2)
        callback.on_epoch_end(epoch)
    model.iteration_variable.assign(4)  # as EarlyStopping does with restore_best_weights
    model.stop_training = True
    before = callback.snapshots[1]
    callback.on_train_end()
    assert callback.snapshots[1] is not before  # of the weights as they are
    assert [one.iteration for one in callback.snapshots] == [2, 4]
    assert not list(tmp_path.glob("step_0000006*"))
    assert params == {"epochs": 9, "steps": 2}  # `History` shows them


def test_what_is_held_and_drawn(make_model, images, tmp_path):
    model = make_model()
    model.iteration_variable.assign(1)
    callback = at(TraversalSnapshots(tmp_path, images, n=2, num_images=30, draws=50, seed=4), model, 1)
    callback.take()
    (one,) = callback.snapshots
    assert one.rows == 30
    flow = kp.metrics.information_flow(*model.encode(callback.images), model.rung_slices, draws=50, seed=4)
    np.testing.assert_allclose(one.mi, flow.mi, atol=1e-5)
    place = np.random.default_rng(4).integers(30)
    np.testing.assert_array_equal(callback.around, callback.images[place : place + 1])
    assert isinstance(TraversalSnapshots(tmp_path, images, seed=None).seed, int)  # never Keras's own stream


def test_a_model_that_does_not_grow(make_model, images, tmp_path):
    model = make_model(kp.VLAE, num_rungs=1)
    model.compile(keras.optimizers.SGD(1e-3))
    callback = TraversalSnapshots(tmp_path, images, every=2, **QUICK)
    model.fit(images, epochs=3, verbose=0, callbacks=[callback])
    assert [(one.stage, one.iteration) for one in callback.snapshots] == [(0, 4), (0, 6)]
    assert (tmp_path / "growth_timeline.png").is_file()


def test_training_is_not_disturbed(make_model, images, tmp_path):
    weights = []
    for every in None, 1:
        keras.utils.set_random_seed(1)
        model = make_model(num_rungs=1)
        model.compile(keras.optimizers.SGD(1e-2))
        pictures = [] if every is None else [TraversalSnapshots(tmp_path, images, every=every, **QUICK)]
        model.fit(images, batch_size=20, epochs=2, shuffle=False, verbose=0, callbacks=pictures)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_clear_errors(make_model, images, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="`every` must be at least 1"):
        TraversalSnapshots(tmp_path, images, every=0)
    with pytest.raises(ValueError, match="`n` must be at least 1"):
        TraversalSnapshots(tmp_path, images, n=0)
    with pytest.raises(TypeError, match="needs a model with `encode`"):
        TraversalSnapshots(tmp_path, images).set_model(keras.Sequential())
    with pytest.raises(ValueError, match="Images must"):
        fit(make_model(), images, TraversalSnapshots(tmp_path / "unused", images * 2))
    with pytest.raises(ValueError, match="`around` must be one image"):
        fit(make_model(), images, TraversalSnapshots(tmp_path / "unused", images, around=images[:2]))
    model = make_model(num_rungs=1)
    late = np.repeat(images, 7, axis=0)
    late[-1, 0, 0] = 2  # beyond the first batch
    with pytest.raises(ValueError, match="Images must"):
        at(TraversalSnapshots(tmp_path / "unused", late), model, 0)
    assert not (tmp_path / "unused").exists()
    (tmp_path / "file").write_text("no folder")
    for folder, log_dir in (tmp_path / "file", None), (tmp_path / "used", tmp_path / "file"):
        with pytest.raises(OSError, match=r"Pictures cannot be written to .*file.*Give a folder that can"):
            at(TraversalSnapshots(folder, images, log_dir=log_dir), model, 0)
    with pytest.raises(TypeError, match="`folder` must be a path"):
        TraversalSnapshots(None, images)
    with pytest.raises(TypeError, match="`seed` must be an integer"):
        TraversalSnapshots(tmp_path, images, seed=[1])
    with pytest.warns(UserWarning, match="TraversalSnapshots: `every` names the epochs 3, 9, and"):
        at(TraversalSnapshots(tmp_path / "used", images, every=[1, 3, 9]), model, 0, {"epochs": 3})
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r'"keras_provlae\[tensorboard\]"'):
        TraversalSnapshots(tmp_path, images, log_dir=tmp_path)
