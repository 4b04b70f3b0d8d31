"""The Faust apps: one way to make them out of the settings, and to run one until it is told to stop."""

import logging
import sys
from typing import Any

import faust
from faust.types.auth import CredentialsT

from streams.kafka.batching import BatchApp
from streams.settings.settings import Settings

log = logging.getLogger(__name__)


def make_app(settings: Settings, role: str, *, gather_ms: int = 0) -> BatchApp:
    """An app of that role, which is also the name of its consumer group (under the topic prefix).

    Args:
        gather_ms: see `BatchApp`.
    """
    kafka = settings.kafka
    datadir = settings.data_dir / "faust"  # Faust wants one even without tables
    datadir.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        "broker": kafka.faust_urls(),
        "broker_credentials": _credentials(settings),
        "broker_session_timeout": 6.0,
        "broker_heartbeat_interval": 1.0,
        "broker_commit_interval": 0.25,
        "broker_max_poll_records": 20_000,
        "processing_guarantee": "at_least_once",
        # an agent that raises ends the process: a restart resumes from the last commit, a restarted agent would not
        "agent_supervisor": "mode.CrashingSupervisor",
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "web_enabled": False,
        "store": "memory://",
        "stream_wait_empty": False,
        "stream_buffer_maxsize": 8,
        "producer_linger": 0.002,
        "producer_max_batch_size": 256 * 1024,  # of lists that have kilobytes; many small requests cost more
        "producer_acks": -1,
        "consumer_auto_offset_reset": "earliest",
        "datadir": datadir,
    }
    return BatchApp(
        f"{settings.topic_prefix}millstream-{role}",
        batch_max=settings.ingest.batch_max,
        gather_ms=gather_ms,
        **options,
    )


def _credentials(settings: Settings) -> CredentialsT | None:
    kafka = settings.kafka
    context = kafka.ssl_context()
    if kafka.username is not None and kafka.password is not None:
        return faust.SASLCredentials(
            username=kafka.username,
            password=kafka.password.get_secret_value(),
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context is not None else None


class _Worker(faust.Worker):
    def _setup_logging(self) -> None:
        """Leave logging as the command line has set it up."""


def run(app: BatchApp) -> None:
    """Run the app until SIGINT or SIGTERM, then stop it cleanly; a crash leaves with its exception and status 1."""
    worker = _Worker(app, quiet=True, redirect_stdouts=False)
    try:
        worker.execute_from_commandline()
    except SystemExit as done:
        if done.code:
            raise
    except Exception:
        log.exception("the %s crashed", app.conf.id)
        sys.exit(1)
