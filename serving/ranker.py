"""The model in service: an artefact's rows, the catalogue's numbers and the live trends, brought together to rank users."""

import numpy as np
import numpy.typing as npt

from models.features import hash_tokens, profile_tokens
from models.popularity import Popularity
from models.recommender import Ranking, Recommender
from models.users import UserBatch
from streams.catalogue import Catalogue, decode_profile, segments_of
from streams.settings import Settings
from streams.state import UserState
from streams.trends import EVERYONE, Floats, Trends

#: A segment's own trends are used for users without history once they rest on this many decayed positives.
SEGMENT_SUPPORT = 50.0


class Ranker:
    """Ranks users with one version of the model; made anew for each version."""

    def __init__(self, model: Recommender, catalogue: Catalogue, trends: Trends, settings: Settings) -> None:
        self.model = model
        self._catalogue = catalogue
        self._settings = settings
        self._rows: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._numbers: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._allowed: npt.NDArray[np.bool_] = np.zeros(0, bool)
        self._popularity: dict[str, Popularity] = {}
        self.take_items(range(len(catalogue)))
        self.take_trends(trends.all())
