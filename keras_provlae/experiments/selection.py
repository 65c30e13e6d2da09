"""Choice among the finished runs of a folder without labels: UDR, and its rank correlation with MIG and MIG-sup."""

import itertools
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_provlae.checks import check_count
from keras_provlae.experiments import runs
from keras_provlae.experiments.records import MODELS, read_results
from keras_provlae.experiments.sources import load
from keras_provlae.experiments.tables import markdown
from keras_provlae.folders import check_writable, replace_text
from keras_provlae.messages import say
from keras_provlae.metrics import udr
from keras_provlae.metrics.encoding import BATCH, encode, read
from keras_provlae.metrics.udr import centered_ranks, check_method

FOLDER = "select"
NUM_IMAGES = 10_000
LABELED = {"mig": "MIG", "mig_sup": "MIG-sup"}
ALL_ORDERS = 7  # up to so many runs, chance is computed from all orders; beyond, from 10,000 random ones


def select(
    folder: str | os.PathLike,
    num_images: int = NUM_IMAGES,
    method: str = "lasso",
    sources: Mapping[str, str] | None = None,
) -> str:
    """Ranks the finished runs of a folder by UDR, beside MIG and MIG-sup where these are known.

    Runs that differ only in the seed form a group. All models of a group encode the same images, and each is scored by
    its similarity with the others of its group (`metrics.udr`). Nothing is trained.

    Args:
        folder: Folder of `results.jsonl` and `models`, as `execute_all` writes it.
        num_images: Int >= 2. Number of images to encode, drawn at random; at most all.
        method: `"lasso"` or `"spearman"`; see `metrics.udr`.
        sources: `{data: source}`: sources for the data sets' loaders, in place of the runs' own.

    Returns:
        The page in Markdown, also written to `select/README.md` in the folder. `select/select.jsonl` has one line per
        ranked run. The page names every finished run that is not ranked, with the reason.

    Raises:
        TypeError, ValueError: If an argument is not allowed, or no two finished runs differ only in the seed.
        FileNotFoundError: If no run is finished, or no two models of a group can be read.
        ImportError: If scikit-learn is not installed and the method is `"lasso"`.
        OSError: If the page cannot be written; raised before any model is read.
    """
    check_method(method)
    check_count("num_images", num_images, least=2)
    folder = Path(folder)
    results = list(read_results(folder).values())
    groups, left_out = _groups(results, folder)
    check_writable("The page", folder / FOLDER)
    ranked = []
    for number, group in enumerate(groups, start=1):
        say(f"Group {number} of {len(groups)}: {len(group)} runs, {_seedless_title(group[0])}")
        source = (sources or {}).get(group[0]["run"]["data"])
        lines, reasons = _scored(group, number, folder, num_images, method, source)
        ranked += lines
        left_out += reasons
    if not ranked:
        raise FileNotFoundError(f"No two models of a group in {folder} can be compared: {'; '.join(left_out)}.")
    ranked.sort(key=lambda line: (line["data"], -line["udr"]))
    page = _page(ranked, groups, left_out, method)
    replace_text(folder / FOLDER / "select.jsonl", "".join(json.dumps(line) + "\n" for line in ranked))
    replace_text(folder / FOLDER / "README.md", page)
    return page


def _groups(results, folder):
    """Groups results that differ only in the seed. Returns the groups of two or more, and why other runs are left out.

    Raises if there is no group.
    """
    if not results:
        raise FileNotFoundError(f"{folder} has no finished run: there is no line in its results.jsonl.")
    left_out = [f"{runs.title(result['run'])}: its loss was not finite" for result in results if not result["finite"]]
    groups = {}
    for result in results:
        if result["finite"]:
            settings = {name: value for name, value in result["run"].items() if name != "seed"}
            groups.setdefault(json.dumps([result["data"], settings], sort_keys=True), []).append(result)
    alone = [f"{runs.title(group[0]['run'])}: no other seed" for group in groups.values() if len(group) == 1]
    several = [sorted(group, key=lambda one: one["run"]["seed"]) for group in groups.values() if len(group) > 1]
    if not several:
        raise ValueError(
            "UDR compares trainings that differ only in the seed: at least two of them must be finished. "
            f"Received: {len(results)} runs in {folder}. Left out: {'; '.join(left_out + alone)}."
        )
    several.sort(key=lambda group: group[0]["data"])  # the images of one data set at a time are in memory
    return several, left_out + alone


def _scored(group, number, folder, num_images, method, source):
    """Returns a line for each run of a group that could be encoded, and the reasons for the others."""
    try:
        data = load(group[0]["run"], source)
    except (ImportError, OSError, ValueError) as error:
        return [], [f"{runs.title(result['run'])}: {error}" for result in group]
    if data.name != group[0]["data"]:
        reason = f"trained on {group[0]['data']!r}, but these images are {data.name!r}"
        return [], [f"{runs.title(result['run'])}: {reason}" for result in group]
    stream, num_images = read(data.truth, BATCH), min(num_images, len(data.truth))
    encoded, reasons = [], []
    for result in group:
        file = folder / MODELS / result["key"] / "model.keras"
        try:
            model = keras.models.load_model(file, compile=False)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            why = error if file.exists() else "the file is missing"
            reasons.append(f"{runs.title(result['run'])}: no model at {file} ({why})")
        else:
            encoded.append((result, encode(model, stream, None, False, 0, num_images)[:2]))
    if len(encoded) < 2:
        return [], reasons + [f"{runs.title(result['run'])}: no other model of its group" for result, _ in encoded]
    scores = udr([posterior for _, posterior in encoded], method)
    lines = []
    for index, (result, _) in enumerate(encoded):
        line = {"key": result["key"], "data": result["data"], "group": number, "seed": result["run"]["seed"]}
        line |= {"udr": round(float(scores.scores[index]), 6), "informative": int(scores.informative[index].sum())}
        line |= {"compared_with": len(encoded) - 1, "method": method, "num_images": num_images}
        lines.append(
            line | {name: result["scores"].get(name) for name in LABELED} | {"title": runs.title(result["run"])}
        )
    return lines, reasons


def _page(ranked, groups, left_out, method):
    images = " or ".join(f"{number:,}" for number in sorted({line["num_images"] for line in ranked}))
    parts = ["# Choice without labels", _ABOUT.format(images=images, method=method)]
    by_data = {}
    for line in ranked:
        by_data.setdefault(line["data"], []).append(line)
    for data, lines in by_data.items():
        parts += [f"## {data}", _ranking(lines), *_settings(groups, {line["group"] for line in lines})]
    parts += ["## UDR against the labels", _AGREEMENT, _agreement(by_data)]
    if left_out:
        parts += ["## Not ranked", "\n".join(f"- {reason}" for reason in left_out)]
    return "\n\n".join(parts) + "\n"


_ABOUT = (
    "Each model has encoded {images} images, the same for all of its group: the runs that differ only in the seed. UDR "
    "({method}) is the median similarity of its latents with those of the others in the group; higher is better, and "
    "no label is used. A mixture of factors that most seeds share counts as agreement. MIG and MIG-sup use labels."
)
_AGREEMENT = (
    "Spearman's rank correlation over the ranked runs. *By chance*: how often a random order correlates at least as "
    "strongly, with either sign. Few runs say little. Data sets are not mixed: each has its own level of MIG."
)


def _ranking(lines):
    rows = [
        [rank, line["title"], line["group"], f"{line['udr']:.3f}", line["informative"], *_labeled(line)]
        for rank, line in enumerate(lines, start=1)
    ]
    return markdown(["rank", "run", "group", "UDR", "informative latents", *LABELED.values()], rows)


def _labeled(line):
    return ["-" if line[name] is None else f"{line[name]:.3f}" for name in LABELED]


def _settings(groups, numbers):
    """Returns a list (or none) of the settings in which groups of the same title differ."""
    by_title = {}
    for number in sorted(numbers):
        by_title.setdefault(_seedless_title(groups[number - 1][0]), []).append(number)
    lines = []
    for same in by_title.values():
        flat = {number: dict(_flattened(groups[number - 1][0]["run"])) for number in same}
        names = sorted(set().union(*flat.values()) - {"seed", "recipe.description"})
        differing = [name for name in names if len({json.dumps(one.get(name)) for one in flat.values()}) > 1]
        if differing:
            for number in same:
                values = ", ".join(f"{name} {json.dumps(flat[number].get(name))}" for name in differing)
                lines.append(f"- group {number}: {values}")
    return ["\n".join(lines)] if lines else []


def _flattened(run: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in run.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _seedless_title(result):
    return runs.title(result["run"]).rsplit(" seed ", 1)[0]


def _agreement(by_data):
    rows = [[data, *_correlations(lines)] for data, lines in by_data.items()]
    return markdown(["data", *(f"UDR with {name}" for name in LABELED.values())], rows)


def _correlations(lines):
    for name in LABELED:
        pairs = [(line["udr"], line[name]) for line in lines if line[name] is not None]
        yield described_correlation(*zip(*pairs, strict=True)) if pairs else "no run has this score"


def described_correlation(first: Sequence[float], second: Sequence[float]) -> str:
    """Formats the rank correlation of two lists of numbers, with their length and what chance reaches.

    Example:
        >>> described_correlation([1.0, 2.0, 3.0], [0.1, 0.2, 0.5])
        '1.00 (3 runs; by chance 33 %)'
    """
    count = len(first)
    one, other = centered_ranks(first), centered_ranks(second)
    scale = np.sqrt((one @ one) * (other @ other))
    if scale == 0:
        return f"undefined ({count} run{'s' if count > 1 else ''}, or all equal)"
    if count <= ALL_ORDERS:
        orders = np.array(list(itertools.permutations(range(count))))
    else:
        orders = np.random.default_rng(0).permuted(np.tile(np.arange(count), (10_000, 1)), axis=1)
    by_chance = np.mean(np.abs(other[orders] @ one) >= abs(other @ one) - 1e-9)
    return f"{other @ one / scale:.2f} ({count} runs; by chance {100 * by_chance:.0f} %)"
