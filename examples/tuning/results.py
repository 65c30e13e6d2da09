"""Files that a search leaves behind: a table, Optuna's plots, a page, and the best model with recipe and report."""

import csv
import json
import shutil
import warnings
from html import escape

import keras
import matplotlib.pyplot as plt
import numpy as np
import optuna
from matplotlib.ticker import LogLocator, NullLocator
from optuna.trial import TrialState

import keras_provlae as kp
from keras_provlae.html_table import table

PLOTS = {
    "optimization_history": "Every trial, and the best so far.",
    "intermediate_values": "Each trial at the ends of its stages, by optimizer step. Short lines were pruned.",
    "param_importances": "Share of each setting in what parts the better trials from the others.",
    "slice": "The trials by each setting.",
    "parallel_coordinate": "The settings of each trial, as a line.",
}
WIDE = ("slice", "parallel_coordinate")  # with axes for every setting
STYLE = """body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; margin: 2rem } h2 { font-size: 1.2rem }
td, th { padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums }
img { max-width: 100% }"""


def ranked(study):
    """Returns the trials: the complete ones first, best first, of equals the earliest."""

    def place(trial):
        value = -np.inf if trial.value is None else trial.value
        return trial.state != TrialState.COMPLETE, -value, trial.number

    return sorted(study.trials, key=place)


def table_of(trials, objective, settings):
    """Returns `(header, rows)`; what a trial does not have is empty. A pruned trial has the value of its last stage."""
    header = ["trial", "state", objective, "steps", "seconds", *settings]
    rows = []
    for trial in trials:
        seconds = round(trial.duration.total_seconds(), 1) if trial.duration else None
        numbers = [trial.value, trial.last_step, seconds, *map(trial.params.get, settings)]
        rows.append([trial.number, trial.state.name.lower(), *("" if n is None else n for n in numbers)])
    return header, rows


def _shown(row):
    return [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row]


def draw(study, output):
    """Writes Optuna's plots as PNG files into a folder; returns their paths."""
    paths = [output / f"{name}.png" for name in PLOTS]
    with plt.rc_context(), warnings.catch_warnings():  # Optuna changes the style
        warnings.simplefilter("ignore")  # it warns of its own interface, and of settings with a single value
        for name, path in zip(PLOTS, paths, strict=True):
            label = {} if name == "intermediate_values" else {"target_name": study.metric_names[0]}
            axes = getattr(optuna.visualization.matplotlib, f"plot_{name}")(study, **label)
            figure = np.ravel(axes)[0].figure
            _make_legible(figure, wide=name in WIDE)
            figure.savefig(path, dpi=100, bbox_inches="tight")
            plt.close(figure)
    return paths


def _make_legible(figure, wide):
    if wide:
        figure.set_size_inches(16, 5)
    for axes in figure.axes:
        axes.grid(not wide)  # those of many axes would lie across one another
        for axis in axes.xaxis, axes.yaxis:
            if axis.get_scale() == "log":
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter("{x:g}")
                axis.set_minor_locator(NullLocator())


def write(study, settings, data, fixed, output, seed):
    """Writes all files into a folder.

    Args:
        study: An Optuna study with at least one complete trial, whose best has left `trial_<number>.keras`.
        settings: Names of the settings that were searched.
        data: The `Data`.
        fixed: Arguments of `recipes.even_recipe` that were not searched.
        output: Path of the folder.
        seed: Int. Seed of the report's draws.

    Returns:
        `(lines, paths)`: the table as a list of texts, its header first, and the files to look at.
    """
    trials, objective = ranked(study), study.metric_names[0]
    best, (header, rows) = trials[0], table_of(trials, objective, settings)
    with (output / "trials.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    arguments = {**fixed, **best.params}
    recipe = {**kp.recipes.even_recipe(**arguments), "settings": arguments}
    (output / "best_recipe.json").write_text(json.dumps(recipe, indent=1))
    shutil.copy(output / f"trial_{best.number}.keras", output / "model.keras")
    for trial in trials[1:]:
        if trial.state == TrialState.COMPLETE:  # others may be about to be
            (output / f"trial_{trial.number}.keras").unlink(missing_ok=True)
    report = kp.report.write_report(
        keras.models.load_model(output / "model.keras"),
        data.images if data.factors is None else data.truth,
        path=output / "report.html",
        data_name=str(data.truth),
        facts={"trial of the search": best.number, objective: best.value, **best.params},
        seed=seed,
    )
    plots = draw(study, output)
    _write_page(f"Search on {data.truth}", best, header, rows, plots, output / "search.html")
    texts = [header, *map(_shown, rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ["  ".join(map(str.rjust, text, widths)) for text in texts]
    files = [output / name for name in ("trials.csv", "best_recipe.json", "model.keras")]
    return lines, [output / "search.html", report, *plots, *files]


def _write_page(title, best, header, rows, plots, path):
    text = [f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>']
    text += [f"<style>{STYLE}</style><h1>{escape(title)}</h1>"]
    text += [f'<p>The best is trial {best.number}. <a href="report.html">Report on its model</a></p>']
    text += [table(header, [*map(_shown, rows)], numbers=range(2, len(header)))]
    for plot, caption in zip(plots, PLOTS.values(), strict=True):
        text += [f'<h2>{escape(caption)}</h2><img src="{plot.name}" alt="{escape(caption)}">']
    path.write_text("\n".join(text), encoding="utf-8")
