"""Models that run elsewhere: asked over HTTP, beside everything that runs here."""
