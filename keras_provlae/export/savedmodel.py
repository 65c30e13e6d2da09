"""SavedModels in TensorFlow Serving's layout, `<name>/<version>/`."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_provlae.export import metadata
from keras_provlae.export.tensorflow_process import in_tensorflow
from keras_provlae.models.ladder_vae import LadderVAE

EXAMPLES_FILE = Path("assets.extra") / "example_images.npy"


def export_savedmodel(
    model: keras.Model,
    path: str | os.PathLike,
    version: int | None = None,
    overwrite: bool = False,
    require_grown: bool = False,
    example_images: Any = None,
) -> Path:
    """Writes a SavedModel that TensorFlow, TensorFlow Serving and their bindings run without this package.

    All signatures have a dynamic batch size. Codes are `(batch, latents)`, the deepest rung's columns first. Output
    images are float32 `(batch, height, width, channels)` in [0, 1]:

    | signature | inputs | outputs |
    |---|---|---|
    | `serving_default`, `reconstruct` | `images` | `images` |
    | `encode` | `images` | `mean`, `log_var`; `mean_rung_l`, `log_var_rung_l` for every rung l |
    | `decode` | `codes` | `images` |
    | `sample` | `n`, `seed` | `images`: equal to `model.sample(n, seed=seed)` on TensorFlow |
    | `sample_rung` | `images`, `rung`, `n`, `seed` | `images`: n for the first image, n for the second, ... |
    | `swap_rung` | `images`, `others`, `rung` | `images` with the rung of `others` |
    | `traverse` | `images`, `latent` (a column), `values` | `images`: all values for the first image, ... |
    | `encode_image_bytes` | `image_bytes` | as `encode` |
    | `reconstruct_image_bytes` | `image_bytes` | `images` |

    Input images are float32 in [0, 1]; the signatures `<name>_uint8` take uint8. `n`, `seed`, `rung` and `latent` are
    int32 scalars. The graph raises an error for values out of range.

    `image_bytes` are strings `(batch,)`, each a whole PNG or JPEG file, gray or color, of at most 2 ** 25 pixels. Only
    models of images with 1 or 3 channels take them. Like `image_folder`, the graph crops the center to the model's
    aspect ratio and resizes it; it blends transparent pixels with white. An item that is not such a file raises an
    error with its index.

    Args:
        model: A `LadderVAE`, exported at its current stage.
        path: Folder of the model, which holds its versions, such as `"served/mnist"`; or the folder of one
            version, `"served/mnist/1"`.
        version: Int, 0 .. 2 ** 63 - 1. Default: the highest existing version plus one, or 1.
        overwrite: Whether to replace an existing version. Servers that have loaded it keep serving the old one.
        require_grown: Whether to refuse a model with a rung that is locked or still fading in.
        example_images: `None`, or an array of images, float in [0, 1] or uint8, to store with the export for the
            latent explorer of `examples/serve.py` (which shows the first 24).

    Returns:
        Path of the version's folder, which appears only once it is complete.

    Raises:
        TypeError: If `model` is not a `LadderVAE`, `version` not an integer or `example_images` not an array of images.
        ValueError: If the model is not grown and `require_grown` is set, if `version` is out of range or contradicts
            `path`, or if `example_images` do not fit the model.
        FileExistsError: If the version exists and `overwrite` is false.
        ImportError: If TensorFlow is not installed.
        RuntimeError: On JAX and PyTorch, if the TensorFlow process that writes the SavedModel fails.

    Example:
        >>> import keras_provlae as kp
        >>> model = kp.ProgressiveVAE((8, 8, 1), num_rungs=2, latent_dim=3, channels=4, dense=8)
        >>> export_savedmodel(model, "served/digits", require_grown=True)
        Traceback (most recent call last):
        ...
        ValueError: The model is still growing: stage 0 of 0 .. 1, alpha 1. Train it further, or ...

    Source: Li et al. (2020), figures 4 to 7, for `traverse`, `sample_rung` and `swap_rung`.
    """
    check_model(model)
    folder, version = _destination(Path(path).expanduser(), version)
    if require_grown and not metadata.is_complete(model):
        raise ValueError(
            f"The model is still growing: stage {model.stage} of 0 .. {model.num_rungs - 1}, alpha {model.alpha:g}. "
            "Train it further, or export it without `require_grown=True`."
        )
    if version is not None and not overwrite:
        _refuse_existing(folder, version)
    examples = None if example_images is None else _as_uint8(example_images, model)
    folder.mkdir(parents=True, exist_ok=True)
    # servers that watch the folder ignore names that are not numbers
    temporary = Path(tempfile.mkdtemp(prefix=".exporting-", dir=folder))
    try:
        write_savedmodel(model, temporary / "export")
        if examples is not None:
            np.save(temporary / "export" / EXAMPLES_FILE, examples)
        return _publish(temporary / "export", folder, version, overwrite)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_savedmodel(model: keras.Model, folder: str | Path) -> None:
    """Writes signatures and metadata into a folder; on JAX and PyTorch in a TensorFlow process."""
    if keras.backend.backend() != "tensorflow":
        in_tensorflow("keras_provlae.export.savedmodel:write_savedmodel", model, folder)
        return
    import tensorflow as tf

    from keras_provlae.export.signatures import described, traced_signatures

    module, signatures = traced_signatures(model)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    metadata.write(
        {**metadata.describe(model), "signatures": described(signatures)}, Path(folder) / metadata.METADATA_FILE
    )


def check_model(model: Any) -> None:
    """Raises a `TypeError` unless the model is a `LadderVAE`."""
    if not isinstance(model, LadderVAE):
        raise TypeError(f"`model` must be a LadderVAE, such as ProgressiveVAE. Received: {type(model).__name__}.")


def _destination(path, version):
    """Returns the folder of the model and the requested version or `None`."""
    if not path.name:
        raise ValueError(f"`path` must name a folder for the model, such as 'served/mnist'. Received: path={path}.")
    if version is not None and (not hasattr(version, "__index__") or isinstance(version, bool)):
        raise TypeError(f"`version` must be an integer. Received: version={version!r}.")
    if metadata.is_version(path.name):
        if path.name != str(int(path.name)):
            raise ValueError(f"`path` must end with a version without leading zeros. Received: path={path}.")
        if version not in (None, int(path.name)):
            raise ValueError(
                f"`path` and `version` must name the same version. Received: path={path}, version={version}."
            )
        path, version = path.parent, int(path.name)
    if version is not None and not 0 <= version < 2**63:
        raise ValueError(f"`version` must be in 0 .. 2 ** 63 - 1. Received: version={version}.")
    return path, version


def _refuse_existing(folder, version):
    if (existing := metadata.version_folders(folder).get(version)) is not None:
        raise FileExistsError(
            f"{existing} exists. Omit the version to get the next free one, or pass `overwrite=True`."
        )


def _publish(export, folder, version, overwrite):
    """Moves a complete export to its version's path in one rename."""
    while version is None:
        target = folder / str(max(metadata.version_folders(folder), default=0) + 1)
        try:
            return export.rename(target)
        except OSError:
            if not os.path.lexists(target):  # else another process took the number
                raise
    if not overwrite:
        _refuse_existing(folder, version)
    target = metadata.version_folders(folder).get(version, folder / str(version))
    return _replace(target, export) if os.path.lexists(target) else export.rename(target)


def _replace(target, export):
    """Renames `export` to an existing path; puts the old version back if that fails."""
    replaced = target.with_name(f".replaced-{target.name}-{export.parent.name}")
    target.rename(replaced)
    try:
        export.rename(target)
    except BaseException:
        replaced.rename(target)
        raise
    if replaced.is_symlink() or replaced.is_file():
        replaced.unlink()
    else:
        shutil.rmtree(replaced, ignore_errors=True)
    return target


def _as_uint8(images, model):
    if not hasattr(images, "shape") or len(images.shape) == 0 or images.shape[0] == 0:
        raise TypeError(
            f"`example_images` must be an array of at least one image, {('batch', *model.image_shape)}, float in "
            f"[0, 1] or uint8. Received: {type(images).__name__}. For a data set pass `next(iter(ds))`."
        )
    images = np.asarray(images)
    floats = images if images.dtype != np.uint8 else images.astype("float32") / 255
    model.encode(floats)  # raises an error for images that do not fit the model
    return np.ascontiguousarray(np.rint(floats * 255).astype("uint8"))
