"""The states of a part that is well; light, since commands that only ask import it."""

GOOD = {"running", "closed", "paused", "connected", "idle", "finished", "storing", "replaying"}
