"""Describes three films and sends what two people did with them. Run it beside `millstream up`:

python docs/examples/produce.py kafka://localhost:9092     (`millstream up` prints the broker's address)
"""

import sys

from serving.client import Producer, now_ms
from streams.contract.events import Event, ItemRecord

FILMS = {"film-1": ("The Slow Train", "Drama"), "film-2": ("Faster", "Action"), "film-3": ("Platform 9", "Drama")}

with Producer(sys.argv[1] if len(sys.argv) > 1 else "kafka://localhost:9092") as producer:
    for item_id, (title, genre) in FILMS.items():
        producer.put_item(ItemRecord(item_id=item_id, title=title, categorical={"genre": [genre]}))
    producer.send(Event(type="like", user_id="ann", item_id="film-1", ts=now_ms()))
    producer.send(
        Event(type="watch", user_id="ben", item_id="film-3", ts=now_ms(), watch_s=5_100.0, duration_s=5_400.0)
    )
print("sent: 3 films, 2 events")
