"""The daemon's configuration on disk, what is said of its next start, and what the next start does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from exporter.evaluate import evaluate
from exporter.parse import parse
from tests.cli.program import failure, run
from tests.cli.service import ANY_PORT, service
from tests.conformance.runner import observe
from tests.lab import VERSIONS, Engine, LabError, engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.model.report import PendingRestart, Report

pytestmark = pytest.mark.lab

FILE = "/run/lab/daemon.json"
NAMED = f"--config-file={FILE}"

FILES = {
    "icc": '{"icc": false}',
    "other key": '{"debug": true}',
    "null": '{"icc": null}',
    "nothing": "null",
    "empty": "",
    "trailing": '{"icc": false} and more',
    "mark": '\ufeff{"icc": false}',
    "text": '{"icc": "false"}',
    "number": '{"icc": 0}',
    "list": "[]",
    "comma": '{"icc": false,}',
    "upper case": '{"ICC": false}',
    "twice": '{"icc": true, "icc": false}',
    "no rules": '{"icc": false, "iptables": false}',
    "no bridge": '{"bridge": "none"}',
    "bridge and bip": '{"bridge": "br0", "bip": "10.9.0.1/24"}',
    "hosts": '{"hosts": ["unix:///run/lab/other.sock"]}',
    "ipv6": '{"icc": false, "ipv6": true, "fixed-cidr-v6": "fd00:9::/64", "ip6tables": false}',
}
"""Configuration files that the daemon takes or refuses, each engine in its own way."""

COMMAND_LINES = (
    "", "--icc", "--icc=0", "--icc false", "--icc=no", "--icc=true --icc=false", "-icc=false", "--debug=true",
    "-b none", "-bnone", "--bridge=none", "-Db=none", "--log-level debug --icc=F", "--icc=false --iptables=false",
    "-b none --bip=10.9.0.1/24", "--label icc=false", "word",
)  # fmt: skip
"""Command lines that the daemon takes or refuses."""


@pytest.fixture(scope="module", params=VERSIONS)
def host(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Return an engine that reads its configuration from a file."""
    with engine(request.param) as made:
        yield made


def write(made: Engine, content: str, path: str = FILE) -> None:
    """Write a file on the engine's host."""
    made.on_host("sh", "-ec", 'mkdir -p "$(dirname "$1")"; printf %s "$2" > "$1"', "sh", path, content)


def look(made: Engine) -> Report:
    """Return the report by all evidence."""
    return evaluate(parse(observe(made)))


def restarted(made: Engine, *args: str) -> bool | None:
    """Restart the engine and return the default bridge's ICC; None where there is none. Raises LabError."""
    made.restart(*args)
    networks = made.api("/networks")
    options = (network["Options"] for network in networks)
    found = [each for each in options if each.get("com.docker.network.bridge.default_bridge") == "true"]
    return found[0]["com.docker.network.bridge.enable_icc"] == "true" if found else None


class Fates:
    """Tries one configuration after the other on an engine, and remembers of which something else was foretold.

    What comes of one is what the next is compared with; after one that keeps the daemon from starting, or from having a
    default bridge, it is started by `again`, which opens the default bridge.
    """

    def __init__(self, made: Engine, again: Callable[[], bool | None]) -> None:
        self._made = made
        self._again = again
        self._icc = again()
        self.wrong: dict[str, PendingRestart] = {}

    def settle(self, name: str, *args: str) -> None:
        """Compare what is foretold of the configuration that is there with what a restart brings."""
        told = look(self._made).pending_restart
        assert told is not None
        try:
            icc, starts = restarted(self._made, *args), True
        except LabError:
            icc, starts = None, False
        if (told.icc, told.starts) != (not starts or icc is not self._icc, starts):
            self.wrong[name] = told
        self._icc = icc if icc is not None else self._again()
        assert self._icc is not None


def test_files_are_taken_and_refused_as_foretold(host: Engine) -> None:
    """For each file: whether the daemon would start with it, and with which ICC, is what comes of starting it."""

    def again() -> bool | None:
        write(host, "{}")
        return restarted(host, NAMED)

    fates = Fates(host, again)
    for name, content in FILES.items():
        write(host, content)
        fates.settle(name, NAMED)
    assert fates.wrong == {}


@pytest.mark.parametrize("flag", ["--icc=false", "--icc=true"])
def test_a_flag_and_the_file_exclude_each_other(host: Engine, flag: str) -> None:
    """A key that the command line gives as well keeps the daemon from starting, whatever the two say."""
    write(host, "{}")
    restarted(host, NAMED, flag)
    write(host, '{"icc": false}')
    told = look(host).pending_restart
    assert told is not None
    (reason,) = told.reasons
    assert "icc is given both by --icc" in reason
    with pytest.raises(LabError, match="icc"):
        restarted(host, NAMED, flag)


def test_live_restore_keeps_the_network(host: Engine) -> None:
    """With live-restore and a container that runs, the configuration waits, and says so; without one it counts."""
    write(host, '{"live-restore": true}')
    restarted(host, NAMED)
    host.run("lasting")
    write(host, '{"live-restore": true, "icc": false}')
    told = look(host).pending_restart
    assert told is not None
    assert not told.icc
    assert "while no container runs" in told.reasons[0]
    assert restarted(host, NAMED) is True
    write(host, '{"icc": false}')
    told = look(host).pending_restart
    assert told is not None
    assert told.icc
    assert restarted(host, NAMED) is False


@pytest.fixture
def init_script(host: Engine) -> Iterator[Engine]:
    """Return an engine whose host has an init script for it, in folders that only the engine sees."""
    restarted(host)
    for folder in ("/etc/default", "/etc/init.d"):
        host.on_host("mount", "-t", "tmpfs", "tmpfs", folder)
    write(host, "#!/bin/sh\n", "/etc/init.d/docker")
    yield host
    for folder in ("/etc/default", "/etc/init.d"):
        host.on_host("umount", folder)


def test_docker_opts_are_pending_until_the_daemon_has_them(init_script: Engine) -> None:
    """What DOCKER_OPTS say is pending, with the place, until the script has started the daemon with them."""
    write(init_script, 'DOCKER_OPTS="--icc=false"\n', "/etc/default/docker")
    told = look(init_script).pending_restart
    assert told is not None
    assert told.icc
    assert told.reasons == ("default bridge: icc would be false (DOCKER_OPTS in /etc/default/docker), it is true now",)
    assert restarted(init_script, "--icc=false") is False
    told = look(init_script).pending_restart
    assert told is not None
    assert not told.icc


def test_flags_are_taken_and_refused_as_foretold(init_script: Engine) -> None:
    """For each command line: whether the daemon would start with it, and with which ICC, is what comes of it."""
    fates = Fates(init_script, lambda: restarted(init_script))
    for flags in COMMAND_LINES:
        write(init_script, f'DOCKER_OPTS="{flags}"\n', "/etc/default/docker")
        fates.settle(flags, *flags.split())
    restarted(init_script)
    assert fates.wrong == {}


def test_the_gauges_and_the_page(host: Engine) -> None:
    """The metrics, the report and the page tell what is pending, and the page tells why."""
    write(host, "{}")
    restarted(host, NAMED)
    write(host, '{"icc": false}')
    evidence = ("--evidence.max=kernel", f"--host.netns={host.netns}")
    with service(ANY_PORT, "--poll.interval=1s", f"--docker.host={host.host}", *evidence) as exporter:
        exporter.seconds_until(lambda samples: samples.get("docker_icc_config_pending_restart") == 1, timeout=5)
        assert "icc would be false (/run/lab/daemon.json)" in exporter.get("/")
        document = json.loads(exporter.get("/api/v1/report"))
        assert document["pending_restart"]["icc"] is True
        assert exporter.samples()["docker_icc_config_invalid"] == 0
        write(host, '{"icc": false,}')
        exporter.seconds_until(lambda samples: samples.get("docker_icc_config_invalid") == 1, timeout=5)
        assert exporter.samples()["docker_icc_config_pending_restart"] == 1
        assert json.loads(exporter.get("/api/v1/report"))["pending_restart"]["starts"] is False
        for question in ((), ("--icc=false",)):
            told = failure("whatif", *question, f"--docker.host={host.host}", *evidence)
            assert told.startswith(f"error: the daemon would not start: {FILE}: ")
            assert "put that right first" in told
        write(host, "{}")
        exporter.seconds_until(lambda samples: samples.get("docker_icc_config_pending_restart") == 0, timeout=5)
        assert exporter.samples()["docker_icc_config_invalid"] == 0
        host.on_host("sh", "-ec", "echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables")
        name = 'docker_icc_bridge_netfilter_enabled{family="ipv4"}'
        exporter.seconds_until(lambda samples: samples.get(name) == 0, timeout=5)
        host.on_host("sh", "-ec", "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables")
        exporter.seconds_until(lambda samples: samples.get(name) == 1, timeout=5)


def test_no_value_but_those_that_verdicts_need_is_saved(host: Engine) -> None:
    """A snapshot holds names of keys and flags, and no value of those that decide nothing here."""
    write(host, '{"icc": false, "labels": ["tenant=hidden-one"], "insecure-registries": ["hidden-two:5000"]}')
    restarted(host, NAMED, "--log-opt=tag=hidden-three")
    evidence = ("--evidence.max=kernel", f"--host.netns={host.netns}")
    saved = run("snapshot", *evidence, DOCKER_HOST=host.host)
    assert (saved.returncode, saved.stderr) == (0, "")
    daemon = json.loads(saved.stdout)["daemon"]
    assert daemon["file"]["keys"] == ["icc", "insecure-registries", "labels"]
    assert "hidden" not in saved.stdout
