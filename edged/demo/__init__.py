"""`make run`: the daemon at its main job, before your eyes. Nothing of it is known to the daemon."""
