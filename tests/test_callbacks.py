import csv
import math

import keras
import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.callbacks import DisentanglementMonitor, InformationFlow
from tests.metrics.conftest import Blobs

FLOW = ["mi_rung_3", "mi_rung_2", "mi_rung_1", "mi_total", "i_over"]


@pytest.fixture
def truth():
    return Blobs()


@pytest.fixture
def blob_images(truth):
    return truth.images(truth.factors(np.arange(len(truth))))


def measured(values):
    return [not math.isnan(value) for value in values]


def test_flow_is_in_the_logs_at_chosen_epochs_unlocks_and_the_end(make_model, images):
    model = make_model()
    model.compile()
    flow = InformationFlow(images, every=4, draws=100)
    schedule = kp.GrowthSchedule(unlock_epochs=[2, 5])
    history = model.fit(
        images, batch_size=20, epochs=9, verbose=0, callbacks=[kp.GrowthCallback(schedule), flow]
    ).history
    for name in FLOW:
        # epochs 4 and 8 by `every`, 3 and 6 for their unlocks, 9 because it is the last
        assert measured(history[name]) == [False, False, True, True, False, True, False, True, True], name
    assert [(r["when"], r["epoch"], r["stage"]) for r in flow.records] == [
        ("unlock", 2, 1),
        ("epoch", 2, 1),
        ("epoch", 3, 1),
        ("unlock", 5, 2),
        ("epoch", 5, 2),
        ("epoch", 7, 2),
        ("epoch", 8, 2),
    ]
    assert [r["iteration"] for r in flow.records if r["when"] == "unlock"] == [4, 10]
    # the first step of a fade has not been taken: the new rung knows nothing of the image
    assert flow.records[0]["mi_rung_2"] == pytest.approx(0, abs=1e-4)


def test_logged_flow_is_that_of_the_model(make_model, images):
    model = make_model(kp.VLAE)
    model.compile()
    history = model.fit(images, verbose=0, callbacks=[InformationFlow(images, draws=200, seed=3)]).history
    mean, log_var = model.encode(images)
    expected = kp.metrics.information_flow(mean, log_var, model.rung_slices, draws=200, seed=3)
    assert history["mi_total"] == [pytest.approx(expected.total, abs=1e-4)]
    assert [history[name][0] for name in FLOW[:3]] == pytest.approx(list(expected.mi), abs=1e-4)


def test_scores_are_in_the_logs(make_model, truth, blob_images):
    model = make_model()
    model.compile()
    monitor = DisentanglementMonitor(truth, every=1)
    history = model.fit(blob_images, epochs=3, verbose=0, callbacks=[kp.GrowthCallback(), monitor]).history
    mean, log_var = model.encode(blob_images)
    factors = truth.factors(np.arange(60))
    information = kp.metrics.mutual_information(mean, log_var, factors)
    assert history["mig"][-1] == pytest.approx(kp.metrics.mig(information.normalized), abs=1e-4)
    assert history["factor_vae_score"][-1] == pytest.approx(
        kp.metrics.factor_vae_score(mean, factors, num_train=1000, num_eval=1000), abs=0.02
    )
    assert all(map(all, (measured(history[name]) for name in ("mig", "factor_vae_score"))))


def test_ten_measurements_and_the_unlocks_by_default(make_model, images):
    model = make_model(kp.VLAE)
    model.compile()
    flow = InformationFlow(images, draws=50)
    history = model.fit(images, batch_size=40, epochs=20, verbose=0, callbacks=[flow]).history
    assert measured(history["mi_total"]) == [False, True] * 10


def test_csv_and_tensorboard_get_the_values(make_model, truth, blob_images, tmp_path):
    model = make_model(kp.VLAE)
    model.compile()
    observers = [
        InformationFlow(blob_images, every=2, draws=50),
        DisentanglementMonitor(truth, every=2, scores=["mig"]),
    ]
    loggers = [keras.callbacks.CSVLogger(tmp_path / "log.csv")]
    if keras.backend.backend() == "tensorflow":
        loggers.append(keras.callbacks.TensorBoard(tmp_path / "board", write_graph=False))
    history = model.fit(blob_images, epochs=3, verbose=0, callbacks=observers + loggers).history
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in *FLOW, "mig":
        np.testing.assert_allclose([float(row[name]) for row in rows], history[name], rtol=1e-6)
    if len(loggers) > 1:
        np.testing.assert_allclose(
            _board(tmp_path / "board" / "train", "epoch_mi_total"), history["mi_total"], rtol=1e-6
        )


def _board(folder, tag):
    """The values of a scalar in a TensorBoard folder."""
    import tensorflow as tf

    (path,) = map(str, folder.glob("events*"))
    records = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(path)]
    values = [value for event in records for value in event.summary.value]
    return [float(tf.make_ndarray(value.tensor)) for value in values if value.tag == tag]


def test_held_images_of_arrays_pairs_and_data_sets(truth, blob_images):
    import tensorflow as tf

    assert InformationFlow(blob_images, num_images=10).images.shape == (10, 8, 8, 1)
    data = tf.data.Dataset.from_tensor_slices(blob_images).batch(8)
    np.testing.assert_array_equal(InformationFlow(data, num_images=10).images, blob_images[:10])
    pairs = tf.data.Dataset.from_tensor_slices((blob_images, np.arange(60))).batch(8)
    held = DisentanglementMonitor(pairs, num_images=10)
    np.testing.assert_array_equal(held.images, blob_images[:10])
    np.testing.assert_array_equal(held.factors, np.arange(10))
    some = DisentanglementMonitor(truth, num_images=30)
    np.testing.assert_array_equal(some.images, truth.images(some.factors))
    assert len(np.unique(some.factors[:, 0])) == 5  # of the whole grid, not its beginning
    assert len(InformationFlow(blob_images).images) == 60


def test_training_is_not_disturbed(make_model, images):
    """The same weights with and without observers: they draw from generators of their own."""
    weights = []
    for observers in [], [InformationFlow(images, every=1, draws=50)]:
        keras.utils.set_random_seed(1)
        model = make_model()
        model.compile()
        model.fit(
            images, batch_size=20, epochs=3, shuffle=False, verbose=0, callbacks=[kp.GrowthCallback(), *observers]
        )
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_clear_errors(blob_images, truth):
    with pytest.raises(ValueError, match="`every` must be at least 1"):
        InformationFlow(blob_images, every=0)
    with pytest.raises(ValueError, match="must be at least 2"):
        InformationFlow(blob_images, draws=1)
    with pytest.raises(ValueError, match="At least two images"):
        InformationFlow(blob_images[:1])
    with pytest.raises(TypeError, match="must have factors"):
        DisentanglementMonitor(blob_images)
    with pytest.raises(ValueError, match="`scores` takes mig, mig_sup, factor_vae_score. Received: dci"):
        DisentanglementMonitor(truth, scores=["dci"])
    with pytest.raises(ValueError, match="`num_images` must be at least 2"):
        DisentanglementMonitor(truth, num_images=1)
    with pytest.raises(TypeError, match="needs a model with `encode`"):
        InformationFlow(blob_images).set_model(keras.Sequential())
