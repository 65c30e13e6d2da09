"""Figure 5, tables 1 and 3 to 8: I(x; z_l) of every rung after each stage."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_provlae.experiments import paper, runs, tables
from keras_provlae.experiments.runner import MODELS
from keras_provlae.experiments.scales import run
from keras_provlae.thresholds import LEAST_NATS
from keras_provlae.visualization import Snapshot, growth_timeline, write_png

TITLE = "Information flow (figure 5, tables 1 and 3 to 8)"
BETA = {
    "smoke": {"shapes3d": 4, "mnist": 1},
    "small": {"shapes3d": 4, "mnist": 1},
    "paper": {"shapes3d": 8, "mnist": 1},
}


def grid(scale: str, seed: int) -> list[dict]:
    """Returns the runs of one seed: the architectures of the tables, and the models of table 1 and figure 5."""
    shapes = [(table.data, table.L, table.latent_dim) for table in paper.FLOW_TABLES]
    grown = [
        run(scale, data, beta=BETA[scale][data], L=rungs, latent_dim=latents, seed=seed)
        for data, rungs, latents in [("shapes3d", 3, 3), *shapes]
    ]
    three = {"L": 3, "latent_dim": 3, "seed": seed}
    flat = [run(scale, data, "VLAE", beta=BETA[scale][data], **three) for data in ("shapes3d", "mnist")]
    return [*grown, *flat, run(scale, "shapes3d", "teacher-student", beta=1, **three)]


def report(results: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Draws figure 5 and returns a Markdown page with our tables, the paper's numbers, and the claims."""
    parts = [f"# {TITLE}", tables.how_run(results), *tables.not_finite(results)]
    results = [result for result in results if result["finite"]]
    if not results:
        return "\n\n".join(parts) + "\n"
    parts += [
        "I(x; z_l) in nats: mean ± standard deviation over the seeds, with the paper's value in brackets. `=` marks "
        "values within 10% of the paper's, within 0.05 nats, or within twice the combined standard deviation (at most "
        f"25% of the paper's value). No estimate can exceed ln N for N images: {_ceilings(results)}. A value near this "
        "ceiling is only a lower bound. The absolute values depend on capacity, beta and training length, so at a "
        "reduced scale look at how the information is split over the rungs, and in which direction it moves.",
    ]
    for table in (paper.FIGURE_5, *paper.FLOW_TABLES):
        some = tables.of(_growing(results), data=table.data, L=table.L, latent_dim=table.latent_dim)
        if some:
            where = f"{table.data}, L = {table.L}, {table.latent_dim} latents each"
            parts += [f"## {table.name}: {where}", _steps(some, table)]
    parts += ["## Table 1: pro-VLAE and VLAE after training", _table_1(results)]
    parts += ["## The paper's conclusions", tables.claims_table(_claims(results)), tables.RULE]
    parts += _figure_5(results, folder)
    every = "I(x; z_l) at the end of training, in nats; `results.jsonl` has every stage."
    parts += ["## Every run", every, _runs(results)]
    return "\n\n".join(parts) + "\n"


def _growing(results):
    return tables.of(results, model="pro-VLAE")


def _ceilings(results):
    found = {(result["data"], result["stages"][-1]["ceiling"]) for result in results if result["stages"]}
    return ", ".join(f"{ceiling:.2f} for {data}" for data, ceiling in sorted(found))


def _at(results, step, name):
    """Returns I(x; z_l) of a rung, or the total, of all seeds at the end of a stage."""
    stages = [result["stages"][step] for result in results]
    return [stage["mi_total"] if name == "total" else stage["mi"].get(name) for stage in stages]


def _steps(results, table):
    header = ["stage", *(f"I(x; z_{rung})" for rung in range(table.L, 0, -1)), "total"]
    rows = []
    for step, (expected, total) in enumerate(zip(table.steps, table.totals, strict=True)):
        names = [str(table.L - index) for index in range(len(expected))]
        cells = [_cell(_at(results, step, name), *pair) for name, pair in zip(names, expected, strict=True)]
        rows.append([step, *cells, *[""] * (table.L - len(expected)), _cell(_at(results, step, "total"), *total)])
    return tables.markdown(header, rows)


def _cell(values, expected, deviation=None):
    beside = f"{expected:.2f}" if deviation is None else f"{expected:.2f} ± {deviation:.2f}"
    return f"{tables.spread(values)} [{beside}]{' =' if _same(values, expected, deviation or 0.0) else ''}"


def _same(values, expected, deviation):
    own = np.std(values, ddof=1) if len(values) > 1 else 0.0
    spread_allows = min(2 * np.hypot(own, deviation), 0.25 * expected)
    return abs(tables.mean(values) - expected) <= max(spread_allows, 0.1 * expected, 0.05)


def _runs(results):
    rows = []
    for result in results:
        last = result["stages"][-1]
        shown = ", ".join(f"z_{rung} {mi:.2f}" for rung, mi in last["mi"].items())
        rows.append([runs.title(result["run"]), shown, f"{last['mi_total']:.2f}", f"{_overlap(result):.2f}"])
    return tables.markdown(["run", "I(x; z_l)", "I(x; z)", "I_over"], rows)


def _table_1(results):
    rows = []
    for (data, model), expected in paper.TABLE_1.items():
        some = tables.of(results, data=data, model=model, L=3, latent_dim=3)
        names = zip(("3", "2", "1", "total"), expected, strict=True)
        if some:
            rows.append([data, model, *(_cell(_at(some, -1, name), value) for name, value in names)])
    return tables.markdown(["data", "model", "I(x; z_3)", "I(x; z_2)", "I(x; z_1)", "I(x; z)"], rows)


def _claims(results):
    claims = []
    for table in (paper.FIGURE_5, *paper.FLOW_TABLES):
        some = tables.of(_growing(results), data=table.data, L=table.L, latent_dim=table.latent_dim)
        if some:
            claims += _claims_of(table, some)
    for data in "shapes3d", "mnist":
        flat, grown = (tables.of(results, data=data, model=model, L=3, latent_dim=3) for model in ("VLAE", "pro-VLAE"))
        if not (flat and grown):
            continue
        shares = [[_deepest_share(result) for result in some] for some in (grown, flat)]
        claims.append(
            tables.Claim(
                f"{data}: pro-VLAE puts more of the information into the deepest rung than VLAE (table 1)",
                tables.majority([tables.compared(*shares)]),
                f"I(x; z_3) is {tables.mean(shares[0]):.0%} of the sum over rungs vs. {tables.mean(shares[1]):.0%}",
            )
        )
    claims += _claim_of_student(results)
    return claims


def _claims_of(table, results):
    """Returns the claims on one architecture: order at the end, rise of the total, loss of the deepest rung."""
    where = f"{table.data}, L = {table.L}, z = {table.latent_dim}"
    last = [[result["stages"][-1]["mi"][str(rung)] for rung in range(table.L, 0, -1)] for result in results]
    ordered = sum(all(a >= b for a, b in itertools.pairwise(mi)) for mi in last)
    totals = [result["stages"][-1]["mi_total"] - result["stages"][0]["mi_total"] for result in results]
    given = [result["stages"][-1]["mi"][str(table.L)] - result["stages"][0]["mi"][str(table.L)] for result in results]
    used = sum(all(value >= LEAST_NATS for value in mi) for mi in last)
    return [
        tables.Claim(
            f"{where}: I(x; z_l) decreases from deep to shallow",
            _most(ordered, results),
            f"in {ordered} of {len(results)} runs",
        ),
        tables.Claim(
            f"{where}: the total rises as rungs are unlocked",
            tables.majority([tables.above(totals)]),
            f"by {tables.spread(totals)} nats; "
            f"every rung holds at least {LEAST_NATS:g} nats in {used} of {len(results)} runs",
        ),
        tables.Claim(
            f"{where}: information moves out of z_{table.L}",
            tables.majority([tables.above([-value for value in given])]),
            f"I(x; z_{table.L}) changes by {tables.spread(given)} nats",
        ),
    ]


def _claim_of_student(results):
    grown, student = (
        tables.of(results, data="shapes3d", model=model, L=3, latent_dim=3) for model in ("pro-VLAE", "teacher-student")
    )
    if not grown or not student:
        return []
    changes, overlaps = (
        [[measure(result) for result in some] for some in (grown, student)] for measure in (_moved, _overlap)
    )
    return [
        tables.Claim(
            "teacher-student moves less into new latents than pro-VLAE (figure 5)",
            tables.majority([tables.compared(*changes)]),
            f"the new rungs hold {tables.mean(changes[1]):.2f} vs. {tables.mean(changes[0]):.2f} nats in total",
        ),
        tables.Claim(
            "teacher-student has the larger I_over (information shared by several rungs)",
            tables.majority([tables.compared(overlaps[1], overlaps[0])]),
            f"{tables.mean(overlaps[1]):.2f} vs. {tables.mean(overlaps[0]):.2f} nats",
        ),
    ]


def _most(count, results):
    if len(results) < 2 or 2 * count == len(results):
        return tables.UNDECIDED
    return tables.AGREES if 2 * count > len(results) else tables.DIFFERS


def _deepest_share(result):
    mi = list(result["stages"][-1]["mi"].values())
    return mi[0] / max(sum(mi), 1e-9)


def _moved(result):
    return sum(list(result["stages"][-1]["mi"].values())[1:])


def _overlap(result):
    last = result["stages"][-1]
    return sum(last["mi"].values()) - last["mi_total"]


def _figure_5(results, folder):
    """Draws the growth of the first seed of pro-VLAE and teacher-student, if their snapshots or pictures exist."""
    parts = []
    for model in "pro-VLAE", "teacher-student":
        for result in tables.of(results, data="shapes3d", model=model, L=3, latent_dim=3)[:1]:
            files = sorted((folder.parent / MODELS / result["key"]).glob("stage_*.npz"))
            picture = folder / f"growth_{model}.png"
            if files:
                figure = growth_timeline([Snapshot.load(file) for file in files], data=f"{result['data']}: {model}")
                write_png(figure, picture)
            if picture.exists():
                parts.append(f"![growth of {model}]({picture.name})")
    return parts
