"""One run from its dict to its result: trained, checkpointed, and scored stage by stage."""

import json
import math
import os
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_provlae import growth, metrics
from keras_provlae.experiments import sources
from keras_provlae.experiments.records import only_one
from keras_provlae.experiments.runs import build, complete, grows, key, stage_ends
from keras_provlae.metrics.encoding import BATCH, encode, encode_all, read
from keras_provlae.models.validation import LOSS_RULE
from keras_provlae.visualization import Snapshot
from keras_provlae.visualization.snapshot import iteration_of

CHUNKS = 30  # parts of a training; after each the half-run is kept
PROBES = 500  # images whose posterior variances are followed
EVALUATED = 10_000  # images at most that reconstruction and KL are means over
STAGE_DRAWS = 2000  # of (x, z), for I(x; z_l) at the end of a stage
STOPPED = LOSS_RULE.split("{")[0].split(".")[0]  # how a training says that its loss is not finite


def execute(
    run: Mapping[str, Any],
    folder: str | os.PathLike,
    progress: Callable[[int], None] | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """Trains and scores one run, or goes on with it where it was stopped.

    Args:
        run: A run; see `runs.complete`.
        folder: Where its checkpoint lies while it is not finished, and its model and snapshots afterwards
            (`model.keras`, `stage_0.npz` ..), in a folder with the name of the run.
        progress: `None`, or a function that is called with the optimiser steps done, after each part of the training.
        source: Where the images come from, as the data set's loader takes it; `None` is the `source` of the run.

    Returns:
        A dict for JSON: `run`, `key`, `data`, `real`, `stages` (what each knew at its end), `reconstruction` and `kl`
        in nats per image, `scores`, `card`, `peak_variance`, `finite`, `seconds`, `versions`, `machine`.

    Raises:
        TypeError, ValueError: If the run is unfit.
        FileNotFoundError, ...: If there are no images.
    """
    run = complete(run)
    folder = Path(folder) / key(run)
    data = sources.load(run, source)
    with only_one(folder, wait=True):  # a worker whose runner was killed may not have noticed yet
        return _execute(run, folder, data, progress)


def _execute(run, folder, data, progress):
    keras.utils.set_random_seed(run["seed"])
    checkpoint = _Checkpoint(folder)
    model, log = checkpoint.restore() or (build(run, data.truth.image_shape, len(data.truth)), _new_log())
    result = {"run": run, "key": key(run), "data": data.name, "real": data.real, "images": len(data.truth)}
    watch = _Watch(run, data, log, checkpoint, progress)
    try:
        _fit(model, run, data, watch)
        result["finite"] = True
    except ValueError as error:
        if not str(error).startswith(STOPPED):
            raise
        result |= {"finite": False, "error": str(error)}
    result |= {name: log[name] for name in ("stages", "peak_variance", "variance")}
    result["stopped_at"] = iteration_of(model)
    if result["finite"]:
        result |= _score(model, run, data, log)
        _plain(model).save(folder / "model.keras")
    result["seconds"] = {name: round(seconds, 1) for name, seconds in log["seconds"].items()}
    result["versions"] = {name: version(name) for name in ("keras", "numpy")} | {"backend": _backend()}
    result["machine"] = {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()}
    checkpoint.remove()
    return result


def _fit(model, run, data, watch):
    parts = _parts(run["iterations"])
    steps, done = run["iterations"] // parts, iteration_of(model)
    callbacks = [watch]
    if grows(run):
        points = stage_ends(run)[:-1]
        schedule = growth.GrowthSchedule(unlock_iterations=points) if points else None
        fade_in = run["fade_in"] or 0
        callbacks.insert(0, growth.GrowthCallback(schedule, fade_in_steps=fade_in, max_fade_fraction=None))
    if done < run["iterations"]:
        ds = data.truth.tf_dataset(run["batch_size"], seed=run["seed"], start_step=done, repeat=True)
        fit = {"epochs": parts, "initial_epoch": done // steps, "steps_per_epoch": steps, "verbose": 0}
        model.fit(ds, callbacks=callbacks, **fit)


def _parts(iterations):
    """How many equal parts a training is cut into: `CHUNKS`, or the next smaller number that divides it."""
    return next(parts for parts in range(min(CHUNKS, iterations), 0, -1) if iterations % parts == 0)


class _Watch(keras.callbacks.Callback):
    """Scores the model at the end of each stage, follows its variances, and keeps the half-run."""

    def __init__(self, run, data, log, checkpoint, progress):
        super().__init__()
        self.run, self.data, self.log, self.checkpoint, self.progress = run, data, log, checkpoint, progress
        self.probes, _ = data.truth.sample(min(PROBES, len(data.truth)), seed=0)

    def on_train_begin(self, logs=None):
        self.params.setdefault("before_growth", []).append(lambda: self._end_stage())
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._count("training")
        iteration = iteration_of(self.model)
        variance = self._variance()
        self.log["variance"].append([iteration, variance])
        self.log["peak_variance"] = max(self.log["peak_variance"], variance)
        if iteration == self.run["iterations"]:
            self._end_stage()
        self._count("scores")
        self.checkpoint.save(self.model, self.log, iteration)
        if self.progress is not None:
            self.progress(iteration)

    def _end_stage(self):
        self._count("training")
        stage = getattr(self.model, "stage", 0)
        self.log["stages"].append(stage_scores(self.model, self.run, self.data, stage))
        Snapshot.of(self.model, self.probes).save(self.checkpoint.folder / f"stage_{stage}.npz")
        self._count("scores")

    def _variance(self):
        """The largest mean posterior variance of a latent of the unlocked rungs; the prior's is 1."""
        _, log_var = encode_all(self.model, self.probes)
        stage = getattr(self.model, "stage", self.model.num_rungs - 1)
        unlocked = self.model.rung_slices[: stage + 1]
        columns = np.concatenate([np.arange(columns.start, columns.stop) for _, columns in unlocked])
        variance = float(np.exp(log_var.astype("float64")).mean(axis=0)[columns].max())
        return float(f"{variance:.4g}") if math.isfinite(variance) else 1e300  # JSON has no infinity

    def _count(self, what):
        now = time.perf_counter()
        self.log["seconds"][what] += now - self._begin
        self._begin = now


def stage_scores(model: keras.Model, run: Mapping[str, Any], data: Any, stage: int) -> dict[str, Any]:
    """What the unlocked rungs know at the end of a stage: I(x; z_l), I(x; z), MIG and MIG-sup."""
    mean, log_var, factors = encode(model, read(data.truth, BATCH), None, False, 0, run["num_images"])
    slices = model.rung_slices[: stage + 1] if grows(run) else model.rung_slices
    flow = metrics.information_flow(mean, log_var, slices, draws=STAGE_DRAWS, seed=0)
    rungs = {str(rung): round(float(mi), 4) for rung, mi in zip(flow.rungs, flow.mi, strict=True)}
    scores = {"stage": stage, "iteration": iteration_of(model), "mi": rungs, "mi_total": round(flow.total, 4)}
    scores |= {"ceiling": round(flow.ceiling, 4), "standard_error": round(float(flow.standard_error.max()), 4)}
    if data.labels is None:
        found = metrics.mutual_information(mean, log_var, factors)
        scores["mig"] = round(float(metrics.mig(found.normalized)), 4)
        active = found.active.any()  # else MIG-sup is undefined
        scores["mig_sup"] = round(float(metrics.mig_sup(found.normalized, found.active)), 4) if active else None
        scores["normalized"] = np.round(found.normalized, 3).tolist()
    return scores


def _score(model, run, data, log):
    """Reconstruction, KL and the metric card of the trained model."""
    begin = time.perf_counter()
    rows = min(EVALUATED, len(data.truth))
    ds = data.truth.tf_dataset(BATCH, seed=0, subset=rows, shuffle=False)
    measured = model.evaluate(ds, verbose=0, return_dict=True)
    mean, log_var, factors = encode(model, read(data.truth, BATCH), None, False, 0, run["num_images"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="MIG-sup is undefined|No latent has a standard deviation")
        card = metrics.evaluate_codes(
            mean,
            log_var,
            data.factors(factors),
            model.rung_slices,
            include=run["scores"],
            seed=0,
            factor_names=data.factor_names,
            data=data.name,
            about={"model": run["model"], "seed of the training": run["seed"]},
        )
    log["seconds"]["scores"] += time.perf_counter() - begin
    scores = {name: _rounded(score.value) for name, score in card.items()}
    losses = {name: _rounded(measured[name]) for name in ("reconstruction", "kl")}
    return {**losses, "scores": scores, "card": card.to_dict()}


def _plain(model):
    """The same model without the optimiser's moments, a third of the size."""
    plain = type(model).from_config(model.get_config())
    plain.set_weights(model.get_weights())
    return plain


def _rounded(value):
    return round(float(value), 6) if math.isfinite(value) else None


def _backend():
    backend = keras.backend.backend()
    return f"{backend} {version(backend)}"


def _new_log():
    return {"stages": [], "variance": [], "peak_variance": 0.0, "seconds": {"training": 0.0, "scores": 0.0}}


class _Checkpoint:
    """The half-run in two files; a kill between them, or amid one, leaves a pair that goes together."""

    def __init__(self, folder):
        self.folder = folder
        self.model, self.log = folder / "half.keras", folder / "half.json"

    def save(self, model, log, iteration):
        # the log first: what it knows of later steps than the model's is left out when they are read
        _replace(self.log, lambda path: path.write_text(json.dumps(log)))
        _replace(self.model, model.save)

    def restore(self):
        """`(model, log)`, or `None` where there is nothing whole."""
        if not self.model.exists() or not self.log.exists():
            return None
        model, log = keras.models.load_model(self.model), json.loads(self.log.read_text())
        iteration = iteration_of(model)
        log["stages"] = [stage for stage in log["stages"] if stage["iteration"] <= iteration]
        log["variance"] = [pair for pair in log["variance"] if pair[0] <= iteration]
        log["peak_variance"] = max((variance for _, variance in log["variance"]), default=0.0)
        return model, log

    def remove(self):
        for path in (self.model, self.log):
            path.unlink(missing_ok=True)


def _replace(path, write):
    """Writes a file whole or not at all."""
    part = path.with_name(f"part_{path.name}")
    write(part)
    os.replace(part, path)


def forget(folder: str | os.PathLike, run: Mapping[str, Any]) -> None:
    """Removes what `execute` left of a run."""
    shutil.rmtree(Path(folder) / key(run), ignore_errors=True)
