"""What tests of recordings share."""

import pytest

from ltau_cli.packages import hooks


@pytest.fixture(autouse=True)
def recording(monkeypatch):
    """A recording that an error has stopped goes on in the next test."""
    monkeypatch.setattr(hooks, "stopped", False)
    monkeypatch.setattr(hooks, "_told", [])
