"""Threads: every library in a process computes with as many as were asked for."""

import json
import subprocess
import sys

import pytest

LIBRARIES = """
import json, sys
import torch
from threadpoolctl import threadpool_info
from models.threads import use_threads
use_threads(int(sys.argv[1]))
print(json.dumps([torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())]))
"""


@pytest.mark.parametrize("count", [1, 2])
def test_every_library_computes_with_as_many_threads_as_are_asked_for(count: int) -> None:
    command = [sys.executable, "-c", LIBRARIES, str(count)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert len(found) > 3
    assert set(found) == {count}
