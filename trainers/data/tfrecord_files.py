"""Finds and checks the records of a TFRecord file, one by one: where TensorFlow stops at the first that is damaged."""

import array
import functools
import glob
import os
import struct

import tensorflow as tf

_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")  # around each record: length, checksum, data, checksum
_HEADER_SIZE = _LENGTH.size + _CHECKSUM.size


def files_of(data):
    """The paths of `data.path`/`data.split`-... of a `schema.DataConfig`, sorted."""
    # Not every file that starts with the name of the split: `train2017-...` is not of `train`.
    pattern = os.path.join(glob.escape(data.path), glob.escape(data.split) + "[-.]*")
    return sorted(path for path in glob.glob(pattern) if os.path.isfile(path))


def count_records(path, size):
    """The number of records of a file of `size` bytes; a file of ImageNet's takes milliseconds.

    Raises:
        ValueError: where the file is compressed or no TFRecord file, is cut off, or the length of a record is damaged.
    """
    return len(_ends_of(path, size)) - 1


@functools.lru_cache(maxsize=16384)
def _ends_of(path, size):
    """Where records end, after a 0: each begins where the one before ends."""
    ends = array.array("Q", [0])
    with open(path, "rb") as file:
        while header := file.read(_HEADER_SIZE):
            if len(ends) == 1 and header.startswith(b"\x1f\x8b"):
                raise ValueError(f"TFRecord files must not be compressed: {path} is, by GZIP. Unpack it with gunzip.")
            number = len(ends) - 1
            is_whole = len(header) == _HEADER_SIZE
            if is_whole and not _fits(header[: _LENGTH.size], header[_LENGTH.size :]):
                what = "the length of its first record" if number == 0 else f"the length of record {number}"
                raise ValueError(
                    f"{path} is damaged or no TFRecord file: {what} does not fit its checksum. Copy or write it again."
                )
            end = ends[-1] + _HEADER_SIZE + _CHECKSUM.size + (_LENGTH.unpack_from(header)[0] if is_whole else 0)
            if not is_whole or end > size:
                raise ValueError(
                    f"A TFRecord file must hold whole records: record {number} of {path} ends past the {size} bytes of "
                    "the file, which is cut off. Copy or write it again."
                )
            file.seek(end)
            ends.append(end)
    return ends


def read_record(path, number):
    """The data of a record, or None where they do not fit their checksum."""
    ends = _ends_of(path, os.path.getsize(path))
    with open(path, "rb") as file:
        file.seek(ends[number] + _HEADER_SIZE)
        data = file.read(ends[number + 1] - ends[number] - _HEADER_SIZE)
    data, checksum = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
    return data if _fits(data, checksum) else None


def first_damaged(path):
    """The number of the first record whose data do not fit their checksum, or None."""
    records, number = iter(tf.data.TFRecordDataset(path)), 0
    try:
        while next(records, None) is not None:
            number += 1
    except tf.errors.DataLossError:
        return number
    return None


def _fits(data, checksum):
    """Whether the masked CRC-32C of `data` is the one that is stored."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF == _CHECKSUM.unpack(checksum)[0]


def _table():
    """CRC-32C of each byte, whose reversed polynomial is 0x82F63B78."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _table()
