"""How things are written: words, units, values, paths, markers, patterns. It knows no table of the configuration."""
