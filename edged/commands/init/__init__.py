"""`edged init`: from what is plugged in, or published, to a first configuration that runs."""
