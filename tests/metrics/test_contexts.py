"""Effects of factors within contexts: known answers for pure, flipped, entangled, constant and noisy codes."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.metrics import contexts

SIZES = {"hue": 6, "light": 4, "scale": 5}
GRID = np.array(list(itertools.product(*map(range, SIZES.values()))))


def centered(values):
    return values - values.mean()


class Truth:
    """An image is its three factors."""

    factor_sizes, factor_names = tuple(SIZES.values()), tuple(SIZES)

    def __len__(self):
        return len(GRID)

    def factors(self, index):
        return GRID[index]

    def images(self, factors):
        return np.asarray(factors, "float32")


def codes_of(*latents):
    """A model whose latents are functions of the factors, and its ground truth."""
    truth = Truth()
    model = SimpleNamespace(
        encode=lambda rows: (
            2 * (np.stack([latent(*np.asarray(rows).T) for latent in latents], axis=1).astype("float32"),)
        ),
        rung_slices=[(1, slice(0, len(latents)))],
    )
    return model, truth


def color(hue, light, scale):
    return hue


def brightness(hue, light, scale):
    return light


def pure(hue, light, scale):
    return scale


def flipped(hue, light, scale):
    return (scale - 2) * np.where(hue % 2 == 0, 1, -1)


def both(hue, light, scale):
    return (scale - 2) + 0.5 * (hue - 2.5)


def constant(hue, light, scale):
    return 3.0 + 0 * scale


def brute_force(latent):
    """Sobol's indices of every factor from the whole grid."""
    values = latent(*GRID.T).reshape(tuple(SIZES.values())).astype("float64")
    within, over = [], []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        within.append(values.var(axis=axis).mean() / values.var())
        over.append(values.mean(axis=others).var() / values.var())
    return within, over


def test_all_contexts_give_the_indices_of_the_whole_grid():
    latents = pure, flipped, both
    effects = contexts.context_effects(*codes_of(*latents), num_images=10_000)
    assert effects.contexts == (20, 30, 24)  # all there are
    for latent, function in enumerate(latents):
        within, over = brute_force(function)
        np.testing.assert_allclose(
            effects.within[:, latent], within, rtol=0.2, atol=1e-6
        )  # the variance is of all designs
        np.testing.assert_allclose(effects.over[:, latent], over, rtol=0.2, atol=0.03)


def test_a_flipped_code_differs_from_a_pure_one_and_from_none():
    effects = contexts.context_effects(*codes_of(pure, flipped, constant), num_images=200)
    scale = list(SIZES).index("scale")
    assert effects.within[scale, 0] == pytest.approx(1.0, abs=0.05)
    assert effects.over[scale, 0] == pytest.approx(effects.within[scale, 0])
    assert effects.agreement[scale, 0] == 1
    assert effects.within[scale, 1] == pytest.approx(1.0, abs=0.05)
    assert effects.over[scale, 1] < 0.25
    assert 0.5 <= effects.agreement[scale, 1] < 0.8
    assert effects.within[:, 2].tolist() == effects.over[:, 2].tolist() == [0, 0, 0]
    assert effects.within[:2, 0].tolist() == [0, 0]  # hue and light do not move a pure code


def test_the_best_latent_is_named_where_it_is_flipped():
    assert contexts.context_effects(*codes_of(color, flipped), num_images=10_000).flipped == [("scale", 1)]
    assert contexts.context_effects(*codes_of(color, pure), num_images=10_000).flipped == []
    assert contexts.context_effects(*codes_of(color, flipped, pure), num_images=10_000).flipped == []


def test_noise_agrees_in_half_of_the_contexts_and_few_contexts_are_not_biased():
    rng = np.random.default_rng(0)
    found = [
        contexts.effects_of_codes([rng.standard_normal((10, 8, 1)), rng.standard_normal((10, 8, 1))])
        for _ in range(200)
    ]
    agreement = np.mean([effects.agreement for effects in found])
    assert 0.5 < agreement < 0.7
    assert np.mean([effects.over for effects in found]) < 0.05  # the mean of ten profiles has a tenth of their variance
    noise = rng.standard_normal((2000, 8, 1))
    wide = contexts.effects_of_codes([noise])
    assert wide.over[0, 0] < 0.002
    assert wide.within[0, 0] == pytest.approx(7 / 8, rel=0.02)  # around the mean of 8 values


def test_a_table_and_names():
    text = str(contexts.context_effects(*codes_of(pure, flipped), num_images=200))
    assert "within contexts" in text
    assert all(name in text for name in SIZES)


def test_the_card_names_flipped_factors_and_says_why_it_cannot():
    model, truth = codes_of(color, flipped, brightness)
    card = kp.metrics.evaluate(model, truth, include=["contexts"], progress=False)
    assert card["flipped_factors"].value == 1
    assert card["context_effect_scale"].value == pytest.approx(1, abs=0.1)
    assert card["context_effect_scale"].note.startswith("latent 1; 0.0")
    assert card.results["contexts"].flipped == [("scale", 1)]
    mean, log_var = (value.astype("float32") for value in model.encode(GRID))
    card = kp.metrics.evaluate_codes(mean, log_var, GRID, include=["contexts"])
    assert "an image for every combination of the factors" in card.skipped["contexts"]


def test_bad_arguments_are_refused():
    model, truth = codes_of(pure)
    with pytest.raises(TypeError, match="an image for every combination of its factors.*Received: tuple"):
        contexts.context_effects(model, (GRID, GRID))
    with pytest.raises(ValueError, match="`num_images` must be at least 1"):
        contexts.context_effects(model, truth, num_images=0)
    truth.factor_sizes = (1, 1)
    with pytest.raises(ValueError, match="At least one factor must have two values"):
        contexts.context_effects(model, truth)
    with pytest.raises(ValueError, match=r"arrays \(contexts, values, latents\), one per factor"):
        contexts.effects_of_codes([np.zeros((2, 3))])
