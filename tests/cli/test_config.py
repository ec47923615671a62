"""Settings: where they come from, which of them counts, and what is said about wrong ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import OPTIONS, Config, ListenAddress, load, parse_duration, parse_listen_address
from exporter.errors import ConfigError
from exporter.observe.tier import DEFAULT


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a configuration file that sets the poll interval to 40 s."""
    path = tmp_path / "exporter.yml"
    path.write_text("poll:\n  interval: 40s\n")
    return path


def mistakes(flags: dict[str, tuple[str, ...]], environ: dict[str, str] | None = None) -> list[str]:
    """Return the lines of the error that these settings cause."""
    with pytest.raises(ConfigError) as caught:
        load(flags, environ or {})
    return str(caught.value).splitlines()


def written(folder: Path, text: str) -> list[str]:
    """Return what is wrong with a configuration file of this text, without the file's folder."""
    path = folder / "exporter.yml"
    path.write_text(text)
    return [line.replace(f"{folder}/", "") for line in mistakes({"config.file": (str(path),)})]


def test_nothing_given_means_the_defaults() -> None:
    """Without flags, environment and file the settings are those of `Config()`."""
    assert load({}, {}) == Config()


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_the_default_in_the_help_is_the_default(option: object) -> None:
    """What `--help` calls the default is what the settings have when nothing is given."""
    entry = next(each for each in OPTIONS if each is option)
    value = getattr(Config(), entry.field)
    # DOCKER_HOST may know, and evidence that is missed is another than what was not asked for
    if entry.name in ("docker.host", "evidence.max"):
        assert value is None
    elif entry.default:
        parsed = entry.parse(entry.default)
        assert value == ((parsed,) if entry.multiple else parsed)


def test_the_default_of_evidence_in_the_help_is_what_is_used() -> None:
    """Where nobody asked for evidence, as much is looked for as the help says."""
    (entry,) = (each for each in OPTIONS if each.name == "evidence.max")
    assert entry.default == DEFAULT


def test_a_flag_beats_the_environment_and_the_environment_beats_the_file(file: Path) -> None:
    """The priority is flag, environment, file, default."""
    environ = {"ICC_EXPORTER_CONFIG_FILE": str(file)}
    assert load({}, environ).poll_interval == 40
    environ["ICC_EXPORTER_POLL_INTERVAL"] = "30s"
    assert load({}, environ).poll_interval == 30
    assert load({"poll.interval": ("20s",)}, environ).poll_interval == 20


def test_a_file_named_by_flag_replaces_one_named_by_the_environment(file: Path, tmp_path: Path) -> None:
    """Only one configuration file is read."""
    other = tmp_path / "other.yml"
    other.write_text("poll: {timeout: 3s}")
    config = load({"config.file": (str(other),)}, {"ICC_EXPORTER_CONFIG_FILE": str(file)})
    assert (config.poll_interval, config.poll_timeout) == (15, 3)


def test_every_setting_has_a_place_in_the_file(tmp_path: Path) -> None:
    """All settings can be given in YAML."""
    path = tmp_path / "exporter.yml"
    path.write_text(
        """
web:
  listen-address: [":1", "[::1]:2"]
  telemetry-path: /m
  config: {file: web.yml}
  systemd-socket: yes
  max-requests: 7
log: {level: debug, format: json}
docker: {host: "tcp://engine:2375"}
poll: {interval: 1m30s, timeout: 500ms}
evidence: {max: api}
tenant: {label: customer}
policy: {file: policy.yaml}
"""
    )
    config = load({"config.file": (str(path),)}, {})
    assert (config.web_config_file, config.web_systemd_socket, config.web_max_requests) == (Path("web.yml"), True, 7)
    assert replace(config, web_config_file=None, web_systemd_socket=False, web_max_requests=40) == Config(
        (":1", "[::1]:2"), "/m", "debug", "json", "tcp://engine:2375", 90.0, 0.5, None, "api",
        tenant_label="customer", policy_file=Path("policy.yaml"),
    )  # fmt: skip


def test_the_environment_lists_addresses_with_commas() -> None:
    """A variable holds several listen addresses; a repeated one counts once."""
    config = load({}, {"ICC_EXPORTER_WEB_LISTEN_ADDRESS": ":1, :2,:1"})
    assert config.listen_addresses == (":1", ":2")


def test_an_empty_variable_counts_as_none() -> None:
    """Compose files pass empty variables for what is not set."""
    assert load({}, {"ICC_EXPORTER_POLL_INTERVAL": "", "ICC_EXPORTER_SNAPSHOT": " "}) == Config()


def test_an_unknown_variable_is_left_alone() -> None:
    """Orchestrators make up variables such as ICC_EXPORTER_PORT for a service called icc-exporter."""
    assert load({}, {"ICC_EXPORTER_PORT": "tcp://10.0.0.1:10422"}) == Config()


def test_an_engine_and_a_file_exclude_each_other() -> None:
    """Two answers from one source to the question what to look at are an error."""
    assert mistakes({"docker.host": ("tcp://a",), "snapshot": ("b",)}) == [
        "--docker.host and --snapshot exclude each other: an engine or a file"
    ]


def test_a_snapshot_flag_beats_an_engine_in_the_environment() -> None:
    """The stronger source decides alone whether an engine or a file is looked at."""
    config = load({"snapshot": ("b",)}, {"ICC_EXPORTER_DOCKER_HOST": "tcp://a"})
    assert (config.snapshot, config.docker_host) == (Path("b"), None)


WRONG = [
    ("poll.interval", "15", "not a duration: '15' (write 15s, 1m30s or 500ms)"),
    ("poll.interval", "", "not a duration: '' (write 15s, 1m30s or 500ms)"),
    ("poll.interval", "1s1m", "not a duration: '1s1m' (write 15s, 1m30s or 500ms)"),
    ("poll.interval", "999ms", "must be between 1s and 24h, not 999ms"),
    ("poll.interval", "2d", "must be between 1s and 24h, not 2d"),
    ("poll.timeout", "0s", "must be between 1ms and 24h, not 0s"),
    ("poll.timeout", "-1s", "not a duration: '-1s' (write 15s, 1m30s or 500ms)"),
    (
        "web.listen-address",
        "10422",
        "not an address to listen on: '10422' (write :10422, 127.0.0.1:10422 or [::1]:10422)",
    ),
    (
        "web.listen-address",
        "::1:10422",
        "not an address to listen on: '::1:10422' (write :10422, 127.0.0.1:10422 or [::1]:10422)",
    ),
    ("web.listen-address", ":65536", "not a port: 65536 (0 to 65535)"),
    (
        "web.telemetry-path",
        "metrics",
        "not a path: 'metrics' (it begins with / and holds letters, digits and . _ ~ - / only)",
    ),
    (
        "web.telemetry-path",
        "/m?x={y}",
        "not a path: '/m?x={y}' (it begins with / and holds letters, digits and . _ ~ - / only)",
    ),
    (
        "web.telemetry-path",
        "/api",
        "/api is the path of another page (write /metrics, or anything not in /, /-/, /api/)",
    ),
    ("web.telemetry-path", "/", "/ is the path of another page (write /metrics, or anything not in /, /-/, /api/)"),
    ("web.max-requests", "-1", "must be a whole number from 0 to 999999, not '-1'"),
    ("web.max-requests", "many", "must be a whole number from 0 to 999999, not 'many'"),
    ("web.systemd-socket", "yes", "must be true or false, not 'yes'"),
    ("web.config.file", "", "must not be empty"),
    ("log.level", "loud", "must be one of debug, info, warn, error, not 'loud'"),
    ("log.format", "xml", "must be one of logfmt, json, not 'xml'"),
    ("metrics.pairs", "10001", "must be a whole number from 0 to 10000, not '10001'"),
    ("metrics.pairs", "-1", "must be a whole number from 0 to 10000, not '-1'"),
    ("evidence.max", "packets", "must be one of api, kernel, sandboxes, not 'packets'"),
    ("probe.sample", "51", "must be a whole number from 0 to 50, not '51'"),
    ("probe.sample", "-1", "must be a whole number from 0 to 50, not '-1'"),
    ("probe.sample", "\u0665", "must be a whole number from 0 to 50, not '\u0665'"),
    ("docker.host", " ", "must not be empty"),
    ("snapshot", "", "must not be empty"),
    ("tenant.label", " ", "must not be empty"),
    ("policy.file", "", "must not be empty"),
]


@pytest.mark.parametrize(("name", "text", "message"), WRONG)
def test_a_wrong_flag_is_named_with_what_is_wrong(name: str, text: str, message: str) -> None:
    """The message begins with the flag and says what would be right."""
    assert mistakes({name: (text,)}) == [f"--{name}: {message}"]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Nobody has to start the program again to learn of the next mistake."""
    path = tmp_path / "exporter.yml"
    path.write_text("log:\n  level: loud\n")
    environ = {"ICC_EXPORTER_POLL_TIMEOUT": "soon", "ICC_EXPORTER_CONFIG_FILE": str(path)}
    assert mistakes({"poll.interval": ("never",)}, environ) == [
        "--poll.interval: not a duration: 'never' (write 15s, 1m30s or 500ms)",
        "ICC_EXPORTER_POLL_TIMEOUT: not a duration: 'soon' (write 15s, 1m30s or 500ms)",
        f"{path}:2: log.level: must be one of debug, info, warn, error, not 'loud'",
    ]


FILES = [
    ("pol:\n  interval: 1s\n", ["exporter.yml:1: unknown key pol (did you mean poll?)"]),
    ("\npoll:\n  intervall: 1s\n", ["exporter.yml:3: unknown key poll.intervall (did you mean poll.interval?)"]),
    ("config: {file: other.yml}", ["exporter.yml:1: unknown key config"]),
    ("poll:\n  interval: 1s\n  interval: 2s\n", ["exporter.yml:3: poll.interval is there twice"]),
    ("poll: {timeout: 1s}\npoll: {interval: 2s}\n", ["exporter.yml:2: poll is there twice"]),
    ("poll:\n  interval: 15\n", ["exporter.yml:2: poll.interval must be a text, not a whole number (15)"]),
    ("docker: {host: true}", ["exporter.yml:1: docker.host must be a text, not true or false (true)"]),
    ("snapshot:\n", ["exporter.yml:1: snapshot must be a text, not nothing"]),
    ("snapshot: {file: x}", ["exporter.yml:1: snapshot must be a text, not a mapping"]),
    ("docker: {host: [a]}", ["exporter.yml:1: docker.host must be a text, not a list"]),
    (
        "web: {listen-address: [':1', 2]}",
        ["exporter.yml:1: web.listen-address must be a text or a list of texts, not a whole number (2)"],
    ),
    ("web: {systemd-socket: 'true'}", ["exporter.yml:1: web.systemd-socket must be true or false, not a text (true)"]),
    ("web: {max-requests: many}", ["exporter.yml:1: web.max-requests must be a whole number, not a text (many)"]),
    ("web: {config: web.yml}", ["exporter.yml:1: web.config must be a mapping of keys, not a text (web.yml)"]),
    ("web: {listen-address: []}", ["exporter.yml:1: web.listen-address must not be empty"]),
    ("poll: 15s", ["exporter.yml:1: poll must be a mapping of keys, not a text (15s)"]),
    ("- a\n", ["exporter.yml:1: the file must be a mapping of keys, not a list"]),
    ("poll: {interval: 1s", ["--config.file: exporter.yml:1: expected ',' or '}', but got '<stream end>'"]),
    (
        "a: \x07",
        ["--config.file: exporter.yml:1: not YAML: unacceptable character #x0007: special characters are not allowed"],
    ),
    ("[" * 5000, ["--config.file: exporter.yml is nested too deeply"]),
]


@pytest.mark.parametrize(("text", "messages"), FILES)
def test_a_mistake_in_the_file_is_named_with_its_line(tmp_path: Path, text: str, messages: list[str]) -> None:
    """The message gives file, line and key."""
    assert written(tmp_path, text) == messages


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_sets_nothing(tmp_path: Path, text: str) -> None:
    """A file of comments is as good as none."""
    path = tmp_path / "exporter.yml"
    path.write_text(text)
    assert load({"config.file": (str(path),)}, {}) == Config()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, a folder, bytes that are no text, one that is too long, a device and a pipe are told apart."""
    binary, large, fifo = tmp_path / "binary", tmp_path / "large", tmp_path / "fifo"
    large.write_bytes(b" " * ((1 << 20) + 1))
    os.mkfifo(fifo)
    binary.write_bytes(b"\xff\xfe\xfa")
    expected = {
        tmp_path / "none": f"cannot read the configuration file {tmp_path / 'none'}: No such file or directory",
        tmp_path: f"cannot read the configuration file {tmp_path}: Is a directory",
        binary: f"{binary}:1: not UTF-8 text",
        large: f"{large} is larger than 1 MiB: not a configuration file",
        Path("/dev/zero"): "cannot read the configuration file /dev/zero: it is not a regular file",
        fifo: f"cannot read the configuration file {fifo}: it is not a regular file",
    }
    for path, message in expected.items():
        assert mistakes({"config.file": (str(path),)}) == [f"--config.file: {message}"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10422", ListenAddress("", 10422)),
        ("127.0.0.1:0", ListenAddress("127.0.0.1", 0)),
        ("my-host.example:80", ListenAddress("my-host.example", 80)),
        ("[::]:10422", ListenAddress("::", 10422)),
        ("[fe80::1%eth0]:10422", ListenAddress("fe80::1%eth0", 10422)),
    ],
)
def test_listen_addresses_split_into_host_and_port(text: str, address: ListenAddress) -> None:
    """Every way to write an address to listen on is understood."""
    assert parse_listen_address(text) == address


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15s", 15), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600), ("1d2h3m4s5ms", 93784.005), ("0s", 0)],
)
def test_durations_are_prometheus_durations(text: str, seconds: float) -> None:
    """Units add up and stand in falling order."""
    assert parse_duration(text) == pytest.approx(seconds)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_named_mistake(text: str) -> None:
    """No text makes the parser fail in another way."""
    try:
        assert parse_duration(text) >= 0
    except ValueError as error:
        assert repr(text) in str(error)  # noqa: PT017 - both outcomes are right


def test_a_number_may_be_written_as_one(tmp_path: Path) -> None:
    """YAML knows numbers: anything else is refused with its line."""
    path = tmp_path / "exporter.yml"
    path.write_text("probe:\n  sample: 5\n")
    assert load({"config.file": (str(path),)}, {}).probe_sample == 5
    assert written(tmp_path, 'probe:\n  sample: "5"\n') == [
        "exporter.yml:2: probe.sample must be a whole number, not a text (5)"
    ]
    assert written(tmp_path, "probe:\n  sample: 5.5\n") == [
        "exporter.yml:2: probe.sample must be a whole number, not a number (5.5)"
    ]
    assert written(tmp_path, "probe:\n  sample: 0x10\n") == [
        "exporter.yml:2: probe.sample: must be a whole number from 0 to 50, not '0x10'"
    ]
