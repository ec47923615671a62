"""Write the bill of materials: `make sbom`."""

from __future__ import annotations

from tests.supply.sbom import FILE, make

FILE.parent.mkdir(exist_ok=True)
FILE.write_text(make())
print(FILE)
