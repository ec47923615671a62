"""The commands on recorded hosts: output, exit codes, and what is said when something is wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from exporter import __version__
from exporter.cli.text import explain as explained
from exporter.cli.text import ways
from exporter.config import OPTIONS
from exporter.evaluate import explain
from exporter.model import reach
from exporter.model.ports import ALL_PORTS
from tests.cli.program import COMMAND, HOST, LATER, environment, failure, run
from tests.hosts import host
from tests.kernels import kernel
from tests.lab.system import children_of

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("serve", "report", "explain", "probe", "snapshot", "check", "diff", "whatif")


def test_help_names_every_setting_and_command() -> None:
    """`--help` shows each flag with its variable, each command, and the exit codes."""
    text = " ".join(run("--help").stdout.split())
    for option in OPTIONS:
        assert f"{option.flag} " in text
        assert f"env: {option.variable}" in text
    for command in COMMANDS:
        assert f" {command} " in text
    assert "Exit codes:" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help(command: str) -> None:
    """`COMMAND --help` and `-h` work and are the same."""
    long, short = run(command, "--help"), run(command, "-h")
    assert long.stdout.startswith(f"Usage: docker-icc-exporter {command} ")
    assert (long.returncode, long.stdout) == (short.returncode, short.stdout) == (0, short.stdout)


def test_a_path_without_addresses_is_told() -> None:
    """The API does not tell link-local addresses."""
    path = reach.Path(reach.Via.BRIDGE, "net", reach.Protocol.TCP, (), ALL_PORTS)
    assert list(ways([path])) == ["bridge on net: tcp any at an address that the API does not tell"]


def test_help_loads_neither_web_server_nor_engine_client() -> None:
    """`--help` comes at once: what takes long to import is not imported for it."""
    script = """
import sys
from exporter.cli import main
sys.argv = ["docker-icc-exporter", "--help"]
try:
    main()
except SystemExit:
    pass
print(sorted({"docker", "requests", "uvicorn", "starlette", "apscheduler", "jinja2", "yaml"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_the_package_s() -> None:
    """`--version` prints the name and the version."""
    assert run("--version").stdout == f"docker-icc-exporter {__version__}\n"


def test_report_prints_a_table_by_default() -> None:
    """A recorded host needs no engine; pairs stand in the table."""
    done = run("report", "--snapshot", HOST)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^client +web +reachable +bridge +bridge ", done.stdout, re.MULTILINE)
    assert not re.search(r"^tenant-a +tenant-b", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("form", ["table", "json", "csv", "dot"])
def test_a_report_is_the_same_from_a_file_and_from_standard_input(form: str) -> None:
    """`-` reads the observation from standard input, in every format."""
    from_file = run("report", "--format", form, "--snapshot", HOST)
    piped = run("report", "--format", form, "--snapshot", "-", stdin=HOST.read_text())
    assert (from_file.returncode, from_file.stderr) == (0, "")
    assert piped.stdout == from_file.stdout
    assert "shop-api" in from_file.stdout


def test_the_json_report_is_json() -> None:
    """The JSON report can be read and has the schema's number."""
    document = json.loads(run("report", "--format=json", "--snapshot", HOST).stdout)
    assert document["schema"] == 1
    assert {"source", "destination", "verdict", "paths"} <= document["pairs"][0].keys()


@pytest.mark.parametrize("place", ["before", "after", "environment", "file"])
def test_settings_count_wherever_they_are_given(place: str, tmp_path: Path) -> None:
    """A setting may stand before or after the command's name, in the environment, or in the file."""
    file = tmp_path / "exporter.yml"
    file.write_text(f"snapshot: {HOST}\n")
    done = {
        "before": lambda: run("--snapshot", HOST, "report"),
        "after": lambda: run("report", "--snapshot", HOST),
        "environment": lambda: run("report", ICC_EXPORTER_SNAPSHOT=str(HOST)),
        "file": lambda: run("report", "--config.file", file),
    }[place]()
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo-host" in done.stdout


def test_explain_says_what_opens_a_pair() -> None:
    """An open pair comes with the network that opens it."""
    done = run("explain", "client", "web", "--snapshot", HOST)
    assert done.returncode == 0
    first, second, *_ = done.stdout.splitlines()
    assert first == "client -> web: reachable"
    assert second == "  + both are on network bridge, which lets its containers talk to each other"


def test_explain_says_what_blocks_a_pair() -> None:
    """A blocked pair comes with what blocks it."""
    lines = run("explain", "tenant-a", "tenant-b", "--snapshot", HOST).stdout.splitlines()
    assert lines[0] == "tenant-a -> tenant-b: blocked"
    assert "  - network tenants keeps its containers apart over IPv4 (enable_icc=false)" in lines


def test_explain_takes_the_beginning_of_an_id() -> None:
    """Containers can be named by a unique beginning of their ids."""
    document = json.loads(HOST.read_text())
    ids = {container["Names"][0].lstrip("/"): container["Id"][:12] for container in document["api"]["containers"]}
    by_id = run("explain", ids["client"], ids["web"], "--snapshot", HOST)
    assert by_id.stdout == run("explain", "client", "web", "--snapshot", HOST).stdout


def test_explain_answers_for_one_port() -> None:
    """A question about one protocol and port is answered for these alone."""
    command = ("explain", "client", "web", "--protocol=tcp", "--port=80", "--snapshot", HOST)
    assert run(*command).stdout.splitlines()[-1] == "  bridge on bridge: tcp 80 at 172.17.0.2"
    document = json.loads(run(*command, "--format=json").stdout)
    assert [path["ports"] for path in document["paths"]] == ["80"]


def test_explain_answers_for_one_address() -> None:
    """A question about one address is answered for it alone."""
    command = ("explain", "client", "web", "--format=json", "--snapshot", HOST)
    narrowed = json.loads(run(*command, "--address", "172.17.0.2").stdout)
    assert {tuple(path["addresses"]) for path in narrowed["paths"]} == {("172.17.0.2",)}
    assert json.loads(run(*command, "--address", "203.0.113.9").stdout)["verdict"] == "blocked"


@pytest.mark.parametrize("address", ["web", "1.2.3", "fe80::1%eth0", "172.17.0.0/16"])
def test_explain_refuses_what_is_no_address(address: str) -> None:
    """A wrong address is told so before anybody is asked."""
    complaint = failure("explain", "client", "web", "--address", address, "--snapshot", HOST)
    assert complaint.startswith(f"error: --address must be an IPv4 or IPv6 address without a zone, not '{address}'\n")


def test_explain_prints_the_way_of_a_packet() -> None:
    """A line for each hop, one for what decides and one for what would change it; hidden characters stay hidden."""
    built = host("28.5", icc=False).container("db", expose=["5432/tcp"]).container("web", links=["db"])
    seen = kernel(built).engine_rules().look()
    lines = [line.text for line in explained(explain(seen.snapshot, seen.report, "web", "db"))]
    start = lines.index("packet to 172.17.0.2:5432/tcp: arrives in db and is answered")
    assert lines[start + 1 : start + 3] == [
        "  request",
        "    web: sends from 172.17.0.3 to 172.17.0.2:5432 (db) by eth0",
    ]
    assert any(line.endswith("--dport 5432 -j ACCEPT`: accept [7 packets so far]") for line in lines)
    assert lines[-1] == "  to close it: web without its link to db"
    blocked = [line.text for line in explained(explain(seen.snapshot, seen.report, "db", "web"))]
    assert sum(line.startswith("  x host: ip filter DOCKER-FORWARD rule 4 ") for line in blocked) == 1
    assert blocked[-1].startswith("  to open it: --icc=true of the daemon")


def test_explain_hints_at_names_that_are_near() -> None:
    """A mistyped name gets the right one as a hint."""
    complaint = failure("explain", "clint", "web", "--snapshot", HOST)
    assert complaint == "error: no running container is called 'clint': did you mean client?\n"


def test_a_snapshot_is_the_file_it_came_from() -> None:
    """Saving a replayed observation gives the same file."""
    assert run("snapshot", "--snapshot", HOST).stdout == HOST.read_text()


def test_a_snapshot_replaces_its_file_whole_for_its_owner_alone(tmp_path: Path) -> None:
    """The file has mode 0600, no half-written one ever shows, and nothing else is left in the folder."""
    target = tmp_path / "host.json"
    target.write_text("old")
    target.chmod(0o644)
    done = run("snapshot", "--snapshot", HOST, "-o", target)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert target.read_text() == HOST.read_text()
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_a_snapshot_follows_links_and_writes_into_pipes(tmp_path: Path) -> None:
    """A symbolic link stays one, and a device is written to, not replaced."""
    target, link = tmp_path / "host.json", tmp_path / "link.json"
    target.touch()
    link.symlink_to(target)
    assert run("snapshot", "--snapshot", HOST, "-o", link).returncode == 0
    assert link.is_symlink()
    assert target.read_text() == HOST.read_text()
    assert run("snapshot", "--snapshot", HOST, "-o", "/dev/stdout").stdout == HOST.read_text()


def test_a_snapshot_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A missing folder and a folder in the file's place are named."""
    missing = tmp_path / "none" / "host.json"
    for path, reason in ((missing, "No such file or directory"), (tmp_path, "Is a directory")):
        complaint = failure("snapshot", "--snapshot", HOST, "-o", path)
        assert complaint == f"error: cannot write {path}: {reason}\n"


def test_diff_tells_what_changed_with_exit_code_1() -> None:
    """Containers come and go, pairs open and close."""
    done = run("diff", HOST, LATER)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["- container web", "+ container newcomer"]
    assert "+ client -> shop-db: blocked -> reachable" in lines
    assert "    + bridge on shop: tcp any; udp any; icmp at 172.18.0.3" in lines
    assert "- client -> web: reachable -> absent" in lines


def test_diff_of_the_same_host_is_nothing_with_exit_code_0() -> None:
    """Without differences nothing is printed."""
    done = run("diff", HOST, "-", stdin=HOST.read_text())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_diff_is_also_json() -> None:
    """The JSON form holds the same changes, with their paths."""
    done = run("diff", "--format=json", HOST, LATER)
    document = json.loads(done.stdout)
    assert (done.returncode, document["containers_added"], document["containers_removed"]) == (1, ["newcomer"], ["web"])
    pairs = {(pair["source"], pair["destination"]): pair for pair in document["pairs"]}
    opened = pairs["client", "shop-db"]
    assert (opened["before"], opened["after"], opened["paths_before"]) == ("blocked", "reachable", [])
    assert {path["protocol"] for path in opened["paths_after"]} == {"tcp", "udp", "icmp"}
    assert pairs["client", "web"]["after"] is None


def test_whatif_tells_what_would_close_and_why_the_rest_stays_open() -> None:
    """Numbers before and after, a line for each pair that is concerned, and what is assumed."""
    done = run("whatif", "--network=shop", "--icc=false", "--snapshot", HOST)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "with network shop created anew with enable_icc=false:"
    assert lines[1] == "  of 110 pairs 45 are reachable now, 43 then"
    assert lines[2].startswith("  2 close, 0 open, 2 stay open by other ways or fewer, 0 become undecided;")
    assert "- shop-api -> shop-db closes: no longer by bridge on shop" in lines
    assert "    - bridge on shop: tcp any; udp any; icmp at 172.18.0.3" in lines
    assert "= shop-db -> shop-api stays open: published_port on shop" in lines
    assert "    = published_port on shop: tcp 8080 at 172.17.0.1, 172.18.0.1, 172.19.0.1" in lines
    assert "assumed:" in lines


def test_whatif_is_also_json() -> None:
    """The JSON form holds the same pairs, with their paths."""
    done = run("whatif", "--icc=false", "--format=json", "--snapshot", HOST)
    document = json.loads(done.stdout)
    assert document["totals"] == {
        "containers": 11,
        "pairs": 110,
        "before": {"reachable_pairs": 45, "unknown_pairs": 0},
        "after": {"reachable_pairs": 43, "unknown_pairs": 0},
        "closes": 2,
        "opens": 0,
        "stays_open": 0,
        "undecided": 0,
    }
    (pair,) = [pair for pair in document["pairs"] if pair["source"] == "client"]
    assert (pair["fate"], pair["before"], pair["after"]) == ("closes", "reachable", "blocked")
    assert (len(pair["paths_before"]), pair["paths_after"]) == (3, [])


def test_whatif_that_cannot_be_answered_is_an_error() -> None:
    """A network that is not there, or has no ICC, is named with exit code 2."""
    for name in ("shpo", "none"):
        assert name in failure("whatif", "--icc=false", f"--network={name}", "--snapshot", HOST)


def test_a_file_that_is_no_observation_is_an_error_everywhere(tmp_path: Path) -> None:
    """Every command names a wrong or missing file and ends with 2, diff too."""
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{")
    for arguments in (
        ("report", "--snapshot", wrong),
        ("explain", "a", "b", "--snapshot", wrong),
        ("snapshot", "--snapshot", wrong),
        ("diff", HOST, wrong),
    ):
        assert failure(*arguments).startswith(f"error: {wrong}: is not JSON: ")
    missing = tmp_path / "missing.json"
    assert failure("report", "--snapshot", missing) == f"error: {missing}: cannot be read: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--nonsense"], "error: No such option '--nonsense'.\ntry docker-icc-exporter --help\n"),
        (["inspect"], "error: No such command 'inspect'.\ntry docker-icc-exporter --help\n"),
        (["explain", "a"], "error: Missing argument 'DESTINATION'.\ntry docker-icc-exporter explain --help\n"),
        (
            ["report", "--web.listen-address=:1"],
            "error: No such option '--web.listen-address'.\ntry docker-icc-exporter report --help\n",
        ),
        (
            ["--web.listen-address=:1", "report"],
            "error: --web.listen-address means nothing to report\ntry docker-icc-exporter report --help\n",
        ),
        (
            ["explain", "a", "b", "--protocol=icmp", "--port=1"],
            "error: --port means nothing to --protocol icmp\ntry docker-icc-exporter explain --help\n",
        ),
        (
            ["diff", "-", "-"],
            "error: only one of the files can be standard input\ntry docker-icc-exporter diff --help\n",
        ),
        (
            ["whatif", "--network=shop"],
            (
                "error: --network needs --icc: whether its containers are to communicate\n"
                "try docker-icc-exporter whatif --help\n"
            ),
        ),
        (
            ["whatif", "--icc=maybe"],
            (
                "error: Invalid value for '--icc': 'maybe' is not one of 'true', 'false'.\n"
                "try docker-icc-exporter whatif --help\n"
            ),
        ),
        (
            ["--poll.interval=soon", "--log.level=loud"],
            (
                "error: --poll.interval: not a duration: 'soon' (write 15s, 1m30s or 500ms)\n"
                "error: --log.level: must be one of debug, info, warn, error, not 'loud'\n"
            ),
        ),
        (
            ["--docker.host=ftp://x", "report"],
            "error: not the address of an engine, as --docker.host or DOCKER_HOST gives it: 'ftp://x' (write ",
        ),
        (
            ["serve", "--snapshot=-"],
            "error: serve reads its snapshot at every poll, which standard input cannot repeat: name a file\n",
        ),
    ],
)
def test_wrong_use_is_told_in_one_line_with_exit_code_2(arguments: list[str], complaint: str) -> None:
    """The message names what is wrong; nothing is started."""
    assert failure(*arguments).startswith(complaint)


def test_nobody_answers(tmp_path: Path) -> None:
    """An engine that is not there is an error that names its address."""
    address = f"unix://{tmp_path / 'none.sock'}"
    complaint = failure("report", "--docker.host", address)
    assert complaint.startswith("error: ")
    assert address in complaint
    assert failure("report", DOCKER_HOST=address) == complaint


def test_an_engine_that_hangs_is_given_up(tmp_path: Path) -> None:
    """`--poll.timeout` bounds the wait."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        listener.listen()
        begun = time.monotonic()
        complaint = failure("snapshot", f"--docker.host=unix://{tmp_path / 'docker.sock'}", "--poll.timeout=300ms")
    assert complaint.startswith("error: ")
    assert time.monotonic() - begun < 5


def test_a_closed_pipe_ends_the_program_quietly() -> None:
    """`report | head -1` leaves no noise behind."""
    line = f"{' '.join(COMMAND)} report --format json --snapshot {HOST} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, env=environment())
    assert done.stderr == ""
    assert done.returncode in {0, 141}


def test_a_full_disk_is_an_error() -> None:
    """Output that cannot be written is not passed over."""
    with open("/dev/full", "w") as full:  # noqa: PTH123 - the device, as a shell opens it
        command = [*COMMAND, "report", "--snapshot", str(HOST)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment())
    assert (done.returncode, done.stderr) == (2, "error: cannot write the output: No space left on device\n")


def test_an_interrupt_ends_the_program_quietly(tmp_path: Path) -> None:
    """Ctrl-C while the engine keeps it waiting: exit code 130, no word."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        listener.listen()
        process = subprocess.Popen(
            [*COMMAND, "report", f"--docker.host=unix://{tmp_path / 'docker.sock'}"],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        with listener.accept()[0] as asked:
            assert asked.recv(4)
            # one that comes between Python's look for signals and the system call waits for the end of that
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=10)[1] == ""
        assert process.returncode == 130


@pytest.mark.lab
def test_the_first_process_of_a_container_ends_when_asked(tmp_path: Path) -> None:
    """SIGTERM ends a command at once also as process 1, which the kernel would spare."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        listener.listen()
        command = [*COMMAND, "report", f"--docker.host=unix://{tmp_path / 'docker.sock'}"]
        outer = subprocess.Popen(["unshare", "--pid", "--fork", *command], env=environment())
        with listener.accept()[0]:
            (first,) = children_of(outer.pid)
            os.kill(first, signal.SIGTERM)
            assert outer.wait(2) == 128 + signal.SIGTERM


def on_a_terminal(*arguments: str, **extra: str) -> str:
    """Return what the program writes when its output is a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=slave, stderr=slave, env=environment(TERM="xterm", **extra)
    )
    os.close(slave)
    chunks = []
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(master)
    process.wait(10)
    return b"".join(chunks).decode()


def test_colours_are_for_terminals_that_want_them() -> None:
    """Colours appear on a terminal, and neither in a pipe nor with NO_COLOR."""
    command = ("explain", "tenant-a", "tenant-b", "--snapshot", str(HOST))
    assert "\033[" in on_a_terminal(*command)
    assert "\033[" not in on_a_terminal(*command, NO_COLOR="1")
    assert "\033[" not in run(*command).stdout


def test_a_long_wait_is_told_on_a_terminal(tmp_path: Path) -> None:
    """Whoever waits for an engine longer than a second learns what for, and the line goes in the end."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        listener.listen()
        host = f"unix://{tmp_path / 'docker.sock'}"
        text = on_a_terminal("report", f"--docker.host={host}", "--poll.timeout=1500ms")
    assert f"\rasking {host} (1 s)" in text
    assert "\r\033[K" in text


def test_names_cannot_drive_the_terminal(tmp_path: Path) -> None:
    """A name with an escape sequence is shown, not obeyed."""
    evil = tmp_path / "evil.json"
    evil.write_text(HOST.read_text().replace('"/client"', '"/cli\\u001b[2Jent"'))
    for arguments in (["explain", "cli\033[2Jent", "web"], ["explain", "tenant-a", "no\033[2J"], ["report"]):
        done = run(*arguments, "--snapshot", evil)
        assert "\033" not in done.stdout + done.stderr


def test_names_survive_any_encoding(tmp_path: Path) -> None:
    """A terminal that lacks a letter gets an escape, not a traceback."""
    unicode = tmp_path / "unicode.json"
    unicode.write_text(HOST.read_text().replace('"/client"', '"/clïent☃"'))
    done = run("report", "--snapshot", unicode, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "cl\\xefent\\u2603" in done.stdout


@pytest.mark.parametrize("where", [("--snapshot", str(HOST)), ("--config.file",)])
def test_probe_refuses_a_file(where: tuple[str, ...], tmp_path: Path) -> None:
    """Packets go through what runs now: a snapshot is refused, given by flag or by the configuration."""
    file = tmp_path / "exporter.yml"
    file.write_text(f"snapshot: {HOST}\n")
    arguments = where if len(where) > 1 else (*where, str(file))
    complaint = failure("probe", *arguments, "--evidence.max=sandboxes", "client", "web")
    assert complaint.startswith("error: probe sends packets through what runs now, which no --snapshot holds\n")


def test_probe_needs_all_evidence() -> None:
    """Less evidence than that of the sandboxes foretells no packet: the message names the option."""
    assert failure("probe", "client", "web", "--evidence.max=api") == (
        "error: probe needs --evidence.max=sandboxes, not api: packets are held against what the kernel enforces, "
        "inside the sandboxes too\n"
    )


@pytest.mark.parametrize(
    "arguments", [("--snapshot", str(HOST), "--evidence.max=sandboxes"), ("--evidence.max=kernel",)]
)
def test_a_daemon_that_cannot_probe_does_not_start(arguments: tuple[str, ...]) -> None:
    """`serve --probe.sample` says what it needs in place of never probing."""
    assert failure("serve", "--probe.sample=5", *arguments).startswith("error: --probe.sample needs ")


def test_probe_knows_no_icmp() -> None:
    """Echo decides nothing about a pair, so there is no probing by it."""
    assert "--protocol" in failure("probe", "--protocol=icmp", "client", "web")


@pytest.mark.parametrize(
    "arguments",
    [("report", "--snapshot"), ("serve", "--web.listen-address"), ("--config.file",), ("serve", "--log.level")],
)
def test_a_setting_without_its_value_is_a_mistake(arguments: tuple[str, ...]) -> None:
    """It is not passed over: the live engine is not asked in place of a snapshot."""
    assert failure(*arguments).startswith(f"error: Option '{arguments[-1]}' requires an argument.\n")


def test_a_negative_duration_is_a_value() -> None:
    """What begins with a dash is no other option where a value has to come."""
    assert "--poll.interval: not a duration: '-1s'" in failure("serve", "--poll.interval=-1s")
