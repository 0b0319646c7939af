//! Where everything stands in the shared memory of a connection.
//!
//! Two mappings reach a client, both made and sealed by the module:
//!
//! - the **status page** of the partition (4096 bytes, read-only for clients, one for all of the
//!   partition's connections);
//! - the **ring** of the connection: a 4096-byte head, then `SLOT_COUNT` slots of `SLOT_STRIDE`
//!   bytes. A slot is a request line (client writes), a response line (module writes) and a payload.
//!
//! Bulk regions for messages that do not fit a slot are further mappings, asked for on the socket.

/// The version of everything in this file and in `message`.
pub const PROTOCOL_VERSION: u16 = 4;

/// Slots of a ring: one bit each in the ring's pending word.
pub const SLOT_COUNT: usize = 64;
/// Bytes from one slot to the next.
pub const SLOT_STRIDE: usize = 17 * 1024 + 128;
/// Bytes of a slot before its payload.
pub const SLOT_HEAD: usize = 128;
/// Bytes of payload in a slot: 16 KiB of data and 1 KiB for parameters.
pub const SLOT_PAYLOAD: usize = SLOT_STRIDE - SLOT_HEAD;
/// Bytes of the ring's head.
pub const RING_HEAD: usize = 4096;
/// Bytes of a whole ring, rounded up to a page.
pub const RING_BYTES: usize = (RING_HEAD + SLOT_COUNT * SLOT_STRIDE).next_multiple_of(4096);
/// Bytes of the status page.
pub const STATUS_BYTES: usize = 4096;
/// The largest message: data of one request or response.
pub const MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a bulk region: the largest message and room for what a mechanism adds to it.
pub const BULK_BYTES: usize = MESSAGE_MAX + 64 * 1024;
/// Bulk regions that one connection may hold.
pub const BULK_REGIONS: usize = 8;
/// Sections start on a cache line.
pub const SECTION_ALIGN: usize = 64;

/// Offsets in the ring's head.
pub mod head {
    /// u64, one bit a slot: set by the client, taken by the module.
    pub const PENDING: usize = 0;
}

/// Offsets in a slot.
pub mod slot {
    /// The request header (`message::RequestHeader`), 56 bytes; only the client writes this line.
    pub const REQUEST: usize = 0;
    /// u32: the header's last field, the request's sequence number; written last, when all else of
    /// the request stands in its place. It differs from that of the slot's request before it.
    pub const SEQUENCE: usize = 52;
    /// u32: 0, or 1 and the number of the CPU that the request was written on; the client's line.
    pub const CPU: usize = 56;
    /// u32: the sequence number of the request that the response answers; written last.
    pub const ANSWERED: usize = 64;
    /// u32: 1: the client sleeps on `ANSWERED`; only the client writes it.
    pub const WAITING: usize = 68;
    /// The response header (`message::ResponseHeader`), 40 bytes.
    pub const RESPONSE: usize = 72;
    /// u32: nanoseconds that the worker took for the request.
    pub const SERVICE: usize = 112;
    /// u32: 0, or 1 and the number of the CPU on which the worker served the request.
    pub const SERVED_ON: usize = 116;
    /// The payload.
    pub const PAYLOAD: usize = super::SLOT_HEAD;
}

/// Offsets in the status page.
pub mod status {
    /// u32: whether the first worker is awake. Zero: ring the connection's eventfd after a request.
    pub const AWAKE: usize = 0;
    /// u32: the futex that helpers sleep on; a client may wake it.
    pub const HELP: usize = 4;
    /// u32: the CPU that the first worker was last seen on.
    pub const CPU: usize = 8;
    /// u32: helpers that sleep.
    pub const ASLEEP: usize = 12;
    /// u32: helpers that work or look for work.
    pub const HELPING: usize = 16;
    /// u32: partitions of the module that work, as the first worker last saw it.
    pub const WORKING: usize = 20;
    /// u32: the partition's state (0 operational, 1 suspended, 2 closed).
    pub const STATE: usize = 64;
    /// u64: changes whenever an object or the policy changes: cached checks are stale then.
    pub const EPOCH: usize = 128;
}
