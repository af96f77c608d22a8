"""`edged` with a row more in each of its tables of kinds; the arguments are those of edged.

The rows come before the schema is imported, as if they stood in the tables.
"""

from __future__ import annotations

import sys


def main() -> int:
    from edged.decode import formats
    from edged.late import Late
    from edged.results.heads import table
    from tests.support.added import pairs, spread

    formats.FORMATS["pairs"] = pairs.FORMAT
    table.HEADS["spread"] = spread.KIND

    from edged.sources import kinds
    from tests.support.added import clicker

    kinds.KINDS["clicker"] = Late(f"{clicker.__name__}:KIND")

    from edged import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
