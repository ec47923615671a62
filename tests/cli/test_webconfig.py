"""The web configuration file: the cases of exporter-toolkit's own catalogue, and those that are only ours."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import ConfigError
from exporter.webconfig import (
    CIPHERS,
    CIPHERS_OF_TLS13,
    CURVES,
    HEADERS,
    KEYS,
    Pem,
    RateLimit,
    TlsConfig,
    WebConfig,
    read,
)

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
PAIR = "cert_file: server.crt, key_file: server.key"
AUTHORITY = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt"


def written(folder: Path, text: str) -> Path:
    """Return a file of this text."""
    path = folder / "web.yml"
    path.write_text(dedent(text))
    return path


def understood(folder: Path, text: str) -> WebConfig:
    """Return what a file of this text says."""
    return read(written(folder, text))


def tls(folder: Path, text: str) -> TlsConfig:
    """Return what a file says that has these keys of TLS beside a certificate."""
    config = understood(folder, f"tls_server_config: {{{PAIR}, {text}}}").tls
    assert config
    return config


def mistakes(folder: Path, text: str) -> list[str]:
    """Return what is wrong with a file of this text, without the file's folder."""
    with pytest.raises(ConfigError) as caught:
        read(written(folder, text))
    return str(caught.value).replace(f"{folder}/", "").splitlines()


class TestGood:
    @pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~", "{}"])
    def test_nothing_is_plain_http_for_everybody(self, tmp_path: Path, text: str) -> None:
        """An empty file asks for nothing."""
        assert understood(tmp_path, text) == WebConfig()

    def test_a_certificate_alone_is_tls_as_go_has_it_by_default(self, tmp_path: Path) -> None:
        """Versions 1.2 and 1.3, the server's order of ciphers, and nobody is asked for a certificate."""
        config = understood(tmp_path, f"tls_server_config: {{{PAIR}}}").tls
        assert config
        assert (config.min_version, config.max_version, config.client_auth) == ("TLS12", "TLS13", "NoClientCert")
        assert config.prefer_server_ciphers
        assert (config.ciphers, config.curve, config.client_ca, config.allowed_sans) == ((), "", None, ())

    def test_files_are_relative_to_the_file_that_names_them(self, tmp_path: Path) -> None:
        """`server.crt` lies beside the configuration; an absolute path is what it is."""
        config = understood(tmp_path, "tls_server_config: {cert_file: server.crt, key_file: /etc/ssl/server.key}").tls
        assert config
        assert config.cert.file == tmp_path / "server.crt"
        assert config.key.file == Path("/etc/ssl/server.key")

    def test_certificates_may_stand_in_the_file_itself(self, tmp_path: Path) -> None:
        """Inline texts are kept as they are, and never shown."""
        config = understood(
            tmp_path,
            """
            tls_server_config:
              cert: |
                CERTIFICATE
              key: |
                KEY
              client_ca: AUTHORITY
              client_auth_type: VerifyClientCertIfGiven
            """,
        ).tls
        assert config
        assert (config.cert.text, config.key.text) == ("CERTIFICATE\n", "KEY\n")
        assert config.client_ca == Pem(f"{tmp_path}/web.yml:7: tls_server_config.client_ca", text="AUTHORITY")
        assert "KEY\n" not in repr(config)

    def test_client_certificates_with_names(self, tmp_path: Path) -> None:
        """Policy, authority and the list of allowed names."""
        config = tls(tmp_path, f"{AUTHORITY}, client_allowed_sans: [prometheus.example.com, 10.0.0.1]")
        assert config.client_auth == "RequireAndVerifyClientCert"
        assert config.client_ca
        assert config.client_ca.file == tmp_path / "ca.crt"
        assert config.allowed_sans == ("prometheus.example.com", "10.0.0.1")

    def test_no_client_certificate(self, tmp_path: Path) -> None:
        """The policy that is the default may be written out."""
        config = tls(tmp_path, "client_auth_type: NoClientCert")
        assert config.client_auth == "NoClientCert"

    def test_all_ciphers_of_go(self, tmp_path: Path) -> None:
        """Every suite that Go calls secure has a name here, and those of TLS 1.3 need no place in the list."""
        config = tls(tmp_path, f"cipher_suites: [{', '.join([*CIPHERS_OF_TLS13, *CIPHERS])}]")
        assert config.ciphers == tuple(CIPHERS)
        assert config.min_version == "TLS12"

    def test_ciphers_of_tls13_alone_leave_tls13_alone(self, tmp_path: Path) -> None:
        """As in Go, where no suite remains for TLS 1.2."""
        config = tls(tmp_path, "cipher_suites: [TLS_AES_128_GCM_SHA256]")
        assert (config.ciphers, config.min_version) == ((), "TLS13")

    def test_one_cipher_as_a_text(self, tmp_path: Path) -> None:
        """A list of one may be written without brackets."""
        suite = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
        assert tls(tmp_path, f"cipher_suites: {suite}").ciphers == (suite,)

    @pytest.mark.parametrize("words", [("true", True), ("false", False), ("yes", True), ("Off", False)])
    def test_the_order_of_ciphers(self, tmp_path: Path, words: tuple[str, bool]) -> None:
        """YAML's words for true and false count."""
        assert tls(tmp_path, f"prefer_server_cipher_suites: {words[0]}").prefer_server_ciphers is words[1]

    @pytest.mark.parametrize("curve", CURVES)
    def test_a_curve(self, tmp_path: Path, curve: str) -> None:
        """Each of Go's curves alone."""
        assert tls(tmp_path, f"curve_preferences: [{curve}]").curve == curve

    @pytest.mark.parametrize("versions", [("TLS10", "TLS11"), ("TLS12", "TLS12"), ("TLS13", "TLS13")])
    def test_versions(self, tmp_path: Path, versions: tuple[str, str]) -> None:
        """The lowest and the highest version may be the same."""
        config = tls(tmp_path, f"min_version: {versions[0]}, max_version: {versions[1]}")
        assert (config.min_version, config.max_version) == versions

    @pytest.mark.parametrize("http2", ["true", "false"])
    def test_http2_may_be_on_or_off(self, tmp_path: Path, http2: str) -> None:
        """It says what may be used, and HTTP/1.1 always may."""
        assert understood(tmp_path, f"http_server_config: {{http2: {http2}}}") == WebConfig()

    def test_all_headers(self, tmp_path: Path) -> None:
        """The five headers that exporter-toolkit knows."""
        config = understood(
            tmp_path,
            """
            http_server_config:
              headers:
                Content-Security-Policy: default-src 'self'
                X-Frame-Options: deny
                X-Content-Type-Options: nosniff
                X-XSS-Protection: "1; mode=block"
                Strict-Transport-Security: max-age=31536000; includeSubDomains
            """,
        )
        assert set(config.headers) == set(HEADERS)
        assert config.headers["X-XSS-Protection"] == "1; mode=block"

    def test_a_header_may_be_a_number(self, tmp_path: Path) -> None:
        """As the one that switches browsers' filters off; exporter-toolkit takes it without quotes."""
        config = understood(tmp_path, "http_server_config: {headers: {X-XSS-Protection: 0}}")
        assert config.headers == {"X-XSS-Protection": "0"}

    def test_an_empty_header_is_not_set(self, tmp_path: Path) -> None:
        """Unset if blank, says exporter-toolkit."""
        config = understood(tmp_path, "http_server_config: {headers: {X-Frame-Options: '', X-XSS-Protection: ''}}")
        assert config.headers == {}

    @pytest.mark.parametrize("prefix", ["$2y$10$", "$2a$04$", "$2b$31$"])
    def test_users(self, tmp_path: Path, prefix: str) -> None:
        """Names of all kinds, and the hashes of all usual tools."""
        hashed = prefix + HASH[7:]
        config = understood(
            tmp_path, f"basic_auth_users: {{alice: {hashed}, 7.dots.: {hashed}, 'tls_server_config': {hashed}}}"
        )
        assert config.users == dict.fromkeys(["alice", "7.dots.", "tls_server_config"], hashed)
        assert hashed not in repr(config)

    @pytest.mark.parametrize(
        ("interval", "seconds"),
        [
            ("1s", 1),
            ("250ms", 0.25),
            ("1m30s", 90),
            ("1.5h", 5400),
            (".5s", 0.5),
            ("2.s", 2),
            ("10us", 1e-5),
            ("3µs", 3e-6),
        ],
    )
    def test_a_rate_limit(self, tmp_path: Path, interval: str, seconds: float) -> None:
        """Durations are Go's."""
        config = understood(tmp_path, f"rate_limit: {{interval: {interval}, burst: 20}}")
        assert config.rate_limit
        assert config.rate_limit.interval == pytest.approx(seconds)
        assert config.rate_limit.burst == 20

    @pytest.mark.parametrize("interval", ["0", "0s", "'0'"])
    @pytest.mark.parametrize("burst", ["0", "1"])
    def test_an_interval_of_zero_is_no_limit(self, tmp_path: Path, interval: str, burst: str) -> None:
        """Set to 0 to disable, says exporter-toolkit; both are 0 by default there."""
        assert understood(tmp_path, f"rate_limit: {{interval: {interval}, burst: {burst}}}") == WebConfig()

    def test_everything_together(self, tmp_path: Path) -> None:
        """All sections in one file."""
        config = understood(
            tmp_path,
            f"""
            tls_server_config:
              {PAIR.replace(", ", chr(10) + " " * 14)}
            basic_auth_users:
              prometheus: {HASH}
            rate_limit:
              interval: 1s
              burst: 5
            """,
        )
        assert config.tls
        assert config.users == {"prometheus": HASH}
        assert config.rate_limit == RateLimit(1.0, 5)


POLICY = "tls_server_config.client_auth_type"
BAD = [
    ("tls_server_config", ["web.yml:1: the file must be a mapping of keys, not a text (tls_server_config)"]),
    ("tls_server_config:\n", ["web.yml:1: tls_server_config must be a mapping of keys, not nothing"]),
    (
        "tls_server_config: {}\nbasic_auth_users: {}\n",
        ["web.yml:1: tls_server_config must not be empty", "web.yml:2: basic_auth_users must not be empty"],
    ),
    (
        "rate_limit: {}\nhttp_server_config: {headers: {}}\n",
        ["web.yml:1: rate_limit must not be empty", "web.yml:2: http_server_config.headers must not be empty"],
    ),
    ("basic_auth_users:\n", ["web.yml:1: basic_auth_users must be a mapping of keys, not nothing"]),
    ("tls_config: {}", ["web.yml:1: unknown key tls_config (did you mean tls_server_config?)"]),
    (
        f"tls_server_config: {{{PAIR}, certfile: x}}",
        ["web.yml:1: unknown key tls_server_config.certfile (did you mean tls_server_config.cert_file?)"],
    ),
    *(
        (f"rate_limit:\n  {text}", [f"web.yml:2: a text may not hold the character {name}"])
        for text, name in (('"\\0": 1', "U+0000"), ('burst: "\\ud800"', "U+D800"), ('? ["a\\uDFFF"]', "U+DFFF"))
    ),
    ("tls_server_config: {cert_file: a\n", ["web.yml:2: expected ',' or '}', but got '<stream end>'"]),
    (
        f"tls_server_config: {{{PAIR}}}\ntls_server_config: {{{PAIR}}}",
        ["web.yml:2: tls_server_config is there twice"],
    ),
    ("tls_server_config: {cert_file: a}", ["web.yml:1: tls_server_config needs key_file or key"]),
    ("tls_server_config: {key_file: a}", ["web.yml:1: tls_server_config needs cert_file or cert"]),
    ("tls_server_config: {cert: '', key_file: a}", ["web.yml:1: tls_server_config needs cert_file or cert"]),
    (
        "tls_server_config: {cert_file: '', key_file: ''}",
        ["web.yml:1: tls_server_config needs cert_file or cert", "web.yml:1: tls_server_config needs key_file or key"],
    ),
    (
        "tls_server_config:\n  min_version: TLS13\n",
        ["web.yml:2: tls_server_config needs cert_file or cert", "web.yml:2: tls_server_config needs key_file or key"],
    ),
    (
        f"tls_server_config: {{{PAIR}, cert: x}}",
        ["web.yml:1: tls_server_config.cert and tls_server_config.cert_file exclude each other"],
    ),
    (
        "tls_server_config: {cert_file: a, key: 12345}",
        ["web.yml:1: tls_server_config.key must be a text, not a whole number"],
    ),
    (
        f"tls_server_config: {{{PAIR}, client_ca_file: ca}}",
        [
            (
                "web.yml:1: tls_server_config.client_ca_file needs client_auth_type RequireAndVerifyClientCert: "
                "without, no client is asked"
            )
        ],
    ),
    (
        f"tls_server_config: {{{PAIR}, client_ca: ca, client_auth_type: NoClientCert}}",
        [
            (
                "web.yml:1: tls_server_config.client_ca needs client_auth_type RequireAndVerifyClientCert: "
                "without, no client is asked"
            )
        ],
    ),
    (
        f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerifyClientCert}}",
        [f"web.yml:1: {POLICY} RequireAndVerifyClientCert needs client_ca_file or client_ca"],
    ),
    (
        f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerify}}",
        [f"web.yml:1: {POLICY} cannot be 'RequireAndVerify' (did you mean RequireAndVerifyClientCert?)"],
    ),
    *(
        (
            f"tls_server_config: {{{PAIR}, client_ca_file: ca, client_auth_type: {policy}}}",
            [
                (
                    f"web.yml:1: {POLICY} {policy} is not possible: Python's ssl module verifies every certificate "
                    "that it takes (write RequireAndVerifyClientCert or VerifyClientCertIfGiven)"
                )
            ],
        )
        for policy in ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
    ),
    *(
        (
            f"tls_server_config: {{{PAIR}, {more}client_allowed_sans: [a]}}",
            [
                (
                    "web.yml:1: tls_server_config.client_allowed_sans needs client_auth_type "
                    "RequireAndVerifyClientCert: other clients may come without a certificate"
                )
            ],
        )
        for more in ("", "client_ca_file: ca, client_auth_type: VerifyClientCertIfGiven, ")
    ),
    (
        f"tls_server_config: {{{PAIR}, {AUTHORITY}, client_allowed_sans: []}}",
        ["web.yml:1: tls_server_config.client_allowed_sans must not be empty"],
    ),
    (
        f"tls_server_config: {{{PAIR}, min_version: TLS111}}",
        ["web.yml:1: tls_server_config.min_version cannot be 'TLS111' (did you mean TLS11?)"],
    ),
    (
        f"tls_server_config: {{{PAIR}, max_version: '1.3'}}",
        ["web.yml:1: tls_server_config.max_version cannot be '1.3' (one of TLS10, TLS11, TLS12, TLS13)"],
    ),
    (
        f"tls_server_config: {{{PAIR}, min_version: TLS13, max_version: TLS12}}",
        ["web.yml:1: tls_server_config.min_version leaves no version: min_version is TLS13, max_version TLS12"],
    ),
    (
        f"tls_server_config: {{{PAIR}, max_version: TLS11}}",
        ["web.yml:1: tls_server_config.max_version leaves no version: min_version is TLS12, max_version TLS11"],
    ),
    (
        f"tls_server_config: {{{PAIR}, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA257]}}",
        [
            (
                "web.yml:1: tls_server_config.cipher_suites cannot be 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA257' "
                "(did you mean TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256?)"
            )
        ],
    ),
    (
        f"tls_server_config: {{{PAIR}, cipher_suites: [1]}}",
        ["web.yml:1: tls_server_config.cipher_suites must be a text or a list of texts, not a whole number (1)"],
    ),
    (
        f"tls_server_config: {{{PAIR}, max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256]}}",
        ["web.yml:1: tls_server_config.cipher_suites names suites of TLS 1.3 only, and max_version is TLS12"],
    ),
    (
        f"tls_server_config: {{{PAIR}, curve_preferences: [CurveP257]}}",
        ["web.yml:1: tls_server_config.curve_preferences cannot be 'CurveP257' (did you mean CurveP256?)"],
    ),
    (
        f"tls_server_config: {{{PAIR}, curve_preferences: [X25519, CurveP256]}}",
        [
            (
                "web.yml:1: tls_server_config.curve_preferences may name one curve only: "
                "Python's ssl module cannot set several"
            )
        ],
    ),
    (
        f"tls_server_config: {{{PAIR}, prefer_server_cipher_suites: 1}}",
        ["web.yml:1: tls_server_config.prefer_server_cipher_suites must be true or false, not a whole number (1)"],
    ),
    (
        "http_server_config: {http2: maybe}",
        ["web.yml:1: http_server_config.http2 must be true or false, not a text (maybe)"],
    ),
    (
        "http_server_config: {headers: {X-Powered-By: x}}",
        [
            (
                "web.yml:1: unknown key http_server_config.headers.X-Powered-By "
                "(did you mean http_server_config.headers.X-Frame-Options?)"
            )
        ],
    ),
    (
        "http_server_config: {headers: {X-Frame-Options: allow}}",
        ["web.yml:1: http_server_config.headers.X-Frame-Options cannot be 'allow' (one of deny, sameorigin)"],
    ),
    (
        "http_server_config: {headers: {X-Content-Type-Options: sniff}}",
        ["web.yml:1: http_server_config.headers.X-Content-Type-Options cannot be 'sniff' (did you mean nosniff?)"],
    ),
    (
        'http_server_config: {headers: {X-XSS-Protection: "1\\r\\nSet-Cookie: x"}}',
        ["web.yml:1: http_server_config.headers.X-XSS-Protection may hold printable ASCII only"],
    ),
    (
        "basic_auth_users: {alice: secret}",
        ['web.yml:1: basic_auth_users.alice is not a bcrypt hash (htpasswd -nBC 10 "" makes one)'],
    ),
    (
        f"basic_auth_users: {{alice: '{HASH[:-1]}'}}",
        ['web.yml:1: basic_auth_users.alice is not a bcrypt hash (htpasswd -nBC 10 "" makes one)'],
    ),
    ("basic_auth_users: {alice: 123456}", ["web.yml:1: basic_auth_users.alice must be a text, not a whole number"]),
    ("basic_auth_users: [alice]", ["web.yml:1: basic_auth_users must be a mapping of keys, not a list"]),
    (
        f"basic_auth_users: {{'a:b': {HASH}}}",
        ["web.yml:1: basic_auth_users.a:b is no name that a client can send: it holds a colon"],
    ),
    (
        f"basic_auth_users:\n  alice: {HASH}\n  alice: {HASH}\n",
        ["web.yml:3: basic_auth_users.alice is there twice"],
    ),
    (
        "rate_limit: {interval: 1, burst: 1}",
        ["web.yml:1: rate_limit.interval is not a duration: '1' (write 1s, 1m30s or 250ms)"],
    ),
    (
        "rate_limit: {interval: -1s, burst: 1}",
        ["web.yml:1: rate_limit.interval is not a duration: '-1s' (write 1s, 1m30s or 250ms)"],
    ),
    ("rate_limit: {interval: 25h, burst: 1}", ["web.yml:1: rate_limit.interval must be 24h at most, not 25h"]),
    (
        "rate_limit: {interval: 1s}",
        ["web.yml:1: rate_limit.interval needs rate_limit.burst: how many requests may come at once"],
    ),
    (
        "rate_limit: {interval: 1s, burst: 0}",
        ["web.yml:1: rate_limit.burst must be from 1 to 1000000, not 0: nobody would get in"],
    ),
    (
        "rate_limit: {interval: 1s, burst: -5}",
        ["web.yml:1: rate_limit.burst must be a number from 1 to 1000000, not -5"],
    ),
    (
        "rate_limit: {interval: 1s, burst: 1.5}",
        ["web.yml:1: rate_limit.burst must be a whole number, not a number (1.5)"],
    ),
]


NAMES = ["tls_server_config", "cert_file", "key_file", "client_auth_type", "basic_auth_users", "rate_limit", "burst"]
NAMES += ["interval", "http_server_config", "headers", "X-Frame-Options", "cipher_suites"]
DOCUMENTS = st.recursive(
    st.text(max_size=8) | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
"""What YAML can hold, with keys that may mean something."""


class TestBad:
    @pytest.mark.parametrize(("text", "messages"), BAD)
    def test_every_mistake_is_told_with_file_line_and_key(self, tmp_path: Path, text: str, messages: list[str]) -> None:
        """What is written there is never without effect: it is understood, or named with what would be right."""
        assert mistakes(tmp_path, text) == messages

    def test_all_mistakes_are_told_at_once(self, tmp_path: Path) -> None:
        """One message per line, in every section."""
        text = """
        tls_server_config:
          cert_file: a
          key_file: b
          min_version: SSL3
        http_server_config:
          headers:
            X-Frame-Options: allow
        basic_auth_users:
          alice: secret
        rate_limit:
          interval: soon
          burst: 1
        """
        assert [line.split(" ")[:2] for line in mistakes(tmp_path, text)] == [
            ["web.yml:5:", "tls_server_config.min_version"],
            ["web.yml:8:", "http_server_config.headers.X-Frame-Options"],
            ["web.yml:10:", "basic_auth_users.alice"],
            ["web.yml:12:", "rate_limit.interval"],
        ]

    def test_a_missing_file(self, tmp_path: Path) -> None:
        """The path is in the message."""
        with pytest.raises(
            ConfigError, match=f"cannot read the web configuration file {tmp_path}/none.yml: No such file or directory"
        ):
            read(tmp_path / "none.yml")

    def test_no_message_holds_a_password(self, tmp_path: Path) -> None:
        """What stands where a hash or a key belongs may be a secret, and logs are read by many."""
        text = "basic_auth_users: {alice: hunter22}\ntls_server_config: {key: hunter23, cert: [hunter24]}"
        assert not [line for line in mistakes(tmp_path, text) if "hunter" in line]

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(DOCUMENTS)
    def test_any_document_is_understood_or_refused(self, tmp_path: Path, document: object) -> None:
        """Whatever YAML is there, the answer is a configuration or the one declared error."""
        path = tmp_path / "web.yml"
        path.write_text(yaml.safe_dump(document))
        with suppress(ConfigError):
            read(path)


PAGE = (Path(__file__).parents[2] / "docs" / "web-configuration.md").read_text()


def test_the_example_of_the_page_is_good(tmp_path: Path) -> None:
    """What people copy is understood as a whole."""
    config = understood(tmp_path, PAGE.partition("```yaml\n")[2].partition("```")[0])
    assert config.tls
    assert config.tls.allowed_sans == ("prometheus.example.com",)
    assert set(config.users) == {"prometheus"}
    assert config.rate_limit == RateLimit(0.1, 20)
    assert set(config.headers) == {"Strict-Transport-Security"}


def test_the_page_names_every_key() -> None:
    """Nothing can be configured that is not documented."""
    assert [name for name in KEYS if f"`{name.rpartition('.')[2].replace('*', 'basic_auth_users')}`" not in PAGE] == []
