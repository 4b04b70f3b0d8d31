"""The OpenAPI document of the HTTP API: `python -m serving.api.document [FILE]` writes it, to docs/openapi.json."""

import json
import sys
from pathlib import Path

from serving.api.app import make_api
from streams.settings.endpoints import Url
from streams.settings.settings import Settings


def document() -> str:
    """The document as JSON, the same wherever it is made."""
    # nothing is connected to: the app only describes itself
    settings = Settings(broker_url=Url("kafka://localhost:9092"), redis_url=Url("redis://localhost:6379"))
    described = make_api(settings).openapi()
    described["info"]["version"] = "1"
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/openapi.json").write_text(document())
