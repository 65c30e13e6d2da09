"""A training that a test can kill: run with a folder and the number of the step to die at (or none)."""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

import keras_provlae as kp

EPOCHS, STEPS, BATCH = 6, 5, 8  # two epochs a stage; a fade lasts five steps, half of a stage


class Record(keras.callbacks.Callback):
    """One line per step: iteration, stage and alpha; and death before a given step."""

    def __init__(self, path, die_at):
        super().__init__()
        self.path, self.die_at = path, die_at

    def on_train_batch_begin(self, batch, logs=None):
        model = self.model
        if model.iteration == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        with self.path.open("a") as file:
            file.write(f"{model.iteration} {model.stage} {model.alpha:.6f}\n")


def build(num_rungs=3):
    keras.utils.set_random_seed(0)
    model = kp.ProgressiveVAE((8, 8, 1), num_rungs=num_rungs, latent_dim=2, channels=4, dense=8)
    model.compile()
    return model


def images():
    return np.random.default_rng(0).uniform(size=(STEPS * BATCH, 8, 8, 1)).astype("float32")


def main(folder, die_at=None):
    folder, model = Path(folder), build()
    model.fit(
        images(),
        batch_size=BATCH,
        epochs=EPOCHS,
        shuffle=False,  # the same data in the same order, whoever resumes
        verbose=0,
        callbacks=[
            kp.GrowthCallback(),
            kp.callbacks.BackupAndRestore(folder / "backup", max_share=1, delete_checkpoint=False),
            Record(folder / "steps.txt", die_at),
        ],
    )
    model.save_weights(folder / "end.weights.h5")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
