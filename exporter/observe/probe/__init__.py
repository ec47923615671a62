"""Packets that put verdicts to the test, sent from sandboxes and looked for in others.

Whether a packet arrives is seen by raw sockets: the kernel gives them a copy of what has passed all firewalls, INPUT of
the sandbox included, whether or not a program listens (ip_local_deliver_finish: raw_local_deliver). Nothing is bound in
any sandbox, no connection is ever completed, and no datagram is sent to a port that a program holds.
"""

from exporter.observe.probe.prober import Prober

__all__ = ["Prober"]
