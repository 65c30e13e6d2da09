"""Pictures of a model while it trains, and the snapshots behind the growth timeline."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from PIL import Image  # a dependency of matplotlib

from keras_provlae.callbacks.checks import check_epochs, check_every, check_ladder, is_due
from keras_provlae.checks import check_count, optional
from keras_provlae.folders import check_path, check_writable
from keras_provlae.lazy_tensorflow import check_tensorflow, tf
from keras_provlae.messages import say
from keras_provlae.metrics.encoding import BATCH, check_encodable, held_subset
from keras_provlae.visualization import Snapshot, growth_timeline, traversals
from keras_provlae.visualization.model_images import held_codes
from keras_provlae.visualization.snapshot import snapshot_files
from keras_provlae.visualization.writers import rendered

TIMES = 3  # snapshots during one `fit` by default
DPI = 100


class TraversalSnapshots(keras.callbacks.Callback):
    """Saves traversals of every latent, samples of every rung and I(x; z_l) at unlocks and chosen epochs.

    It takes a snapshot at the end of every stage, at chosen epochs and at the end of the training: a picture of the
    traversals, and a `visualization.Snapshot` beside it. The one at the end of a stage comes right before the unlock,
    even in the middle of an epoch and wherever in the list this callback is: it is one of `model.growth_listeners`.
    At the end of `fit` it draws `visualization.growth_timeline(callback.snapshots)`. Put it after `EarlyStopping`,
    which may restore earlier weights, and give each callback its own folder.

    The files are `step_<iteration>_stage_<stage>.png` and `.npz`, and `growth_timeline.png`. A run resumed in the same
    folder keeps the snapshots up to its step, deletes those of later steps and of other rungs or images, and prints how
    many. (A model that does not grow counts the steps of its optimizer: compiling it again restarts them.)

    Args:
        folder: Folder for pictures and snapshots; created if missing.
        images: As in `InformationFlow`: an array or a data set of images, or a ground truth.
        every: Int >= 1: take one at the end of every `every` epochs. Or a list of epochs, counted from 0 as Keras does.
            `None` takes about three during `fit`.
        log_dir: Folder for TensorBoard, or `None`. The same pictures go into `log_dir/pictures`, by iteration.
        around: One image, `(1, height, width, channels)`, whose codes are held; `None` picks one of `images` at random.
        n: Int >= 1. Samples per rung in a snapshot.
        num_images: Int >= 2. Size of the subset for I(x; z_l): random images of an array, the first of a data set.
        draws: Int >= 2. Draws of (x, z) for I(x; z_l).
        seed: Int or `None`. Seed of the subset and of all draws, the same in every snapshot.
        data: Name of the data for the titles: a text, or the `GroundTruth` itself; `None` writes no title.

    Attributes:
        snapshots: A list of `visualization.Snapshot`, ordered by iteration.

    Raises:
        ImportError: If `log_dir` is given and TensorBoard or TensorFlow is not installed.
        TypeError, ValueError: If the images, `around` or a number is invalid: at once, or at the start of `fit`.
        OSError: At the start of `fit`, if `folder` or `log_dir` is not writable.

    Example:
        >>> import numpy as np
        >>> callback = TraversalSnapshots("pictures", np.zeros((100, 8, 8, 1), "float32"), every=10)

    Source: Li et al. (2020), figures 4 and 5.
    """

    params: Any  # of this `fit`, set by Keras

    def __init__(
        self,
        folder: str | os.PathLike,
        images: Any,
        every: int | Sequence[int] | None = None,
        log_dir: str | os.PathLike | None = None,
        around: Any = None,
        n: int = 12,
        num_images: int = 1000,
        draws: int = 1000,
        seed: int | None = 0,
        data: Any = None,
    ):
        super().__init__()
        check_every(every)
        check_count("n", n)
        check_count("draws", draws, least=2)
        if log_dir is not None:
            optional("tensorboard", "tensorboard", "tensorboard")
            check_tensorflow("`TraversalSnapshots(log_dir=...)`")
            log_dir = os.fspath(log_dir)
        self.folder, self.log_dir = check_path("folder", folder), log_dir
        self.images, _ = held_subset(images, num_images, seed)
        rng = np.random.default_rng(seed)
        index = rng.integers(len(self.images))
        self.around = self.images[index : index + 1] if around is None else around
        self.every, self.n, self.draws, self.data = every, n, draws, data
        self.seed = int(rng.integers(2**31)) if seed is None else seed  # Keras's own stream would change the training
        self.snapshots: list[Snapshot] = []
        self._board = None

    def set_model(self, model: keras.Model) -> None:
        check_ladder(self, model)
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        check_encodable(self.model, self.images)
        held_codes(self.model, self.around)
        check_writable("Pictures", self.folder)
        if self.log_dir is not None and "://" not in self.log_dir:  # TensorFlow can write to URLs
            check_writable("Pictures", os.path.join(self.log_dir, "pictures"))
        self.params = {} if self.params is None else self.params
        check_epochs(self)
        if self.model.grows:
            self.model.growth_listeners.append(self)
        self._has_begun = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if is_due(self.every, epoch, self.params.get("epochs") or epoch + 1, TIMES):
            self.take()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        while self.snapshots and self.snapshots[-1].iteration > self.model.iteration:
            _remove(self._path(self.snapshots.pop()))  # EarlyStopping restored earlier weights
        stopped = getattr(self.model, "stop_training", False)
        if stopped and self.snapshots and self.snapshots[-1].iteration == self.model.iteration:
            self.snapshots.pop()  # EarlyStopping may have replaced the weights of this step
        self.take()
        self.write_timeline()
        if self._board is not None:
            self._board.close()
            self._board = None

    def before_unlock(self, model: keras.Model) -> None:
        """Takes a snapshot at the end of a stage; called by `model.grow`."""
        self._begin()
        self.take()

    def after_unlock(self, model: keras.Model) -> None:
        """Does nothing: the new stage has not been trained yet."""

    def take(self) -> None:
        """Takes a snapshot of the current model, unless this step has one."""
        iteration, stage = self.model.iteration, self.model.stage
        if any((one.iteration, one.stage) == (iteration, stage) for one in self.snapshots):
            return
        snapshot = Snapshot.of(self.model, self.images, self.around, self.n, self.draws, self.seed)
        self.snapshots.append(snapshot)
        path = self._path(snapshot)
        snapshot.save(path)
        figure = traversals(self.model, self.around, images=self.images[:BATCH], data=self.data)
        self._write(path.stem, figure, "traversals")

    def write_timeline(self) -> None:
        """Draws the growth timeline of the snapshots so far."""
        self._write("growth_timeline", growth_timeline(self.snapshots, data=self.data))

    def _begin(self):
        """Loads the snapshots of a resumed run, once it is restored: a later callback may do so in `on_train_begin`."""
        if not self._has_begun:
            self._has_begun = True
            self.snapshots = self._resumed()

    def _resumed(self):
        """Loads the earlier snapshots of this training; deletes the files of others, with their pictures."""
        kept, removed = {}, 0
        for path in self.folder.glob("step_*_stage_*.npz.part"):
            path.unlink()
        for path in snapshot_files(self.folder):
            snapshot = self._of_this_training(path)
            if snapshot is None:
                _remove(path)
                removed += 1
            else:
                kept[snapshot.iteration, snapshot.stage] = snapshot
        if kept or removed:
            about = f"resuming with {len(kept)} snapshots; removed {removed} of another training"
            say(f"{self.folder}: {about}", new_line=True)
        return [kept[moment] for moment in sorted(kept)]

    def _of_this_training(self, path):
        """Loads a snapshot; `None` if it is of another training, of a later step, or damaged."""
        try:
            snapshot = Snapshot.load(path)
        except (ValueError, TypeError):
            return None
        shape = (*(rung for rung, _ in self.model.rung_slices), self.n, *self.images.shape[1:])
        return snapshot if snapshot.kind == shape and snapshot.iteration <= self.model.iteration else None

    def _path(self, snapshot):
        return self.folder / f"step_{snapshot.iteration:07}_stage_{snapshot.stage}.npz"

    def _write(self, name, figure, tag=None):
        pixels = rendered(figure, DPI)
        Image.fromarray(pixels).save(self.folder / f"{name}.png")
        if self.log_dir is None:
            return
        if self._board is None:
            self._board = tf.summary.create_file_writer(os.path.join(self.log_dir, "pictures"))
        with self._board.as_default():
            tf.summary.image(tag or name, pixels[None], step=self.model.iteration)
        self._board.flush()


def _remove(path):
    """Deletes a snapshot and its picture."""
    path.unlink(missing_ok=True)
    path.with_suffix(".png").unlink(missing_ok=True)
