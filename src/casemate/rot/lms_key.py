"""An LMS private key on disk that never signs with the same leaf twice.

A key is a directory:

    private   the seed (JSON, mode 0600)
    public    the 48 bytes of the public key
    tree      all nodes of the tree: public, a cache, checked against the public key when used
    state     the next leaf (and its twin, the anchor, in a directory of its own)

The rules:

- A leaf is reserved before it is used. Reserving writes the intent into the anchor, the next leaf
  into the state, the next leaf into the anchor, each followed by fsync; then the leaf is handed
  out. A crash in between loses one leaf at most.
- The anchor may be ahead of the state only by an intent. A state behind its anchor was rolled
  back, a state ahead of it has lost its anchor to an older one: both are refused.
- State and anchor name the machine and the inode they were created in. A copy has another inode:
  it is refused, because two copies would use the same leaves. `move` makes a copy the key, and
  asks for the first leaf that no other copy can have used.
- State and anchor carry a MAC under a key derived from the seed.

What a file cannot see is a rollback of the whole machine, anchor included (a restored snapshot).
Keep such keys in a hardware module, or move the key with a skipped range after every restore.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from casemate.rot import lms
from casemate.rot.errors import RotError

_FORMAT = "casemate-lms-key-1"
_RECORD = struct.Struct("<QIIQ32s")
_MAC_SIZE = 32
_SLOT_SIZE = _RECORD.size + _MAC_SIZE
_LARGEST_PRIVATE = 4096


class LmsKeyError(RotError):
    """The key's files are missing, damaged, or belong to another parameter set."""


class LmsStateError(LmsKeyError):
    """The state cannot be trusted to name an unused leaf; nothing was signed."""


def default_anchor_directory() -> Path:
    """Where anchors stand: `$CASEMATE_LMS_ANCHORS`, else `$XDG_STATE_HOME/casemate/lms`."""
    if chosen := os.environ.get("CASEMATE_LMS_ANCHORS"):
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "casemate" / "lms"


def this_machine() -> bytes:
    """What tells this machine from others: SHA-256 of /etc/machine-id (empty where none is)."""
    try:
        identifier = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        identifier = b""
    return hashlib.sha256(b"casemate lms machine" + identifier).digest()


@dataclass(frozen=True, slots=True)
class _Record:
    """One written state: `intent` is `next_leaf`, or one more while a leaf is being reserved."""

    sequence: int
    next_leaf: int
    intent: int
    inode: int
    machine: bytes


class _StateFile:
    """Two slots, written in turn, so that a torn write leaves the older record."""

    def __init__(self, path: Path, mac_key: bytes) -> None:
        self._path = path
        self._mac_key = mac_key

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._mac_key, body, "sha256")

    def create(self, next_leaf: int, machine: bytes) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            file = os.open(self._path, flags, 0o600)
        except FileExistsError:
            raise LmsStateError(f"{self._path} exists: a key's state is never replaced") from None
        try:
            record = _Record(1, next_leaf, next_leaf, os.fstat(file).st_ino, machine)
            os.pwrite(file, bytes(2 * _SLOT_SIZE), 0)
            self._write(file, record)
        finally:
            os.close(file)
        _sync_directory(self._path.parent)

    def _write(self, file: int, record: _Record) -> None:
        body = _RECORD.pack(
            record.sequence, record.next_leaf, record.intent, record.inode, record.machine
        )
        slot = body + self._mac(body)
        if os.pwrite(file, slot, record.sequence % 2 * _SLOT_SIZE) != len(slot):
            raise LmsStateError(
                f"{self._path}: the state was not written whole; nothing was signed"
            )
        os.fsync(file)

    def _latest(self, file: int) -> _Record:
        content = os.pread(file, 2 * _SLOT_SIZE + 1, 0)
        records = []
        for at in (0, _SLOT_SIZE):
            body = content[at : at + _RECORD.size]
            mac = content[at + _RECORD.size : at + _SLOT_SIZE]
            if len(mac) == _MAC_SIZE and hmac.compare_digest(mac, self._mac(body)):
                records.append(_Record(*_RECORD.unpack(body)))
        if len(content) != 2 * _SLOT_SIZE or not records:
            raise LmsStateError(
                f"{self._path} is damaged: which leaves were used is unknown. Make a new key, or "
                "move this one past every leaf that may have been used"
            )
        return max(records, key=lambda each: each.sequence)

    def read(self, file: int, machine: bytes) -> _Record:
        record = self._latest(file)
        if record.machine != machine or record.inode != os.fstat(file).st_ino:
            raise LmsStateError(
                f"{self._path} is a copy: two copies of a state use the same leaves. Sign where "
                "the key was made, or destroy that key and move this one"
            )
        return record

    def advance(self, file: int, record: _Record, *, next_leaf: int, intent: int) -> _Record:
        new = replace(record, sequence=record.sequence + 1, next_leaf=next_leaf, intent=intent)
        self._write(file, new)
        return new

    def peek(self, file: int) -> int:
        """The first leaf that the record leaves unused, whoever it belongs to."""
        return self._latest(file).intent

    def replace(self, next_leaf: int, machine: bytes) -> None:
        """Begin anew in a file of its own; only `LmsKey.move` may."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self.create(next_leaf, machine)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """The file, open and locked against every other process."""
        try:
            file = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError as error:
            raise LmsStateError(
                f"{self._path}: {error.strerror}. Without it, which leaves were used is unknown"
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(file, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


class LmsKey:
    """A bundle's LMS key: `LMS_SHA256_M24_H15`, `LMOTS_SHA256_N24_W4`, 32,768 signatures."""

    def __init__(self, directory: Path, anchor_directory: Path, *, machine: bytes) -> None:
        self._directory = directory
        self._machine = machine
        self._seed, self._identifier = _read_private(directory / "private")
        public = _read(directory / "public", "public key", 64)
        try:
            self._public = lms.LmsPublicKey.decode(public)
        except lms.LmsError as error:
            raise LmsKeyError(f"{directory / 'public'}: {error}") from None
        if (
            self._public.tree != lms.TREE_M24_H15
            or self._public.ots != lms.OTS_N24_W4
            or self._public.identifier != self._identifier
        ):
            raise LmsKeyError(f"{directory}: public and private key do not belong together")
        mac_key = hashlib.sha256(b"casemate lms state" + self._seed).digest()
        self._state = _StateFile(directory / "state", mac_key)
        self._anchor = _StateFile(anchor_directory / self._identifier.hex(), mac_key)

    def __repr__(self) -> str:
        return f"LmsKey({str(self._directory)!r})"

    @classmethod
    def open(
        cls, directory: Path, *, anchor_directory: Path | None = None, machine: bytes | None = None
    ) -> LmsKey:
        """Open a key. Raises LmsKeyError; the state is looked at when a leaf is reserved."""
        return cls(
            directory,
            anchor_directory or default_anchor_directory(),
            machine=this_machine() if machine is None else machine,
        )

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        anchor_directory: Path | None = None,
        machine: bytes | None = None,
        random: Callable[[int], bytes] = os.urandom,
        progress: Callable[[int], None] = lambda _: None,
        make_tree: Callable[..., list[bytes]] = lms.tree_nodes,
    ) -> LmsKey:
        """Make a key in a new directory; the tree takes about 25 million hashes.

        `progress` hears the number of leaves done; `make_tree` has the contract of
        `lms.tree_nodes`. Raises LmsKeyError if the directory exists.
        """
        machine = this_machine() if machine is None else machine
        anchors = anchor_directory or default_anchor_directory()
        seed, identifier = random(lms.OTS_N24_W4.n), random(lms.IDENTIFIER_SIZE)
        nodes = make_tree(seed, identifier, progress=progress)
        public = lms.LmsPublicKey(lms.TREE_M24_H15, lms.OTS_N24_W4, identifier, nodes[1])
        try:
            directory.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            raise LmsKeyError(f"{directory} exists; a key needs a directory of its own") from None
        anchors.mkdir(mode=0o700, parents=True, exist_ok=True)
        private = {
            "format": _FORMAT,
            "tree": public.tree.code,
            "ots": public.ots.code,
            "identifier": identifier.hex(),
            "seed": seed.hex(),
        }
        _write_new(directory / "private", json.dumps(private, indent=1).encode(), 0o600)
        _write_new(directory / "public", public.encode(), 0o644)
        _write_new(directory / "tree", b"".join(nodes[1:]), 0o644)
        key = cls(directory, anchors, machine=machine)
        key._anchor.create(0, machine)
        key._state.create(0, machine)
        return key

    @property
    def public_key(self) -> bytes:
        """The 48 bytes of the public key, as a bundle carries them."""
        return self._public.encode()

    @property
    def capacity(self) -> int:
        """How many signatures the key can make in all."""
        return 1 << self._public.tree.h

    def used(self) -> int:
        """How many leaves are used or given up. Raises LmsStateError as `sign` would."""
        with self._state.locked() as state, self._anchor.locked() as anchor:
            return self._agreed(state, anchor)[2]

    def _agreed(self, state: int, anchor: int) -> tuple[_Record, _Record, int]:
        """Both records and the first leaf that is surely unused."""
        ours = self._state.read(state, self._machine)
        theirs = self._anchor.read(anchor, self._machine)
        if ours.next_leaf < theirs.next_leaf:
            raise LmsStateError(
                f"{self._directory / 'state'} was rolled back: it names leaf {ours.next_leaf}, but "
                f"leaves up to {theirs.next_leaf} were used; nothing was signed"
            )
        if ours.next_leaf > theirs.intent:
            raise LmsStateError(
                f"the anchor of {self._directory} was rolled back: it names leaf "
                f"{theirs.next_leaf}, the state {ours.next_leaf}; nothing was signed"
            )
        return ours, theirs, max(ours.next_leaf, theirs.intent)

    def reserve(self) -> int:
        """Take the next leaf out of use for ever and return it.

        Raises LmsStateError if the state is a copy, rolled back or damaged, LmsKeyError if the
        key is used up.
        """
        with self._state.locked() as state, self._anchor.locked() as anchor:
            ours, theirs, leaf = self._agreed(state, anchor)
            if leaf >= self.capacity:
                raise LmsKeyError(f"{self._directory}: all {self.capacity} leaves are used")
            # The anchor's next leaf follows the state's, also after a crash has skipped one: so a
            # second crash right here still leaves anchor <= state <= intent.
            theirs = self._anchor.advance(anchor, theirs, next_leaf=ours.next_leaf, intent=leaf + 1)
            self._state.advance(state, ours, next_leaf=leaf + 1, intent=leaf + 1)
            self._anchor.advance(anchor, theirs, next_leaf=leaf + 1, intent=leaf + 1)
            return leaf

    def sign(self, message: bytes, *, random: Callable[[int], bytes] = os.urandom) -> bytes:
        """Sign with a fresh leaf: 1,620 bytes. The leaf is on disk as used before it signs."""
        leaf = self.reserve()
        path = self._path(leaf)
        signature = lms.sign_leaf(
            self._seed,
            self._identifier,
            leaf,
            message,
            path=path,
            randomizer=random(lms.OTS_N24_W4.n),
        )
        if lms.root_of(self._public, message, signature) != self._public.root:
            raise LmsKeyError(
                f"{self._directory / 'tree'} does not belong to this key; restore it, or delete "
                "it and it will be made again"
            )
        return signature.encode()

    def _path(self, leaf: int) -> tuple[bytes, ...]:
        size, count = self._public.tree.m, 2 * self.capacity - 1
        try:
            tree = _read(self._directory / "tree", "tree", size * count)
        except LmsKeyError:
            nodes = lms.tree_nodes(self._seed, self._identifier)
            tree = b"".join(nodes[1:])
            with contextlib.suppress(OSError):
                _write_new(self._directory / "tree", tree, 0o644)
        if len(tree) != size * count:
            raise LmsKeyError(
                f"{self._directory / 'tree'}: expected {size * count} bytes, found {len(tree)}; "
                "delete it and it will be made again"
            )
        number = self.capacity + leaf
        path = []
        while number > 1:
            at = ((number ^ 1) - 1) * size
            path.append(tree[at : at + size])
            number >>= 1
        return tuple(path)

    def move(self, first_leaf: int) -> None:
        """Make this copy the key, starting at `first_leaf`; the old place must be destroyed.

        Raises LmsStateError if a readable state already names a later leaf.
        """
        if not 0 <= first_leaf <= self.capacity:
            raise LmsStateError(f"first leaf: expected 0 to {self.capacity}, found {first_leaf}")
        seen = [0]
        for file in (self._state, self._anchor):
            with contextlib.suppress(LmsStateError), file.locked() as handle:
                seen.append(file.peek(handle))
        if first_leaf < max(seen):
            raise LmsStateError(
                f"first leaf: a state here names {max(seen)} already, asked for {first_leaf}"
            )
        for file in (self._anchor, self._state):
            file.replace(first_leaf, self._machine)


def _read(path: Path, what: str, most: int) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise LmsKeyError(f"{path} ({what}): {error.strerror}") from None
    if len(content) > most:
        raise LmsKeyError(f"{path} ({what}): expected at most {most} bytes")
    return content


def _read_private(path: Path) -> tuple[bytes, bytes]:
    content = _read(path, "private key", _LARGEST_PRIVATE)
    try:
        fields = json.loads(content)
        if fields["format"] != _FORMAT:
            raise LmsKeyError(f"{path}: expected format {_FORMAT}")
        if (fields["tree"], fields["ots"]) != (lms.TREE_M24_H15.code, lms.OTS_N24_W4.code):
            raise LmsKeyError(f"{path}: expected the sets of a bundle (LMS 12, LM-OTS 7)")
        seed, identifier = bytes.fromhex(fields["seed"]), bytes.fromhex(fields["identifier"])
    except (ValueError, KeyError, TypeError):
        raise LmsKeyError(f"{path} is damaged: no LMS private key can be read from it") from None
    if len(seed) != lms.OTS_N24_W4.n or len(identifier) != lms.IDENTIFIER_SIZE:
        raise LmsKeyError(f"{path} is damaged: seed or identifier has a wrong size")
    return seed, identifier
