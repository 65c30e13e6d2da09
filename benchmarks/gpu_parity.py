"""Numbers that a CPU computed, which another device has to compute as well: `benchmarks/gpu.py` compares them.

`gpu_parity.json` has them: noise, posteriors and decoded pixels of a small model, then a few optimizer steps in its
first and in its last stage, with all terms that the recipe of 3DShapes has. `python benchmarks/gpu.py --write_parity`
makes the file anew on a CPU, after a change of the method, of the order of the variables or of JAX's random numbers.

Weights, images and the seed of the noise do not depend on the backend: NumPy makes the first two. Products and
convolutions run in full float32 (`highest`): on a GPU, JAX would round their inputs to TF32.
"""

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("gpu_parity.json")
STEPS, FADE_IN_STEPS, BATCH = 3, 4, 16
NOISE_SEED = (7, 0)  # what a `SeedGenerator` holds

# A deviation is the largest difference as a share of the largest value. Measured on a CPU, with other orders of the
# same sums (the plain code, and the convolutions that a GPU runs) and with weights changed by 1e-6 of their values, it
# is at most 5e-6, and 4e-5 for the estimated total correlation, a small difference of large numbers. With inputs
# rounded to TF32 it is 2e-4 to 1e-3 for KL, means and log variances, and 2e-3; in mixed_bfloat16 ten times that.
TOLERANCE = 2e-5
OF_THE_ESTIMATE = 3e-4


def initial_weights(variables):
    """Weights of Keras variables that do not depend on the backend: float32 arrays."""
    rng = np.random.default_rng(0)
    for variable in variables:
        noise, kernel = rng.standard_normal(variable.shape), len(variable.shape) > 1
        # kernels keep the size of what passes them; gains are about 1, offsets and biases about 0
        value = noise / np.sqrt(np.prod(variable.shape[:-1])) if kernel else (variable.name == "gain") + 0.1 * noise
        yield value.astype("float32")


def computed():
    """The numbers, on the device that JAX takes first: `{name: array}`."""
    import jax
    import keras

    import keras_provlae as kp

    settings = {**kp.presets.recipe("shapes3d")["model"], "channels": 8, "dense": 32, "contour_weight": 1.0}
    truth = kp.datasets.shapes3d("procedural").downscale(64 // settings["image_shape"][0])
    images, _ = truth.sample(BATCH, seed=0)
    key = np.array(NOISE_SEED, "uint32")
    with jax.default_matmul_precision("highest"):
        model = kp.ProgressiveVAE(**settings)
        model.compile()
        for variable, weights in zip(
            model.trainable_variables, initial_weights(model.trainable_variables), strict=True
        ):
            variable.assign(weights)
        model.sampling.seed_generator.state.assign(key)
        numbers = {
            "random bits": jax.random.bits(key, (4,)),
            "noise": keras.random.normal((8,), seed=jax.numpy.array(key)),
        }
        mean, log_var = model.encode(images[:4])
        numbers |= {"mean": mean, "log_var": log_var, "pixels": model.decode(mean)[:, 4::16, 4::16]}
        for stage in (0, model.num_rungs - 1):
            if stage:
                model.grow(FADE_IN_STEPS, to_stage=stage)
            # one step an epoch: its logs are those of the step
            history = model.fit(images, batch_size=BATCH, epochs=STEPS, shuffle=False, verbose=0).history
            numbers |= {f"{name}, stage {stage}": values for name, values in history.items()}
        numbers["mean after the steps"], _ = model.encode(images[:4])
    return {name: np.asarray(value) for name, value in numbers.items()}


def compared(found, stored):
    """Compares numbers with the stored ones.

    Args:
        found: What `computed` returned: `{name: array}`.
        stored: The same from the file.

    Returns:
        `[(name, deviation, tolerance)]`, largest share of the tolerance first. A name or a shape that differs deviates
        by infinity.
    """
    rows = []
    for name in dict.fromkeys([*stored, *found]):
        tolerance = 0.0 if name == "random bits" else OF_THE_ESTIMATE if "tc_estimate" in name else TOLERANCE
        rows.append((name, _deviation(found.get(name), stored.get(name)), tolerance))
    return sorted(rows, key=lambda row: -row[1] / max(row[2], 1e-12))


def fails(rows):
    """Names of what deviates by more than its tolerance."""
    return [name for name, deviation, tolerance in rows if not deviation <= tolerance]  # so that NaN fails


def _deviation(found, stored):
    if found is None or stored is None or np.shape(found) != np.shape(stored):
        return np.inf
    found, stored = np.asarray(found, "float64"), np.asarray(stored, "float64")
    difference, scale = np.abs(found - stored).max(), np.abs(stored).max()
    if not difference:
        return 0.0
    return float(difference / scale) if scale else np.inf


def read():
    """The stored numbers, and what they were made with: `({name: array}, dict)`."""
    content = json.loads(FILE.read_text())
    return {name: np.array(value) for name, value in content["numbers"].items()}, content["made_with"]


def write(numbers, made_with):
    """Writes the file: nine digits, which tell every float32 from the next."""
    lines = [f"  {json.dumps(name)}: {json.dumps(_rounded(value))}" for name, value in numbers.items()]
    FILE.write_text(f'{{\n "made_with": {json.dumps(made_with)},\n "numbers": {{\n' + ",\n".join(lines) + "\n }\n}\n")


def _rounded(value):
    if np.issubdtype(value.dtype, np.integer):
        return value.tolist()
    return json.loads(json.dumps(value.tolist()), parse_float=lambda text: float(f"{float(text):.9g}"))
