"""Observers: when they measure, what they log, and what they hold."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp
from keras_provlae import metrics
from keras_provlae.callbacks import (
    CSVLogger,
    DisentanglementMonitor,
    InformationFlow,
    PosteriorObserver,
    TraversalSnapshots,
)
from keras_provlae.metrics.encoding import encode_all
from keras_provlae.visualization import training_curves
from tests.metrics.conftest import Blobs, Loader, Oracle, Tensor

TRUTH = Blobs()
FACTORS = TRUTH.factors(np.arange(60))
IMAGES = TRUTH.images(FACTORS)
FLOW = ["mi_rung_2", "mi_rung_1", "mi_total", "i_over"]
SETTINGS = {"latent_dim": 2, "channels": 4, "dense": 8}


class Counter(PosteriorObserver):
    """Numbers its measurements."""

    images = IMAGES

    def names(self):
        return ["count"]

    def measure(self):
        return {"count": len(self.records)}


@pytest.fixture(scope="module")
def model():
    """An untrained model with one rung, for all that needs no training."""
    return kp.ProgressiveVAE((8, 8, 1), num_rungs=1, **SETTINGS)


def begun(callback, model, **params):
    callback.set_model(model)
    callback.set_params(params)
    model.stop_training = False  # as `fit` does
    callback.on_train_begin()
    return callback


def epochs_measured(callback, model, epochs, first=0):
    """Runs the callback over the epochs of a `fit`; returns `(when, epoch)` of its records."""
    begun(callback, model, epochs=epochs)
    for epoch in range(first, epochs):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {})
    callback.on_train_end()
    return [(record["when"], record["epoch"]) for record in callback.records]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Seven epochs of two steps with an unlock in the middle of epoch 3."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("run")
    model = kp.ProgressiveVAE((8, 8, 1), num_rungs=2, **SETTINGS)
    model.encoder.set_weights([1.5 * weight for weight in model.encoder.get_weights()])  # so that latents are active
    model.compile()
    grow = kp.GrowthCallback(kp.GrowthSchedule(unlock_iterations=[7]))
    early, flow = Counter(), InformationFlow(IMAGES, every=3, draws=100, seed=3)
    monitor = DisentanglementMonitor(TRUTH, every=1)
    loggers = [
        CSVLogger(folder / "log.csv", data="blobs drawn"),
        keras.callbacks.CSVLogger(folder / "keras.csv"),
        keras.callbacks.TensorBoard(folder / "board", write_graph=False),
    ]
    callbacks = [early, grow, flow, monitor, *loggers]
    history = model.fit(IMAGES, batch_size=30, epochs=7, verbose=0, callbacks=callbacks)
    return model, history, early, flow, folder


def test_values_are_logged_at_chosen_epochs_unlocks_and_the_end(run):
    _, history, _, flow, _ = run
    # the first and the last epoch; 2 and 5 by `every`; 3 for its unlock
    assert [(one["when"], one["epoch"], one["stage"], one["iteration"]) for one in flow.records] == [
        ("epoch", 0, 0, 2),
        ("epoch", 2, 0, 6),
        ("unlock", 3, 1, 7),
        ("epoch", 3, 1, 8),
        ("epoch", 5, 1, 12),
        ("epoch", 6, 1, 14),
    ]
    for name in FLOW:  # epochs without a measurement repeat the last
        values = {one["epoch"]: one[name] for one in flow.records if one["when"] == "epoch"}
        assert history.history[name] == [values[epoch] for epoch in (0, 0, 2, 3, 3, 5, 6)], name
    unlock, end = flow.records[2], flow.records[-1]
    assert unlock["mi_rung_1"] == pytest.approx(0, abs=1e-4)  # before the first step of its fade-in
    assert unlock["mi_rung_2"] > 0.1
    assert end["mi_rung_1"] > 1e-4


def test_an_unlock_is_measured_wherever_the_callback_is_in_the_list(run, make_model):
    _, _, early, flow, _ = run
    for callback in early, flow:  # in the middle of an epoch
        assert [(one["epoch"], one["iteration"]) for one in callback.records if one["when"] == "unlock"] == [(3, 7)]
    model = make_model(num_rungs=3, **SETTINGS)
    callback = begun(Counter(every=[3]), model, epochs=9)
    callback.on_epoch_begin(3)
    callback.on_epoch_end(3)
    model.grow()  # by a callback that comes earlier, at the start of epoch 4
    callback.on_epoch_begin(4)
    callback.on_epoch_end(4)
    callback.on_epoch_begin(5)
    model.grow()  # by one that comes later, at the start of epoch 5
    measured = [(one["when"], one["epoch"]) for one in callback.records]
    assert measured == [("epoch", 3), ("unlock", 4), ("epoch", 4), ("unlock", 5)]


def test_logged_values_are_those_of_the_model(run):
    model, history, *_ = run
    mean, log_var = encode_all(model, IMAGES)
    flow = metrics.information_flow(mean, log_var, model.rung_slices, draws=100, seed=3)
    last = {name: values[-1] for name, values in history.history.items()}
    assert [last[name] for name in FLOW] == pytest.approx([*flow.mi, flow.total, flow.i_over], abs=1e-4)
    information = metrics.mutual_information(mean, log_var, FACTORS)
    assert last["mig"] == pytest.approx(metrics.mig(information.normalized), abs=1e-4)
    assert last["mig_sup"] == pytest.approx(metrics.mig_sup(information.normalized, information.active), abs=1e-4)
    votes = metrics.factor_vae_score(mean, FACTORS, num_train=1000, num_eval=1000)
    assert last["factor_vae_score"] == pytest.approx(votes, abs=0.02)


def test_loggers_and_curves_have_the_values(run):
    _, history, _, _, folder = run
    logged = {name: values for name, values in history.history.items() if name in (*FLOW, "mig", "loss")}
    rows = {}
    for name in "keras", "log":
        with (folder / f"{name}.csv").open(newline="") as file:
            rows[name] = list(csv.DictReader(file))
        for key, values in logged.items():
            np.testing.assert_allclose([float(row[key]) for row in rows[name]], values, rtol=1e-6)
    assert [row["data"] for row in rows["log"]] == ["blobs drawn"] * 7
    assert not any(name.startswith("val_") for name in rows["log"][0])
    assert {"data", "logged"}.isdisjoint({**history.history, **history.params})
    (path,) = map(str, (folder / "board/train").glob("events*"))
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(path)]
    values = [value for event in events for value in event.summary.value if value.tag == "epoch_mi_total"]
    np.testing.assert_allclose([tf.make_ndarray(value.tensor) for value in values], logged["mi_total"], rtol=1e-6)
    assert training_curves(history).axes[2].get_ylabel() == "I(x; z) in nats"


def test_callbacks_do_not_change_the_training(run, tmp_path):
    """Their draws come from generators of their own."""
    model = run[0]
    variables = [*model.variables, *model.optimizer.variables]
    before, after = [np.array(variable) for variable in variables], []
    observers = InformationFlow(IMAGES, draws=50), DisentanglementMonitor(TRUTH), TraversalSnapshots(tmp_path, IMAGES)
    for callbacks in [], observers:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        keras.utils.set_random_seed(1)
        model.fit(IMAGES, batch_size=30, epochs=2, verbose=0, callbacks=list(callbacks))
        after.append([np.array(variable) for variable in variables])
    assert not all(np.array_equal(a, b) for a, b in zip(after[0], before, strict=True))
    for a, b in zip(*after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_epochs_that_are_measured(model):
    ten_by_default = [("epoch", epoch) for epoch in (0, *range(1, 20, 2))]
    assert epochs_measured(Counter(), model, 20) == ten_by_default
    with pytest.warns(UserWarning, match="Counter: `every` lists epochs 30, but this training ends with epoch 6"):
        chosen = epochs_measured(Counter(every=[2, 3, 30]), model, 7)
    assert chosen == [("epoch", epoch) for epoch in (0, 2, 3, 6)]


def test_a_resume_is_not_an_unlock(make_model):
    """BackupAndRestore restores the stage after the observer's `on_train_begin`."""
    model = make_model(num_rungs=2, **SETTINGS)

    class Resumed(Counter):
        def on_train_begin(self, logs=None):
            super().on_train_begin()
            model.stage_variable.assign(1)

    assert epochs_measured(Resumed(every=1), model, 6, first=4) == [("epoch", 4), ("epoch", 5)]


@pytest.mark.parametrize(("order", "when"), [("before", "epoch"), ("after", "end")])
def test_a_stopped_training_ends_with_a_measurement(model, order, when):
    """The callback that stops it may come before or after the observer."""
    callback = begun(Counter(every=10), model, epochs=30)
    for epoch in range(4):
        callback.on_epoch_begin(epoch)
        model.stop_training = order == "before" and epoch == 3
        callback.on_epoch_end(epoch, {})
    callback.on_train_end()
    assert [(one["when"], one["epoch"]) for one in callback.records] == [("epoch", 0), (when, 3)]


def test_invalid_images_are_rejected_at_the_start(model):
    late = np.repeat(IMAGES, 5, axis=0)
    late[-1, 0, 0] = np.nan  # beyond the first batch
    for bad in IMAGES * 2, IMAGES[:, :4], (255 * IMAGES).astype("uint8"), late:
        with pytest.raises((TypeError, ValueError), match="Images must"):
            begun(InformationFlow(bad), model)


def test_a_single_factor_has_no_factor_vae_score():
    assert DisentanglementMonitor((IMAGES, FACTORS[:, 0])).names() == ["mig", "mig_sup"]
    with pytest.raises(ValueError, match="is 1 by definition"):
        DisentanglementMonitor((IMAGES, FACTORS[:, 0]), scores=["factor_vae_score"])


def test_the_seed_decides_the_votes(run):
    values = []
    for seed in 0, 0, 1:
        monitor = DisentanglementMonitor((IMAGES, FACTORS), scores=["factor_vae_score"], seed=seed)
        monitor.images, monitor.factors = IMAGES, FACTORS  # in one order
        monitor.set_model(run[0])
        values.append(monitor.measure()["factor_vae_score"])
    assert values[0] == values[1] != values[2]


def test_scores_are_0_while_no_latent_is_active():
    model = kp.VLAE((8, 8, 1), num_rungs=1, **SETTINGS)
    model.set_weights([0 * weight for weight in model.get_weights()])
    values = begun(DisentanglementMonitor(TRUTH), model, epochs=1).measure()
    assert (values["mig_sup"], values["factor_vae_score"]) == (0.0, 0.0)


def test_subsets_of_arrays_pairs_and_data_sets():
    assert InformationFlow(IMAGES, num_images=10).images.shape == (10, 8, 8, 1)
    data = tf.data.Dataset.from_tensor_slices(IMAGES).batch(8)
    np.testing.assert_array_equal(InformationFlow(data, num_images=10).images, IMAGES[:10])
    pairs = tf.data.Dataset.from_tensor_slices((IMAGES, np.arange(60))).batch(8)
    monitor = DisentanglementMonitor(pairs, num_images=10)
    np.testing.assert_array_equal(monitor.images, IMAGES[:10])
    np.testing.assert_array_equal(monitor.factors, np.arange(10))
    some = DisentanglementMonitor(TRUTH, num_images=30)
    np.testing.assert_array_equal(some.images, TRUTH.images(some.factors))
    assert len(np.unique(some.factors[:, 0])) == 5  # of the whole grid, not its beginning
    assert len(InformationFlow(IMAGES).images) == 60
    assert len(InformationFlow(pairs.repeat(), num_images=70).images) == 70


def test_subsets_of_batches_of_tensors():
    """As a PyTorch DataLoader gives them: images alone, in a list of one, or with labels."""
    for loader in Loader(IMAGES), Loader(IMAGES, alone=True), Loader(IMAGES, FACTORS * 0.3):
        np.testing.assert_array_equal(InformationFlow(loader, num_images=10).images, IMAGES[:10])
    np.testing.assert_array_equal(InformationFlow(Tensor(IMAGES)).images, IMAGES)
    np.testing.assert_array_equal(encode_all(Oracle(), Tensor(IMAGES), batch_size=25)[0], FACTORS)
    monitor = DisentanglementMonitor(Loader(IMAGES, FACTORS[:, 1:].astype("float32")), num_images=10)
    np.testing.assert_array_equal(monitor.factors, FACTORS[:10, 1:])
    for loader in Loader(IMAGES), Loader(IMAGES, alone=True), [IMAGES], IMAGES:
        with pytest.raises(TypeError, match="must have factors"):
            DisentanglementMonitor(loader)
    with pytest.raises(ValueError, match=r"of one shape.* given as a tuple \(images, factors\)"):
        InformationFlow([IMAGES, FACTORS])


def test_invalid_arguments_are_rejected():
    for settings, error, message in [
        ({"every": 0}, ValueError, "`every` must be at least 1"),
        ({"every": [3, -1]}, ValueError, "`every` must be at least 0"),
        ({"every": 2.5}, TypeError, "`every` must be an integer"),
        ({"draws": 1}, ValueError, "`draws` must be at least 2"),
        ({"seed": "0"}, TypeError, "`seed` must be"),
        ({"seed": -1}, ValueError, "`seed` must be"),
        ({"seed": [1, 2]}, TypeError, "`seed` must be"),
        ({"images": IMAGES[:1]}, ValueError, "At least two images"),
        ({"images": tf.data.Dataset.from_tensor_slices(IMAGES).batch(8).take(0)}, ValueError, "At least two images"),
    ]:
        with pytest.raises(error, match=message):
            InformationFlow(**{"images": IMAGES, **settings})
    for data, settings, error, message in [
        (TRUTH, {"scores": [1, "mig"]}, ValueError, "Received: 1, mig"),
        (TRUTH, {"scores": ["dci"]}, ValueError, "must be among mig, mig_sup, factor_vae_score. Received: dci"),
        (TRUTH, {"scores": []}, ValueError, "Received: none"),
        (TRUTH, {"scores": "mig"}, TypeError, r"use \['mig'\]"),
        (TRUTH, {"num_images": 1}, ValueError, "`num_images` must be at least 2"),
        ([(IMAGES, FACTORS)], {"seed": -1}, ValueError, "`seed` must be at least 0"),
        ((IMAGES, FACTORS * 0.5), {}, ValueError, "`factors` must be integers"),
        ((IMAGES, np.zeros(60, int)), {}, ValueError, "at least 1 factor with two values"),
        (tf.data.Dataset.from_tensor_slices({"image": IMAGES}).batch(8), {}, TypeError, "two arrays"),
    ]:
        with pytest.raises(error, match=message):
            DisentanglementMonitor(data, **settings)
    assert DisentanglementMonitor(TRUTH, scores=(name for name in ["mig"])).scores == ("mig",)
    with pytest.raises(TypeError, match="InformationFlow needs a LadderVAE, such as ProgressiveVAE. Received: Seq"):
        InformationFlow(IMAGES).set_model(keras.Sequential())
