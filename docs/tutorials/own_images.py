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
# # Your own images: from a folder to a report
#
# You have a folder of image files, and for some questions you know what made them. You train on the folder, score
# the model on the factors that you know, and write a report to pass on.
#
# ## The folder
#
# This tutorial draws 3,000 small pictures of a lamp: it has a place, a brightness and a color. Yours are
# photographs, microscope images, spectrograms: PNG or JPEG, of any size.

# %%
from pathlib import Path

import keras
import numpy as np

import keras_provlae as kp

places, lights, colors = range(12), range(8), range(6)
PALETTE = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]], "float32")


def draw(factors):
    """Draws lamps: int `(n, 3)` -> float32 `(n, 32, 32, 3)` in [0, 1]."""
    place, light, color = np.asarray(factors).T
    x = np.arange(32, dtype="float32")
    distance = (x[None, None, :] - (4 + 2 * place[:, None, None])) ** 2 + (x[None, :, None] - 16) ** 2
    glow = np.exp(-distance / 40) * (0.2 + 0.11 * light[:, None, None])
    return glow[..., None] * PALETTE[color][:, None, None, :]


rng = np.random.default_rng(0)
made = np.stack([rng.choice(values, 3_000) for values in (places, lights, colors)], axis=1)
Path("lamps").mkdir(exist_ok=True)
for number, image in enumerate(draw(made)):
    keras.utils.save_img(f"lamps/{number:04}.png", 255 * image, scale=False)

# %% [markdown]
# ## Batches from the folder
#
# `image_folder` crops and resizes what it finds to one size, and says which files it skips. A file that cannot be
# read stops it with the name of the file.

# %%
train_ds = kp.datasets.image_folder("lamps", batch_size=100, image_size=32, seed=0)
next(iter(train_ds)).shape

# %% [markdown]
# ## The model
#
# No preset fits, so you choose. Begin small: two or three rungs of two or three latents, and widths of some
# dozens.
#
# `beta` presses each latent toward the prior. Pixels are summed in the loss, so larger images weigh more against
# the KL. `tc_weight` presses the latents to be independent of each other, for which the loss has to know how many
# images there are. Without it this model splits the place over several latents (MIG 0.1 to 0.2).

# %%
keras.utils.set_random_seed(0)
model = kp.ProgressiveVAE(
    image_shape=(32, 32, 3),
    num_rungs=2,
    latent_dim=2,
    channels=(16, 32),
    dense=64,
    beta=0.5,
    tc_weight=8.0,
    dataset_size=3_000,
)
model.compile(kp.optimizers.adam(1e-3, epsilon=1e-8))
history = model.fit(
    train_ds.repeat(),
    epochs=20,
    steps_per_epoch=60,
    verbose=0,
    callbacks=[kp.GrowthCallback(fade_in_steps=200, verbose=1), kp.callbacks.TraversalSnapshots("snapshots", train_ds)],
)
print({name: round(values[-1], 2) for name, values in history.history.items() if name.startswith(("kl", "elbo"))})

# %%
images = next(iter(train_ds))
kp.visualization.traversals(model, images[:1], images=images, quantiles=(0.01, 0.99), data="lamps")

# %% [markdown]
# How many latents are enough? The KL beside each row says which are used. `GrowthCallback("auto")` asks that
# question while it trains: it unlocks rungs while they pay, and suggests a size at the end.
#
# ## Factors
#
# To score you need the factors of images. If you can draw or photograph every combination, describe the grid:

# %%
grid = np.stack(np.meshgrid(places, lights, colors, indexing="ij"), axis=-1).reshape(-1, 3)
truth = kp.datasets.GroundTruth.from_arrays(draw(grid), grid, ["place", "light", "color"], name="lamps", source="drawn")
truth

# %% [markdown]
# If you only have some labeled images, pass the two arrays, `(images, factors)`, in place of a ground truth.

# %%
groups = ["mutual_information", "information_flow", "factor_vae_score", "contexts"]
card = kp.metrics.evaluate(model, truth, include=groups, progress=False)
card

# %%
kp.visualization.mutual_information_heatmap(card, model.rung_slices)

# %% [markdown]
# ## Name the latents
#
# Look at the pictures and the heatmap, and write down what you see; here a latent is named after a factor of which
# it holds 40%. The names are saved with the model; pictures, reports and exports show them.

# %%
information = card.results["mutual_information"]
best = information.normalized.argmax(axis=0)
model.latent_names = [
    information.factor_names[factor] if information.normalized[factor, latent] > 0.4 else ""
    for latent, factor in enumerate(best)
]
model.latent_names

# %% [markdown]
# ## The report
#
# One HTML file without scripts: what was trained on what, curves, pictures, scores, and warnings in words.

# %%
path = kp.report.write_report(model, truth, history, "report.html", snapshots="snapshots", card=card)
model.save("lamps.keras")
print(path, f"{path.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# Next: [measure without fooling yourself](measure_disentanglement.py), and what changes the pressure:
# [Tune](../how-to/tune.md).
