"""Images in TFRecord files, as Model Garden writes them."""

import functools
import glob
import os
import struct

import tensorflow as tf

from trainers.data.image_sources import BLOCK_LENGTH, INTERLEAVED_FILES, RecordSource, contents_of

_LENGTH_BYTES, _CHECKSUM_BYTES = 8, 4  # of a record


def open_tfrecords(data):
    """`RecordSource` of the files `data.path`/`data.split`-... with `image/encoded` and `image/class/label`.

    Raises:
        ValueError: where there is no such file, or one is cut off.
    """
    # Not every file that starts with the name of the split: `train2017-...` is not of `train`.
    pattern = os.path.join(glob.escape(data.path), glob.escape(data.split) + "[-.]*")
    files = sorted(path for path in glob.glob(pattern) if os.path.isfile(path))
    if not files:
        raise ValueError(
            f"TFRecord files must be called `path`/`split`-...: there is no file {data.path}/{data.split}-*."
            f"{contents_of(data.path)}"
        )

    def records(context, seed):
        own = files[context.input_pipeline_id :: context.num_input_pipelines] if context else files
        paths = tf.data.Dataset.from_tensor_slices(own)
        if seed is None:
            return paths.flat_map(_named_records)
        paths = paths.shuffle(len(own), seed=seed, reshuffle_each_iteration=False)
        return paths.interleave(
            _named_records, INTERLEAVED_FILES, BLOCK_LENGTH, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )

    def read(record):
        features = {
            "image/encoded": tf.io.FixedLenFeature((), tf.string),
            "image/class/label": tf.io.FixedLenFeature((), tf.int64),
        }
        example = tf.io.parse_single_example(record["record"], features)
        label = tf.cast(example["image/class/label"], tf.int32) + data.label_offset
        return {"image": example["image/encoded"], "label": label}

    counts = [_count_records(path, os.path.getsize(path)) for path in files]
    if not sum(counts):
        raise ValueError(f"The TFRecord files {data.path}/{data.split}-* hold no record.")
    return RecordSource(counts, None, None, records, read, data.shuffle_buffer_size)


def _named_records(path):
    def name(number, record):
        return {"record": record, "name": tf.strings.join(["record ", tf.strings.as_string(number), " of ", path])}

    return tf.data.TFRecordDataset(path).enumerate().map(name)


@functools.lru_cache(maxsize=16384)
def _count_records(path, size):
    """Walks over the lengths of the records; a file of ImageNet's takes milliseconds."""
    number = 0
    with open(path, "rb") as file:
        while header := file.read(_LENGTH_BYTES):
            length = struct.unpack("<Q", header)[0] if len(header) == _LENGTH_BYTES else size
            end = file.tell() + _CHECKSUM_BYTES + length + _CHECKSUM_BYTES
            if end > size:
                raise ValueError(
                    f"A TFRecord file must hold whole records: record {number} of {path} ends past the {size} bytes of "
                    "the file, which is cut off or no TFRecord file."
                )
            file.seek(end)
            number += 1
    return number
