"""These tests take minutes, make systems of their own, and want root: `make test-devices` runs them, `make test` does not."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("EDGED_DEVICES") else ["test_*.py"]
