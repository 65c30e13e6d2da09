"""Figures 2 and 3: reconstruction error against disentanglement for pro-VLAE and the paper's three baselines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_provlae.experiments import paper, tables
from keras_provlae.experiments.scales import run
from keras_provlae.visualization import mig_against_mig_sup, reconstruction_against_scores, write_png

TITLE = "Comparison (figures 2 and 3)"
BETAS = {"smoke": (4,), "small": (1, 4, 8), "paper": (1, 4, 8, 10, 20)}
LATENTS = {"shapes3d": 3, "dsprites": 2}  # per rung, with three rungs
SWEPT = ("pro-VLAE", "VLAE", "beta-VAE")
SCORES = {"factor_vae_score": "FactorVAE score", "mig": "MIG", "mig_sup": "MIG-sup"}
MODERATE = 0.5  # a MIG below this counts as low to moderate
DSPRITES = (
    "MIG covers all five factors here. The authors' program omits the shape: it uses scale, orientation, x and y."
)
BEST = 3  # each point of the paper's figures is the mean of this many best runs


def grid(scale: str, seed: int, data: Sequence[str] = ("shapes3d",)) -> list[dict]:
    """Returns the runs of one seed: every model at every beta, and teacher-student at beta 1.

    All have the same number of latents and iterations.
    """
    runs = []
    for name in data:
        shape = {"L": 3, "latent_dim": LATENTS[name], "seed": seed}
        for beta in BETAS[scale]:
            runs += [run(scale, name, model, beta=beta, **shape) for model in SWEPT]
        runs.append(run(scale, name, "teacher-student", beta=1, **shape))
    return runs


def report(results: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Draws the pictures and returns a Markdown page with the table and the claims of each data set."""
    parts = [f"# {TITLE}", tables.how_run(results), *tables.not_finite(results)]
    finite = [result for result in results if result["finite"]]
    for name in dict.fromkeys(result["data"] for result in finite):
        parts += _of_data(name, [result for result in finite if result["data"] == name], folder)
    return "\n\n".join(parts) + "\n"


def _of_data(name, results, folder):
    stem = results[0]["run"]["data"]
    points = [
        {
            "model": result["run"]["model"],
            "beta": None if result["run"]["model"] == "teacher-student" else result["run"]["beta"],
            "reconstruction": result["reconstruction"],
            **{score: result["scores"][score] or 0.0 for score in SCORES},  # no active latents: no disentanglement
        }
        for result in results
    ]
    figures = {
        f"{stem}_reconstruction_against_scores": reconstruction_against_scores(points, top=BEST, data=name),
        f"{stem}_mig_against_mig_sup": mig_against_mig_sup(points, top=BEST, data=name),
    }
    for file, figure in figures.items():
        write_png(figure, folder / f"{file}.png")
    pictures = [f"![{file.replace('_', ' ')}]({file}.png)" for file in figures]
    names = {"reconstruction": "reconstruction", **SCORES, "active_latents": "active latents"}
    return [
        f"## {name}",
        "Means of the best three runs by each score, as in the paper (in parentheses: mean ± standard deviation over "
        "all seeds). Reconstruction is in nats per image; lower is better. Scores are at most 1; higher is better; "
        "they are 0 if no latent is active.",
        _table(points, stem),
        *pictures,
        tables.claims_table(_claims(points)),
        tables.RULE,
        *([DSPRITES] if stem == "dsprites" else []),
        "Every run:",
        tables.seeds_table(results, names),
    ]


def _groups(points):
    groups = {}
    for point in points:
        groups.setdefault((point["model"], point["beta"]), []).append(point)
    return groups


def _best(values):
    return tables.mean(sorted(values, reverse=True)[:BEST])


def _table(points, data):
    rows = []
    for (model, beta), some in _groups(points).items():
        row = [model, "1 (fixed)" if beta is None else f"{beta:g}", len(some)]
        row.append(tables.spread([point["reconstruction"] for point in some], 1))
        for score in SCORES:
            values = [point[score] for point in some]
            row.append(f"{_best(values):.3f} ({tables.spread(values, 3)})")
        rows.append(row)
    if data == "shapes3d":
        best = [f"{paper.BEST_SCORES[score]:.3f}" for score in SCORES]
        rows.append(["the paper's best model (figure 9)", "", 1, "", *best])
    return tables.markdown(["model", "beta", "runs", "reconstruction", *SCORES.values()], rows)


def _claims(points):
    groups = _groups(points)
    betas = sorted({beta for model, beta in groups if model == "pro-VLAE"})

    def values(group, score):
        return [point["mig"] + point["mig_sup"] if score == "both" else point[score] for point in groups.get(group, [])]

    claims = []
    for better, worse in ("VLAE", "beta-VAE"), ("pro-VLAE", "VLAE"), ("pro-VLAE", "beta-VAE"):
        for score in "mig", "mig_sup":
            pairs = [(values((better, beta), score), values((worse, beta), score)) for beta in betas]
            evidence = ", ".join(
                f"beta {beta:g}: {tables.mean(first):.2f} vs. {tables.mean(second):.2f}"
                for beta, (first, second) in zip(betas, pairs, strict=True)
            )
            verdict = tables.majority([tables.compared(*pair) for pair in pairs])
            claims.append(
                tables.Claim(f"{better} above {worse} in {SCORES[score]} at most values of beta", verdict, evidence)
            )
    if not betas or len({model for model, _ in groups}) == 1:
        return claims

    def best(score, ours):
        """Returns the group with the highest mean of the best three: of pro-VLAE, or of the other models."""
        candidates = [group for group in groups if (group[0] == "pro-VLAE") == ours]
        return max(candidates, key=lambda group: _best(values(group, score)))

    def shown(group, score):
        return f"{_name(group)} {tables.mean(values(group, score)):.2f}"

    first, second = best("both", True), best("both", False)
    verdict = tables.majority([tables.compared(values(first, "both"), values(second, "both"))])
    text = "pro-VLAE is the best in MIG and MIG-sup together"
    claims.append(tables.Claim(text, verdict, f"{shown(first, 'both')}, {shown(second, 'both')}"))

    score = "factor_vae_score"
    first, second = best(score, True), best(score, False)
    verdict = tables.AGREES if len(groups[first]) > 1 and len(groups[second]) > 1 else tables.UNDECIDED
    if tables.compared(values(first, score), values(second, score)) < 0:
        verdict = tables.DIFFERS
    text = "pro-VLAE is among the top in the FactorVAE score"
    claims.append(tables.Claim(text, verdict, f"{shown(first, score)}, {shown(second, score)}"))

    first, student = best("mig", True), values(("teacher-student", None), "mig")
    below = tables.compared(values(first, "mig"), student)
    low = student and tables.mean(student) < MODERATE
    verdict = tables.majority([below]) if low or below < 1 else tables.DIFFERS
    evidence = f"MIG {tables.mean(student):.2f}; {shown(first, 'mig')}"
    claims.append(tables.Claim("teacher-student is low to moderate", verdict, evidence))
    return claims


def _name(group):
    model, beta = group
    return model if beta is None else f"{model} at beta {beta:g}"
