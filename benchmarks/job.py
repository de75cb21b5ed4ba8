"""One measurement in a process of its own: python benchmarks/job.py JOB TOOL SOURCE TARGET -> a line of JSON.

seconds: load + rewrite + save, by the wall; no import is in it.
peak:    bytes of memory, the most this process ever held (ru_maxrss), the imports included.
right:   whether the saved file has the op counts that the job asks for; read after the two others are known.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from tools import JOBS, expected

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> None:
    name, tool, source, target = sys.argv[1:]
    job = JOBS[name][tool]()
    start = time.perf_counter()
    job(Path(source), Path(target))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT
    right = op_counts(target) == expected(name, tool, op_counts(source))
    print(json.dumps({"seconds": seconds, "peak": peak, "right": right}))


def op_counts(path: str) -> dict[str, int]:
    import onnx

    return Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)


if __name__ == "__main__":
    main()
