"""Pictures of a model while it trains, and the snapshots that the growth timeline is made of."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from PIL import Image  # which matplotlib brings

from keras_provlae.callbacks.checks import check_epochs, check_every, check_ladder, is_chosen
from keras_provlae.checks import check_count, optional
from keras_provlae.folders import check_path, check_writable
from keras_provlae.metrics.encoding import BATCH, check_encodable, held_subset
from keras_provlae.visualization import Snapshot, growth_timeline, traversals
from keras_provlae.visualization.model_images import held_codes
from keras_provlae.visualization.snapshot import snapshot_files
from keras_provlae.visualization.writers import rendered

TIMES = 3  # snapshots over the epochs of `fit`, where nothing else is asked for
DPI = 100


class TraversalSnapshots(keras.callbacks.Callback):
    """Traversals of every latent, samples of every rung and I(x; z_l), at unlocks and every so many epochs.

    At the end of every stage, just before `GrowthCallback` unlocks the next rung, at chosen epochs and at the end
    of the training a picture of the traversals goes into a folder, with a `visualization.Snapshot` beside it.
    Give each callback a folder of its own, and put it after `EarlyStopping`, which may bring earlier weights back.
    `visualization.growth_timeline(callback.snapshots)` is the paper's figure 5; it is drawn at the end.

    The files are `step_<iteration>_stage_<stage>.png` and `.npz`, and `growth_timeline.png`. A training that
    is resumed in the same folder goes on with the snapshots that it had; those of steps that the model has not come
    to, or of other rungs or images, are removed. A line says how many. (Steps are those of the model or, where it
    does not grow, of its optimizer: compiled again it counts from 0.)

    Args:
        folder: Where pictures and snapshots go; it is made.
        images: What `InformationFlow` takes: an array or a data set of images, or a ground truth.
        every: Int >= 1: at the end of every so many epochs. Or a list of epochs, counted from 0 as Keras does.
            `None` is about three times over the epochs of `fit`.
        log_dir: Folder for TensorBoard, or `None`. The same pictures go into `log_dir/pictures`, by iteration.
        around: One image, `(1, height, width, channels)`, whose codes are held; `None` draws one of `images`.
        n: Int >= 1. Samples per rung in a snapshot.
        num_images: Int >= 2. Images to hold for I(x; z_l): random ones of an array, the first of a data set.
        draws: Int >= 2. Draws of (x, z) for I(x; z_l).
        seed: Int or `None`. Seed of the choice and of all draws, the same in every snapshot.
        data: What the images are, for the titles: a text, or the `GroundTruth` itself; `None` is no title.

    Attributes:
        snapshots: A list of `visualization.Snapshot` in the order of their iterations.

    Raises:
        ImportError: If `log_dir` is given and TensorBoard is not installed.
        TypeError, ValueError: If the images, `around` or a number are unfit: as it is made, or at the start of `fit`.
        OSError: At the start of `fit`, if `folder` or `log_dir` cannot be written to.

    Example:
        >>> import numpy as np
        >>> callback = TraversalSnapshots("pictures", np.zeros((100, 8, 8, 1), "float32"), every=10)

    Source: Li et al. (2020), figures 4 and 5.
    """

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
            log_dir = os.fspath(log_dir)
        self.folder, self.log_dir = check_path("folder", folder), log_dir
        self.images, _ = held_subset(images, num_images, seed)
        rng = np.random.default_rng(seed)
        one = rng.integers(len(self.images))
        self.around = self.images[one : one + 1] if around is None else around
        self.every, self.n, self.draws, self.data = every, n, draws, data
        self.seed = int(rng.integers(2**31)) if seed is None else seed  # never Keras's own stream, which trains
        self.snapshots = []
        self._board = None

    def set_model(self, model):
        check_ladder(self, model)
        super().set_model(model)

    def on_train_begin(self, logs=None):
        check_encodable(self.model, self.images)
        held_codes(self.model, self.around)
        check_writable("Pictures", self.folder)
        if self.log_dir is not None and "://" not in self.log_dir:  # TensorFlow writes to other places as well
            check_writable("Pictures", os.path.join(self.log_dir, "pictures"))
        self.params = {} if self.params is None else self.params
        check_epochs(self)
        if self.model.grows:
            self.model.growth_listeners.append(self)
        self._begun = False

    def on_epoch_begin(self, epoch, logs=None):
        if not self._begun:  # not in `on_train_begin`: a callback after this one may have restored the model
            self.snapshots = self._kept()
            self._begun = True

    def on_epoch_end(self, epoch, logs=None):
        if is_chosen(self.every, epoch, self.params.get("epochs") or epoch + 1, TIMES):
            self.take()

    def on_train_end(self, logs=None):
        while self.snapshots and self.snapshots[-1].iteration > self.model.iteration:
            _remove(self._path(self.snapshots.pop()))  # EarlyStopping brought earlier weights back
        stopped = getattr(self.model, "stop_training", False)
        if stopped and self.snapshots and self.snapshots[-1].iteration == self.model.iteration:
            self.snapshots.pop()  # it may be that of weights which EarlyStopping replaced
        self.take()
        self.write_timeline()
        if self._board is not None:
            self._board.close()
            self._board = None

    def before_unlock(self, model: keras.Model) -> None:
        """Takes a snapshot at the end of a stage; called by `model.grow`."""
        self.take()

    def after_unlock(self, model: keras.Model) -> None:
        """Nothing to do."""

    def take(self) -> None:
        """Takes a snapshot of the model as it is, unless there is one of this step."""
        iteration, stage = self.model.iteration, self.model.stage
        if any((one.iteration, one.stage) == (iteration, stage) for one in self.snapshots):
            return
        how = {"around": self.around, "n": self.n, "draws": self.draws, "seed": self.seed}
        snapshot = Snapshot.of(self.model, self.images, **how)
        self.snapshots.append(snapshot)
        path = self._path(snapshot)
        snapshot.save(path)
        figure = traversals(self.model, self.around, images=self.images[:BATCH], data=self.data)
        self._write(path.stem, figure, "traversals")

    def write_timeline(self) -> None:
        """Draws the growth timeline of the snapshots so far."""
        self._write("growth_timeline", growth_timeline(self.snapshots, data=self.data))

    def _kept(self):
        """The snapshots of this training so far; of others the files are removed, with their pictures."""
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
            print(
                f"\n{self.folder}: going on with {len(kept)} snapshots; {removed} of another training removed",
                flush=True,
            )
        return [kept[moment] for moment in sorted(kept)]

    def _of_this_training(self, path):
        """The snapshot in a file, or `None` if it is another training's, of a later step, or not whole."""
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
        import tensorflow as tf

        if self._board is None:
            self._board = tf.summary.create_file_writer(os.path.join(self.log_dir, "pictures"))
        with self._board.as_default():
            tf.summary.image(tag or name, pixels[None], step=self.model.iteration)
        self._board.flush()


def _remove(path):
    """A snapshot's file and its picture."""
    path.unlink(missing_ok=True)
    path.with_suffix(".png").unlink(missing_ok=True)
