"""Asks the HTTP API all that its OpenAPI document allows, and much that it does not, and holds the answers against it.

    python -m benchmarks.fuzz [--examples 50]      (`make fuzz` installs what it needs and runs it)

The whole system runs beside it. Schemathesis makes the requests up; exit status 1 when an answer is a server error or
is not what the document says.
"""

import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from serving.api.access import digest
from serving.cli.up import System, roles
from streams.settings.settings import ApiSettings, IngestSettings, Settings

_PORT = 18_082
#: Server-sent events have no end.
_ENDLESS = "/v1/stream"
#: An item that is deleted is withdrawn from lists, and still known: what is like it can be asked.
_NOT_HELD = "use_after_free"


@click.command()
@click.option("--examples", default=50, show_default=True, help="Requests made up for each operation and phase.")
@click.option("--seed", default=1, show_default=True, help="What they are drawn by.")
def main(examples: int, seed: int) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        token = secrets.token_hex()
        api = ApiSettings(port=_PORT, rate_per_s=1e6, burst=1_000_000, tokens={digest(token): ("admin",)})
        # no schema can say which times lie in the future
        ingest = IngestSettings(max_future_s=1e15)
        settings = Settings(data_dir=Path(folder), partitions=1, log_level="WARNING", api=api, ingest=ingest)
        with System(settings, processes=roles(1, api=True)):
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "schemathesis.cli", "run"),
                    f"http://127.0.0.1:{_PORT}/openapi.json",
                    *(
                        "--exclude-path",
                        _ENDLESS,
                        "--checks",
                        "all",
                        "--exclude-checks",
                        _NOT_HELD,
                        "--wait-for-schema",
                        "60",
                    ),
                    *("--header", f"Authorization: Bearer {token}"),
                    *("--max-examples", str(examples), "--seed", str(seed)),
                ],
                check=False,
            )
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
