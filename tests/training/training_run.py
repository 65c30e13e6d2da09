"""A training that a test can kill.

python -m tests.training.training_run FOLDER                   # one training
python -m tests.training.training_run DIE_AT WAY=FOLDER ...    # one per way of computing, each killed before a step
"""

import json
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

import keras_provlae as kp

EPOCHS, STEPS, BATCH = 4, 2, 4
FADE = 4  # optimizer steps from step 4 on: across the end of epoch 2


class Record(keras.callbacks.Callback):
    """Writes one line per step (iteration, stage and alpha), saves the model at one step and dies at another."""

    def __init__(self, folder, die_at, save_at):
        super().__init__()
        self.folder, self.die_at, self.save_at = folder, die_at, save_at

    def on_train_batch_begin(self, batch, logs=None):
        model = self.model
        if model.iteration == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if model.iteration == self.save_at:
            model.save(self.folder / "state.keras")
            model.save_weights(self.folder / "state.weights.h5")
        with (self.folder / "steps.txt").open("a") as file:
            file.write(f"{model.iteration} {model.stage} {model.alpha:.6f}\n")


def build():
    keras.utils.set_random_seed(0)
    model = kp.ProgressiveVAE((8, 8, 1), num_rungs=2, latent_dim=2, channels=2, dense=4)
    # a few eager steps cost less than traces; the accelerated way is traced
    model.compile(run_eagerly=not kp.acceleration.is_enabled())
    return model


def images():
    return np.random.default_rng(0).uniform(size=(STEPS * BATCH, 8, 8, 1)).astype("float32")


def main(folder, die_at=None, save_at=None):
    """Trains, or goes on from the backup in the folder; returns the model."""
    folder, model = Path(folder), build()
    model.fit(
        images(),
        batch_size=BATCH,
        epochs=EPOCHS,
        shuffle=False,  # the same data in the same order, whoever resumes
        verbose=0,
        callbacks=[
            kp.GrowthCallback(fade_in_steps=FADE, max_fade_fraction=None),
            kp.callbacks.BackupAndRestore(folder / "backup", max_share=1, delete_checkpoint=False),
            Record(folder, die_at, save_at),
        ],
    )
    model.save_weights(folder / "end.weights.h5")
    return model


def run_in_children(die_at, folders):
    """Forks one process per way of computing, before TensorFlow starts a thread; prints their exit codes."""
    codes = {}
    for way, folder in folders.items():
        child = os.fork()
        if child == 0:
            if way == "plain":
                kp.acceleration.disable()
            main(folder, die_at)
            os._exit(0)
        codes[way] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps(codes))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        run_in_children(int(sys.argv[1]), dict(argument.split("=", 1) for argument in sys.argv[2:]))
