"""An experiment from its grid of runs to its page."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_provlae.checks import check_count
from keras_provlae.experiments import ablation, comparison, information_flow, runs, scales, traversals
from keras_provlae.experiments.records import read_results
from keras_provlae.experiments.runner import FailedRunsError, execute_all
from keras_provlae.folders import check_writable

EXPERIMENTS = {
    "comparison": comparison,
    "information_flow": information_flow,
    "ablation": ablation,
    "traversals": traversals,
}
PAGE = "README.md"


def grid(
    experiment: str,
    scale: str,
    seeds: int = 3,
    sources: Mapping[str, str] | None = None,
    data: Sequence[str] = ("shapes3d",),
) -> list[dict]:
    """All runs of an experiment, seed by seed, so that the first results are of every kind.

    Args:
        experiment: One of `EXPERIMENTS`.
        scale: `"smoke"`, `"small"` or `"paper"`.
        seeds: Int >= 1. Seeds 0 .. seeds - 1.
        sources: `{data: source}`: words of the loaders, or paths of files and folders. A run has the name alone, so
            that results can be moved to other machines.
        data: What `comparison` compares the models on: `"shapes3d"`, `"dsprites"` or both.

    Returns:
        A list of complete runs.

    Raises:
        ValueError: If the experiment is unknown or `seeds` below 1.
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
            raise ValueError(f"`sources` are of {', '.join(runs.DATA)}. Received: {name!r}.")
        if os.sep in str(source) and not Path(source).expanduser().exists():
            raise FileNotFoundError(f"There are no images of {name} at {source}.")
    further = {"comparison": {"data": data}, "traversals": {"faces": "celeb_a" if "celeb_a" in sources else "scenes"}}
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
) -> str:
    """Executes what is not done yet of an experiment, then writes its page; returns the page.

    Args:
        experiment: One of `EXPERIMENTS`.
        scale: `"smoke"`, `"small"` or `"paper"`.
        folder: Where `results.jsonl` (of all experiments, which share runs), `models` and a folder for each
            experiment are.
        seeds: As `grid`.
        workers: Int >= 1. Processes that train at once.
        sources: As `grid`.
        data: As `grid`.

    Returns:
        The page in Markdown, as it stands in `README.md` of the experiment's folder.

    Raises:
        FailedRunsError: If runs failed; the page of the others is written before.
        RuntimeError: If another runner holds the folder.
        OSError: If the page cannot be written; before anything is trained.
    """
    wanted = grid(experiment, scale, seeds, sources, data)
    check_writable("The page", Path(folder) / experiment)
    try:
        execute_all(wanted, folder, workers, sources)
    except FailedRunsError:  # what is finished is worth its page
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
    """Writes the page and the pictures of an experiment, of those of its runs that are finished, whatever their source.

    Args:
        experiment: As `run_experiment`, like all others.

    Returns:
        The page in Markdown.

    Raises:
        FileNotFoundError: If none of its runs is finished.
    """
    folder = Path(folder)
    wanted = grid(experiment, scale, seeds, sources, data)
    results = _finished(folder, wanted)
    if not results:
        raise FileNotFoundError(f"None of the {len(wanted)} runs of {experiment} at scale {scale} is in {folder}.")
    page_folder = folder / experiment
    page_folder.mkdir(exist_ok=True)
    further: dict[str, Any] = {"source_of": sources} if experiment == "traversals" else {}
    page = EXPERIMENTS[experiment].report(results, page_folder, **further)
    missing = len(wanted) - len(results)
    note = f" {missing} of its {len(wanted)} runs are not finished." if missing else ""
    note += _mixed(results)
    heading, rest = page.split("\n", 1)
    if scale == "smoke":
        note += " **This scale shows that everything runs; its numbers say nothing about the paper.**"
    page = f"{heading}\n\nScale: {scale}; number of seeds: {seeds}.{note}\n{rest}"
    (page_folder / PAGE).write_text(page, encoding="utf-8")
    return page


def _finished(folder, wanted):
    """The results of these runs, in their order; where the images came from is not asked."""
    done = {_sourceless(result["run"]): result for result in read_results(folder).values()}
    return [done[name] for name in map(_sourceless, wanted) if name in done]


def _sourceless(run):
    return runs.key({**run, "source": "auto"})


def _mixed(results):
    """A warning where runs of one data set were trained on different images."""
    names = {}
    for result in results:
        names.setdefault(result["run"]["data"], set()).add(result["data"])
    mixed = ["; ".join(sorted(found)) for found in names.values() if len(found) > 1]
    return f" **These are of different images and must not be compared: {' | '.join(mixed)}.**" if mixed else ""
