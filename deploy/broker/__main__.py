"""The command line: `python -m deploy.broker --port 9092 --data DIR` until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path

from deploy.broker.server import HOST, FolderInUse, running


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.broker",
        description="A small single-node Kafka broker for one machine. Any Kafka client can use it.",
        epilog="It keeps topics, records and committed offsets in DIR and goes on there when it is started again. "
        f"It listens on {HOST} alone, without passwords or encryption, and knows no transactions and no replicas. "
        "SIGTERM or Ctrl-C ends it; what it has acknowledged survives its being killed, too.",
    )
    parser.add_argument("--port", type=int, default=9092, help="where to listen; 0 takes a free one (default: 9092)")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="where to keep everything")
    parser.add_argument("--verbose", action="store_true", help="log what was wrong with each refused request in full")
    return parser


async def _serve(folder: Path, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with running(folder, port) as bound:
        logging.getLogger(__name__).info("listening on %s:%d, keeping everything in %s", HOST, bound, folder)
        # what lives now lives for good: collecting it again and again would only make requests wait
        gc.freeze()
        await stopped.wait()


def main() -> None:
    """Run the broker."""
    given = _parser().parse_args()
    logging.basicConfig(
        level=logging.DEBUG if given.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("kafka").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    try:
        asyncio.run(_serve(given.data, given.port))
    except (FolderInUse, OSError) as error:
        sys.exit(f"the broker cannot run: {error}")


if __name__ == "__main__":
    main()
