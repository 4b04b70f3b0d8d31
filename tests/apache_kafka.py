"""One node of Apache Kafka for the tests: broker and controller in one process, on loopback, in a folder of its own."""

import os
import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from kafka.admin import KafkaAdminClient

from deploy.child import Child
from tests.waiting import wait_until

#: Names the folder that holds Kafka's `libs`; the tests then use a node of it as their broker.
HOME_VARIABLE: Final = "MILLSTREAM_TEST_KAFKA_HOME"
NEEDED: Final = (
    f"needs Apache Kafka: run `make test-kafka KAFKA_HOME=DIR`, or set {HOME_VARIABLE}=DIR; "
    "DIR is a folder with Kafka's libs/, and java must be on PATH"
)
_HOST: Final = "127.0.0.1"
_JVM: Final = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_PROPERTIES: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    # a single node cannot replicate
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # few partitions and threads: the tests share two cores with this node
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "1",
    "num.network.threads": "2",
    "num.io.threads": "2",
    # a group of one member need not wait for others
    "group.initial.rebalance.delay.ms": "0",
}


class ApacheKafka:
    """A node that starts from `home`, a folder with Kafka's `libs`, and keeps its data in `folder`.

    A node that was stopped or killed starts again on the same ports with its data.

    Attributes:
        url: what `broker_url` in the settings takes.
        server: the same as host:port.
        log_dir: holds a folder for each partition, named `topic-partition`, with its segment files.
    """

    def __init__(self, home: Path, folder: Path, properties: dict[str, str] | None = None) -> None:
        """Prepare a node; `properties` are added to those of every node, or replace them.

        Raises:
            FileNotFoundError: `home` has no Kafka, or there is no Java.
        """
        libs = home.resolve() / "libs"
        if not any(libs.glob("kafka-server-*.jar")):
            raise FileNotFoundError(f"{libs} holds no Kafka (kafka-server-*.jar); {HOME_VARIABLE} names its parent")
        java = shutil.which("java")
        if java is None:
            raise FileNotFoundError("Apache Kafka runs on Java 17 or newer, and there is no java on PATH")
        self._java = [java, *_JVM, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{libs}/*"]
        self._folder = folder.resolve()
        self._child: Child | None = None
        self.log_dir = self._folder / "data"
        port, controller = _free_ports(2)
        self.server = f"{_HOST}:{port}"
        self.url = f"kafka://{self.server}"
        listeners = {
            "listeners": f"PLAINTEXT://{self.server},CONTROLLER://{_HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.server}",
            "controller.quorum.voters": f"1@{_HOST}:{controller}",
            "log.dirs": str(self.log_dir),
        }
        lines = [f"{name}={value}\n" for name, value in (_PROPERTIES | listeners | (properties or {})).items()]
        self._properties = self._folder / "server.properties"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._properties.write_text("".join(lines))

    def start(self) -> "ApacheKafka":
        """Start the node and wait until it answers; the first start formats its storage.

        Raises:
            RuntimeError: the storage cannot be formatted, or the node ends; with its last lines.
        """
        if not self.log_dir.exists():
            tool = ["kafka.tools.StorageTool", "format", "--cluster-id", "millstream-tests-000000"]
            format_ = [*self._java, *tool, "--config", str(self._properties)]
            done = subprocess.run(format_, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"Kafka's storage cannot be formatted:\n{done.stdout}")
        # a child dies with its parent, so that a test run that is killed leaves no node behind
        argv = [*self._java, "kafka.Kafka", str(self._properties)]
        self._child = Child("Apache Kafka", argv, log_file=self._folder / "kafka.log")
        wait_until(self._listens, "Apache Kafka's start")
        KafkaAdminClient(bootstrap_servers=self.server, bootstrap_timeout_ms=60_000).close()
        return self

    def _listens(self) -> bool:
        assert self._child is not None
        if not self._child.running:
            raise RuntimeError(self._child.describe_exit())
        try:
            socket.create_connection(self.server.split(":")).close()  # type: ignore[arg-type]
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End the node in order."""
        if self._child is not None:
            self._child.stop(grace_s=30.0)
            self._child = None

    def kill(self) -> None:
        """End the node at once, as a crash does."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def __enter__(self) -> "ApacheKafka":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def home() -> Path | None:
    """The folder that the environment names, or None."""
    named = os.environ.get(HOME_VARIABLE)
    return Path(named) if named else None


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        # all are bound at once, so that no two are the same
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((_HOST, 0))
        return [int(probe.getsockname()[1]) for probe in sockets]
