"""Threads: every library in a process computes with as many as were asked for, whichever thread calls it."""

import json
import subprocess
import sys

import pytest

LIBRARIES = """
import json, sys, threading
import numpy
from models.networks.threads import use_threads
use_threads(int(sys.argv[1]))
import faiss, torch
from threadpoolctl import threadpool_info

found = []

def look():
    found.extend([torch.get_num_threads(), faiss.omp_get_max_threads()])
    found.extend(pool["num_threads"] for pool in threadpool_info())

look()
other = threading.Thread(target=look)
other.start()
other.join()
print(json.dumps(found))
"""


@pytest.mark.parametrize("count", [1, 3])
def test_every_library_computes_with_as_many_threads_as_are_asked_for(count: int) -> None:
    command = [sys.executable, "-c", LIBRARIES, str(count)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert len(found) > 8
    assert set(found) == {count}
