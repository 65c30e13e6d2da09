import pytest


@pytest.fixture
def tfds_folder(monkeypatch, tmp_path):
    """An empty data folder of tensorflow-datasets."""
    from tensorflow_datasets.core import constants

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path))  # tfds reads the environment only on import
    return tmp_path
