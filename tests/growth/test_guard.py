"""Harmful unlocks are found and undone; harmless ones are measured."""

import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_provlae as kp
from keras_provlae.growth.guard import GuardedGrowth
from keras_provlae.growth.monitor import WINDOW, GrowthMonitor, Seen
from keras_provlae.training.graph_checks import require_finite
from tests.growth.scripted_model import ScriptedVAE, SetTerms

FIT = {"batch_size": 20, "verbose": 0}  # two steps an epoch


def state_of(model):
    return [*model.weights, *model.optimizer.variables, model.sampling.seed_generator.state]


def state(model):
    return [np.array(ops.convert_to_numpy(variable)) for variable in state_of(model)]


def assert_restored(model, values, before):
    """All but the counters of a second attempt."""
    for variable, ours, theirs in zip(state_of(model), values, before, strict=True):
        if variable.name not in ("stage", "unlocked_at", "fade_in_steps"):
            np.testing.assert_array_equal(ours, theirs, err_msg=variable.path)


class Harm(keras.callbacks.Callback):
    """Spoils a weight at one step of stage 1, several times; keeps the state before the first unlock."""

    def __init__(self, spoil, times=1, at=2):
        super().__init__()
        self.spoil, self.times, self.at = spoil, times, at
        self.before = self.after_rescue = None

    def on_train_begin(self, logs=None):
        self.model.growth_listeners.append(self)
        self.unlocks = 0

    def before_unlock(self, model):
        if self.before is None:
            self.before = state(model)

    def after_unlock(self, model):
        self.unlocks += 1
        if self.unlocks == 2:
            self.after_rescue = state(model)

    def on_train_batch_begin(self, batch, logs=None):
        model = self.model
        if self.times and model.stage == 1 and model.iteration == self.at:
            self.times -= 1
            self.spoil(model)


def set_terms(*terms):
    return lambda model: model.terms.assign(terms)


def fill(name, weight, value):
    def spoil(model):
        networks = model.encoder, model.decoder
        layer = next(network.get_layer(name) for network in networks if name in {x.name for x in network.layers})
        variable = getattr(layer, weight)
        variable.assign(np.full(variable.shape, value))

    return spoil


@pytest.fixture(scope="module")
def scripted():
    model = ScriptedVAE()
    return model, state(model)


@pytest.fixture
def model(scripted):
    """A scripted model of two rungs as it was built."""
    model, values = scripted
    for variable, value in zip(state_of(model), values, strict=True):
        variable.assign(value)
    del model.growth_listeners[:]
    return model


NOT_FINITE = "the loss is not finite"
BREAK = set_terms(np.nan, 2, 2)


# === The rules ===


def seen(negative_elbo=100.0, kl=4.0, rungs=(4.0, 4.0), before=(100.0, 4.0), fading=True, settled=True):
    means = {"negative_elbo": negative_elbo, "kl": kl, "rungs": list(rungs)}
    before = before and dict(zip(("negative_elbo", "kl"), before, strict=True))
    return Seen(iteration=9, means=means, before=before, fading=fading, settled=settled, since_unlock=4)


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({}, None),
        ({"negative_elbo": math.inf}, NOT_FINITE),
        ({"negative_elbo": math.nan, "settled": False, "before": None}, NOT_FINITE),
        ({"rungs": (200.0, 100.0)}, None),
        ({"rungs": (200.1, 4.0), "before": None}, r"the KL of rung 2 is 100.* nats a latent \(above 100\): .* explode"),
        ({"rungs": (4.0, 101.0)}, "the KL of rung 1 is 101 nats a latent .*"),
        ({"kl": 0.039}, "the KL of the unlocked rungs fell from 4 to 0.039 nats: a collapse"),
        ({"kl": 0.041}, None),
        ({"kl": 0.0, "before": (100.0, 0.09)}, None),  # there was no code that could collapse
        ({"kl": 0.0, "settled": False}, None),
        ({"kl": 0.0, "fading": False}, ".* a collapse"),
        ({"negative_elbo": 120.1}, r"the negative ELBO rose from 100.0 to 120.1 nats, by 20% .*: a growth shock"),
        ({"negative_elbo": 119.9}, None),
        ({"negative_elbo": 150.0, "fading": False}, None),
        ({"negative_elbo": 150.0, "settled": False}, None),
        ({"negative_elbo": 150.0, "before": None}, None),
        ({"negative_elbo": 0.3, "before": (0.2, 4.0)}, None),  # a rise is a share of 1 nat at least
        ({"negative_elbo": -70.0, "before": (-100.0, 4.0)}, ".* by 30% .*"),
    ],
)
def test_the_rules_of_a_guard(facts, problem):
    found = kp.GrowthGuard().problem(seen(**facts), unlocked=2, widths=(2, 1))
    assert found == problem or re.fullmatch(problem, found)


def test_the_guard_ignores_the_kl_of_locked_rungs():
    assert kp.GrowthGuard().problem(seen(rungs=(4.0, 1e6)), unlocked=1, widths=(2, 1)) is None


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"max_shock": 0}, ValueError, "max_shock=0"),
        ({"max_kl": float("nan")}, ValueError, "max_kl=nan"),
        ({"min_kl_share": 1.0}, ValueError, "min_kl_share=1.0"),
        ({"max_retries": 0}, ValueError, "max_retries=0"),
        ({"max_retries": 1.5}, TypeError, "max_retries=1.5"),
    ],
)
def test_bad_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        kp.GrowthGuard(**settings)
    with pytest.raises(TypeError, match="`guard` must be True, False or a GrowthGuard. Received: guard='on'"):
        kp.GrowthCallback(guard="on")


# === Undoing an unlock ===


HARMS = {
    NOT_FINITE: BREAK,
    r"the KL of rung 1 is 150 nats a latent .*": set_terms(100, 2, 300),
    r"the KL of the unlocked rungs fell .*: a collapse": set_terms(100, 0, 0.01),
    r"the negative ELBO rose .*: a growth shock": set_terms(130, 2, 2),
}


@pytest.mark.parametrize("problem", HARMS)
def test_a_harmful_unlock_is_undone_and_tried_again(model, images, capsys, problem):
    harm = Harm(HARMS[problem])
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1]), fade_in_steps=4, guard=True)
    history = model.fit(images, epochs=3, callbacks=[growth, harm], **FIT)
    printed = " ".join(capsys.readouterr().out.split())
    failed, succeeded = growth.shocks
    assert_restored(model, harm.after_rescue, harm.before)
    assert (failed["stage"], failed["iteration"], failed["fade_in_steps"]) == (1, 2, 2)
    assert (succeeded["stage"], succeeded["iteration"], succeeded["fade_in_steps"]) == (1, 2, WINDOW)
    assert failed["before"] == succeeded["before"] == pytest.approx(102)
    assert "problem" not in succeeded
    assert re.fullmatch(problem, failed["problem"])
    again = (
        "Everything is again as it was before the unlock, at iteration 2, stage 0; attempt 2 fades in over 100 steps."
    )
    assert f"stage 1, {failed['problem']}. {again}" in printed
    assert np.isfinite(history.history["loss"][2:]).all()
    assert model.stage == 1
    taken_at = 1 if "loss is" in problem or "latent" in problem else 2  # steps until it was seen
    assert model.iteration == 6 - taken_at  # undone steps are not repeated


@pytest.mark.usefixtures("acceleration")
def test_a_real_loss_that_is_not_finite_is_undone(make_model, images):
    model = make_model(num_rungs=2, channels=2, dense=None)
    model.compile(run_eagerly=True)
    harm = Harm(fill("m_2", "kernel", np.nan), at=1)
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1]), fade_in_steps=4, guard=True)
    history = model.fit(images[:4], batch_size=2, steps_per_epoch=1, epochs=3, verbose=0, callbacks=[growth, harm])
    assert [shock.get("problem") for shock in growth.shocks] == [NOT_FINITE, None]
    assert_restored(model, harm.after_rescue, harm.before)
    assert np.isfinite(history.history["loss"][2])


def test_a_stage_under_too_much_pressure_is_undone(make_model, images):
    model = make_model(num_rungs=2, channels=2, dense=None)
    model.compile(run_eagerly=True)
    annealing = kp.callbacks.Annealing(beta={0: 2.0, 1: 3e38})  # times a KL of some nats: not a float32
    growth = kp.GrowthCallback(
        kp.GrowthSchedule(unlock_epochs=[1]), fade_in_steps=4, guard=kp.GrowthGuard(max_retries=1)
    )
    with pytest.warns(UserWarning, match="the loss is not finite.*2 attempts failed"):
        model.fit(images[:8], batch_size=2, epochs=3, verbose=0, callbacks=[growth, annealing])
    assert [shock["problem"] for shock in growth.shocks] == [NOT_FINITE, NOT_FINITE]
    assert (model.stage, model.iteration, model.beta) == (0, 4, 2.0)
    assert all(np.isfinite(np.array(weight)).all() for weight in model.get_weights())


def test_after_its_last_attempt_the_model_stays_as_it_was(model, images):
    harm = Harm(BREAK, times=10, at=5)
    growth = kp.GrowthCallback(fade_in_steps=4, guard=kp.GrowthGuard(max_retries=2))
    message = (
        "stage 1, the loss is not finite. Everything is again .* stage 0, and the training stops: 3 attempts failed"
    )
    with pytest.warns(UserWarning, match=message) as warned:
        model.fit(images, epochs=2, batch_size=8, verbose=0, callbacks=[growth, harm])
    assert len([warning for warning in warned if warning.category is UserWarning]) == 1
    assert [shock["fade_in_steps"] for shock in growth.shocks] == [2, 100, 200]
    assert (model.stage, model.iteration) == (0, 5)
    assert_restored(model, state(model), harm.before)


def test_a_problem_at_the_end_is_undone_without_another_attempt(model, images):
    harm = Harm(BREAK, at=3)
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1]), fade_in_steps=4, guard=True)
    with pytest.warns(UserWarning, match="stage 1, the loss is not finite.* the training stops: 1 attempt failed"):
        model.fit(images, epochs=2, callbacks=[growth, harm], **FIT)
    assert (model.stage, model.iteration) == (0, 2)
    assert_restored(model, state(model), harm.before)


def test_a_model_that_does_not_fade_in_has_one_attempt(model, images, monkeypatch, capsys):
    assert not kp.TeacherStudentVAE.fades_in
    harm = Harm(BREAK)
    monkeypatch.setattr(model, "fades_in", False)
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1]), guard=True, verbose=1)
    with pytest.warns(UserWarning, match="the training stops: 1 attempt failed"):
        model.fit(images, epochs=3, callbacks=[growth, harm], **FIT)
    assert model.stage == 0
    assert "Stage 1: rung 1 unlocked, without a fade-in" in capsys.readouterr().out


def test_without_a_guard_a_loss_that_is_not_finite_is_an_error(model, images):
    with pytest.raises(kp.NonFiniteLossError, match="not finite"):
        model.fit(images, epochs=2, callbacks=[kp.GrowthCallback(), Harm(BREAK)], **FIT)


def test_before_the_first_unlock_a_guard_cannot_undo_anything(model, images):
    BREAK(model)
    with pytest.raises(kp.NonFiniteLossError, match="stage 0, the loss is not finite, and no unlock of this `fit`"):
        model.fit(images, epochs=2, callbacks=[kp.GrowthCallback(guard=True)], **FIT)
    assert model.check_loss is require_finite  # and not what the guard set


@pytest.mark.usefixtures("acceleration")
def test_a_compiled_step_is_traced_for_a_guard_and_again_without_one(images):
    model = ScriptedVAE(run_eagerly=False)
    model.fit(images, **FIT)
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_iterations=[2]), guard=True)
    model.fit(images, epochs=2, callbacks=[growth, Harm(BREAK)], **FIT)
    assert [shock.get("problem") for shock in growth.shocks] == [NOT_FINITE, None]
    assert model.stage == 1
    BREAK(model)
    steps = model.iteration
    with pytest.raises(kp.NonFiniteLossError, match="not finite"):
        model.fit(images, **FIT)
    assert model.iteration == steps  # the step itself stopped, not the check at the end of the epoch


@pytest.mark.parametrize(
    ("fade_in_steps", "since_unlock", "undone"),
    [(10, 1000, True), (10, 1001, False), (600, 1200, True), (600, 1201, False)],
)
def test_an_unlock_can_be_undone_until_long_after_its_fade_in(model, fade_in_steps, since_unlock, undone):
    monitor = GrowthMonitor(model)
    guarded = GuardedGrowth(kp.GrowthGuard(), monitor)
    model.growth_listeners += [monitor, guarded]
    model.grow(fade_in_steps)
    exploded = seen(kl=1e3, rungs=(1e3, 4.0))._replace(since_unlock=since_unlock)
    assert guarded.undoes(model, exploded, ends_fit=False) == undone


def test_a_loss_that_breaks_before_validation_is_seen(model, images):
    harm = Harm(BREAK, at=1)
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1]), fade_in_steps=4, guard=True)
    fit = {"validation_data": (images,), "epochs": 4, "batch_size": 40}  # one step an epoch
    history = model.fit(images, verbose=0, callbacks=[growth, harm], **fit).history
    assert [shock.get("problem") for shock in growth.shocks] == [NOT_FINITE, None]
    assert np.isfinite(history["val_loss"]).all()


def test_a_schedule_of_steps_goes_on_from_the_restored_step(images):
    model, harm = ScriptedVAE(num_rungs=3), Harm(set_terms(np.nan, 2, 2, 2), at=4)
    schedule = kp.GrowthSchedule(unlock_iterations=[1, 5])
    growth = kp.GrowthCallback(schedule, fade_in_steps=2, guard=True)
    model.fit(images, batch_size=4, verbose=0, callbacks=[growth, harm])
    assert [(shock["stage"], shock["iteration"]) for shock in growth.shocks] == [(1, 1), (1, 1), (2, 5)]
    assert model.iteration == 6  # of 10: four steps were undone when the fifth was due


def test_undone_steps_count_for_the_length_of_an_epoch(images):
    """The fade of stage 2 is half of two epochs of two steps, though both steps of epoch 1 were undone."""
    model, harm = ScriptedVAE(num_rungs=3), Harm(set_terms(np.nan, 2, 2, 2), at=3)
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1, 2]), guard=True)
    model.fit(images, epochs=4, callbacks=[growth, harm], **FIT)
    assert [(shock["stage"], shock["fade_in_steps"]) for shock in growth.shocks] == [(1, 1), (1, WINDOW), (2, 2)]


# === The loss around an unlock ===


def test_the_loss_before_and_after_an_unlock_is_recorded_and_logged(model, images):
    """The reconstruction rises by 1 nat a step, on top of a KL of 2 nats a rung."""
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[2]), fade_in_steps=4)
    fit = {"batch_size": 8, "epochs": 4, "verbose": 0}  # five steps an epoch
    history = model.fit(images, callbacks=[growth, SetTerms(lambda step: step)], **fit).history
    (shock,) = growth.shocks
    assert (shock["stage"], shock["iteration"], shock["fade_in_steps"]) == (1, 10, 4)
    assert shock["before"] == pytest.approx(7 + 2)  # the mean of the steps 5 .. 9
    after = {steps: pytest.approx(10 + (steps - 1) / 2 + 4) for steps in (1, 2, 4, 5)}
    assert dict(shock["after"]) == {**after, 10: pytest.approx(17 + 4)}  # means of the epoch so far
    np.testing.assert_allclose(history["growth_shock"], [0, 0, (16 - 9) / 9, (21 - 9) / 9], rtol=1e-5)


def test_validation_does_not_disturb_what_is_recorded(images):
    """Validation resets the running means before the end of an epoch; these epochs are longer than a window."""
    growth = kp.GrowthCallback(kp.GrowthSchedule(unlock_epochs=[1]), fade_in_steps=4)
    fit = {"epochs": 2, "steps_per_epoch": 160, "validation_data": (np.zeros((320, 8, 8, 1), "float32"),)}
    ds = tf.data.Dataset.from_tensor_slices(images).batch(2).repeat()
    model = ScriptedVAE(run_eagerly=False)
    model.fit(ds, **fit, verbose=0, callbacks=[growth, SetTerms(lambda step: step)])
    (shock,) = growth.shocks
    assert shock["before"] == pytest.approx(np.mean(range(100, 160)) + 2)  # from the look at step 100 to the end
    assert [steps for steps, _ in shock["after"]] == [1, 2, 4, 8, 16, 32, 64]
    assert shock["after"][-1][1] == pytest.approx(np.mean(range(168, 224)) + 4)  # at least 50 steps, between two looks


def test_single_batches_are_no_shock(images):
    """Every other batch is far worse than the mean: noise, which means over one or two steps show."""
    growth = kp.GrowthCallback(
        kp.GrowthSchedule(unlock_iterations=[101]), fade_in_steps=8, guard=kp.GrowthGuard(max_shock=0.05)
    )
    ds = tf.data.Dataset.from_tensor_slices(images).batch(2).repeat()
    noise = SetTerms(lambda step: 100 + 40 * (step % 2))
    model = ScriptedVAE(run_eagerly=False)
    model.fit(ds, epochs=1, steps_per_epoch=180, verbose=0, callbacks=[growth, noise])
    (shock,) = growth.shocks
    assert max(value for _, value in shock["after"]) > 1.15 * shock["before"]
    assert "problem" not in shock
