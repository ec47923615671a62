"""The program behind a web configuration: from its start to certificates that change while it serves."""

from __future__ import annotations

import base64
import http.client
import os
import random
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path

import bcrypt
import pytest

from tests.certificates import Authority
from tests.cli.program import COMMAND, HOST, environment, failure
from tests.cli.service import ANY_PORT, Service, service
from tests.publish.server import PATHS

PASSWORD = "open sesame"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
USERS = f"basic_auth_users: {{prometheus: {HASH}}}\n"
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
MTLS = f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
QUICK = "--poll.interval=1s"
PREFIX = "docker_icc_exporter_web_config_last_reload"


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Give an authority that clients trust."""
    return Authority()


@pytest.fixture
def web(tmp_path: Path, authority: Authority) -> Path:
    """Give a web configuration with TLS and a user."""
    authority.issue("localhost", "127.0.0.1", "::1").save(tmp_path, "server")
    (tmp_path / "ca.crt").write_text(authority.cert)
    path = tmp_path / "web.yml"
    path.write_text(TLS + USERS)
    return path


class Client:
    """Asks a running exporter as Prometheus would."""

    def __init__(
        self, address: str, authority: Authority | None, password: str | None = PASSWORD, source: str = "127.0.0.1"
    ) -> None:
        self.address = address
        self.source = source
        self.context = ssl.create_default_context(cadata=authority.cert) if authority else None
        token = base64.b64encode(f"prometheus:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {token}"} if password else {}

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body."""
        connection = (
            http.client.HTTPSConnection(self.address, timeout=5, context=self.context)
            if self.context
            else http.client.HTTPConnection(self.address, timeout=5, source_address=(self.source, 0))
        )
        try:
            connection.request("GET", path, headers=self.headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def serial(self) -> str:
        """Return the number of the certificate that is shown now."""
        assert self.context
        host, _, port = self.address.rpartition(":")
        raw = socket.create_connection((host, int(port)), 5)
        with raw, self.context.wrap_socket(raw, server_hostname=host) as connection:
            return str((connection.getpeercert() or {})["serialNumber"])

    def value(self, metric: str) -> float:
        """Return the value of a metric without labels."""
        lines = self.get("/metrics")[1].splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{metric} "))

    def wait_for(self, metric: str, value: float) -> None:
        """Wait until a metric has a value; too long is a failure."""
        deadline = time.monotonic() + 10
        while self.value(metric) != value:
            assert time.monotonic() < deadline, metric
            time.sleep(0.05)


def healthy(address: str, **extra: str) -> tuple[int, str]:
    """Return exit code and complaint of the health check."""
    environ = environment(ICC_EXPORTER_WEB_LISTEN_ADDRESS=address, **extra)
    command = [sys.executable, "-W", "error", "-m", "exporter.health"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=20)
    return done.returncode, done.stderr


def test_every_path_is_behind_tls_and_password(web: Path, authority: Authority) -> None:
    """Metrics, pages, API and health alike: 401 without, an answer with; and where nothing is, nobody learns it."""
    with service(ANY_PORT, "--snapshot", HOST, "--web.config.file", web) as exporter:
        exporter.logged("the engine answers")
        known, stranger = Client(exporter.address, authority), Client(exporter.address, authority, None)
        wrong = Client(exporter.address, authority, "wrong")
        for path in PATHS:
            assert known.get(path)[0] == 200, path
            assert stranger.get(path) == wrong.get(path) == (401, "Unauthorized\n"), path
        assert [each.get("/nothing")[0] for each in (known, stranger)] == [404, 401]
        assert known.value(f"{PREFIX}_successful") == 1


def test_certificates_and_users_change_while_it_serves(web: Path, authority: Authority) -> None:
    """A new certificate is shown soon after it is there; a broken file changes nothing, is logged and is a metric."""
    with service(ANY_PORT, QUICK, "--snapshot", HOST, "--web.config.file", web) as exporter:
        client = Client(exporter.address, authority)
        before = client.serial()
        authority.issue("localhost", "127.0.0.1").save(web.parent, "server")
        exporter.logged("web configuration read again")
        renewed = client.serial()
        assert renewed != before
        first = client.value(f"{PREFIX}_success_timestamp_seconds")

        web.write_text(TLS + USERS.replace("$2", "$9"))
        entry = exporter.logged(
            f"the web configuration stays as it was: {web}:4: basic_auth_users.prometheus is not a bcrypt hash "
            '(htpasswd -nBC 10 "" makes one)'
        )
        assert entry["level"] == "error"
        client.wait_for(f"{PREFIX}_successful", 0)
        assert client.value(f"{PREFIX}_success_timestamp_seconds") == first
        assert client.serial() == renewed

        web.write_text(TLS + USERS.replace("prometheus", "grafana"))
        exporter.logged("web configuration read again")
        assert client.get("/metrics")[0] == 401
        web.write_text(TLS + USERS)
        exporter.logged("web configuration read again")
        client.wait_for(f"{PREFIX}_successful", 1)
        assert client.value(f"{PREFIX}_success_timestamp_seconds") > first


def hurrying(address: str, stop: threading.Event) -> None:
    """Ask with made-up passwords, as fast as there are answers."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    while not stop.is_set():
        token = base64.b64encode(b"x:%d" % random.randrange(1 << 40)).decode()
        try:
            connection.request("GET", "/metrics", headers={"Authorization": f"Basic {token}"})
            answer = connection.getresponse()
            answer.read()
            stop.wait(0.02 if answer.status == HTTPStatus.SERVICE_UNAVAILABLE else 0)
        except (OSError, http.client.HTTPException):
            connection.close()
    connection.close()


def test_strangers_do_not_lock_out_who_has_not_come_yet(tmp_path: Path) -> None:
    """An exporter knows nobody when it starts: the first scrape waits for few of their passwords, from wherever."""
    web = tmp_path / "web.yml"
    web.write_text(
        f"basic_auth_users: {{prometheus: {bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()}}}\n"
    )
    stop = threading.Event()
    with service(ANY_PORT, "--snapshot", HOST, "--web.config.file", web) as exporter:
        strangers = [threading.Thread(target=hurrying, args=(exporter.address, stop)) for _ in range(60)]
        for stranger in strangers:
            stranger.start()
        try:
            time.sleep(1)
            statuses = [Client(exporter.address, None, source="127.0.0.2").get("/metrics")[0] for _ in range(5)]
        finally:
            stop.set()
            for stranger in strangers:
                stranger.join()
    assert statuses == [200] * 5


def test_it_ends_in_time_while_it_computes_a_hash(tmp_path: Path) -> None:
    """SIGTERM waits for no password to be looked at, and is no defect that would stand in the log."""
    web = tmp_path / "web.yml"
    minutes = HASH.replace("$04$", "$24$")
    web.write_text(f"basic_auth_users: {{prometheus: {minutes}}}\n")
    with service(ANY_PORT, "--snapshot", HOST, "--web.config.file", web) as exporter:
        exporter.logged("the engine answers")
        host, _, port = exporter.address.rpartition(":")
        with socket.create_connection((host, int(port))) as client:
            token = Client(exporter.address, None).headers["Authorization"]
            client.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.recv(1)
            assert exporter.end() < 2
        assert not any('"level": "error"' in line for line in exporter.log)


def test_a_web_configuration_may_come_with_a_reload(web: Path, authority: Authority, tmp_path: Path) -> None:
    """SIGHUP reads its name from the configuration file; what was in force stays so until there is one of that name."""
    file = tmp_path / "exporter.yml"
    file.write_text(f"snapshot: {HOST}\n")
    with service(ANY_PORT, ICC_EXPORTER_CONFIG_FILE=str(file)) as exporter:
        assert Client(exporter.address, None, None).get("/-/healthy")[0] == 200
        file.write_text(f"snapshot: {HOST}\nweb: {{config: {{file: {web}}}, max-requests: 7}}\n")
        os.kill(exporter.process.pid, 1)
        exporter.logged("configuration read again")
        client = Client(exporter.address, authority)
        assert client.get("/-/healthy")[0] == 200
        file.write_text(f"snapshot: {HOST}\nweb: {{config: {{file: {web}.old}}}}\n")
        os.kill(exporter.process.pid, 1)
        stays = "the web configuration stays as it was: cannot read the web configuration file"
        exporter.logged(f"{stays} {web}.old: No such file or directory")
        exporter.logged("configuration read again")
        assert client.value(f"{PREFIX}_successful") == 0
        Path(f"{web}.old").write_text("{}")
        exporter.logged("web configuration read again")
        Client(exporter.address, None, None).wait_for(f"{PREFIX}_successful", 1)


def test_a_mistake_in_the_web_configuration_is_none_of_the_others(
    web: Path, authority: Authority, tmp_path: Path
) -> None:
    """At SIGHUP it counts in its own metric alone, is over when it is corrected, and gone with the file."""
    file, policy, good = tmp_path / "exporter.yml", tmp_path / "policy.yml", web.read_text()
    others = f"snapshot: {HOST}\npoll: {{interval: %s}}\npolicy: {{file: {policy}}}\n"
    rule = "rules: [{name: %s, why: apart, deny: {from: any, to: any}}]\n"
    policy.write_text(rule % "before")
    file.write_text(others % "60s" + f"web: {{config: {{file: {web}}}}}\n")
    with service(ANY_PORT, "--config.file", file) as exporter:
        client = Client(exporter.address, authority)
        web.write_text(good.replace("cert_file", "certfile"))
        policy.write_text(rule % "after")
        file.write_text(file.read_text().replace("60s", "50s"))
        os.kill(exporter.process.pid, 1)
        exporter.logged("configuration read again")
        assert client.value(f"{PREFIX}_successful") == 0
        for reload in ("config_last_reload", "policy_last_reload"):
            assert client.value(f"docker_icc_exporter_{reload}_successful") == 1
        assert client.value("docker_icc_exporter_poll_interval_seconds") == 50
        deadline = time.monotonic() + 10
        while 'docker_icc_policy_violations{rule="after"}' not in client.get("/metrics")[1]:
            assert time.monotonic() < deadline

        web.write_text(good)
        exporter.logged("web configuration read again")
        client.wait_for(f"{PREFIX}_successful", 1)

        web.write_text("x: y")
        exporter.logged(f"the web configuration stays as it was: {web}:1: unknown key x")
        file.write_text(others % "50s")
        os.kill(exporter.process.pid, 1)
        exporter.logged("configuration read again")
        status, exposition = Client(exporter.address, None, None).get("/metrics")
        assert (status, PREFIX in exposition) == (200, False)


IMPOSSIBLE = [
    (TLS.replace("server.crt", r'"a\0b"'), ":2: a text may not hold the character U+0000"),
    (TLS.replace("server.crt", r'"\ud800"'), ":2: a text may not hold the character U+D800"),
    (TLS.replace("key_file: server.key", r'key: "\ud800"'), ":3: a text may not hold the character U+D800"),
    (rf'basic_auth_users: {{"\ud800": {HASH}}}', ":1: a text may not hold the character U+D800"),
    (
        TLS.replace("server.crt", "pipe"),
        ":2: tls_server_config.cert_file: cannot read {folder}/pipe: it is not a regular file",
    ),
    (
        TLS.replace("server.crt", "x" * 300),
        f":2: tls_server_config.cert_file: cannot read {{folder}}/{'x' * 300}: File name too long",
    ),
]
"""What nobody can open or turn into bytes, by what is said of it."""


def test_nothing_that_is_written_there_ends_it(web: Path, authority: Authority) -> None:
    """What cannot even be a path is a mistake as any other, told with its line, and a pipe is not waited for."""
    os.mkfifo(web.parent / "pipe")
    with service(ANY_PORT, "--snapshot", HOST, "--web.config.file", web) as exporter:
        for content, problem in IMPOSSIBLE:
            web.write_text(content)
            told = problem.format(folder=web.parent)
            exporter.logged(f"the web configuration stays as it was: {web}{told}")
            assert Client(exporter.address, authority).get("/-/healthy")[0] == 200
        web.unlink()
        os.mkfifo(web)
        stays = "the web configuration stays as it was: cannot read the web configuration file"
        exporter.logged(f"{stays} {web}: it is not a regular file")
        assert Client(exporter.address, authority).get("/-/healthy")[0] == 200


def test_nothing_that_a_reload_finds_ends_it(tmp_path: Path) -> None:
    """Names with NUL or half a character are mistakes of the configuration file."""
    file = tmp_path / "exporter.yml"
    file.write_text(f"snapshot: {HOST}\n")
    with service(ANY_PORT, "--config.file", file) as exporter:
        for text, name in (("a\\0b", "U+0000"), ("\\ud800", "U+D800")):
            problem = f"--config.file: {file}:2: a text may not hold the character {name}"
            for section in ("web: {config: {file: %s}}", "policy: {file: %s}", "snapshot: %s"):
                file.write_text("log: {level: info}\n" + section % f'"{text}"')
                os.kill(exporter.process.pid, 1)
                exporter.logged(f"the configuration stays as it was: {problem}")
        assert Client(exporter.address, None, None).get("/-/healthy")[0] == 200


def test_a_wrong_web_configuration_is_no_beginning(web: Path) -> None:
    """Exit code 2 and one line per mistake, before anything listens."""
    web.write_text("tls_server_config: {cert_file: a, key_file: b}\nbasic_auth_users: {a: b}\nx: y\n")
    assert failure(ANY_PORT, "--snapshot", HOST, "--web.config.file", web) == (
        f"error: {web}:3: unknown key x\n"
        f'error: {web}:2: basic_auth_users.a is not a bcrypt hash (htpasswd -nBC 10 "" makes one)\n'
    )
    web.write_text("tls_server_config: {cert_file: a, key_file: b}")
    assert failure(ANY_PORT, "--snapshot", HOST, "--web.config.file", web) == (
        f"error: {web}:1: tls_server_config.cert_file: cannot read {web.parent}/a: No such file or directory\n"
    )


def test_only_a_server_has_a_front(web: Path) -> None:
    """Commands that serve nothing refuse the option, as all that means nothing to them."""
    assert "--web.config.file" in failure("report", "--snapshot", HOST, "--web.config.file", web)


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        USERS,
        TLS,
        TLS + USERS,
        MTLS,
        f"{MTLS}  max_version: TLS12\n",
        f"{TLS}  min_version: TLS10\n  max_version: TLS11\n",
        f"{MTLS}  client_allowed_sans: [prometheus]\n{USERS}",
        "rate_limit: {interval: 1h, burst: 1}\n",
    ],
    ids=[
        "nothing",
        "users",
        "tls",
        "tls and users",
        "certificates",
        "certificates, TLS 1.2",
        "TLS 1.1",
        "all",
        "rate limit",
    ],
)
def test_the_health_check_gets_by_at_every_front(web: Path, content: str) -> None:
    """It knows no password and has no certificate, and tells a living exporter from a dead one all the same."""
    web.write_text(content)
    extra = {"ICC_EXPORTER_WEB_CONFIG_FILE": str(web)}
    with service(ANY_PORT, "--snapshot", HOST, **extra) as exporter:
        address = exporter.address
        assert [healthy(address, **extra) for _ in range(2)] == [(0, "")] * 2
    assert healthy(address, **extra) == (1, "[Errno 111] Connection refused\n")


@pytest.mark.parametrize("content", ["{}", TLS, MTLS])
def test_the_health_check_sees_an_exporter_that_hangs(web: Path, content: str) -> None:
    """The kernel accepts connections for a process that does nothing with them."""
    web.write_text(content)
    extra = {"ICC_EXPORTER_WEB_CONFIG_FILE": str(web)}
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        code, complaint = healthy(f"127.0.0.1:{hanging.getsockname()[1]}", **extra)
    assert (code, complaint) == (1, "no answer within 3 s\n")


@pytest.mark.parametrize("content", ["{}", USERS, TLS + USERS, MTLS], ids=["nothing", "users", "both", "certificates"])
@pytest.mark.parametrize("broken", ["web", "configuration"])
def test_the_health_check_goes_by_what_is_in_force(web: Path, content: str, broken: str) -> None:
    """An exporter that serves on with what a file said before is healthy; a restart would end it."""
    web.write_text(content)
    settings = web.parent / "exporter.yml"
    settings.write_text("{}")
    extra = {"ICC_EXPORTER_WEB_CONFIG_FILE": str(web), "ICC_EXPORTER_CONFIG_FILE": str(settings)}
    with service(ANY_PORT, "--snapshot", HOST, **extra) as exporter:
        address = exporter.address
        {"web": web, "configuration": settings}[broken].write_text("x: y\n")
        assert healthy(address, **extra) == (0, "")
    code, complaint = healthy(address, **extra)
    assert (code, complaint.endswith("unknown key x\n")) == (1, True), complaint


def test_the_health_check_wants_to_be_asked_for_a_password(web: Path) -> None:
    """Where a front has users, an answer without a question comes from something else."""
    with service(ANY_PORT, "--snapshot", HOST) as exporter:
        web.write_text(USERS)
        assert healthy(exporter.address, ICC_EXPORTER_WEB_CONFIG_FILE=str(web)) == (1, f"status {HTTPStatus.OK:d}\n")


HAND_OVER = """
import fcntl, os, sys
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[1].split(",")]
for offset, number in enumerate(high):
    os.dup2(number, 3 + offset)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(high))}
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_sockets_of_systemd_of_all_families_behind_tls(web: Path, authority: Authority) -> None:
    """The sockets that were handed over are served, the listen address is not."""
    path = str(web.parent / "s")
    with (
        socket.socket(socket.AF_UNIX) as unix,
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        unix.bind(path)
        unix.listen()
        numbers = [four.fileno(), six.fileno(), unix.fileno()]
        command = [sys.executable, "-c", HAND_OVER, ",".join(map(str, numbers)), *COMMAND, "--log.format=json"]
        command += ["--web.systemd-socket", f"--web.listen-address=127.0.0.1:{taken.getsockname()[1]}"]
        command += ["--snapshot", str(HOST), "--web.config.file", str(web)]
        process = subprocess.Popen(command, pass_fds=numbers, stderr=subprocess.PIPE, text=True, env=environment())
        try:
            exporter = Service(process)
            addresses = [exporter.address, exporter.logged("listening")["address"]]
            assert addresses == [f"127.0.0.1:{four.getsockname()[1]}", f"[::1]:{six.getsockname()[1]}"]
            assert exporter.logged("listening")["address"] == f"unix:{path}"
            for address in addresses:
                assert Client(address, authority).get("/metrics")[0] == 200
            context = ssl.create_default_context(cadata=authority.cert)
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(path)
                with context.wrap_socket(raw, server_hostname="localhost") as connection:
                    connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert connection.recv(100).startswith(b"HTTP/1.1 401 ")
            exporter.end()
        finally:
            process.kill()
            process.wait()
            assert process.stderr
            process.stderr.close()


def test_without_sockets_of_systemd_it_does_not_start() -> None:
    """It says what is missing."""
    assert failure("--web.systemd-socket", "--snapshot", HOST) == (
        "error: --web.systemd-socket: systemd handed over no socket: start the unit by its .socket unit\n"
    )


def test_several_addresses_of_both_families_behind_one_front(web: Path, authority: Authority) -> None:
    """Each is served by the same settings."""
    addresses = ("--web.listen-address=127.0.0.1:0", "--web.listen-address=[::1]:0", "--web.listen-address=:0")
    with service(*addresses, "--snapshot", HOST, "--web.config.file", web) as exporter:
        found = [exporter.address, exporter.logged("listening")["address"], exporter.logged("listening")["address"]]
        assert found[2].startswith("[::]:")
        for address in [*found[:2], found[2].replace("[::]", "127.0.0.1"), found[2].replace("[::]", "[::1]")]:
            assert Client(address, authority).get("/metrics")[0] == 200


def test_when_descriptors_run_out_idle_clients_give_theirs_back(web: Path, authority: Authority) -> None:
    """Twenty descriptors, and thirty clients that ask nothing: who asks something is answered."""
    with service(ANY_PORT, "--snapshot", HOST, "--web.config.file", web) as exporter, ExitStack() as hoarded:
        exporter.logged("the engine answers")
        client = Client(exporter.address, authority)
        assert client.get("/metrics")[0] == 200
        resource.prlimit(exporter.process.pid, resource.RLIMIT_NOFILE, (20, 20))
        host, _, port = exporter.address.rpartition(":")
        for _ in range(30):
            hoarded.enter_context(socket.create_connection((host, int(port)), 5))
        for _ in range(3):
            assert client.get("/metrics")[0] == 200
