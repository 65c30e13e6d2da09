"""Figures 2 and 3: reconstruction error against disentanglement, of pro-VLAE and the paper's three baselines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_provlae.experiments import paper
from keras_provlae.experiments.scales import run
from keras_provlae.experiments.tables import (
    AGREES,
    DIFFERS,
    Claim,
    claims_table,
    compared,
    how_run,
    majority,
    markdown,
    mean,
    seeds_table,
    spread,
)
from keras_provlae.visualization import mig_against_mig_sup, reconstruction_against_scores, write_png

TITLE = "Comparison (figures 2 and 3)"
BETAS = {"smoke": (4,), "small": (1, 4, 8), "paper": (1, 4, 8, 10, 20)}
LATENTS = {"shapes3d": 3, "dsprites": 2}  # per rung, of three
SWEPT = ("pro-VLAE", "VLAE", "beta-VAE")
SCORES = {"factor_vae_score": "FactorVAE score", "mig": "MIG", "mig_sup": "MIG-sup"}
BEST = 3  # runs that a point of the paper's figures is the mean of


def grid(scale: str, seed: int, data: Sequence[str] = ("shapes3d",)) -> list[dict]:
    """The runs of one seed: every model at every beta, the teacher-student model at beta 1.

    All have the same number of latents and of iterations.
    """
    runs = []
    for name in data:
        shape = {"L": 3, "latent_dim": LATENTS[name], "seed": seed}
        for beta in BETAS[scale]:
            runs += [run(scale, name, model, beta=beta, **shape) for model in SWEPT]
        runs.append(run(scale, name, "teacher-student", beta=1, **shape))
    return runs


def report(results: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """The table, the claims and the pictures, for each data set; returns Markdown."""
    parts = [f"# {TITLE}", how_run(results)]
    for name in dict.fromkeys(result["data"] for result in results):
        parts += _of_data(name, [result for result in results if result["data"] == name and result["finite"]], folder)
    return "\n\n".join(parts) + "\n"


def _of_data(name, results, folder):
    stem = results[0]["run"]["data"]
    points = [
        {
            "model": result["run"]["model"],
            "beta": None if result["run"]["model"] == "teacher-student" else result["run"]["beta"],
            "reconstruction": result["reconstruction"],
            **{score: result["scores"][score] or 0.0 for score in SCORES},  # no active latent: nothing is disentangled
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
        "Means of the best three runs by each score, as in the paper (in brackets mean ± standard deviation of all "
        "seeds). Reconstruction in nats per image, lower is better; all scores: higher is better, 1 at most.",
        _table(points),
        *pictures,
        claims_table(_claims(points, stem)),
        "Every run:",
        seeds_table(results, names),
    ]


def _groups(points):
    groups = {}
    for point in points:
        groups.setdefault((point["model"], point["beta"]), []).append(point)
    return groups


def _best(values):
    return mean(sorted(values, reverse=True)[:BEST])


def _table(points):
    rows = []
    for (model, beta), some in _groups(points).items():
        row = [model, "1 (fixed)" if beta is None else f"{beta:g}", len(some)]
        row.append(spread([point["reconstruction"] for point in some], 1))
        for score in SCORES:
            values = [point[score] for point in some]
            row.append(f"{_best(values):.3f} ({spread(values, 3)})")
        rows.append(row)
    if not rows:
        return "No run was finished."
    paper_row = [
        "the paper's best model (figure 9)",
        "",
        1,
        "",
        *(f"{paper.BEST_SCORES[score]:.3f}" for score in SCORES),
    ]
    return markdown(["model", "beta", "runs", "reconstruction", *SCORES.values()], [*rows, paper_row])


def _claims(points, data):
    groups = _groups(points)
    betas = sorted({beta for model, beta in groups if model == "pro-VLAE"})

    def values(model, beta, score):
        return [point[score] for point in groups.get((model, beta), [])]

    claims = []
    for better, worse in ("VLAE", "beta-VAE"), ("pro-VLAE", "VLAE"), ("pro-VLAE", "beta-VAE"):
        for score in "mig", "mig_sup":
            signs = [compared(values(better, beta, score), values(worse, beta, score)) for beta in betas]
            told = ", ".join(
                f"beta {beta:g}: {mean(values(better, beta, score)):.2f} against {mean(values(worse, beta, score)):.2f}"
                for beta in betas
            )
            claims.append(Claim(f"{better} above {worse} in {SCORES[score]} at most beta", majority(signs), told))
    best = {score: max(groups, key=lambda group: _best([p[score] for p in groups[group]])) for score in SCORES}
    best |= {"both": max(groups, key=lambda group: _best([p["mig"] + p["mig_sup"] for p in groups[group]]))}
    for score, words in ("both", "MIG and MIG-sup together"), ("factor_vae_score", "the FactorVAE score"):
        verdict = AGREES if best[score][0] == "pro-VLAE" else DIFFERS
        claims.append(Claim(f"pro-VLAE is the best in {words}", verdict, f"the best is {_name(best[score])}"))
    student = [point["mig"] + point["mig_sup"] for point in groups.get(("teacher-student", None), [])]
    pro = max(([p["mig"] + p["mig_sup"] for p in groups[g]] for g in groups if g[0] == "pro-VLAE"), key=_best)
    claims.append(
        Claim(
            "teacher-student is low to moderate",
            majority([compared(pro, student)]),
            f"MIG + MIG-sup {mean(student):.2f} against {mean(pro):.2f} of the best pro-VLAE",
        )
    )
    return claims


def _name(group):
    model, beta = group
    return model if beta is None else f"{model} at beta {beta:g}"
