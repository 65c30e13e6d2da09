"""Metric cards: scores that record how they were computed and compare only with scores computed the same way."""

import csv
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn, Self

from keras_provlae.html_table import table

ALL_COUNT = "every latent counts"  # convention of scores without a rule for active latents


@dataclass(frozen=True)
class Score:
    """One number and how it was computed.

    `float(score)` is the value. `a - b`, `a < b` and so on raise `ValueError` if the two scores were computed in
    different ways.

    Attributes:
        name: Name of the score, such as "mig".
        value: Float.
        convention: Facts that must agree for two scores to be comparable: estimator, data, factors,
            rows, the rule for active latents, and every setting of the score.
        unit: "nats" or "".
        standard_error: Standard error of a sampled estimate, else `None`.
        seed: Seed of the draws, or `None` if nothing was drawn.
        seconds: Time the computation took. Scores computed together share one time.
        note: Remark on this value.
    """

    name: str
    value: float
    convention: Mapping[str, Any]
    unit: str = ""
    standard_error: float | None = None
    seed: int | None = None
    seconds: float = 0.0
    note: str = ""

    def differences(self, other: "Score") -> list[str]:
        """Lists the differences between two conventions as text; empty if the scores are comparable."""
        mine, theirs = {"score": self.name, **self.convention}, {"score": other.name, **other.convention}
        names = dict.fromkeys([*mine, *theirs])
        return [
            f"{name} {mine.get(name)!r} against {theirs.get(name)!r}"
            for name in names
            if mine.get(name) != theirs.get(name)
        ]

    def __float__(self) -> float:
        return float(self.value)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    def __round__(self, digits: int | None = None) -> float:
        return round(self.value, digits)

    def __sub__(self, other: "Score") -> float:
        self._require_comparable(other)
        return self.value - other.value

    def __lt__(self, other: "Score") -> bool:
        self._require_comparable(other)
        return self.value < other.value

    def __gt__(self, other: "Score") -> bool:
        self._require_comparable(other)
        return self.value > other.value

    def __le__(self, other: "Score") -> bool:
        self._require_comparable(other)
        return self.value <= other.value

    def __ge__(self, other: "Score") -> bool:
        self._require_comparable(other)
        return self.value >= other.value

    def __str__(self) -> str:
        error = "" if not self.standard_error else f" +- {self.standard_error:.2g}"
        return f"{self.value:.4f}{error}{' ' + self.unit if self.unit else ''}"

    def _require_comparable(self, other):
        if not isinstance(other, Score):
            raise TypeError(f"A score compares only with a score; use float(score). Received: {type(other).__name__}.")
        differences = self.differences(other)
        if differences:
            raise ValueError(
                f"These scores were computed in different ways and cannot be compared: {'; '.join(differences)}. "
                "Evaluate both in the same way."
            )


class MetricCard(dict[str, Score]):
    """The scores of one model on one data set: a dict {name: `Score`} that prints as a table.

    Attributes:
        about: Facts about the evaluation: model, stage, data, factors, rows, versions.
        skipped: {name: reason} for each score, or group of scores, that was left out.
        results: {name: object}: the full results behind the scores, such as `mutual_information`,
            `information_flow` and `rung_factor_map`. Not part of `to_dict`.
    """

    def __init__(
        self,
        scores: Mapping[str, Score] | None = None,
        about: Mapping[str, Any] | None = None,
        skipped: Mapping[str, str] | None = None,
        results: Mapping[str, Any] | None = None,
    ):
        super().__init__(scores or {})
        self.about = dict(about or {})
        self.skipped = dict(skipped or {})
        self.results = dict(results or {})

    def __missing__(self, name: str) -> NoReturn:
        left_out = "".join(f" Left out: {skipped} ({reason})." for skipped, reason in self.skipped.items())
        raise KeyError(f"This card has no score {name!r}. It has {', '.join(self) or 'none'}.{left_out}")

    def compare(self, other: "MetricCard") -> dict[str, float]:
        """Subtracts another card's values from this card's, for the scores that both have.

        Args:
            other: Another card.

        Returns:
            A dict {name: difference}.

        Raises:
            TypeError: If `other` is not a card.
            ValueError: If a shared score was computed in different ways, or no score is shared.
        """
        if not isinstance(other, MetricCard):
            raise TypeError(f"`other` must be a MetricCard. Received: {type(other).__name__}.")
        shared = [name for name in self if name in other]
        differences = {name: self[name].differences(other[name]) for name in shared}
        bad = {name: found for name, found in differences.items() if found}
        if bad:
            name, found = next(iter(bad.items()))
            raise ValueError(
                f"These cards were computed in different ways and cannot be compared. {name}: {'; '.join(found)}."
                + (f" {', '.join(list(bad)[1:])} differ too." if len(bad) > 1 else "")
                + " Evaluate both in the same way: the same data, the same settings and `max_seconds=None`."
            )
        if not shared:
            raise ValueError("These cards share no score.")
        return {name: self[name] - other[name] for name in shared}

    def to_dict(self) -> dict:
        """Returns the card as numbers, strings, lists and dicts for JSON; nan becomes `None`."""
        return {
            "about": self.about,
            "scores": {name: {**asdict(score), "value": _or_none(score.value)} for name, score in self.items()},
            "skipped": self.skipped,
        }

    def write_csv(self, path: str | os.PathLike) -> None:
        """Writes one line per score: data, score, value, unit, standard error, rows, seed, estimator, note.

        Every line names the data, so several files can be concatenated.

        Args:
            path: Path of the file. An existing file is replaced.
        """
        with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(["data", "score", "value", "unit", "standard_error", "rows", "seed", "estimator", "note"])
            for score in self.values():
                how = score.convention
                rest = [score.standard_error, how.get("rows"), score.seed, how.get("estimator"), score.note]
                writer.writerow([how.get("data"), score.name, score.value, score.unit, *rest])

    def _repr_html_(self):
        """HTML for notebooks and the report: the scores, the facts about them, and the scores left out."""
        rows = []
        for score in self.values():
            how = [score.note, str(score.convention.get("estimator", ""))]
            rows.append([*_row(score)[:4], "; ".join(filter(None, how))])
        about = [(str(key), words(value)) for key, value in self.about.items()]
        parts = [table(("score", "value", "±", "rows", "how"), rows, numbers=(1, 2, 3)), table(("", ""), about)]
        return "".join([*parts, table(("left out", "why"), list(self.skipped.items())) if self.skipped else ""])

    def _repr_pretty_(self, printer, cycle):
        """Prints the table where IPython shows no HTML."""
        printer.text(str(self))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuilds a card from the dict of `to_dict`, without `results`."""
        if not isinstance(plain, Mapping) or not {"about", "scores", "skipped"} <= set(plain):
            raise TypeError(f"`plain` must be the dict that `to_dict` returns. Received: {type(plain).__name__}.")
        scores = {
            name: Score(**{**fields, "value": math.nan if fields["value"] is None else fields["value"]})
            for name, fields in plain["scores"].items()
        }
        return cls(scores, plain["about"], plain["skipped"])

    def __str__(self) -> str:
        lines = [f"{name}: {words(value)}" for name, value in self.about.items()]
        rows = [_row(score) for score in self.values()]
        header = ("score", "value", "+-", "rows", "seed", "seconds", "how")
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        for row in [header, *rows]:
            cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:6], widths[1:6], strict=True))]
            lines.append("  ".join([*cells, row[6]]))
        lines += [f"{name}: left out, {reason}" for name, reason in self.skipped.items()]
        return "\n".join(lines)


def _or_none(value):
    """Replaces nan, which JSON does not have, by `None`."""
    return None if math.isnan(value) else value


def _row(score):
    hidden = {"estimator", "data", "factor checksum", "factors", "rows"}  # shown in other columns
    settings = {k: v for k, v in score.convention.items() if k not in hidden and v != ALL_COUNT}
    parts = [score.note, score.convention.get("estimator", ""), *(f"{n}: {words(v)}" for n, v in settings.items())]
    how = "; ".join(filter(None, parts))
    value = "nan" if math.isnan(score.value) else f"{score.value:.4f}"
    return (
        score.name,
        f"{value} {score.unit}".strip(),
        "" if score.standard_error is None else f"{score.standard_error:.2g}",
        str(score.convention.get("rows", "")),
        "" if score.seed is None else str(score.seed),
        f"{score.seconds:.1f}",
        how,
    )


def words(value: Any) -> str:
    """Formats a number, a string, or a dict or list of them as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {words(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
