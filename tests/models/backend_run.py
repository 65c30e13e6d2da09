"""What one backend makes of a given start: run with KERAS_BACKEND set, an input and an output npz."""

import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import keras_provlae as kp


def build(start):
    model = kp.ProgressiveVAE((9, 7, 2), num_rungs=2, latent_dim=(3, 2), beta=2.0, channels=4, dense=8)
    model.grow(fade_in_steps=4)
    model.iteration_variable.assign(1)  # alpha 0.25
    for index, variable in enumerate(model.trainable_variables):
        variable.assign(start[f"weight_{index}"])
    return model


def steps_from_the_same_start(start):
    """Three steps of Adam with given noise: the losses and the weights."""
    model = build(start)
    noise = ops.convert_to_tensor(start["noise"])
    model.sampling.call = lambda mean, log_var: mean + ops.exp(0.5 * log_var) * noise
    model.compile()
    logs = [model.train_on_batch(start["images"], return_dict=True) for _ in range(3)]
    losses = [[float(log[name]) for name in ("loss", "reconstruction", "kl", "alpha", "stage")] for log in logs]
    weights = {f"weight_{i}": ops.convert_to_numpy(v) for i, v in enumerate(model.trainable_variables)}
    return {"losses": np.array(losses), "iteration": model.iteration, **weights}


def students_of_the_same_teacher(start):
    """Three steps of a teacher-student model with a total-correlation term: every term of its loss."""
    settings = {"stem": (4,), "channels": 4, "dense": 8, "tc_weight": 2.0, "dataset_size": 100}
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
    model.compile("sgd")
    model.optimizer.learning_rate = 1e-5
    logs = [model.train_on_batch(start["images"], return_dict=True) for _ in range(3)]
    names = ("loss", "teacher_codes", "jacobian", "cross_covariance", "total_correlation", "kl_rung_1")
    return {"student": np.array([[float(log[name]) for name in names] for log in logs])}


def growth_through_fit(start):
    """alpha and stage over a whole `fit` of all stages, and after saving and loading."""
    keras.utils.set_random_seed(0)
    model = kp.ProgressiveVAE((9, 7, 2), num_rungs=2, latent_dim=2, channels=4, dense=8)
    model.compile()
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
    """The posterior in the backend's own tensors and compiled, and what the metrics make of it."""
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
    """The text of the error that each kind of bad image ends in, and what is left of the model."""
    model = build(start)
    model.compile()
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


def main(source, target):
    with np.load(source) as file:
        start = dict(file)
    result = {"backend": keras.backend.backend()}
    result |= (
        steps_from_the_same_start(start)
        | students_of_the_same_teacher(start)
        | growth_through_fit(start)
        | errors_of_bad_images(start)
    )
    np.savez(target, **result)


if __name__ == "__main__":
    main(*sys.argv[1:])
