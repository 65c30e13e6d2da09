"""Growth by the validation ELBO: on made-up logs, and in a `fit`."""

from types import SimpleNamespace

import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.growth.auto import AutoGrowth
from tests.growth.scripted_model import ScriptedVAE


class Growing(SimpleNamespace):
    """Stand-in for a growing model: its stage."""

    def __init__(self, num_rungs, stage):
        super().__init__(num_rungs=num_rungs, stage=stage, alpha=1.0)

    @property
    def is_grown(self):
        return self.stage == self.num_rungs - 1

    @property
    def unlocked_rungs(self):
        return list(range(self.num_rungs, self.num_rungs - self.stage - 1, -1))


class Epochs:
    """Tells an `AutoGrowth` of made-up epochs, and grows a model when it says so."""

    def __init__(self, auto, num_rungs=3):
        self.auto = auto
        self.model = Growing(num_rungs, stage=0)
        self.unlocks = []

    def train(self, elbos, kl=1.0, alpha=1.0):
        for elbo in elbos:
            self.model.alpha = alpha
            kls = {f"val_kl_rung_{rung}": kl for rung in range(1, self.model.num_rungs + 1)}
            if self.auto.end_epoch(self.model, {"val_elbo": elbo, **kls}):
                self.model.stage += 1
                self.unlocks.append(elbo)
        return self.unlocks


def test_a_rung_is_unlocked_when_the_elbo_stops_improving():
    epochs = Epochs(AutoGrowth(patience=2, min_delta=1.0))
    assert epochs.train([-100, -90, -89.5, -88.5]) == []  # -88.5 is the first beyond -90 + 1
    assert epochs.train([-88.0, -87.6]) == [-87.6]  # two epochs, no more than 1 above
    assert epochs.model.stage == 1


def test_a_fade_in_does_not_use_up_the_patience():
    epochs = Epochs(AutoGrowth(patience=2))
    epochs.train([-100])
    assert epochs.train([-120, -120, -120], alpha=0.5) == []
    assert epochs.train([-110]) == []
    assert epochs.train([-110]) == [-110]


def test_every_stage_has_its_own_best():
    epochs = Epochs(AutoGrowth(patience=1))
    epochs.train([-80, -80])
    assert epochs.model.stage == 1
    assert epochs.train([-95]) == [-80]  # worse than stage 0, the best of this one
    assert epochs.train([-90, -90]) == [-80, -90]


def test_growth_ends_with_a_rung_that_carries_nothing(capsys):
    auto = AutoGrowth(patience=1, min_nats=0.1)
    epochs = Epochs(auto)
    epochs.train([-80, -80])
    epochs.train([-80, -80, -80, -80], kl=0.01)
    assert epochs.model.stage == 1
    assert "Rung 2 carries 0.01 nats, less than 0.1: the growth ends there." in capsys.readouterr().out
    logs = {"val_kl_rung_3": 5.0, "val_kl_rung_2": 0.01, "val_kl_rung_1": 9.0}
    advice = auto.end(epochs.model, logs)
    assert (advice.num_rungs, advice.latent_dim, advice.fully_grown) == (1, None, False)
    assert str(advice) == "Nats on validation images: rung 3 5.00, rung 2 0.01. Suggested: num_rungs=1."
    assert auto.end(epochs.model, {}) is None  # nothing was validated
    auto.begin()
    assert auto.ended is None


def test_when_all_rungs_are_used_one_more_is_worth_a_try():
    auto = AutoGrowth()
    model = Growing(num_rungs=2, stage=1)
    advice = auto.end(model, {"val_kl_rung_2": 5.0, "val_kl_rung_1": 1.0})
    assert advice.num_rungs == 2
    assert str(advice).endswith("Suggested: num_rungs=2, or one rung more: every rung is used.")


def test_the_widths_are_those_of_the_active_latents(make_model, images):
    """Latents whose means vary; a constant mean says nothing, whatever its KL."""
    model = make_model(latent_dim=(3, 2, 1))

    def set_means(rung, scales):
        layer = model.encoder.get_layer(f"mean_{rung}")
        layer.kernel.assign(100 * np.ones(layer.kernel.shape) * scales)
        layer.bias.assign(np.full(len(scales), 3.0))

    for rung, scales in {3: [1.0], 2: [0.0, 0.0], 1: [1.0, 0.0, 2.0]}.items():
        set_means(rung, scales)
    model.grow(fade_in_steps=0, to_stage=2)
    advice = AutoGrowth(images=images).end(model, {"val_kl_rung_3": 0.5, "val_kl_rung_2": 0.0, "val_kl_rung_1": 2.5})
    assert advice.used_latents == {3: 1, 2: 0, 1: 2}
    assert (advice.num_rungs, advice.latent_dim) == (1, (1,))
    assert "Latents in use: rung 3 1, rung 2 0, rung 1 2. Suggested: num_rungs=1, latent_dim=(1,)." in str(advice)
    kls = {"val_kl_rung_3": 0.5, "val_kl_rung_2": 0.2, "val_kl_rung_1": 2.5}
    set_means(2, [1.0, 1.0])
    assert AutoGrowth(images=images).end(model, kls).latent_dim == (2, 2, 1)


def test_a_training_grows_by_itself(images, capsys):
    model = ScriptedVAE()  # its ELBO never improves
    growth = kp.GrowthCallback(AutoGrowth(patience=2, min_delta=5.0), fade_in_steps=0)
    fit = {"batch_size": 40, "epochs": 5, "validation_data": (images,), "verbose": 0}
    history = model.fit(images, callbacks=[growth], **fit).history
    assert history["stage"] == [0, 0, 0, 1, 1]
    assert growth.auto.advice.num_rungs == 2
    assert str(growth.auto.advice) in capsys.readouterr().out
    assert [shock["stage"] for shock in growth.shocks] == [1]


def test_a_rung_below_an_empty_one_does_not_count():
    advice = AutoGrowth().end(Growing(num_rungs=3, stage=2), {f"val_kl_rung_{r}": r % 2 for r in (1, 2, 3)})
    assert (advice.num_rungs, advice.fully_grown) == (1, False)


def test_bad_images_are_refused_before_the_first_epoch(make_model, images):
    model = make_model()
    model.compile(run_eagerly=True)
    growth = kp.GrowthCallback(AutoGrowth(images=np.zeros((4, 9, 9, 1), "float32")))
    with pytest.raises(ValueError, match="9, 9"):
        model.fit(images, validation_data=(images,), verbose=0, callbacks=[growth])
    late = np.repeat(images, 7, axis=0)
    late[-1, 0, 0] = 2  # beyond the first batch
    with pytest.raises(ValueError, match="Images must"):
        model.fit(images, validation_data=(images,), verbose=0, callbacks=[kp.GrowthCallback(AutoGrowth(images=late))])
    assert model.iteration == 0


def test_automatic_growth_needs_validation(make_model):
    with pytest.raises(ValueError, match="give `fit` its `validation_data`"):
        kp.AutoGrowth().end_epoch(make_model(), {"elbo": -1.0})


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"patience": 0}, ValueError, "patience=0"),
        ({"patience": 1.5}, TypeError, "patience=1.5"),
        ({"min_delta": -1}, ValueError, "min_delta=-1"),
        ({"min_nats": float("nan")}, ValueError, "min_nats=nan"),
        ({"images": np.zeros((8, 8, 1))}, TypeError, r"`images` must be an array .*Received: shape \(8, 8, 1\)"),
        ({"images": [np.zeros((8, 8, 1))]}, TypeError, "Received: list"),
    ],
)
def test_bad_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        AutoGrowth(**settings)
