from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = next(
    line.split('"')[1]
    for line in (here / "keras_provlae" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

setup(
    name="keras_provlae",
    version=version,
    description="Progressive learning and disentanglement of hierarchical representations (pro-VLAE) in Keras 3",
    long_description=(here / "README.md").read_text(),
    long_description_content_type="text/markdown",
    author="The keras_provlae authors",
    keywords=[
        "keras",
        "variational autoencoder",
        "VAE",
        "VLAE",
        "pro-VLAE",
        "progressive learning",
        "disentanglement",
        "representation learning",
        "generative model",
    ],
    project_urls={"Paper": "https://openreview.net/forum?id=SJxpsxrYPS"},
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["keras_provlae", "keras_provlae.*"]),
    package_data={
        "keras_provlae": ["py.typed"],
        "keras_provlae.datasets": ["shapes3d_maps.npz"],
        "keras_provlae.pretrained": ["*.json", "*.weights.h5"],
    },
    python_requires=">=3.11",
    install_requires=[
        "keras>=3.15",
        "tensorflow>=2.20",
        "tensorflow-datasets>=4.9.10",
        "importlib_resources>=6.0",  # tensorflow-datasets imports it without asking for it
        "numpy>=2.0",
        "matplotlib>=3.9",
        "absl-py>=2.1",
    ],
    extras_require={
        "metrics": ["scikit-learn>=1.5"],
        "export": ["tf2onnx>=1.17", "onnxruntime>=1.20", "ai-edge-litert>=1.2"],
        "serve": ["fastapi>=0.115", "uvicorn>=0.32", "orjson>=3.10"],
        "tune": ["optuna>=5.0"],
        "cluster": ["distributed>=2024.8"],
        "tensorboard": ["tensorboard>=2.20"],
        "examples": ["mlxtend>=0.23"],
        "docs": [
            "mkdocs-material>=9.6,<10",
            "mkdocstrings[python]>=1",
            "jupytext>=1.16",  # the tutorials
            "nbconvert>=7.16",
            "sphinx-mathjax-offline>=0.0.2",  # MathJax 3.2.2, as its authors released it
        ],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.8",
            "ruff>=0.12",
            "mypy>=2",
            "mktestdocs>=0.2.5",
            "hypothesis>=6.100",
            "scikit-learn>=1.5",
            "tensorboard>=2.20",
            "httpx2>=2",
            "optuna>=5.0",
            "ipykernel>=6.29",
            "httpx>=0.27",  # which the test client of older releases of fastapi takes
        ],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
