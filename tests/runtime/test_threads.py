"""The rules are tested where they stand, in tests/native/topology_test.cpp."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgekit.runtime.threads import physical_cores


def test_this_machine_has_cores() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
def test_the_affinity_mask_is_respected() -> None:
    only = min(os.sched_getaffinity(0))
    program = (
        f"import os; os.sched_setaffinity(0, [{only}]);"
        "from edgekit.runtime.threads import physical_cores; print(physical_cores())"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"
