"""What each alert does in time: series as promtool writes them, and when the alert fires."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST: Final = "host:10422"
JOB: Final = "docker-icc"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A course of events, and the minutes at which the alert fires for HOST or is silent.

    `labels` are those that the alert has beside job, instance and severity, `value` is what its text shows. Where
    the data of an alert go away, `instead` is the one that fires at the last of the silent minutes. Series have a value
    every `interval`.
    """

    alert: str
    truth: str
    series: Mapping[str, str]
    fires: tuple[int, ...] = ()
    silent: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    value: str = "1"
    instance: str = HOST
    instead: str = ""
    interval: str = "1m"


def _up(minutes: int) -> dict[str, str]:
    """Return the series of an exporter whose engine goes away after so many minutes."""
    return {"up": "1x200", "docker_icc_up": f"1x{minutes} 0x100"}


_NO_ENGINE: Final = _up(10)
_FIREWALL: Final = 'docker_icc_evidence{source="firewall"}'
_BRIDGE: Final = 'docker_icc_evidence{source="bridge"}'
_WANTED: Final = {
    'docker_icc_evidence_wanted{source="firewall"}': "1x3000",
    'docker_icc_evidence_wanted{source="bridge"}': "1x3000",
}
_DISAGREED: Final = 'docker_icc_exporter_probes_total{result="disagreed"}'
_OF_DISAGREED: Final = {"result": "disagreed"}
_ROUND: Final = "docker_icc_exporter_probe_last_round_successful"
_NO_FIREWALL: Final = {"up": "1x200", "docker_icc_up": "1x200", _FIREWALL: "1x10 0x100", **_WANTED}


def _with_gaps(value: str, gap: str = "stale") -> str:
    """Return half an hour of a series with a value every 15 seconds, of which one is another now and then."""
    return " ".join(f"{value}x{between} {gap}" for between in (15, 3, 22, 9, 17, 1, 6, 19, 12, 18))


def _through_gaps(
    alert: str, series: Mapping[str, str], minutes: int, labels: Mapping[str, str] | None = None, value: str = "1"
) -> Scenario:
    """Return that an alert fires in its time though looks or scrapes fail now and then."""
    truth = "fires though looks or scrapes fail now and then"
    return Scenario(alert, truth, series, (minutes, 33), (minutes - 1,), labels or {}, value, interval="15s")


def _gauge(
    alert: str,
    series: str,
    minutes: int,
    *,
    quiet: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
    beside: Mapping[str, str] | None = None,
    lost_with: Mapping[str, str] = _NO_ENGINE,
    instead: str = "DockerIccEngineSilent",
) -> tuple[Scenario, ...]:
    """Return what every alert does whose gauge is bad when it is 1: from minute 5 on, for `minutes` before it fires."""
    labels, beside = labels or {}, beside or {}
    fires = 5 + minutes
    return (
        Scenario(
            alert,
            "fires when it has lasted, and resolves",
            {series: "0x4 1x29 0x10", **beside},
            fires=(fires, 34),
            silent=(4, fires - 1, 35),
            labels=labels,
        ),
        Scenario(alert, "is silent while all is well", quiet, silent=(40,)),
        Scenario(
            alert,
            "leaves it to another alert when there is no data",
            {series: "1x10 stale", **beside, **lost_with},
            silent=(40,),
            instead=instead,
        ),
        _through_gaps(
            alert,
            {
                series: _with_gaps("1"),
                **{name: _with_gaps(values.partition("x")[0]) for name, values in beside.items()},
            },
            minutes,
            labels,
        ),
    )


def _reload(series: str, read: str) -> tuple[Scenario, ...]:
    """Return what the alert about a file does that was refused when it was read again."""
    alert, labels = "DockerIccConfigReloadFailed", {"read": read}
    return (
        Scenario(
            alert,
            "fires when a file is refused, and resolves when one is taken",
            {series: "1x4 0x29 1x10"},
            fires=(10, 34),
            silent=(4, 9, 35),
            labels=labels,
            value="0",
        ),
        Scenario(alert, "is silent while it was taken", {series: "1x60"}, silent=(40,), labels=labels),
        Scenario(
            alert,
            "leaves it to another alert when there is no data",
            {series: "0x10 stale", "up": "1x10 0x60"},
            silent=(40,),
            labels=labels,
            instead="DockerIccExporterSilent",
        ),
        _through_gaps(alert, {series: _with_gaps("0")}, 5, labels, "0"),
    )


def _flapping(
    series: str, failing: str, labels: Mapping[str, str] | None = None, beside: Mapping[str, str] | None = None
) -> tuple[Scenario, ...]:
    """Return what the alert about failures on and off does: they last for one minute of three, and for 24 in all."""
    labels, beside = {"failing": failing, **(labels or {})}, beside or {}
    alert, on_and_off = "DockerIccFlapping", " ".join(["1x7 0x3"] * 8)
    return (
        Scenario(
            alert,
            "fires when a third fails, and resolves in the half hour after it",
            {series: f"{on_and_off} 1x200", **beside},
            fires=(11, 40),
            silent=(10, 50),
            labels=labels,
            interval="15s",
        ),
        Scenario(alert, "is silent about one outage", {series: "1x30 0x60 1x200", **beside}, (), (12, 25, 45)),
        Scenario(
            alert,
            "is silent where few fail",
            {series: " ".join(["1x28 0"] * 8), **beside},
            (),
            (30, 55),
            interval="15s",
        ),
        Scenario(
            alert,
            "leaves it to another alert when there is no data",
            {series: f"{on_and_off} _x200", **beside, "up": f"{on_and_off} 0x200"},
            silent=(60,),
            instead="DockerIccExporterSilent",
            interval="15s",
        ),
    )


SCENARIOS: Final = (
    *_gauge("DockerIccEnabled", "icc_enabled", 1, quiet={"icc_enabled": "0x60"}),
    Scenario(
        "DockerIccReachablePairsRose",
        "fires for the hour after a rise above what the day before had",
        {"reachable_pairs_total": "6x90 8x90"},
        fires=(96, 150),
        silent=(90, 95, 151),
        value="8",
    ),
    Scenario(
        "DockerIccReachablePairsRose", "is silent about a fall", {"reachable_pairs_total": "8x90 6x90"}, (), (120,)
    ),
    Scenario(
        "DockerIccReachablePairsRose", "is silent about a new host", {"reachable_pairs_total": "2x20 9x30"}, (), (45,)
    ),
    Scenario(
        "DockerIccReachablePairsRose",
        "leaves it to another alert when there is no data",
        {"reachable_pairs_total": "6x90 8x5 stale", **_up(95)},
        silent=(110,),
        instead="DockerIccEngineSilent",
    ),
    Scenario(
        "DockerIccReachablePairsRose",
        "fires though looks fail now and then",
        {"reachable_pairs_total": f"6x300 {_with_gaps('8')}"},
        fires=(81, 110),
        silent=(80,),
        value="8",
        interval="15s",
    ),
    *_gauge(
        "DockerIccDriftOpen",
        'docker_icc_drift_pairs{direction="open"}',
        5,
        labels={"direction": "open"},
        quiet={
            'docker_icc_drift_pairs{direction="closed"}': "1x60",
            'docker_icc_drift_pairs{direction="open"}': "0x60",
        },
        lost_with=_NO_FIREWALL,
        instead="DockerIccEvidenceLost",
    ),
    Scenario(
        "DockerIccBridgeNetfilterOff",
        "fires while a network is configured to be closed, and resolves",
        {
            'docker_icc_bridge_netfilter_enabled{family="ipv4"}': "1x4 0x29 1x10",
            'docker_icc_network_enabled{driver="bridge", network="closed"}': "0x60",
            'docker_icc_network_enabled{driver="bridge", network="open"}': "1x60",
        },
        fires=(10, 34),
        silent=(4, 9, 35),
        labels={"family": "ipv4"},
        value="0",
    ),
    Scenario(
        "DockerIccBridgeNetfilterOff",
        "is silent where every network is open anyway",
        {
            'docker_icc_bridge_netfilter_enabled{family="ipv4"}': "0x60",
            'docker_icc_network_enabled{driver="bridge", network="open"}': "1x60",
        },
        silent=(40,),
    ),
    Scenario(
        "DockerIccBridgeNetfilterOff",
        "leaves it to another alert when there is no data",
        {
            'docker_icc_bridge_netfilter_enabled{family="ipv4"}': "0x10 stale",
            'docker_icc_network_enabled{driver="bridge", network="closed"}': "0x60",
            _BRIDGE: "1x10 0x100",
            **_WANTED,
        },
        silent=(40,),
        instead="DockerIccEvidenceLost",
    ),
    _through_gaps(
        "DockerIccBridgeNetfilterOff",
        {
            'docker_icc_bridge_netfilter_enabled{family="ipv4"}': _with_gaps("0"),
            'docker_icc_network_enabled{driver="bridge", network="closed"}': _with_gaps("0"),
        },
        5,
        {"family": "ipv4"},
        "0",
    ),
    *_gauge(
        "DockerIccPublishedPortHairpin",
        'docker_icc_reachable_pairs{via="published_port"}',
        5,
        labels={"via": "published_port"},
        beside={"icc_enabled": "0x60"},
        quiet={'docker_icc_reachable_pairs{via="published_port"}': "4x60", "icc_enabled": "1x60"},
    ),
    *_gauge(
        "DockerIccTenantsCross", "docker_icc_cross_tenant_pairs", 5, quiet={"docker_icc_cross_tenant_pairs": "0x60"}
    ),
    *_gauge(
        "DockerIccPolicyViolated",
        'docker_icc_policy_violations{rule="shop-db"}',
        5,
        labels={"rule": "shop-db"},
        quiet={'docker_icc_policy_violations{rule="shop-db"}': "0x60"},
    ),
    *_gauge("DockerIccUnknownPairs", "docker_icc_unknown_pairs", 15, quiet={"docker_icc_unknown_pairs": "0x60"}),
    Scenario(
        "DockerIccProbeDisagreed",
        "fires at once, and resolves in the hour after it",
        {_DISAGREED: "0x9 1x200"},
        fires=(10, 60),
        silent=(9, 75),
        labels=_OF_DISAGREED,
    ),
    Scenario(
        "DockerIccProbeDisagreed",
        "fires when it had happened before the first scrape, and resolves in the hour after that",
        {_DISAGREED: "_x10 2x200"},
        fires=(10, 65),
        silent=(9, 75),
        labels=_OF_DISAGREED,
    ),
    Scenario(
        "DockerIccProbeDisagreed",
        "fires when it happened before and happens after a restart",
        {_DISAGREED: "7x99 0x4 1x200"},
        fires=(105, 150),
        silent=(104, 170),
        labels=_OF_DISAGREED,
    ),
    Scenario(
        "DockerIccProbeDisagreed",
        "is silent while packets agree, and after a restart",
        {_DISAGREED: "7x99 0x100", 'docker_icc_exporter_probes_total{result="agreed"}': "0+9x200"},
        silent=(90, 110, 190),
    ),
    Scenario("DockerIccProbeDisagreed", "is silent where nothing is probed", {"docker_icc_up": "1x60"}, silent=(40,)),
    Scenario(
        "DockerIccProbeDisagreed",
        "leaves it to another alert when there is no data",
        {_DISAGREED: "0x9 1x5 stale", "up": "1x14 0x200"},
        fires=(10, 20),
        silent=(80,),
        instead="DockerIccExporterSilent",
        labels=_OF_DISAGREED,
    ),
    Scenario(
        "DockerIccProbeDisagreed",
        "fires though scrapes fail now and then",
        {_DISAGREED: "0x39 stale 1x20 stale 1x9 _x30 1x60"},
        fires=(11, 15, 22, 35),
        silent=(9,),
        interval="15s",
        labels=_OF_DISAGREED,
    ),
    Scenario(
        "DockerIccProbesFail",
        "fires when no round can be sent, and resolves with the first that can",
        {_ROUND: "1x4 0x60 1x20"},
        fires=(41, 65),
        silent=(4, 30, 66),
        value="0",
    ),
    Scenario(
        "DockerIccProbesFail", "fires when none could be from the start on", {_ROUND: "0x60"}, (5, 60), (4,), value="0"
    ),
    Scenario("DockerIccProbesFail", "is silent about single rounds", {_ROUND: "1x9 0x9 1 0x20 1x20"}, silent=(25, 45)),
    Scenario("DockerIccProbesFail", "is silent where nobody wants probes", {"docker_icc_up": "1x60"}, silent=(40,)),
    Scenario(
        "DockerIccProbesFail",
        "leaves it to another alert when there is no data",
        {_ROUND: "0x10 stale", "up": "1x10 0x90"},
        fires=(5, 30),
        silent=(60,),
        value="0",
        instead="DockerIccExporterSilent",
    ),
    *_gauge(
        "DockerIccRestartPending",
        "docker_icc_config_pending_restart",
        15,
        quiet={"docker_icc_config_pending_restart": "0x60"},
    ),
    Scenario(
        "DockerIccRestartPending",
        "leaves it to another alert when the daemon would not start",
        {"docker_icc_config_pending_restart": "1x60", "docker_icc_config_invalid": "1x60"},
        silent=(20, 40),
        instead="DockerIccConfigInvalid",
    ),
    *_gauge("DockerIccConfigInvalid", "docker_icc_config_invalid", 5, quiet={"docker_icc_config_invalid": "0x60"}),
    Scenario(
        "DockerIccStateUnknown",
        "fires when the gauge is withdrawn from an engine that answers, and resolves",
        {"docker_icc_up": "1x60", "icc_enabled": "1x9 stale _x29 0x10"},
        fires=(30, 39),
        silent=(9, 28, 40),
    ),
    _through_gaps("DockerIccStateUnknown", {"docker_icc_up": _with_gaps("1", "0")}, 15),
    Scenario(
        "DockerIccStateUnknown",
        "is silent while there is an answer, whichever",
        {"docker_icc_up": "1x60", "icc_enabled": "0x60"},
        silent=(40,),
    ),
    Scenario(
        "DockerIccStateUnknown",
        "leaves it to another alert when there is no data",
        {"up": "1x60", "docker_icc_up": "1x10 stale", "icc_enabled": "1x10 stale"},
        silent=(40,),
        instead="DockerIccEngineSilent",
    ),
    Scenario(
        "DockerIccEvidenceLost",
        "fires when a source cannot be read any more, and resolves when it can",
        {_FIREWALL: "1x9 0x30 1x5", **_WANTED},
        fires=(15, 40),
        silent=(9, 14, 41),
        labels={"source": "firewall"},
        value="0",
    ),
    Scenario(
        "DockerIccEvidenceLost",
        "fires for as long as it lasts, from the start on",
        {_FIREWALL: "0x1600", _BRIDGE: "1x1600", **_WANTED},
        fires=(5, 1600),
        silent=(4,),
        labels={"source": "firewall"},
        value="0",
    ),
    Scenario(
        "DockerIccEvidenceLost",
        "is silent about a source that nobody asked for",
        {
            _FIREWALL: "0x60",
            'docker_icc_evidence_wanted{source="firewall"}': "0x60",
            'docker_icc_evidence{source="api"}': "1x60",
            'docker_icc_evidence_wanted{source="api"}': "1x60",
        },
        silent=(40,),
    ),
    Scenario(
        "DockerIccEvidenceLost",
        "fires when what nobody asked for was readable and no longer is",
        {_FIREWALL: "0x4 1x5 0x50", 'docker_icc_evidence_wanted{source="firewall"}': "0x4 1x55"},
        fires=(16, 50),
        silent=(4, 15),
        labels={"source": "firewall"},
        value="0",
    ),
    Scenario(
        "DockerIccEvidenceLost",
        "fires when some containers cannot be read, and resolves",
        {'docker_icc_evidence{source="sandboxes"}': "1x60", "docker_icc_unread_sandboxes": "0x4 2x29 0x10"},
        fires=(10, 34),
        silent=(4, 9, 35),
        labels={"source": "sandboxes"},
    ),
    Scenario(
        "DockerIccEvidenceLost",
        "leaves it to another alert when there is no data",
        {_FIREWALL: "0x10 stale", 'docker_icc_evidence_wanted{source="firewall"}': "1x10 stale", **_NO_ENGINE},
        silent=(40,),
        instead="DockerIccEngineSilent",
    ),
    _through_gaps(
        "DockerIccEvidenceLost",
        {_FIREWALL: _with_gaps("0"), 'docker_icc_evidence_wanted{source="firewall"}': _with_gaps("1")},
        5,
        {"source": "firewall"},
        "0",
    ),
    Scenario(
        "DockerIccEngineSilent",
        "fires when the engine cannot be read, and resolves",
        {"up": "1x60", "docker_icc_up": "1x4 0x10 1x10"},
        fires=(7, 15),
        silent=(4, 6, 16),
        value="0",
    ),
    Scenario(
        "DockerIccEngineSilent",
        "is silent while polls succeed",
        {
            "up": "1x60",
            "docker_icc_up": "1x60",
            "docker_icc_exporter_last_success_timestamp_seconds": "0+60x60",
            "docker_icc_exporter_poll_interval_seconds": "15x60",
        },
        silent=(40,),
    ),
    Scenario(
        "DockerIccEngineSilent",
        "is silent while polls succeed by a clock that is behind, or before",
        {
            "up": "1x60",
            "docker_icc_up": "1x60",
            "docker_icc_exporter_last_success_timestamp_seconds": "-9000+60x30 7200+60x30",
            "docker_icc_exporter_poll_interval_seconds": "15x60",
        },
        silent=(10, 32, 60),
    ),
    Scenario(
        "DockerIccEngineSilent",
        "is silent about an exporter that was just started",
        {
            "up": "1x60",
            "docker_icc_up": "1x60",
            "docker_icc_exporter_last_success_timestamp_seconds": "0x9 stale 660x3 900x4",
            "docker_icc_exporter_poll_interval_seconds": "240x9 stale 240x20",
        },
        silent=(9, 13, 18),
    ),
    *(
        Scenario(
            "DockerIccEngineSilent",
            "fires when there is no good poll any more, and resolves with the next one",
            {
                "up": "1x100",
                "docker_icc_up": "1x100",
                "docker_icc_exporter_last_success_timestamp_seconds": f"300x{lasts} 6000+60x10",
                "docker_icc_exporter_poll_interval_seconds": f"{interval}x100",
            },
            fires=(lasts,),
            silent=(lasts - 2, lasts + 1),
            value="300",
        )
        for interval, lasts in ((15, 8), (300, 63))
    ),
    Scenario("DockerIccEngineSilent", "fires where something else answers the scrapes", {"up": "1x60"}, (2, 60), (1,)),
    Scenario(
        "DockerIccEngineSilent",
        "leaves it to another alert when there is no data",
        {"up": "1x10 0x60", "docker_icc_up": "0x10 stale"},
        silent=(40,),
        instead="DockerIccExporterSilent",
    ),
    _through_gaps(
        "DockerIccEngineSilent", {"up": _with_gaps("1", "0"), "docker_icc_up": _with_gaps("0")}, 2, value="0"
    ),
    _through_gaps("DockerIccEngineSilent", {"up": _with_gaps("1", "0")}, 2),
    *_flapping("docker_icc_up", "looks at the engine"),
    *_flapping("up", "scrapes"),
    *_flapping(_FIREWALL, "reads of evidence", {"source": "firewall"}, _WANTED),
    Scenario(
        "DockerIccFlapping",
        "is silent about a source that nobody asked for",
        {_FIREWALL: " ".join(["1x7 0x3"] * 20)},
        silent=(20, 50),
        interval="15s",
    ),
    Scenario(
        "DockerIccExporterSilent",
        "fires when scrapes fail, and resolves",
        {"up": "1x4 0x10 1x10"},
        fires=(10, 15),
        silent=(4, 9, 16),
        value="0",
    ),
    Scenario("DockerIccExporterSilent", "is silent while scrapes succeed", {"up": "1x60"}, silent=(40,)),
    Scenario(
        "DockerIccExporterSilent",
        "fires when one of several targets is no more",
        {"up": "1x70 stale", 'up{instance="other:10422"}': "1x200"},
        fires=(76, 130),
        silent=(70, 75),
    ),
    Scenario(
        "DockerIccExporterSilent",
        "fires for three days when one of several targets is no more",
        {"up": "1x2 stale", 'up{instance="other:10422"}': "1x160"},
        fires=(120, 4350),
        silent=(60, 4500),
        interval="30m",
    ),
    Scenario(
        "DockerIccExporterSilent",
        "resolves when a target that was no more is back",
        {"up": "1x70 stale _x49 1x20", 'up{instance="other:10422"}': "1x200"},
        fires=(76, 120),
        silent=(121,),
    ),
    Scenario(
        "DockerIccExporterSilent",
        "is silent about a target that never answered and is no more",
        {"up": "0x2 stale", 'up{instance="other:10422"}': "1x200"},
        silent=(3, 60, 180),
    ),
    Scenario(
        "DockerIccExporterSilent", "fires when there is no target at all", {}, (5, 60), (4,), instance="no target"
    ),
    *(
        scenario
        for metric, read in (("config", "configuration"), ("web_config", "web configuration"), ("policy", "policy"))
        for scenario in _reload(f"docker_icc_exporter_{metric}_last_reload_successful", read)
    ),
    Scenario("DockerIccWatchdog", "always fires, whatever there is", {"up": "0x60"}, (0, 60), instance=""),
    Scenario("DockerIccWatchdog", "always fires, even without data", {}, (0, 60), instance=""),
)
