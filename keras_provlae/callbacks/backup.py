"""A backup that is whole whatever happens while it is written."""

import contextlib
import json
import os
import re
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_provlae.folders import check_path, check_writable

SAVED = re.compile(r"epoch_(\d+)\.weights\.h5")
UNFINISHED = "unfinished.weights.h5"
SETTINGS = "settings of the model"  # an attribute of the file


class BackupAndRestore(keras.callbacks.BackupAndRestore):
    """`keras.callbacks.BackupAndRestore` that survives `kill -9` and a full disk at any moment.

    Keras writes the weights over the last ones, and the number of the epoch into a second file: a kill in
    between leaves half a file, or an epoch that is trained twice. Here the number is part of the file's name; the file
    is written under another, brought to the disk and renamed, which is a single step of the file system,
    and only then the one before it is removed. Weights, stage, alpha, optimizer and noise come back as they were.

    A backup is due at the end of every epoch, and left out as long as it would take more than `max_share` of the time
    since the last: of epochs of a few seconds, not every one is kept. Weights that are not finite are not backed up.

    A backup of another network or other settings of the model (its `get_config`), or with another kind of optimizer, is
    refused before a weight of the model changes. The learning rate is that of the backup.

    Args:
        backup_dir: Folder of the backup, of this training alone; it is made.
        max_share: Float in (0, 1]. The largest part of the time that backups may take; 1 keeps every epoch.
        delete_checkpoint: Bool. Whether the backup is removed when the training has come to its end, and the folder
            if nothing else is in it.

    Raises:
        TypeError: If `backup_dir` is no path.
        ValueError: If `max_share` is out of range, or `backup_dir` a URL; at the start of `fit`, if the backup in the
            folder is not of this model and optimizer, not whole, or written by Keras's own callback.
        OSError: At the start of `fit`, if the folder cannot be written to; at the end of an epoch, if the
            backup cannot be written. The message says which backup there is, whole; the same command goes on from it.

    Example:
        >>> callback = BackupAndRestore("backup")
    """

    def __init__(self, backup_dir: str | os.PathLike, max_share: float = 0.005, delete_checkpoint: bool = True):
        check_path("backup_dir", backup_dir)
        super().__init__(str(backup_dir), delete_checkpoint=delete_checkpoint)
        if not 0 < max_share <= 1:
            raise ValueError(f"`max_share` must be above 0 and at most 1. Received: max_share={max_share}.")
        self.max_share = max_share

    def on_train_begin(self, logs=None):
        check_writable("Backups", self.backup_dir)
        if (Path(self.backup_dir) / "latest.weights.h5").exists():
            raise ValueError(
                f"{self.backup_dir} has a backup of `keras.callbacks.BackupAndRestore`: go on with that callback, or "
                "give another folder."
            )
        self._next = 0.0  # on the clock, from when on a backup does not take too much
        saved = self._saved()
        if saved:
            epoch, file = saved[-1]
            self._restore(file)
            self.model._initial_epoch = epoch

    def on_train_end(self, logs=None):
        if not self.delete_checkpoint:
            return
        for file in [Path(self.backup_dir) / UNFINISHED, *(file for _, file in self._saved())]:
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files are in it
            os.rmdir(self.backup_dir)

    def _restore(self, file):
        """Loads a backup if it is laid out like one of this model; else the model stays as it is."""
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        now = Path(self.backup_dir) / UNFINISHED
        try:
            self._write(now)
        except Exception as error:
            now.unlink(missing_ok=True)
            raise OSError(
                f"There is no room for another backup in {self.backup_dir}, beside {file}: {error} "
                f"({type(error).__name__}). Make room and run the same command: it goes on there."
            ) from error
        try:
            problem = _difference(_layout(file), _layout(now))
            if problem is None:
                self.model.load_weights(file)
                return
        except Exception as error:  # h5py has many for a file that is damaged or none of its own
            problem = f"it cannot be read ({type(error).__name__}: {error})"
            self.model.load_weights(now)
        finally:
            now.unlink(missing_ok=True)
        raise ValueError(
            f"The backup in {self.backup_dir} is not one of this training: {problem}. To go on with it, build and "
            f"compile the model as in the run that wrote it; to start anew, give another folder or delete {file}."
        )

    def _save_model(self):
        begin = time.perf_counter()
        if self.max_share < 1 and begin < self._next:
            return
        if not all(np.isfinite(ops.convert_to_numpy(weight)).all() for weight in self.model.trainable_variables):
            return  # a `GrowthGuard` that comes later may know what to do
        folder = Path(self.backup_dir)
        unfinished, file = folder / UNFINISHED, folder / f"epoch_{self._current_epoch}.weights.h5"
        before = self._saved()
        try:
            self._write(unfinished)
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
            unfinished.replace(file)
        except Exception as error:  # h5py has its own for a full disk
            unfinished.unlink(missing_ok=True)
            kept = f"that of epoch {before[-1][0]} is whole, {before[-1][1]}" if before else "there is none before it"
            raise OSError(
                f"The backup of epoch {self._current_epoch} could not be written to {folder}: {error} "
                f"({type(error).__name__}). Of backups, {kept}. Make room and run the same command: it goes on there."
            ) from error
        for _, older in before:
            if older != file:
                older.unlink()
        now = time.perf_counter()
        self._next = now + (now - begin) / self.max_share

    def _write(self, file):
        """The weights, and beside them the settings of the model, which equal shapes do not tell."""
        import h5py

        self.model.save_weights(file, overwrite=True)
        with h5py.File(file, "a") as weights:
            weights.attrs[SETTINGS] = np.void(json.dumps(_settings(self.model)).encode())

    def _saved(self):
        """`[(epochs that were trained, file)]`, the last one last."""
        found = [(SAVED.fullmatch(path.name), path) for path in Path(self.backup_dir).glob("*.h5")]
        return sorted((int(match[1]), path) for match, path in found if match)


def _layout(file):
    """What a file of weights holds: `({name of an array: its shape}, kind of the optimizer or None, settings)`."""
    import h5py

    shapes = {}

    def look(name, item):
        if isinstance(item, h5py.Dataset):
            shapes[name] = item.shape

    with h5py.File(file) as weights:
        weights.visititems(look)
        attributes = weights["optimizer/vars"].attrs if "optimizer/vars" in weights else {}
        kind = attributes.get("name")
        settings = json.loads(weights.attrs[SETTINGS].tobytes()) if SETTINGS in weights.attrs else {}
    return shapes, kind and re.sub(r"_\d+$", "", kind), settings  # Keras numbers the optimizers of one process


def _settings(model):
    """`{name: text}` of the configuration of a ladder model; of others, arrays alone are compared."""
    if not hasattr(model, "rung_slices"):
        return {}
    return {name: repr(value) for name, value in model.get_config().items() if name not in ("name", "preset")}


def _difference(backup, model):
    """What a backup and a model do not have in common, in words, or `None`."""
    (backup, backup_optimizer, theirs), (model, optimizer, ours) = backup, model
    names = [name for name in theirs if theirs[name] != ours.get(name)]
    differing = [f"{name} was {theirs[name]} and is {ours.get(name, 'missing')}" for name in names]
    networks = [
        {name: shapes[name] for name in shapes if not name.startswith("optimizer/")} for shapes in (backup, model)
    ]
    before, now = networks
    if before != now:
        other = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
        first = f"{other[0]} is {_shape(before, other[0])} there and {_shape(now, other[0])} in the model"
        return f"it is of another network, of which {len(other)} of {len(before | now)} arrays differ ({first})"
    if (backup, backup_optimizer) != (model, optimizer):
        return f"it was trained with another optimizer ({backup_optimizer or 'none'}, here {optimizer or 'none'})"
    return f"its settings are others: {'; '.join(differing)}" if differing else None


def _shape(shapes, name):
    return "missing" if name not in shapes else f"of shape {shapes[name]}"
