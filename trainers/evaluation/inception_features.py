"""Inception's features, by which FID, KID and the Inception score are defined."""

import hashlib
import os

import tensorflow as tf

from trainers.data import image_batches
from trainers.evaluation import score_names

IMAGE_SIZE = 299
NUM_FEATURES = 2048
_FEATURES, _LOGITS = "pool_3", "logits"  # as TF-GAN's Inception names them


class InceptionFeatures:
    """Inception as a SavedModel, from a folder or from TF-Hub.

    The model takes float32 `(batch, 299, 299, 3)` in [-1, 1] and returns `{"pool_3", "logits"}`, float32
    `(batch, 2048)` and `(batch, classes)`, as `https://tfhub.dev/tensorflow/tfgan/eval/inception/1` does.

    Args:
        path: folder of the SavedModel, or a TF-Hub handle, which is downloaded.

    Raises:
        ValueError: where there is no SavedModel, or it has not these outputs.
    """

    kind = "inception"
    names = score_names.INCEPTION_NAMES
    resizer = f"rounded to 8 bits, bilinear with antialias to {IMAGE_SIZE} x {IMAGE_SIZE}"

    def __init__(self, path):
        folder = _resolve(path)
        try:
            model = tf.saved_model.load(folder)
        except Exception as error:  # of many kinds: OSError, op errors, and those of parsing
            raise ValueError(f"--inception_path={path} cannot be loaded as a SavedModel: {error}") from error
        self._model = model if callable(model) else model.signatures.get("serving_default")
        if self._model is None:
            raise ValueError(
                f"--inception_path={path} must be callable or have the signature `serving_default`. Received "
                f"signatures: {sorted(model.signatures)}"
            )
        self._check_outputs(path)
        self.digest = _digest(folder)

    def __call__(self, images):
        """Features and logits.

        Args:
            images: float32 `(batch, height, width, 1 or 3)` in [-1, 1].

        Returns:
            float32 `(batch, 2048)` and `(batch, classes)`.
        """
        # Real images were files of 8 bits; generated ones are compared as the files that they would make.
        images = tf.round(tf.clip_by_value(images, -1.0, 1.0) * 127.5 + 127.5)
        images = tf.image.resize(image_batches.to_channels(images, 3), (IMAGE_SIZE, IMAGE_SIZE), antialias=True)
        outputs = self._model(images / 127.5 - 1.0)
        return _flat(outputs[_FEATURES]), _flat(outputs[_LOGITS])

    def _check_outputs(self, path):
        wanted = f"--inception_path must name a model with outputs `{_FEATURES}` of {NUM_FEATURES} and `{_LOGITS}`"
        try:
            outputs = self._model(tf.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3)))
            found = {name: int(_flat(value).shape[1]) for name, value in outputs.items()}
        except Exception as error:
            raise ValueError(
                f"{wanted} for images of {IMAGE_SIZE} x {IMAGE_SIZE} x 3. {path} raised: {error}"
            ) from error
        # Another network's features would give a number that is called FID and is none.
        if found.get(_FEATURES) != NUM_FEATURES or _LOGITS not in found:
            raise ValueError(f"{wanted}. Received: {found} in {path}")


def _flat(values):
    return tf.reshape(tf.cast(values, tf.float32), (tf.shape(values)[0], tf.size(values) // tf.shape(values)[0]))


def _resolve(path):
    if os.path.isdir(path):
        return path
    if "://" not in path:
        raise ValueError(f"--inception_path must be the folder of a SavedModel or a TF-Hub handle. Received: {path!r}")
    import tensorflow_hub

    try:
        return tensorflow_hub.resolve(path)
    except Exception as error:  # networks, archives, disks
        raise ValueError(f"--inception_path={path} cannot be fetched from TF-Hub: {error}") from error


def _digest(folder):
    """SHA-256 of the graph and the weights: of all files but the fingerprint, which TensorFlow draws at random."""
    digest = hashlib.sha256()
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(set(files) - {"fingerprint.pb"}):
            digest.update(os.path.relpath(os.path.join(parent, name), folder).encode())
            with open(os.path.join(parent, name), "rb") as file:
                for block in iter(lambda: file.read(1 << 20), b""):
                    digest.update(block)
    return digest.hexdigest()
