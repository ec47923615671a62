"""The configuration of the daemon's next start, as dockerd itself would read it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter.model.daemon import Configuration
from exporter.model.observation import BYTE_ORDER_MARK, EMPTY, TRAILING, ConfigurationFile, DaemonDocuments, Flag
from exporter.model.snapshot import EngineVersion
from exporter.parse.daemon import parse_configuration
from tests.builders import snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATH = "/etc/docker/daemon.json"
NEW, OLD = EngineVersion(28, 5), EngineVersion(20, 10)


def read(
    *flags: str,
    version: EngineVersion = NEW,
    rootless: bool = False,
    file: ConfigurationFile | None = None,
    **keys: object,
) -> Configuration:
    """Return the configuration from flags, and from keys of the file where there are any."""
    options = {key.replace("_", "-"): value for key, value in keys.items()}
    kept = {key: value for key, value in options.items() if value is not None}
    documents = DaemonDocuments(
        flags=[Flag(flag, "unit") for flag in flags],
        file=file or (ConfigurationFile(PATH, keys=sorted(options), options=kept) if keys else None),
    )
    found = parse_configuration(documents, replace(snapshot().engine, version=version, rootless=rootless))
    assert isinstance(found, Configuration)
    return found


def refusals(flags: Sequence[str], keys: Mapping[str, Any], version: EngineVersion = NEW) -> str:
    """Return why the daemon would not start, a line each."""
    return "\n".join(read(*flags, version=version, **keys).refusals)


@pytest.mark.parametrize(
    ("flags", "keys", "icc", "origin"),
    [
        ((), {}, True, "the default"),
        (("--icc=false",), {}, False, "unit"),
        (("--icc=F",), {}, False, "unit"),
        (("--icc=true", "--icc=0"), {}, False, "unit"),
        ((), {"icc": False}, False, PATH),
        ((), {"icc": True}, True, PATH),
        ((), {"icc": None}, False, PATH),
        (("--iptables=true",), {"icc": False}, False, PATH),
    ],
)
def test_icc_and_where_it_is_set(flags: Sequence[str], keys: dict[str, Any], icc: bool, origin: str) -> None:
    """The last flag counts, a JSON boolean counts, null is false, and what nobody sets is on."""
    found = read(*flags, **keys)
    assert (found.icc.value, found.icc.origin, found.refusals) == (icc, origin, ())


def test_other_settings_and_their_defaults() -> None:
    """docker-proxy and iptables are on by default, live-restore is off, ip6tables is on since 27.0."""
    found = read(live_restore=True, userland_proxy=False)
    assert (found.live_restore.value, found.userland_proxy.value, found.iptables.value) == (True, False, True)
    assert (read().live_restore.value, read().userland_proxy.value) == (False, True)
    assert (read().ip6tables.value, read(version=OLD).ip6tables.value) == (True, False)
    assert (read().default_bridge, read("--bridge=none").default_bridge, read(bridge="br0").default_bridge) == (
        True,
        False,
        True,
    )


@pytest.mark.parametrize(
    ("flags", "keys", "reason"),
    [
        (("--icc=no",), {}, "--icc=no is neither true nor false (unit)"),
        ((), {"icc": "false"}, f"icc in {PATH} is neither true nor false"),
        ((), {"icc": 0}, f"icc in {PATH} is neither true nor false"),
        ((), {"bridge": []}, f"bridge in {PATH} is not a text"),
        (("--icc=false",), {"icc": False}, f"icc is given both by --icc (unit) and in {PATH}"),
        (("--icc=false",), {"icc": None}, f"icc is given both by --icc (unit) and in {PATH}"),
        (("--host",), {"hosts": 1}, f"hosts is given both by --host (unit) and in {PATH}"),
        (("--icc=true", "false"), {}, "'false' belongs to no flag (unit): a switch takes its value behind ="),
        (("…",), {}, "'…' belongs to no flag (unit)"),
        (("--i",), {}, "-i is no flag (unit): longer ones begin with --"),
        (("--icc=false",), {"iptables": False}, f"icc=false (unit) needs the firewall, and iptables=false ({PATH})"),
        (("--bridge=br0", "--bip=10.0.0.1/24"), {}, "bridge and bip exclude each other"),
        ((), {"ICC": False}, f"{PATH}: ICC is no option (write icc)"),
        ((), {"userland_proxy": False, "Userland_Proxy": 1}, f"{PATH}: Userland-Proxy is no option"),
    ],
)
def test_what_keeps_the_daemon_from_starting(flags: Sequence[str], keys: dict[str, Any], reason: str) -> None:
    """What dockerd refuses is a reason, in words that name the place."""
    assert reason in refusals(flags, keys)


@pytest.mark.parametrize(
    ("quirk", "new", "old"), [(EMPTY, True, False), (BYTE_ORDER_MARK, True, False), (TRAILING, False, True)]
)
def test_files_that_some_engines_take(quirk: str, new: bool, old: bool) -> None:
    """Since 23.0 an empty file and a byte order mark are taken, and what follows the document is not."""
    file = ConfigurationFile(PATH, quirks=[quirk])
    assert (not read(file=file).refusals, not read(file=file, version=OLD).refusals) == (new, old)


def test_ip6tables_are_needed_since_27() -> None:
    """icc=false with IPv6 and without ip6tables is refused since 27.0, and enforced for IPv4 alone before."""
    keys = {"icc": False, "ipv6": True, "ip6tables": False}
    assert "needs the firewall, and ip6tables=false" in refusals((), keys)
    assert refusals((), keys, OLD) == ""


def test_a_file_that_no_daemon_takes() -> None:
    """What is wrong with the file is passed on with its name, as is what keeps the service from starting."""
    documents = DaemonDocuments(file=ConfigurationFile(PATH, trouble="is not JSON"), troubles=["no such file"])
    found = parse_configuration(documents, snapshot().engine)
    assert isinstance(found, Configuration)
    assert found.refusals == ("no such file", f"{PATH}: is not JSON")


def test_what_is_not_known() -> None:
    """What could not be read has its reason; a rootless daemon's file is not guessed unless a flag names it."""
    engine = replace(snapshot().engine, rootless=True)
    assert parse_configuration(DaemonDocuments(missing="no dockerd"), engine) == "no dockerd"
    found = parse_configuration(DaemonDocuments(), engine)
    assert isinstance(found, str)
    assert "rootless" in found
    assert read("--config-file=/home/me/daemon.json", rootless=True).icc.value
