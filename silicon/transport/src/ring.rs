//! One connection's shared memory, as both sides see it: the words by name, the lines by copy.

use crate::layout::{
    RING_BYTES, RING_HEAD, SLOT_COUNT, SLOT_PAYLOAD, SLOT_STRIDE, STATUS_BYTES, head, slot, status,
};
use crate::memory::SharedMemory;
use crate::message::{REQUEST_BYTES, RESPONSE_BYTES, RequestHeader, ResponseHeader};
use crate::protocol::{AtomicU32, AtomicU64, Ordering};

/// A ring: `RING_BYTES` of shared memory. Slot numbers wrap at `SLOT_COUNT`.
#[derive(Debug)]
pub struct Ring {
    memory: SharedMemory,
}

impl Ring {
    /// The ring in this mapping, or None if it has the wrong size.
    pub fn new(memory: SharedMemory) -> Option<Self> {
        (memory.length() == RING_BYTES).then_some(Self { memory })
    }

    fn word32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: every offset in `layout` is inside RING_BYTES and a multiple of four; the mapping
        // lives as long as `self`; both sides use atomic access only for these words.
        unsafe { &*self.memory.base().add(offset).cast::<AtomicU32>() }
    }

    fn slot(index: u32, offset: usize) -> usize {
        RING_HEAD + (index as usize % SLOT_COUNT) * SLOT_STRIDE + offset
    }

    /// One bit a slot.
    pub fn pending(&self) -> &AtomicU64 {
        // SAFETY: as in `word32`; the offset is a multiple of eight.
        unsafe { &*self.memory.base().add(head::PENDING).cast::<AtomicU64>() }
    }

    /// The sequence number of the slot's newest answer.
    pub fn answered(&self, index: u32) -> &AtomicU32 {
        self.word32(Self::slot(index, slot::ANSWERED))
    }

    /// Whether the slot's client sleeps.
    pub fn waiting(&self, index: u32) -> &AtomicU32 {
        self.word32(Self::slot(index, slot::WAITING))
    }

    /// The CPU that the slot's request was written on, as the client says: 0, or 1 and its number.
    pub fn written_on(&self, index: u32) -> &AtomicU32 {
        self.word32(Self::slot(index, slot::CPU))
    }

    /// Nanoseconds that the worker took for the slot's newest request.
    pub fn service(&self, index: u32) -> &AtomicU32 {
        self.word32(Self::slot(index, slot::SERVICE))
    }

    /// The CPU on which the slot's newest request was served: 0, or 1 and its number.
    pub fn served_on(&self, index: u32) -> &AtomicU32 {
        self.word32(Self::slot(index, slot::SERVED_ON))
    }

    /// The sequence number of the slot's newest request.
    pub fn sequence(&self, index: u32) -> &AtomicU32 {
        self.word32(Self::slot(index, slot::SEQUENCE))
    }

    /// Writes a request line (client): a worker may take the request as soon as it stands there.
    pub fn write_request(&self, index: u32, header: &RequestHeader) {
        const { assert!(slot::SEQUENCE + 4 == slot::REQUEST + REQUEST_BYTES) };
        let bytes = header.encode();
        // SAFETY: the line is inside the mapping; source and target do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.memory.base().add(Self::slot(index, slot::REQUEST)),
                slot::SEQUENCE - slot::REQUEST,
            );
        }
        self.sequence(index)
            .store(header.sequence, Ordering::Release);
    }

    /// Copies a request line out, once (module). The client may change it at any moment: what
    /// counts is this copy.
    pub fn read_request(&self, index: u32) -> RequestHeader {
        let mut bytes = [0u8; REQUEST_BYTES];
        // SAFETY: the line is inside the mapping; source and target do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.memory
                    .base()
                    .add(Self::slot(index, slot::REQUEST))
                    .cast_const(),
                bytes.as_mut_ptr(),
                REQUEST_BYTES,
            );
        }
        RequestHeader::decode(&std::hint::black_box(bytes))
    }

    /// Writes a response line (module).
    pub fn write_response(&self, index: u32, header: &ResponseHeader) {
        let bytes = header.encode();
        // SAFETY: the line is inside the mapping; source and target do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.memory.base().add(Self::slot(index, slot::RESPONSE)),
                RESPONSE_BYTES,
            );
        }
    }

    /// Copies a response line out (client).
    pub fn read_response(&self, index: u32) -> ResponseHeader {
        let mut bytes = [0u8; RESPONSE_BYTES];
        // SAFETY: the line is inside the mapping; source and target do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.memory
                    .base()
                    .add(Self::slot(index, slot::RESPONSE))
                    .cast_const(),
                bytes.as_mut_ptr(),
                RESPONSE_BYTES,
            );
        }
        ResponseHeader::decode(&bytes)
    }

    /// The address of a slot's payload, `SLOT_PAYLOAD` bytes.
    pub fn payload(&self, index: u32) -> *mut u8 {
        const { assert!(RING_HEAD + SLOT_COUNT * SLOT_STRIDE <= RING_BYTES) };
        const { assert!(slot::PAYLOAD + SLOT_PAYLOAD == SLOT_STRIDE) };
        // SAFETY: inside the mapping, by the assertions above.
        unsafe { self.memory.base().add(Self::slot(index, slot::PAYLOAD)) }
    }
}

/// The status page of a partition.
#[derive(Debug)]
pub struct StatusPage {
    memory: SharedMemory,
}

impl StatusPage {
    /// The status page in this mapping, or None if it has the wrong size.
    pub fn new(memory: SharedMemory) -> Option<Self> {
        (memory.length() == STATUS_BYTES).then_some(Self { memory })
    }

    fn word32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: every offset in `layout::status` is inside the page and a multiple of its word's
        // size; the mapping lives as long as `self`; atomic access only.
        unsafe { &*self.memory.base().add(offset).cast::<AtomicU32>() }
    }

    /// Whether the first worker is not asleep.
    pub fn awake(&self) -> &AtomicU32 {
        self.word32(status::AWAKE)
    }

    /// What helpers sleep on.
    pub fn help(&self) -> &AtomicU32 {
        self.word32(status::HELP)
    }

    /// Helpers that sleep: for hints, not for rules.
    pub fn asleep(&self) -> &AtomicU32 {
        self.word32(status::ASLEEP)
    }

    /// Helpers that work or look for work: for hints, not for rules.
    pub fn helping(&self) -> &AtomicU32 {
        self.word32(status::HELPING)
    }

    /// Partitions of the module that work, as the first worker last saw it.
    pub fn working(&self) -> &AtomicU32 {
        self.word32(status::WORKING)
    }

    /// The CPU that the first worker was last seen on.
    pub fn cpu(&self) -> &AtomicU32 {
        self.word32(status::CPU)
    }

    fn epoch_word(&self) -> &AtomicU64 {
        // SAFETY: inside the page, aligned; atomic access only.
        unsafe { &*self.memory.base().add(status::EPOCH).cast::<AtomicU64>() }
    }

    /// Changes with every object and policy change.
    pub fn epoch(&self) -> u64 {
        self.epoch_word().load(Ordering::Acquire)
    }

    /// Module: something that a client may have cached has changed.
    pub fn advance_epoch(&self) {
        self.epoch_word().fetch_add(1, Ordering::AcqRel);
    }

    /// 0 operational, 1 suspended, 2 closed.
    pub fn state(&self) -> u32 {
        self.word32(status::STATE).load(Ordering::Acquire)
    }

    /// Module: says which state the partition is in.
    pub fn set_state(&self, state: u32) {
        self.word32(status::STATE).store(state, Ordering::Release);
    }
}
