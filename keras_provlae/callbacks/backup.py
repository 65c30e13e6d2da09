"""Backups of a training that survive a crash at any moment."""

import contextlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_provlae.folders import check_path, check_writable

SAVED = re.compile(r"epoch_(\d+)\.weights\.h5")
UNFINISHED = "unfinished.weights.h5"
SETTINGS = "settings of the model"  # an attribute of the file


class BackupAndRestore(keras.callbacks.BackupAndRestore):
    """`keras.callbacks.BackupAndRestore` that survives `kill -9` and a full disk at any moment.

    Keras overwrites the last weights in place and writes the epoch number to a second file, so a kill in between leaves
    half a file, or an epoch that is trained twice. This callback puts the epoch number into the file name, writes under
    a temporary name, syncs to disk, renames atomically, and only then deletes the previous backup. It restores weights,
    stage, alpha, optimizer and noise exactly.

    A backup is due at the end of every epoch. It is skipped while backups would take more than `max_share` of the time,
    so runs with short epochs do not back up each one. Weights that are not finite are never backed up.

    A backup of another network, of a model with other settings (its `get_config`) or of another kind of optimizer is
    rejected before any weight of the model changes. The learning rate is that of the backup.

    Args:
        backup_dir: Folder for the backups of this training alone; created if missing.
        max_share: Float in (0, 1]. The largest share of the time that backups may take; 1 backs up every epoch.
        delete_checkpoint: Bool. Whether to delete the backup when training is complete, and the folder if nothing else
            is in it.

    Raises:
        TypeError: If `backup_dir` is not a path.
        ValueError: If `max_share` is out of range or `backup_dir` is a URL; at the start of `fit`, if the backup in the
            folder is of another model or optimizer, damaged, or written by Keras's own callback.
        OSError: At the start of `fit`, if the folder is not writable; at the end of an epoch, if the backup cannot be
            written. The message names the last good backup; running the same command again resumes from it.

    Example:
        >>> callback = BackupAndRestore("backup")
    """

    def __init__(self, backup_dir: str | os.PathLike, max_share: float = 0.005, delete_checkpoint: bool = True):
        check_path("backup_dir", backup_dir)
        super().__init__(str(backup_dir), delete_checkpoint=delete_checkpoint)
        if not 0 < max_share <= 1:
            raise ValueError(f"`max_share` must be above 0 and at most 1. Received: max_share={max_share}.")
        self.max_share = max_share

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        check_writable("Backups", self.backup_dir)
        if (Path(self.backup_dir) / "latest.weights.h5").exists():
            raise ValueError(
                f"{self.backup_dir} has a backup of `keras.callbacks.BackupAndRestore`. Resume with that callback, or "
                "give another folder."
            )
        self._next_backup = 0.0  # clock time before which a backup would exceed `max_share`
        saved = self._saved()
        if saved:
            epoch, file = saved[-1]
            self._restore(file)
            self.model._initial_epoch = epoch

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if not self.delete_checkpoint:
            return
        for file in [Path(self.backup_dir) / UNFINISHED, *(file for _, file in self._saved())]:
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder has other files
            os.rmdir(self.backup_dir)

    def _restore(self, file):
        """Loads a backup if its layout matches the model; otherwise leaves the model unchanged and raises."""
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        current = Path(self.backup_dir) / UNFINISHED
        try:
            self._write(current)
        except Exception as error:
            current.unlink(missing_ok=True)
            raise OSError(
                f"There is no room for another backup in {self.backup_dir}, beside {file}: {error} "
                f"({type(error).__name__}). Free some space and run the same command again to resume."
            ) from error
        try:
            problem = _difference(_layout(file), _layout(current))
            if problem is None:
                self.model.load_weights(file)
                return
        except Exception as error:  # h5py raises many types for a damaged or foreign file
            problem = f"it cannot be read ({type(error).__name__}: {error})"
            self.model.load_weights(current)
        finally:
            current.unlink(missing_ok=True)
        raise ValueError(
            f"The backup in {self.backup_dir} is not of this training: {problem}. To resume from it, build and "
            f"compile the model as in the run that wrote it. To start over, give another folder or delete {file}."
        )

    def _save_model(self):
        begin = time.perf_counter()
        if self.max_share < 1 and begin < self._next_backup:
            return
        if not all(np.isfinite(ops.convert_to_numpy(weight)).all() for weight in self.model.trainable_variables):
            return  # a `GrowthGuard` after this callback may undo the step
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
            last = f"The last good backup is {before[-1][1]}" if before else "There is no earlier backup"
            raise OSError(
                f"The backup of epoch {self._current_epoch} could not be written to {folder}: {error} "
                f"({type(error).__name__}). {last}. Free some space and run the same command again to resume."
            ) from error
        for _, older in before:
            if older != file:
                older.unlink()
        now = time.perf_counter()
        self._next_backup = now + (now - begin) / self.max_share

    def _write(self, file):
        """Writes the weights with the model's settings, which array shapes alone do not reveal."""
        import h5py

        self.model.save_weights(file, overwrite=True)
        with h5py.File(file, "a") as weights:
            weights.attrs[SETTINGS] = np.void(json.dumps(_settings(self.model)).encode())

    def _saved(self):
        """`[(number of trained epochs, file)]`, sorted."""
        found = [(SAVED.fullmatch(path.name), path) for path in Path(self.backup_dir).glob("*.h5")]
        return sorted((int(match[1]), path) for match, path in found if match)


def _layout(file):
    """The layout of a weights file: `({array name: shape}, kind of the optimizer or None, settings)`."""
    import h5py

    shapes = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            shapes[name] = item.shape

    with h5py.File(file) as weights:
        weights.visititems(visit)
        attributes = weights["optimizer/vars"].attrs if "optimizer/vars" in weights else {}
        kind = attributes.get("name")
        settings = json.loads(weights.attrs[SETTINGS].tobytes()) if SETTINGS in weights.attrs else {}
    return shapes, kind and re.sub(r"_\d+$", "", kind), settings  # Keras numbers the optimizers of a process


def _settings(model):
    """`{name: text}` of a ladder model's configuration; empty for other models, where only arrays are compared."""
    if not hasattr(model, "rung_slices"):
        return {}
    return {name: repr(value) for name, value in model.get_config().items() if name not in ("name", "preset")}


def _difference(backup, current):
    """Describes how the layout of a backup differs from that of the model; `None` if it does not."""
    (backup, backup_optimizer, backup_settings), (current, optimizer, settings) = backup, current
    known = {name for name in current if name in backup or "/loss_weights/" not in name}  # older ones have none
    current = {name: current[name] for name in known}
    before, now = (
        {name: shapes[name] for name in shapes if not name.startswith("optimizer/")} for shapes in (backup, current)
    )
    if before != now:
        differing = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
        first = differing[0]
        return (
            f"its network differs in {len(differing)} of {len(before | now)} arrays (first {first}: "
            f"{before.get(first, 'missing')} in the backup, {now.get(first, 'missing')} in the model)"
        )
    if (backup, backup_optimizer) != (current, optimizer):
        return f"it was trained with another optimizer ({backup_optimizer or 'none'}, here {optimizer or 'none'})"
    changed = [
        f"{name} was {value} and is {settings.get(name, 'missing')}"
        for name, value in backup_settings.items()
        if value != settings.get(name)
    ]
    return f"its settings differ: {'; '.join(changed)}" if changed else None
