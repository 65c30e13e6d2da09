"""Table 2: success rates of pro-VLAE training with neither, one or both of its strategies."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_provlae.experiments import paper
from keras_provlae.experiments.scales import SCALES, run
from keras_provlae.experiments.tables import AGREES, DIFFERS, UNDECIDED, Claim, claims_table, how_run, markdown
from keras_provlae.thresholds import LEAST_NATS

TITLE = "Ablation of the strategies (table 2)"
DATA = "shapes3d"
BETA = {"smoke": 4, "small": 4, "paper": 8}
EXPLODED = 100.0  # posterior variance, as a multiple of the prior's
DEFINITION = (
    "A run is a success if it meets four conditions. *Finite*: its loss stayed finite. *No exploding variance*: the "
    "posterior variance of every unlocked latent, averaged over 500 images, was at most "
    f"{EXPLODED:g} (the prior's is 1) at the end of each part of the training (a thirtieth, at most 500 steps). *No "
    "exploding KL*: at the end, the KL of all unlocked rungs together is at most 2 ln N nats, twice the information "
    "that a code can hold about N images: more means that the codes have left the prior. *The "
    f"grown rung is used*: at the end, the first rung unlocked after the start, z_(L-1), holds at least {LEAST_NATS:g} "
    "nats about the image. (The last rung need not be used: in the paper's own best model of 3DShapes it holds 0.00 "
    "nats.) The paper gives no definition. The last row of the table requires every grown rung to be used."
)


def grid(scale: str, seed: int) -> list[dict]:
    """Returns the runs of one seed: one per combination of strategies."""
    fade_in = SCALES[scale][DATA]["fade_in"]
    shape: dict[str, Any] = {"beta": BETA[scale], "L": 3, "latent_dim": 3, "seed": seed}
    return [run(scale, DATA, gamma=0.5 * penalty, fade_in=fade_in * fades, **shape) for penalty, fades in paper.SUCCESS]


def failure(result: Mapping[str, Any], all_rungs: bool = False) -> str:
    """Returns why a run failed, or an empty string if it succeeded.

    Args:
        result: Result of a run.
        all_rungs: Bool. Whether every grown rung must be used, or only the first.
    """
    if not result["finite"]:
        return "not finite"
    if result["peak_variance"] > EXPLODED:
        return "exploding variance"
    if result["kl"] > 2 * math.log(result["images"]):
        return "exploding KL"
    grown = range(result["run"]["L"] - 1, 0, -1)
    known = [result["stages"][-1]["mi"][str(rung)] for rung in (grown if all_rungs else grown[:1])]
    return "" if min(known) >= LEAST_NATS else "grown rung not used"


def report(results: Sequence[Mapping[str, Any]], folder: Path, title: str = TITLE) -> str:
    """Returns a Markdown page with the success rates, the definition of success, and every run."""
    groups: dict[tuple[bool, bool], list[Mapping[str, Any]]] = {strategies: [] for strategies in paper.SUCCESS}
    for result in results:
        groups[result["run"]["gamma"] > 0, result["run"]["fade_in"] > 0].append(result)
    rows = [
        ["the paper (15 runs)", *(f"{rate:.3f}" for rate in paper.SUCCESS.values())],
        ["our runs", *(_formatted_rate(groups[strategies]) for strategies in paper.SUCCESS)],
        [
            "our runs, all grown rungs used",
            *(_formatted_rate(groups[strategies], all_rungs=True) for strategies in paper.SUCCESS),
        ],
    ]
    parts = [
        f"# {title}",
        how_run(results),
        DEFINITION,
        markdown(["success rate", *(paper.STRATEGIES[strategies] for strategies in paper.SUCCESS)], rows),
        claims_table(_claims(groups)),
        "Every run:",
        _runs(groups),
    ]
    return "\n\n".join(parts) + "\n"


def _rate(results):
    return sum(not failure(result) for result in results) / len(results) if results else None


def _formatted_rate(results, all_rungs=False):
    count = sum(not failure(result, all_rungs) for result in results)
    return f"{count / len(results):.3f} ({count} of {len(results)})" if results else "-"


def _claims(groups):
    """Compares success rates. Any difference counts: there are few runs, and the rates are shown as evidence."""
    rates = {strategies: _rate(some) for strategies, some in groups.items()}
    if min(len(some) for some in groups.values()) < 2:
        return [Claim("each strategy helps, both most", UNDECIDED, "fewer than two seeds for some strategy")]
    none, both = rates[False, False], rates[True, True]
    one = rates[True, False], rates[False, True]
    evidence = ", ".join(f"{paper.STRATEGIES[strategies]} {rate:.2f}" for strategies, rate in rates.items())
    return [
        Claim("no run succeeds without strategies", AGREES if none == 0 else DIFFERS, f"success rate {none:.2f}"),
        Claim("each strategy helps", _verdict(min(one) - none), evidence),
        Claim("both together help most", _verdict(both - max(one)), evidence),
    ]


def _verdict(difference):
    return AGREES if difference > 0 else DIFFERS if difference < 0 else UNDECIDED


def _runs(groups):
    rows = []
    for strategies, some in groups.items():
        for result in some:
            last = result["stages"][-1]["mi"] if result["stages"] else {}
            scores = [result.get("scores", {}).get(name) for name in ("mig", "mig_sup")]
            rows.append(
                [
                    paper.STRATEGIES[strategies],
                    result["run"]["seed"],
                    failure(result) or "success",
                    ", ".join(f"z_{rung} {value:.2f}" for rung, value in last.items()),
                    f"{result['peak_variance']:.3g}",
                    *("-" if score is None else f"{score:.2f}" for score in scores),
                ]
            )
    return markdown(["strategies", "seed", "outcome", "I(x; z_l) in nats", "largest variance", "MIG", "MIG-sup"], rows)
