"""Sizes of the experiments: a smoke test, a small machine, and the paper's own."""

from typing import Any

_FEW = ("mutual_information", "factor_vae_score", "information_flow")
_ALL_BUT_DCI = (  # DCI trains boosted trees for a minute
    "mutual_information", "unsupervised", "histograms", "irs", "factor_vae_score", "beta_vae_score",
    "information_flow", "rung_factor_map", "explicitness", "infomec", "sap",
)  # fmt: skip
_SMOKE = {
    "channels": 4, "dense": 16, "batch_size": 32, "iterations": 20, "fade_in": 10, "learning_rate": 1e-3,
    "num_images": 500, "scores": _FEW,
}  # fmt: skip
_SMALL = {
    "size": 32, "channels": 16, "dense": 128, "batch_size": 64, "iterations": 1500, "fade_in": 500,
    "learning_rate": 1e-3, "num_images": 24_000, "scores": _ALL_BUT_DCI,
}  # fmt: skip

# `iterations` counts the steps of one stage: a run with L rungs takes L times as many
SCALES: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {
        "shapes3d": {"size": 16, **_SMOKE},
        "dsprites": {"size": 16, **_SMOKE},
        "scenes": {"size": 16, **_SMOKE},
        "mnist": {"size": 14, **_SMOKE},
        "celeb_a": {"size": 16, **_SMOKE},
    },
    "small": {
        "shapes3d": _SMALL,
        "dsprites": _SMALL,
        "scenes": {**_SMALL, "iterations": 1000},
        "mnist": {**_SMALL, "size": 28, "iterations": 1000, "num_images": None},
        "celeb_a": {**_SMALL, "iterations": 1000},
    },
    "paper": {
        "shapes3d": {"size": 64, "batch_size": 100, "iterations": 72_000, "fade_in": 5000},
        "dsprites": {"size": 64, "batch_size": 128, "iterations": 172_800, "fade_in": 5000},
        "scenes": {"size": 64, "batch_size": 100, "iterations": 15_000, "fade_in": 5000},
        "mnist": {"size": 28, "batch_size": 100, "iterations": 15_000, "fade_in": 5000},
        "celeb_a": {"size": 64, "batch_size": 128, "iterations": 7910, "fade_in": 5000},
    },
}
TEACHER_STUDENT_RATE = 0.6  # teacher-student uses 3e-4 where the others use 5e-4


def run(scale: str, data: str, model: str = "pro-VLAE", **settings: Any) -> dict:
    """Returns a run at one scale.

    Args:
        scale: `"smoke"`, `"small"` or `"paper"`.
        data: Name of the data set.
        model: Name of the model.
        **settings: `beta`, `L`, `latent_dim`, `seed`, and any other key of a run; they override the scale's.

    Returns:
        A run: see `runs.complete`.

    Example:
        >>> run("paper", "shapes3d", beta=8, L=3, latent_dim=3, seed=0)["iterations"]
        216000
    """
    numbers = dict(SCALES[scale][data])
    numbers["iterations"] *= settings["L"]
    if model != "pro-VLAE":
        del numbers["fade_in"]
    if model == "teacher-student" and "learning_rate" in numbers:
        numbers["learning_rate"] *= TEACHER_STUDENT_RATE
    return {"model": model, "data": data, **numbers, **settings}
