"""How the daemon was started and will be, from files as administrators and packages write them."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exporter.model.observation import BYTE_ORDER_MARK, EMPTY, TRAILING, ConfigurationFile, DaemonDocuments
from exporter.observe.kernel.daemon import Root, read_daemon
from exporter.observe.kernel.daemon.assignments import environment_file, shell_variable
from exporter.observe.kernel.daemon.flags import STRAY, VALUED, reduced
from exporter.observe.kernel.trouble import Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

UNIT = "/lib/systemd/system/docker.service"
DEBIAN = """\
[Unit]
Description=Docker Application Container Engine

[Service]
Type=notify
EnvironmentFile=-/etc/default/docker
ExecStart=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS
ExecReload=/bin/kill -s HUP $MAINPID
"""
DOCKER_CE = """\
[Service]
ExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock
"""
CGROUP = "/system.slice/docker.service"
RUNNING = ("/usr/sbin/dockerd", "-H", "fd://")


def read(
    files: Mapping[str, str | bytes], *, cgroup: str = CGROUP, arguments: tuple[str, ...] = RUNNING
) -> DaemonDocuments:
    """Return what is read where these files are; a text that begins with `->` is a link."""
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str) and content.startswith("->"):
                path.symlink_to(content.removeprefix("->"))
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_daemon(Root(Path(folder)), arguments, cgroup)


def flags(documents: DaemonDocuments) -> list[tuple[str, str]]:
    """Return the flags of the next start that have a value, and where each comes from."""
    return [(flag.flag, flag.origin) for flag in documents.flags if "=" in flag.flag]


def file(content: str | bytes) -> ConfigurationFile:
    """Return what becomes of a daemon.json."""
    found = read({"/etc/docker/daemon.json": content}).file
    assert found is not None
    return found


# --- the command line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--icc=false", ["--icc=false"]),
        ("--icc false", ["--icc=true", "false"]),
        ("--icc", ["--icc=true"]),
        ("-H fd:// --icc=0 --label secret=1", ["--host", "--icc=0", "--label"]),
        ("--log-level debug --bridge none", ["--log-level", "--bridge=none"]),
        ("-b none", ["--bridge=none"]),
        ("-bnone", ["--bridge=none"]),
        ("-b=none", ["--bridge=none"]),
        ("-Db none", ["--debug", "--bridge=none"]),
        ("-D --debug=false", ["--debug", "--debug"]),
        ("-icc=false", ["--i"]),
        ("--icc=false -- --iptables=false", ["--icc=false", STRAY]),
        ("word - --config-file /etc/d.json", [STRAY, STRAY, "--config-file=/etc/d.json"]),
        ("--host", ["--host"]),
        ("", []),
    ],
)
def test_flags_are_read_as_the_daemon_reads_them(line: str, expected: list[str]) -> None:
    """A switch takes no value from the next word, every other flag does; values that decide nothing are not kept."""
    assert reduced(line.split()) == expected


@given(st.lists(st.text(max_size=12) | st.sampled_from(["--icc", "-b", "--", "-", "--=", "=", "-=x", "--icc=false"])))
def test_any_command_line_is_read(words: list[str]) -> None:
    """No word makes the reader fail, and no value of a flag that decides nothing is kept."""
    found = reduced(words)
    assert len(found) <= sum(len(word) + 1 for word in words)
    valued = {flag.partition("=")[0].removeprefix("--") for flag in found if "=" in flag and flag.startswith("--")}
    assert valued <= VALUED | {""}


# --- who starts it, and with which command line


def test_debians_unit_takes_docker_opts() -> None:
    """DOCKER_OPTS of /etc/default/docker is split where the unit uses it, and is named as the place."""
    found = read({UNIT: DEBIAN, "/etc/default/docker": 'DOCKER_OPTS="--icc=false --label a=b"\n'})
    assert found.service == "docker.service"
    assert flags(found) == [("--icc=false", "DOCKER_OPTS in /etc/default/docker")]
    assert (found.unused, found.troubles) == ([], [])


def test_dockers_own_unit_takes_nothing_from_docker_opts() -> None:
    """A file that the unit does not read changes nothing, and its flags are told of."""
    found = read({UNIT: DOCKER_CE, "/etc/default/docker": 'DOCKER_OPTS="--icc=false --debug"\n'})
    assert flags(found) == []
    assert found.unused == ["--icc=false"]


def test_a_drop_in_takes_the_place_of_the_command() -> None:
    """An empty ExecStart= forgets the unit's; of two drop-ins of one name the one in /etc counts."""
    drop_in = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd \\\n  --icc=false\n"
    found = read(
        {
            UNIT: DOCKER_CE,
            "/etc/systemd/system/docker.service.d/icc.conf": drop_in,
            "/lib/systemd/system/docker.service.d/icc.conf": drop_in.replace("false", "true"),
        }
    )
    assert flags(found) == [("--icc=false", "/etc/systemd/system/docker.service.d/icc.conf")]


def test_a_unit_in_etc_takes_the_place_of_the_packages() -> None:
    """The administrator's unit is read in place of the package's, also where it is a link."""
    found = read(
        {
            UNIT: DOCKER_CE,
            "/etc/systemd/system/docker.service": "->/srv/docker.service",
            "/srv/docker.service": "[Service]\nExecStart=/usr/bin/dockerd --icc=false\n",
        }
    )
    assert flags(found) == [("--icc=false", "/etc/systemd/system/docker.service")]


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ('Environment="OPTS=--icc=false --debug"\nExecStart=/usr/bin/dockerd $OPTS', ["--icc=false"]),
        ("Environment=ICC=false\nExecStart=/usr/bin/dockerd --icc=${ICC}", ["--icc=false"]),
        ('Environment="OPTS=--icc=false --debug"\nExecStart=/usr/bin/dockerd "${OPTS}"', ["--icc=false --debug"]),
        ("ExecStart=/usr/bin/dockerd --icc=$${ICC} $NOTHING", ["--icc=${ICC}"]),
        ("ExecStart=:/usr/bin/dockerd $OPTS", []),
        ("ExecStart=-/usr/bin/dockerd '--icc=false' # no comment", ["--icc=false"]),
        ("ExecStart=@/usr/bin/dockerd docker --icc=false", ["--icc=false"]),
        ("ExecStart=/usr/bin/dockerd --icc=\\x66alse", ["--icc=false"]),
        ("Environment=ICC=true\nEnvironmentFile=/e\nExecStart=/usr/bin/dockerd --icc=${ICC}", ["--icc=false"]),
        ("EnvironmentFile=/e\nEnvironmentFile=\nExecStart=/usr/bin/dockerd --icc=${ICC}", ["--icc="]),
        ("; ExecStart=/x\n#ExecStart=/y\nExecStart=/usr/bin/dockerd --icc=false", ["--icc=false"]),
    ],
)
def test_units_are_read_as_systemd_reads_them(service: str, expected: list[str]) -> None:
    """Variables, quotes, escapes, prefixes and comments mean what systemd.service(5) says."""
    found = read({UNIT: f"[Service]\n{service}\n[Install]\nExecStart=/no\n", "/e": "ICC=false\n"})
    assert [flag for flag, _ in flags(found)] == expected


def test_a_file_that_the_unit_needs_is_missing() -> None:
    """Without its EnvironmentFile the service does not start; one that begins with a dash may be missing."""
    found = read({UNIT: "[Service]\nEnvironmentFile=/etc/docker.env\nExecStart=/usr/bin/dockerd\n"})
    assert found.troubles == ["/etc/docker.env: there is no such file, and the service needs it (EnvironmentFile=)"]
    assert read({UNIT: DEBIAN}).troubles == []


@pytest.mark.parametrize(
    "files",
    [
        {},
        {UNIT: "[Service]\nExecStart=/usr/bin/snap run docker.dockerd\n"},
        {UNIT: "[Service]\nExecStart=\n"},
        {UNIT: "[Service]\nExecStart=/usr/bin/dockerd\nExecStart=/usr/bin/dockerd\n"},
    ],
)
def test_who_starts_it_may_not_be_known(files: Mapping[str, str]) -> None:
    """Where no unit on disk starts dockerd itself, the command line is assumed to stay as it is."""
    found = read(files, arguments=("dockerd", "--icc=false"))
    assert (found.service, flags(found)) == ("", [("--icc=false", "the command line that it runs with")])


def test_an_init_script_takes_docker_opts() -> None:
    """Without systemd, the init script's DOCKER_OPTS are the next command line, whatever runs now."""
    files = {"/etc/init.d/docker": "#!/bin/sh\n", "/etc/default/docker": "DOCKER_OPTS='--icc=false'\n"}
    found = read(files, cgroup="/", arguments=("dockerd", "-p", "/run/docker.pid", "--icc=true"))
    assert found.service == "/etc/init.d/docker"
    assert flags(found) == [("--icc=false", "DOCKER_OPTS in /etc/default/docker")]
    with_systemd = read({**files, "/run/systemd/system/x": ""}, cgroup="/", arguments=("dockerd", "--icc=true"))
    assert (with_systemd.service, with_systemd.unused) == ("", ["--icc=false"])


# --- files that set variables


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('DOCKER_OPTS="--icc=false"', "--icc=false"),
        ("DOCKER_OPTS='--icc=false'", "--icc=false"),
        ("DOCKER_OPTS=--icc=false", "--icc=false"),
        ("#DOCKER_OPTS=--icc=false", None),
        ("export DOCKER_OPTS=--icc=false", "--icc=false"),
        ('DOCKER_OPTS=--icc=false\nDOCKER_OPTS="$DOCKER_OPTS --debug"', "--icc=false --debug"),
        ('DOCKER_OPTS="--icc=false" # for the tenants', "--icc=false"),
        ('DOCKER_OPTS="--icc=false \\\n--debug"', "--icc=false --debug"),
        ("DOCKER_OPTS=", ""),
        ("OTHER=1\nif true; then OTHER=2; fi", None),
        ("DOCKER_OPTS='$HOME'", "$HOME"),
    ],
)
def test_a_shell_sets_docker_opts(text: str, value: str | None) -> None:
    """What a shell would make of the file, as long as it only assigns."""
    assert shell_variable(text, "DOCKER_OPTS") == value


@pytest.mark.parametrize(
    "text",
    [
        "DOCKER_OPTS=$(cat /opts)", "DOCKER_OPTS=`cat /opts`", 'DOCKER_OPTS="${DOCKER_OPTS:---icc}"',
        "if true; then DOCKER_OPTS=--icc=false; fi", "DOCKER_OPTS=--icc=false --debug", 'DOCKER_OPTS="--icc=false',
        'DOCKER_OPTS="$OTHER"', "DOCKER_OPTS=~/opts", "DOCKER_OPTS=--icc=false;", 'DOCKER_OPTS="a"b',
        "DOCKER_OPTS=\\",
    ],
)  # fmt: skip
def test_what_takes_a_shell_is_not_guessed(text: str) -> None:
    """Commands, conditions and open quotes are named as unreadable, without what they say."""
    with pytest.raises(Unreadable, match="what sets DOCKER_OPTS") as raised:
        shell_variable(text, "DOCKER_OPTS")
    assert "icc" not in str(raised.value)


_VALUES = st.text(alphabet=st.sampled_from("ab-= \\\"'$X{}#;&|~*"), max_size=8)
_LINES = st.builds(
    "{}{}={}".format, st.sampled_from(["", "export ", " "]), st.sampled_from(["X", "DOCKER_OPTS"]), _VALUES
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_LINES | _VALUES.map("# {}".format), max_size=3).map("\n".join))
def test_what_is_read_is_what_a_shell_reads(text: str) -> None:
    """Where the reader is sure of a value, a real shell that reads the file holds the same one."""
    with suppress(Unreadable), TemporaryDirectory() as empty:
        value = shell_variable(text, "DOCKER_OPTS")
        (Path(empty) / "file").write_text(text)
        script = '. ./file\nprintf %s "${DOCKER_OPTS-nothing}"\n'
        # no folder of programs: whatever the text asks for, nothing but the shell itself runs
        done = subprocess.run(
            ["/bin/sh"], input=script, env={"PATH": empty}, cwd=empty, capture_output=True, text=True, check=False
        )
        assume(done.returncode == 0)
        assert done.stdout == ("nothing" if value is None else value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('DOCKER_OPTS="--icc=false"', "--icc=false"),
        ("DOCKER_OPTS=--icc=false --debug  ", "--icc=false --debug"),
        ("DOCKER_OPTS=$(cat /opts)", "$(cat /opts)"),
        ('DOCKER_OPTS="--icc=false \\\n--debug"', "--icc=false --debug"),
        ("DOCKER_OPTS=\"a\"'b'", "ab"),
        ('DOCKER_OPTS=a"b', 'a"b'),
        ('DOCKER_OPTS="a\\"b\\n"', 'a"b\\n'),
        ("; DOCKER_OPTS=1\n# DOCKER_OPTS=2", None),
        ("export DOCKER_OPTS=1", None),
    ],
)
def test_systemd_reads_environment_files(text: str, value: str | None) -> None:
    """Quotes and continued lines as in basic/env-file.c; nothing is expanded, and `export` is no name."""
    assert environment_file(text).get("DOCKER_OPTS") == value


@given(st.text(alphabet=st.sampled_from("DOCKER_OPTS=\"'\\ \n\t#;$({`a-}")) | st.text())
def test_any_file_of_variables_is_read(text: str) -> None:
    """Garbage is read or named as unreadable, and never a defect."""
    environment_file(text)
    with suppress(Unreadable):
        shell_variable(text, "DOCKER_OPTS")


@given(st.text() | st.text(alphabet=st.sampled_from("[Service]\nExecStart=\"'\\$%{}@:- \t")))
def test_any_unit_is_read(text: str) -> None:
    """Garbage in the place of a unit is read or named as unreadable, and never a defect."""
    for content in (text, f"[Service]\nEnvironment={text}\nExecStart=/usr/bin/dockerd {text}\n"):
        with suppress(Unreadable):
            read({UNIT: content.encode("utf-8", "surrogatepass")})


# --- daemon.json


def test_only_what_verdicts_need_is_kept() -> None:
    """Of other keys the names are kept alone, of an object in the place of a switch its kind."""
    content = {
        "icc": False,
        "proxies": {"http-proxy": "http://secret@proxy"},
        "labels": ["secret"],
        "bip": {"secret": 1},
    }
    found = file(json.dumps(content))
    assert found.options == {"icc": False, "bip": {}}
    assert found.keys == ["bip", "icc", "labels", "proxies"]
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("content", "quirks", "trouble"),
    [
        ("", [EMPTY], ""),
        (" \n", [EMPTY], ""),
        ("null", [], ""),
        ('{"icc": false}', [], ""),
        ('\ufeff{"icc": false}', [BYTE_ORDER_MARK], ""),
        ('{"icc": false}'.encode("utf-16"), [BYTE_ORDER_MARK], ""),
        ('{"icc": false} more', [TRAILING], ""),
        ("[]", [], "is not a JSON object"),
        ('{"icc": false,}', [], "is not JSON: "),
        ('{"mtu": NaN}', [], "is not JSON: NaN is no number of JSON"),
        pytest.param("[" * 100_000, [], "is not JSON: ", id="deep"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(content: str | bytes, quirks: list[str], trouble: str) -> None:
    """What no daemon takes is told apart from what some take."""
    found = file(content)
    assert list(found.quirks) == quirks
    assert found.trouble == trouble or (trouble and found.trouble.startswith(trouble))


@given(st.binary() | st.text().map(str.encode))
def test_any_configuration_file_is_read(content: bytes) -> None:
    """Garbage in the place of daemon.json is told of, and never a defect."""
    assert file(content).path == "/etc/docker/daemon.json"


def test_the_flag_names_the_file() -> None:
    """The file is the one that the next command line names; if that one is missing, the daemon does not start."""
    unit = "[Service]\nExecStart=/usr/bin/dockerd --config-file /etc/other.json\n"
    found = read({UNIT: unit, "/etc/other.json": '{"icc": false}', "/etc/docker/daemon.json": "{"})
    assert found.file == ConfigurationFile("/etc/other.json", quirks=[], keys=["icc"], options={"icc": False})
    missing = read({UNIT: unit})
    assert missing.file == ConfigurationFile("/etc/other.json", present=False, trouble="there is no such file")
    assert read({UNIT: DEBIAN}).file == ConfigurationFile("/etc/docker/daemon.json", present=False)


def test_links_stay_in_the_daemons_root() -> None:
    """An absolute link leads to the daemon's own file, and no link leads out of its root."""
    linked = read({"/etc/docker/daemon.json": "->/srv/d.json", "/srv/d.json": '{"icc": false}'}).file
    assert linked is not None
    assert linked.options == {"icc": False}
    outside = read({"/etc/docker/daemon.json": "->../../../../../../../../../../etc/passwd"}).file
    assert outside == ConfigurationFile("/etc/docker/daemon.json", present=False)


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    """What is no file is unreadable, and is not waited for; so are links in a circle."""
    (tmp_path / "etc/docker").mkdir(parents=True)
    os.mkfifo(tmp_path / "etc/docker/daemon.json")
    with pytest.raises(Unreadable, match="is not a file"):
        read_daemon(Root(tmp_path), RUNNING, "/")
    (tmp_path / "etc/docker/daemon.json").unlink()
    (tmp_path / "etc/docker/daemon.json").symlink_to("daemon.json")
    with pytest.raises(Unreadable, match="too many links"):
        read_daemon(Root(tmp_path), RUNNING, "/")


def test_a_relative_file_is_not_guessed() -> None:
    """Which folder the daemon will be started in is not known."""
    with pytest.raises(Unreadable, match="which folder"):
        read({}, arguments=("dockerd", "--config-file=daemon.json"))
