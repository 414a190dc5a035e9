"""What makes TensorFlow fast on a CPU: oneDNN's kernels, and memory that is kept. Imports no TensorFlow."""

import ctypes
import os

from absl import logging

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"

# Where TensorFlow itself takes oneDNN's: CPUs with instructions for neural networks, as Linux names them.
_OF_NETWORKS = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}
_CPU_INFO = "/proc/cpuinfo"
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def choose_kernels():
    """Has TensorFlow take oneDNN's kernels on CPUs with AVX2 too, where it would not by itself; says so in the log.

    Call it before TensorFlow is imported, which reads the environment once. What the person has set stays.
    """
    flags = _cpu_flags()
    if VARIABLE in os.environ:
        logging.info("oneDNN's kernels: as %s=%s says.", VARIABLE, os.environ[VARIABLE])
    elif flags & _OF_NETWORKS:
        logging.info("oneDNN's kernels are on, TensorFlow's own choice on this CPU. %s=0 turns them off.", VARIABLE)
    elif {"avx2", "fma"} <= flags:
        os.environ[VARIABLE] = "1"
        logging.info("oneDNN's kernels are on, which on this CPU are faster. %s=0 turns them off.", VARIABLE)


def keep_freed_memory():
    """Has glibc keep what this process frees for what it takes next; does nothing without glibc.

    It would give blocks of the size of feature maps back to the system at once. That the system clears the pages of the
    next ones took an eighth of the training of digits on two cores.
    """
    mallopt = getattr(ctypes.CDLL(None) if os.name == "posix" else None, "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_MAX, 0)  # no block is the system's own
        mallopt(_M_TRIM_THRESHOLD, -1)  # and the heap never shrinks


def _cpu_flags():
    """The names of the instruction sets of an x86 CPU under Linux, or none."""
    try:
        with open(_CPU_INFO, encoding="utf-8") as file:
            return set(next((line for line in file if line.startswith("flags")), "").split())
    except OSError:
        return set()


def thread_variables(threads):
    """The environment in which TensorFlow, where it is not imported yet, uses so many threads: strings by name."""
    return dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), str(threads))
