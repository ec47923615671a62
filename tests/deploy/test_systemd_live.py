"""The units in deploy/systemd, started by systemd on a host of its own, on a real engine with containers."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from tests.certificates import Authority
from tests.deploy.rules import DEPLOY
from tests.deploy.unit import NAME, OFTEN, SERVICE, SOCKET, UNITS, Unit
from tests.documents import commands_in
from tests.lab.booted import booted
from tests.lab.errors import LabError
from tests.supply.wheels import fill

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

CHECKOUT: Final = "/root/docker-icc-exporter"
WHEELS: Final = "/root/wheels"
CONTAINERS: Final = 3
CONFIG: Final = "/etc/docker-icc-exporter/exporter.yml"
WEB: Final = "/etc/docker-icc-exporter/web.yml"
POLICY: Final = "/etc/docker-icc-exporter/policy.yaml"
INTERVAL: Final = "docker_icc_exporter_poll_interval_seconds"
RULE: Final = "rules:\n  - {{name: {}, why: test, deny: {{from: any, to: any}}}}\n"
VIOLATIONS: Final = 'docker_icc_policy_violations{{rule="{}"}}'

SOURCES: Final = ("api", "firewall", "bridge", "routes", "sandboxes")
NET_ADMIN, SYS_PTRACE, SYS_ADMIN = 1 << 12, 1 << 19, 1 << 21
TIERS: Final = [
    ((), SOURCES[:1], 0),
    (("kernel",), SOURCES[:4], NET_ADMIN),
    (("kernel", "sandboxes"), SOURCES, NET_ADMIN | SYS_PTRACE | SYS_ADMIN),
]
"""Drop-ins, the evidence that they give, and the capabilities that they leave."""

FORBIDDEN: Final = (
    *("/", "/etc", "/opt/docker-icc-exporter", "/usr", "/var", "/var/lib", "/var/log", "/run", "/run/systemd/system"),
    *("/home", "/root", "/dev", "/sys", "/sys/fs/cgroup/systemd", "/proc/sys"),
)
"""Folders in which the service must not make anything, whoever it is."""


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unit]:
    """Return the service on a host with containers, installed by the page's own commands."""
    wheels = tmp_path_factory.mktemp("wheels")
    fill(wheels, tmp_path_factory.mktemp("tools") / "venv", "/usr/bin/python3")
    with booted("28.5") as host:
        made = Unit(host)
        for number in range(CONTAINERS):
            host.start_container(f"web{number}", f"--publish={8080 + number}:80")
        shutil.copytree(wheels, made.file(WHEELS))
        shutil.copytree(UNITS, made.file(f"{CHECKOUT}/deploy/systemd"))
        _, _, page = (DEPLOY / "README.md").read_text().partition("\n## A service of systemd\n")
        # the host has no way to the package index
        script = ["export PIP_NO_INDEX=1 PIP_FIND_LINKS=" + WHEELS, f"cd {CHECKOUT}"]
        host.shell("\n".join([*script, *commands_in(page.partition("\n## ")[0])]))
        yield made


def test_the_page_s_commands_start_it(unit: Unit) -> None:
    """When the last of them comes back, a scrape shows the engine's containers; so it will be at each boot."""
    samples = unit.samples()
    assert (samples["docker_icc_up"], samples["docker_icc_containers"]) == (1, CONTAINERS)
    assert samples["reachable_pairs_total"] == CONTAINERS * (CONTAINERS - 1)
    assert unit.systemctl("is-enabled", SERVICE).strip() == "enabled"
    assert "docker.service" in unit.shown("After").split()
    assert "msg=listening" in unit.host.run("journalctl", f"--unit={NAME}", "--no-pager")


@pytest.mark.parametrize(("drop_ins", "sources", "capabilities"), TIERS)
def test_each_tier_has_its_evidence_and_no_other_right(
    drop_ins: tuple[str, ...], sources: tuple[str, ...], capabilities: int, unit: Unit
) -> None:
    """The evidence is there after the start, the rights are those that the page states, and nothing is denied."""
    unit.start(*drop_ins)
    samples = unit.samples()
    assert {source for source in SOURCES if samples[f'docker_icc_evidence{{source="{source}"}}']} == set(sources)
    assert samples["docker_icc_unknown_pairs"] == 0
    assert ("docker_icc_config_pending_restart" in samples) == ("sandboxes" in sources)

    status = unit.status()
    assert {int(status[name], 16) for name in ("CapInh", "CapAmb")} == {0}
    assert int(status["CapBnd"], 16) == capabilities
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff")} == {capabilities}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    group = int(unit.host.run("stat", "--format=%g", "/run/docker.sock"))
    if drop_ins:
        assert (set(status["Uid"].split()), status["Groups"]) == ({"0"}, "")
    else:
        (user,) = set(status["Uid"].split())
        assert 61184 <= int(user) <= 65519
        assert status["Groups"].split() == [str(group), user]

    # any other system call would end the process; some polls, events, pages and a reload make it do all that it does
    polls = 'docker_icc_exporter_polls_total{result="ok"}'
    assert unit.get("/")
    assert unit.get("/api/v1/report")
    unit.systemctl("reload", SERVICE)
    unit.until("polls", lambda: unit.samples()[polls] > samples[polls] + 3)
    assert (unit.shown("NRestarts"), unit.shown("ActiveState")) == ("0", "active")
    assert int(unit.shown("TasksCurrent")) < 64
    assert int(unit.shown("MemoryCurrent")) < 256 << 20


@pytest.mark.parametrize("drop_ins", [(), ("kernel", "sandboxes")])
def test_it_can_write_nothing_to_the_host(drop_ins: tuple[str, ...], unit: Unit) -> None:
    """Neither where root may write nor in anybody's home; its temporary files and devices are its own."""
    unit.start(*drop_ins)
    for folder in FORBIDDEN:
        with pytest.raises(OSError, match=r"Read-only file system|No such file"):
            (unit.inside(folder) / "made").touch()
    unit.file("/tmp/of-others").touch()
    unit.file("/home/somebody").mkdir(exist_ok=True)
    assert [list(unit.inside(folder).iterdir()) for folder in ("/tmp", "/var/tmp", "/home", "/root")] == [[]] * 4
    disks = [device for device in unit.inside("/dev").iterdir() if device.is_block_device()]
    assert disks == []


def test_a_process_that_hangs_is_started_anew(unit: Unit) -> None:
    """The watchdog ends one that is stopped, and another one serves."""
    unit.start(own="WatchdogSec=2s\nRestartSec=100ms\n")
    before, cursor = unit.main, unit.now()
    unit.systemctl("kill", "--kill-whom=main", "--signal=STOP", SERVICE)
    unit.until("another process", lambda: unit.main not in (0, before))
    unit.until("ready", lambda: unit.samples()["docker_icc_containers"] == CONTAINERS)
    assert "Watchdog timeout (limit 2s)!" in unit.journal(cursor)


def test_a_process_that_lives_is_left_alone(unit: Unit) -> None:
    """With a watchdog of 2 s and a poll in 15 s, it says often enough that it lives."""
    unit.start(own="WatchdogSec=2s\n", settings="")
    process, begun = unit.main, time.monotonic()
    unit.until("time passed", lambda: time.monotonic() > begun + 3)
    assert (unit.main, unit.shown("NRestarts")) == (process, "0")


def test_a_process_that_dies_is_started_anew(unit: Unit) -> None:
    """After `kill -9`, too."""
    unit.start(own="RestartSec=100ms\n")
    before = unit.main
    unit.host.run("kill", "-9", str(before))
    unit.until("ready", lambda: unit.main != before and unit.samples()["docker_icc_containers"] == CONTAINERS)
    assert unit.shown("NRestarts") == "1"


def test_a_reload_reads_the_configuration_again(unit: Unit) -> None:
    """So it does as often as one wants, and a mistake in it leaves the service as it was."""
    unit.write(CONFIG, "poll: {interval: 20s}\n")
    unit.start(settings=f"ICC_EXPORTER_CONFIG_FILE={CONFIG}\n")
    process = unit.main

    def in_force() -> tuple[float, float]:
        samples = unit.samples()
        return samples[INTERVAL], samples["docker_icc_exporter_config_last_reload_successful"]

    assert in_force() == (20, 1)
    for text, wanted in (("poll: {interval: 21s}\n", (21, 1)), ("poll: nonsense\n", (21, 0)), ("{}\n", (15, 1))):
        unit.write(CONFIG, text)
        unit.systemctl("reload", SERVICE)
        unit.until(text, partial(lambda wanted: in_force() == wanted, wanted))
        unit.until("reloaded", lambda: unit.shown("SubState") == "running")
    assert unit.main == process


def test_a_stop_is_clean(unit: Unit) -> None:
    """It ends at once, with exit status 0, and nothing is left of it."""
    unit.start()
    begun = time.monotonic()
    unit.systemctl("stop", SERVICE)
    assert time.monotonic() - begun < 5
    assert [unit.shown(name) for name in ("Result", "ExecMainStatus", "SubState")] == ["success", "0", "dead"]
    with pytest.raises(LabError, match="refused"):
        unit.get("/metrics")


def test_the_socket_listens_for_who_is_not_there(unit: Unit) -> None:
    """The first scrape starts the service and waits for its answer; so does one amid a restart, or after a crash."""
    unit.configure("socket")
    shutil.copy(UNITS / SOCKET, unit.file("/etc/systemd/system"))
    unit.systemctl("daemon-reload")
    unit.systemctl("enable", "--now", SOCKET)
    try:
        assert unit.shown("ActiveState") == "inactive"
        assert unit.samples()["docker_icc_exporter_config_last_reload_successful"] == 1
        with ThreadPoolExecutor() as pool:
            restart = pool.submit(unit.systemctl, "restart", SERVICE)
            answered = 0
            while not restart.done():
                answered += unit.samples()["process_start_time_seconds"] > 0
            restart.result()
        assert answered
        before = unit.main
        unit.host.run("kill", "-9", str(before))
        assert unit.samples()["process_start_time_seconds"] > 0
        assert unit.main != before
        unit.systemctl("stop", SERVICE)
        assert unit.systemctl("is-active", SOCKET).strip() == "active"
    finally:
        unit.systemctl("disable", "--now", SOCKET)


def test_a_mistake_does_not_close_the_socket(unit: Unit) -> None:
    """A service that cannot start is tried again; whoever waited is answered when the mistake is gone."""
    unit.configure("socket", own="RestartSec=200ms\n", settings="ICC_EXPORTER_POLL_INTERVAL=nonsense\n")
    unit.systemctl("start", SOCKET)
    try:
        with ThreadPoolExecutor() as pool:
            scrape = pool.submit(unit.samples)
            unit.until("tries", lambda: int(unit.shown("NRestarts")) >= 2)
            assert not scrape.done()
            unit.write(f"/etc/default/{NAME}", "")
            assert scrape.result()["docker_icc_exporter_poll_interval_seconds"] == 15
    finally:
        unit.systemctl("stop", SERVICE, SOCKET)


def test_what_only_root_may_read_is_handed_over(unit: Unit) -> None:
    """TLS and policy are as the files say at the start; a reload reads the old copies, a restart the new files."""
    first, second = Authority("first"), Authority("second")
    unit.write(WEB, "tls_server_config: {cert_file: server.crt, key_file: server.key}\n", 0o600)
    trusts = {one: ssl.create_default_context(cadata=one.cert) for one in (first, second)}
    change(unit, first, "old")
    unit.start("files")
    violations = unit.samples(trusts[first])[VIOLATIONS.format("old")]
    assert violations == CONTAINERS * (CONTAINERS - 1)

    change(unit, second, "new")
    reloaded = "docker_icc_exporter_policy_last_reload_success_timestamp_seconds"
    before = unit.samples(trusts[first])[reloaded]
    unit.systemctl("reload", SERVICE)
    unit.until("reloaded", lambda: unit.samples(trusts[first])[reloaded] > before)
    assert VIOLATIONS.format("old") in unit.samples(trusts[first])
    unit.systemctl("restart", SERVICE)
    assert VIOLATIONS.format("new") in unit.samples(trusts[second])

    (folder,) = unit.file("/run/credentials").iterdir()
    assert [file.name for file in folder.iterdir() if file.stat().st_mode & 0o007] == []


def change(unit: Unit, authority: Authority, rule: str) -> None:
    """Give the host another certificate, with its key, and another policy."""
    issued = authority.issue("localhost")
    for name, text in (("server.crt", issued.cert), ("server.key", issued.key), ("policy.yaml", RULE.format(rule))):
        unit.write(f"/etc/docker-icc-exporter/{name}", text, 0o600)


def test_a_line_too_many_is_told_as_the_page_says(unit: Unit) -> None:
    """With a line of files.conf for a file that is not there, the service does not start, and the journal says so.

    The status is what systemd itself writes. Its child's message, which names the cause, can miss in the unit's
    journal: journald looks the unit up by the process, which may have ended by then.
    """
    unit.configure("files", own="Restart=no\n")
    unit.file(POLICY).unlink(missing_ok=True)
    cursor = unit.now()
    with pytest.raises(LabError):
        unit.systemctl("start", SERVICE)
    assert "status=243/CREDENTIALS" in unit.journal(cursor)


def test_root_without_rights_reads_what_is_root_s(unit: Unit) -> None:
    """In the tier kernel, a policy of root's alone needs no handing over; one of somebody else's is not read."""
    unit.write(POLICY, RULE.format("mine"), 0o600)
    settings = f"{OFTEN}ICC_EXPORTER_POLICY_FILE={POLICY}\n"
    unit.start("kernel", settings=settings)
    assert VIOLATIONS.format("mine") in unit.samples()
    unit.configure("kernel", own="Restart=no\n", settings=settings)
    os.chown(unit.file(POLICY), 65534, 65534)
    cursor = unit.now()
    with pytest.raises(LabError):
        unit.systemctl("start", SERVICE)
    assert re.search(rf"{POLICY}.*Permission denied", unit.journal(cursor))


def test_it_follows_an_engine_that_is_started_anew(unit: Unit) -> None:
    """The socket that docker.socket makes anew is where the service looks, also through its own view of /run."""
    unit.start()
    process = unit.main
    unit.systemctl("restart", "docker.socket", "docker.service")
    unit.until("none is left", lambda: unit.samples()["docker_icc_containers"] == 0)
    unit.host.run("docker", "start", "web0")
    unit.until("one is there", lambda: unit.samples()["docker_icc_containers"] == 1)
    assert unit.main == process
