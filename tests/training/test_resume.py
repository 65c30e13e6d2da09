"""A run that was stopped in the middle of a fade ends exactly like the run that was not."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import keras_provlae as kp
from tests.conftest import REPOSITORY
from tests.training import training_run

MID_FADE = 12  # step 12 of 30: stage 1 began at step 10 and fades in until step 15


def run_until_killed(folder, die_at):
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "tests.training.training_run", str(folder), str(die_at)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def steps(folder):
    """{iteration: (stage, alpha)}; a step that was taken twice must have been the same."""
    rows = [line.split() for line in (folder / "steps.txt").read_text().splitlines()]
    taken = {}
    for iteration, stage, alpha in rows:
        assert taken.setdefault(int(iteration), (int(stage), float(alpha))) == (int(stage), float(alpha))
    return taken


def assert_same_state(model, other):
    assert (model.stage, model.alpha, model.iteration) == (other.stage, other.alpha, other.iteration)
    for ours, theirs in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)
    for ours, theirs in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    training_run.main(folder)
    return folder


def load(folder):
    model = training_run.build()
    model.load_weights(folder / "end.weights.h5")
    return model


def test_a_killed_run_resumed_by_backup_and_restore_is_the_run_that_was_not(uninterrupted, tmp_path):
    killed = run_until_killed(tmp_path / "killed", MID_FADE)
    assert killed.returncode == -signal.SIGKILL
    assert max(steps(tmp_path / "killed")) == MID_FADE - 1
    training_run.main(tmp_path / "killed")

    expected = steps(uninterrupted)
    assert expected[MID_FADE] == (1, 0.4)
    assert expected[29] == (2, 1.0)
    assert len(expected) == 30
    assert steps(tmp_path / "killed") == expected
    assert_same_state(load(tmp_path / "killed"), load(uninterrupted))


@pytest.mark.long
def test_killed_twenty_times_at_random_moments_it_is_the_run_that_was_not(uninterrupted, tmp_path):
    """From the first step on: in a step, at an unlock, while a backup is written."""
    folder, seed = tmp_path / "killed", time.time_ns()
    rng = random.Random(seed)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "tests.training.training_run", str(folder)]
    folder.mkdir()
    kills = 0
    while kills < 20:
        before = len(taken_steps(folder))
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and len(taken_steps(folder)) == before:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 3))
            process.kill()
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:  # it came to its end: begin anew, with what is left of the kills
            assert_same_state(load(folder), load(uninterrupted))
            shutil.rmtree(folder)
            folder.mkdir()
    training_run.main(folder)
    assert steps(folder) == steps(uninterrupted), f"seed {seed}"
    assert_same_state(load(folder), load(uninterrupted))


def taken_steps(folder):
    file = folder / "steps.txt"
    return file.read_text().splitlines() if file.exists() else []


FIT = {"batch_size": training_run.BATCH, "shuffle": False, "verbose": 0}


@pytest.fixture(scope="module")
def saved_in_mid_fade(tmp_path_factory):
    """Stopped two steps into the fade of stage 1, in the middle of epoch 2: the folder of both kinds of file."""
    folder = tmp_path_factory.mktemp("saved")

    class Stop(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.iteration == MID_FADE:
                self.model.save(folder / "state.keras")
                self.model.save_weights(folder / "state.weights.h5")
                raise KeyboardInterrupt

    callbacks = [kp.GrowthCallback(), Stop()]
    with pytest.raises(KeyboardInterrupt):
        training_run.build().fit(training_run.images(), epochs=training_run.EPOCHS, callbacks=callbacks, **FIT)
    return folder


@pytest.mark.parametrize("kind", ["keras", "weights.h5"])
def test_a_file_saved_in_mid_fade_goes_on_to_the_same_end(uninterrupted, saved_in_mid_fade, kind):
    """What is left of the broken epoch comes first."""
    path, data = saved_in_mid_fade / f"state.{kind}", training_run.images()
    if kind == "keras":
        model = keras.models.load_model(path)
    else:
        model = training_run.build()
        model.load_weights(path)
    assert (model.stage, model.alpha) == (1, np.float32(0.4))
    rest = data[(MID_FADE % training_run.STEPS) * training_run.BATCH :]
    model.fit(rest, epochs=3, initial_epoch=2, **FIT)
    model.fit(data, epochs=training_run.EPOCHS, initial_epoch=3, callbacks=[kp.GrowthCallback()], **FIT)
    expected = load(uninterrupted)
    assert (model.stage, model.alpha, model.iteration) == (2, 1.0, 30)
    for ours, theirs in zip(model.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)


def test_backups_between_epochs_keep_stage_and_alpha(tmp_path):
    """With an integer `save_freq` Keras starts the broken epoch again; growth goes on from where it was."""

    class Die(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.iteration == 13:
                raise KeyboardInterrupt

    def callbacks():
        return [kp.GrowthCallback(), keras.callbacks.BackupAndRestore(tmp_path, save_freq=1)]

    fit = {**FIT, "epochs": training_run.EPOCHS}
    with pytest.raises(KeyboardInterrupt):
        training_run.build().fit(training_run.images(), callbacks=[*callbacks(), Die()], **fit)
    model, seen = training_run.build(), []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append((model.stage, model.alpha))
    )
    history = model.fit(training_run.images(), callbacks=[*callbacks(), look], **fit)
    assert seen[0] == (1, np.float32(0.6))
    assert history.epoch == [2, 3, 4, 5]
    assert history.history["stage"] == [1, 1, 2, 2]
    assert model.alpha == 1.0


def test_a_second_fit_after_a_restore_trains(tmp_path):
    """Keras leaves the epoch that it restored on the model, and a second `fit` would run no epoch."""
    fit = {"batch_size": training_run.BATCH, "verbose": 0}
    model, keep = training_run.build(num_rungs=1), {"backup_dir": tmp_path, "delete_checkpoint": False}
    model.fit(training_run.images(), epochs=2, callbacks=[keras.callbacks.BackupAndRestore(**keep)], **fit)
    model = training_run.build(num_rungs=1)
    restored = model.fit(training_run.images(), epochs=3, callbacks=[keras.callbacks.BackupAndRestore(**keep)], **fit)
    assert restored.epoch == [2]
    assert model.fit(training_run.images(), epochs=2, **fit).epoch == [0, 1]


def test_a_repeated_stream_can_be_resumed_by_skipping_what_was_seen(images):
    """The recipe of the README: one endless stream, and `skip(model.iteration)`."""
    import tensorflow as tf

    def stream(model):
        ds = tf.data.Dataset.from_tensor_slices(images).shuffle(40, seed=1).batch(8).repeat()
        return ds.skip(model.iteration)

    def fit(model, **epochs):
        schedule = kp.GrowthSchedule(unlock_iterations=[8])
        callbacks = [kp.GrowthCallback(schedule)]
        model.fit(stream(model), steps_per_epoch=3, callbacks=callbacks, verbose=0, **epochs)

    whole, halves = training_run.build(num_rungs=2), training_run.build(num_rungs=2)
    fit(whole, epochs=4)
    with pytest.warns(UserWarning, match="longer than this training"):
        fit(halves, epochs=2)
    fit(halves, epochs=4, initial_epoch=2)
    assert_same_state(halves, whole)
