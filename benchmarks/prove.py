"""What a proof costs over ONNX Runtime alone: python benchmarks/prove.py [--rounds N].

All 2^32 float32 inputs of leaky-relu mul-max are tried, as `onnxact prove` tries them: twice a round, one proof right
after the other, the second with a clock around each of ONNX Runtime's calls. What is outside these is making the
inputs, comparing the results, and Python. Each round gives

    seconds of the first proof / (seconds inside the calls of the second / threads)        required: at most 1.3

and the median of the rounds counts. Exits with 1 where it is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any, NamedTuple
from unittest.mock import patch

from onnxact import Proof, prove
from onnxact.check.prove import place
from onnxact.check.prove.engine import HostEngine

ALLOWED = 1.3
ROUNDS = 15


def clocked(clocks: list[list[float]]) -> type[HostEngine]:
    """Return an engine that adds up the seconds inside ONNX Runtime's calls, in a clock of its own for each thread."""

    class Clocked(HostEngine):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            call, clock = self.run, [0.0]

            def run() -> None:
                begin = time.perf_counter()
                call()
                clock[0] += time.perf_counter() - begin

            self.run = run  # type: ignore[method-assign]
            if self.length > 1:
                clocks.append(clock)

    return Clocked


class Round(NamedTuple):
    """Seconds of a proof, and inside its calls, over all threads."""

    proof: float
    inside: float
    threads: int

    @property
    def alone(self) -> float:
        return self.inside / self.threads

    @property
    def ratio(self) -> float:
        return self.proof / self.alone


def main() -> int:
    """Measure, show."""
    parser = argparse.ArgumentParser(description="What a proof costs over ONNX Runtime alone.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often; the median counts")
    rounds = []
    for number in range(parser.parse_args().rounds):
        rounds.append(measure())
        print(f"round {number + 1}: {shown(rounds[-1])}", flush=True)
    ratio = statistics.median(item.ratio for item in rounds)
    verdict = "PASS" if ratio <= ALLOWED else "FAIL"
    print(f"{verdict}: {ratio:.2f}, at most {ALLOWED} allowed; {rounds[0].threads} threads")
    return int(verdict == "FAIL")


def shown(item: Round) -> str:
    return f"proof {item.proof:.2f} s, ONNX Runtime alone {item.alone:.2f} s, ratio {item.ratio:.3f}"


def measure() -> Round:
    plain = proof()
    clocks: list[list[float]] = []
    with patch.object(place, "HostEngine", clocked(clocks)):
        found = proof()
    return Round(plain.seconds, sum(clock[0] for clock in clocks), found.threads)


def proof(dtype: str = "float32") -> Proof:
    found = prove("leaky_relu", "mul-max", parameters={"alpha": 0.2}, dtype=dtype)
    if found.outcome != "proven" or found.inputs != found.total:
        raise SystemExit(f"no proof: {found.summary()}")
    return found


if __name__ == "__main__":
    sys.exit(main())
