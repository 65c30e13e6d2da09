"""Writes `tests/data/golden`: models and what they compute, for later versions to read and reproduce.

Run it with the version that the files should stand for, in the repository's root: `python -m tests.data.make_golden`.
It never overwrites files. `tests/models/test_golden.py` reads them.
"""

import gzip
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

import keras_provlae as kp

GOLDEN = Path(__file__).parent / "golden"
LADDER = {"image_shape": (8, 8, 1), "num_rungs": 3, "latent_dim": (1, 2, 2), "channels": 4, "dense": 8}
TRUNK = {"image_shape": (8, 8, 1), "latent_dim": 5, "stem": (4,), "channels": 4, "dense": 8}
BATCH, STEPS = 10, 3  # images per step; steps per stage, and again after loading
MID_FADE = (2 * STEPS,)  # one growth, and half of its fade-in


class Case(NamedTuple):
    """A model, its optimizer, and its training before it is saved."""

    model: type = kp.ProgressiveVAE
    settings: dict = LADDER
    optimizer: Callable[[], keras.Optimizer | None] = lambda: None
    fades: tuple[int, ...] = ()  # `fade_in_steps` of every unlock, `STEPS` steps apart
    loss_weights: dict = {}  # noqa: RUF012 (set before the last steps: they differ from the constructor's)


CASES = {
    "progressive_vae": Case(fades=MID_FADE),
    "progressive_vae_stem_gaussian": Case(
        settings={
            **LADDER,
            "image_shape": (16, 16, 1),
            "stem": (4,),
            "likelihood": "gaussian",
            "beta": 4.0,
            "gamma": 0.25,
        }
    ),
    "progressive_vae_bfloat16": Case(settings={**LADDER, "dtype": "mixed_bfloat16"}, fades=MID_FADE),
    "progressive_vae_float16": Case(settings={**LADDER, "dtype": "mixed_float16"}, fades=MID_FADE),
    "progressive_vae_total_correlation": Case(
        settings={**LADDER, "tc_weight": 2.0, "dataset_size": 100}, fades=MID_FADE
    ),
    "progressive_vae_grown_adam": Case(optimizer=lambda: keras.optimizers.Adam(1e-3), fades=(0, 0)),
    "progressive_vae_locked_adamw": Case(optimizer=lambda: keras.optimizers.AdamW(1e-3, weight_decay=0.01)),
    "vlae": Case(kp.VLAE),
    "beta_vae": Case(kp.BetaVAE, {**TRUNK, "beta": 4.0}),
    "progressive_vae_guided": Case(
        settings={**LADDER, "beta": (1.0, 2.0, 4.0), "capacity": 0.5, "multiscale_weight": 0.5, "dataset_size": 100},
        fades=MID_FADE,
        loss_weights={
            "beta": (3.0, 0.5, 2.0),
            "gamma": 0.25,
            "capacity": 1.5,
            "multiscale_weight": 2.0,
            "tc_weight": 1.0,
        },
    ),
    "progressive_vae_contours": Case(
        settings={**LADDER, "contour_weight": 0.5}, fades=MID_FADE, loss_weights={"contour_weight": 2.0}
    ),
    "teacher_student_vae": Case(kp.TeacherStudentVAE, {**LADDER, "stem": (4,)}, fades=(0,)),
}


def build(case: Case) -> keras.Model:
    """Builds and compiles the untrained model of a case."""
    model = case.model(**case.settings)
    model.compile(case.optimizer())
    return model


def stir(model: keras.Model, scale: float) -> None:
    """Moves every weight, so that every rung, bias and term of the loss shows in the results."""
    rng = np.random.default_rng(2)
    for variable in model.trainable_variables:
        variable.assign_add(scale * rng.standard_normal(variable.shape))


def images_of(case: Case) -> np.ndarray:
    """Draws the images of `STEPS` batches: uint8 values / 255."""
    shape = (STEPS * BATCH, *case.settings["image_shape"])
    return np.random.default_rng(0).integers(0, 256, shape).astype("float32") / 255


def outputs(model: keras.Model, images: np.ndarray, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Returns a model's tensors for images and codes, and its state of growth."""
    mean, log_var = model.encode(images)
    tensors = {
        "mean": mean,
        "log_var": log_var,
        "decoded": model.decode(codes),
        "reconstructed": model.reconstruct(images),
        "sampled": model.sample(2, seed=0),
    }
    growth = {name: np.array(getattr(model, name)) for name in ("stage", "alpha", "iteration")}
    return {**{name: ops.convert_to_numpy(tensor) for name, tensor in tensors.items()}, **growth}


def train(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Takes steps and returns the logs of each by itself: `{name: (STEPS,)}`."""
    logs = []
    for step in range(STEPS):
        logs.append(model.train_on_batch(images[step * BATCH :][:BATCH], return_dict=True))
        model.reset_metrics()
    return {name: np.array([log[name] for log in logs]) for name in logs[0]}


def sums(variables: list[keras.Variable]) -> np.ndarray:
    """Returns the sum of the absolute values of every variable, in order."""
    return np.array([np.abs(ops.convert_to_numpy(variable).astype("float64")).sum() for variable in variables])


def weights_of(model: keras.Model) -> list[keras.Variable]:
    """Returns the weights that the files have: not the weights of the loss, which most of them lack."""
    return [weight for weight in model.weights if not weight.path.startswith("loss_weights/")]


def after(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Trains a loaded model; returns its logs and the `sums` of its weights and its optimizer's variables."""
    logs = {f"log_{name}": values for name, values in train(model, images).items()}
    return {**logs, "weights": sums(weights_of(model)), "optimizer": sums(model.optimizer.variables)}


def pack(folder: Path) -> None:
    """Compresses every file of a folder; small HDF5 files are mostly empty."""
    for file in list(folder.iterdir()):
        Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        file.unlink()


def unpack(name: str, folder: Path) -> Path:
    """Unpacks the files of a case into a folder and returns it."""
    for file in (GOLDEN / name).glob("*.gz"):
        (folder / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    return folder


def write(name: str, case: Case) -> None:
    """Trains the model of a case; saves it as both kinds of file, and its outputs and next steps beside them."""
    folder, images = GOLDEN / name, images_of(case)
    folder.mkdir()
    keras.utils.set_random_seed(0)
    model = build(case)
    stir(model, 0.2)
    train(model, images)
    for fade in case.fades:
        model.grow(fade_in_steps=fade)
        stir(model, 0.03)
        train(model, images)
    for weight, value in case.loss_weights.items():
        setattr(model, weight, value)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    codes = np.random.default_rng(1).standard_normal((4, 5)).astype("float32")
    said = outputs(model, images[:4], codes)
    loaded = keras.saving.load_model(folder / "model.keras")
    pack(folder)
    np.savez_compressed(folder / "expected.npz", images=images, codes=codes, **said, **after(loaded, images))


# === A killed training ===

EPOCHS, KILLED_AT = 4, 7  # three steps per epoch; killed in epoch 3, four steps into the fade-in of five


class Kill(keras.callbacks.Callback):
    """Interrupts a training before a step, as Ctrl-C does."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.iteration == KILLED_AT:
            raise KeyboardInterrupt


def fit(model: keras.Model, images: np.ndarray, folder: Path, *callbacks: keras.callbacks.Callback) -> dict:
    """Trains with an unlock before the second and the last epoch and a backup after each; returns the history."""
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1, 3]), fade_in_steps=5, max_fade_fraction=None)
    backup = kp.callbacks.BackupAndRestore(folder, max_share=1, delete_checkpoint=False)
    given = {"batch_size": BATCH, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    return model.fit(images, callbacks=[growth, backup, *callbacks], **given).history


def write_backup(scratch: Path) -> None:
    """Writes the backup of a training killed mid-fade, and the results of the same training uninterrupted."""
    folder, case = GOLDEN / "backup", CASES["progressive_vae"]
    folder.mkdir()
    images, models = images_of(case), []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        models.append(build(case))
        stir(models[-1], 0.2)
    try:
        fit(models[0], images, folder, Kill())
    except KeyboardInterrupt:
        pack(folder)
    history = fit(models[1], images, scratch)
    logs = {f"log_{name}": values for name, values in history.items()}
    weights = {f"weight_{i}": ops.convert_to_numpy(weight) for i, weight in enumerate(weights_of(models[1]))}
    moments = sums(models[1].optimizer.variables)
    np.savez_compressed(folder / "expected.npz", images=images, **logs, **weights, optimizer=moments)


def main():
    """Writes every case and the backup."""
    if GOLDEN.exists() and any(path.is_dir() for path in GOLDEN.iterdir()):
        sys.exit(f"{GOLDEN} has files already, of the version that wrote them. Remove them first to write new ones.")
    GOLDEN.mkdir(exist_ok=True)
    for name, case in CASES.items():
        write(name, case)
    with tempfile.TemporaryDirectory() as scratch:
        write_backup(Path(scratch))


if __name__ == "__main__":
    main()
