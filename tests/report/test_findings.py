import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.metrics import RungInformation
from keras_provlae.report.findings import findings
from keras_provlae.report.measurements import Measurements
from keras_provlae.visualization.latent_use import LatentUse


@pytest.fixture
def model(make_model):
    model = make_model()
    model.grow(fade_in_steps=0)
    model.grow(fade_in_steps=0)
    return model


@pytest.fixture
def found():
    return measured()


def measured(mi=(3.0, 2.0, 1.0), total=5.0, active=(True,) * 6, locked=()):
    flow = RungInformation(
        rungs=(3, 2, 1), mi=np.array(mi), standard_error=np.zeros(3), total=total, total_standard_error=0.0,
        i_over=sum(mi) - total, i_over_standard_error=0.0, ceiling=np.log(1000), rows=1000, draws=100,
    )  # fmt: skip
    use = LatentUse(np.ones(6), np.array(active), np.zeros((1, 6)))
    return Measurements(None, None, None, None, None, flow, use, None, set(locked))


def test_a_good_training_has_none(model, found):
    assert findings(model, found, {"loss": [2.0, 1.0], "stage": [0, 1], "alpha": [1.0, 1.0]}) == []
    assert findings(model, found, None) == []


def test_a_rung_that_carries_little(model):
    (sentence,) = findings(model, measured(mi=(3.0, 2.0, 0.099)), None)
    assert sentence.startswith("Rung 1 carries 0.099 nats of the image, less than 0.1")
    assert findings(model, measured(mi=(3.0, 2.0, 0.1)), None) == []


def test_latents_that_are_never_used(model):
    (sentence,) = findings(model, measured(active=(True, False, True, True, True, False)), None)
    assert sentence.startswith("2 of 6 latents are never used")
    assert sentence.endswith("z_3[1], z_1[1].")
    (sentence,) = findings(model, measured(active=(True,) * 5 + (False,)), None)
    assert sentence.startswith("1 of 6 latents is never used")


def test_the_ceiling(model):
    (sentence,) = findings(model, measured(mi=(6.8, 2.0, 1.0), total=6.9), None)
    assert sentence.startswith("I(x; z_3) = 6.80, I(x; z) = 6.90 are at the ceiling, ln 1,000 = 6.91 nats")
    assert findings(model, measured(total=6.7), None) == []


def test_rungs_that_are_still_locked_are_not_blamed_for_it(make_model):
    found = measured(mi=(3.0, 0.0, 0.0), active=(True, True, False, False, False, False), locked=(2, 1))
    assert findings(make_model(), found, None) == ["Rungs 2, 1 are still locked: the training ended at stage 0 of 2."]


def test_a_fade_that_never_finished(make_model, found):
    model = make_model()
    model.grow(fade_in_steps=0)
    model.grow(fade_in_steps=10)
    model.iteration_variable.assign(5)
    (sentence,) = findings(model, found, None)
    assert sentence.startswith(
        "The fade-in of rung 1 never finished: alpha is 0.5 after 5 steps, and the fade takes 10"
    )


def test_a_fade_that_an_unlock_cut_short(model, found):
    history = {"stage": [0, 1, 1, 2], "alpha": [1.0, 0.3, 0.6, 1.0]}
    assert findings(model, found, history) == [
        "The fade-in of stage 1 never finished: alpha was 0.6 when the next rung was unlocked, after epoch 3."
    ]


def test_a_loss_that_is_not_finite(model, found):
    assert findings(model, found, {"loss": [1.0, float("nan"), float("inf")]}) == [
        "The loss was not finite in epoch 2 and others."
    ]


def test_models_that_do_not_grow(make_model, found):
    assert findings(make_model(kp.VLAE), found, None) == []
