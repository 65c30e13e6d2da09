import numpy as np
import pytest

from keras_provlae.metrics import MetricCard, evaluate_codes, mutual_information, rung_factor_map
from keras_provlae.visualization import mutual_information_heatmap, rung_factor_heatmap
from keras_provlae.visualization.style import ink, rung_color

SLICES = [(2, slice(0, 2)), (1, slice(2, 3))]


@pytest.fixture
def codes():
    factors = np.stack(np.meshgrid(range(3), range(4)), axis=-1).reshape(-1, 2)
    mean = np.stack([factors[:, 0], 0 * factors[:, 0], 0.5 * factors[:, 1]], axis=1)
    return mean, np.full((12, 3), -3.0), factors


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_rung_factor_heatmap_shows_the_matrix(codes):
    held = rung_factor_map(*codes, SLICES, draws=60, factor_names=["hue", "shape"])
    axes = rung_factor_heatmap(held).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), held.normalized)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["rung 2", "rung 1"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["hue", "shape"]
    assert texts(axes) == [f"{value:.2f}" for value in held.normalized.ravel()]
    assert axes.images[0].get_clim() == (0, 1)
    assert [text.get_color() for text in axes.get_yticklabels()] == [ink(rung_color(2, rung)) for rung in (2, 1)]
    dark = [text.get_color() == "white" for text in axes.texts]
    assert dark == [value > 0.6 for value in held.normalized.ravel()]


def test_mutual_information_heatmap_names_latents_by_their_rungs(codes):
    information = mutual_information(*codes)
    axes = mutual_information_heatmap(information, SLICES).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), information.normalized.T)  # rows are latents
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["z₂[0]", "z₂[1] *", "z₁[0]"]
    assert axes.get_xlabel() == "* not active"
    plain = mutual_information_heatmap(information).axes[0]
    assert [label.get_text() for label in plain.get_yticklabels()] == ["z[0]", "z[1] *", "z[2]"]


def test_a_constant_factor_is_blank(codes):
    mean, log_var, factors = codes
    with pytest.warns(UserWarning, match="one value"):
        information = mutual_information(mean, log_var, factors * [1, 0])
    assert texts(mutual_information_heatmap(information).axes[0])[1] == "-"


def test_other_results_are_rejected(codes):
    information, held = mutual_information(*codes), rung_factor_map(*codes, SLICES, draws=60)
    with pytest.raises(TypeError, match=r"the result of `metrics.rung_factor_map`. Received: MutualInformation"):
        rung_factor_heatmap(information)
    with pytest.raises(TypeError, match=r"the result of `metrics.mutual_information`. Received: RungFactorMap"):
        mutual_information_heatmap(held)
    assert mutual_information_heatmap(information, dict(SLICES)).axes


def test_a_card_gives_its_result_and_the_name_of_its_data(codes):
    card = evaluate_codes(*codes, SLICES, include=["mutual_information", "rung_factor_map"], data="rooms procedural")
    for figure in rung_factor_heatmap(card), mutual_information_heatmap(card, SLICES):
        assert figure.get_suptitle() == "rooms procedural"
    np.testing.assert_allclose(
        mutual_information_heatmap(card).axes[0].images[0].get_array(),
        card.results["mutual_information"].normalized.T,
    )
    assert rung_factor_heatmap(card, data="other").get_suptitle() == "other"
    with pytest.raises(ValueError, match="must have the result rung_factor_map.*Received: none"):
        rung_factor_heatmap(MetricCard.from_dict(card.to_dict()))
