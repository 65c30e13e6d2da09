"""Execution of one run: training with checkpoints, and scores after every stage."""

import json
import math
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_provlae import growth, metrics, recipes
from keras_provlae.experiments import sources
from keras_provlae.experiments.records import only_one
from keras_provlae.experiments.runs import build, complete, grows, key, stage_ends
from keras_provlae.metrics.encoding import BATCH, encode, encode_all, read
from keras_provlae.training.errors import NonFiniteLossError
from keras_provlae.visualization import Snapshot

CHUNKS = 30  # minimum number of parts of a training; a checkpoint can follow each
PART_STEPS = 500  # maximum optimizer steps of a part
KEEP_EVERY = 20.0  # minimum seconds between checkpoints
PROBES = 500  # images for the posterior variances and snapshots
EVALUATED = 10_000  # maximum images for reconstruction and KL
STAGE_DRAWS = 2000  # draws of (x, z) for I(x; z_l) at the end of a stage
RESULT = "result.json"
HALF_LOG = "half.json"  # of a checkpoint


def execute(
    run: Mapping[str, Any],
    folder: str | os.PathLike,
    progress: Callable[[int, Mapping[str, float]], None] | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """Trains and scores one run, resuming it from its checkpoint if there is one.

    Args:
        run: A run; see `runs.complete`.
        folder: Parent folder of the run's own folder, which holds the checkpoint during training and the model,
            snapshots and result afterwards (`model.keras`, `stage_0.npz` .., `result.json`). If the result exists,
            it is returned and nothing is trained.
        progress: `None`, or a function called after each part of the training with the optimizer steps done and the
            seconds so far, `{"training": .., "scores": ..}`.
        source: Source for the data set's loader; `None` means the run's own `source`.

    Returns:
        A dict for JSON: `run`, `key`, `data`, `real`, `stages` (scores at the end of each), `reconstruction` and `kl`
        in nats per image (means over at most 10,000 images), `scores`, `card` (`None` if no factor is known),
        `variance` and `peak_variance`, `finite`, `stopped_at`, `seconds`, `versions`, `machine`. If the loss or a code
        is not finite, the run stops there and the dict has the measurements so far and `error`.

    Raises:
        TypeError, ValueError: If the run or `progress` is not allowed.
        FileNotFoundError, ...: If the images are missing.
    """
    run = complete(run)
    if progress is not None and not callable(progress):
        raise TypeError(f"`progress` must be a function or None. Received: {progress!r}.")
    folder = Path(folder) / key(run)
    with only_one(folder, wait=True):  # the worker of a killed runner may still be running
        kept = folder / RESULT
        if kept.exists():
            return json.loads(kept.read_text())
        result = _execute(run, folder, sources.load(run, source), progress)
        text = json.dumps(result, allow_nan=False)
        _replace(kept, lambda path: path.write_text(text))
        _Checkpoint(folder).remove()
        return json.loads(text)


def _execute(run, folder, data, progress):
    keras.utils.set_random_seed(run["seed"])
    checkpoint = _Checkpoint(folder)
    model, log = checkpoint.restore(data.name) or (build(run, data.truth.image_shape, len(data.truth)), _new_log(data))
    watch = _Watch(run, data, log, checkpoint, progress, done=model.iteration)
    result = {"run": run, "key": key(run), "data": data.name, "real": data.real, "images": len(data.truth)}
    try:
        _fit(model, run, data, watch)
        begin = time.perf_counter()
        result |= {"finite": True, "stopped_at": run["iterations"], **_score(model, run, data, log)}
        log["seconds"]["scores"] += time.perf_counter() - begin
        _plain(model).save(folder / "model.keras")
    except NonFiniteLossError as error:
        # no `model.iteration` here: JAX may have donated the model's state to the failed step
        result |= {"finite": False, "stopped_at": watch.done, "error": str(error)}
    result |= {"stages": log["stages"], "variance": log["variance"]}
    result["peak_variance"] = max((variance for _, variance in log["variance"]), default=0.0)
    result["seconds"] = {name: round(seconds, 1) for name, seconds in log["seconds"].items()}
    result["versions"] = {name: version(name) for name in ("keras", "numpy")} | {"backend": _backend()}
    result["machine"] = {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()}
    return result


def _fit(model, run, data, watch):
    callbacks = [watch]
    if "recipe" in run:
        callbacks = [*recipes.fit_callbacks(run["recipe"]), watch]
    elif grows(run):
        points = stage_ends(run)[:-1]
        schedule = growth.GrowthSchedule(unlock_iterations=points) if points else None
        fade_in = run["fade_in"] or 0
        callbacks.insert(0, growth.GrowthCallback(schedule, fade_in_steps=fade_in, max_fade_fraction=None))
    parts = min(run["iterations"], max(CHUNKS, -(-run["iterations"] // PART_STEPS)))
    steps, rest = divmod(run["iterations"], parts)
    whole = run["iterations"] - rest
    for begin, end, length in (0, whole, steps), (whole, run["iterations"], rest):
        done = model.iteration
        if done < end:
            ds = data.truth.tf_dataset(run["batch_size"], seed=run["seed"], start_step=done, repeat=True)
            epochs = {"initial_epoch": (done - begin) // length, "epochs": (end - begin) // length}
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The growth schedule is longer than this training")
                model.fit(ds, steps_per_epoch=length, verbose=0, callbacks=callbacks, **epochs)


class _Watch(keras.callbacks.Callback):
    """Scores the model at the end of each stage, records its variances, and saves checkpoints."""

    def __init__(self, run, data, log, checkpoint, progress, done):
        super().__init__()
        self.done = done  # optimizer steps at the end of the last part
        self.run, self.data, self.log, self.checkpoint, self.progress = run, data, log, checkpoint, progress
        self.probes, _ = data.truth.sample(min(PROBES, len(data.truth)), seed=0)

    def on_train_begin(self, logs=None):
        if self.model.grows:
            self.model.growth_listeners.append(self)
        self._begin = self._kept = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._count("training")
        self.done = iteration = self.model.iteration
        self.log["variance"].append([iteration, self._variance()])
        if iteration == self.run["iterations"]:
            self._end_stage()
        self._count("scores")
        if time.perf_counter() - self._kept >= KEEP_EVERY or iteration == self.run["iterations"]:
            self.checkpoint.save(self.model, self.log)
            self._kept = time.perf_counter()
        if self.progress is not None:
            self.progress(iteration, dict(self.log["seconds"]))

    def before_unlock(self, model):
        self._end_stage()

    def after_unlock(self, model):
        pass

    def _end_stage(self):
        self._count("training")
        stage = self.model.stage if self.model.grows else 0
        before = [scores for scores in self.log["stages"] if scores["stage"] < stage]  # a resumed run can repeat it
        self.log["stages"] = [*before, stage_scores(self.model, self.run, self.data, stage)]
        Snapshot.of(self.model, self.probes).save(self.checkpoint.folder / f"stage_{stage}.npz")
        self._count("scores")

    def _variance(self):
        """Returns the largest mean posterior variance of an unlocked latent; the prior's is 1."""
        _, log_var = encode_all(self.model, self.probes)
        columns = np.concatenate([np.arange(z.start, z.stop) for _, z in _unlocked_slices(self.model)])
        with np.errstate(over="ignore"):
            variance = float(np.exp(log_var.astype("float64")).mean(axis=0)[columns].max())
        return float(f"{variance:.4g}") if math.isfinite(variance) else 1e300  # JSON has no infinity

    def _count(self, what):
        now = time.perf_counter()
        self.log["seconds"][what] += now - self._begin
        self._begin = now


def stage_scores(model: keras.Model, run: Mapping[str, Any], data: Any, stage: int) -> dict[str, Any]:
    """Returns I(x; z_l) and I(x; z) of the unlocked rungs, and MIG and MIG-sup of all latents if factors are known."""
    mean, log_var, factors = _encoded(model, run, data)
    flow = metrics.information_flow(mean, log_var, _unlocked_slices(model), draws=STAGE_DRAWS, seed=0)
    rungs = {str(rung): round(float(mi), 4) for rung, mi in zip(flow.rungs, flow.mi, strict=True)}
    scores = {"stage": stage, "iteration": model.iteration, "mi": rungs, "mi_total": round(flow.total, 4)}
    scores |= {"ceiling": round(flow.ceiling, 4), "standard_error": round(float(flow.standard_error.max()), 4)}
    if data.has_factors:
        found = metrics.mutual_information(mean, log_var, factors)
        scores["mig"] = round(float(metrics.mig(found.normalized)), 4)
        active = found.active.any()  # MIG-sup is undefined without active latents
        scores["mig_sup"] = round(float(metrics.mig_sup(found.normalized, found.active)), 4) if active else None
        scores["normalized"] = np.round(found.normalized, 3).tolist()
    return scores


def _unlocked_slices(model):
    return model.rung_slices[: len(model.unlocked_rungs)]


def _score(model, run, data, log):
    """Returns reconstruction, KL, scores and metric card of the trained model."""
    rows = min(EVALUATED, len(data.truth))
    ds = data.truth.tf_dataset(BATCH, seed=0, subset=rows, shuffle=False)
    measured = model.evaluate(ds, verbose=0, return_dict=True)
    losses = {name: _rounded(measured[name]) for name in ("reconstruction", "kl")}
    if not data.factor_names:
        last = log["stages"][-1]
        flow = {f"mi_rung_{rung}": value for rung, value in last["mi"].items()}
        return {**losses, "scores": {**flow, "mi_total": last["mi_total"]}, "card": None}
    mean, log_var, factors = _encoded(model, run, data)
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
    scores = {name: _rounded(score.value) for name, score in card.items()}
    return {**losses, "scores": scores, "card": card.to_dict()}


def _encoded(model, run, data):
    """Returns mean, log variance and factors of the scored images."""
    mean, log_var, factors = encode(model, read(data.truth, BATCH), None, False, 0, run["num_images"])
    if not (np.isfinite(mean).all() and np.isfinite(log_var).all()):
        raise NonFiniteLossError("The loss is not finite: the codes are not.")
    return mean, log_var, factors


def _plain(model):
    """Copies the model without its optimizer: the file is a third of the size."""
    plain = type(model).from_config(model.get_config())
    plain.set_weights(model.get_weights())
    return plain


def _rounded(value):
    return round(float(value), 6) if math.isfinite(value) else None


def _backend():
    backend = keras.backend.backend()
    return f"{backend} {version(backend)}"


def _new_log(data):
    return {
        "data": data.name,
        "stages": [],
        "variance": [],
        "seconds": {"training": 0.0, "scores": 0.0},
    }


class _Checkpoint:
    """Checkpoint of a run in two files, consistent even after a kill between or during the two writes."""

    def __init__(self, folder):
        self.folder = folder
        self.model, self.log = folder / "half.keras", folder / HALF_LOG

    def save(self, model, log):
        # log first: `restore` drops entries later than the model
        _replace(self.log, lambda path: path.write_text(json.dumps(log)))
        _replace(self.model, model.save)

    def restore(self, data):
        """Returns `(model, log)`, or `None` without a complete checkpoint on the same data."""
        if not self.model.exists() or not self.log.exists():
            return None
        log = json.loads(self.log.read_text())
        if log["data"] != data:
            return None
        model = keras.models.load_model(self.model)
        iteration = model.iteration
        log["stages"] = [stage for stage in log["stages"] if stage["iteration"] <= iteration]
        log["variance"] = [pair for pair in log["variance"] if pair[0] <= iteration]
        return model, log

    def remove(self):
        for path in (self.model, self.log):
            path.unlink(missing_ok=True)


def _replace(path, write):
    """Writes a file atomically."""
    part = path.with_name(f"part_{path.name}")
    write(part)
    os.replace(part, path)
