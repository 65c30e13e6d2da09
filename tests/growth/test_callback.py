"""Schedules of growth, their unlocks in plain numbers, and growth in a real `fit`."""

import contextlib
import io
import warnings
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp
from keras_provlae.growth import GrowthCallback, GrowthSchedule
from keras_provlae.training.graph_checks import require_finite
from tests.growth.scripted_model import ScriptedVAE


class CountingModel:
    """Stand-in for a `ProgressiveVAE`: stage, iteration, trackers without a value and a record of every unlock."""

    grows = fades_in = True
    steps_per_execution = 1

    def __init__(self, num_rungs=3):
        self.num_rungs, self.stage, self.iteration, self.stop_training = num_rungs, 0, 0, False
        self.elbo_tracker = self.kl_tracker = SimpleNamespace(total=np.float32(0), count=np.float32(0))
        self.rung_trackers, self.growth_listeners = [], []
        self.unlocks = []  # (iteration, stage, fade_in_steps)

    @property
    def is_grown(self):
        return self.stage == self.num_rungs - 1

    def grow(self, fade_in_steps, to_stage):
        while self.stage < to_stage:
            self.stage += 1
            self.unlocks.append((self.iteration, self.stage, fade_in_steps if self.stage == to_stage else 0))


def fit(model, callback, epochs, steps=10, initial_epoch=0, known=True, steps_per_execution=1, stop_at=None):
    """Calls a callback as `keras.Model.fit` does; returns the stage of every epoch."""
    callback.set_params({"epochs": epochs, "steps": steps if known else None, "verbose": 0})
    callback.set_model(model)
    model.steps_per_execution = steps_per_execution
    model.stop_training = False
    callback.on_train_begin()
    stages = []
    for epoch in range(initial_epoch, epochs):
        callback.on_epoch_begin(epoch)
        for batch in range(0, steps, steps_per_execution):
            if stop_at == (epoch, batch):
                return stages
            callback.on_train_batch_begin(batch)
            model.iteration += steps_per_execution
        callback.on_epoch_end(epoch)
        stages.append(model.stage)
    callback.on_train_end()
    return stages


# === GrowthSchedule ===


def test_schedules_are_plain_numbers():
    assert GrowthSchedule(epochs_per_rung=15).unlock_points(3) == [15, 30]
    assert GrowthSchedule(epochs_per_rung=[10, 5, 20]).unlock_points(3) == [10, 15]
    assert GrowthSchedule(unlock_epochs=[4, 9]).unlock_points(3) == [4, 9]
    assert GrowthSchedule(unlock_iterations=[5000, 9000]).unlock_points(3) == [5000, 9000]
    assert GrowthSchedule().unlock_points(4, epochs=30) == [7, 15, 22]
    assert GrowthSchedule(epochs_per_rung=15).unlock_points(1) == []
    assert GrowthSchedule(epochs_per_rung=np.int64(5)).unlock_points(3) == [5, 10]
    assert GrowthSchedule(unlock_epochs=np.array([4, 9])).unlock_points(3) == [4, 9]


def test_an_even_split_differs_by_at_most_one_epoch():
    for num_rungs in range(1, 6):
        for epochs in range(num_rungs, 40):
            points = [0, *GrowthSchedule().unlock_points(num_rungs, epochs), epochs]
            lengths = np.diff(points)
            assert lengths.min() >= 1
            assert lengths.max() - lengths.min() <= 1


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epochs_per_rung": 0}, ValueError, "epochs_per_rung=0"),
        ({"epochs_per_rung": 2.5}, TypeError, "integers"),
        ({"unlock_epochs": [4, 4]}, ValueError, "rising"),
        ({"unlock_iterations": [0, 5]}, ValueError, "positive"),
        ({"unlock_epochs": 4}, TypeError, "unlock_epochs=4"),
        ({"epochs_per_rung": 2, "unlock_epochs": [2, 4]}, ValueError, "takes one of .epochs_per_rung."),
    ],
)
def test_bad_schedules_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        GrowthSchedule(**settings)


@pytest.mark.parametrize("settings", [{"unlock_epochs": [3]}, {"epochs_per_rung": [2, 2]}, {"unlock_iterations": [1]}])
def test_a_schedule_for_another_number_of_rungs_is_refused(settings):
    with pytest.raises(ValueError, match="for 3 rungs"):
        GrowthSchedule(**settings).unlock_points(3)


# === GrowthCallback on plain numbers ===


def test_rungs_share_the_epochs_evenly_and_fade_half_of_a_stage():
    model = CountingModel()
    assert fit(model, GrowthCallback(), epochs=9) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert model.unlocks == [(30, 1, 15), (60, 2, 15)]


@pytest.mark.parametrize(
    ("settings", "fades"),
    [
        ({"fade_in_steps": 7}, [7, 7]),
        ({"max_fade_fraction": None}, [5000, 5000]),
        ({"max_fade_fraction": 0.1}, [3, 3]),
        ({"fade_in": False}, [0, 0]),
        ({"fade_in_steps": 0}, [0, 0]),
    ],
)
def test_fades_are_as_long_as_asked(settings, fades):
    model = CountingModel()
    fit(model, GrowthCallback(**settings), epochs=9)
    assert [fade for _, _, fade in model.unlocks] == fades


def test_explicit_schedules():
    for schedule, unlocks in [
        (GrowthSchedule(epochs_per_rung=[1, 4, 2]), [(10, 1, 20), (50, 2, 10)]),
        (GrowthSchedule(unlock_epochs=[2, 3]), [(20, 1, 5), (30, 2, 20)]),
        (GrowthSchedule(unlock_iterations=[5, 33]), [(5, 1, 14), (33, 2, 18)]),
    ]:
        model = CountingModel()
        fit(model, GrowthCallback(schedule), epochs=7)
        assert model.unlocks == unlocks, schedule


def test_with_fewer_epochs_than_rungs_the_steps_are_shared():
    model = CountingModel()
    fit(model, GrowthCallback(), epochs=1, steps=30)
    assert model.unlocks == [(10, 1, 5), (20, 2, 5)]


def test_repeated_fit_goes_on_where_the_last_one_ended():
    model = CountingModel()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # each fit is shorter than the schedule
        stages = [
            stage for _ in range(7) for stage in fit(model, GrowthCallback(GrowthSchedule(epochs_per_rung=2)), epochs=1)
        ]
    assert stages == [0, 0, 1, 1, 2, 2, 2]
    assert model.unlocks == [(20, 1, 10), (40, 2, 10)]

    model = CountingModel()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(3):
            fit(model, GrowthCallback(GrowthSchedule(unlock_iterations=[12, 25])), epochs=1)
    assert [iteration for iteration, _, _ in model.unlocks] == [12, 25]


def test_a_second_even_fit_leaves_a_grown_model_grown_and_shares_what_is_left():
    model = CountingModel()
    fit(model, GrowthCallback(), epochs=3)
    assert fit(model, GrowthCallback(), epochs=3) == [2, 2, 2]
    assert len(model.unlocks) == 2
    by_hand = CountingModel()
    by_hand.grow(0, to_stage=1)
    assert fit(by_hand, GrowthCallback(), epochs=6) == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("schedule", [None, GrowthSchedule(epochs_per_rung=3), GrowthSchedule(unlock_epochs=[3, 6])])
@pytest.mark.parametrize("initial_epoch", range(1, 9))
def test_initial_epoch_goes_on_with_the_same_schedule(schedule, initial_epoch):
    whole, halves = CountingModel(), CountingModel()
    expected = fit(whole, GrowthCallback(schedule), epochs=9)
    stages = fit(halves, GrowthCallback(schedule), epochs=9, stop_at=(initial_epoch, 0))
    # the epoch that stopped may have unlocked a rung already, as a save at its beginning would hold
    stages += fit(halves, GrowthCallback(schedule), epochs=9, initial_epoch=initial_epoch)
    assert stages == expected
    assert halves.unlocks == whole.unlocks


def test_an_interrupt_in_mid_epoch_loses_no_rung():
    model = CountingModel()
    fit(model, GrowthCallback(), epochs=9, stop_at=(4, 5))
    assert fit(model, GrowthCallback(), epochs=9, initial_epoch=4) == [1, 1, 2, 2, 2]
    assert [stage for _, stage, _ in model.unlocks] == [1, 2]


@pytest.mark.parametrize("initial_epoch", [0, 2, 3, 5, 6, 7])
def test_data_of_unknown_length(initial_epoch):
    model, expected = CountingModel(), [0, 0, 0, 1, 1, 1, 2, 2, 2]
    stages = fit(model, GrowthCallback(), epochs=9, known=False, stop_at=(initial_epoch, 0))
    assert stages + fit(model, GrowthCallback(), epochs=9, initial_epoch=initial_epoch, known=False) == expected
    assert model.unlocks == [(30, 1, 15), (60, 2, 15)]
    model = CountingModel()
    fit(model, GrowthCallback(GrowthSchedule(unlock_iterations=[15, 40])), epochs=9, known=False)
    assert model.unlocks == [(15, 1, 12), (40, 2, 25)]


def test_where_several_rungs_are_due_at_once_only_the_newest_fades_in(capsys):
    model = CountingModel()
    fit(model, GrowthCallback(GrowthSchedule(unlock_epochs=[1, 3]), verbose=1), epochs=6, initial_epoch=4)
    assert model.unlocks == [(0, 1, 0), (0, 2, 15)]
    printed = capsys.readouterr().out
    assert "rung 2 unlocked, without a fade-in" in printed
    assert "rung 1 unlocked, fading in over 15 steps" in printed


def test_steps_per_execution_that_rounds_the_epoch_up():
    model = CountingModel()  # 10 steps asked for, 12 taken
    assert fit(model, GrowthCallback(), epochs=9, steps_per_execution=4) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert model.unlocks == [(36, 1, 18), (72, 2, 18)]
    model = CountingModel()
    fit(model, GrowthCallback(GrowthSchedule(unlock_iterations=[5, 16])), epochs=9, steps_per_execution=4)
    assert [iteration for iteration, _, _ in model.unlocks] == [8, 16]  # at the first execution that may


@pytest.mark.parametrize("initial_epoch", range(1, 9))
@pytest.mark.parametrize("schedule", [None, GrowthSchedule(unlock_iterations=[30, 80])])
def test_a_resumed_run_whose_epochs_are_rounded_up_fades_as_long(schedule, initial_epoch):
    whole, halves = CountingModel(), CountingModel()
    settings = {"epochs": 9, "steps_per_execution": 4}
    fit(whole, GrowthCallback(schedule), **settings)
    fit(halves, GrowthCallback(schedule), stop_at=(initial_epoch, 0), **settings)
    fit(halves, GrowthCallback(schedule), initial_epoch=initial_epoch, **settings)
    assert halves.unlocks == whole.unlocks


def test_a_schedule_longer_than_the_training_warns():
    with pytest.warns(
        UserWarning, match=r"longer than this training.*\[5, 10\].*ends at epoch 7, so rung 1 will stay locked"
    ):
        assert fit(CountingModel(), GrowthCallback(GrowthSchedule(epochs_per_rung=5)), epochs=7) == [0] * 5 + [1] * 2
    with pytest.warns(UserWarning, match=r"iterations \[10, 100\].*ends at iteration 70"):
        fit(CountingModel(), GrowthCallback(GrowthSchedule(unlock_iterations=[10, 100])), epochs=7)
    model = CountingModel()
    model.iteration = 50
    with pytest.warns(UserWarning, match="ends at iteration 70"):
        fit(model, GrowthCallback(GrowthSchedule(unlock_iterations=[10, 75])), epochs=7, initial_epoch=5)
    with pytest.warns(UserWarning, match="longer"):  # two epochs of unknown length for three rungs
        assert fit(CountingModel(), GrowthCallback(), epochs=2, known=False) == [0, 1]


def test_stopping_early_in_an_early_stage_warns():
    model, callback = CountingModel(), GrowthCallback()
    fit(model, callback, epochs=9, stop_at=(4, 0))
    model.stop_training = True
    with pytest.warns(UserWarning, match=r"stopped at stage 1 of 2: rung 1 never unlocked.*start_from_epoch"):
        callback.on_train_end()


def test_one_rung_has_nothing_to_unlock():
    model = CountingModel(num_rungs=1)
    assert fit(model, GrowthCallback(), epochs=2) == [0, 0]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"schedule": 10}, TypeError),
        ({"fade_in_steps": -1}, ValueError),
        ({"fade_in_steps": 2.5}, TypeError),
        ({"fade_in_steps": True}, TypeError),
        ({"fade_in_steps": 2**31}, ValueError),
        ({"max_fade_fraction": 0}, ValueError),
        ({"max_fade_fraction": float("inf")}, ValueError),
    ],
)
def test_bad_settings_are_refused(settings, error):
    with pytest.raises(error, match="Received"):
        GrowthCallback(**settings)


# === GrowthCallback in a real fit ===


@pytest.fixture(scope="module")
def trained(acceleration):
    """A training on data of unknown length: two epochs of three steps per stage."""
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).uniform(size=(6, 8, 8, 1)).astype("float32")
    ds = tf.data.Dataset.from_tensor_slices(images).batch(2).filter(lambda batch: True)
    assert ds.cardinality() == tf.data.UNKNOWN_CARDINALITY
    model, alphas = kp.ProgressiveVAE((8, 8, 1), num_rungs=2, latent_dim=2, channels=2, dense=None), []
    model.compile()
    record = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: alphas.append(model.alpha))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")  # Keras, at the end of unknown data
        callbacks = [GrowthCallback(verbose=1), record]
        history = model.fit(ds, epochs=4, validation_data=(images,), callbacks=callbacks, verbose=2).history
    return SimpleNamespace(model=model, alphas=alphas, history=history, printed=printed.getvalue())


def test_alpha_rises_by_one_step_per_optimizer_step(trained):
    assert trained.model.fade_in_steps == 3  # half of a stage
    # a step that finds no more data begins as well
    alphas = [1, 1, 1, 1, 1, 1, 1, 1, 0, 1 / 3, 2 / 3, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(trained.alphas, alphas, rtol=1e-6)


def test_only_steps_that_were_taken_count(trained):
    assert (trained.model.iteration, int(trained.model.optimizer.iterations)) == (12, 12)


def test_history_and_validation_have_every_term(trained):
    names = {"loss", "reconstruction", "kl", "kl_rung_1", "kl_rung_2", "elbo", "stage", "alpha"}
    assert set(trained.history) == names | {f"val_{name}" for name in names} | {"growth_shock"}
    assert trained.history["stage"] == trained.history["val_stage"] == [0, 0, 1, 1]
    assert all(f"  {name} " in trained.printed for name in ("loss", "elbo", "stage"))
    assert "Stage 1: rung 1 unlocked, fading in over 3 steps" in trained.printed


@pytest.mark.usefixtures("acceleration")
def test_unlocks_in_mid_epoch_start_alpha_at_zero(images):
    model, alphas = ScriptedVAE(num_rungs=3, run_eagerly=False), []
    record = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: alphas.append(model.alpha))
    schedule = GrowthSchedule(unlock_iterations=[3, 9])
    model.fit(images, batch_size=10, epochs=4, callbacks=[GrowthCallback(schedule, fade_in_steps=4), record], verbose=0)
    # 4 steps an epoch; 6 steps of stage 1 allow 3 of fade-in, 7 of stage 2 allow 3
    np.testing.assert_allclose(alphas, [1, 1, 1, 0, 1 / 3, 2 / 3, 1, 1, 1, 0, 1 / 3, 2 / 3, 1, 1, 1, 1], rtol=1e-6)


def test_alpha_rises_inside_steps_per_execution_without_retracing(images):
    traces = []

    class Traced(ScriptedVAE):
        def train_step(self, data):
            traces.append(1)
            return super().train_step(data)

    model = Traced(num_rungs=2, run_eagerly=False, steps_per_execution=4)
    ds = tf.data.Dataset.from_tensor_slices(images).batch(5).repeat()
    history = model.fit(ds, epochs=4, steps_per_epoch=8, callbacks=[GrowthCallback()], verbose=0).history
    assert history["stage"] == [0, 0, 1, 1]
    np.testing.assert_allclose(history["alpha"], [1, 1, 7 / 8, 1])  # the last of 8 steps is the eighth
    assert model.iteration == 32
    traced_at_first = len(traces)
    model.fit(ds, epochs=1, steps_per_epoch=8, verbose=0)
    assert len(traces) == traced_at_first <= 2 * 2  # once a stage; while_loop traces its body twice at most


def test_early_stopping_and_growth(images):
    model = ScriptedVAE(num_rungs=3)
    stop = keras.callbacks.EarlyStopping(monitor="loss", patience=0, mode="max", start_from_epoch=4)
    growth = GrowthCallback(GrowthSchedule(epochs_per_rung=1))
    history = model.fit(images, batch_size=40, epochs=9, callbacks=[growth, stop], verbose=0)
    assert model.stage == 2
    assert len(history.epoch) < 9


def test_the_growth_of_one_fit_leaves_nothing_on_the_model(images):
    model = ScriptedVAE()
    mine = SimpleNamespace(before_unlock=lambda model: None, after_unlock=lambda model: None)
    model.growth_listeners.append(mine)
    model.fit(images, batch_size=40, epochs=2, callbacks=[GrowthCallback(guard=True)], verbose=0)
    assert model.growth_listeners == [mine]
    assert model.check_loss is require_finite


@pytest.mark.parametrize("cls", [kp.VLAE, kp.BetaVAE])
def test_a_model_that_cannot_grow_is_refused(cls, images):
    settings = {"num_rungs": 2} if cls is kp.VLAE else {"stem": ()}
    model = cls(image_shape=(8, 8, 1), latent_dim=2, channels=4, dense=8, **settings)
    model.compile()
    with pytest.raises(TypeError, match=f"can grow, such as ProgressiveVAE. Received: {cls.__name__}"):
        model.fit(images, callbacks=[GrowthCallback()], verbose=0)
