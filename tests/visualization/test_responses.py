import numpy as np
import pytest
from matplotlib.colors import to_rgb

from keras_provlae.visualization import latent_responses
from keras_provlae.visualization.style import rung_color
from tests.visualization.conftest import labels


@pytest.fixture
def codes():
    factors = np.stack(np.meshgrid(range(3), range(4), range(2)), axis=-1).reshape(-1, 3) * [2, 1, 1]
    rng = np.random.default_rng(0)
    mean = np.stack([0.5 * factors[:, 0] - 1, rng.normal(size=24), np.zeros(24)], axis=1)
    return mean, rng.normal(size=(24, 3)) - 1, factors


def test_lines_are_means_and_bands_one_standard_deviation_of_z(codes):
    mean, log_var, factors = codes
    figure = latent_responses(*codes, [(2, slice(0, 2)), (1, slice(2, 3))], ["hue", "shape", "size"], data="rooms")
    assert [axes.get_title() for axes in figure.axes] == ["hue", "shape", "size"]
    assert labels(figure.axes[0].get_yticklabels()) == ["z₂[0]", "z₂[1]", "z₁[0] *"]
    rng = np.random.default_rng(1)
    for factor, axes in enumerate(figure.axes):
        lines = [line for line in axes.lines if line.get_color() != "gainsboro"]
        for latent, (line, band) in enumerate(zip(lines, axes.collections, strict=True)):
            values = np.unique(factors[:, factor])
            rows = [factors[:, factor] == value for value in values]
            expected = np.array([mean[some, latent].mean() for some in rows])
            np.testing.assert_allclose(line.get_ydata() + 6 * latent, expected, atol=1e-9)
            np.testing.assert_allclose(band.get_facecolor()[0, :3], to_rgb(line.get_color()))
            assert line.get_color() == rung_color(2, 2 if latent < 2 else 1)
            # the spread, estimated from many draws of z
            noise = rng.standard_normal((4000, 24))
            draws = mean[:, latent] + np.exp(0.5 * log_var[:, latent]) * noise
            spread = np.array([draws[:, some].std() for some in rows])
            top = band.get_paths()[0].vertices[:, 1].max() + 6 * latent
            assert top == pytest.approx((expected + spread).max(), abs=0.05)
    assert [list(axes.get_xticks()) for axes in figure.axes] == [[0, 2], [0, 3], [0, 1]]
    assert figure.get_suptitle() == "rooms"


def test_outliers_do_not_cover_the_neighbors(codes):
    mean, log_var, factors = codes
    for scale, reach in (3, None), (100, 6):
        figure = latent_responses(scale * mean, log_var, factors)
        pitch = -np.diff(figure.axes[0].get_yticks())[0]
        edges = []
        for axes in figure.axes:
            for latent, band in enumerate(axes.collections):
                heights = band.get_paths()[0].vertices[:, 1] + pitch * latent
                edges += [heights.min(), heights.max()]
        assert -pitch / 2 <= min(edges) <= max(edges) <= pitch / 2
        clipped = "clipped at ±6" in figure.get_supxlabel()
        if reach is None:  # the rows make room for all values
            assert 6 < pitch < 12
            assert not clipped
        else:
            assert pitch == 2 * reach
            assert clipped


def test_many_factors_are_wrapped(codes):
    mean, log_var, _ = codes
    factors = np.random.default_rng(0).integers(0, 2, (24, 8))
    figure = latent_responses(mean, log_var, factors)
    assert [axes.get_title() for axes in figure.axes] == [f"factor {factor}" for factor in range(8)]
    heights = [axes.get_subplotspec().rowspan.start for axes in figure.axes]
    assert heights == [0] * 6 + [1] * 2


def test_invalid_arrays_are_rejected(codes):
    mean, log_var, factors = codes
    with pytest.raises(ValueError, match="one row per row of the codes"):
        latent_responses(mean, log_var, factors[:5])
    with pytest.raises(ValueError, match="`factor_names` must name 3 factors"):
        latent_responses(mean, log_var, factors, factor_names=["hue"])
