"""Real servers for the tests: those named by MILLSTREAM_TEST_BROKER and MILLSTREAM_TEST_REDIS, else embedded ones."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from deploy.embedded import Embedded
from streams.settings import Settings

# tests run side by side, one for each core; this is read when torch and numpy are loaded, here and in child processes
os.environ["OMP_NUM_THREADS"] = "1"

MakeSettings = Callable[..., Settings]

# how long an example takes says more of what else the machine does than of the code
hypothesis.settings.register_profile("steady", deadline=None)
hypothesis.settings.load_profile("steady")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URLs of a broker and a Redis, shared by all tests; each test has topics and keys under its own prefix."""
    broker = os.environ.get("MILLSTREAM_TEST_BROKER")
    redis = os.environ.get("MILLSTREAM_TEST_REDIS")
    with Embedded(tmp_path_factory.mktemp("servers"), broker=not broker, redis=not redis) as started:
        yield broker or str(started.broker_url), redis or str(started.redis_url)


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
