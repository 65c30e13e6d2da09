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
# # From a notebook to a server
#
# You export a model so that programs can use it without this package, ask it over HTTP, and open its latents in a
# browser. This tutorial needs the extras `export` and `serve`.
#
# ## Export
#
# A SavedModel has the graph, the weights, and named signatures: encode, decode, sample, traverse and more.

# %%
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

import keras_provlae as kp

model = kp.ProgressiveVAE.from_preset("shapes3d_32", load_weights=True)
images = kp.datasets.shapes3d("procedural").downscale(2).sample(8, seed=0)[0]
path = kp.export.export_savedmodel(model, "served/shapes3d", example_images=images)
print(path)

# %% [markdown]
# The next export to the same folder is version 2. Metadata lie beside the graph, also the names of the latents:

# %%
metadata = kp.export.read_metadata(path)
print(list(metadata["signatures"]))
print(metadata["latent_names"])

# %% [markdown]
# ## Serve
#
# TensorFlow Serving serves this folder as it is. Without it, the repository has a small server with the same REST
# API, `examples/serve.py`. In a terminal:
#
# ```sh
# python examples/serve.py --model_base_path=served/shapes3d
# ```
#
# Here the notebook starts it, from the copy of the repository that it lies in; port 0 picks a free one.

# %%
repository = next(folder for folder in Path.cwd().parents if (folder / "examples" / "serve.py").exists())
server = subprocess.Popen(
    [sys.executable, repository / "examples" / "serve.py", "--model_base_path=served/shapes3d", "--rest_api_port=0"],
    stderr=subprocess.PIPE,
    text=True,
)
address = None
while address is None:
    line = server.stderr.readline()
    if not line:
        raise RuntimeError("The server stopped before it was ready.")
    address = re.search(r"at (http://127\.0\.0\.1:\d+)", line)
address = address[1]

# %% [markdown]
# Open that address in a browser for the latent explorer: sliders for every rung, samples, swaps.
#
# ![The latent explorer](../explorer.png)
#
# ## Ask it
#
# Any program that speaks HTTP can ask. Draw two images from the prior, and look at the shape of the answer:

# %%
# !curl -s {address}/v1/models/shapes3d

# %%
request = '{"signature_name": "sample", "inputs": {"n": 2, "seed": 0}}'
# !curl -s -d '{request}' {address}/v1/models/shapes3d:predict | head -c 200

# %% [markdown]
# From Python, with nothing but the standard library:


# %%
def ask(signature, **inputs):
    """Returns the outputs of a signature; a single output is the answer itself."""
    inputs = {name: np.asarray(value).tolist() for name, value in inputs.items()}
    body = json.dumps({"signature_name": signature, "inputs": inputs})
    answer = urllib.request.urlopen(f"{address}/v1/models/shapes3d:predict", body.encode())
    return json.load(answer)["outputs"]


codes = ask("encode", images=images[:2])
for name, value in zip(metadata["latent_names"], codes["mean"][0], strict=True):
    print(f"{name or 'not used':<12} {value:6.2f}")

# %% [markdown]
# Sweep one latent on the server:

# %%
hue = metadata["latent_names"].index("wall hue")
swept = ask("traverse", images=images[:1], latent=hue, values=[-2, -1, 0, 1, 2])
print(np.shape(swept))

# %% [markdown]
# A bad request gets an answer that says what is wrong, and harms nobody:

# %%
try:
    ask("encode", images=images[:1] + 7)
except urllib.error.HTTPError as error:
    print(error.code, json.load(error)["error"][:300])

# %%
server.terminate()  # lets open requests finish
server.wait()

# %% [markdown]
# ## Without TensorFlow
#
# ONNX and LiteRT files of encoder and decoder are compared with the model before they are kept.

# %%
import onnxruntime

files = kp.export.export_onnx(model, "converted")
print(files)
session = onnxruntime.InferenceSession(files["encode"])
mean, log_var = session.run(["mean", "log_var"], {"images": images})
print(float(np.abs(mean - model.encode_on_batch(images)[0]).max()))

# %% [markdown]
# More signatures, image files as requests, and what the server does and does not do: [Serve](../how-to/serve.md).
