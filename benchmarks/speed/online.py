"""What counting costs: `python -m benchmarks.speed.online` counts lists and events in this process, without Kafka."""

import random
import resource
import time

from serving.online.tally import Tally
from streams.contract.events import Event, ItemRecord, ListItem, Recommendations, decode_event, encode
from streams.settings.endpoints import Url
from streams.settings.online import ArmSettings, ExperimentSettings, ExperimentsSettings
from streams.settings.settings import Settings
from streams.state.item_catalogue import Catalogue
from streams.state.store import Store

USERS, ITEMS, EVENTS = 20_000, 5_000, 200_000
START = 1_750_000_000_000


def main() -> None:
    draw = random.Random(1)
    arms = (ArmSettings(name="a", share=0.5), ArmSettings(name="b", share=0.5))
    settings = Settings(
        broker_url=Url("kafka://localhost:9092"),
        redis_url=Url("redis://localhost:6379"),
        experiments=ExperimentsSettings(running=(ExperimentSettings(name="mix", arms=arms),)),
    )
    catalogue = Catalogue(Store(settings))
    catalogue._add(0, [f"item-{n}" for n in range(ITEMS)])
    for n in range(ITEMS):
        catalogue._set(n, ItemRecord(item_id=f"item-{n}", categorical={"genre": [f"genre-{n % 12}"]}))
    tally = Tally(settings, catalogue)
    lists, events = [], []
    for n in range(EVENTS // 2):
        user, ts = f"user-{draw.randrange(USERS)}", START + n * 200
        places = [
            ListItem(item_id=f"item-{draw.randrange(ITEMS)}", score=1.0, sources=["sequence", "trending"], reason="")
            for _ in range(20)
        ]
        made = Recommendations(
            rec_id=f"{n:032x}", user_id=user, seq=n, items=places, model="v1", index="flat", generated_at=ts
        )
        lists.append((made, ts))
        for kind in ("impression", "click"):
            event = Event(
                type=kind,
                user_id=user,
                ts=ts,
                item_id=places[3].item_id,
                rec_id=made.rec_id,
                position=3,
                context={"device": "tv", "country": "KR"},
            )
            events.append((encode(event), ts))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {"lists": 0.0, "events": 0.0}
    for at, (made, ts) in enumerate(lists):
        began = time.process_time()
        tally.take_list(made, ts)
        middle = time.process_time()
        for raw, arrived in events[2 * at : 2 * at + 2]:
            tally.take_event(decode_event(raw), arrived)
        seconds["lists"] += middle - began
        seconds["events"] += time.process_time() - middle
    for name, count in (("lists", len(lists)), ("events", len(events))):
        print(f"{name:7} {count / seconds[name]:>9,.0f} a second, {seconds[name] / count * 1e6:.1f} us each")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"memory  {grown:,.0f} MiB for {USERS:,} users and {len(lists):,} lists")
    began = time.process_time()
    for dimension in tally.windows.dimensions:
        tally.breakdown(dimension)
    tally.drift()
    print(f"reading {(time.process_time() - began) * 1e3:.0f} ms for every breakdown of all windows, and drift")


if __name__ == "__main__":
    main()
