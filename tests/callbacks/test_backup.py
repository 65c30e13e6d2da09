"""Backups that cannot be written, and what is left of those that could."""

import errno

import keras
import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.callbacks import backup as backup_module

FIT = {"batch_size": 20, "verbose": 0}


@pytest.fixture
def model(make_model):
    model = make_model(num_rungs=1)
    model.compile(run_eagerly=True)
    return model


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_keeps_the_last_epoch_and_goes_on_from_it(make_model, model, images, tmp_path):
    backup = kp.callbacks.BackupAndRestore(tmp_path / "new" / "backup", max_share=1, delete_checkpoint=False)
    model.fit(images, epochs=2, callbacks=[backup], **FIT)
    assert files(tmp_path / "new" / "backup") == ["epoch_2.weights.h5"]
    again = make_model(num_rungs=1)
    again.compile(run_eagerly=True)
    assert again.fit(images, epochs=3, callbacks=[backup], **FIT).epoch == [2]
    assert again.iteration == 6


def test_at_the_end_the_folder_is_removed(model, images, tmp_path):
    model.fit(images, callbacks=[kp.callbacks.BackupAndRestore(tmp_path / "backup")], **FIT)
    assert files(tmp_path) == []


def test_a_disk_that_is_full_leaves_the_backup_before(make_model, model, images, tmp_path, monkeypatch):
    backup = kp.callbacks.BackupAndRestore(tmp_path, max_share=1, delete_checkpoint=False)
    model.fit(images, epochs=1, callbacks=[backup], **FIT)
    weights = [np.array(weight) for weight in model.weights]

    def write_half(self, path, overwrite=True):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:

        class Full(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                full.setattr(keras.Model, "save_weights", write_half)

        message = r"The backup of epoch 2 could not be .*No space left .*that of epoch 1 is whole, .*epoch_1.weights.h5"
        with pytest.raises(OSError, match=message):
            model.fit(images, epochs=3, callbacks=[backup, Full()], **FIT)
        with pytest.raises(OSError, match=r"no room for another backup in .*epoch_1.weights.h5: .*No space left"):
            backup.on_train_begin()
    assert files(tmp_path) == ["epoch_1.weights.h5"]

    again = make_model(num_rungs=1)
    again.compile(run_eagerly=True)

    class AtBeginning(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                for ours, theirs in zip(self.model.weights, weights, strict=True):
                    np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)

    assert again.fit(images, epochs=3, callbacks=[backup, AtBeginning()], **FIT).epoch == [1, 2]


def test_what_was_killed_while_it_was_written_is_no_backup(model, images, tmp_path):
    (tmp_path / "unfinished.weights.h5").write_bytes(b"half")
    backup = kp.callbacks.BackupAndRestore(tmp_path, max_share=1, delete_checkpoint=False)
    assert model.fit(images, epochs=1, callbacks=[backup], **FIT).epoch == [0]
    assert files(tmp_path) == ["epoch_1.weights.h5"]


def test_of_two_backups_the_later_counts(model, images, tmp_path):
    """Killed after the later one was renamed, before the earlier one was removed."""
    backup = kp.callbacks.BackupAndRestore(tmp_path, max_share=1, delete_checkpoint=False)
    model.fit(images, epochs=10, callbacks=[backup], **FIT)
    (tmp_path / "epoch_9.weights.h5").write_bytes(b"an older one")
    assert model.fit(images, epochs=11, callbacks=[backup], **FIT).epoch == [10]
    assert files(tmp_path) == ["epoch_11.weights.h5"]


def test_a_folder_that_cannot_be_written_to_is_found_before_an_epoch_is_spent(model, images, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=r"Backups cannot be written to .*file/backup: .*Give a folder that can be"):
        model.fit(images, callbacks=[kp.callbacks.BackupAndRestore(tmp_path / "file" / "backup")], **FIT)
    assert model.iteration == 0


def test_backups_of_short_epochs_do_not_take_the_time_of_the_training(model, images, tmp_path, monkeypatch):
    """Each takes a second, an epoch none: the next is due when 200 seconds have passed since."""
    clock, epochs = [0.0], []
    monkeypatch.setattr(backup_module.time, "perf_counter", lambda: clock[0])

    class Epoch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            clock[0] += 21.0

    save_weights = model.save_weights

    def slowly(*args, **kwargs):
        clock[0] += 1.0
        save_weights(*args, **kwargs)
        epochs.append(clock[0])

    monkeypatch.setattr(model, "save_weights", slowly)
    backup = kp.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    model.fit(images, epochs=12, callbacks=[Epoch(), backup], **FIT)
    assert epochs == [22.0, 233.0]  # at 232, the first epoch that ends so late
    assert files(tmp_path) == ["epoch_11.weights.h5"]


def test_weights_that_are_not_finite_are_no_backup(model, images, tmp_path):
    backup = kp.callbacks.BackupAndRestore(tmp_path, max_share=1, delete_checkpoint=False)
    model.fit(images, epochs=1, callbacks=[backup], **FIT)
    kernel = model.encoder.get_layer("h_1").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    backup._current_epoch = 2
    backup._save_model()
    assert files(tmp_path) == ["epoch_1.weights.h5"]


def test_folders_that_are_not_its_own_are_refused(model, images, tmp_path):
    with pytest.raises(ValueError, match="folder of this machine. Received: backup_dir=gs://bucket/x"):
        kp.callbacks.BackupAndRestore("gs://bucket/x")
    (tmp_path / "latest.weights.h5").write_bytes(b"")
    with pytest.raises(ValueError, match="backup of `keras.callbacks.BackupAndRestore`"):
        model.fit(images, callbacks=[kp.callbacks.BackupAndRestore(tmp_path)], **FIT)


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory):
    """The bytes of a backup, and a model of its kind."""
    folder = tmp_path_factory.mktemp("backup")
    model = compiled()
    backup = kp.callbacks.BackupAndRestore(folder, max_share=1)
    backup.set_model(model)
    backup.on_train_begin()
    backup.on_epoch_end(4)
    return (folder / "epoch_5.weights.h5").read_bytes(), model


def compiled(cls=kp.ProgressiveVAE, num_rungs=1, **settings):
    model = cls((8, 8, 1), num_rungs, 2, channels=4, dense=8, **settings)
    model.compile(kp.optimizers.adam())
    return model


def values(model):
    return [np.array(variable) for variable in [*model.variables, *model.optimizer.variables]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"num_rungs": 2},
            r"of another network, of which \d+ of \d+ arrays differ \(decoder/.* is of shape .* there and of shape",
        ),
        (
            {"cls": kp.VLAE},
            r"of another network, of which 4 of .*vars/0 is of shape \(\) there and missing in the model",
        ),
        ({"gamma": 0.25}, r"its settings are others: gamma was 0.5 and is 0.25. To go on"),
        ({"optimizer": "sgd"}, r"trained with another optimizer \(fused_adam, here sgd\)"),
        ({"optimizer": "adam"}, r"trained with another optimizer \(fused_adam, here adam\)"),
    ],
)
def test_a_backup_of_another_training_is_refused_and_changes_nothing(backed_up, tmp_path, settings, message):
    (tmp_path / "epoch_5.weights.h5").write_bytes(backed_up[0])
    model = backed_up[1] if "optimizer" in settings else compiled(**settings)
    if "optimizer" in settings:
        model.compile(**settings)
    before = values(model)
    backup = kp.callbacks.BackupAndRestore(tmp_path)
    backup.set_model(model)
    with pytest.raises(ValueError, match=message) as error:
        backup.on_train_begin()
    assert f"The backup in {tmp_path} is not one of this training" in str(error.value)
    assert f"to start anew, give another folder or delete {tmp_path / 'epoch_5.weights.h5'}" in str(error.value)
    for now, then in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert (files(tmp_path), getattr(model, "_initial_epoch", None)) == (["epoch_5.weights.h5"], None)


@pytest.mark.parametrize("damage", ["cut off", "none of ours", "no weights", "in an array"])
def test_a_backup_that_cannot_be_read_changes_nothing(backed_up, tmp_path, damage, monkeypatch):
    import h5py

    content, model = backed_up
    model.compile(kp.optimizers.adam())
    file = tmp_path / "epoch_5.weights.h5"
    file.write_bytes({"cut off": content[: len(content) // 2], "none of ours": b"{}"}.get(damage, content))
    if damage == "no weights":
        with h5py.File(file, "w") as weights:
            weights["images"] = np.zeros(3)
    before = values(model)
    if damage == "in an array":  # found when it is read, after others were
        load, kernel = model.load_weights, model.encoder.get_layer("h_1").kernel

        def fails(path):
            if path != file:
                return load(path)
            kernel.assign(np.ones(kernel.shape))
            raise OSError("Can't synchronously read data")

        monkeypatch.setattr(model, "load_weights", fails)
    backup = kp.callbacks.BackupAndRestore(tmp_path)
    backup.set_model(model)
    with pytest.raises(ValueError, match="The backup in .* cannot be read|The backup in .* is of another network"):
        backup.on_train_begin()
    for now, then in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert files(tmp_path) == ["epoch_5.weights.h5"]


def test_only_the_backup_is_removed_at_the_end(backed_up, tmp_path):
    for name in "epoch_5.weights.h5", "unfinished.weights.h5":
        (tmp_path / name).write_bytes(backed_up[0])
    (tmp_path / "model.keras").write_bytes(b"of somebody else")
    backup = kp.callbacks.BackupAndRestore(tmp_path)
    backed_up[1].compile(kp.optimizers.adam())
    backup.set_model(backed_up[1])
    backup.on_train_begin()
    assert backup.model._initial_epoch == 5
    backup.on_train_end()
    assert files(tmp_path) == ["model.keras"]


@pytest.mark.parametrize("share", [0, 1.5, float("nan")])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match="max_share="):
        kp.callbacks.BackupAndRestore("backup", max_share=share)
