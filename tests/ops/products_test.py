"""The three products against NumPy's einsum in float64."""

import numpy as np
import pytest

from keras_an.ops.products import entity_products, mix, region_sums
from layer_test_case import compiled, tensors

SHAPES = {"values": (2, 7, 5), "layout": (2, 7, 3), "table": (2, 3, 5), "shared": (3, 5), "shift": (2, 1, 5)}


@pytest.fixture
def given():
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def check(function, arguments, expected, jit):
    found = (compiled(function) if jit else function)(*tensors(arguments))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_region_sums(given, jit):
    values, layout = (given[name].astype(np.float64) for name in ("values", "layout"))
    expected = np.einsum("bpn,bpc->bnc", layout, values)
    check(region_sums, [given["values"], given["layout"]], expected, jit)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("table, rule", [("table", "bpc,bnc->bpn"), ("shared", "bpc,nc->bpn")])
def test_entity_products(given, table, rule, jit):
    values, shift = (given[name].astype(np.float64) for name in ("values", "shift"))
    arguments = [given["values"], given[table]]
    check(entity_products, arguments, np.einsum(rule, values, given[table]), jit)
    check(entity_products, [*arguments, given["shift"]], np.einsum(rule, values - shift, given[table]), jit)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("table, rule", [("table", "bpn,bnc->bpc"), ("shared", "bpn,nc->bpc")])
def test_mix(given, table, rule, jit):
    check(mix, [given["layout"], given[table]], np.einsum(rule, given["layout"].astype(np.float64), given[table]), jit)
