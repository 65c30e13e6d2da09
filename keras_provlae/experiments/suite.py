"""Experiments, from the grid of runs to the page."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from keras_provlae.checks import check_count
from keras_provlae.experiments import (
    ablation,
    comparison,
    guidance,
    harsh_ablation,
    information_flow,
    runs,
    scales,
    traversals,
)
from keras_provlae.experiments.records import read_results
from keras_provlae.experiments.runner import FailedRunsError, execute_all
from keras_provlae.folders import check_writable

PAPER = {
    "comparison": comparison,
    "information_flow": information_flow,
    "ablation": ablation,
    "traversals": traversals,
}
EXPERIMENTS = {**PAPER, "harsh_ablation": harsh_ablation, "guidance": guidance}
PAGE = "README.md"


def grid(
    experiment: str,
    scale: str,
    seeds: int = 3,
    sources: Mapping[str, str] | None = None,
    data: Sequence[str] = ("shapes3d",),
) -> list[dict]:
    """Returns all runs of an experiment, seed by seed, so that early results cover every model.

    Args:
        experiment: One of `EXPERIMENTS`.
        scale: `"smoke"`, `"small"` or `"paper"`.
        seeds: Int >= 1. Seeds 0 .. seeds - 1.
        sources: `{data: source}`: keywords of the loaders, or paths of files and folders. A run stores the name
            without its folder, so that results can move to other machines.
        data: Data sets of `comparison` and `guidance`: `"shapes3d"`, `"dsprites"` or both.

    Returns:
        A list of complete runs.

    Raises:
        TypeError, ValueError: If an argument is not allowed.
        FileNotFoundError: If a path in `sources` does not exist.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"`experiment` must be one of {', '.join(EXPERIMENTS)}. Received: {experiment!r}.")
    if scale not in scales.SCALES:
        raise ValueError(f"`scale` must be one of {', '.join(scales.SCALES)}. Received: {scale!r}.")
    if isinstance(data, str) or not data or not set(data) <= set(comparison.LATENTS):
        raise ValueError(f"`data` must be a list of {', '.join(comparison.LATENTS)}. Received: {data!r}.")
    check_count("seeds", seeds)
    sources = sources or {}
    for name, source in sources.items():
        if name not in runs.DATA:
            raise ValueError(f"The keys of `sources` must be among {', '.join(runs.DATA)}. Received: {name!r}.")
        if os.sep in str(source) and not Path(source).expanduser().exists():
            raise FileNotFoundError(f"No images of {name} found at {source}.")
    further = {"comparison": {"data": data}, "guidance": {"data": data}}
    further |= {"traversals": {"faces": "celeb_a" if "celeb_a" in sources else "scenes"}}
    made = [
        run for seed in range(seeds) for run in EXPERIMENTS[experiment].grid(scale, seed, **further.get(experiment, {}))
    ]
    named = {name: Path(source).name for name, source in sources.items()}
    return [runs.complete({**run, "source": named.get(run["data"], "auto")}) for run in made]


def run_experiment(
    experiment: str,
    scale: str,
    folder: str | os.PathLike,
    seeds: int = 3,
    workers: int = 1,
    sources: Mapping[str, str] | None = None,
    data: Sequence[str] = ("shapes3d",),
    executor: Executor | None = None,
    shard: tuple[int, int] | None = None,
) -> str:
    """Trains the missing runs of an experiment, writes its page and returns it.

    Args:
        experiment: See `grid`.
        scale: See `grid`.
        folder: Folder of `results.jsonl` (shared by all experiments), `models`, and one subfolder per experiment.
        seeds: See `grid`.
        workers: Int >= 1. Number of training processes.
        sources: See `grid`.
        data: See `grid`.
        executor: See `execute_all`.
        shard: See `execute_all`. The page has what all shards have finished.

    Returns:
        The page in Markdown, also written to `README.md` in the experiment's folder.

    Raises:
        FailedRunsError: If runs failed; the page of the finished runs is written first.
        RuntimeError: If another process holds the folder, or the executor is lost.
        OSError: If the page cannot be written; raised before any training.
    """
    wanted = grid(experiment, scale, seeds, sources, data)
    check_writable("The page", Path(folder) / experiment)
    try:
        execute_all(wanted, folder, workers, sources, executor=executor, shard=shard)
    except FailedRunsError:
        if _finished(folder, wanted):
            write_report(experiment, scale, folder, seeds, sources, data)
        raise
    return write_report(experiment, scale, folder, seeds, sources, data)


def write_report(
    experiment: str,
    scale: str,
    folder: str | os.PathLike,
    seeds: int = 3,
    sources: Mapping[str, str] | None = None,
    data: Sequence[str] = ("shapes3d",),
) -> str:
    """Writes the page and the pictures of an experiment from its finished runs, whatever their image source.

    Args:
        experiment: See `run_experiment`, also for the other arguments.

    Returns:
        The page in Markdown.

    Raises:
        FileNotFoundError: If no run is finished.
    """
    folder = Path(folder)
    wanted = grid(experiment, scale, seeds, sources, data)
    results = _finished(folder, wanted)
    if not results:
        raise FileNotFoundError(f"{folder} has none of the {len(wanted)} runs of {experiment} at scale {scale}.")
    page_folder = folder / experiment
    page_folder.mkdir(exist_ok=True)
    further: dict[str, Any] = {"source_of": sources} if experiment == "traversals" else {}
    page = EXPERIMENTS[experiment].report(results, page_folder, **further)
    missing = len(wanted) - len(results)
    note = f" {missing} of {len(wanted)} runs are not finished." if missing else ""
    note += _mixed(results)
    heading, rest = page.split("\n", 1)
    if scale == "smoke":
        note += " **This scale only checks that everything runs; its numbers say nothing about the paper.**"
    page = f"{heading}\n\nScale: {scale}; seeds: {seeds}.{note}\n{rest}"
    (page_folder / PAGE).write_text(page, encoding="utf-8")
    return page


def _finished(folder, wanted):
    """Returns the results of these runs, in order, from whatever image source."""
    done = {_sourceless(result["run"]): result for result in read_results(folder).values()}
    return [done[name] for name in map(_sourceless, wanted) if name in done]


def _sourceless(run):
    return runs.key({**run, "source": "auto"})


def _mixed(results):
    """Returns a warning if runs on the same data set used different images."""
    names = {}
    for result in results:
        names.setdefault(result["run"]["data"], set()).add(result["data"])
    mixed = ["; ".join(sorted(found)) for found in names.values() if len(found) > 1]
    return f" **Do not compare: these runs used different images: {' | '.join(mixed)}.**" if mixed else ""
