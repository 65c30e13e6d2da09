"""A backup that is whole whatever happens while it is written."""

import os
import re
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops

SAVED = re.compile(r"epoch_(\d+)\.weights\.h5")
UNFINISHED = "unfinished.weights.h5"


class BackupAndRestore(keras.callbacks.BackupAndRestore):
    """`keras.callbacks.BackupAndRestore` that survives `kill -9` and a full disk at any moment.

    Keras writes the weights over the last ones, and the number of the epoch into a second file: a kill in
    between leaves half a file, or an epoch that is trained twice. Here the number is part of the file's name; the file
    is written under another, brought to the disk and renamed, which is a single step of the file system,
    and only then the one before it is removed. Weights, stage, alpha, optimizer and noise come back as they were.

    A backup is due at the end of every epoch, and left out as long as it would take more than `max_share` of the time
    since the last: of epochs of a few seconds, not every one is kept. Weights that are not finite are not backed up.

    Args:
        backup_dir: Folder of the backup, of this training alone; it is made.
        max_share: Float in (0, 1]. The largest part of the time that backups may take; 1 keeps every epoch.
        delete_checkpoint: Bool. Whether the folder is removed when the training has come to its end.

    Raises:
        ValueError: If `max_share` is out of range, or `backup_dir` a URL; at the start of `fit`, if the folder has a
            backup that Keras's own callback wrote.
        OSError: At the start of `fit`, if the folder cannot be written to; at the end of an epoch, if the
            backup cannot be written. The message says which backup there is, whole; the same command goes on from it.

    Example:
        >>> callback = BackupAndRestore("backup")
    """

    def __init__(self, backup_dir: str | os.PathLike, max_share: float = 0.005, delete_checkpoint: bool = True):
        super().__init__(str(backup_dir), delete_checkpoint=delete_checkpoint)
        if "://" in str(backup_dir):
            raise ValueError(f"`backup_dir` must be a folder of this machine. Received: backup_dir={backup_dir}.")
        if not 0 < max_share <= 1:
            raise ValueError(f"`max_share` must be above 0 and at most 1. Received: max_share={max_share}.")
        self.max_share = max_share

    def on_train_begin(self, logs=None):
        unfinished = Path(self.backup_dir) / UNFINISHED
        try:
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(b"")  # a folder that is unfit is so before an epoch is spent
            unfinished.unlink()
        except OSError as error:
            raise OSError(
                f"Backups cannot be written to {self.backup_dir}: {error}. Give a folder that can be written to."
            ) from error
        if (unfinished.parent / "latest.weights.h5").exists():
            raise ValueError(
                f"{self.backup_dir} has a backup of `keras.callbacks.BackupAndRestore`: go on with that callback, or "
                "give another folder."
            )
        self._next = 0.0  # on the clock, from when on a backup does not take too much
        saved = self._saved()
        if saved:
            epoch, file = saved[-1]
            self.model.load_weights(file)
            self.model._initial_epoch = epoch

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
            self.model.save_weights(unfinished, overwrite=True)
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

    def _saved(self):
        """`[(epochs that were trained, file)]`, the last one last."""
        found = [(SAVED.fullmatch(path.name), path) for path in Path(self.backup_dir).glob("*.h5")]
        return sorted((int(match[1]), path) for match, path in found if match)
