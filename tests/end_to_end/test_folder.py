"""`millstream up` in a folder that has packages of our names, and the team's own pipeline component."""

import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import msgspec
from kafka import KafkaProducer

from streams.contract.events import Event, encode
from streams.contract.topics import TopicNames
from streams.settings.pipeline import PipelineSettings
from streams.settings.settings import ApiSettings
from tests.end_to_end.conftest import system_settings
from tests.waiting import wait_until

#: What the script `millstream` does that pip installs: the folder it is run in is not among those searched.
SCRIPT = "import sys; from serving.cli.main import main; sys.argv[0] = 'millstream'; sys.exit(main())"
NOW = 1_700_000_000_000
TEAM = """
from serving.pipeline.filters import Filter

class NoI0(Filter):
    name = "no_i0"

    def removes(self, query, users, items):
        return items == query.model.row_of("i0")
"""


def test_up_works_where_folders_have_the_names_of_our_packages(servers: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "project"
    for package in ("deploy", "models", "serving", "streams"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(f"raise ImportError('the {package} of the folder')\n")
    (folder / "numpy.py").write_text("raise ImportError('the numpy of the folder')\n")
    (folder / "my_team.py").write_text(TEAM)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    filters = (*PipelineSettings().filters, "my_team:NoI0")
    settings = system_settings(
        servers, tmp_path / "data", api=ApiSettings(port=port), pipeline=PipelineSettings(filters=filters)
    )
    url = f"http://127.0.0.1:{port}"

    def ready() -> dict[str, object]:
        try:
            answer = httpx2.get(f"{url}/readyz")
        except httpx2.TransportError:
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}

    said = tmp_path / "said"
    with said.open("wb") as log:
        up = subprocess.Popen(
            [sys.executable, "-P", "-c", SCRIPT, "up"],
            cwd=folder, env=settings.environment(), stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_until(lambda: ready() or up.poll() is not None, "the API is ready", within_s=90)
        producer = KafkaProducer(**settings.kafka.kafka_python_options())
        for at in range(1500):  # each user likes the 20 items of one half, one after another: more than trending knows
            user, step = at % 75, at // 75
            item = 20 * (user % 2) + (7 * step + user) % 20
            event = Event(type="like", user_id=f"u{user}", item_id=f"i{item}", ts=NOW + 1000 * at)
            producer.send(
                TopicNames.under(settings.topic_prefix).events, key=event.user_id.encode(), value=encode(event)
            )
        producer.close()
        wait_until(lambda: str(ready().get("model", "")).startswith("v"), "a model was trained", within_s=120)
        found = msgspec.json.decode(httpx2.get(f"{url}/v1/users/new/recommendations?n=40").content)
        assert len(found["items"]) == 39 and "i0" not in {place["item_id"] for place in found["items"]}
    finally:
        up.terminate()
        up.wait(60)
    assert "of the folder" not in said.read_text() and "starting" not in said.read_text(), said.read_text()[-4000:]
