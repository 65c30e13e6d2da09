import numpy as np
import pytest

from keras_provlae.metrics import Score
from keras_provlae.visualization import mig_against_mig_sup, reconstruction_against_scores

RUNS = [
    {
        "model": model,
        "beta": beta,
        "seed": seed,
        "reconstruction": 100.0 + beta,
        "mig": 0.1 * seed,
        "mig_sup": 0.2 * seed,
    }
    for model, betas in (("pro-VLAE", (8, 1)), ("VLAE", (4,)))
    for beta in betas
    for seed in range(4)
]


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")}


def annotations(axes):
    return {tuple(np.round(text.xy, 6)): text.get_text() for text in axes.texts}


def test_a_point_is_the_mean_of_the_best_runs_of_a_model_at_a_beta():
    figure = reconstruction_against_scores(RUNS, top=3, data="rooms")
    assert [axes.get_ylabel() for axes in figure.axes] == ["MIG", "MIG-sup"]  # no run has a FactorVAE score
    assert {axes.get_xlabel() for axes in figure.axes} == {"reconstruction error\nin nats per image"}
    mig = lines(figure.axes[0])
    np.testing.assert_allclose(mig["pro-VLAE"], [[101, 0.2], [108, 0.2]])  # in the order of beta, best 3 of 4 seeds
    np.testing.assert_allclose(mig["VLAE"], [[104, 0.2]])
    assert annotations(figure.axes[0]) == {(101, 0.2): "1", (108, 0.2): "8", (104, 0.2): "4"}
    singles = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in singles) == 12
    assert figure.get_suptitle() == "rooms"
    assert figure.legends[0].get_title().get_text() == "means of the best 3; numbers: beta; faint: single runs"


def test_all_runs_count_by_default():
    figure = mig_against_mig_sup(RUNS)
    (axes,) = figure.axes
    np.testing.assert_allclose(lines(axes)["VLAE"], [[0.15, 0.3]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("MIG", "MIG-sup")
    assert "best" not in figure.legends[0].get_title().get_text()


def test_the_best_by_both_scores():
    runs = [{"model": "VLAE", "beta": 1, "mig": a, "mig_sup": b} for a, b in ((0.9, 0.0), (0.5, 0.6), (0.4, 0.6))]
    np.testing.assert_allclose(lines(mig_against_mig_sup(runs, top=2).axes[0])["VLAE"], [[0.45, 0.6]])


def test_models_keep_their_color_and_may_lack_beta():
    runs = [
        *RUNS,
        {"model": "teacher-student", "beta": None, "reconstruction": 120.0, "mig": 0.1, "factor_vae_score": 0.5},
    ]
    figure = reconstruction_against_scores(runs)
    colors = [
        {line.get_label(): line.get_color() for line in axes.lines if not line.get_label().startswith("_")}
        for axes in figure.axes
    ]
    assert list(colors[0]) == ["teacher-student"]  # the only one with a FactorVAE score
    assert colors[0]["teacher-student"] == colors[1]["teacher-student"]
    assert len(set(colors[1].values())) == 3
    assert len(figure.axes[1].texts) == 3  # betas of the others
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pro-VLAE", "VLAE", "teacher-student"]


def test_scores_of_a_card_count_as_numbers():
    run = {"model": "VLAE", "beta": 1, "mig": Score("mig", 0.25, {}), "mig_sup": Score("mig_sup", 0.5, {})}
    np.testing.assert_allclose(lines(mig_against_mig_sup([run]).axes[0])["VLAE"], [[0.25, 0.5]])


def test_missing_values_are_named():
    with pytest.raises(ValueError, match="at least one training"):
        mig_against_mig_sup([])
    with pytest.raises(ValueError, match="Run 0 lacks beta, mig_sup. Received: mig, model"):
        mig_against_mig_sup([{"model": "VLAE", "mig": 0.1}])
    with pytest.raises(ValueError, match="at least one of factor_vae_score, mig, mig_sup"):
        reconstruction_against_scores([{"model": "VLAE", "beta": 1, "reconstruction": 1.0}])
    with pytest.raises(TypeError, match="must be dicts.*Received: str"):
        mig_against_mig_sup(["VLAE"])
    with pytest.raises(ValueError, match="`top` must be at least 1"):
        mig_against_mig_sup(RUNS, top=0)
