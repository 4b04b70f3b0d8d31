"""A simulated world to run the system on: people, a catalogue, and what people do with the lists that they are shown.

It is known here what everybody would like, so that it can be told how good a list was against the best possible one.
"""

from streams.simulator.profiles import PROFILES, WorldConfig
from streams.simulator.world import Coming, Shown, World

__all__ = ["PROFILES", "Coming", "Shown", "World", "WorldConfig"]
