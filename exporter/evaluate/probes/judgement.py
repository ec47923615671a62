"""A verdict against a packet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.trips import carries
from exporter.model.probe import Probed, ProbeResult
from exporter.model.reach import Protocol, Verdict

if TYPE_CHECKING:
    from exporter.model.probe import Probe, Sight
    from exporter.model.report import Report
    from exporter.model.snapshot import Kernel, Snapshot

_NEEDED = ("firewall", "bridge", "routes", "sandboxes")


def lacking(report: Report) -> str:
    """Return why the verdicts of a report cannot be probed; empty if they can.

    What packets do is held against what the kernel enforces, in the sandboxes too: nothing less foretells it.
    """
    if report.declared is not None and report.evidence.sandboxes:
        return ""
    missing = [f"{source}: {report.missing[source]}" for source in _NEEDED if source in report.missing]
    return "; ".join(missing) or "no evidence of the kernel was asked for: --evidence.max=sandboxes"


def expected(report: Report, probe: Probe) -> Verdict:
    """Return what a report says of a probe's packet."""
    paths = [path for path in report.pair(probe.source, probe.destination).paths if carries(path, probe.packet)]
    if any(not path.undecided for path in paths):
        return Verdict.REACHABLE
    return Verdict.UNKNOWN if paths else Verdict.BLOCKED


def judge(probe: Probe, sight: Sight, before: Report, after: Report | None, seen: Snapshot) -> Probed:
    """Return what a probe says about the verdict on its packet.

    The verdict has to be the same in the report `before` the probe, which was made of `seen`, and in the one `after` it
    (None where there is none): only then it held in between.
    """
    verdict = expected(before, probe)
    if probe.withheld or sight.withheld:
        return Probed(probe, verdict, sight, ProbeResult.UNDECIDED, probe.withheld or sight.withheld)
    if sight.trouble:
        return Probed(probe, verdict, sight, ProbeResult.FAILED, sight.trouble)
    doubt = _doubt(probe, verdict, after) or sight.deaf or _silence(probe, verdict, sight, seen.kernel)
    if doubt:
        return Probed(probe, verdict, sight, ProbeResult.UNDECIDED, doubt)
    agrees = sight.reached(probe.packet.protocol) is (verdict is Verdict.REACHABLE)
    return Probed(probe, verdict, sight, ProbeResult.AGREED if agrees else ProbeResult.DISAGREED)


def _doubt(probe: Probe, verdict: Verdict, after: Report | None) -> str:
    if after is None or lacking(after):
        return "the engine's host could not be read again afterwards"
    still = {(container.id, container.sandbox) for container in after.containers}
    if not still >= {(each.id, each.sandbox) for each in (probe.source, probe.destination)}:
        return "a container of the pair has ended, or started anew, meanwhile"
    later = expected(after, probe)
    if later is not verdict:
        return f"the verdict changed meanwhile, from {verdict} to {later}"
    return "the verdict is unknown" if verdict is Verdict.UNKNOWN else ""


def _silence(probe: Probe, verdict: Verdict, sight: Sight, kernel: Kernel | None) -> str:
    """Return why a missing answer means nothing: a program whose backlog is full gives none (tcp_conn_request)."""
    unanswered = verdict is Verdict.REACHABLE and sight.arrived and not sight.reached(probe.packet.protocol)
    if not unanswered or kernel is None:
        return ""
    if probe.destination.sandbox in kernel.sandboxes:
        inside = kernel.sandboxes[probe.destination.sandbox]
    else:
        inside = kernel.host
    held = {listener.port for listener in inside.listeners if listener.protocol is Protocol.TCP}
    return (
        "the packet arrived, and the program that listens there may be too busy to answer"
        if held & probe.inside
        else ""
    )
