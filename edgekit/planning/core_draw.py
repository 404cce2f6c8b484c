"""How much memory bandwidth a processor's cores can draw. On a chip whose memory was chosen for its graphics, that is
much less than the memory delivers.

A profile states it by cluster (``cpu.clusters.draw_gb_s``). Designs whose limit is known have it here.
"""

from __future__ import annotations

import math
import re

from ..devices.profile import Cluster, Cpu

# Groups of cores that share a port to memory: a pattern of the cluster's name, cores in a group, GB/s that a group
# reads. Cortex-A78AE: one core of an Orin copies 6.3 to 6.7 GB/s (ggml-org/whisper.cpp#89, ThomasKaiser/sbc-bench#65),
# a group of four reads about 15. Zen: a die of eight cores has a port of 32 bytes per cycle of the fabric, which runs
# at 2 GHz where the memory is fast enough for this to matter.
_GROUPS = ((re.compile(r"Cortex-A78AE"), 4, 15.0), (re.compile(r"\bZen ?[2-5]\b"), 8, 64.0))
# What is drawn is measured, and efficiencies relate to specifications, of which a processor reads about this share.
READ_SHARE = 0.8


def draw_gb_s(cpu: Cpu) -> float | None:
    """What all cores together read from memory; None where a cluster's limit is unknown."""
    found = [_cluster_draw(cluster) for cluster in cpu.clusters]
    known = [draw for draw in found if draw is not None]
    return sum(known) if known and len(known) == len(found) else None


def drawn_bandwidth(theoretical_gb_s: float, draw: float | None) -> float:
    """The specification that limits the cores: the memory's, or that of a memory that their draw would exhaust."""
    return theoretical_gb_s if draw is None else min(theoretical_gb_s, draw / READ_SHARE)


def _cluster_draw(cluster: Cluster) -> float | None:
    if cluster.draw_gb_s is not None:
        return cluster.draw_gb_s.value
    for design, cores, gb_s in _GROUPS:
        if design.search(cluster.name):
            return math.ceil(cluster.cores.value / cores) * gb_s
    return None
