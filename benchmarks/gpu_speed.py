"""Times training steps on one device of JAX, for `benchmarks/gpu.py`: which cases, in which order, and how."""

import gc
import itertools
import time
from typing import NamedTuple

import numpy as np

REPETITIONS = 3
# name: (value of `jax_default_matmul_precision`, dtype policy)
PRECISIONS = {
    "float32": ("highest", "float32"),
    "TF32": ("tensorfloat32", "float32"),  # what JAX does by default where a GPU has it
    "bfloat16": (None, "mixed_bfloat16"),
}


class Case(NamedTuple):
    """One training to time.

    Attributes:
        stage: The stage of the model.
        batch: Images in a batch.
        precision: A key of `PRECISIONS`.
        way: How the steps run:
            `"fit"`: `model.fit`, with its checks of every step. Keras on JAX has no program of several steps:
            `steps_per_execution` is a loop in Python around the same program.
            `"scan"`: in its place, `steps` steps as one program, `jax.lax.scan` around `model.train_step`.
            `"unchecked"`: `fit` without the checks of pixels and loss, which call the host twice a step.
        steps: `steps_per_execution`, or the steps of the scan.
        feed: Where batches come from: `"held"`: one batch in the memory of the device. `"drawn"`: rendered by the
            device. `"host"`: `GroundTruth.batches`, rendered by NumPy.
    """

    stage: int
    batch: int
    precision: str
    way: str = "fit"
    steps: int = 1
    feed: str = "held"

    def __str__(self):
        way = self.way if self.steps == 1 else f"{self.way}, {self.steps} steps"
        return f"{self.stage:>5}  {self.batch:>5}  {self.precision:<9}{way:<16}{self.feed:<7}"


def cases(num_rungs, batches, together):
    """The cases, those first that say most: time may end before the last.

    Args:
        num_rungs: Stages of the model.
        batches: Batch sizes, ascending: each of the first cases then raises the peak of the memory.
        together: `steps_per_execution` and the length of the scan.

    Returns:
        A list of different `Case`s.
    """
    last, smallest = num_rungs - 1, batches[0]
    plain = [Case(last, batch, "TF32") for batch in batches]
    plain += [Case(last, batch, precision) for precision in ("bfloat16", "float32") for batch in batches]
    ways = [
        Case(last, smallest, "TF32", way, steps)
        for way, steps in (("scan", together), ("fit", together), ("unchecked", 1))
    ]
    feeds = [Case(last, batch, "TF32", feed=feed) for batch in (smallest, batches[-1]) for feed in ("drawn", "host")]
    earlier = [
        Case(stage, batch, precision)
        for precision in ("TF32", "bfloat16", "float32")
        for stage in range(last)
        for batch in batches
    ]
    return list(dict.fromkeys([*plain[: len(batches)], *ways, *feeds, *plain[len(batches) :], *earlier]))


def measured(case, data, settings, seconds):
    """Times one case.

    Args:
        case: A `Case`.
        data: A `Data`.
        settings: Constructor arguments of `ProgressiveVAE`.
        seconds: About how long each of the repetitions lasts.

    Returns:
        A dict: the case; `images_per_second`, the median of the repetitions, and `range`; `ms_per_step`;
        `compile_seconds`, of building the model and of its first steps; `peak_bytes` of the memory of the device where
        this case raised the peak of the process, else `None`.
    """
    import jax

    matmul, policy = PRECISIONS[case.precision]
    gc.collect()  # models of earlier cases
    before = peak_bytes()
    with jax.default_matmul_precision(matmul):
        begin = time.perf_counter()
        model = _compiled(case, settings, policy)
        run = (_scanned if case.way == "scan" else _fitted)(model, case, data)
        run(2 * case.steps)
        compiling = time.perf_counter() - begin
        per_step = min(run(2 * case.steps) for _ in range(2)) / (2 * case.steps)
        steps = case.steps * int(np.clip(seconds / per_step / case.steps, 2, 3000))
        rates = sorted(steps * case.batch / run(steps) for _ in range(REPETITIONS))
    after, rate = peak_bytes(), float(np.median(rates))
    return {
        **case._asdict(),
        "images_per_second": rate,
        "range": [rates[0], rates[-1]],
        "ms_per_step": 1000 * case.batch / rate,
        "compile_seconds": compiling,
        "peak_bytes": after if after is not None and after > (before or 0) else None,
    }


def peak_bytes():
    """The most memory of the device that this process has used so far; `None` where JAX does not tell (on a CPU)."""
    import jax

    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _compiled(case, settings, policy):
    """A model at the stage of the case."""
    import keras_provlae as kp
    from keras_provlae.training.graph_checks import leave_to_callback

    class Unchecked(kp.ProgressiveVAE):
        check_loss = staticmethod(leave_to_callback)

        def checked(self, images):
            return images

    kind = Unchecked if case.way == "unchecked" else kp.ProgressiveVAE
    model = kind(**settings, dtype=policy)
    if case.stage:
        model.grow(fade_in_steps=0, to_stage=case.stage)
    model.compile(steps_per_execution=1 if case.way == "scan" else case.steps)
    return model


def _fitted(model, case, data):
    """A function that trains so many steps by `fit` and returns the seconds of its epoch, without the first step."""
    import jax
    import keras

    class Clock(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.times = []

        def on_train_batch_begin(self, batch, logs=None):  # one at the end would have Keras wait for every step
            self.times.append(time.perf_counter())

        def on_epoch_end(self, epoch, logs=None):
            jax.block_until_ready([variable.value for variable in self.model.variables])
            self.times.append(time.perf_counter())

    def run(steps):
        clock = Clock()
        model.fit(data.batches(case), steps_per_epoch=steps + case.steps, verbose=0, callbacks=[clock])
        return clock.times[-1] - clock.times[1]

    return run


def _scanned(model, case, data):
    """The same by programs of several steps."""
    import jax

    model.make_train_function()
    (images,) = next(data.batches(case))
    lists = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([variable.value for variable in variables] for variables in lists)

    def many(state, images):
        def step(state, _):
            logs, state = model.train_step(state, (images,))
            return state, logs["loss"]

        return jax.lax.scan(step, state, None, length=case.steps)

    program = jax.jit(many, donate_argnums=0)

    def run(steps):
        nonlocal state
        begin = time.perf_counter()
        for _ in range(steps // case.steps):
            state, losses = program(state, images)
        jax.block_until_ready((state, losses))
        return time.perf_counter() - begin

    return run


class Data:
    """Batches of the twin of 3DShapes, rendered by the device or by NumPy.

    Args:
        size: Height and width of the images in pixels, a divisor of 64.
    """

    def __init__(self, size):
        import jax

        import keras_provlae as kp

        times = 64 // size
        self.truth = kp.datasets.shapes3d("procedural").downscale(times)
        self.draw = jax.jit(_device_render(times))

    def drawn(self, batch, seed=0):
        """Endless batches `(images,)` that the device renders, each pass in an order of its own."""
        rng = np.random.default_rng(seed)
        while True:
            order = rng.permutation(len(self.truth))
            for start in range(0, len(order) - batch + 1, batch):
                yield (self.draw(self.truth.factors(order[start : start + batch]).astype("int32")),)

    def batches(self, case):
        """The feed of a case: an iterator of `(images,)`."""
        if case.feed == "held":
            held = next(self.drawn(case.batch))
            return (held for _ in itertools.count())
        if case.feed == "drawn":
            return self.drawn(case.batch)
        return ((images,) for images in self.truth.batches(case.batch, seed=0, repeat=True))

    def rates(self, batch, seconds):
        """Images per second of both ways to render, and the largest difference of a pixel between them."""
        import jax

        factors = self.truth.factors(np.arange(batch) * (len(self.truth) // batch))
        difference = float(np.abs(np.asarray(self.draw(factors.astype("int32"))) - self.truth.images(factors)).max())
        host, device = self.truth.batches(batch, seed=0, repeat=True), self.drawn(batch)
        rates = {}
        for name, draw in (("NumPy", lambda index: host[index]), ("device", lambda index: next(device))):
            jax.block_until_ready(draw(0))
            count, begin = 0, time.perf_counter()
            while count < 2 or time.perf_counter() - begin < seconds:
                count += 1
                last = draw(count)
            jax.block_until_ready(last)
            rates[name] = count * batch / (time.perf_counter() - begin)
        return {"batch": batch, "images_per_second": rates, "largest_difference": difference}


def _device_render(times):
    """The renderer of the package in operations of JAX: the same code as in NumPy and TensorFlow."""
    import jax
    import jax.numpy as jnp

    from keras_provlae.datasets.operations import NumPy
    from keras_provlae.datasets.shapes3d import _coloring

    class JAX(NumPy):
        constant = staticmethod(jnp.asarray)
        concat = staticmethod(jnp.concatenate)

    render = _coloring(JAX)

    def draw(factors):
        with jax.default_matmul_precision("highest"):  # TF32 would round the colors
            return JAX.block_means(render(factors), times)

    return draw


# === How exact products are ===


def errors_of_products():
    """The error of a matrix product and of a convolution in every precision: `{precision: {"product", "convolution"}}`.

    L2 norm of the difference from float64, as a share of the norm. In float32 some 3e-7, in TF32 3e-4, in bfloat16
    3e-3: this shows which one the device really computed.
    """
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 512, 512)).astype("float32")
    images, kernel = rng.standard_normal((8, 32, 32, 32)), rng.standard_normal((4, 4, 32, 32))
    images, kernel = images.astype("float32"), kernel.astype("float32")
    windows = np.lib.stride_tricks.sliding_window_view(images.astype("float64"), (4, 4), axis=(1, 2))
    expected = {
        "product": a.astype("float64") @ b.astype("float64"),
        "convolution": np.tensordot(windows, kernel.astype("float64"), axes=[(4, 5, 3), (0, 1, 2)]),
    }

    def of(precision):
        matmul, policy = PRECISIONS[precision]
        cast = (lambda x: jnp.asarray(x, "bfloat16")) if "bfloat16" in policy else jnp.asarray
        with jax.default_matmul_precision(matmul):
            dimensions = ("NHWC", "HWIO", "NHWC")
            conv = jax.lax.conv_general_dilated(
                cast(images), cast(kernel), (1, 1), "VALID", dimension_numbers=dimensions
            )
            found = {"product": cast(a) @ cast(b), "convolution": conv}
        return {
            name: float(np.linalg.norm(np.asarray(value, "float64") - expected[name]) / np.linalg.norm(expected[name]))
            for name, value in found.items()
        }

    return {precision: of(precision) for precision in PRECISIONS}
