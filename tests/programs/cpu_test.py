"""Which CPUs get oneDNN's kernels, and that a person's own setting stays."""

import os

import pytest

from trainers import cpu

AVX2 = "fpu sse4_2 avx fma avx2"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes this machine's CPU one with certain instruction sets, and the environment one without the variable."""
    monkeypatch.delenv(cpu.VARIABLE, raising=False)

    def set_flags(flags):
        path = tmp_path / "cpuinfo"
        path.write_text(f"processor\t: 0\nmodel name\t: x\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
        monkeypatch.setattr(cpu, "_CPU_INFO", str(path))

    yield set_flags
    os.environ.pop(cpu.VARIABLE, None)


@pytest.mark.parametrize(
    "flags, value, message",
    [
        (AVX2, "1", "are on, which on this CPU are faster"),
        (f"{AVX2} avx512f avx512_vnni", None, "are on, TensorFlow's own choice"),
        (f"{AVX2} avx_vnni", None, "are on, TensorFlow's own choice"),
        ("fpu sse4_2 avx", None, None),
    ],
)
def test_the_cpu_decides_and_the_log_tells(machine, flags, value, message, caplog):
    caplog.set_level("INFO", logger="absl")
    machine(flags)
    cpu.choose_kernels()
    assert os.environ.get(cpu.VARIABLE) == value
    assert message in caplog.text if message else not caplog.text


@pytest.mark.parametrize("value", ["0", "1"])
def test_what_the_person_has_set_stays(machine, value, monkeypatch, caplog):
    caplog.set_level("INFO", logger="absl")
    machine(AVX2)
    monkeypatch.setenv(cpu.VARIABLE, value)
    cpu.choose_kernels()
    assert os.environ[cpu.VARIABLE] == value and f"as TF_ENABLE_ONEDNN_OPTS={value} says" in caplog.text


def test_other_systems_are_left_as_they_are(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(cpu, "_CPU_INFO", str(tmp_path / "nothing"))
    cpu.choose_kernels()
    assert cpu.VARIABLE not in os.environ
