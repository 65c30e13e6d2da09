import json

import numpy as np
import pytest

import keras_provlae as kp

SHAPE = {"image_shape": (8, 8, 1), "channels": 2, "dense": 2}


def annealing_of(recipe):
    return kp.recipes.fit_callbacks(json.loads(json.dumps(recipe)))[1]  # as a file has it


def test_an_even_recipe_shares_the_steps_and_sets_the_pressure():
    recipe = kp.recipes.even_recipe(
        num_rungs=3, latent_dim=2, beta=4.0, tc_weight=6.0, new_rung_pressure=0.5, last_pressure=0.25,
        iterations=3_000, dataset_size=100, gamma=0.3, **SHAPE,
    )  # fmt: skip
    annealing, training = annealing_of(recipe), recipe["training"]
    assert (training["unlock_iterations"], training["fade_in_steps"]) == ([1000, 2000], 250)

    def pressure(stage, step):
        return [*np.ravel(annealing.value("beta", step, stage)), annealing.value("tc_weight", step, stage)]

    # rungs 1, 2 and 3, and the total correlation; locked rungs have their gamma instead
    for step in (0, 500, 1000):
        assert pressure(0, step) == [4, 4, 4, 6]
        assert pressure(1, step) == [4, 2, 4, 6]
    assert pressure(2, 0) == [2, 4, 4, 6]
    np.testing.assert_allclose(pressure(2, 250), [2, 2.5, 2.5, 3.75])
    assert pressure(2, 500) == pressure(2, 1000) == [2, 1, 1, 1.5]
    model = kp.recipes.compiled_model(recipe)
    assert (model.beta, model.gamma, model.tc_weight, model.spec.latent_dim) == (4.0, 0.3, 6.0, (2, 2, 2))
    for step, rate in [(1, 1e-3), (2_399, 1e-3), (2_402, 3e-4)]:
        model.optimizer.iterations.assign(step)
        assert float(model.optimizer.learning_rate) == pytest.approx(rate)


def test_an_even_recipe_of_one_rung_and_without_total_correlation_trains(images):
    recipe = kp.recipes.even_recipe(num_rungs=1, beta=2.0, last_pressure=0.5, iterations=4, **SHAPE)
    model = kp.recipes.compiled_model(recipe)
    model.run_eagerly = True
    callbacks = kp.recipes.fit_callbacks(recipe)
    callbacks[1].every = 1
    model.fit(images, batch_size=10, epochs=1, verbose=0, callbacks=callbacks)
    assert (model.iteration, model.beta, model.tc_weight) == (4, 1.0, 0.0)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_rungs": 0}, ValueError, "`num_rungs` must be at least 1. Received: num_rungs=0"),
        ({"iterations": 5}, ValueError, "`iterations` must be at least 6. Received: iterations=5"),
        ({"beta": -1.0}, ValueError, "`beta` must be .*Received: beta=-1.0"),
        ({"last_pressure": float("nan")}, ValueError, "`last_pressure` must be .*nan"),
        ({"batch_size": 1.5}, TypeError, "`batch_size` must be an integer"),
        ({"tc_weight": 1.0}, TypeError, "`dataset_size` must be an integer.*the total correlation needs it"),
    ],
)
def test_an_even_recipe_refuses_what_cannot_be_trained(settings, error, message):
    with pytest.raises(error, match=message):
        kp.recipes.even_recipe((8, 8, 1), **settings)
