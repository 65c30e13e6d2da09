"""Weights of the loss that change during `fit`: schedules, resumed runs, files, and information budgets."""

import contextlib

import keras
import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.callbacks import Annealing
from tests.growth.scripted_model import ScriptedVAE

FIT = {"batch_size": 10, "shuffle": False, "verbose": 0}  # 4 steps an epoch


class Seen(keras.callbacks.Callback):
    """Records iteration, stage and a weight as every step begins."""

    def __init__(self, *names):
        super().__init__()
        self.names, self.rows = names, []

    def on_train_batch_begin(self, batch, logs=None):
        model = self.model
        self.rows.append((model.iteration, model.stage, *(getattr(model, name) for name in self.names)))


@pytest.mark.parametrize(
    ("interpolation", "values"),
    [("linear", [1, 1, 1, 2, 3, 4, 4]), ("geometric", [1, 1, 1, 4 ** (1 / 3), 4 ** (2 / 3), 4, 4])],
)
def test_values_are_interpolated_between_points_and_constant_outside(interpolation, values):
    annealing = Annealing(interpolation, beta=[(2, 1.0), (5, 4.0)])
    assert [annealing.value("beta", step) for step in range(7)] == pytest.approx(values)


def test_values_of_rungs_and_of_stages():
    annealing = Annealing(beta={0: 0.5, 1: [(0, (1.0, 2.0)), (10, (3.0, 2.0))]})
    assert annealing.value("beta", 7, stage=0) == 0.5
    assert annealing.value("beta", 5, stage=1).tolist() == [2, 2]


def test_every_step_has_its_weights_and_every_epoch_logs_them(images):
    model, seen = ScriptedVAE(), Seen("beta", "gamma")
    annealing = Annealing(every=1, beta=[(0, 0.0), (8, 8.0)], gamma=[(3, 0.5), (4, 0.25)])
    history = model.fit(images, epochs=3, callbacks=[kp.GrowthCallback(), annealing, seen], **FIT).history
    assert [beta for _, _, beta, _ in seen.rows] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8]
    assert [gamma for *_, gamma in seen.rows] == [0.5] * 4 + [0.25] * 8
    assert history["beta"] == [3, 7, 8]
    assert history["gamma"] == [0.5, 0.25, 0.25]


def test_weights_change_at_multiples_of_every(images):
    seen = Seen("beta")
    annealing = Annealing(every=3, beta=[(0, 0.0), (8, 8.0)])
    model = ScriptedVAE()
    model.fit(images, epochs=2, callbacks=[kp.GrowthCallback(), annealing, seen], **FIT)
    assert [beta for *_, beta in seen.rows] == [0, 0, 0, 3, 3, 3, 6, 6]


@pytest.mark.parametrize("first", ["growth", "annealing"])
def test_steps_of_stages_count_from_their_unlock_and_rungs_differ(images, first):
    seen = Seen("beta")
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_iterations=[6]))
    annealing = Annealing(every=1, beta={0: 0.5, 1: [(0, (1.0, 2.0)), (4, (5.0, 2.0))]})
    both = [growth, annealing] if first == "growth" else [annealing, growth]
    history = ScriptedVAE().fit(images, epochs=3, callbacks=[*both, seen], **FIT).history
    assert [beta for *_, beta in seen.rows] == [0.5] * 6 + [(1, 2), 2, (3, 2), (4, 2), (5, 2), (5, 2)]
    assert history["beta_rung_1"] == [0.5, 2, 5]
    assert history["beta_rung_2"] == [0.5, 2, 2]


def test_a_killed_run_resumes_with_the_same_weights(images, tmp_path):
    def run(folder, *callbacks):
        keras.utils.set_random_seed(0)
        model = ScriptedVAE()
        growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_iterations=[6]))
        annealing = Annealing(
            every=3, beta={0: [(0, 1.0), (6, 4.0)], 1: [(0, 8.0), (6, 2.0)]}, gamma=[(0, 1.0), (9, 0.0)]
        )
        backup = kp.callbacks.BackupAndRestore(folder, max_share=1, delete_checkpoint=False)
        seen = Seen("beta", "gamma")
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(images, epochs=4, callbacks=[growth, backup, annealing, seen, *callbacks], **FIT)
        return model, seen.rows

    class Kill(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.iteration == 10:
                raise KeyboardInterrupt

    whole, expected = run(tmp_path / "whole")
    _, before = run(tmp_path / "killed", Kill())
    resumed, after = run(tmp_path / "killed")
    assert before == expected[:11]
    assert after == expected[8:]
    for ours, theirs in zip(resumed.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_new_weight_needs_no_new_trace(make_model, images):
    class Counted(kp.ProgressiveVAE):
        traces = 0

        def kl_weights(self):
            type(self).traces += 1
            return super().kl_weights()

    model = make_model(Counted, num_rungs=1, dense=None)
    model.compile(keras.optimizers.SGD(0.0))
    history = model.fit(images, epochs=2, callbacks=[Annealing(beta=[(0, 1.0), (1, 9.0)], every=1)], **FIT).history
    assert Counted.traces == 1
    expected = [np.mean([1, 9, 9, 9]), 9]
    weighed = np.array(history["loss"]) - history["reconstruction"]
    assert weighed / history["kl_rung_1"] == pytest.approx(expected, rel=0.3)  # noise moves the KL a little
    assert history["beta"] == [9, 9]


def test_weights_are_state_of_the_model(make_model, tmp_path):
    model = make_model(beta=(1.0, 0.1, 3.0), gamma=0.5)
    assert (model.beta, model.gamma, model.tc_weight, model.capacity) == ((1.0, 0.1, 3.0), 0.5, 0.0, None)
    np.testing.assert_allclose(model.kl_weights(), [3.0, 0.5, 0.5])  # deepest first, the others locked
    model.beta, model.gamma = 0.2, 0.3
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.beta, loaded.gamma) == (0.2, 0.3)
    assert keras.models.clone_model(loaded).beta == (1.0, 0.1, 3.0)  # as its constructor was called
    assert loaded.count_params() == model.count_params()


def test_half_precision_does_not_round_the_weights(make_model, images):
    model = make_model(num_rungs=1, beta=0.1, dtype="mixed_float16")
    model.compile(run_eagerly=True)
    logs = model.test_on_batch(images, return_dict=True)
    assert logs["loss"] == pytest.approx(logs["reconstruction"] + 0.1 * logs["kl"], rel=1e-5)


# === Information budgets ===


@pytest.mark.parametrize("cls", [kp.ProgressiveVAE, kp.VLAE])
def test_an_unlocked_rung_pays_for_its_distance_from_its_budget(make_model, images, cls):
    model = make_model(cls, num_rungs=2, beta=(2.0, 5.0), capacity=(4.0, 1e-3))
    model.compile(run_eagerly=True)
    logs = model.test_on_batch(images, return_dict=True)
    deep = 5.0 * abs(logs["kl_rung_2"] - 1e-3)
    shallow = 0.5 * logs["kl_rung_1"] if model.grows else 2.0 * abs(logs["kl_rung_1"] - 4.0)
    assert logs["loss"] == pytest.approx(logs["reconstruction"] + deep + shallow, rel=1e-5)
    assert logs["elbo"] == pytest.approx(-logs["reconstruction"] - logs["kl"], rel=1e-5)


def test_a_budget_above_the_kl_raises_it(make_model, images):
    kls = {}
    for capacity in 0.0, 4.0:
        keras.utils.set_random_seed(0)
        model = make_model(num_rungs=1, beta=100.0, capacity=capacity, dense=None)
        model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
        kls[capacity] = []
        for _ in range(6):
            kls[capacity].append(model.train_on_batch(images, return_dict=True)["kl"])
            model.reset_metrics()
    assert kls[0.0][-1] < kls[0.0][0] == kls[4.0][0] < kls[4.0][-1]


def test_budgets_are_annealed_and_saved(make_model, images, tmp_path):
    model = make_model(num_rungs=1, capacity=0.5, dense=None)
    assert model.get_config()["capacity"] == 0.5
    model.compile(run_eagerly=True)
    model.fit(images, callbacks=[Annealing(capacity=[(0, 0.5), (2, 3.0)], every=1)], **FIT)
    assert model.capacity == 3.0
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").capacity == 3.0


# === Errors ===


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValueError, "needs a schedule"),
        ({"beta": 2.0}, TypeError, r"list of points \(step, value\), or a dict.*beta=2.0"),
        ({"beta": [1.0, 2.0]}, TypeError, "list of points"),
        ({"beta": [(5, 1.0), (5, 2.0)]}, ValueError, r"steps of `beta` must rise. Received: \[5, 5\]"),
        ({"beta": [(-1, 1.0)]}, ValueError, "a step of beta` must be at least 0"),
        ({"beta": [(0.5, 1.0)]}, TypeError, "a step of beta` must be an integer"),
        ({"beta": [(0, float("nan"))]}, ValueError, "values of `beta` must be finite numbers >= 0. Received: nan"),
        ({"beta": {0: -1.0, 1: 1.0}}, ValueError, "values of `beta` must be finite numbers >= 0. Received: -1.0"),
        ({"beta": {0: "4"}}, TypeError, "values of `beta` must be numbers, or one per rung. Received: '4'"),
        ({"beta": {"one": 1.0}}, TypeError, "stages of `beta` must be integers"),
        (
            {"beta": [(0, 0.0), (9, 1.0)], "interpolation": "geometric"},
            ValueError,
            "geometric `beta` needs values above 0",
        ),
        ({"beta": [(0, 1.0)], "interpolation": "cubic"}, ValueError, "must be one of .*'cubic'"),
        ({"beta": [(0, 1.0)], "every": 0}, ValueError, "`every` must be at least 1"),
    ],
)
def test_a_bad_schedule_is_refused_at_once(settings, error, message):
    with pytest.raises(error, match=message):
        Annealing(**settings)


@pytest.mark.parametrize(
    ("schedules", "message"),
    [
        ({"temperature": [(0, 1.0)]}, "ScriptedVAE has no loss weight `temperature` to change: it has beta, gamma"),
        ({"tc_weight": [(0, 1.0)]}, "`tc_weight` needs `dataset_size`"),
        ({"capacity": [(0, 1.0)]}, "no loss weight `capacity`"),
        ({"beta": {0: 1.0}}, r"schedule for each of the stages 0 .. 1. Received: stages 0"),
        ({"beta": {0: 1.0, 1: 2.0, 2: 3.0}}, r"Received: stages 0, 1, 2"),
        ({"beta": [(0, (1.0, 2.0, 3.0))]}, "one for each of the 2 rungs"),
        ({"gamma": [(0, (1.0, 2.0))]}, "`gamma` must be a number"),
    ],
)
def test_a_schedule_for_another_model_is_refused_before_the_first_step(images, schedules, message):
    model = ScriptedVAE()
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(images, callbacks=[Annealing(**schedules)], **FIT)
    assert model.iteration == 0


def test_a_weight_that_the_model_was_built_without_cannot_be_set(make_model):
    model = make_model(num_rungs=1)
    with pytest.raises(ValueError, match="built without `tc_weight`. Give `dataset_size` to its constructor"):
        model.tc_weight = 1.0
    with pytest.raises(ValueError, match="built without `capacity`"):
        model.capacity = 1.0
    with pytest.raises(ValueError, match=r"one for each of the 1 rungs, ordered from rung 1. Received: beta=\[1, 2\]"):
        model.beta = [1, 2]


def test_other_models_are_refused(images):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Identity()])
    model.compile(loss="mse")
    with pytest.raises(TypeError, match="Annealing needs a LadderVAE"):
        model.fit(images, images, callbacks=[Annealing(beta=[(0, 1.0)])], verbose=0)
