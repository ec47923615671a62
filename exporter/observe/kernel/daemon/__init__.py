"""How the engine's daemon was started, and how it will be at its next start.

What is read is reduced at once to names of flags and keys, and to the values of those that decide who reaches whom:
hosts, certificates, registries, proxies and labels go no further.
"""

from exporter.observe.kernel.daemon.reader import read_daemon
from exporter.observe.kernel.daemon.root import Root

__all__ = ["Root", "read_daemon"]
