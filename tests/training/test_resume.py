"""A run that was stopped mid-fade ends exactly like an uninterrupted run."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp
from tests.conftest import REPOSITORY
from tests.growth.scripted_model import ScriptedVAE
from tests.training import training_run

MID_FADE = 7  # step 7 of 8: stage 1 began at step 4 and fades in until step 8; the last backup is of step 6
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
COMMAND = [sys.executable, "-m", "tests.training.training_run"]


def steps(folder):
    """{iteration: (stage, alpha)}; a step that was taken twice must have been the same."""
    taken = {}
    for line in taken_steps(folder):
        iteration, stage, alpha = line.split()
        assert taken.setdefault(int(iteration), (int(stage), float(alpha))) == (int(stage), float(alpha))
    return taken


def taken_steps(folder):
    file = folder / "steps.txt"
    return file.read_text().splitlines() if file.exists() else []


def assert_same_state(model, other):
    assert (model.stage, model.alpha, model.iteration) == (other.stage, other.alpha, other.iteration)
    for ours, theirs in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)
    for ours, theirs in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """{way of computing: folder} of runs killed mid-fade."""
    folders = {way: tmp_path_factory.mktemp(way) for way in ("accelerated", "plain")}
    arguments = [str(MID_FADE), *(f"{way}={folder}" for way, folder in folders.items())]
    process = subprocess.run([*COMMAND, *arguments], env=ENVIRONMENT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == dict.fromkeys(folders, -signal.SIGKILL), process.stderr
    return folders


@pytest.fixture(scope="module")
def uninterrupted(acceleration, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return SimpleNamespace(folder=folder, model=training_run.main(folder, save_at=MID_FADE))


def test_a_killed_run_resumes_from_its_backup_to_the_same_end(acceleration, killed, uninterrupted):
    folder = killed[acceleration]
    assert max(steps(folder)) == MID_FADE - 1
    model = training_run.main(folder)
    expected = steps(uninterrupted.folder)
    assert list(expected) == list(range(8))
    assert expected[MID_FADE] == (1, 0.75)
    assert [line.split()[0] for line in taken_steps(folder)] == list("012345667")
    assert steps(folder) == expected
    assert_same_state(model, uninterrupted.model)


def test_files_saved_mid_fade_resume_to_the_same_end(uninterrupted):
    """The broken epoch goes on with the images that it has not seen."""
    model = keras.models.load_model(uninterrupted.folder / "state.keras")
    assert (model.stage, model.alpha, model.iteration) == (1, 0.75, MID_FADE)
    from_weights = training_run.build()
    from_weights.load_weights(uninterrupted.folder / "state.weights.h5")
    assert_same_state(from_weights, model)
    rest = training_run.images()[MID_FADE % training_run.STEPS * training_run.BATCH :]
    model.fit(rest, batch_size=training_run.BATCH, shuffle=False, verbose=0)
    assert (model.stage, model.alpha, model.iteration) == (1, 1.0, 8)
    assert_same_state(model, uninterrupted.model)


def load(folder):
    model = training_run.build()
    model.load_weights(folder / "end.weights.h5")
    return model


@pytest.mark.long
def test_a_run_killed_ten_times_at_random_moments_comes_to_the_same_end(acceleration, uninterrupted, tmp_path):
    """From the first step on: in a step, at an unlock, while a backup is written."""
    folder, seed = tmp_path / "killed", time.time_ns()
    rng = random.Random(seed)
    environment = {**ENVIRONMENT, kp.acceleration.VARIABLE: "1" if acceleration == "accelerated" else "0"}
    folder.mkdir()
    kills = 0
    while kills < 10:
        before = len(taken_steps(folder))
        with subprocess.Popen(
            [*COMMAND, str(folder)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and len(taken_steps(folder)) == before:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 3))
            process.kill()
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:  # it came to its end: begin anew, with what is left of the kills
            assert_same_state(load(folder), uninterrupted.model)
            shutil.rmtree(folder)
            folder.mkdir()
    training_run.main(folder)
    assert steps(folder) == steps(uninterrupted.folder), f"seed {seed}"
    assert_same_state(load(folder), uninterrupted.model)


# === Other ways to stop and go on, on a model that does not train ===


class StopAt(keras.callbacks.Callback):
    def __init__(self, iteration):
        super().__init__()
        self.iteration = iteration

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.iteration == self.iteration:
            raise KeyboardInterrupt


def test_backups_between_epochs_keep_stage_and_alpha(images, tmp_path):
    """With an integer `save_freq` Keras repeats the broken epoch; growth goes on from where it was."""

    def callbacks():
        return [kp.GrowthCallback(), keras.callbacks.BackupAndRestore(tmp_path, save_freq=1)]

    fit = {"batch_size": 20, "epochs": 4, "verbose": 0}  # four steps a stage, two of them of fade-in
    with pytest.raises(KeyboardInterrupt):
        ScriptedVAE().fit(images, callbacks=[*callbacks(), StopAt(5)], **fit)
    model, seen = ScriptedVAE(), []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append((model.stage, model.alpha))
    )
    history = model.fit(images, callbacks=[*callbacks(), look], **fit)
    assert seen[0] == (1, 0.5)
    assert history.epoch == [2, 3]
    assert history.history["stage"] == [1, 1]
    assert model.alpha == 1.0


def test_a_second_fit_after_a_restore_trains(images, tmp_path):
    """Keras leaves the epoch that it restored on the model, and a second `fit` would run no epoch."""
    fit = {"batch_size": 40, "verbose": 0}
    keep = {"backup_dir": tmp_path, "delete_checkpoint": False}
    ScriptedVAE().fit(images, epochs=2, callbacks=[keras.callbacks.BackupAndRestore(**keep)], **fit)
    model = ScriptedVAE()
    restored = model.fit(images, epochs=3, callbacks=[keras.callbacks.BackupAndRestore(**keep)], **fit)
    assert restored.epoch == [2]
    assert model.fit(images, epochs=2, **fit).epoch == [0, 1]


def test_a_repeated_stream_resumes_by_skipping_what_was_seen(images):
    """The way of docs/how-to/resume.md: one endless stream, and `skip(model.iteration)`."""

    def fit(model, **epochs):
        ds = tf.data.Dataset.from_tensor_slices(images).shuffle(40, seed=1).batch(8).repeat()
        growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_iterations=[4]))
        model.fit(ds.skip(model.iteration), steps_per_epoch=2, callbacks=[growth], verbose=0, **epochs)

    whole = ScriptedVAE()
    keras.utils.set_random_seed(0)  # as the `whole` model was built
    halves = ScriptedVAE()
    fit(whole, epochs=3)
    with pytest.warns(UserWarning, match="longer than this training"):
        fit(halves, epochs=1)
    fit(halves, epochs=3, initial_epoch=1)
    assert_same_state(halves, whole)
