import dataclasses
import types

import numpy as np
import pytest

from keras_provlae.metrics import ContextEffects, RungInformation
from keras_provlae.report.measurements import Measurements
from keras_provlae.report.model_warnings import model_warnings
from keras_provlae.visualization import Snapshot
from keras_provlae.visualization.latent_information import LatentUse


def stub(stage=2, alpha=1.0, iteration=100, fade_in_steps=0, grows=True, optimizer=None, widths=(2, 2, 2)):
    """The state that the warnings read of a model."""
    stops = np.cumsum(widths)
    slices = [(len(widths) - index, slice(stop - widths[index], stop)) for index, stop in enumerate(stops)]
    return types.SimpleNamespace(
        stage=stage, alpha=alpha, iteration=iteration, fade_in_steps=fade_in_steps, grows=grows, optimizer=optimizer,
        num_rungs=len(widths), rung_slices=slices,
    )  # fmt: skip


@pytest.fixture
def model():
    return stub()


@pytest.fixture
def found():
    return measured()


def measured(mi=(3.0, 2.0, 1.0), total=5.0, active=(True,) * 6, locked=(), factors=None):
    flow = RungInformation(
        rungs=(3, 2, 1), mi=np.array(mi), standard_error=np.zeros(3), total=total, total_standard_error=0.0,
        i_over=sum(mi) - total, i_over_standard_error=0.0, ceiling=np.log(1000), rows=1000, draws=100,
    )  # fmt: skip
    use = LatentUse(np.array(mi).repeat(2) * 0.6, np.array(active), np.zeros((1, 6)))
    slices = [(3, slice(0, 2)), (2, slice(2, 4)), (1, slice(4, 6))]
    return Measurements(None, None, factors, None, None, flow, use, None, set(locked), slices)


def test_factors_that_do_not_vary(model):
    assert model_warnings(model, measured(factors=np.array([[1, 2], [1, 3]]))) == []
    (sentence,) = model_warnings(model, measured(factors=np.ones((3, 2))))
    assert sentence.startswith("Every factor has one value in these images")


def test_a_flipped_code(model, found):
    effects = ContextEffects(
        within=np.array([[0.0, 0.9, 0, 0, 0, 0], [0, 0, 0, 0.8, 0, 0]]),
        over=np.array([[0.0, 0.9, 0, 0, 0, 0], [0, 0.1, 0, 0.02, 0, 0]]),
        agreement=np.full((2, 6), 0.55),
        contexts=(10, 10),
        factor_names=("hue", "scale"),
    )
    (sentence,) = model_warnings(model, found._replace(contexts=effects))
    assert sentence.startswith("z_2[1] follows scale only within a context: it explains 80% of the latent's variance")
    assert "at most 10% of any latent's over all" in sentence
    assert "the same way in only 55% of the contexts" in sentence


def test_a_good_training_has_no_warnings(model, found):
    assert model_warnings(model, found, {"loss": [2.0, 1.0], "stage": [0, 1], "alpha": [1.0, 1.0]}) == []
    assert model_warnings(model, found, None) == []


def test_a_rung_that_carries_little(model):
    (sentence,) = model_warnings(model, measured(mi=(3.0, 2.0, 0.099)), None)
    assert sentence.startswith("Rung 1 (0.099) carries less than 0.1 nats about the image. Possible causes: the other")
    (sentence,) = model_warnings(model, measured(mi=(3.0, -0.05, 0.0)))
    assert sentence.startswith("Rungs 2 (0.000), 1 (0.000) carry less")
    assert model_warnings(model, measured(mi=(3.0, 2.0, 0.1)), None) == []


def test_latents_that_are_never_used(model):
    (sentence,) = model_warnings(model, measured(active=(True, False, True, True, True, False)), None)
    assert sentence.startswith("2 of 6 latents are never used")
    assert sentence.endswith("z_3[1], z_1[1].")
    (sentence,) = model_warnings(model, measured(active=(True,) * 5 + (False,)), None)
    assert sentence.startswith("1 of 6 latents is never used")


def test_the_ceiling(model):
    (sentence,) = model_warnings(model, measured(mi=(6.8, 2.0, 1.0), total=6.9), None)
    assert sentence.startswith("I(x; z_3) = 6.80, I(x; z) = 6.90 are within 2% of the ceiling: 1,000 images")
    assert model_warnings(model, measured(total=6.7), None) == []


def test_locked_rungs_have_no_other_warning():
    found = measured(mi=(3.0, 0.0, 0.0), active=(True, True, False, False, False, False), locked=(2, 1))
    assert model_warnings(stub(stage=0), found) == ["Rungs 2, 1 are still locked: the training ended at stage 0 of 2."]


def test_a_fade_that_never_finished(found):
    (sentence,) = model_warnings(stub(alpha=0.5, fade_in_steps=10), found)
    assert sentence == "The fade-in of rung 1 never finished: alpha is 0.5, after 5 of 10 steps."


def test_a_fade_that_an_unlock_cut_short(model, found):
    history = {"stage": [0, 1, 1, 2], "alpha": [1.0, 0.3, 0.6, 1.0]}
    (sentence,) = model_warnings(model, found, history)
    assert sentence.startswith(
        "The fade-in of stage 1 may never have finished: alpha was 0.6 at the last step of epoch 3"
    )
    assert model_warnings(model, found, {**history, "alpha": [1.0, 0.3, 0.95, 1.0]}) == []  # the last step makes it 1
    known = [snapshot(0, 10, 1.0), snapshot(1, 20, 0.2), snapshot(1, 30, 0.25), snapshot(2, 40, 1.0)]
    (sentence,) = model_warnings(model, found, history, known)
    assert sentence.startswith("The fade-in of rung 2 (stage 1) never finished: alpha was 0.25 after 30 steps")
    known[2] = snapshot(1, 30, 1.0)
    assert model_warnings(model, found, history, known) == []  # the snapshots know better than the history


def snapshot(stage, iteration, alpha):
    return Snapshot(stage, alpha, iteration, np.array([3, 2, 1]), None, None, None, 0.0, 1000)


def test_a_loss_that_is_not_finite(model, found):
    assert model_warnings(model, found, {"loss": [1.0, float("nan"), float("inf")]}) == [
        "The loss was not finite in epoch 2 and others."
    ]


def test_a_loss_that_was_still_falling(model, found):
    stages = [0] * 5 + [1] * 10
    falling = {"loss": [900.0] * 5 + [100.0 - 2 * epoch for epoch in range(10)], "stage": stages}
    (sentence,) = model_warnings(model, found, falling)
    assert sentence.startswith("The loss was still falling when the training ended: from 86 to 82 in the last 2 epochs")
    assert (
        model_warnings(
            model, found, {"loss": [900.0] * 5 + [100.0 - 0.2 * epoch for epoch in range(10)], "stage": stages}
        )
        == []
    )


def test_a_model_that_was_never_trained(found):
    warning = "The model was never trained: it has taken no optimizer step."
    assert model_warnings(stub(iteration=0), found) == [warning]
    assert model_warnings(stub(iteration=0, grows=False, optimizer="adam"), found) == [warning]
    assert model_warnings(stub(iteration=0, grows=False), found) == []  # not known without an optimizer


def test_few_images(model, found):
    flow = dataclasses.replace(found.flow, rows=99)
    (sentence,) = model_warnings(model, found._replace(flow=flow))
    assert sentence.startswith("Only 99 images were measured")


def test_kl_that_carries_nothing(model, found):
    use = found.use._replace(kl=np.array([2.0, 2.0, 1.0, 1.0, 2.6, 2.6]))
    (sentence,) = model_warnings(model, found._replace(use=use))
    assert sentence.startswith("Rung 1 pays 5.20 nats of KL but carries only 1.00")


def test_many_latents_are_named_by_their_ends():
    (sentence,) = model_warnings(stub(stage=0, widths=(6,)), measured(active=(True, *[False] * 5)))
    assert sentence.endswith("z_1[1] .. z_1[5].")
