"""Fixtures of the interop tests. Names and files only; the peers themselves are in ``peers.py``."""

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that does not exist yet: a DCMTK server makes it, and keeps its log and what it stored there."""
    return tmp_path / "peer"
