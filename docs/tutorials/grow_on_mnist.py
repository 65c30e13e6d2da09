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
# # Grow your first pro-VLAE on MNIST
#
# You train a ladder that starts with its deepest rung and gains two more during one `fit`, watch what each unlock
# does, and look at the result. Two minutes on two cores.

# %%
import keras
import numpy as np

import keras_provlae as kp

keras.utils.set_random_seed(0)
train_ds = kp.datasets.mnist("train", batch_size=100, seed=0)
test_ds = kp.datasets.mnist("test", with_labels=True)
images, digits = (np.concatenate(parts) for parts in zip(*test_ds.as_numpy_iterator(), strict=True))
print(images.shape, images.min(), images.max())

# %% [markdown]
# Images are floats in [0, 1]. If MNIST is not prepared on this machine, these are the 5,000 real digits of a
# package, 4,500 of them for training.
#
# ## The model
#
# The preset has the network of the paper: three rungs of three latents. At first the model is at stage 0: only
# rung 3, the deepest, is unlocked.

# %%
model = kp.ProgressiveVAE.from_preset("mnist")
model.compile()  # Adam 5e-4, epsilon 1e-8, as in the paper
model

# %% [markdown]
# ## One `fit` for all stages
#
# `GrowthCallback` shares the epochs evenly among the rungs: 10, 10 and 10 here. When it unlocks a rung, it raises
# alpha from 0 to 1 over 200 steps. Alpha multiplies what the new rung gives to the decoder, so the network that is
# already trained is not disturbed.
#
# While a rung is locked, it pays gamma x KL, a small price that keeps its posterior near the prior until its turn
# comes. Unlocked, it pays beta x KL.
#
# `InformationFlow` measures I(x; z_l) as the ladder grows, and `TraversalSnapshots` takes pictures of every stage.

# %%
growth = kp.GrowthCallback(fade_in_steps=200, verbose=1)
history = model.fit(
    train_ds.repeat(),
    epochs=30,
    steps_per_epoch=40,
    verbose=0,
    callbacks=[
        growth,
        kp.callbacks.InformationFlow(images),
        kp.callbacks.TraversalSnapshots("snapshots", images),
    ],
)
print(model.stage, model.alpha, model.iteration)

# %% [markdown]
# ## What happened
#
# The loss falls, and at each unlock a new curve of KL rises: the new rung begins to hold something.

# %%
kp.visualization.training_curves(history, data="digits")

# %% [markdown]
# An unlock done wrong shows as a jump of the loss. `shocks` has the effect of each: the largest rise of the
# negative ELBO, as a fraction of its value before. Here the fade-in leaves none to speak of.

# %%
kp.visualization.growth_shocks(growth.shocks, data="digits")

# %% [markdown]
# The timeline shows samples of each rung at the end of each stage, with the bar of what the rung knows about the
# image.

# %%
kp.visualization.growth_timeline("snapshots", data="digits")

# %% [markdown]
# ## What each latent does
#
# One digit, each latent swept. The deep rung changes what is written; the shallow ones how.

# %%
kp.visualization.traversals(model, images[:1], images=images, data="digits")

# %%
kp.visualization.rung_samples(model, images[:1], n=16, data="digits")

# %% [markdown]
# Which rung knows the digit? The digit is the one factor that we have for these images:

# %%
mean, log_var = model.encode_on_batch(images)
print(kp.metrics.rung_factor_map(mean, log_var, digits[:, None], model.rung_slices, factor_names=["digit"]))

# %% [markdown]
# ## Save it
#
# Stage, alpha and the state of the optimizer are in the file. A loaded model goes on where this one stopped: in
# the middle of a fade-in, too.

# %%
model.save("model.keras")
loaded = keras.models.load_model("model.keras")
print(loaded.stage, loaded.alpha, loaded.iteration)

# %% [markdown]
# Next: [your own images](own_images.py). How to grow by steps, automatically, or with a guard:
# [Grow](../how-to/grow.md).
