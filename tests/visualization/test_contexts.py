"""The picture of one latent in several contexts of the other factors."""

import numpy as np
import pytest

from keras_provlae.metrics.contexts import context_designs
from keras_provlae.visualization import context_sweeps
from tests.metrics.conftest import Blobs
from tests.visualization.conftest import overlaps

TRUTH = Blobs()


def test_rows_are_contexts_and_titles_the_means(model):
    factor = TRUTH.factor_names[0]
    figure = context_sweeps(model, TRUTH, factor, latent=3, num_contexts=2, seed=1, data="blobs")
    size = TRUTH.factor_sizes[0]
    assert len(figure.axes) == 2 * size
    design = context_designs(TRUTH.factor_sizes, 2 * sum(TRUTH.factor_sizes), seed=1)[0]
    images = TRUTH.images(design.reshape(-1, len(TRUTH.factor_sizes)))
    means = model.encode(images)[0][:, 3]
    assert [axes.get_title() for axes in figure.axes] == [f"{mean:+.2f}" for mean in means]
    np.testing.assert_array_equal(figure.axes[size].images[0].get_array(), images[size, ..., 0])
    assert figure.get_supxlabel() == f"{factor}; above: z₂[0]"
    assert overlaps(figure) == []


def test_bad_arguments_are_refused(model):
    name = TRUTH.factor_names[0]
    with pytest.raises(ValueError, match="`factor` must be one of .*Received: 'depth'"):
        context_sweeps(model, TRUTH, "depth", 0)
    with pytest.raises(ValueError, match="`latent` must be below 6. Received: latent=6"):
        context_sweeps(model, TRUTH, name, 6)
    with pytest.raises(TypeError, match="image for every combination"):
        context_sweeps(model, np.zeros((3, 8, 8, 1)), name, 0)
