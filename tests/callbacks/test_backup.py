"""Backups that cannot be written, damaged backups, and backups of other trainings."""

import errno
import types

import h5py
import keras
import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.callbacks import BackupAndRestore


def small():
    """Any Keras model will do where only files matter."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")])
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    return model


def ladder(cls=kp.ProgressiveVAE, num_rungs=1, **settings):
    model = cls((8, 8, 1), num_rungs, 2, channels=4, dense=8, **settings)
    model.compile(kp.optimizers.adam())
    return model


def begun(backup, model):
    backup.set_model(model)
    backup.on_train_begin()
    return getattr(model, "_initial_epoch", None) or 0


def train(backup, model, epochs, on_epoch=lambda epoch: None):
    """Runs the callback like a `fit` to which each epoch adds 1 to the bias; returns the trained epochs."""
    first = begun(backup, model)
    for epoch in range(first, epochs):
        on_epoch(epoch)
        bias = model.get_layer("dense").bias
        bias.assign(bias + 1.0)
        backup.on_epoch_end(epoch)
    backup.on_train_end()
    return list(range(first, epochs))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def values(model):
    return [np.array(variable) for variable in [*model.variables, *model.optimizer.variables]]


def same(model, before):
    return all(np.array_equal(now, then) for now, then in zip(values(model), before, strict=True))


def test_a_ladder_model_resumes_from_the_last_epoch(images, tmp_path):
    folder = tmp_path / "new" / "backup"
    backup = BackupAndRestore(folder, max_share=1, delete_checkpoint=False)
    model = ladder()
    model.fit(images, batch_size=20, epochs=2, verbose=0, callbacks=[backup])
    assert files(folder) == ["epoch_2.weights.h5"]
    again, trained = ladder(), values(model)
    assert begun(backup, again) == 2
    assert same(again, trained)
    assert (again.iteration, float(again.optimizer.iterations)) == (4, 4)
    # `fit` starts at the restored epoch; the trained model resumes, as its step is compiled
    assert model.fit(images, batch_size=20, epochs=3, verbose=0, callbacks=[backup]).epoch == [2]
    assert model.iteration == 6


def test_by_default_the_folder_is_removed_at_the_end(tmp_path):
    train(BackupAndRestore(tmp_path / "backup"), small(), 2)
    assert files(tmp_path) == []


def test_a_full_disk_leaves_the_last_backup(tmp_path, monkeypatch):
    backup = BackupAndRestore(tmp_path, max_share=1, delete_checkpoint=False)
    model = small()
    train(backup, model, 1)
    before = values(model)

    def write_half(self, path, overwrite=True):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        fill = lambda epoch: full.setattr(keras.Model, "save_weights", write_half)  # noqa: E731
        message = r"backup of epoch 2 could not be .*No space left .*last good backup is .*epoch_1.weights.h5"
        with pytest.raises(OSError, match=message):
            train(backup, model, 3, fill)
        with pytest.raises(OSError, match=r"no room for another backup in .*epoch_1.weights.h5: .*No space left"):
            backup.on_train_begin()
    assert files(tmp_path) == ["epoch_1.weights.h5"]
    again = small()
    assert train(backup, again, 1) == []
    assert same(again, before)


def test_a_file_cut_off_by_a_kill_is_not_a_backup(tmp_path):
    (tmp_path / "unfinished.weights.h5").write_bytes(b"half")
    backup = BackupAndRestore(tmp_path, max_share=1, delete_checkpoint=False)
    assert train(backup, small(), 1) == [0]
    assert files(tmp_path) == ["epoch_1.weights.h5"]


def test_the_later_of_two_backups_counts(tmp_path):
    """The run was killed after the later one was renamed, before the earlier one was removed."""
    backup = BackupAndRestore(tmp_path, max_share=1, delete_checkpoint=False)
    train(backup, small(), 10)
    (tmp_path / "epoch_9.weights.h5").write_bytes(b"an older one")
    assert train(backup, small(), 11) == [10]
    assert files(tmp_path) == ["epoch_11.weights.h5"]


def test_backups_take_at_most_their_share_of_the_time(tmp_path, monkeypatch):
    """A backup takes 1 second, an epoch 21: the next backup is due 200 seconds after the first."""
    clock, written = [0.0], []
    time = types.SimpleNamespace(perf_counter=lambda: clock[0])
    monkeypatch.setattr("keras_provlae.callbacks.backup.time", time)
    model = small()
    save_weights = model.save_weights

    def slow(*args, **kwargs):
        clock[0] += 1.0
        save_weights(*args, **kwargs)
        written.append(clock[0])

    def epoch_passes(epoch):
        clock[0] += 21.0

    monkeypatch.setattr(model, "save_weights", slow)
    train(BackupAndRestore(tmp_path, delete_checkpoint=False), model, 12, epoch_passes)
    assert written == [22.0, 233.0]  # the backup ends a second after the epoch
    assert files(tmp_path) == ["epoch_11.weights.h5"]


def test_weights_that_are_not_finite_are_not_backed_up(tmp_path):
    model = small()

    def diverge(epoch):
        if epoch == 1:
            model.get_layer("dense").bias.assign([np.nan])

    train(BackupAndRestore(tmp_path, max_share=1, delete_checkpoint=False), model, 2, diverge)
    assert files(tmp_path) == ["epoch_1.weights.h5"]


def test_invalid_folders_and_shares_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="folder of this machine. Received: backup_dir=gs://bucket/x"):
        BackupAndRestore("gs://bucket/x")
    for share in 0, 1.5, float("nan"):
        with pytest.raises(ValueError, match="max_share="):
            BackupAndRestore("backup", max_share=share)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=r"Backups cannot be written to .*file/backup: .*Give a folder that can be"):
        begun(BackupAndRestore(tmp_path / "file" / "backup"), small())
    (tmp_path / "latest.weights.h5").write_bytes(b"")
    with pytest.raises(ValueError, match="backup of `keras.callbacks.BackupAndRestore`"):
        begun(BackupAndRestore(tmp_path), small())


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory):
    """The bytes of a backup of epoch 5, and its model."""
    folder, model = tmp_path_factory.mktemp("backup"), ladder()
    backup = BackupAndRestore(folder, max_share=1)
    begun(backup, model)
    backup.on_epoch_end(4)
    return (folder / "epoch_5.weights.h5").read_bytes(), model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_rungs": 2}, r"its network differs in \d+ of \d+ arrays \(first decoder/.*: \(.*\) in the .*, \(.*\) in"),
        ({"cls": kp.VLAE}, r"differs in 5 of .*vars/gamma: \(\) in the backup, missing in the model"),
        ({"multiscale_weight": 1.0}, r"layers/conv2d/vars/0: missing in the backup, \(.*\) in the model"),
        ({"gamma": 0.25}, r"its settings differ: gamma was 0.5 and is 0.25. To resume"),
        ({"optimizer": "sgd"}, r"trained with another optimizer \(fused_adam, here sgd\)"),
        ({"optimizer": "adam"}, r"trained with another optimizer \(fused_adam, here adam\)"),
    ],
)
def test_a_backup_of_another_training_is_rejected_and_changes_nothing(backed_up, tmp_path, settings, message):
    (tmp_path / "epoch_5.weights.h5").write_bytes(backed_up[0])
    model = backed_up[1] if "optimizer" in settings else ladder(**settings)
    if "optimizer" in settings:
        model.compile(**settings)
    before = values(model)
    with pytest.raises(ValueError, match=message) as error:
        begun(BackupAndRestore(tmp_path), model)
    assert f"The backup in {tmp_path} is not of this training" in str(error.value)
    assert f"To start over, give another folder or delete {tmp_path / 'epoch_5.weights.h5'}" in str(error.value)
    assert same(model, before)
    assert (files(tmp_path), getattr(model, "_initial_epoch", None)) == (["epoch_5.weights.h5"], None)


@pytest.mark.parametrize("damage", ["cut off", "not HDF5", "no weights", "unreadable array"])
def test_a_damaged_backup_changes_nothing(backed_up, tmp_path, damage, monkeypatch):
    content, model = backed_up
    model.compile(kp.optimizers.adam())
    file = tmp_path / "epoch_5.weights.h5"
    file.write_bytes({"cut off": content[: len(content) // 2], "not HDF5": b"{}"}.get(damage, content))
    if damage == "no weights":
        with h5py.File(file, "w") as weights:
            weights["images"] = np.zeros(3)
    before = values(model)
    if damage == "unreadable array":  # found after other arrays were loaded
        load, kernel = model.load_weights, model.encoder.get_layer("h_1").kernel

        def fails(path):
            if path != file:
                return load(path)
            kernel.assign(np.ones(kernel.shape))
            raise OSError("Can't synchronously read data")

        monkeypatch.setattr(model, "load_weights", fails)
    with pytest.raises(ValueError, match="The backup in .* cannot be read|The backup in .* its network differs"):
        begun(BackupAndRestore(tmp_path), model)
    assert same(model, before)
    assert files(tmp_path) == ["epoch_5.weights.h5"]


def test_the_end_removes_only_the_backup(backed_up, tmp_path):
    content, model = backed_up
    for name in "epoch_5.weights.h5", "unfinished.weights.h5":
        (tmp_path / name).write_bytes(content)
    (tmp_path / "model.keras").write_bytes(b"another file")
    model.compile(kp.optimizers.adam())
    backup = BackupAndRestore(tmp_path)
    assert begun(backup, model) == 5
    model._initial_epoch = None
    backup.on_train_end()
    assert files(tmp_path) == ["model.keras"]
