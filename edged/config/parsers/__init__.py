"""How values are written in the configuration, one file a kind of value.

Each `Value` pairs a type's name, as the reference page says it, with a function that turns what stood in the TOML file
into what the program uses, or raises ValueError with "expected ..., found ...". Nothing here knows which key it parses, and
nothing but `Surroundings` looks outside the file: what does is in `external`.
"""
