"""What the kernel of the engine's machine says: namespaces, links, routes, firewalls and sockets, read only.

Everything happens in a thread of its own, made for one look and gone after it. `setns` moves the calling thread alone
(setns(2)), sockets stay in the namespace that they were made in, and a child process begins in its parent thread's: so
that thread can walk from namespace to namespace, and no other thread of the program is ever anywhere else than before.
Nothing is written and nothing made: no table, no namespace; and no module of the kernel is loaded (`modules.py`).
"""

from exporter.observe.kernel.reader import KernelLook, KernelReader

__all__ = ["KernelLook", "KernelReader"]
