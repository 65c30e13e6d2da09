# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Measure disentanglement without fooling yourself
#
# A score is a number about a code, and each score is blind to something. Here we make codes to order, with a fault
# each, and look at which score notices. No network is trained: a score sees only codes and factors.

# %%
import numpy as np

import keras_provlae as kp

rng = np.random.default_rng(0)
values = [10, 8, 4]  # hue, scale, shape
names = ["hue", "scale", "shape"]
factors = np.stack([rng.integers(0, n, 5_000) for n in values], axis=1)


def standardized(columns):
    """Returns columns of variance 1, as the latents of a trained model have it."""
    columns = np.asarray(columns, "float64")
    return (columns - columns.mean(axis=0)) / (columns.std(axis=0) + 1e-9)


def code(columns, deviation=0.05):
    """Returns means with small noise, and log variances, as an encoder would give them."""
    mean = standardized(columns) + deviation * rng.standard_normal(np.shape(columns))
    return mean, np.full(mean.shape, 2 * np.log(deviation))


# %% [markdown]
# ## A ruler: the right code and a useless one
#
# The right code has one latent for each factor, and one that is not used (its posterior is the prior).

# %%
hue, scale, shape = standardized(factors).T
nothing = np.zeros(len(factors))


def with_unused(mean, log_var):
    """Adds a latent that is not used."""
    unused = nothing[:, None]
    return np.concatenate([mean, unused], axis=1), np.concatenate([log_var, unused], axis=1)


codes = {"right": with_unused(*code(np.stack([hue, scale, shape], axis=1)))}
codes["noise"] = code(rng.standard_normal((len(factors), 4)))

# %% [markdown]
# ## Four faults
#
# - **Split**: the hue lies on two latents (as a circle: the usual way in which a network holds a hue).
# - **Merged**: scale and shape share one latent.
# - **Rotated**: scale and shape lie on two latents, but turned by 45 degrees.
# - **Flipped**: a latent holds the scale, but in half of all hues its sign is the other one.

# %%
angle = 2 * np.pi * factors[:, 0] / values[0]
codes["split"] = with_unused(*code(np.stack([np.cos(angle), np.sin(angle), scale, shape], axis=1)))
codes["merged"] = with_unused(*code(np.stack([hue, factors[:, 1] + values[1] * factors[:, 2]], axis=1)))
codes["rotated"] = with_unused(*code(np.stack([hue, scale + shape, scale - shape], axis=1)))
sign = np.where(factors[:, 0] % 2, 1.0, -1.0)
codes["flipped"] = with_unused(*code(np.stack([hue, sign * scale, shape], axis=1)))

# %%
groups = ["mutual_information", "factor_vae_score", "dci", "infomec", "sap"]
cards = {
    name: kp.metrics.evaluate_codes(mean, log_var, factors, include=groups, factor_names=names, data=name)
    for name, (mean, log_var) in codes.items()
}
shown = {
    "MIG": "mig",
    "MIG-sup": "mig_sup",
    "FactorVAE": "factor_vae_score",
    "DCI dis.": "dci_disentanglement",
    "DCI com.": "dci_completeness",
    "InfoM": "infomec_modularity",
    "InfoC": "infomec_compactness",
    "SAP": "sap",
}
print(f"{'':<9}" + "".join(f"{title:>10}" for title in shown))
for name, card in cards.items():
    print(f"{name:<9}" + "".join(f"{float(card[score]):10.2f}" for score in shown.values()))

# %% [markdown]
# Read the rows:
#
# - The right code scores nearly 1, but for SAP: a linear classifier cannot cut one axis into ten hues, so SAP is
#   low for a perfect code, too. Compare SAP with SAP only.
# - **Noise** gets 0.5 to 0.6 from InfoMEC: shares of nearly nothing. Look at the explicitness or at the nats
#   beside it.
# - **Split** costs MIG, as it should: the second-best latent of the hue is nearly as good as the best. FactorVAE's
#   score does not see it at all.
# - **Merged** costs MIG-sup more: one latent holds two factors, each of which still has a best latent. MIG alone
#   would say 0.81.
# - **Rotated** costs every score.
# - **Flipped** costs MIG only a little, and InfoMEC does not see it: the size |z| still tells much of the scale.
#   It can be worse in a trained model, where the two halves of a latent mean different things in each context.
#
# Each fault has its own pattern: MIG falls most where a factor is split, MIG-sup where factors are merged. That is
# the paper's reason for MIG-sup beside MIG.
#
# ## Is a latent flipped, or does it not care?
#
# A latent without the factor, and one whose sign depends on another factor, can have the same MIG.
# `context_effects` tells them apart: it moves one factor while the others are held, in many contexts. It wants a
# model and images; here the "images" are the factors, and the model is the code above.

# %%


class Grid:
    """All combinations of factors; an image is the row of its factors."""

    factor_sizes, factor_names = values, names

    def images(self, rows):
        return np.asarray(rows, "float32")[:, :, None, None]


class FlippedCode:
    """The flipped code as a model."""

    rung_slices = ((1, slice(0, 3)),)

    def encode(self, images):
        rows = np.asarray(images)[:, :, 0, 0]
        mean = (rows - factors.mean(axis=0)) / factors.std(axis=0)
        mean[:, 1] *= np.where(rows[:, 0] % 2, 1.0, -1.0)
        return mean, np.full(mean.shape, -6.0)


effects = kp.metrics.context_effects(FlippedCode(), Grid())
print(effects)
print("flipped:", effects.flipped)

# %% [markdown]
# Within each context the scale explains its latent wholly; over all contexts nothing is left.
#
# ## Too few images
#
# With N images no estimate of I(x; z) can exceed ln N, and with narrow posteriors any code that tells the images
# apart "holds" every factor. Here is pure noise, measured on 50 to 5,000 rows:

# %%
mean, log_var = codes["noise"]
for rows in (50, 500, 5_000):
    information = kp.metrics.mutual_information(mean[:rows], log_var[:rows], factors[:rows])
    share = information.normalized.max(axis=1)
    print(
        f"N = {rows:>5}: noise seems to hold", ", ".join(f"{s:.0%} of {n}" for s, n in zip(share, names, strict=True))
    )

# %% [markdown]
# With all latents equally good, MIG stays near 0 here. In a map of mutual information, or in a comparison of
# rungs, the same bias looks like a finding. Use thousands of rows, and the same number for all models.
#
# ## Which factors, which estimator
#
# The published MIG of dSprites leaves the shape out: including it changes the score. So does another estimator. A
# card records all this and refuses to compare what cannot be compared:

# %%
mean, log_var = codes["right"]
two = kp.metrics.evaluate_codes(mean, log_var, factors[:, :2], include=groups[:1], factor_names=names[:2], data="right")
print(f"MIG of three factors {float(cards['right']['mig']):.3f}, of two {float(two['mig']):.3f}")
try:
    cards["right"].compare(two)
except ValueError as error:
    print(error)

# %% [markdown]
# ## A checklist
#
# 1. MIG **and** MIG-sup, and the heatmap they come from.
# 2. Is a low score a rotation or a flip? `context_effects`.
# 3. Thousands of images, and the same number everywhere; the same factors, the same estimator.
# 4. All seeds, with mean and spread: the best seed of five is a selection, and it was made with labels.
# 5. Pictures. A latent that scores 1 and shows nothing in a traversal deserves a question.
#
# [Each score](../metrics/scores.md) has its definition, range and blind spots.
