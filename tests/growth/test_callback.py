import warnings
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp
from keras_provlae.growth import GrowthCallback, GrowthSchedule


class CountingModel:
    """Stands in for a `ProgressiveVAE`: stage, iteration, trackers without a value and a record of every unlock."""

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
    """What `keras.Model.fit` does with a callback; returns the stage of every epoch."""
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
        ({"epochs_per_rung": 2, "unlock_epochs": [2, 4]}, ValueError, "one of its arguments"),
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
    assert fit(by_hand, GrowthCallback(), epochs=4) == [1, 1, 2, 2]


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


def test_alpha_rises_by_one_step_per_optimiser_step(make_model, images):
    model, alphas = make_model(), []
    model.compile()
    record = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: alphas.append(model.alpha))
    schedule = GrowthSchedule(unlock_iterations=[3, 9])
    model.fit(images, batch_size=10, epochs=4, callbacks=[GrowthCallback(schedule, fade_in_steps=4), record], verbose=0)
    # 4 steps an epoch; 6 steps of stage 1 allow 3 of fade-in, 7 of stage 2 allow 3
    np.testing.assert_allclose(alphas, [1, 1, 1, 0, 1 / 3, 2 / 3, 1, 1, 1, 0, 1 / 3, 2 / 3, 1, 1, 1, 1], rtol=1e-6)


def test_alpha_rises_inside_steps_per_execution_without_retracing(make_model, images):
    model, traces = make_model(), []
    train_step = model.train_step
    model.train_step = lambda *args: traces.append(1) or train_step(*args)
    model.compile(steps_per_execution=4)
    ds = tf.data.Dataset.from_tensor_slices(images).batch(5).repeat()
    history = model.fit(ds, epochs=6, steps_per_epoch=8, callbacks=[GrowthCallback()], verbose=0).history
    assert history["stage"] == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(history["alpha"], [1, 1, 7 / 8, 1, 7 / 8, 1])  # the last of 8 steps is the eighth
    assert model.iteration == 48
    traced_at_first = len(traces)
    model.fit(ds, epochs=1, steps_per_epoch=8, verbose=0)
    assert len(traces) == traced_at_first <= 2 * 3  # once a stage; while_loop traces its body twice at most


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras, at the end of unknown data
def test_a_data_set_of_unknown_length_counts_the_steps_that_were_taken(make_model, images):
    ds = tf.data.Dataset.from_tensor_slices(images).batch(8).filter(lambda batch: True)
    assert ds.cardinality() == tf.data.UNKNOWN_CARDINALITY
    whole, halves = make_model(num_rungs=2), make_model(num_rungs=2)
    for ours, theirs in zip(halves.variables, whole.variables, strict=True):
        ours.assign(theirs)
    for model in whole, halves:
        model.compile()
    whole.fit(ds, epochs=6, callbacks=[GrowthCallback()], verbose=0)
    assert (whole.iteration, int(whole.optimizer.iterations), whole.fade_in_steps) == (30, 30, 7)

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:  # where rung 1 is due
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        halves.fit(ds, epochs=6, callbacks=[Interrupt(), GrowthCallback()], verbose=0)
    halves.fit(ds, epochs=6, initial_epoch=3, callbacks=[GrowthCallback()], verbose=0)
    for ours, theirs in zip(halves.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)


def test_history_and_validation_have_every_term(make_model, images, capsys):
    model = make_model()
    model.compile()
    history = model.fit(images, epochs=3, validation_data=(images,), callbacks=[GrowthCallback(verbose=1)], verbose=2)
    names = {"loss", "reconstruction", "kl", "kl_rung_1", "kl_rung_2", "kl_rung_3", "elbo", "stage", "alpha"}
    assert set(history.history) == names | {f"val_{name}" for name in names} | {"growth_shock"}
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in ("loss", "elbo", "stage"))
    assert "Stage 1: rung 2 unlocked, fading in over 1 steps" in printed


def test_early_stopping_and_growth(make_model, images):
    model = make_model()
    model.compile()
    stop = keras.callbacks.EarlyStopping(monitor="loss", patience=0, mode="max", start_from_epoch=4)
    history = model.fit(
        images, epochs=9, callbacks=[GrowthCallback(GrowthSchedule(epochs_per_rung=1)), stop], verbose=0
    )
    assert model.stage == 2
    assert len(history.epoch) < 9


@pytest.mark.parametrize("cls", [kp.VLAE, kp.BetaVAE])
def test_a_model_that_cannot_grow_is_refused(cls, images):
    settings = {"num_rungs": 2} if cls is kp.VLAE else {"stem": ()}
    model = cls(image_shape=(8, 8, 1), latent_dim=2, channels=4, dense=8, **settings)
    model.compile()
    with pytest.raises(TypeError, match=f"can grow, such as ProgressiveVAE. Received: {cls.__name__}"):
        model.fit(images, callbacks=[GrowthCallback()], verbose=0)
