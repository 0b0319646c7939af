"""The cache: collateral from the store while it is fresh, else fetched once for all who wait.

Rules, in order, for one wanted item at one time:

1. Fresh in the store (fetched less than `refresh_after` ago, and not ended): that.
2. Somebody is fetching it: wait for them and share what they got, error or item.
3. The source said that it does not have it, or failed, and the time to ask again has not come:
   as 6, without asking.
4. The source's limit: wait for a turn, at most `patience` seconds; beyond that as 6.
5. Fetch. Success is stored and forgets failures. "Not found" is remembered for `not_found_for`; any
   other failure doubles the pause before the next question, from `first_pause` to `last_pause`; a
   source that names its own pause gets it.
6. What the store still has goes out if it has not ended; if it has ended, only as `stale_until`
   allows. Otherwise InfrastructureError: what is missing, why, and when to ask again.

Time and sleeping are arguments.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from casemate.attestation.collateral.fetching import (
    Fetcher,
    FetchError,
    LimitedError,
    NotFoundError,
)
from casemate.attestation.collateral.sources import Sources, collect, valid_until
from casemate.attestation.collateral.store import CollateralStore, Item
from casemate.attestation.collateral.wanted import Kind, Wanted
from casemate.attestation.errors import InfrastructureError

#: AMD's key service answers about one VCEK in ten seconds for each address.
AMD_INTERVAL = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the cache behaves. `intervals` are least times between questions, by host."""

    refresh_after: timedelta = timedelta(days=1)
    not_found_for: timedelta = timedelta(hours=1)
    first_pause: timedelta = timedelta(seconds=5)
    last_pause: timedelta = timedelta(minutes=15)
    patience: timedelta = timedelta(minutes=2)
    intervals: dict[str, timedelta] = field(
        default_factory=lambda: {"kdsintf.amd.com": AMD_INTERVAL}
    )
    stale_until: datetime | None = None


@dataclass(slots=True)
class Counters:
    """What the cache did, for metrics."""

    hits: int = 0
    fetches: int = 0
    shared: int = 0
    failures: int = 0
    stale: int = 0


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a source is not asked, and until when."""

    reason: str
    until: datetime
    pause: timedelta


#: Kinds that do not change once they are issued: they are never refreshed before they end.
_LASTING = {Kind.VCEK, Kind.CERTIFICATE}


class CollateralCache:
    """The cache over one store. Threads may share it."""

    def __init__(
        self,
        store: CollateralStore,
        fetcher: Fetcher,
        *,
        sources: Sources | None = None,
        terms: Terms | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store = store
        self.counters = Counters()
        self._fetcher = fetcher
        self._sources = sources or Sources()
        self._terms = terms or Terms()
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._flights: dict[Wanted, Future[Item]] = {}
        self._troubles: dict[Wanted | str, _Trouble] = {}
        self._turns: dict[str, datetime] = {}

    def is_at_hand(self, wanted: Wanted) -> bool:
        """Whether `get` answers from the store (rule 1). Raises InfrastructureError."""
        held = self.store.get(wanted.kind, wanted.key)
        return held is not None and self._is_fresh(held)

    def get(self, wanted: Wanted) -> Item:
        """One item; see the module's rules. Raises InfrastructureError."""
        held = self.store.get(wanted.kind, wanted.key)
        if held is not None and self._is_fresh(held):
            self.counters.hits += 1
            return held
        with self._lock:
            flight = self._flights.get(wanted)
            is_first = flight is None
            if flight is None:
                flight = self._flights[wanted] = Future()
        if not is_first:
            self.counters.shared += 1
            return flight.result()
        try:
            item = self._fetch_or_fall_back(wanted, held)
        except BaseException as error:
            flight.set_exception(error)
            raise
        else:
            flight.set_result(item)
            return item
        finally:
            with self._lock:
                del self._flights[wanted]

    def _is_fresh(self, item: Item) -> bool:
        now = self._now()
        if not item.is_valid(now):
            return False
        return item.kind in _LASTING or now - item.fetched_at < self._terms.refresh_after

    def _fetch_or_fall_back(self, wanted: Wanted, held: Item | None) -> Item:
        # Somebody may have finished between the look into the store and the flight.
        again = self.store.get(wanted.kind, wanted.key)
        if again is not None and self._is_fresh(again):
            self.counters.hits += 1
            return again
        try:
            return self._fetch(wanted)
        except FetchError as error:
            if held is not None and self._may_go_out(held):
                return held
            what = f"{wanted.kind.value} {wanted.key}"
            ended = (
                "" if held is None else f" (what is stored ended on {held.valid_until:%Y-%m-%d})"
            )
            raise InfrastructureError(
                f"collateral cannot be fetched: {what}{ended}: {error}",
                advice="import a bundle (casemate collateral import), or try again later",
            ) from None

    def _may_go_out(self, item: Item) -> bool:
        if item.is_valid(self._now()):
            return True
        until = self._terms.stale_until
        allowed = until is not None and item.valid_until is not None and item.valid_until > until
        self.counters.stale += allowed
        return allowed

    def _fetch(self, wanted: Wanted) -> Item:
        requests = self._sources.requests(wanted)
        hosts = list(dict.fromkeys(request.host for request in requests))
        for subject in (wanted, *hosts):
            trouble = self._troubles.get(subject)
            if trouble is not None and self._now() < trouble.until:
                raise FetchError(
                    f"{trouble.reason}; not asked again before {trouble.until:%H:%M:%S}"
                )
        for host in hosts:
            self._await_turn(host)
        self.counters.fetches += 1
        try:
            data, url = collect(wanted, self._sources, self._fetcher)
        except NotFoundError as error:
            self._note(wanted, str(error), self._terms.not_found_for)
            raise
        except LimitedError as error:
            self._note(hosts[0], str(error), timedelta(seconds=error.seconds))
            raise
        except FetchError as error:
            self._note(wanted, str(error), self._next_pause(wanted))
            raise
        self._troubles.pop(wanted, None)
        item = Item(
            kind=wanted.kind,
            key=wanted.key,
            data=data,
            fetched_at=self._now(),
            valid_until=valid_until(wanted.kind, data),
            source=url,
        )
        self.store.put(item)
        return item

    def _await_turn(self, host: str) -> None:
        """Wait until the host may be asked; turns are given in the order of asking."""
        interval = self._terms.intervals.get(host)
        if interval is None:
            return
        with self._lock:
            now = self._now()
            turn = max(now, self._turns.get(host, now))
            if turn - now > self._terms.patience:
                raise FetchError(
                    f"{host} takes one question in {interval.total_seconds():g} s, and "
                    f"{(turn - now).total_seconds():.0f} s of them are waiting"
                )
            self._turns[host] = turn + interval
        if turn > now:
            self._sleep((turn - now).total_seconds())

    def _next_pause(self, wanted: Wanted) -> timedelta:
        before = self._troubles.get(wanted)
        pause = self._terms.first_pause if before is None else 2 * before.pause
        return min(pause, self._terms.last_pause)

    def _note(self, subject: Wanted | str, reason: str, pause: timedelta) -> None:
        self.counters.failures += 1
        self._troubles[subject] = _Trouble(reason, self._now() + pause, pause)
