"""Markdown tables, verdicts on the paper's claims, and summaries of how the runs were made."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_provlae.experiments import runs

AGREES, DIFFERS, UNDECIDED = "agrees", "differs", "undecided"


class Claim(NamedTuple):
    """A claim of the paper, our verdict on it, and the numbers behind the verdict."""

    text: str
    verdict: str  # `AGREES`, `DIFFERS` or `UNDECIDED`
    evidence: str


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Formats a table with aligned columns.

    Example:
        >>> print(markdown(["model", "MIG"], [["VLAE", 0.5]]))
        | model | MIG |
        |-------|-----|
        | VLAE  | 0.5 |
    """
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def claims_table(claims: Iterable[Claim]) -> str:
    """Formats claims as a table."""
    return markdown(["the paper's claim", "our runs", "evidence"], claims)


def spread(values: Iterable[float | None], digits: int = 2) -> str:
    """Formats the mean and sample standard deviation of the values that are not `None`.

    Example:
        >>> spread([1.0, 2.0, 3.0]), spread([1.5]), spread([None])
        ('2.00 ± 1.00', '1.50 (1 run)', '-')
    """
    found = [value for value in values if value is not None]
    if not found:
        return "-"
    if len(found) == 1:
        return f"{found[0]:.{digits}f} (1 run)"
    return f"{np.mean(found):.{digits}f} ± {np.std(found, ddof=1):.{digits}f}"


def mean(values: Iterable[float | None]) -> float:
    """Returns the mean of the values that are not `None`; NaN if there are none."""
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else math.nan


RULE = (
    "How to read this: the means over all seeds must differ by more than 0.01 and by more than twice the standard "
    "error of their difference. *Agrees*: they do, in the paper's direction. *Differs*: they do, in the opposite "
    "direction. With several comparisons, most of them decide. *Undecided*: all other cases, and fewer than two seeds."
)
LEAST = 0.01  # smallest difference of means that counts, in nats or score


def compared(first: Iterable[float | None], second: Iterable[float | None]) -> int:
    """Returns 1 if the first runs are clearly above the second, -1 if clearly below, else 0.

    Clearly: the means differ by more than 0.01 and by more than twice the standard error, from two runs or more each.

    Example:
        >>> compared([0.9, 0.8, 0.9], [0.1, 0.2, 0.1]), compared([0.1, 0.9], [0.2, 0.8]), compared([0.9], [0.1])
        (1, 0, 0)
    """
    first, second = ([value for value in values if value is not None] for values in (first, second))
    if min(len(first), len(second)) < 2:
        return 0
    error = math.sqrt(np.var(first, ddof=1) / len(first) + np.var(second, ddof=1) / len(second))
    difference = float(np.mean(first) - np.mean(second))
    return 0 if abs(difference) <= max(2 * error, LEAST) else int(np.sign(difference))


def above(values: Iterable[float | None], level: float = 0.0) -> int:
    """Compares runs with a number, like `compared`.

    Example:
        >>> above([1.0, 1.2, 1.1]), above([-1.0, 1.0])
        (1, 0)
    """
    found = [value for value in values if value is not None]
    return compared(found, [level] * max(len(found), 2))


def majority(comparisons: Sequence[int]) -> str:
    """Returns the verdict that more than half of the comparisons share, from their results of `compared`.

    Example:
        >>> majority([1, 1, -1]), majority([0, 1, -1]), majority([-1, -1, 1])
        ('agrees', 'undecided', 'differs')
    """
    if sum(sign > 0 for sign in comparisons) > len(comparisons) / 2:
        return AGREES
    return DIFFERS if sum(sign < 0 for sign in comparisons) > len(comparisons) / 2 else UNDECIDED


def not_finite(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns a paragraph (or none) that names the runs with a non-finite loss, which no mean includes."""
    named = [
        f"{runs.title(result['run'])} (after {result['stopped_at']} steps)"
        for result in results
        if not result["finite"]
    ]
    return [f"{len(named)} runs had a non-finite loss; no mean includes them: {'; '.join(named)}."] if named else []


def how_run(results: Iterable[Mapping[str, Any]]) -> str:
    """Summarizes each data set: real or twin, image size, iterations, batch, network, scored images, seeds, time."""
    by_data: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_data.setdefault(result["data"], []).append(result)
    lines = []
    for data, some in by_data.items():
        first = [result["run"] for result in some]
        kind = "real data" if some[0]["real"] else "a procedural twin, not the original"
        network = f"channels {_all(first, 'channels')}, dense {_all(first, 'dense')}"
        size = first[0]["size"]
        rate = f"learning rate {_all(first, 'learning_rate')}"
        if any(run["model"] == "teacher-student" for run in first):
            rate += " (teacher-student: 0.6 times the others', as in its source)"
        found = {
            word for result in some for word in (f"Keras {result['versions']['keras']}", result["versions"]["backend"])
        }
        versions = ", ".join(sorted(found))
        hours = sum(sum(result["seconds"].values()) for result in some) / 3600
        lines.append(
            f"- **{data}** ({kind}): {size} x {size} pixels, {_all(first, 'iterations')} iterations per run "
            f"(all stages), batch size {_all(first, 'batch_size')}, {network}, "
            f"{rate}, {_all(first, 'num_images')} images scored, seeds {_all(first, 'seed')}, "
            f"{len(some)} runs, {hours:.2f} process hours, {versions}."
        )
    return "\n".join(lines)


def _all(settings, name):
    values = {run[name] for run in settings}
    words = [f"{value:,}" if isinstance(value, int) else f"{value:g}" for value in sorted(values - {None})]
    if None in values:
        words.append("all" if name == "num_images" else "the preset's")
    return ", ".join(words)


def of(results: Iterable[Mapping[str, Any]], **settings: Any) -> list[Mapping[str, Any]]:
    """Selects the results whose runs have these settings."""
    return [result for result in results if all(result["run"][name] == value for name, value in settings.items())]


def seeds_table(results: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    """Formats one row per run.

    Args:
        results: Results of runs.
        names: `{name: heading}` of the columns: `"reconstruction"`, `"kl"` or names of scores.
    """
    rows = []
    for result in results:
        values = [result.get(name, result.get("scores", {}).get(name)) for name in names]
        rows.append([runs.title(result["run"]), *("-" if value is None else f"{value:.3f}" for value in values)])
    return markdown(["run", *names.values()], rows)
