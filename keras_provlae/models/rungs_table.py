"""A notebook's view of a ladder model: one row per rung."""

from html import escape
from typing import Any

from keras import ops

from keras_provlae.html_table import table

STATES = {0.0: "locked", 1.0: "open"}  # by the gate of the decoder


def rungs_table(model: Any) -> str:
    """Returns an HTML table of the rungs of a `LadderVAE`, deepest first, with their gates and KL weights."""
    vectors = [ops.convert_to_numpy(of()) for of in (model.encoder_gates, model.decoder_gates, model.kl_weights)]
    rows = []
    for (rung, columns), *numbers in zip(model.rung_slices, *vectors, strict=True):
        level = min(rung, model.spec.num_rungs)  # groups of latents share the end of one trunk
        feature_map = (*model.spec.size(model.spec.level(level)), model.spec.channels[level - 1])
        state = STATES.get(float(numbers[1]), "fading in")
        latents = f"{columns.stop - columns.start} ({columns.start} .. {columns.stop - 1})"
        rows.append([str(rung), state, latents, _sizes(feature_map), *(f"{number:g}" for number in numbers)])
    header = ["rung", "state", "latents (columns)", "feature map", "encoder gate", "decoder gate", "KL weight"]
    facts = [f"images {_sizes(model.image_shape)}", f"{model.count_params():,} parameters"]
    facts += [f"preset {model.preset}"] if model.preset else []
    if model.grows:
        facts.append(f"stage {model.stage} of 0 .. {model.num_rungs - 1}, alpha {model.alpha:.3g}")
    about = f"<p><b>{type(model).__name__}</b> {escape(model.name)}: {escape('; '.join(facts))}</p>"
    return about + table(header, rows, numbers=(4, 5, 6))


def _sizes(shape):
    return " x ".join(map(str, shape))
