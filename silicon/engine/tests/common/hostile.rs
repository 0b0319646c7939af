//! A client that keeps no rule: the raw socket, ring, bell and status page.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use casemate_transport::handshake::{
    BULK_MESSAGE_BYTES, BulkMessage, Hello, Refusal, WELCOME_BYTES, Welcome,
    receive_with_descriptors, send_with_descriptors,
};
use casemate_transport::layout::{BULK_BYTES, RING_BYTES, STATUS_BYTES};
use casemate_transport::memory::SharedMemory;
use casemate_transport::message::{Operation, RequestHeader, ResponseHeader};
use casemate_transport::protocol;
use casemate_transport::ring::{Ring, StatusPage};

/// A connection whose every word the test may write.
pub struct Hostile {
    pub socket: UnixStream,
    pub ring: Ring,
    pub status: StatusPage,
    pub bell: std::fs::File,
    sequence: u32,
}

impl Hostile {
    /// Shakes hands; or how the module refuses.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let socket = UnixStream::connect(path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        send_with_descriptors(&socket, &Hello::default().encode(), &[]).unwrap();
        let (bytes, fds) = receive_with_descriptors::<WELCOME_BYTES>(&socket, 3).unwrap();
        let welcome = Welcome::decode(&bytes).unwrap();
        if welcome.refusal != Refusal::None {
            return Err(welcome.refusal);
        }
        let [ring, status, bell] = <[_; 3]>::try_from(fds).unwrap();
        Ok(Self {
            socket,
            ring: Ring::new(SharedMemory::open(ring.as_fd(), RING_BYTES, true).unwrap()).unwrap(),
            status: StatusPage::new(
                SharedMemory::open(status.as_fd(), STATUS_BYTES, false).unwrap(),
            )
            .unwrap(),
            bell: bell.into(),
            sequence: 0,
        })
    }

    /// Asks for a bulk region.
    pub fn bulk(&self) -> Option<SharedMemory> {
        send_with_descriptors(&self.socket, &BulkMessage { index: 0 }.encode(), &[]).unwrap();
        let (_, fds) = receive_with_descriptors::<BULK_MESSAGE_BYTES>(&self.socket, 1).unwrap();
        let fd = fds.first()?;
        Some(SharedMemory::open(fd.as_fd(), BULK_BYTES, true).unwrap())
    }

    /// Writes the request line and publishes the slot.
    pub fn submit(&mut self, slot: u32, mut header: RequestHeader) -> u32 {
        self.sequence += 1;
        header.sequence = self.sequence;
        self.ring.write_request(slot, &header);
        if protocol::submit(self.ring.pending(), self.status.awake(), slot) {
            self.ring_bell();
        }
        self.sequence
    }

    pub fn ring_bell(&self) {
        let _ = (&self.bell).write(&1u64.to_ne_bytes());
    }

    /// Waits for the answer, at most ten seconds.
    pub fn answer(&self, slot: u32, sequence: u32) -> ResponseHeader {
        let end = Instant::now() + Duration::from_secs(10);
        while !protocol::is_answered(self.ring.answered(slot), sequence) {
            assert!(Instant::now() < end, "slot {slot} was never answered");
            std::hint::spin_loop();
        }
        self.ring.read_response(slot)
    }

    pub fn session(&mut self) -> u64 {
        let header = RequestHeader {
            operation: Operation::OpenSession as u16,
            aux: 1,
            ..RequestHeader::default()
        };
        let sequence = self.submit(0, header);
        let answer = self.answer(0, sequence);
        assert_eq!(answer.result, 0);
        answer.value0
    }

    /// Bytes of a slot's payload.
    pub fn read(&self, slot: u32, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset + length <= casemate_transport::layout::SLOT_PAYLOAD);
        let mut out = vec![0; length];
        // SAFETY: inside the payload, by the assertion; private memory does not overlap it.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.ring.payload(slot).add(offset),
                out.as_mut_ptr(),
                length,
            );
        }
        out
    }

    pub fn write(&self, slot: u32, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= casemate_transport::layout::SLOT_PAYLOAD);
        // SAFETY: inside the payload, by the assertion; private memory does not overlap it.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.ring.payload(slot).add(offset),
                bytes.len(),
            );
        }
    }
}

/// A small generator of test bytes: the same ones for the same seed.
pub struct Chaos(u64);

impl Chaos {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 32) as u8).collect()
    }
}
