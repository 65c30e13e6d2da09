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
# # Ten minutes with a pretrained ladder
#
# You load a trained pro-VLAE, look at what each of its latents does, exchange and resample parts of an image, and
# measure how well the latents part the factors. Nothing is downloaded: the weights are in the package, and the
# images are rendered here.

# %%
import numpy as np

import keras_provlae as kp

model = kp.ProgressiveVAE.from_preset("shapes3d_32", load_weights=True)
model

# %% [markdown]
# The ladder has three rungs. Rung 3 is the deepest: it was trained first, alone. Rungs 2 and 1 were added later,
# and each had to find something that the ladder did not have yet.
#
# The images show an object in a room. Six factors make an image: three hues, the object's scale and shape, and the
# direction from which the room is seen.

# %%
truth = kp.datasets.shapes3d("procedural").downscale(2)  # 32 x 32
truth

# %% [markdown]
# ## Encode
#
# The code of an image has nine latents: three per rung, the deepest rung first. Each has a mean and a log
# variance.

# %%
images, factors = truth.sample(200, seed=0)
mean, log_var = model.encode_on_batch(images)
print(mean.shape, model.rung_slices)
for name, value, deviation in zip(model.latent_names, mean[0], np.exp(log_var[0] / 2), strict=True):
    print(f"{name or 'not used':<12} {value:6.2f} ± {deviation:.2f}")

# %% [markdown]
# A standard deviation near 0 says that the image decides this latent. One near 1 says that the latent is not used:
# its posterior is the prior. Decoding the means gives back the image:

# %%
kp.visualization.reconstructions(model, images[:8], data=truth)

# %% [markdown]
# ## Traverse
#
# Change one latent, from 1% to 99% of its values, and hold the others. If the latents part the factors, one thing
# changes in each row.

# %%
kp.visualization.traversals(model, images[3:4], images=images, quantiles=(0.01, 0.99), data=truth)

# %% [markdown]
# By hand it is a loop of your own over columns of the code:

# %%
scale = model.latent_names.index("scale")
codes = np.repeat(mean[:1], 5, axis=0)
codes[:, scale] = np.linspace(-2, 2, 5)
frames = model.decode_on_batch(codes)
print(frames.shape, frames.min(), frames.max())

# %% [markdown]
# ## Swap a rung between two images
#
# Give the first image the second one's rung 3, then its rung 2, and so on. Rung 3 carries all hues.

# %%
kp.visualization.rung_swaps(model, images[:1], images[1:2], data=truth)

# %% [markdown]
# ## Resample a rung
#
# Draw one rung from its prior and hold the others: which variation does the ladder keep at this level?

# %%
kp.visualization.rung_samples(model, images[:1], n=16, seed=0, data=truth)

# %% [markdown]
# `model.sample(16)` draws all rungs, `model.sample(16, rung=3, around=images[:1])` one of them.
#
# ## Score it
#
# How much of each factor does each latent hold? Mutual information says it in nats; divided by the factor's
# entropy it is a share, 1 if the latent determines the factor.

# %%
card = kp.metrics.evaluate(
    model, truth, num_images=10_000, include=["mutual_information", "information_flow", "contexts"], progress=False
)
kp.visualization.mutual_information_heatmap(card, model.rung_slices, latent_names=model.latent_names)

# %% [markdown]
# MIG is the gap between the best latent of a factor and the next best, averaged over the factors. MIG-sup, the
# paper's own score, looks from the other side: the gap between the best factor of a latent and the next best. Both
# are 1 for a perfect code.

# %%
card

# %% [markdown]
# The information flow says where the ladder keeps its information: I(x; z_l) is in nats, and rung 1 is hardly used
# here. What these scores do and do not see is the subject of [another tutorial](measure_disentanglement.py).
#
# Next: [grow a model of your own](grow_on_mnist.py). How this one was trained is in its card:

# %%
about = kp.pretrained.card("shapes3d_32")
print(about["recipe"]["training"])
