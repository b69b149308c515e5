"""Rankings against the golden values of the rulebook and against independent implementations."""

import itertools
import warnings

import evalica
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from advcomp.scoring.ranking import nash, pagerank, pagerank_2017

CORRECT = np.array([[90, 40, 95], [60, 50, 80], [20, 10, 70]])
ERROR = 100 - CORRECT
HIT = np.array([[0, 0, 1], [0, 0, 5], [0, 0, 20]])
TARGETED = np.array([False, False, True])
RATES = np.where(TARGETED, HIT, ERROR) / 100

Matrix = NDArray[np.float64]


def test_pagerank_2017_golden() -> None:
    ranking = pagerank_2017(CORRECT, ERROR, HIT, targeted=TARGETED)
    assert ranking.defenses == pytest.approx([0.453901, 0.420179, 0.125921], abs=5e-7)
    assert ranking.attacks == pytest.approx([0.327055, 0.620137, 0.052808], abs=5e-7)


def test_pagerank_golden() -> None:
    ranking = pagerank(RATES, CORRECT / 100)
    assert ranking.defenses == pytest.approx([0.211438, 0.211832, 0.076730], abs=5e-7)
    assert ranking.attacks == pytest.approx([0.153588, 0.302539, 0.043873], abs=5e-7)


def test_nash_golden() -> None:
    ranking = nash(RATES)
    assert ranking.attacks == pytest.approx([0.4, 0.5, 0.05], abs=1e-9)
    assert ranking.defenses == pytest.approx([0.4, 0.5, 0.1], abs=1e-9)
    mixed = nash(np.array([[0.1, 0.6], [0.4, 0.2]]).T)
    assert mixed.attacks == pytest.approx([0.314286, 0.314286], abs=5e-7)
    assert mixed.defenses == pytest.approx([0.685714, 0.685714], abs=5e-7)
