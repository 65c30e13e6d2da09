import contextlib
import csv

import keras
import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.callbacks import CSVLogger, DisentanglementMonitor, InformationFlow
from keras_provlae.metrics.encoding import encode_all
from tests.metrics.conftest import Blobs, Loader, Oracle, Tensor

FLOW = ["mi_rung_3", "mi_rung_2", "mi_rung_1", "mi_total", "i_over"]


@pytest.fixture
def truth():
    return Blobs()


@pytest.fixture
def blob_images(truth):
    return truth.images(truth.factors(np.arange(len(truth))))


def test_flow_is_in_the_logs_at_chosen_epochs_unlocks_and_the_end(make_model, images):
    model = make_model()
    model.compile()
    flow = InformationFlow(images, every=4, draws=100)
    schedule = kp.GrowthSchedule(unlock_epochs=[2, 5])
    history = model.fit(
        images, batch_size=20, epochs=9, verbose=0, callbacks=[kp.GrowthCallback(schedule), flow]
    ).history
    # the first and the last epoch; 4 and 8 by `every`; 3 and 6 for their unlocks
    assert [(r["when"], r["epoch"], r["stage"]) for r in flow.records] == [
        ("epoch", 0, 0),
        ("unlock", 2, 1),
        ("epoch", 2, 1),
        ("epoch", 3, 1),
        ("unlock", 5, 2),
        ("epoch", 5, 2),
        ("epoch", 7, 2),
        ("epoch", 8, 2),
    ]
    for name in FLOW:  # epochs without a measurement repeat the last
        values = {r["epoch"]: r[name] for r in flow.records if r["when"] == "epoch"}
        assert history[name] == [values[epoch] for epoch in (0, 0, 2, 3, 3, 5, 5, 7, 8)], name
    first, second = (r for r in flow.records if r["when"] == "unlock")
    assert (first["iteration"], second["iteration"]) == (4, 10)
    # the first step of a fade has not been taken: the new rung knows nothing of the image
    assert first["mi_rung_2"] == pytest.approx(0, abs=1e-4)
    assert second["mi_rung_1"] == pytest.approx(0, abs=1e-4)
    assert second["mi_rung_2"] > 1e-4


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


def test_ten_measurements_and_the_unlocks_by_default(make_model, images):
    model = make_model(kp.VLAE, num_rungs=1)
    model.compile()
    flow = InformationFlow(images, draws=50)
    model.fit(images, batch_size=40, epochs=20, verbose=0, callbacks=[flow])
    assert [record["epoch"] for record in flow.records] == [0, *range(1, 20, 2)]


def test_chosen_epochs(make_model, images):
    model = make_model(kp.VLAE, num_rungs=1)
    model.compile()
    flow = InformationFlow(images, every=[2, 3, 30], draws=50)
    with pytest.warns(UserWarning, match="`every` names the epochs 30, and this training ends with epoch 6"):
        model.fit(images, batch_size=40, epochs=7, verbose=0, callbacks=[flow])
    assert [record["epoch"] for record in flow.records] == [0, 2, 3, 6]
    with pytest.raises(ValueError, match="`every` must be at least 0"):
        InformationFlow(images, every=[3, -1])


def test_checkpoints_and_early_stopping_can_follow_a_score(make_model, truth, blob_images, tmp_path, monkeypatch):
    model = make_model(kp.VLAE, num_rungs=1)
    model.compile()
    monitor = DisentanglementMonitor(truth, every=3, scores=["mig"])
    values = iter([0.1, 0.3, 0.2, 0.25])
    monkeypatch.setattr(monitor, "measure", lambda: {"mig": next(values)})
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras", "mig", mode="max", save_best_only=True)
    history = model.fit(blob_images, epochs=9, verbose=0, callbacks=[monitor, checkpoint]).history
    assert history["mig"] == [0.1, 0.1, 0.3, 0.3, 0.3, 0.2, 0.2, 0.2, 0.25]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.keras", "3.keras"]


def test_a_resumed_training_is_no_unlock(make_model, images, tmp_path):
    """BackupAndRestore brings the stage back after the observer's own beginning."""
    records = []
    for stop_after in 3, None:
        model = make_model(num_rungs=2)
        model.compile()
        flow = InformationFlow(images, every=1, draws=50)
        stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs, last=stop_after: _stop(epoch, last))
        callbacks = [kp.GrowthCallback(), flow, keras.callbacks.BackupAndRestore(tmp_path), stop]
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(images, batch_size=20, epochs=6, verbose=0, callbacks=callbacks)
        records.append([(record["when"], record["epoch"]) for record in flow.records])
    assert records[0] == [("epoch", 0), ("epoch", 1), ("epoch", 2), ("unlock", 3), ("epoch", 3)]
    assert records[1] == [("epoch", 4), ("epoch", 5)]


def _stop(epoch, last):
    if epoch == last:
        raise KeyboardInterrupt


def test_unfit_images_and_factors_are_refused_before_an_epoch_is_spent(make_model, truth, blob_images):
    model = make_model(kp.VLAE, num_rungs=1)
    model.compile()
    for bad in blob_images * 2, blob_images[:, :4], (255 * blob_images).astype("uint8"):
        with pytest.raises((TypeError, ValueError), match="Images must"):
            model.fit(blob_images, verbose=0, callbacks=[InformationFlow(bad)])
    late = np.repeat(blob_images, 5, axis=0)
    late[-1, 0, 0] = np.nan  # beyond the first batch
    with pytest.raises(ValueError, match="Images must"):
        model.fit(blob_images, verbose=0, callbacks=[InformationFlow(late)])
    with pytest.raises(ValueError, match="`factors` must be integers"):
        DisentanglementMonitor((blob_images, truth.factors(np.arange(60)) * 0.5))
    with pytest.raises(ValueError, match="`seed` must be at least 0"):
        DisentanglementMonitor([(blob_images, truth.factors(np.arange(60)))], seed=-1)
    with pytest.raises(ValueError, match="at least 1 factor with two values"):
        DisentanglementMonitor((blob_images, np.zeros(60, int)))


def test_a_training_that_is_stopped_ends_with_a_measurement(make_model, images):
    model = make_model(kp.VLAE, num_rungs=1)
    model.compile()
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 3))
    for order, when in ("before", "epoch"), ("after", "end"):
        flow = InformationFlow(images, every=10, draws=50)
        callbacks = [stop, flow] if order == "before" else [flow, stop]
        model.fit(images, batch_size=40, epochs=30, verbose=0, callbacks=callbacks)
        assert [(record["when"], record["epoch"]) for record in flow.records] == [("epoch", 0), (when, 3)]


def test_a_single_factor_has_no_factor_vae_score(truth, blob_images):
    digits = truth.factors(np.arange(60))[:, 0]
    assert DisentanglementMonitor((blob_images, digits)).names() == ["mig", "mig_sup"]
    with pytest.raises(ValueError, match="is 1 by definition"):
        DisentanglementMonitor((blob_images, digits), scores=["factor_vae_score"])


def test_the_seed_of_the_votes(make_model, truth, blob_images):
    model = make_model(kp.VLAE)
    values = []
    for seed in 0, 0, 1:
        monitor = DisentanglementMonitor(truth, scores=["factor_vae_score"], seed=seed)
        monitor.set_model(model)
        monitor.images, monitor.factors = blob_images, truth.factors(np.arange(60))
        values.append(monitor.measure()["factor_vae_score"])
    assert values[0] == values[1] != values[2]


def test_scores_are_0_while_no_latent_is_active(make_model, truth, blob_images):
    model = make_model(kp.VLAE, num_rungs=1)
    model.compile(keras.optimizers.SGD(0.0))
    model.set_weights([0 * weight for weight in model.get_weights()])
    history = model.fit(blob_images, verbose=0, callbacks=[DisentanglementMonitor(truth)]).history
    assert history["mig_sup"] == [0.0]
    assert history["factor_vae_score"] == [0.0]


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
    assert len(InformationFlow(pairs.repeat(), num_images=70).images) == 70


def test_held_images_of_batches_of_tensors(blob_images, truth):
    """As a PyTorch DataLoader gives them: images alone, in a list of one, or with labels."""
    factors = truth.factors(np.arange(60))
    for loader in Loader(blob_images), Loader(blob_images, alone=True), Loader(blob_images, factors * 0.3):
        np.testing.assert_array_equal(InformationFlow(loader, num_images=10).images, blob_images[:10])
    np.testing.assert_array_equal(InformationFlow(Tensor(blob_images)).images, blob_images)
    np.testing.assert_array_equal(encode_all(Oracle(), Tensor(blob_images), batch_size=25)[0], factors)
    held = DisentanglementMonitor(Loader(blob_images, factors[:, 1:].astype("float32")), num_images=10)
    np.testing.assert_array_equal(held.factors, factors[:10, 1:])
    for loader in Loader(blob_images), Loader(blob_images, alone=True), [blob_images]:
        with pytest.raises(TypeError, match="must have factors"):
            DisentanglementMonitor(loader)
    with pytest.raises(ValueError, match=r"of one shape.* given as a tuple \(images, factors\)"):
        InformationFlow([blob_images, factors])


def test_training_is_not_disturbed(make_model, images):
    """The same weights with and without observers: they draw from generators of their own."""
    weights = []
    for observers in [], [InformationFlow(images, every=1, draws=50)]:
        keras.utils.set_random_seed(1)
        model = make_model(num_rungs=2)
        model.compile()
        model.fit(
            images, batch_size=20, epochs=3, shuffle=False, verbose=0, callbacks=[kp.GrowthCallback(), *observers]
        )
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_clear_errors(blob_images, truth):
    import tensorflow as tf

    with pytest.raises(ValueError, match="`every` must be at least 1"):
        InformationFlow(blob_images, every=0)
    with pytest.raises(ValueError, match="`draws` must be at least 2"):
        InformationFlow(blob_images, draws=1)
    with pytest.raises(TypeError, match="`every` must be an integer"):
        InformationFlow(blob_images, every=2.5)
    for seed, error in ("0", TypeError), (-1, ValueError), ([1, 2], TypeError):
        with pytest.raises(error, match="`seed` must be"):
            InformationFlow(blob_images, seed=seed)
    with pytest.raises(ValueError, match="Received: 1, mig"):
        DisentanglementMonitor(truth, scores=[1, "mig"])
    assert DisentanglementMonitor(truth, scores=(name for name in ["mig"])).scores == ("mig",)
    with pytest.raises(TypeError, match=r"use \['mig'\]"):
        DisentanglementMonitor(truth, scores="mig")
    with pytest.raises(TypeError, match="two arrays"):
        DisentanglementMonitor(tf.data.Dataset.from_tensor_slices({"image": blob_images}).batch(8))
    with pytest.raises(ValueError, match="At least two images"):
        InformationFlow(tf.data.Dataset.from_tensor_slices(blob_images).batch(8).take(0))
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


def test_a_csv_log_names_its_data_in_every_line(make_model, images, tmp_path):
    model = make_model(num_rungs=1)
    model.compile()
    history = model.fit(images, epochs=2, verbose=0, callbacks=[CSVLogger(tmp_path / "log.csv", data="blobs drawn")])
    with open(tmp_path / "log.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["data"] for line in lines] == ["blobs drawn"] * 2
    assert [float(line["loss"]) for line in lines] == pytest.approx(history.history["loss"])
    assert "data" not in history.history
    assert not any(name.startswith("val_") for name in lines[0])
    model.fit(images, validation_data=images, verbose=0, callbacks=[CSVLogger(tmp_path / "val.csv", data="blobs")])
    with open(tmp_path / "val.csv", newline="") as file:
        (line,) = csv.DictReader(file)
    assert (line["data"], "val_loss" in line, "val_data" in line) == ("blobs", True, False)
