"""A pool of worker processes that appraise: P-384 in Python scales by processes, not by threads.

    with Pool(verifier, workers=2) as pool:
        for request, verdict in pool.map(requests):
            ...

What happens when a worker dies at work, or does not answer in time and is ended:

1. The evidence that it was at is tried again in a new worker; what waited behind it is not blamed.
2. Evidence that ends a second worker is contraindicated: it is not tried a third time.
3. A worker that was asked to end (SIGTERM, SIGINT, SIGHUP: somebody outside did that) blames no
   evidence; after `MOST_ATTEMPTS` the answer is could-not-appraise.
4. Where no worker can be started, and for what waits when the pool closes: could-not-appraise.

The queue is bounded: `submit` waits for room, or raises BusyError. `finish` makes of each verdict
what is wanted of it (a document, a signed result) in the worker, so that less crosses the pipe. An
InfrastructureError of its own (nobody signs) is the request's answer.
"""

from __future__ import annotations

import gc
import multiprocessing
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar, cast

from casemate.attestation import input as given
from casemate.attestation.appraisal.appraise import without_appraisal
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.checks import Check
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence.family import Piece
from casemate.attestation.states import State
from casemate.attestation.verifier import Verifier
from casemate.closing import Closing

T = TypeVar("T")

#: Workers that one piece of evidence may end before it is refused.
MOST_KILLS = 2
MOST_ATTEMPTS = 4
#: Seconds that one appraisal may take.
DEFAULT_LIMIT = 30.0
#: Requests that travel together at most.
_BATCH = 16
_STARTING_LIMIT = 60.0
_ASKED_TO_END = frozenset({-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP})


class BusyError(InfrastructureError):
    """The pool's queue is full."""


@dataclass(frozen=True, slots=True)
class Request:
    """One appraisal to make; see Verifier.appraise.

    `unsorted` pieces are as they came: what is no evidence among them (certificates, collateral)
    is sorted out by the worker, for this appraisal alone.
    """

    pieces: tuple[Piece, ...]
    at: datetime
    nonce: bytes | None
    correlation_id: str
    along: Endorsements | None = None
    unsorted: bool = False


@dataclass(slots=True)
class _Task(Generic[T]):
    request: Request
    future: Future[T] = field(default_factory=Future)
    kills: int = 0
    attempts: int = 0


def as_it_is(verdict: Verdict) -> Verdict:
    """The `finish` that changes nothing."""
    return verdict


_UNCHANGED = cast(Any, as_it_is)


class Pool(Closing, Generic[T]):
    """See the module. `restarts` counts workers that had to be replaced, for metrics."""

    def __init__(
        self,
        verifier: Verifier,
        *,
        workers: int,
        finish: Callable[[Verdict], T] = _UNCHANGED,
        waiting: int | None = None,
        limit: float = DEFAULT_LIMIT,
    ) -> None:
        """Start `workers`; `waiting` bounds the queue, `limit` is seconds for one appraisal."""
        self.restarts = 0
        self._verifier, self._generation = verifier, 0
        self._finish, self._limit, self._workers = finish, limit, workers
        self._queue: queue.Queue[_Task[T] | None] = queue.Queue(waiting or 4 * _BATCH * workers)
        self._closed = False
        self._lock = threading.Lock()
        self._processes = _context()
        self._threads = [
            threading.Thread(target=self._serve, name=f"appraiser-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._queue.qsize()

    def replace(self, verifier: Verifier) -> None:
        """Appraise by another verifier from the next request on: new references, another policy."""
        with self._lock:
            self._verifier = verifier
            self._generation += 1

    def submit(self, request: Request, *, timeout: float | None = None) -> Future[T]:
        """Have one request appraised; waits `timeout` seconds (None: as long as it takes) for room.

        Raises BusyError.
        """
        task: _Task[T] = _Task(request)
        if self._closed:
            raise BusyError("the verifier is shutting down")
        try:
            self._queue.put(task, block=timeout is None or timeout > 0, timeout=timeout)
        except queue.Full:
            raise BusyError(
                f"{self._queue.maxsize} appraisals wait already", advice="try again later"
            ) from None
        return task.future

    def map(self, requests: Iterable[Request]) -> Iterator[tuple[Request, T]]:
        """Every request with its outcome, in order; only a window of them is held at a time."""
        window: deque[tuple[Request, Future[T]]] = deque()
        for request in requests:
            window.append((request, self.submit(request)))
            while len(window) >= self._queue.maxsize or (window and window[0][1].done()):
                first, future = window.popleft()
                yield first, future.result()
        for request, future in window:
            yield request, future.result()

    def close(self) -> None:
        """End the workers after what they are at; what waits could not be appraised."""
        self._closed = True
        while True:
            try:
                task = self._queue.get_nowait()
            except queue.Empty:
                break
            if task is not None:
                self._fail(task, InfrastructureError("the verifier is shutting down"))
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    # --- one thread for each worker -----------------------------------------------------------

    def _serve(self) -> None:
        worker: _Worker | None = None
        again: deque[_Task[T]] = deque()
        while True:
            tasks = self._next(again)
            if tasks is None:
                break
            try:
                worker = self._ready(worker)
            except InfrastructureError as error:
                for task in tasks:
                    self._fail(task, error)
                continue
            done = self._work(worker, tasks)
            if done < len(tasks):
                code = worker.end()
                worker = None
                self.restarts += 1
                self._blame(tasks[done], code, again)
                again.extend(tasks[done + 1 :])
        if worker is not None:
            worker.close()

    def _next(self, again: deque[_Task[T]]) -> list[_Task[T]] | None:
        """What to do next; what a worker died at goes alone."""
        if again:
            return [again.popleft()]
        first = self._queue.get()
        if first is None:
            return None
        tasks = [first] if first.future.set_running_or_notify_cancel() else []
        share = min(_BATCH, 1 + self._queue.qsize() // self._workers)
        while len(tasks) < share:
            try:
                task = self._queue.get_nowait()
            except queue.Empty:
                break
            if task is None:
                # The end is for this thread or another: leave it for later.
                self._queue.put(None)
                break
            if task.future.set_running_or_notify_cancel():
                tasks.append(task)
        return tasks

    def _ready(self, worker: _Worker | None) -> _Worker:
        with self._lock:
            verifier, generation = self._verifier, self._generation
        try:
            if worker is None or not worker.process.is_alive():
                worker = _Worker(self._processes, self._finish)
            if worker.generation != generation:
                worker.take(verifier, generation)
        except (OSError, EOFError) as error:
            if worker is not None:
                worker.end()
            raise InfrastructureError(f"no worker can be started: {error}") from None
        return worker

    def _work(self, worker: _Worker, tasks: list[_Task[T]]) -> int:
        """How many of the tasks were answered before the worker died or hung."""
        for task in tasks:
            task.attempts += 1
        try:
            worker.connection.send([task.request for task in tasks])
            for number, task in enumerate(tasks):
                if not worker.connection.poll(self._limit):
                    return number
                answer = worker.connection.recv()
                if isinstance(answer, InfrastructureError):
                    task.future.set_exception(answer)
                elif isinstance(answer, Exception):
                    self._fail(task, InfrastructureError(f"a worker failed: {answer}"))
                else:
                    task.future.set_result(answer)
        except (OSError, EOFError):
            return sum(task.future.done() for task in tasks)
        return len(tasks)

    def _blame(self, task: _Task[T], code: int | None, again: deque[_Task[T]]) -> None:
        if code not in _ASKED_TO_END:
            task.kills += 1
        if task.kills >= MOST_KILLS:
            sentence = f"the evidence ended {task.kills} workers that appraised it ({_how(code)})"
            self._fail(task, EvidenceError(Check("worker", False, sentence)))
        elif task.attempts >= MOST_ATTEMPTS:
            self._fail(task, InfrastructureError(f"workers were ended from outside ({_how(code)})"))
        else:
            again.append(task)

    def _fail(self, task: _Task[T], error: EvidenceError | InfrastructureError) -> None:
        request, verifier = task.request, self._verifier
        verdict = without_appraisal(
            request.pieces,
            error,
            at=request.at,
            policy=verifier.policy,
            references=verifier.references.digest,
            correlation_id=request.correlation_id,
        )
        try:
            task.future.set_result(self._finish(verdict))
        except Exception as failure:
            task.future.set_exception(failure)


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, processes: Any, finish: Callable[[Verdict], Any]) -> None:
        self.connection, there = processes.Pipe()
        self.process = processes.Process(
            target=_appraise_until_closed, args=(there, finish), daemon=True
        )
        self.process.start()
        there.close()
        self.generation = -1

    def take(self, verifier: Verifier, generation: int) -> None:
        """Have it appraise by this verifier. Raises OSError or EOFError if it does not start."""
        self.connection.send(verifier)
        if not self.connection.poll(_STARTING_LIMIT):
            raise TimeoutError(f"it did not start within {_STARTING_LIMIT:.0f} seconds")
        self.connection.recv()
        self.generation = generation

    def end(self) -> int | None:
        """End it if it still runs; its exit code, negative for a signal, None if it hung."""
        self.process.join(timeout=1)
        code: int | None = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
        self.close()
        return code

    def close(self) -> None:
        """Have it end by itself."""
        self.connection.close()
        self.process.join()


def _context() -> Any:
    """Workers come from a fresh process with the verifier loaded, not from this one's threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["casemate.attestation.pool", "casemate.attestation.evidence.registry"]
    )
    return context


def _appraise_until_closed(connection: Connection, finish: Callable[[Verdict], Any]) -> None:
    """A worker: verifiers and lists of requests come in, an answer for each request goes out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settle()
    verifier: Verifier | None = None
    # The other end closes the pipe when there is no more to do, or when it is gone itself.
    with suppress(EOFError, OSError):
        while True:
            message = connection.recv()
            if isinstance(message, Verifier):
                verifier = message
                settle()
                connection.send(None)
            elif verifier is not None:
                for request in message:
                    connection.send(_answer(verifier, request, finish))


def settle() -> None:
    """Have the garbage collector leave alone what is there: modules and verifiers stay for long.

    What it does not touch stays one memory of all workers, too.
    """
    gc.freeze()


def _appraise(verifier: Verifier, request: Request) -> Verdict:
    def appraise(pieces: Sequence[Piece], along: Endorsements | None) -> Verdict:
        return verifier.appraise(
            pieces,
            at=request.at,
            nonce=request.nonce,
            correlation_id=request.correlation_id,
            along=along,
        )

    if not request.unsorted:
        return appraise(request.pieces, request.along)
    along = request.along or Endorsements()
    pieces, came = given.sort_pieces(request.pieces, verifier.families)
    verdict = appraise(pieces, along.with_(came))
    if verdict.state is State.COULD_NOT_APPRAISE and (came.revocations or came.tdx_collateral):
        # A CRL of the host's own that has ended, or is forged, is no fault of the verifier's: it is
        # as if it had not come. One that holds and says "revoked" has been believed by now.
        return appraise(pieces, along.with_(Endorsements(certificates=came.certificates)))
    return verdict


def _answer(verifier: Verifier, request: Request, finish: Callable[[Verdict], Any]) -> Any:
    try:
        return finish(_appraise(verifier, request))
    except InfrastructureError as error:
        return error
    except Exception as error:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _how(code: int | None) -> str:
    if code is None:
        return "it did not answer in time"
    if code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
