"""Trains from given weights on one backend: run it with KERAS_BACKEND set, an input npz and an output npz."""

import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import keras_provlae as kp

EAGER = {"run_eagerly": keras.backend.backend() == "tensorflow"}  # a few steps cost less than a trace


def build(start):
    model = kp.ProgressiveVAE((9, 7, 2), num_rungs=2, latent_dim=(3, 2), beta=2.0, channels=4, dense=None)
    model.grow(fade_in_steps=4)
    model.iteration_variable.assign(1)  # alpha 0.25
    for index, variable in enumerate(model.trainable_variables):
        variable.assign(start[f"weight_{index}"])
    return model


def steps_from_the_same_start(start):
    """Returns the losses and weights of three steps of Adam with given noise."""
    model = build(start)
    noise = ops.convert_to_tensor(start["noise"])
    model.sampling.call = lambda mean, log_var: mean + ops.exp(0.5 * log_var) * noise
    model.compile(**EAGER)
    logs = [model.train_on_batch(start["images"], return_dict=True) for _ in range(3)]
    losses = [[float(log[name]) for name in ("loss", "reconstruction", "kl", "alpha", "stage")] for log in logs]
    weights = {f"weight_{i}": ops.convert_to_numpy(v) for i, v in enumerate(model.trainable_variables)}
    return {"losses": np.array(losses), "iteration": model.iteration, **weights}


def students_of_the_same_teacher(start):
    """Returns every term of the loss in three steps of a teacher-student model with total correlation."""
    settings = {"stem": (4,), "channels": 4, "dense": None, "tc_weight": 2.0, "dataset_size": 100}
    model = kp.TeacherStudentVAE((9, 7, 2), num_rungs=2, latent_dim=(3, 2), **settings)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(0.6 * rng.standard_normal(variable.shape))
    model.grow()
    for variable in model.trainable_variables:  # away from its teacher
        variable.assign_add(0.2 * rng.standard_normal(variable.shape))
    noise = {2: start["noise"], 1: start["noise"][:, 0]}  # of codes, and of the permutation
    model.sampling.call = lambda mean, log_var: (
        mean + ops.exp(0.5 * log_var) * ops.convert_to_tensor(noise[len(mean.shape)])
    )
    model.compile("sgd", **EAGER)
    model.optimizer.learning_rate = 1e-5
    logs = [model.train_on_batch(start["images"], return_dict=True) for _ in range(3)]
    names = ("loss", "teacher_codes", "jacobian", "cross_covariance", "tc_estimate", "kl_rung_1")
    return {"student": np.array([[float(log[name]) for name in names] for log in logs])}


def guided_steps(start):
    """Returns the terms of a `fit` with budgets, multi-scale supervision and weights that change at every step."""
    settings = {"channels": 4, "dense": None, "capacity": (0.1, 0.2), "multiscale_weight": 0.5, "contour_weight": 0.5}
    settings["dataset_size"] = 100
    model = kp.ProgressiveVAE((9, 7, 2), num_rungs=2, latent_dim=(3, 2), **settings)
    rng = np.random.default_rng(2)
    for variable in model.trainable_variables:
        variable.assign(0.3 * rng.standard_normal(variable.shape))
    noise = ops.convert_to_tensor(start["noise"])
    model.sampling.call = lambda mean, log_var: mean + ops.exp(0.5 * log_var) * noise
    model.compile("sgd", **EAGER)
    model.optimizer.learning_rate = 1e-4
    annealing = kp.callbacks.Annealing(every=1, beta=[(0, 1.0), (4, (3.0, 5.0))], tc_weight={0: 0.0, 1: 2.0})
    callbacks = [kp.GrowthCallback(fade_in_steps=2, max_fade_fraction=None), annealing]
    history = model.fit(start["images"], epochs=4, batch_size=4, shuffle=False, callbacks=callbacks, verbose=0).history
    names = ("loss", "multiscale", "contours", "tc_estimate", "kl_rung_1", "beta_rung_1", "beta_rung_2", "tc_weight")
    return {"guided": np.array([history[name] for name in names])}


def growth_through_fit(start):
    """Returns alpha and stage over a `fit` of all stages, and after saving and loading."""
    keras.utils.set_random_seed(0)
    model = kp.ProgressiveVAE((9, 7, 2), num_rungs=2, latent_dim=2, channels=4, dense=None)
    model.compile(**EAGER)
    ds = tf.data.Dataset.from_tensor_slices(start["images"]).batch(2)
    callbacks = [kp.GrowthCallback(), kp.callbacks.InformationFlow(ds, every=1, draws=20)]
    history = model.fit(ds, epochs=4, validation_data=ds, callbacks=callbacks, verbose=0).history
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras.models.load_model(f"{folder}/model.keras")
    difference = ops.max(ops.abs(loaded.reconstruct(start["images"]) - model.reconstruct(start["images"])))
    return {
        "alpha": history["alpha"],
        "stage": history["stage"],
        "val_loss": history["val_loss"],
        "loaded": [loaded.stage, loaded.alpha, loaded.iteration, float(difference)],
        "observed": history["mi_total"],
        **measured(model, start["images"]),
    }


def measured(model, images):
    """Returns the posterior as tensors and compiled, and metrics of it."""
    mean, log_var = model.encode(images)
    flow = kp.metrics.information_flow(mean, log_var, model.rung_slices, draws=20)
    mig = kp.metrics.MIG()
    mig.update_state(ops.arange(4)[:, None] % 2, (mean, log_var))
    return {
        "mean": ops.convert_to_numpy(mean),
        "mean_on_batch": model.encode_on_batch(images)[0],
        "mi_total": flow.total,
        "mig": float(mig.result()),
    }


def errors_of_bad_images(start):
    """Returns the error messages for bad images, and whether the weights survive them."""
    model = build(start)
    model.compile(**EAGER)
    good, bad = start["images"], start["images"].copy()
    bad[3, 0, 0, 0] = np.nan  # in the second batch

    def batches():
        yield good[:2]
        yield bad[2:]

    ds = tf.data.Dataset.from_generator(batches, output_signature=tf.TensorSpec((None, *good.shape[1:]), "float32"))
    texts = []
    for data in (ds, good * 2):
        try:
            model.fit(data, epochs=2, verbose=0)
        except ValueError as error:
            texts.append(str(error))
    alive = all(np.isfinite(ops.convert_to_numpy(v)).all() for v in model.trainable_variables)
    return {"errors": np.array(texts), "alive": alive}


def results(source):
    """Returns the numbers of all the functions above: `{name: array}`."""
    with np.load(source) as file:
        start = dict(file)
    parts = (
        steps_from_the_same_start,
        students_of_the_same_teacher,
        guided_steps,
        growth_through_fit,
        errors_of_bad_images,
    )
    found = {"backend": keras.backend.backend()}
    for part in parts:
        found |= part(start)
    return {name: np.asarray(value) for name, value in found.items()}


if __name__ == "__main__":
    np.savez(sys.argv[2], **results(sys.argv[1]))
