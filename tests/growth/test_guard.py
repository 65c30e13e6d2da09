"""Unlocks that do harm, made to; and what is seen of those that do not."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_provlae as kp
from keras_provlae.growth import guard, monitor
from keras_provlae.growth.monitor import WINDOW
from keras_provlae.training.graph_checks import require_finite

FIT = {"batch_size": 8, "verbose": 0}  # five steps an epoch


def numpy(value):
    return np.array(ops.convert_to_numpy(value))


def state_of(model):
    return [*model.weights, *model.optimizer.variables, model.sampling.seed_generator.state]


def state(model):
    return [numpy(variable) for variable in state_of(model)]


class Harm(keras.callbacks.Callback):
    """Spoils the weights at the first step of stage 1, so many times; keeps the state before each unlock."""

    def __init__(self, how, times):
        super().__init__()
        self.how, self.times, self.before = how, times, None
        self.at = 5

    def on_train_begin(self, logs=None):
        self.model.growth_listeners.append(self)

    def after_unlock(self, model):
        pass

    def before_unlock(self, model):
        if self.before is None:
            self.before = state(self.model)

    def on_train_batch_begin(self, batch, logs=None):
        model = self.model
        if self.times and model.stage == 1 and model.iteration == self.at:
            self.times -= 1
            self.how(model)


def fill(name, weight, value):
    def spoil(model):
        layer = next(
            part.get_layer(name) for part in (model.encoder, model.decoder) if name in {x.name for x in part.layers}
        )
        variable = getattr(layer, weight)
        variable.assign(np.full(variable.shape, value))

    return spoil


def without_code(model):
    for name in "mean_2", "log_var_2":
        for weight in "kernel", "bias":
            fill(name, weight, 0.0)(model)


NOT_FINITE = "the loss is not finite"
HARMS = {
    NOT_FINITE: fill("m_2", "kernel", np.nan),
    r"the KL of rung 2 is \S+ nats a latent \(above 100\): .* explode": fill("log_var_2", "bias", 15.0),
    r"the KL of the unlocked rungs fell from \S+ to \S+ nats: a collapse": without_code,
    r"the negative ELBO rose from \S+ to \S+ nats, by \d+% .*: a growth shock": fill("logits", "bias", 9.0),
}


@pytest.fixture
def model(make_model):
    model = make_model(num_rungs=2, beta=0.01)
    model.compile(kp.optimizers.adam(3e-3), run_eagerly=True)
    return model


@pytest.fixture(autouse=True)
def _first_rung_knows_something(model, images):
    """A code with more than 0.1 nats, or its collapse would be none."""
    fill("mean_2", "bias", 2.0)(model)


@pytest.mark.parametrize("problem", HARMS)
def test_an_unlock_that_does_harm_is_taken_back_and_tried_again(model, images, capsys, problem):
    harm = Harm(HARMS[problem], times=1)
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1]), fade_in_steps=4, guard=True)
    seen = []

    class AfterRescue(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if len(growth.shocks) == 2 and not seen:
                seen.append(state(self.model))

    history = model.fit(images, epochs=4, callbacks=[growth, harm, AfterRescue()], **FIT)
    said = " ".join(capsys.readouterr().out.split())
    failed, succeeded = growth.shocks
    for variable, ours, theirs in zip(state_of(model), seen[0], harm.before, strict=True):
        if variable.name not in ("stage", "unlocked_at", "fade_in_steps"):
            np.testing.assert_array_equal(ours, theirs, err_msg=variable.path)
    assert (failed["stage"], failed["iteration"], failed["fade_in_steps"]) == (1, 5, 4)
    assert (succeeded["stage"], succeeded["iteration"], succeeded["fade_in_steps"]) == (1, 5, WINDOW)
    assert "problem" not in succeeded
    assert re.fullmatch(problem, failed["problem"])
    again = (
        "Everything is again as it was before the unlock, at iteration 5, stage 0; attempt 2 fades in over 100 steps."
    )
    assert f"stage 1, {failed['problem']}. {again}" in said
    assert np.isfinite(history.history["loss"][2:]).all()
    assert model.stage == 1
    assert 12 <= model.iteration < 20  # the steps that were taken back are not taken again


def test_after_so_many_attempts_it_stays_as_it_was(model, images):
    harm = Harm(HARMS[NOT_FINITE], times=10)
    growth = kp.GrowthCallback(fade_in_steps=4, guard=kp.GrowthGuard(max_retries=2))
    message = (
        "stage 1, the loss is not finite. Everything is again .* stage 0, and the training stops: 3 attempts failed"
    )
    with pytest.warns(UserWarning, match=message) as warned:
        model.fit(images, epochs=2, callbacks=[growth, harm], **FIT)
    assert len([warning for warning in warned if warning.category is UserWarning]) == 1
    assert [shock["fade_in_steps"] for shock in growth.shocks] == [2, 100, 200]
    assert model.stage == 0
    for ours, theirs in zip(state(model), harm.before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_without_a_guard_it_stops_with_an_error(model, images):
    harm = Harm(HARMS[NOT_FINITE], times=1)
    with pytest.raises(ValueError, match="not finite"):
        model.fit(images, epochs=2, callbacks=[kp.GrowthCallback(), harm], **FIT)
    assert model.check_loss is require_finite  # and not what the guard set


def test_at_stage_0_there_is_nothing_to_go_back_to(model, images):
    HARMS[NOT_FINITE](model)
    with pytest.raises(ValueError, match="stage 0, the loss is not finite, and no unlock of this `fit`"):
        model.fit(images, epochs=2, callbacks=[kp.GrowthCallback(guard=True)], **FIT)
    assert model.check_loss is require_finite  # and not what the guard set


def test_a_compiled_step_is_made_anew_for_a_guard(make_model, images):
    model = make_model(num_rungs=2)
    model.compile()
    model.fit(images, **FIT)
    harm = Harm(HARMS[NOT_FINITE], times=1)
    schedule = kp.GrowthSchedule(unlock_iterations=[5])
    growth = kp.GrowthCallback(schedule, guard=True)
    model.fit(images, epochs=2, callbacks=[growth, harm], **FIT)
    assert [shock.get("problem") for shock in growth.shocks] == ["the loss is not finite", None]
    assert model.stage == 1
    HARMS[NOT_FINITE](model)
    with pytest.raises(ValueError, match="not finite"):
        model.fit(images, **FIT)


def test_what_came_before_and_after_an_unlock_is_seen_and_logged(model, images):
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[2]), fade_in_steps=4)
    losses = {}

    class Loss(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.setdefault(self.model.iteration, -float(self.model.elbo_tracker.result()))

    history = model.fit(images, epochs=4, callbacks=[growth, Loss()], **FIT).history
    (shock,) = growth.shocks
    assert {name: shock[name] for name in ("stage", "iteration", "fade_in_steps")} == {
        "stage": 1,
        "iteration": 10,
        "fade_in_steps": 4,
    }
    assert shock["before"] == pytest.approx(losses[10], rel=1e-5)  # the mean of epoch 1
    assert [steps for steps, _ in shock["after"]] == [1, 2, 4, 5, 10]
    assert shock["after"][0][1] == pytest.approx(losses[11], rel=1e-5)
    assert shock["after"][3][1] == pytest.approx(losses[15], rel=1e-5)
    assert history["growth_shock"][:2] == [0.0, 0.0]
    (whole_epoch,) = (value for steps, value in shock["after"] if steps == 5)
    rise = (whole_epoch - shock["before"]) / shock["before"]
    assert history["growth_shock"][2] == pytest.approx(max(rise, 0.0), rel=1e-6)


@pytest.mark.parametrize("validation_images", [8, 40])
def test_validation_does_not_disturb_what_is_seen(model, images, monkeypatch, validation_images):
    """It has the running means begin anew before the end of the epoch; and windows are shorter than these epochs."""
    for module in guard, monitor:
        monkeypatch.setattr(module, "WINDOW", 8)
    losses = []

    class Loss(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(-float(self.model.elbo_tracker.total))

        def on_epoch_begin(self, epoch, logs=None):
            losses.append(0.0)

    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1]), fade_in_steps=4)
    fit = {"epochs": 2, "steps_per_epoch": 20, "validation_data": (images[:validation_images],), "validation_steps": 1}
    ds = tf.data.Dataset.from_tensor_slices(images).batch(2).repeat()
    model.fit(ds, **fit, verbose=0, callbacks=[growth, Loss()])
    (shock,) = growth.shocks
    sums = losses[:21]  # of the first epoch, before and after each step
    assert shock["before"] == pytest.approx((sums[20] - sums[16]) / 8, rel=1e-4)  # looks at 8 and 16, then the end
    assert [steps for steps, _ in shock["after"]] == [1, 2, 4, 8]


def test_a_loss_that_breaks_before_validation_is_seen(model, images):
    harm = Harm(HARMS[NOT_FINITE], times=1)
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1]), fade_in_steps=4, guard=True)
    model.evaluate(images, verbose=0)  # a test step that was made without a guard
    fit = {
        "validation_data": (images,),
        "epochs": 4,
        "batch_size": 40,
    }  # one step an epoch, the harm in the first of stage 1
    harm.at = 1
    history = model.fit(images, verbose=0, callbacks=[growth, harm], **fit).history
    assert [shock.get("problem") for shock in growth.shocks] == [NOT_FINITE, None]
    assert np.isfinite(history["val_loss"]).all()


def test_a_problem_at_the_end_is_taken_back_without_another_attempt(model, images):
    harm = Harm(HARMS[NOT_FINITE], times=1)
    harm.at = 9
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1]), fade_in_steps=4, guard=True)
    with pytest.warns(UserWarning, match="stage 1, the loss is not finite.* the training stops: 1 attempt failed"):
        model.fit(images, epochs=2, callbacks=[growth, harm], **FIT)
    assert (model.stage, model.iteration) == (0, 5)
    for ours, theirs in zip(state(model), harm.before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_single_batches_are_no_shock(model, images, monkeypatch):
    """Every other batch is far worse than the mean before: noise, which means of one or two steps show."""
    for module in guard, monitor:
        monkeypatch.setattr(module, "WINDOW", 16)
    blank = np.concatenate([images[:2] * 0, np.ones_like(images[:2])])
    ds = tf.data.Dataset.from_tensor_slices(blank).batch(2).repeat()
    growth = kp.GrowthCallback(
        kp.GrowthSchedule(unlock_iterations=[17]), fade_in_steps=8, guard=kp.GrowthGuard(max_shock=0.05)
    )
    fill("logits", "bias", -1.0)(model)
    model.optimizer.learning_rate = 0.0
    model.fit(ds, epochs=1, steps_per_epoch=40, verbose=0, callbacks=[growth])
    (shock,) = growth.shocks
    assert max(value for _, value in shock["after"]) > 1.2 * shock["before"]
    assert "problem" not in shock


def test_a_schedule_of_steps_goes_on_from_the_step_that_was_gone_back_to(make_model, images):
    model = make_model(num_rungs=3, beta=0.01)
    model.compile(kp.optimizers.adam(3e-3), run_eagerly=True)
    harm = Harm(HARMS[NOT_FINITE], times=1)
    harm.at = 8
    schedule = kp.GrowthSchedule(unlock_iterations=[5, 12])
    growth = kp.GrowthCallback(schedule, fade_in_steps=2, guard=True)
    ds = tf.data.Dataset.from_tensor_slices(images).batch(2).repeat()
    model.fit(ds, epochs=1, steps_per_epoch=20, verbose=0, callbacks=[growth, harm])
    assert [(shock["stage"], shock["iteration"]) for shock in growth.shocks] == [(1, 5), (1, 5), (2, 12)]
    assert model.iteration == 16  # of 20: seen at the ninth step, four were taken back


def test_a_model_that_does_not_fade_in_has_one_attempt(make_model, images):
    model = make_model(kp.TeacherStudentVAE, num_rungs=2, stem=(4,))
    model.compile(run_eagerly=True)
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1]), guard=True)
    harm = Harm(fill("mean_1", "kernel", np.nan), times=1)
    with pytest.warns(UserWarning, match="the training stops: 1 attempt failed"):
        model.fit(images, epochs=3, callbacks=[growth, harm], **FIT)
    assert model.stage == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_shock": 0}, "max_shock=0"),
        ({"max_kl": float("nan")}, "max_kl=nan"),
        ({"min_kl_share": 1.0}, "min_kl_share=1.0"),
        ({"max_retries": 0}, "max_retries=0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        kp.GrowthGuard(**settings)


def test_a_guard_is_a_guard():
    with pytest.raises(TypeError, match="max_retries=1.5"):
        kp.GrowthGuard(max_retries=1.5)
    with pytest.raises(TypeError, match="`guard` must be True, False or a GrowthGuard. Received: guard='on'"):
        kp.GrowthCallback(guard="on")
