"""Checks and times the package on a GPU in eight minutes: JAX with CUDA, no TensorFlow, no network.

python benchmarks/gpu.py                               # eight minutes on a machine with a GPU
python benchmarks/gpu.py --small                       # a rehearsal at tiny sizes on any machine, two to four minutes
python benchmarks/gpu.py --parts training --skip=17 --out=output/more    # the cases that a first run left out
python benchmarks/gpu.py --write_parity                # makes gpu_parity.json anew, on the CPU

Run it from a checkout; the package need not be installed. It sets `KERAS_BACKEND=jax` by itself. In turn:

1. Parity: noise, posteriors and a few optimizer steps against numbers that a CPU computed (`gpu_parity.py`), in full
   float32. And the error of a matrix product and a convolution in every precision: which one did the device compute?
2. Images/s of rendering 3DShapes by NumPy on the host and by the same code on the device, at 64 x 64.
3. Images/s of training at 64 x 64 (`gpu_speed.py`): every stage, batches of 100, 400 and 1,600, in float32, TF32 and
   bfloat16; several steps at once. The cases that say most come first; it ends after half of the time.
4. The recipe of 3DShapes at 64 x 64 on images that the device renders, in TF32: as many steps as fit into the time that
   is left, with its unlocks and schedules moved. Then its scores, and traversals.

The script ends by itself: what no longer fits into `--minutes` is left out, and printed. Each number is written as soon
as it is known, into `--out` (by default the environment variable OUT, or output/gpu):

    results.json                              everything that was measured, failed or left out
    shapes3d_64.weights.h5, shapes3d_64.json  the trained model in float16 (11 MB), once a minute and at its end
    card.json, traversals.png                 its scores, and what each latent does

The exit code is 1 if a number of the parity deviates or a part failed.

Packages: JAX with CUDA, keras and what it needs, and matplotlib. The script names those that are missing and ends. To
bring them to a machine without a network, run where there is one, with the version of Python of that machine:

    pip download --no-deps --only-binary=:all: --dest wheels --python-version 3.12 --implementation cp \\
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 NAMES
    pip install --no-index --no-deps --find-links wheels NAMES      # there

Where JAX and PyTorch are installed these are often `keras namex optree` alone (2 MB).
"""

import argparse
import faulthandler
import importlib.util
import json
import math
import os
import platform
import sys
import time
import traceback
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

BEGIN = time.perf_counter()

NEEDED = {  # module: package
    "jax": "jax", "jaxlib": "jaxlib", "numpy": "numpy", "keras": "keras", "absl": "absl-py", "h5py": "h5py",
    "ml_dtypes": "ml_dtypes", "namex": "namex", "optree": "optree", "packaging": "packaging", "rich": "rich",
    "pygments": "pygments", "markdown_it": "markdown-it-py", "mdurl": "mdurl", "typing_extensions": "typing_extensions",
    "matplotlib": "matplotlib", "contourpy": "contourpy", "cycler": "cycler", "fontTools": "fonttools",
    "kiwisolver": "kiwisolver", "PIL": "pillow", "pyparsing": "pyparsing", "dateutil": "python-dateutil",
}  # fmt: skip
PARTS = ("parity", "rendering", "training", "recipe")
SCORES = ("mutual_information", "contexts", "factor_vae_score")


class Sizes(NamedTuple):
    """How large everything is: `FULL`, or `SMALL` for a rehearsal.

    Attributes:
        minutes: All of the time.
        size: Height and width of the images in pixels.
        model: Constructor arguments that replace those of the preset and of the recipe.
        batches: Batch sizes to time, ascending.
        together: `steps_per_execution`, and the steps of one scanned program.
        seconds: How long each of the repetitions of a measurement lasts.
        scoring: Seconds that are kept for scores, pictures and the last files.
        images: Images to score.
        epochs: Parts of the training, each with a line in its history.
        steps: The most steps of the recipe.
        guess: Seconds that the first case needs, about.
    """

    minutes: float = 8.0
    size: int = 64
    model: dict = {}  # noqa: RUF012  (a NamedTuple's default, never mutated)
    batches: tuple = (100, 400, 1600)
    together: int = 10
    seconds: float = 0.7
    scoring: float = 50.0
    images: int = 20_000
    epochs: int = 40
    steps: float = math.inf
    guess: float = 30.0


FULL = Sizes()
SMALL = Sizes(4.0, 16, {"channels": 4, "dense": 16}, (8,), 4, 0.05, 20.0, 1_000, 5, 200, 10.0)


# === Time ===


def fits(left, spent, guess):
    """Returns whether another case fits into `left` seconds: the longest of those before, or a guess for the first."""
    return left >= max(spent, default=guess)


def iterations_in(seconds, per_step, compiling, stages):
    """Optimizer steps that fit into so many seconds, with a tenth of them kept, if every stage is compiled first."""
    return max(int(0.9 * (seconds - stages * compiling) / per_step), 0)


class Budget:
    """The time of this process, from its start.

    Args:
        minutes: All of it; ten seconds of them are kept.
    """

    def __init__(self, minutes):
        self.seconds = 60 * minutes - 10

    def left(self, share=1.0):
        """Seconds until this share of the time is over."""
        return share * self.seconds - (time.perf_counter() - BEGIN)


# === What is found ===


class Results:
    """`results.json`: written anew with every number.

    Args:
        folder: Where it goes.
    """

    def __init__(self, folder):
        self.folder, self.content = Path(folder), {"errors": {}, "left_out": [], "seconds": {}}
        self.folder.mkdir(parents=True, exist_ok=True)

    def set(self, **values):
        self.content |= values
        path = self.folder / "results.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(self.content, indent=1, default=float) + "\n")
        part.replace(path)

    def leave_out(self, what):
        what = " ".join(str(what).split())
        say(f"left out: {what}")
        self.set(left_out=[*self.content["left_out"], what])

    def part(self, name, function, *arguments):
        """Calls the function of one part; an error in it is kept, and the next part goes on."""
        begin = time.perf_counter()
        say(f"\n{name} ({begin - BEGIN:.0f} s)")
        try:
            function(self, *arguments)
        except Exception as error:
            self.content["errors"][name] = traceback.format_exc()
            say(f"{name} failed: {type(error).__name__}: {error}")
        self.content["seconds"][name] = round(time.perf_counter() - begin, 1)
        self.set()


def say(text):
    print(text, flush=True)


# === The parts ===


def check_parity(results):
    import gpu_parity
    import gpu_speed

    errors = gpu_speed.errors_of_products()
    say(f"{'error of':<14}{'product':>10}{'convolution':>14}")
    for precision, error in errors.items():
        say(f"{precision:<14}{error['product']:>10.1e}{error['convolution']:>14.1e}")
    results.set(errors_of_products=errors)
    stored, made_with = gpu_parity.read()
    rows = gpu_parity.compared(gpu_parity.computed(), stored)
    failed = gpu_parity.fails(rows)
    results.set(parity={"failed": failed, "deviations": {name: deviation for name, deviation, _ in rows}})
    say(f"parity with {made_with}: {len(rows)} numbers, the nearest to their tolerances:")
    for name, deviation, tolerance in rows[: max(5, len(failed))]:
        say(f"  {name:<30}{deviation:>9.1e} of {tolerance:.0e}{'  DEVIATES' if name in failed else ''}")


def time_rendering(results, data, sizes):
    rates = [data.rates(batch, sizes.seconds) for batch in dict.fromkeys((sizes.batches[0], sizes.batches[-1]))]
    for row in rates:
        found = ", ".join(f"{name} {rate:,.0f} images/s" for name, rate in row["images_per_second"].items())
        say(f"batch {row['batch']}: {found}; largest difference of a pixel {row['largest_difference']:.1e}")
    results.set(rendering=rates)


def time_training(results, data, sizes, budget, share, skip):
    import gpu_speed

    import keras_provlae as kp

    settings = {**kp.presets.preset("shapes3d")["model"], "image_shape": (sizes.size, sizes.size, 3), **sizes.model}
    todo = gpu_speed.cases(settings["num_rungs"], sizes.batches, sizes.together)[skip:]
    rows, spent = [], []
    head = f"{'stage':>5}  {'batch':>5}  {'':<9}{'':<16}{'batches':<7}"
    say(f"{head}{'images/s':>10}{'range':>22}{'ms/step':>10}{'peak':>10}")
    for number, case in enumerate(todo):
        if not fits(budget.left(share), spent, sizes.guess):
            for other in todo[number:]:
                results.leave_out(other)
            break
        begin = time.perf_counter()
        try:
            row = gpu_speed.measured(case, data, settings, sizes.seconds)
        except Exception as error:  # out of memory, say: the others may fit
            row = {**case._asdict(), "error": f"{type(error).__name__}: {error}"}
        spent.append(time.perf_counter() - begin)
        rows.append(row)
        say(f"{case}{_line(row)}")
        results.set(training=rows)


def _line(row):
    if "error" in row:
        return f"  {row['error'][:300]}"
    low, high = row["range"]
    peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.2f} GiB"
    return f"{row['images_per_second']:>10,.0f}{f'{low:,.0f} .. {high:,.0f}':>22}{row['ms_per_step']:>10.2f}{peak:>10}"


def train_recipe(results, data, sizes, budget):
    import jax

    import keras_provlae as kp

    if budget.left() < 2 * sizes.scoring:
        results.leave_out(f"the recipe: {budget.left():.0f} s were left")
        return
    with jax.default_matmul_precision("tensorfloat32"):
        per_step, compiling = _speed_of_recipe(data, sizes, seconds=min(3.0, 0.02 * budget.seconds))
        seconds = budget.left() - sizes.scoring
        recipe = kp.presets.recipe("shapes3d", size=sizes.size)
        stages = recipe["model"]["num_rungs"]
        steps = min(iterations_in(seconds, per_step, compiling, stages), sizes.steps) // sizes.epochs * sizes.epochs
        found = {"ms_per_step": 1000 * per_step, "compile_seconds": compiling, "iterations": steps}
        results.set(recipe=found)
        if steps < 20 * sizes.epochs:
            results.leave_out(
                f"the recipe: {steps} steps would fit into {seconds:.0f} s, at {1000 * per_step:.1f} ms each"
            )
            return
        recipe = kp.presets.recipe("shapes3d", size=sizes.size, iterations=steps)
        say(f"{steps:,} steps in {seconds:.0f} s, {1000 * per_step:.2f} ms each; the recipe at 32 x 32 has 16,000")
        say(f"batches of {recipe['training']['batch_size']}, unlocks at {recipe['training']['unlock_iterations']}")
        model = _trained(results, recipe, data, sizes, budget)
    results.part("scores", score, model, data, sizes, budget)


def _speed_of_recipe(data, sizes, seconds):
    """Seconds of a step of the recipe in its last stage, its slowest, and of building and compiling it."""
    import keras

    import keras_provlae as kp

    recipe = kp.presets.recipe("shapes3d", size=sizes.size)
    begin = time.perf_counter()
    model = kp.recipes.compiled_model(recipe, **sizes.model)
    model.grow(fade_in_steps=0, to_stage=model.num_rungs - 1)
    spent = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begin = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):  # the logs were read: the steps are over
            spent.append(time.perf_counter() - self.begin)

    def run(steps):
        callbacks = [*kp.recipes.fit_callbacks(recipe), Clock()]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The growth schedule is longer")
            batches = data.drawn(recipe["training"]["batch_size"])
            model.fit(batches, steps_per_epoch=steps, verbose=0, callbacks=callbacks)
        return spent[-1]

    run(10)
    compiling = time.perf_counter() - begin
    per_step = run(10) / 10
    steps = min(max(int(seconds / per_step), 10), 3000)
    return run(steps) / steps, compiling


def _trained(results, recipe, data, sizes, budget):
    """The model of the recipe, trained; its history and its weights are kept as they come."""
    import keras

    import keras_provlae as kp

    begin = time.perf_counter()
    name = f"shapes3d_{sizes.size}"
    about = {"recipe": recipe, "seed": 0, "data": str(data.truth), "machine": results.content["about"]}

    def keep(model):
        seconds = time.perf_counter() - begin
        kp.pretrained.save(model, name, {**about, "steps": model.iteration, "seconds": seconds}, results.folder)

    class Keeper(keras.callbacks.Callback):
        kept, history = begin, []

        def on_train_batch_begin(self, batch, logs=None):
            if budget.left() < sizes.scoring / 2:
                self.model.stop_training = True

        def on_epoch_end(self, epoch, logs=None):
            self.history.append({"step": self.model.iteration, **(logs or {})})
            results.set(history=self.history)
            if time.perf_counter() - self.kept > 60:
                keep(self.model)
                self.kept = time.perf_counter()

    keras.utils.set_random_seed(0)
    model = kp.recipes.compiled_model(recipe, **sizes.model)
    callbacks = [*kp.recipes.fit_callbacks(recipe, verbose=1), Keeper()]
    batches = data.drawn(recipe["training"]["batch_size"])
    steps = recipe["training"]["iterations"] // sizes.epochs
    model.fit(batches, epochs=sizes.epochs, steps_per_epoch=steps, verbose=0, callbacks=callbacks)
    keep(model)
    found = {"trained": model.iteration, "stage": model.stage, "seconds": round(time.perf_counter() - begin, 1)}
    results.set(recipe={**results.content["recipe"], **found})
    if model.iteration < recipe["training"]["iterations"]:
        results.leave_out(
            f"steps {model.iteration:,} to {recipe['training']['iterations']:,} of the recipe: it was slower"
        )
    return model


def score(results, model, data, sizes, budget):
    import jax

    import keras_provlae as kp

    seconds = max(budget.left() - 10, 5)
    with jax.default_matmul_precision("highest"):
        card = kp.metrics.evaluate(
            model, data.truth, num_images=sizes.images, include=SCORES, max_seconds=seconds, progress=False
        )
    (results.folder / "card.json").write_text(json.dumps(card.to_dict(), indent=1))
    results.set(scores={name: float(value) for name, value in card.items()}, skipped=dict(card.skipped))
    say(str(card))
    images, _ = data.truth.sample(200, seed=0)
    figure = kp.visualization.traversals(model, images[:1], images=images, information=card, data=data.truth)
    kp.visualization.write_png(figure, results.folder / "traversals.png")


# === The machine ===


def missing():
    """Packages that are not installed, or too old."""
    absent = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if "keras" not in absent and tuple(map(int, version("keras").split(".")[:2])) < (3, 15):
        absent.append(f"keras>=3.15 (installed: {version('keras')})")
    return absent


def check_packages():
    """Ends the program unless every package is there."""
    absent = missing()
    if absent:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(
            f"Missing packages: {' '.join(absent)}. The docstring of {Path(__file__).name} tells how to bring them as "
            f"wheels; this is Python {python} on {platform.machine()}."
        )


def check_device(any_device):
    """Ends the program unless JAX sees a GPU; returns facts about the device."""
    import jax

    (device, *others), backend = jax.devices(), jax.default_backend()
    if backend != "gpu" and not any_device:
        sys.exit(
            f"JAX sees no GPU, only {device}. Install `jax[cuda]`; --small rehearses on this device, and --cpu runs "
            "everything on it."
        )
    try:
        jax.devices("cpu")  # the checks of a training step run there
    except RuntimeError:
        sys.exit(f"JAX needs its CPU as well. Received: JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS')!r}.")
    facts = {"device": device.device_kind, "backend": backend, "devices": 1 + len(others), "cpus": os.cpu_count()}
    return facts | {"python": platform.python_version(), "versions": _versions()}


def _versions():
    found = {}
    for package in ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "keras", "numpy", "tensorflow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, help="All of the time; default 8, with --small 4.")
    parser.add_argument("--out", default=os.environ.get("OUT", "output/gpu"), help="Folder of the results.")
    parser.add_argument("--small", action="store_true", help="Tiny sizes, on any device.")
    parser.add_argument("--cpu", action="store_true", help="The sizes of a GPU although there is none.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="Leave out the others.")
    parser.add_argument("--skip", type=int, default=0, help="Cases of the training that an earlier run has timed.")
    parser.add_argument("--write_parity", action="store_true", help="Make gpu_parity.json anew, on the CPU.")
    return parser.parse_args(arguments)


def write_parity():
    import gpu_parity

    gpu_parity.write(gpu_parity.computed(), {"device": "CPU", **_versions()})
    say(f"wrote {gpu_parity.FILE}")


def main(arguments=None):
    args = parsed(arguments)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout, which need not be installed
    check_packages()
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if args.write_parity:
        os.environ["JAX_PLATFORMS"] = "cpu"
        return write_parity()
    about = check_device(any_device=args.small or args.cpu)
    sizes = SMALL if args.small else FULL
    minutes = args.minutes or sizes.minutes
    faulthandler.dump_traceback_later(max(60 * minutes - (time.perf_counter() - BEGIN), 1), exit=True)
    results, budget = Results(args.out), Budget(minutes)
    results.set(about=about, sizes=sizes._asdict(), arguments=vars(args))
    say(f"{about}\n{minutes:g} minutes, results in {results.folder}")
    run_parts(args, results, sizes, budget)
    faulthandler.cancel_dump_traceback_later()
    return summary(results)


def run_parts(args, results, sizes, budget):
    from gpu_speed import Data

    data = Data(sizes.size)
    share = 0.5 if "recipe" in args.parts else 1.0
    arguments = {
        "parity": (check_parity,),
        "rendering": (time_rendering, data, sizes),
        "training": (time_training, data, sizes, budget, share, args.skip),
        "recipe": (train_recipe, data, sizes, budget),
    }
    for name in PARTS:
        if name in args.parts:
            results.part(name, *arguments[name])


def summary(results):
    """Prints what became of each part; returns the exit code."""
    content = results.content
    failed = [*content["errors"], *content.get("parity", {}).get("failed", [])]
    say(f"\n{time.perf_counter() - BEGIN:.0f} s in all: {content['seconds']}")
    say(f"left out: {len(content['left_out'])}; failed: {', '.join(dict.fromkeys(failed)) or 'nothing'}")
    for path in sorted(results.folder.iterdir()):
        say(f"  {path}  {path.stat().st_size / 1024:,.0f} kB")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
