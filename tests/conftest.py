"""Real servers for the tests: those named by MILLSTREAM_TEST_BROKER and MILLSTREAM_TEST_REDIS, else embedded ones.

With MILLSTREAM_TEST_KAFKA_HOME the broker is a node of Apache Kafka that this run starts and ends.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from deploy.embedded import Embedded
from streams.settings.settings import Settings
from tests import apache_kafka as kafka_node
from tests.apache_kafka import ApacheKafka

# tests run side by side, one for each core; this is read when torch and numpy are loaded, here and in child processes
os.environ["OMP_NUM_THREADS"] = "1"

MakeSettings = Callable[..., Settings]

# how long an example takes says more of what else the machine does than of the code
hypothesis.settings.register_profile("steady", deadline=None)
hypothesis.settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    """Start the node that all processes of this run share: xdist's workers inherit its address."""
    home = kafka_node.home()
    if home is None or hasattr(config, "workerinput"):
        return
    folder = Path(tempfile.mkdtemp(prefix="millstream-kafka-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    try:
        node = ApacheKafka(home, folder)
        config.add_cleanup(node.stop)
        os.environ["MILLSTREAM_TEST_BROKER"] = node.start().url
    except (OSError, RuntimeError) as error:
        raise pytest.UsageError(str(error)) from None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests whose servers may be any broker; those of the embedded broker start one by themselves."""
    for item in items:
        if "servers" in getattr(item, "fixturenames", ()):
            item.add_marker("broker")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URLs of a broker and a Redis, shared by all tests; each test has topics and keys under its own prefix."""
    broker = os.environ.get("MILLSTREAM_TEST_BROKER")
    redis = os.environ.get("MILLSTREAM_TEST_REDIS")
    with Embedded(tmp_path_factory.mktemp("servers"), broker=not broker, redis=not redis) as started:
        yield broker or str(started.broker_url), redis or str(started.redis_url)


@pytest.fixture(scope="session")
def kafka_home() -> Path:
    """A folder with Kafka's `libs`, for a test that starts a node of its own; the test is skipped without one."""
    home = kafka_node.home()
    if home is None:
        pytest.skip(kafka_node.NEEDED)
    return home


@pytest.fixture(scope="session")
def apache_kafka(kafka_home: Path, servers: tuple[str, str]) -> str:  # noqa: ARG001 - it skips the test
    """The URL of Apache Kafka, for a test of what the embedded broker does not do; skipped where there is none.

    It is the broker of `servers` and `make_settings`.
    """
    return servers[0]


@pytest.fixture
def make_settings(servers: tuple[str, str], tmp_path: Path) -> MakeSettings:
    """Makes settings on the servers, under a topic prefix of the test's own."""
    prefix = f"test-{uuid.uuid4().hex[:10]}."

    def make(**given: object) -> Settings:
        defaults = {
            "broker_url": servers[0],
            "redis_url": servers[1],
            "data_dir": tmp_path,
            "topic_prefix": prefix,
            "partitions": 2,
        }
        return Settings(**(defaults | given))  # type: ignore[arg-type]

    return make
