"""Images per second of training: stage by stage, policy by policy, backend by backend, and beside plain code.

python benchmarks/training.py                            # the table in docs/speed.md; some ten minutes on 2 cores
python benchmarks/training.py --only=mnist --rounds=3    # one network

Every way to train is a process of its own that keeps its models and waits; they take turns, round by round, on the
same batch of noise in memory. `images/s` is the median of the rounds, `ratio` the median over the rounds of its
quotient by the first line, `plain TensorFlow`: the same network, multiplied by the gates as the authors' graph is, with
the same Adam, in one `tf.function` of plain operations. Lines of `fit` are of `model.fit` with its callbacks and
progress (not drawn), from the first step's end to that of the epoch; `gated` is the same training with the networks
that answer, in which a locked rung is computed and multiplied by 0.

`outside` is the share of the wall time of the steps in which no kernel ran on any thread (TensorFlow's profiler);
`of peak` the arithmetic of the layers, forward and back (without a locked rung's in the decoder where it is not
computed), as a share of what one large matrix product does on the same machine in turn with them.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
PRESETS = ("mnist", "shapes3d")
flags.DEFINE_enum("only", None, PRESETS, "Measure one network.")
flags.DEFINE_integer("rounds", 5, "Rounds in which all take turns.", lower_bound=1)
flags.DEFINE_float("seconds", 3.0, "About how long a round of one of them lasts.", lower_bound=0.1)
flags.DEFINE_integer("batch", 100, "Images in a batch.", lower_bound=2)
flags.DEFINE_string("worker", None, "What this process measures; used by the program itself.")
PRODUCT = 2 * 2048**3
POLICIES = ("float32", "mixed_bfloat16")


# === The ways to train: functions from a preset to {name: function that runs n steps and returns seconds} ===


def settings_of(preset):
    import keras_provlae as kp

    settings = kp.presets.preset(preset)
    size = 28 if preset == "mnist" else 64
    return {**settings["model"], "image_shape": (size, size, 1 if preset == "mnist" else 3)}


def noise(preset):
    shape = settings_of(preset)["image_shape"]
    return np.random.default_rng(0).random((FLAGS.batch, *shape)).astype("float32")


def repeated(step):
    """A function that does `step`, which returns a scalar, so many times and returns the seconds."""

    def run(steps):
        begin = time.perf_counter()
        for _ in range(steps):
            value = step()
        float(value)
        return time.perf_counter() - begin

    return run


def keras_fit(preset):
    """`model.fit` on the backend of this process; on TensorFlow every stage under both policies."""
    import keras
    import tensorflow as tf

    import keras_provlae as kp

    class StepTimes(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.times = []

        def on_train_batch_begin(self, batch, logs=None):  # one at the end would have Keras wait for every step
            self.times.append(time.perf_counter())

        def on_epoch_end(self, epoch, logs=None):  # JAX has computed by then what it was given before
            self.times.append(time.perf_counter())

    class GatedVAE(kp.ProgressiveVAE):
        def step_inputs(self, images):
            return images  # without the rungs to decode: all of them

    tensorflow = keras.backend.backend() == "tensorflow"
    data = tf.data.Dataset.from_tensors(noise(preset)).repeat()
    last = settings_of(preset)["num_rungs"] - 1
    policies = POLICIES if tensorflow else ("float32",)
    kinds = [
        (kp.ProgressiveVAE, stage, policy)
        for policy in policies
        for stage in range(0 if tensorflow else last, last + 1)
    ]
    kinds += [(GatedVAE, 0, "float32")] if tensorflow else []
    ways = {}
    for kind, stage, policy in kinds:
        model = kind(**settings_of(preset), dtype=policy)
        for _ in range(stage):
            model.grow(fade_in_steps=0)
        model.compile()

        def run(steps, model=model):
            seen = StepTimes()
            model.fit(data, steps_per_epoch=steps + 1, verbose=0, callbacks=[seen])
            return seen.times[-1] - seen.times[1]

        ways[f"fit, stage {stage}, {'gated' if kind is GatedVAE else policy}"] = run
        run.flops = step_flops(model, last if kind is GatedVAE else stage)
    return ways


def plain_tensorflow(preset):
    """The authors' graph in plain operations: variables, convolutions and products by name of layer."""
    import tensorflow as tf

    import keras_provlae as kp

    model = kp.ProgressiveVAE(**settings_of(preset))
    variables = {variable.path: tf.Variable(np.asarray(variable)) for variable in model.trainable_variables}
    moments = {name: (tf.zeros_like(value), tf.zeros_like(value)) for name, value in variables.items()}
    moments = {name: tuple(map(tf.Variable, pair)) for name, pair in moments.items()}
    step, images = tf.Variable(0, dtype=tf.int64), tf.constant(noise(preset))
    beta, gates = tf.constant([model.beta] * model.num_rungs), tf.ones(model.num_rungs)
    activation = {"elu": tf.nn.elu, "leaky_relu": tf.nn.leaky_relu, "relu": tf.nn.relu}[model.spec.activation]
    ladder = plain_ladder(
        model.spec,
        {
            "conv": lambda x, name, stride: (
                tf.nn.conv2d(x, variables[f"{name}/kernel"], stride, "SAME") + variables[f"{name}/bias"]
            ),
            "transposed": lambda x, name, size: (
                tf.nn.conv2d_transpose(
                    x,
                    variables[f"{name}/kernel"],
                    (tf.shape(x)[0], *size, variables[f"{name}/kernel"].shape[2]),
                    2,
                    "SAME",
                )
                + variables[f"{name}/bias"]
            ),
            "dense": lambda x, name: x @ variables[f"{name}/kernel"] + variables[f"{name}/bias"],
            "affine": lambda x, name: (
                x * (variables[f"{name}_affine/gain"] / np.sqrt(1.001)) + variables[f"{name}_affine/offset"]
            ),
            "activation": activation,
            "flatten": lambda x: tf.reshape(x, (tf.shape(x)[0], -1)),
            "map": lambda x, shape: tf.reshape(x, (-1, *shape)),
            "join": lambda m, g: tf.concat([m, g], axis=-1),
            "sample": lambda mean, log_var: mean + tf.exp(log_var / 2) * tf.random.normal(tf.shape(mean)),
        },
    )

    def loss_of(images):
        logits, posteriors = ladder(images, gates)
        nll = tf.nn.sigmoid_cross_entropy_with_logits(labels=images, logits=logits)
        kls = [0.5 * tf.reduce_sum(mean**2 + tf.exp(log_var) - log_var - 1, 1) for mean, log_var in posteriors]
        return tf.reduce_mean(tf.reduce_sum(nll, [1, 2, 3])) + tf.reduce_sum(
            beta * tf.stack([tf.reduce_mean(kl) for kl in kls])
        )

    @tf.function
    def train(images):
        with tf.GradientTape() as tape:
            loss = loss_of(images)
        gradients = tape.gradient(loss, list(variables.values()))
        t = tf.cast(step.assign_add(1), tf.float32)
        for (name, variable), gradient in zip(variables.items(), gradients, strict=True):
            m, v = moments[name]
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=m.handle, v=v.handle, beta1_power=0.9**t, beta2_power=0.999**t,
                lr=5e-4, beta1=0.9, beta2=0.999, epsilon=1e-8, grad=gradient,
            )  # fmt: skip
        return loss

    return {"plain TensorFlow": repeated(lambda: train(images))}


def plain_torch(preset):
    """The same in PyTorch: eager, `channels_last`, fused Adam."""
    import torch
    from torch.nn import functional

    import keras_provlae as kp

    model = kp.ProgressiveVAE(**settings_of(preset))

    def to_torch(variable):
        value = torch.from_numpy(np.array(variable))
        if value.ndim == 4:
            value = value.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        return value.requires_grad_()

    variables = {variable.path: to_torch(variable) for variable in model.trainable_variables}
    images = torch.from_numpy(noise(preset)).permute(0, 3, 1, 2)
    images = images.contiguous(memory_format=torch.channels_last)
    beta, gates = torch.full((model.num_rungs,), model.beta), torch.ones(model.num_rungs)

    def conv(x, name, stride):
        rows, columns = (max(4 - (n % stride or stride), 0) for n in x.shape[2:])  # "same", as TensorFlow pads
        x = functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return functional.conv2d(x, variables[f"{name}/kernel"], variables[f"{name}/bias"], stride)

    def transposed(x, name, size):
        x = functional.conv_transpose2d(x, variables[f"{name}/kernel"], variables[f"{name}/bias"], 2, padding=1)
        return x[:, :, : size[0], : size[1]]

    def per_channel(value, x):
        return value if x.ndim == 2 else value[:, None, None]

    ladder = plain_ladder(
        model.spec,
        {
            "conv": conv,
            "transposed": transposed,
            "dense": lambda x, name: x @ variables[f"{name}/kernel"] + variables[f"{name}/bias"],
            "affine": lambda x, name: (
                x * per_channel(variables[f"{name}_affine/gain"] / np.sqrt(1.001), x)
                + per_channel(variables[f"{name}_affine/offset"], x)
            ),
            "activation": getattr(functional, model.spec.activation),
            "flatten": lambda x: x.permute(0, 2, 3, 1).flatten(1),
            "map": lambda x, shape: x.unflatten(1, shape).permute(0, 3, 1, 2),
            "join": lambda m, g: torch.cat([m, g], dim=1),
            "sample": lambda mean, log_var: mean + torch.exp(log_var / 2) * torch.randn_like(mean),
        },
    )
    adam = torch.optim.Adam(list(variables.values()), lr=5e-4, eps=1e-8, fused=True)

    def train():
        adam.zero_grad()
        logits, posteriors = ladder(images, gates)
        nll = functional.binary_cross_entropy_with_logits(logits, images, reduction="none").sum((1, 2, 3)).mean()
        kls = [0.5 * (mean**2 + log_var.exp() - log_var - 1).sum(1).mean() for mean, log_var in posteriors]
        loss = nll + (beta * torch.stack(kls)).sum()
        loss.backward()
        adam.step()
        return loss

    return {"plain PyTorch": repeated(train)}


def plain_ladder(spec, f):
    """The ladder of equations 4 to 9 in the operations of a dict: (images, gates) to (logits, posteriors)."""

    def layer(x, name, affine=True):
        x = f["activation"](x)
        return f["affine"](x, name) if affine else x

    def ladder(images, gates):
        h, posteriors, codes = images, [], []
        for rung in range(1, spec.num_rungs + 1):
            h = layer(f["conv"](h, f"h_{rung}", 2), f"h_{rung}")
            x = gates[spec.num_rungs - rung] * h
            for index, (_, stride) in enumerate(spec.head_convs[rung - 1], start=1):
                x = layer(f["conv"](x, f"head_{rung}_conv_{index}", stride), f"head_{rung}_conv_{index}")
            x = f["flatten"](x)
            for index in range(1, len(spec.head_dense[rung - 1]) + 1):
                x = layer(f["dense"](x, f"head_{rung}_dense_{index}"), f"head_{rung}_dense_{index}")
            mean, log_var = (f["dense"](x, f"{name}_{rung}") for name in ("mean", "log_var"))
            posteriors.insert(0, (mean, log_var))
            codes.insert(0, f["sample"](mean, log_var))
        g = None
        for index, rung in enumerate(range(spec.num_rungs, 0, -1)):
            affine, z = spec.decoder_affine[rung - 1], codes[index]
            for number in range(1, len(spec.map_dense[rung - 1]) + 1):
                z = layer(f["dense"](z, f"m_{rung}_dense_{number}"), f"m_{rung}_dense_{number}", affine)
            width = spec.channels[rung - 1] if g is None else spec.channels[rung]
            m = layer(f["dense"](z, f"m_{rung}"), f"m_{rung}", affine)
            m = gates[index] * f["map"](m, (*spec.size(spec.decoder_start(rung)), width))
            g = m if g is None else f["join"](m, g)
            level = spec.decoder_start(rung)
            for number in range(1, len(spec.decoder_convs[rung - 1]) + 1):
                level -= 1
                name = f"g_{rung}_conv_{number}"
                g = layer(f["transposed"](g, name, spec.size(level)), name, affine)
        return f["transposed"](g, "logits", spec.size(0)), posteriors

    return ladder


def matrix_product(_):
    """A large product; a step of it is `PRODUCT` multiplications and additions."""
    import tensorflow as tf

    a = tf.random.normal((2048, 2048))
    product = tf.function(lambda a: tf.reduce_sum(a @ a))

    return {"matrix product": repeated(lambda: product(a))}


# === Measures that are not of time alone ===


def step_flops(model, stage):
    """Multiplications and additions of one step: forward, and twice that back, but for what images have no gradient."""
    locked = range(1, model.num_rungs - stage)

    def of_layer(layer):
        if not hasattr(layer, "kernel"):
            return 0
        positions, taps = 1, np.prod(layer.kernel.shape)
        if len(layer.kernel.shape) == 4:  # a transposed convolution has a product per pixel of its input
            tensor = layer.input if "Transpose" in type(layer).__name__ else layer.output
            positions = np.prod(tensor.shape[1:3])
        kind, rung, *_ = f"{layer.name}_0".split("_")
        if rung.isdigit() and int(rung) in locked:
            if kind == "m":
                return 0
            if layer.name.startswith(f"g_{rung}_conv_1"):  # of g alone, without the channels of m
                taps = taps * model.spec.decoder_convs[int(rung)][-1][0] / layer.kernel.shape[-1]
        return int(2 * taps * positions)

    forward = sum(map(of_layer, [*model.encoder.layers, *model.decoder.layers]))
    first = of_layer(model.encoder.get_layer("h_1"))
    return FLAGS.batch * (3 * forward - first)


def share_outside_kernels(run, steps=20):
    """Of the wall time of some steps, the share in which no operation ran on any thread."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            run(steps)
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    (host,) = (plane for plane in space.planes if plane.name == "/host:CPU")
    names = {number: data.name for number, data in host.event_metadata.items()}
    kernels = sorted(
        (line.timestamp_ns * 1000 + event.offset_ps, line.timestamp_ns * 1000 + event.offset_ps + event.duration_ps)
        for line in host.lines
        for event in line.events
        if is_kernel(names[event.metadata_id])
    )
    busy, end = 0, 0
    for start, stop in kernels:
        busy += max(0, stop - max(start, end))
        end = max(end, stop)
    return 1 - busy / (max(stop for _, stop in kernels) - kernels[0][0])


def is_kernel(name):
    """Events of operations are `path/of/the/node:Operation`; others are of the executor, the caller and tf.data."""
    return ":" in name and "::" not in name and not name.startswith("Eager")


# === Processes that take turns ===

WORKERS = {  # name: (backend, function)
    "plain TensorFlow": ("tensorflow", plain_tensorflow),
    "fit": ("tensorflow", keras_fit),
    "plain PyTorch": ("torch", plain_torch),
    "fit on torch": ("torch", keras_fit),
    "fit on jax": ("jax", keras_fit),
    "matrix product": ("tensorflow", matrix_product),
}


def work(name, preset):
    """Tells its ways to train and what they cost, then answers lines `[way, steps]` with the seconds."""
    _, make = WORKERS[name]
    with contextlib.redirect_stdout(sys.stderr):
        ways = make(preset)
        facts = {}
        for way, run in ways.items():
            run(2)  # traced, and its memory allocated
            facts[way] = {"seconds": run(3) / 3}
            if name == "fit":
                facts[way] |= {"flops": run.flops, "outside": share_outside_kernels(run)}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        way, steps = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            seconds = ways[way](steps)
        print(json.dumps(seconds), flush=True)


class Worker:
    """A process that trains when it is told to; its ways of training are `facts`."""

    def __init__(self, name, preset):
        environment = {**os.environ, "KERAS_BACKEND": WORKERS[name][0], "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, __file__, f"--worker={name}", f"--only={preset}", f"--batch={FLAGS.batch}"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self.name, self.process = name, subprocess.Popen(command, env=environment, **pipes)
        self.facts = self._answer()
        self.steps = {way: max(3, round(FLAGS.seconds / fact["seconds"])) for way, fact in self.facts.items()}

    def rate(self, way):
        """Steps per second."""
        print(json.dumps([way, self.steps[way]]), file=self.process.stdin, flush=True)
        return self.steps[way] / self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"The process of {self.name} ended with exit code {self.process.wait()}.")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def installed(backend):
    import importlib.util

    return importlib.util.find_spec(backend) is not None


def measure(preset):
    """The lines of the table of one network, as they come."""
    workers = [Worker(name, preset) for name, (backend, _) in WORKERS.items() if installed(backend)]
    ways = [(worker, way) for worker in workers for way in worker.facts]
    rates = {way if worker.name == "fit" else worker.name: [] for worker, way in ways}
    for _ in range(FLAGS.rounds):
        for worker, way in ways:
            rates[way if worker.name == "fit" else worker.name].append(worker.rate(way))
    for worker in workers:
        worker.close()
    facts = {way: fact for worker in workers if worker.name == "fit" for way, fact in worker.facts.items()}
    peak = float(np.median(rates.pop("matrix product"))) * PRODUCT
    print(f"\n{preset}, batch {FLAGS.batch}; peak {peak / 1e9:,.0f} GFLOP/s (float32)")
    print(f"{'':<30}{'images/s':>10}{'ratio':>8}{'range':>14}{'outside':>9}{'of peak':>9}")
    first = rates["plain TensorFlow"]
    for way, measured in rates.items():
        ratios = [one / other for one, other in zip(measured, first, strict=True)]
        rate, fact = float(np.median(measured)), facts.get(way)
        line = f"{way:<30}{rate * FLAGS.batch:>10,.0f}{np.median(ratios):>8.2f}{min(ratios):>8.2f}-{max(ratios):.2f}"
        if fact:
            line += f"{fact['outside']:>10.1%}{fact['flops'] * rate / peak:>9.1%}"
        print(line, flush=True)


def main(_):
    if FLAGS.worker:
        work(FLAGS.worker, FLAGS.only)
        return
    for preset in [FLAGS.only] if FLAGS.only else PRESETS:
        measure(preset)


if __name__ == "__main__":
    app.run(main)
