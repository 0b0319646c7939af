"""What silicon/python offers to Python: the engine for the firmware, the client for the API.

No function returns a private or secret key in clear: blobs are masked, keys are handles.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from os import PathLike
from typing import Any

# --- the module's firmware -------------------------------------------------------------------

class EngineState(IntEnum):
    """States of the module, as FIPS 140-3 names them (DESIGN.md, section 4)."""

    SELF_TEST = 0
    ERROR = 1
    OPERATIONAL = 2
    ZEROIZED = 3

class SelfTestResult:
    """One self-test: its name, whether it passed, and how long it took in microseconds."""

    name: str
    passed: bool
    micros: int

class PartitionPolicy:
    """What a partition may do; all are limits that the firmware sets and silicon enforces."""

    def __init__(
        self,
        *,
        pin_required: bool = False,
        legacy_test: bool = False,
        mechanisms: list[int] | None = None,
        keys: int = 4096,
        sessions: int = 1024,
        connections: int = 256,
        mapped_bytes: int = 1 << 30,
        workers: int = 0,
        weight: int = 100,
        spin: int = 200,
    ) -> None: ...

class Record:
    """One persistent record: what the store writes. `blob` None: delete it.

    `kind`: 1 object, 2 roles, 3 root (one a partition; authenticates the set of all others).
    """

    kind: int
    id: int
    generation: int
    blob: bytes | None

class Change:
    """A control operation that waits for the firmware: decide, store, then complete or refuse."""

    partition: bytes
    operation: str
    peer_uid: int
    peer_pid: int
    records: list[Record]

    def complete(self) -> None:
        """Make it visible and answer the client: the records are on disk."""

    def refuse(self, reason: int) -> None:
        """Answer the client with this CK_RV; nothing has changed."""

class PartitionStatus:
    """Counts and limits of a partition, at one moment."""

    objects: int
    token_objects: int
    sessions: int
    connections: int
    mapped_bytes: int
    operations: int
    errors: int
    waiting: int
    in_hand: int
    cpu_nanoseconds: int
    state: int
    pin_initialised: bool

class Partition:
    """A partition that silicon serves."""

    id: bytes
    name: str

    def listen(self, path: str | PathLike[str]) -> None:
        """Serve a Unix socket at this path (made mode 0666: the folder is the capability)."""

    def suspend(self) -> None: ...
    def resume(self) -> None: ...
    def set_policy(self, policy: PartitionPolicy) -> None: ...
    def status(self) -> PartitionStatus: ...
    def identity_public_point(self) -> bytes:
        """Return the identity key's P-384 point, uncompressed (97 bytes)."""

    def identity_sign(self, tbs_certificate: bytes) -> bytes:
        """Sign the TBS of the identity's own certificate: ECDSA-SHA-384, r || s (96 bytes)."""

    def set_chain(self, certificates: list[bytes]) -> None:
        """Set the identity key's certificates, leaf first, DER."""

    def metrics_descriptor(self) -> int:
        """A new descriptor of the page of figures, which others can map for reading only."""

    def destroy(self) -> None:
        """End its connections, wipe its keys, close its socket."""

class Engine:
    """The silicon of one module: self-tests, sealing, partitions, the queue of changes."""

    def __init__(self, *, require_locked: bool = False) -> None: ...
    @property
    def state(self) -> EngineState: ...
    @property
    def instance(self) -> int: ...
    def memory_report(self) -> dict[str, Any]:
        """What protects key memory now; for `doctor`.

        arena: "memfd_secret", "mlock" or "unlocked" pages, or "heap" without an arena;
        locked: whether all key memory is; locked_bytes; unlocked_bytes: keys beyond the limit;
        message_bytes: long messages under way; library_inside: whether AWS-LC allocates there;
        lock_limit: bytes, None without one; dumpable; core_limit: bytes; ptrace_scope: Yama's,
        or None; swap: active areas.
        """

    def self_test(self) -> list[SelfTestResult]: ...
    def unseal_from_file(self, path: str | PathLike[str], *, create: bool) -> None:
        """Take the sealing secret from a file (mode 0600, 48 bytes), made first if `create`."""

    def unseal_from_descriptor(self, descriptor: int) -> None:
        """Take the sealing secret from sealed memory (48 to 64 bytes); closes the descriptor."""

    def set_measurements(self, measurements: list[tuple[str, bytes]]) -> None:
        """Set the name and SHA-384 of each measured part: key reports carry them."""

    def new_partition_secret(self, partition: bytes) -> bytes:
        """Make a partition's masking key; returns it masked under the sealing secret."""

    def load_partition(
        self,
        partition: bytes,
        name: str,
        policy: PartitionPolicy,
        secret: bytes,
        records: list[tuple[int, int, int, bytes]],
    ) -> Partition:
        """Open a partition from its masked secret and its records (kind, id, generation, blob).

        Raises ValueError, naming the record, where one is damaged, swapped, missing or older.
        """

    def next_changes(self, limit: int, timeout_ms: int) -> list[Change]:
        """Wait for control operations; empty after the timeout or when the engine stops."""

    def seal_root(self, partition: bytes, accepted: list[Change]) -> Record:
        """Return the root record as it will be once these changes are stored."""

    def zeroize(self) -> None: ...
    def stop(self) -> None: ...

# --- the client ------------------------------------------------------------------------------

class LostError(ConnectionError):
    """The connection to the module has ended."""

def serve_proxy_peer(descriptor: int, module: str | PathLike[str]) -> None:
    """Serve one peer of a proxy until it goes; takes the connected stream socket over."""

class Ticket:
    """A request that is on its way."""

class Client:
    """A connection to a partition: messages as silicon/transport/src/message.rs numbers them."""

    def __init__(self, path: str | PathLike[str]) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def instance(self) -> int: ...
    def call(
        self,
        operation: int,
        *,
        flags: int = 0,
        session: int = 0,
        object: int = 0,
        mechanism: int = 0,
        aux: int = 0,
        parameters: bytes = b"",
        first: bytes = b"",
        second: bytes = b"",
        data: bytes = b"",
        capacity: int = 16384,
    ) -> tuple[int, bytes, int, int]:
        """Send one message and wait; returns (CK_RV, output, value0, value1). Raises LostError."""

    def call_many(
        self,
        operation: int,
        *,
        session: int,
        object: int,
        mechanism: int,
        parameters: Sequence[bytes],
        first: Sequence[bytes],
        data: Sequence[bytes],
        window: int,
        stop_at_failure: bool,
        tail_first: int,
    ) -> list[tuple[int, bytes]]:
        """Send a message for each piece of data, `window` under way at once; (CK_RV, output) each.

        `parameters` and `first` are one for each message, or one for all. The list ends with the
        first failure where `stop_at_failure` says so. The last `tail_first` bytes of an output come
        first. Raises LostError.
        """

    def submit(
        self,
        operation: int,
        *,
        flags: int = 0,
        session: int = 0,
        object: int = 0,
        mechanism: int = 0,
        aux: int = 0,
        parameters: bytes = b"",
        first: bytes = b"",
        second: bytes = b"",
        data: bytes = b"",
        capacity: int = 16384,
    ) -> Ticket: ...
    def wait(self, ticket: Ticket) -> tuple[int, bytes, int, int]: ...
    def is_ready(self, ticket: Ticket) -> bool: ...
    def close(self) -> None: ...

# --- the root of trust's vault (root_of_trust.rs); hashes are named by their bits --------------

class RootOfTrustVault:
    """Slots for a device's secrets; they are wiped when it goes. Slots are numbers.

    Every method raises ValueError for an empty slot, the wrong kind of slot or a wrong size.
    """

    @staticmethod
    def create_anchor(path: str | PathLike[str]) -> None:
        """Make an anchor file with fresh device secrets, mode 0600. Raises OSError."""

    @staticmethod
    def open(anchor: str | PathLike[str], *, require_locked: bool = False) -> RootOfTrustVault:
        """Open an anchor file. Raises OSError, PermissionError, or ValueError if damaged.

        From then on the process cannot be dumped or debugged, and secrets stand in locked memory
        where the limits allow; with `require_locked` it is an OSError where they do not.
        """

    def deobfuscate(self, value: bytes, debug_locked: bool) -> int:
        """Decrypt a fuse value into a slot; with debug open the key is all ones."""

    def kdf(self, bits: int, key: int, label: bytes, context: bytes | None = None) -> int:
        """One block of the KDF into a new slot."""

    def kdf_chain(self, bits: int, key: int, label: bytes, times: int) -> int:
        """The KDF `times` times over (at most 4096) into a new slot."""

    def hmac(self, bits: int, key: int, data: bytes) -> int:
        """A plain HMAC of public data into a new slot."""

    def hmac_slot(self, bits: int, key: int, data: int) -> int:
        """A plain HMAC of another slot's secret into a new slot."""

    def stable_key(self, root: int, prefix: bytes, info: bytes) -> int:
        """A stable key under a stable root: CMAC KDF, then HMAC KDF with a prefix."""

    def ecc_key(self, seed: int) -> int:
        """A P-384 key from a seed slot."""

    def mldsa_key(self, seed: int) -> int:
        """An ML-DSA-87 key from a seed slot."""

    def public_key(self, key: int) -> bytes:
        """97 bytes (04, X, Y) or 2592."""

    def ecc_sign_digest(self, key: int, digest: bytes) -> bytes:
        """A deterministic ECDSA signature (r, s: 96 bytes) over a SHA-384 digest."""

    def mldsa_sign(self, key: int, message: bytes) -> bytes:
        """A deterministic ML-DSA-87 signature (4627 bytes), empty context."""

    def mldsa_sign_mu(self, key: int, mu: bytes) -> bytes:
        """The same over an external mu (64 bytes)."""

    def csr_mac(self, envelope: bytes) -> bytes:
        """HMAC-SHA512 (64 bytes) of the CSR envelope under the device's key."""

    def to_descriptor(self, key: int) -> int:
        """A sealed memory file that holds the slot's secret, for another process to read."""

    def erase(self, key: int) -> None:
        """Wipe a slot."""

    def used(self) -> int:
        """How many slots are in use."""

def mldsa87_public_key(seed: bytes) -> bytes:
    """The public key (2592 bytes) of a seed (32 bytes)."""

def mldsa87_sign(seed: bytes, message: bytes, context: bytes | None = None) -> bytes:
    """A deterministic signature (4627 bytes) from a seed (32 bytes)."""

def mldsa87_sign_mu(seed: bytes, mu: bytes) -> bytes:
    """A deterministic signature over an external mu (64 bytes)."""

def mldsa87_verify(
    public_key: bytes, message: bytes, signature: bytes, context: bytes | None = None
) -> bool:
    """Whether the signature is good; wrong sizes are not."""

def mldsa87_verify_mu(public_key: bytes, mu: bytes, signature: bytes) -> bool:
    """Whether the signature over an external mu (64 bytes) is good."""

class P384PublicKey:
    """A P-384 key, parsed once, that AWS-LC verifies with; other threads run meanwhile."""

    def __init__(self, point: bytes) -> None:
        """From a point (97 bytes, or 49 compressed). Raises ValueError if it is not a point."""

    def verifies(self, digest: bytes, signature: bytes) -> bool:
        """Whether r, s (96 bytes) signs a SHA-384 digest (48 bytes); wrong sizes do not."""

class P384PrivateKey:
    """A P-384 key of a verifier that stands alone, in memory that the module's keys are not in."""

    def __init__(self, scalar: bytes) -> None:
        """From its scalar (48 bytes). Raises ValueError."""

    def sign(self, digest: bytes) -> bytes:
        """A signature (r, s: 96 bytes) over a SHA-384 digest (48 bytes). Raises ValueError."""

def base64url(head: bytes, data: bytes) -> bytes:
    """`head`, and behind it `data` in base64url without padding (RFC 4648, section 5)."""

def read_cbor(tag: Callable[[int, Any], Any], data: bytes, most_items: int, deepest: int) -> Any:
    """The one strict CBOR item that `data` is; `casemate.formats.cbor.decode` calls it.

    `tag` makes a tagged item of its number and value. `deepest` is at most 255. Raises CborError.
    """

class Element:
    """One TLV of DER: its tag byte, where it stands, its content and its whole encoding."""

    @property
    def tag(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def content(self) -> bytes: ...
    @property
    def encoded(self) -> bytes: ...
    def expect(self, tag: int, what: str) -> Element:
        """Return itself if it has the tag. Raises DerError with `what` was expected."""

    def children(self) -> ElementReader:
        """A reader over the content of a constructed element. Raises DerError if primitive."""

class ElementReader:
    """Reads elements of DER one after another; `start` is where `data` stands in its input."""

    def __init__(self, data: bytes, start: int = 0) -> None: ...
    @property
    def offset(self) -> int:
        """The offset of the next element in the outermost input."""

    def at_end(self) -> bool:
        """Whether everything has been read."""

    def peek(self) -> int | None:
        """The tag of the next element, or None at the end."""

    def next(self, tag: int | None = None, what: str = "an element") -> Element:
        """Read one element. Raises DerError at the end, for bad DER, or for another tag."""

    def end(self, what: str) -> None:
        """Check that everything has been read. Raises DerError if something follows."""

    def __iter__(self) -> ElementReader: ...
    def __next__(self) -> Element: ...

def certificate_parts(
    data: bytes, algorithm: bytes
) -> (
    tuple[bytes, bytes, bytes, bytes, str, str, bytes, bytes, list[tuple[bytes, bool, bytes]]]
    | None
):
    """A certificate (DER) of version 3 in its usual form, whose algorithm (DER) is this one.

    TBS, signature, the content of the serial number, issuer (DER), the two times as
    YYYYMMDDHHMMSSZ, subject and key (DER), and of each extension the content of its identifier,
    whether it is critical, and its value. None of any other: `casemate.formats.x509` says why.
    """
