"""Other people's programs, as they are installed where edged is used. They install themselves into build/peers, which takes
the network and a while the first time: `make test-peers` runs them, `make test` does not."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("EDGED_PEERS") else ["test_*.py"]
