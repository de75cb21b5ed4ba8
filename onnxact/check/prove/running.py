"""Work -> tallies: threads that each own an engine take blocks of inputs until there are none, or they are stopped.

ONNX Runtime and NumPy both let other threads run while they compute.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import NamedTuple

import numpy as np

from onnxact.activation.primitives import Array
from onnxact.check.prove.engine import Engine
from onnxact.check.prove.judge import Chunk, Side, judge
from onnxact.check.prove.model import Subject
from onnxact.check.prove.patterns import Space
from onnxact.check.prove.tally import Tally

BLOCK = 1 << 24
EXAMINED_BLOCK = 1 << 18
SAMPLED_BLOCK = 1 << 16
_SHARES = 8
_TICK = 0.1
Progress = Callable[[str, float], None]


class Contest(NamedTuple):
    """A form and the op that it is held against; without an op, against the reference."""

    form: Side
    op: Side | None

    @property
    def pair(self) -> tuple[int, int] | None:
        """The outputs that are the same where the form is as it should be: most calls need no more than to see that."""
        return (self.form.output, self.op.output) if self.op is not None and self.form.exact else None


@dataclass(frozen=True)
class Task:
    """What to compare, by form, with what computes it, on which inputs.

    `call`: how many an engine takes at a time. `sample`: the patterns to try; None for every one of the dtype. `block`:
    how many a thread takes at a time, at most; a multiple of `call`.
    """

    subject: Subject
    forms: Mapping[str, Contest]
    engine: Callable[[], Engine]
    call: int
    sample: Array | None = None
    block: int = BLOCK

    @property
    def size(self) -> int:
        """How many inputs there are to try."""
        return Space(self.subject.dtype).total if self.sample is None else self.sample.size

    def blocks(self, threads: int) -> Iterator[range]:
        """Yield what a thread takes at a time: less and less at the end, so that all have done at the same time."""
        first = 0
        while first < self.size:
            share = (self.size - first) // (_SHARES * threads)
            length = min(max(share - share % self.call, self.call), self.block, self.size - first)
            yield range(first, first + length)
            first += length


@dataclass
class Done:
    """What has been tried so far: form -> tally, how many inputs, by how many threads. `error`: what one died of."""

    tallies: dict[str, Tally]
    inputs: int = 0
    threads: int = 0
    interrupted: bool = False
    error: BaseException | None = None
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, found: Mapping[str, Tally], inputs: int) -> None:
        """Take up the tallies of a block."""
        with self.lock:
            self.inputs += inputs
            self.tallies = {name: self.tallies[name] + tally for name, tally in found.items()}


def carry_out(task: Task, threads: int, progress: Progress | None = None) -> Done:
    """Try every input of the task, or as many as are tried before Ctrl-C: `interrupted` then says so.

    Raises what an engine raises.
    """
    blocks: SimpleQueue[range] = SimpleQueue()
    for block in task.blocks(threads):
        blocks.put(block)
    done, stop = Done({name: Tally() for name in task.forms}), threading.Event()
    done.threads = min(threads, blocks.qsize())
    crew = [threading.Thread(target=_work, args=(task, blocks, done, stop), daemon=True) for _ in range(done.threads)]
    try:
        for thread in crew:
            thread.start()
        _wait(crew, task, done, progress)
    except KeyboardInterrupt:
        done.interrupted = True
    finally:
        stop.set()
        for thread in crew:
            thread.join()
    if done.error is not None:
        raise done.error
    return done


def _wait(crew: Sequence[threading.Thread], task: Task, done: Done, progress: Progress | None) -> None:
    while any(thread.is_alive() for thread in crew):
        crew[0].join(_TICK) if crew[0].is_alive() else crew[-1].join(_TICK)
        if progress is not None:
            progress("proving", done.inputs / task.size)


def _work(task: Task, blocks: SimpleQueue[range], done: Done, stop: threading.Event) -> None:
    try:
        engine = task.engine()
        with np.errstate(all="ignore"):
            while not stop.is_set():
                _block(task, engine, blocks.get_nowait(), done, stop)
    except Empty:
        return
    except BaseException as error:  # noqa: BLE001 - the main thread raises it
        done.error = error
        stop.set()


def _block(task: Task, engine: Engine, block: range, done: Done, stop: threading.Event) -> None:
    found = _Found(task)
    if task.sample is None:
        _every(task, engine, block, found, stop)
    else:
        for first in range(block.start, block.stop, engine.length):
            patterns = task.sample[first : min(first + engine.length, block.stop)]
            engine.load(patterns)
            engine.run()
            found.judge(engine, patterns.size)
    done.add(found.tallies, found.inputs)


def _every(task: Task, engine: Engine, block: range, found: _Found, stop: threading.Event) -> None:
    """Try the consecutive patterns of a block; its length is a multiple of a call's."""
    pairs = [contest.pair for contest in task.forms.values() if contest.pair is not None]
    skims = len(pairs) == len(task.forms)
    left = len(block) // engine.length
    engine.start(block.start)
    while left and not stop.is_set():
        same = engine.skim(pairs, left) if skims else 0
        found.all_same(same * engine.length)
        left -= same
        if left:
            if not skims:
                engine.run()
            found.judge(engine, engine.length)
            engine.advance()
            left -= 1


class _Found:
    """What one block gave so far."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.judged = {name: Tally() for name in task.forms}
        self.inputs = 0
        self.same = 0

    @property
    def tallies(self) -> dict[str, Tally]:
        """What is found of each form."""
        results = self.same * max(self._task.subject.lanes, 1)
        return {name: tally + Tally(results, results) for name, tally in self.judged.items()}

    def all_same(self, inputs: int) -> None:
        """Count inputs at which every form has the op's bits."""
        self.inputs += inputs
        self.same += inputs

    def judge(self, engine: Engine, size: int) -> None:
        """Look at each form in what the engine holds."""
        self.inputs += size
        chunk = Chunk(self._task.subject, engine, size)
        for name, contest in self._task.forms.items():
            self.judged[name] += judge(chunk, *contest)


def usable_threads() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
