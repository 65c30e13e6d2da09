import datetime
import itertools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp
from keras_provlae.export import savedmodel
from keras_provlae.export.metadata import describe, version_folders
from keras_provlae.export.savedmodel import EXAMPLES_FILE


def write_name(model, folder):
    """Writes the model's name instead of a graph."""
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(model.name)


@pytest.fixture
def quick(monkeypatch):
    """Returns an `export_savedmodel` that takes the model's name and writes no graph."""
    monkeypatch.setattr(savedmodel, "write_savedmodel", write_name)
    monkeypatch.setattr(savedmodel, "check_model", lambda model: None)
    return lambda name, *args, **kwargs: kp.export.export_savedmodel(keras.Model(name=name), *args, **kwargs)


def overtake(quick, monkeypatch, path):
    """Exports `fast` while the model `slow` is being written."""

    def write(model, folder):
        write_name(model, folder)
        if model.name == "slow":
            quick("fast", path)

    monkeypatch.setattr(savedmodel, "write_savedmodel", write)


def content(folder):
    """Returns {version: model name} of the exports in a folder, hidden ones included."""
    return {child.name: (child / "saved_model.pb").read_text() for child in folder.iterdir()}


def test_the_layout_is_the_one_of_tensorflow_serving(exported):
    assert exported.name == "1"
    assert [child.name for child in exported.parent.iterdir()] == ["1"]
    assert {child.name for child in exported.iterdir()} >= {"saved_model.pb", "variables", "assets.extra"}


def test_every_variable_is_stored_once(exported, growing_model):
    parameters = growing_model.count_params()
    size = (exported / "variables/variables.data-00000-of-00001").stat().st_size
    assert 4 * parameters <= size < 4 * parameters + 10_000  # besides the graph of objects


def test_the_next_free_version_is_the_default(quick, tmp_path):
    assert quick("zero", tmp_path / "z/0") == tmp_path / "z/0"
    assert quick("a", tmp_path / "m") == tmp_path / "m/1"
    assert quick("b", str(tmp_path / "m/7")) == tmp_path / "m/7"
    assert quick("c", tmp_path / "m") == tmp_path / "m/8"
    assert quick("d", tmp_path / "m", version=3) == tmp_path / "m/3"
    (tmp_path / "m/notes").mkdir()
    (tmp_path / "m/notes/saved_model.pb").write_text("no version")
    (tmp_path / "m/٣٣").mkdir()  # digits, but no version
    (tmp_path / "m/٣٣/saved_model.pb").write_text("no version")
    assert quick("e", tmp_path / "m") == tmp_path / "m/9"
    assert set(content(tmp_path / "m")) == {"1", "7", "8", "3", "9", "notes", "٣٣"}
    (tmp_path / "m/00000011").mkdir()  # leading zeros, as in TensorFlow Serving's examples
    (tmp_path / "m/12").touch()
    (tmp_path / "m/13").symlink_to("nowhere")
    assert quick("f", tmp_path / "m") == tmp_path / "m/14"
    with pytest.raises(FileExistsError, match="00000011 exists"):
        quick("g", tmp_path / "m/11")


def test_a_tilde_is_the_home_folder(quick, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert quick("a", "~/served") == tmp_path / "served/1"
    with pytest.raises(ValueError, match="`path` must name a folder for the model, such as 'served/mnist'"):
        quick("a", "")


def test_an_existing_version_is_replaced_only_with_overwrite(quick, tmp_path):
    quick("a", tmp_path / "m")
    with pytest.raises(FileExistsError, match="m/1 exists. Omit the version to get the next free one, or pass"):
        quick("b", tmp_path / "m/1")
    assert content(tmp_path / "m") == {"1": "a"}
    assert quick("b", tmp_path / "m/1", overwrite=True) == tmp_path / "m/1"
    assert content(tmp_path / "m") == {"1": "b"}
    (tmp_path / "m/1").rename(tmp_path / "m/001")
    assert quick("b", tmp_path / "m/1", overwrite=True) == tmp_path / "m/001"
    (tmp_path / "m/001").rename(tmp_path / "m/1")
    quick("c", tmp_path / "m", overwrite=True)
    assert content(tmp_path / "m") == {"1": "b", "2": "c"}


def test_a_failed_export_changes_nothing(quick, tmp_path, monkeypatch):
    quick("a", tmp_path / "m")

    def fail(model, folder):
        folder.mkdir()
        (folder / "saved_model.pb").write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(savedmodel, "write_savedmodel", fail)
    for arguments in {}, {"version": 1, "overwrite": True}:
        with pytest.raises(OSError, match="disk full"):
            quick("b", tmp_path / "m", **arguments)
        assert content(tmp_path / "m") == {"1": "a"}


def test_an_existing_version_is_rejected_before_the_export(quick, tmp_path, monkeypatch):
    quick("a", tmp_path / "m")
    monkeypatch.setattr(savedmodel, "write_savedmodel", lambda model, folder: pytest.fail("all for nothing"))
    with pytest.raises(FileExistsError):
        quick("b", tmp_path / "m/1")


def test_a_version_written_in_the_meantime_is_kept(quick, tmp_path, monkeypatch):
    overtake(quick, monkeypatch, tmp_path / "m/1")
    with pytest.raises(FileExistsError):
        quick("slow", tmp_path / "m/1")
    assert content(tmp_path / "m") == {"1": "fast"}


@pytest.mark.parametrize("error", [PermissionError, KeyboardInterrupt])
def test_a_failed_replacement_restores_the_old_version(quick, tmp_path, monkeypatch, error):
    quick("a", tmp_path / "m")
    rename = Path.rename

    def fail(self, target):
        if self.name == "export":
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(error):
        quick("b", tmp_path / "m/1", overwrite=True)
    assert content(tmp_path / "m") == {"1": "a"}
    with pytest.raises(error):
        quick("b", tmp_path / "m")  # fails instead of retrying forever
    assert content(tmp_path / "m") == {"1": "a"}


def test_the_folder_appears_when_it_is_complete(quick, tmp_path, monkeypatch):
    seen = []

    def write(model, folder):
        seen.extend(child.name for child in (tmp_path / "m").iterdir())
        write_name(model, folder)

    monkeypatch.setattr(savedmodel, "write_savedmodel", write)
    quick("a", tmp_path / "m")
    assert len(seen) == 1
    assert not seen[0].isdigit()


def test_a_taken_number_is_skipped(quick, tmp_path, monkeypatch):
    overtake(quick, monkeypatch, tmp_path / "m")
    assert quick("slow", tmp_path / "m") == tmp_path / "m/2"
    assert content(tmp_path / "m") == {"1": "fast", "2": "slow"}


@pytest.mark.parametrize(
    ("path", "version", "error", "message"),
    [
        ("m", -1, ValueError, "`version` must be in 0 .. 2 .* Received: version=-1"),
        ("m", 2**63, ValueError, "`version` must be in 0 .. 2 .. 63 - 1"),
        ("m/01", None, ValueError, "`path` must end with a version without leading zeros"),
        ("m", "2", TypeError, "`version` must be an integer. Received: version='2'"),
        ("m", True, TypeError, "`version` must be an integer"),
        ("m/1", 2, ValueError, "`path` and `version` must name the same version"),
    ],
)
def test_bad_versions_are_rejected(quick, tmp_path, path, version, error, message):
    with pytest.raises(error, match=message):
        quick("a", tmp_path / path, version=version)
    assert list(tmp_path.iterdir()) == []


def test_require_grown_rejects_a_growing_model(tmp_path, growing_model, exported):
    with pytest.raises(ValueError, match="still growing: stage 1 of 0 .. 2, alpha 0.5. Train it further, or export"):
        kp.export.export_savedmodel(growing_model, tmp_path / "m", require_grown=True)
    assert not (tmp_path / "m").exists()
    assert exported.is_dir()  # without `require_grown`, the same model was exported
    unlocked = kp.ProgressiveVAE((8, 8, 1), num_rungs=2, latent_dim=1, channels=4, dense=8)
    unlocked.grow(fade_in_steps=10)
    with pytest.raises(ValueError, match="still growing: stage 1 of 0 .. 1, alpha 0"):
        kp.export.export_savedmodel(unlocked, tmp_path / "m", require_grown=True)


def test_other_models_are_rejected(tmp_path):
    for export in kp.export.export_savedmodel, kp.export.export_onnx, kp.export.export_litert:
        with pytest.raises(TypeError, match="`model` must be a LadderVAE, such as .* Received: Sequential"):
            export(keras.Sequential(), tmp_path / "m")


def test_metadata_describe_the_model(exported, growing_model):
    metadata = kp.export.read_metadata(exported)
    assert kp.export.read_metadata(exported.parent) == kp.export.read_metadata(str(exported.parent)) == metadata
    assert metadata["image_shape"] == [8, 8, 1]
    assert (metadata["num_rungs"], metadata["num_latents"]) == (3, 6)
    assert metadata["rungs"] == [
        {"rung": 3, "start": 0, "stop": 3, "unlocked": True},
        {"rung": 2, "start": 3, "stop": 5, "unlocked": True},
        {"rung": 1, "start": 5, "stop": 6, "unlocked": False},
    ]
    assert [metadata[name] for name in ("stage", "alpha", "iteration", "grown")] == [1, 0.5, 5, False]
    assert metadata["versions"]["keras_provlae"] == kp.__version__
    assert metadata["versions"]["keras"] == keras.__version__
    assert metadata["versions"]["tensorflow"] == tf.__version__
    model = metadata["model"]
    assert (model["class"], model["preset"]) == ("ProgressiveVAE", None)
    again = kp.ProgressiveVAE.from_config(model["config"])
    assert again.spec == growing_model.spec


def test_metadata_list_the_signatures(exported, loaded):
    signatures = kp.export.read_metadata(exported)["signatures"]
    assert set(signatures) == set(loaded.signatures)
    assert signatures["sample_rung_uint8"] == {
        "inputs": {
            "images": {"dtype": "uint8", "shape": [None, 8, 8, 1]},
            **{name: {"dtype": "int32", "shape": []} for name in ("rung", "n", "seed")},
        },
        "outputs": {"images": {"dtype": "float32", "shape": [None, 8, 8, 1]}},
    }
    assert signatures["encode"]["outputs"]["mean_rung_2"] == {"dtype": "float32", "shape": [None, 2]}


def test_metadata_name_the_preset_which_the_config_restores():
    model = kp.VLAE.from_preset("mnist", beta=4.0)
    saved = json.loads(json.dumps(describe(model)["model"]))
    assert (saved["class"], saved["preset"]) == ("VLAE", "mnist")
    again = kp.VLAE.from_config(saved["config"])
    assert (again.preset, again.beta) == ("mnist", 4.0)


def test_metadata_of_a_folder_are_its_newest_version_s(tmp_path):
    for version in "9", "3", "10", "002", "7":
        (tmp_path / version / "assets.extra").mkdir(parents=True)
        (tmp_path / version / "assets.extra/keras_provlae.json").write_text(json.dumps({"version": version}))
    (tmp_path / "20240101").touch()  # a file is no version
    assert kp.export.read_metadata(tmp_path) == {"version": "10"}


def test_versions_ascend_in_any_order_of_the_file_system(tmp_path, monkeypatch):
    for order in itertools.permutations((1, 2, 10)):
        monkeypatch.setattr(Path, "iterdir", lambda folder, order=order: (folder / str(number) for number in order))
        assert list(version_folders(tmp_path)) == [1, 2, 10]


def test_metadata_have_the_time_of_the_export(exported):
    when = datetime.datetime.fromisoformat(kp.export.read_metadata(exported)["exported_at"])
    assert when.utcoffset() == datetime.timedelta(0)
    assert abs(datetime.datetime.now(datetime.UTC) - when) < datetime.timedelta(hours=1)


def test_missing_metadata_raises_an_error(tmp_path):
    (tmp_path / "3").mkdir()
    with pytest.raises(FileNotFoundError, match="no assets.extra/keras_provlae.json in it or in its newest version"):
        kp.export.read_metadata(tmp_path)


def test_example_images_are_stored_with_the_export(exported, eight, growing_model, tmp_path):
    assert np.array_equal(np.load(exported / EXAMPLES_FILE), np.rint(eight[:5] * 255).astype("uint8"))
    with pytest.raises(ValueError, match="Images must have the shape"):
        kp.export.export_savedmodel(growing_model, tmp_path / "m", example_images=np.zeros((1, 9, 9, 1), "uint8"))
    for nothing in eight[:0], "digits.npy", [eight], tf.data.Dataset.from_tensors(eight):
        with pytest.raises(TypeError, match="`example_images` must be an array of at least one image, .* Received: "):
            kp.export.export_savedmodel(growing_model, tmp_path / "m", example_images=nothing)
    assert not (tmp_path / "m").exists()


def test_example_images_are_rounded_to_bytes(quick, tmp_path, growing_model):
    every = np.arange(256, dtype="uint8").reshape(4, 8, 8, 1)
    for images in every, every / np.float32(255), np.asfortranarray(every), (every / np.float32(255) - 0.001).clip(0):
        path = kp.export.export_savedmodel(growing_model, tmp_path / "m", example_images=images)
        stored = np.load(path / EXAMPLES_FILE)
        assert np.array_equal(stored, every)
        assert stored.flags.c_contiguous


def test_metadata_are_plain_json(exported):
    assert json.loads((exported / "assets.extra/keras_provlae.json").read_text())["format"] == 1
