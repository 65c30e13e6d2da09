"""Searches for the settings of a pro-VLAE with Optuna; writes a table, plots, the best model and its recipe.

python examples/tune.py --data=shapes3d --objective=mig      # ten minutes on 2 cores, at 32 x 32
python examples/tune.py --data=FOLDER --objective=udr        # your own images, without labels

Needs the extra `tune`. The same command continues a search, also one that was killed. In a second terminal it joins the
search: the processes share the trials in study.db. --minutes=0 only writes the results so far.
"""

import time
import warnings
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

import keras_provlae as kp
from keras_provlae.experiments.records import only_one
from keras_provlae.metrics.encoding import encode_all

try:
    import optuna
except ImportError:
    raise ImportError('This example needs Optuna: pip install "keras_provlae[tune]".') from None
from optuna.trial import TrialState
from tuning import results
from tuning.data import TWINS, load

FLAGS = flags.FLAGS
flags.DEFINE_string("data", "shapes3d", "shapes3d, dsprites, mnist, or a folder of images.")
flags.DEFINE_string("source", "auto", "Source of shapes3d, dsprites or mnist, as in the other examples.")
flags.DEFINE_integer("size", 32, "Height and width of the images in pixels; MNIST keeps its 28.", lower_bound=2)
flags.DEFINE_enum("objective", "mig", ["elbo", "mig", "udr"], "What to maximize; mig needs known factors.")
flags.DEFINE_string("output", None, "Folder of the search; default output/tune_<data>_<objective>.")
flags.DEFINE_float("minutes", 10.0, "Time for this command: it starts no trial that would take longer.", lower_bound=0)
flags.DEFINE_integer("trials", None, "Ends the search after so many trials of all processes.", lower_bound=1)
flags.DEFINE_integer("iterations", 1200, "Optimizer steps of a trial; its stages share them evenly.", lower_bound=2)
flags.DEFINE_multi_string("range", [], "Lowest and highest value of a setting: beta=0.5,8. One flag per setting.")
flags.DEFINE_integer("seed", 0, "Seed of the models, of the order of the images and of the search.", lower_bound=0)

OF_STUDY = ("data", "source", "size", "objective", "iterations", "range", "seed")  # the same when a search goes on
LOGARITHMIC = ("beta", "new_rung_pressure", "last_pressure")
HEARTBEAT, GRACE = 10, 60  # seconds; a trial whose process is silent for longer was killed


def plan(data):
    """Returns `(fixed, space, paper)`: what every trial has, {setting: (lowest, highest)}, and the paper's settings."""
    model = kp.presets.preset(FLAGS.data if FLAGS.data in (*TWINS, "mnist") else "shapes3d")["model"]
    shape = data.truth.image_shape
    beta = model["beta"] * (shape[0] / model["image_shape"][0]) ** 2  # it stands against a sum over the pixels
    fixed = {name: model[name] for name in ("gamma", "channels", "dense", "activation")}
    fixed |= {"image_shape": shape, "dataset_size": len(data.rows), "iterations": FLAGS.iterations}
    space = {"num_rungs": (2, 4), "latent_dim": (2, 4), "beta": (beta / 4, 4 * beta), "tc_weight": (0.0, 6 * beta)}
    space |= {"new_rung_pressure": (0.25, 2.0), "last_pressure": (0.05, 1.0)}  # see `kp.recipes.even_recipe`
    for given in FLAGS.range:
        name, _, values = given.partition("=")
        try:
            low, high = space[name] = tuple(map(type(space[name][0]), values.split(",")))
            valid = (low > 0 or (low == 0 and name == "tc_weight")) and low <= high < np.inf
        except (KeyError, ValueError):
            valid = False
        if not valid:
            rule = f"--range must be the lowest and highest value of {', '.join(space)}, such as beta=0.5,8."
            raise app.UsageError(f"{rule} Received: --range={given}.")
    rungs = space["num_rungs"][1]
    kp.ladder.ladder_spec(shape, rungs, 1)  # raises if the images are too small for so many
    kp.recipes.even_recipe(**fixed, num_rungs=rungs)  # or the steps too few
    paper = {**model, "beta": beta, "tc_weight": 0.0, "new_rung_pressure": 1.0, "last_pressure": 1.0}
    return fixed, space, {name: type(low)(np.clip(paper[name], low, high)) for name, (low, high) in space.items()}


def open_study(output, first):
    """Opens the study, or creates it with the settings of its first trial."""
    wanted = {name: FLAGS[name].value for name in OF_STUDY}
    retry = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=3)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{output / 'study.db'}", {"connect_args": {"timeout": GRACE}},
        heartbeat_interval=HEARTBEAT, grace_period=GRACE, heartbeat_stale_trial_callback=retry,
    )  # fmt: skip
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_min_trials=2)
    how = {"direction": "maximize", "pruner": pruner, "load_if_exists": True}
    study = optuna.create_study(storage=storage, study_name="tune", **how)
    if not study.trials:
        study.set_user_attr("flags", wanted)
        study.set_metric_names([FLAGS.objective])
        study.enqueue_trial(first)
    kept = study.user_attrs["flags"]
    if kept != wanted:
        changed = ", ".join(f"--{name}={kept[name]}" for name in wanted if kept[name] != wanted[name])
        raise app.UsageError(f"{output} has a search with {changed}: repeat that, or choose another --output.")
    opened = study.user_attrs.get("opened", 0)  # a process that joins or continues must not draw the same settings
    study.set_user_attr("opened", opened + 1)
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=6, seed=FLAGS.seed + 1000 * opened)
    return study


def score(models, data):
    """Computes the objective of a model, or of two with different seeds."""
    if FLAGS.objective == "elbo":
        return models[0].evaluate(data.images, batch_size=250, verbose=0, return_dict=True)["elbo"]
    codes = [encode_all(model, data.images) for model in models]
    if FLAGS.objective == "udr":
        return float(kp.metrics.udr(codes, method="spearman").scores.mean())
    return kp.metrics.mig(kp.metrics.mutual_information(*codes[0], data.factors).normalized)


def train(trial, recipe, data):
    """Trains a model (two for UDR) stage by stage, and prunes at the ends of stages; returns it and its score."""
    keras.utils.clear_session()
    training, runs = recipe["training"], []
    for seed in range(FLAGS.seed, FLAGS.seed + (2 if FLAGS.objective == "udr" else 1)):
        keras.utils.set_random_seed(seed)
        runs.append((seed, kp.recipes.compiled_model(recipe), kp.recipes.fit_callbacks(recipe)))
    for end in [*training["unlock_iterations"], training["iterations"]]:
        for seed, model, callbacks in runs:
            begin, how = model.iteration, {"seed": seed, "subset": data.rows, "repeat": True}
            ds = data.truth.tf_dataset(training["batch_size"], start_step=begin, **how)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The growth schedule is longer than this training")
                model.fit(ds, steps_per_epoch=end - begin, verbose=0, callbacks=callbacks)
        value = score([model for _, model, _ in runs], data)
        trial.report(value, end)
        if end < training["iterations"] and trial.should_prune():
            raise optuna.TrialPruned(f"{FLAGS.objective} {value:.4g} after {end} steps.")
    return runs[0][1], value


def search(study, space, fixed, data, output, begin):
    """Runs trials until the time or their number is reached; keeps the model of each that was the best so far."""

    def finished(*states):
        return study.get_trials(deepcopy=False, states=states)

    def objective(trial):
        chosen = {}
        for name, (low, high) in space.items():
            how = {} if isinstance(low, int) else {"log": name in LOGARITHMIC}
            chosen[name] = (trial.suggest_int if isinstance(low, int) else trial.suggest_float)(name, low, high, **how)
        model, value = train(trial, kp.recipes.even_recipe(**fixed, **chosen), data)
        if all(value >= other.value for other in finished(TrialState.COMPLETE)):
            model.save(output / f"trial_{trial.number}.keras")
        return value

    def is_over():
        usual = np.median([trial.duration.total_seconds() for trial in finished(TrialState.COMPLETE)] or [0])
        enough = FLAGS.trials and len(finished(TrialState.COMPLETE, TrialState.PRUNED)) >= FLAGS.trials
        return enough or time.time() - begin + usual >= 60 * FLAGS.minutes

    if not is_over():
        stop = [lambda study, _: study.stop() if is_over() else None]
        study.optimize(objective, callbacks=stop, catch=(kp.NonFiniteLossError,), gc_after_trial=True)


def main(_):
    begin = time.time()
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if FLAGS.objective == "mig" and FLAGS.data not in TWINS:
        raise app.UsageError(f"MIG needs data with known factors, {' or '.join(TWINS)}: use --objective=udr or elbo.")
    if FLAGS.data in TWINS and 64 % FLAGS.size:
        raise app.UsageError(f"--size must divide 64 for --data={FLAGS.data}. Received: --size={FLAGS.size}.")
    data = load(FLAGS.data, FLAGS.source, FLAGS.size)
    fixed, space, paper = plan(data)
    output = Path(FLAGS.output or f"output/tune_{data.truth.name}_{FLAGS.objective}")
    with only_one(output, wait=True):
        study = open_study(output, paper)
    search(study, space, fixed, data, output, begin)
    if not any(trial.state == TrialState.COMPLETE for trial in study.trials):
        raise SystemExit("No trial is complete yet: give the search more --minutes, or its trials fewer --iterations.")
    with only_one(output, wait=True):
        lines, paths = results.write(study, list(space), data, fixed, output, FLAGS.seed)
    print("", *lines[:6], sep="\n")
    print(f"{data.truth}: {len(lines) - 1} trials, {time.time() - begin:.0f} seconds of this command. Look at:")
    for path in paths:
        print(f"  {path}")


if __name__ == "__main__":
    app.run(main)
