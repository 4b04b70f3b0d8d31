"""Prints each list as it is published: `python docs/examples/follow.py kafka://localhost:9092`; Ctrl-C ends it."""

import sys

from serving.client import follow

try:
    for made in follow(sys.argv[1] if len(sys.argv) > 1 else "kafka://localhost:9092"):
        after = f" after event {made.cause.event_id}" if made.cause else ""
        print(f"{made.user_id}, list {made.seq}{after}, by model {made.model}:", flush=True)
        for place in made.items:
            print(f"    {place.item_id:12} {place.score:.3f}  {place.reason}", flush=True)
except KeyboardInterrupt:
    pass
