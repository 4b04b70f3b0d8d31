"""Targets: where Kafka and Redis are, parsed from their URLs into plain values for the client libraries."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import Secret, SecretStr

EMBEDDED: Final = "embedded://"

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]

_PROTOCOLS: Final[dict[str, SecurityProtocol]] = {
    "PLAINTEXT": "PLAINTEXT",
    "SSL": "SSL",
    "SASL_PLAINTEXT": "SASL_PLAINTEXT",
    "SASL_SSL": "SASL_SSL",
}
_AUTHORITY: Final = re.compile(r"(?<=://)[^/?#]*")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_KAFKA_OPTIONS: Final = ("security_protocol", "sasl_mechanism", "ssl_cafile", "ssl_certfile", "ssl_keyfile")
_REDIS_SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")


class Url(Secret[str]):
    """A URL that prints without its password; `get_secret_value()` is the whole of it."""

    def _display(self) -> str:
        return redacted(self.get_secret_value())


def redacted(url: str) -> str:
    """The URL with `***` for its password, also when the URL is not a good one."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        # it cannot be told what of it is secret
        return url if url.isidentifier() else "***"
    # by the last @, as a password put in without percent-encoding may hold @ or /
    authority, at, tail = rest.rpartition("@")
    if at:
        user, colon, _ = authority.partition(":")
        rest = f"{user}{colon}{'***' if colon else ''}@{tail}"
    base, question, query = rest.partition("?")
    if question:
        pairs = (
            f"{name}=***" if "password" in name.lower() else pair
            for pair in query.split("&")
            for name in [pair.partition("=")[0]]
        )
        base += "?" + "&".join(pairs)
    return f"{scheme}://{base}"


@dataclass(frozen=True)
class KafkaTarget:
    """A Kafka cluster and how to speak to it.

    Attributes:
        servers: `host:port` of each bootstrap server.
        ssl_cafile, ssl_certfile, ssl_keyfile: PEM files; without `ssl_cafile` the system's certificates are trusted.
    """

    servers: tuple[str, ...]
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: str | None = None
    username: str | None = None
    password: SecretStr | None = field(default=None)
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse `kafka://[user:password@]host[:port][,host[:port]]/[?option=value&…]`.

        With a user the protocol is SASL_SSL and the mechanism PLAIN, with a certificate it is SSL, unless the URL
        says otherwise.

        Raises:
            ValueError: the URL is not of that form; the message holds no password.
        """
        # Python's later patches refuse a list of hosts with an address in brackets among them
        authority = _AUTHORITY.search(url)
        parts = _split(_AUTHORITY.sub("hosts", url, count=1))
        if parts.scheme != "kafka":
            raise ValueError("need kafka://host:port[,host:port] or embedded://")
        if parts.path not in ("", "/"):
            raise ValueError(
                f"a Kafka URL has no path, but this one has {parts.path!r} (topics: MILLSTREAM_TOPIC_PREFIX)"
            )
        login, _, hosts = (authority.group() if authority else "").rpartition("@")
        servers = tuple(_server(host) for host in hosts.split(","))
        user, colon, password = login.partition(":")
        if bool(user) != bool(colon and password):
            raise ValueError("credentials need both a user and a password: kafka://user:password@host:port")
        options = _options(parts.query)
        has_files = any(name.startswith("ssl_") for name in options)
        usual = "SASL_SSL" if user else "SSL" if has_files else "PLAINTEXT"
        protocol = _PROTOCOLS.get(options.get("security_protocol", usual))
        if protocol is None:
            raise ValueError(
                f"security_protocol {options['security_protocol']!r} is not one of {', '.join(_PROTOCOLS)}"
            )
        if bool(user) != protocol.startswith("SASL_"):
            need = "needs user:password@ before the host" if not user else "takes no user and password; use SASL_SSL"
            raise ValueError(f"security_protocol {protocol} {need}")
        if has_files and not protocol.endswith("SSL"):
            raise ValueError(f"security_protocol {protocol} uses no ssl_ files; use SSL or SASL_SSL")
        mechanism = options.get("sasl_mechanism", "PLAIN" if user else None)
        if mechanism is not None and (mechanism not in _MECHANISMS or not user):
            raise ValueError(f"sasl_mechanism needs user:password@ and one of {', '.join(_MECHANISMS)}")
        files = {name: Path(options[name]).expanduser() for name in options if name.startswith("ssl_")}
        if "ssl_keyfile" in files and "ssl_certfile" not in files:
            raise ValueError("ssl_keyfile needs ssl_certfile beside it")
        return cls(
            servers,
            protocol,
            mechanism,
            unquote(user) or None,
            SecretStr(unquote(password)) if password else None,
            **files,
        )

    @property
    def display(self) -> str:
        """The servers, for people: no credentials."""
        return "kafka://" + ",".join(self.servers)

    def faust_urls(self) -> list[str]:
        """For Faust's `broker` setting."""
        return [f"kafka://{server}" for server in self.servers]

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS settings, or None for a protocol without TLS.

        Raises:
            OSError: a certificate or key file is missing, or is not what it should be.
        """
        if not self.security_protocol.endswith("SSL"):
            return None
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            path: Path | None = getattr(self, name)
            if path is not None and not path.is_file():
                raise FileNotFoundError(f"the broker URL's {name} {path} is not a file")
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            if self.ssl_certfile:
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        except ssl.SSLError as error:
            files = [str(path) for path in (self.ssl_cafile, self.ssl_certfile, self.ssl_keyfile) if path]
            raise OSError(f"the broker URL's TLS files ({', '.join(files)}) cannot be used: {error}") from None
        return context

    def aiokafka_options(self) -> dict[str, Any]:
        """Keyword arguments for aiokafka's clients."""
        options: dict[str, Any] = {"bootstrap_servers": list(self.servers), "security_protocol": self.security_protocol}
        context = self.ssl_context()
        if context is not None:
            options["ssl_context"] = context
        if self.username is not None and self.password is not None:
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password.get_secret_value()
        return options

    def kafka_python_options(self) -> dict[str, Any]:
        """Keyword arguments for kafka-python's clients, which go by the names of aiokafka's."""
        return self.aiokafka_options()

    def consumer_options(self) -> dict[str, Any]:
        """Keyword arguments for the consumers of both libraries that read without a group.

        They see committed transactions only: an event of an aborted one never happened.
        """
        return self.aiokafka_options() | {"enable_auto_commit": False, "isolation_level": "read_committed"}


@dataclass(frozen=True)
class RedisTarget:
    """A Redis: one server, or a cluster known by one of its nodes.

    Attributes:
        url: for `redis.from_url`, or `redis.cluster.RedisCluster.from_url` where `cluster` is set.
    """

    url: Url
    cluster: bool = False

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse `redis://`, `rediss://`, `redis+cluster://`, `rediss+cluster://` or `unix://`.

        Raises:
            ValueError: the URL is not of that form; the message holds no password.
        """
        parts = _split(url)
        if parts.scheme not in _REDIS_SCHEMES:
            raise ValueError(f"need embedded:// or one of {', '.join(name + '://' for name in _REDIS_SCHEMES)}")
        if parts.scheme == "unix":
            if not parts.path.strip("/"):
                raise ValueError("need the socket's path: unix:///run/redis.sock")
            return cls(Url(url))
        _server(parts.netloc.rpartition("@")[2], default_port=6379)
        base, plus, _ = parts.scheme.partition("+")
        database = parts.path.strip("/")
        if database and not database.isdigit():
            raise ValueError(f"the path of a Redis URL is the database's number, not {database!r}")
        if plus and database not in ("", "0"):
            raise ValueError(f"a Redis Cluster has database 0 only, not {database}")
        return cls(Url(parts._replace(scheme=base).geturl()), bool(plus))

    @property
    def display(self) -> str:
        """The URL, for people: no password."""
        return str(self.url)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        # urllib's message may quote the netloc, and with it a password
        raise ValueError("not a URL: its host part cannot be read") from None
    if "@" in parts.path + parts.query + parts.fragment:
        # the split went through the middle of a password
        raise ValueError("a password with one of / ? # @ : has to be percent-encoded (%2F %3F %23 %40 %3A)")
    return parts


def _server(text: str, *, default_port: int = 9092) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or (not bracketed and any(mark in host for mark in ":[]")):
        raise ValueError(f"{text!r} is not a host:port (an IPv6 address goes in brackets: [::1]:{default_port})")
    if not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"{text!r}: the port must be a number from 1 to 65535")
    return f"{host}:{port}"


def _options(query: str) -> Mapping[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(options) - set(_KAFKA_OPTIONS))
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r}; known are {', '.join(_KAFKA_OPTIONS)}")
    return options
