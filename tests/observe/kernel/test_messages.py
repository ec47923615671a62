"""What is loaded for reading the kernel."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import exporter.observe.kernel
print(sorted(name for name in sys.modules if name.startswith(("pyroute2.ndb", "pyroute2.dhcp", "pyroute2.iproute"))))
import pyroute2
print(pyroute2.IPRoute.__name__)
"""


def test_of_pyroute2_the_messages_alone_are_loaded() -> None:
    """Its other modules are 8 MiB of memory; whoever imports it afterwards gets the whole."""
    shown = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
    assert shown.splitlines() == ["[]", "IPRoute"]
