import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_provlae.datasets import celeb_a, celeb_a_attributes
from tests.datasets.test_image_folder import write

NAMES = ("Bald", "Smiling", "Young")


def aligned(number):
    """A 218 x 178 face: blue outside the crop box, a green border inside it, and red that encodes the number."""
    image = np.zeros((218, 178, 3), "uint8")
    image[..., 2] = 255
    image[45:193, 15:163] = [10 * number, 0, 0]
    image[45:193, 15:19] = image[45:193, 159:163] = [10 * number, 255, 0]
    image[45, 15:163, 1] = image[192, 15:163, 1] = 255
    return image


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Folder with 20 aligned faces and both lists."""
    folder = tmp_path_factory.mktemp("published")
    names = [f"{number:06}.jpg" for number in range(1, 21)]
    for number, name in enumerate(names, 1):
        path = folder / "img_align_celeba" / name
        write(path.with_suffix(".png"), aligned(number)).rename(path)  # PNG content, for exact pixels
    rows = [" ".join(f"{1 if (n >> bit) & 1 else -1:>2}" for bit in range(3)) for n in range(1, 21)]
    listed = "\n".join(f"{name} {row}" for name, row in zip(names, rows, strict=True))
    (folder / "list_attr_celeba.txt").write_text(f"20\n{' '.join(NAMES)} \n{listed}\n")
    parts = [0] * 12 + [1] * 3 + [2] * 5
    (folder / "list_eval_partition.txt").write_text("\n".join(f"{n} {p}" for n, p in zip(names, parts, strict=True)))
    return folder


@pytest.fixture
def folder(published, tmp_path):
    """A copy of the published folder that the test may change."""
    return shutil.copytree(published, tmp_path, dirs_exist_ok=True)


def faces(ds):
    """Numbers of the faces, from their red."""
    return [int(number) for batch in ds for number in np.rint(25.5 * np.asarray(batch)[:, 32, 32, 0])]


def bits(numbers):
    """Attributes of the faces."""
    return [[(number >> bit) & 1 for bit in range(3)] for number in numbers]


def test_aligned_images_are_cropped_to_the_box_of_the_authors(published):
    ds = celeb_a("test", 4, source=published, image_size=148, drop_remainder=True)
    assert len(ds) == 1
    images = np.asarray(next(iter(ds)))
    assert images.shape == (4, 148, 148, 3)
    assert images[..., 2].max() == 0  # nothing from outside
    np.testing.assert_array_equal(images[:, :, [0, 3, 144, 147], 1], 1.0)  # and all of the inside
    np.testing.assert_array_equal(images[:, [0, 147], :, 1], 1.0)
    np.testing.assert_array_equal(images[:, 1:147, 4:144, 1], 0.0)


def test_images_of_other_sizes_are_center_cropped(tmp_path):
    """Without a partition list, the training split is all but every tenth image."""
    for number in range(1, 11):
        image = np.zeros((40, 60, 3), "uint8")
        image[:, 10:50] = 255 if number < 10 else 0
        write(tmp_path / f"{number:02}.png", image)
    images = next(iter(celeb_a("train", source=tmp_path, image_size=40)))
    np.testing.assert_array_equal(images, np.ones((9, 40, 40, 3)))


@pytest.fixture(scope="module")
def splits(published):
    return {name: celeb_a(name, 4, source=published, seed=2) for name in ("train", "validation", "test")}


def test_the_partition_list_sets_the_splits(splits):
    assert splits["train"].element_spec == tf.TensorSpec((None, 64, 64, 3), tf.float32)
    assert [len(ds) for ds in splits.values()] == [3, 1, 2]
    assert sorted(faces(splits["train"])) == list(range(1, 13))
    assert faces(splits["validation"]) == [13, 14, 15]
    assert faces(splits["test"]) == [16, 17, 18, 19, 20]


def test_the_training_split_is_reshuffled_and_a_shard_reads_its_part_of_each_batch(published, splits, monkeypatch):
    alone = celeb_a("train", 4, source=published, seed=1, with_attributes=True)
    assert alone.element_spec[1] == tf.TensorSpec((None, 3), tf.int64)
    assert celeb_a_attributes(published) == NAMES
    epochs = []
    for _ in range(2):
        images, attributes = map(np.concatenate, zip(*alone.as_numpy_iterator(), strict=True))
        epochs.append(faces([images]))
        assert attributes.tolist() == bits(epochs[-1])
    assert epochs[0] != epochs[1]
    assert faces(splits["train"]) not in epochs  # of another seed
    shard = celeb_a("train", 4, source=published, seed=1, shard=(1, 2))
    assert len(shard) == 3
    np.testing.assert_array_equal(np.reshape(faces(shard), (3, 2)), np.reshape(epochs[0], (3, 4))[:, 2:])
    monkeypatch.setattr(sys.modules["keras_provlae.datasets.celeb_a"], "tfds_is_prepared", lambda name: True)
    with pytest.raises(ValueError, match="`shard` needs a folder of images as `source`"):
        celeb_a("train", 4, source="tfds", seed=1, shard=(0, 2))


def test_without_a_partition_list_every_tenth_image_is_held_out(folder, capsys):
    (folder / "list_eval_partition.txt").unlink()
    assert faces(celeb_a("test", source=folder)) == [10, 20]
    assert "every 10th image is the test split" in capsys.readouterr().out
    with pytest.raises(ValueError, match="split 'validation' must have images. Received: .*, with 20 in other splits"):
        celeb_a("validation", source=folder)


def write_csv(path):
    """Replaces a txt list by csv with Windows line ends, a byte order mark and 0 for -1."""
    _, names, *rows = path.read_text().splitlines()
    lines = [",".join(["image_id", *names.split()]), *(",".join(row.split()) for row in rows)]
    text = "\n".join(lines).replace("-1", "0")
    path.with_suffix(".csv").write_text(text, encoding="utf-8-sig", newline="\r\n")
    path.unlink()


def test_the_aligned_release_is_preferred_and_matched_by_stem(folder, capsys):
    """The official PNG files, next to the in-the-wild images."""
    for path in (folder / "img_align_celeba").iterdir():
        other = write(folder / "img_celeba" / f"{path.stem}.png", np.zeros((8, 8, 3), "uint8"))
        other.rename(other.with_name(path.name))
        path.rename(path.with_suffix(".png"))
    write(folder / "img_celeba/000021.png", aligned(21))
    write_csv(folder / "list_attr_celeba.txt")
    assert celeb_a_attributes(folder) == NAMES
    images, attributes = next(iter(celeb_a("test", source=folder, with_attributes=True)))
    assert faces([images]) == [16, 17, 18, 19, 20]
    assert attributes.numpy().tolist() == bits(range(16, 21))
    assert "using img_align_celeba, skipping 21 images of other releases" in capsys.readouterr().out


def test_two_files_with_the_same_listed_name_are_rejected(folder):
    other = write(folder / "mine/000003.png", aligned(3))
    (folder / "img_align_celeba").rename(folder / "faces")
    with pytest.raises(
        ValueError, match="must match one image. Received: .*faces/000003.jpg and .*both 000003.jpg"
    ) as e:
        celeb_a("test", source=folder)
    assert str(other) in str(e.value)


def test_lists_are_found_in_the_folder_first_and_then_beside_it(folder):
    images = folder / "img_align_celeba"
    assert celeb_a_attributes(images) == NAMES
    (images / "list_eval_partition.TXT").write_text("\n".join(f"{number:06}.jpg 2" for number in range(1, 21)))
    with pytest.raises(ValueError, match="split 'train' must have images"):
        celeb_a("train", source=images)


def test_lists_beside_a_link_to_the_images_are_found(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("elsewhere") / "faces"
    (folder / "img_align_celeba").rename(target)
    (folder / "link").symlink_to(target)
    assert celeb_a_attributes(folder / "link") == NAMES


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list_attr_celeba.txt", "20\nA B\n000016.jpg 1\n", r"line 3 must have a file name and 2 integers.*\['1'\]"),
        ("list_attr_celeba.txt", "20\nA B\n000016.jpg 1 x\n", r"line 3 .*\['1', 'x'\]"),
        ("list_attr_celeba.txt", "20\nA B\n000016.jpg 1 5\n", r"attributes of 1 and -1.*Received: 5"),
        ("list_attr_celeba.txt", "2\nA B\n000016.jpg 1 1\n", "must list all 5 images.*without 4 .*000017"),
        ("list_attr_celeba.txt", "", "at least one image"),
        ("list_eval_partition.txt", "a.jpg 0\n", "none of the 20 images, such as .*000001.jpg"),
        ("list_eval_partition.txt", "000001.jpg\n", "line 1"),
        (
            "list_eval_partition.txt",
            "".join(f"{n:06}.jpg 7\n" for n in range(1, 21)),
            r"or 2 \(test\). Received: \[7\]",
        ),
    ],
)
def test_a_bad_list_is_named(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        celeb_a("test", source=folder, with_attributes=True)
    assert str(folder / name) in str(caught.value)


def test_bad_images_raise_or_are_skipped_like_unlisted_ones(folder, capsys):
    path = folder / "img_align_celeba/000018.jpg"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(tf.errors.InvalidArgumentError, match=str(path)):
        faces(celeb_a("test", source=folder))
    write(folder / "preview.png", aligned(25))
    with pytest.warns(UserWarning, match="1 of 5 images cannot be decoded and are skipped: .*000018.jpg"):
        ds = celeb_a("test", source=folder, on_bad_image="skip", with_attributes=True)
    assert "skipping 1 images that are not in " in capsys.readouterr().out
    images, attributes = next(iter(ds))
    assert faces([images]) == [16, 17, 19, 20]
    assert attributes.numpy().tolist() == bits([16, 17, 19, 20])


def test_without_data_the_error_says_how_to_get_them(monkeypatch, tfds_folder):
    monkeypatch.setenv("KERAS_HOME", str(tfds_folder))
    message = f"img_align_celeba.zip .* pass the folder as `source`, or move it to {tfds_folder}.*`tfds build celeb_a`"
    for source in "auto", "tfds":
        with pytest.raises(FileNotFoundError, match=message):
            celeb_a(source=source)


def test_auto_finds_the_folder_where_keras_stores_data(monkeypatch, tfds_folder):
    monkeypatch.setenv("KERAS_HOME", str(tfds_folder))
    images = tfds_folder / "datasets/img_align_celeba"
    write(images / "000001.png", aligned(1))
    (images.parent / "list_eval_partition.txt").write_text("000001.jpg 0", encoding="utf-8-sig")
    with pytest.raises(ValueError, match=f"Received: {images}, with 1 in other splits"):
        celeb_a("validation")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"split": "val"}, ValueError, "split='val'"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"batch_size": "100"}, TypeError, "`batch_size` must be an integer"),
        ({"image_size": 6.5}, TypeError, "`image_size` must be an integer"),
        ({"source": "no/such"}, FileNotFoundError, "no/such', which is not a folder"),
        ({"on_bad_image": "no"}, ValueError, "on_bad_image='no'"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
    ],
)
def test_bad_arguments_are_rejected(published, settings, error, message):
    with pytest.raises(error, match=message):
        celeb_a(**{"source": published, **settings})


def test_attributes_need_their_list(folder):
    (folder / "list_attr_celeba.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"No list_attr_celeba.txt or list_attr_celeba.csv in the folder"):
        celeb_a(source=folder, with_attributes=True)


def prepare_tfds(folder):
    """Prepares faces 1 to 12 as train and 16 to 20 as test, young if their number is odd."""
    import tensorflow_datasets as tfds

    info = tfds.builder("celeb_a", data_dir=folder).info
    spec = tf.nest.map_structure(
        lambda feature: tf.TensorSpec(feature.shape, feature.tf_dtype), info.features.get_tensor_info()
    )

    def records(numbers):
        for number in numbers:
            attributes = {name: name == "Young" and number % 2 == 1 for name in info.features["attributes"]}
            landmarks = dict.fromkeys(info.features["landmarks"], 0)
            identity = {"Identity_No": number}
            yield {"image": aligned(number), "identity": identity, "landmarks": landmarks, "attributes": attributes}

    splits = {
        name: tf.data.Dataset.from_generator(lambda numbers=numbers: records(numbers), output_signature=spec)
        for name, numbers in {"train": range(1, 13), "test": range(16, 21)}.items()
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="celeb_a",
        version=str(info.version),
        data_dir=folder,
        features=info.features,
        split_datasets=splits,
    )


def test_auto_prefers_prepared_tfds_data(tfds_folder):
    prepare_tfds(tfds_folder)
    names = celeb_a_attributes()
    assert (len(names), names[0], names[-1]) == (40, "5_o_Clock_Shadow", "Young")
    ds, again = (celeb_a("train", 5, with_attributes=True, seed=3) for _ in range(2))
    assert len(ds) == 3
    epochs = [[], []]
    for epoch in epochs:
        for images, attributes in ds:
            numbers = faces([images])
            assert attributes[:, -1].numpy().tolist() == [number % 2 for number in numbers]
            assert attributes.numpy()[:, :-1].max() == 0
            epoch += numbers
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(1, 13))
    assert epochs[0] != epochs[1]
    assert faces(images for images, _ in again) == epochs[0]
    test = celeb_a("test", 4)
    assert len(test) == 2
    order = faces(test)
    assert sorted(order) == [16, 17, 18, 19, 20]
    assert faces(test) == order
