"""Control operations: the firmware decides, stores, and only then lets silicon answer.

Creating, changing and destroying persistent objects, and everything about PINs, comes here as a
`Change` with the records that it would write. A batch of them is one transaction: while one batch
is on its way to the disk, the next one gathers, so the number of syncs falls as the load grows.
Each partition's root record goes with its changes, so that the set on disk always matches its root.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from casemate import _silicon
from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.partitions import Partitions, stored
from casemate.hsm.states import ModuleState, StateMachine
from casemate.hsm.store import RecordRow, Store

#: Control operations in one transaction at most.
BATCH_MAX = 256
_WAIT_MS = 200

# CK_RV values of PKCS#11 3.2 that the firmware answers with.
CKR_DEVICE_ERROR = 0x30
CKR_DEVICE_MEMORY = 0x31
CKR_TOKEN_WRITE_PROTECTED = 0xE2
CKR_FUNCTION_REJECTED = 0x200

_REFUSALS = {
    Code.STORE_FULL: CKR_DEVICE_MEMORY,
    Code.STORE_PERMISSION: CKR_TOKEN_WRITE_PROTECTED,
}

log = logging.getLogger(__name__)


class Control:
    """The thread that settles changes, in the order in which silicon gives them."""

    def __init__(
        self,
        engine: _silicon.Engine,
        store: Store,
        partitions: Partitions,
        machine: StateMachine,
    ) -> None:
        self._engine = engine
        self._store = store
        self._partitions = partitions
        self._machine = machine
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self.last_error: ModuleError | None = None

    def start(self) -> None:
        """Begin to settle changes."""
        self._thread.start()

    def stop(self) -> None:
        """Settle what is under way and end; what comes later silicon refuses when it stops."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            changes = self._engine.next_changes(BATCH_MAX, _WAIT_MS)
            if not changes:
                continue
            try:
                self.settle(changes)
            except Exception:
                # Nothing here may end the thread. Silicon refuses a change that is dropped
                # unanswered, so no client waits for it.
                log.exception("changes were refused: the firmware failed")

    def settle(self, changes: Sequence[_silicon.Change]) -> None:
        """Decide on every change, store the accepted ones together, answer all of them."""
        accepted: dict[bytes, list[_silicon.Change]] = {}
        rows: list[RecordRow] = []
        # No partition can be destroyed between the decision and the disk.
        with self._partitions.lock:
            for change in changes:
                if (reason := self._decide(change)) is not None:
                    change.refuse(reason)
                else:
                    accepted.setdefault(change.partition, []).append(change)
            for partition, group in list(accepted.items()):
                try:
                    root = self._engine.seal_root(partition, group)
                except RuntimeError as error:
                    # One partition's trouble must not refuse the others' changes.
                    log.error("changes of a partition were refused: %s", error)
                    for change in accepted.pop(partition):
                        change.refuse(CKR_DEVICE_ERROR)
                    continue
                rows.extend(stored(partition, r) for change in group for r in change.records)
                rows.append(stored(partition, root))
            settled = [change for group in accepted.values() for change in group]
            if not settled:
                return
            try:
                self._store.apply(rows)
            except ModuleError as error:
                self.last_error = error
                log.error("%d changes refused: %s", len(settled), error)
                for change in settled:
                    change.refuse(_REFUSALS.get(error.code, CKR_DEVICE_ERROR))
                return
        self.last_error = None
        for change in settled:
            change.complete()

    def _decide(self, change: _silicon.Change) -> int | None:
        """Return why this change may not happen (CK_RV), or None."""
        if self._machine.state is not ModuleState.OPERATIONAL:
            return CKR_FUNCTION_REJECTED
        if not self._partitions.accepts_changes(change.partition):
            return CKR_FUNCTION_REJECTED
        return None
