"""A short form of ``make faults``, with a seed of its own every time it is changed here."""

from __future__ import annotations

import pytest

from tests.system.faults import campaign

pytestmark = pytest.mark.slow


def test_a_short_campaign(tmp_path):
    assert list(campaign(tmp_path, kills=12, inputs=60, seed=2026)) == []
