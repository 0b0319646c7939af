//! Bytes that operations hold back until they end: counted for each partition, so that a client with
//! many sessions cannot have the module remember without bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cryptoki_sys::CKR_DEVICE_MEMORY;

use super::Stream;
use crate::failure::Failure;
use crate::lc::{Input, Output, Secret};

/// A partition's account of such bytes.
#[derive(Debug, Default)]
pub struct HeldBytes(AtomicUsize);

impl HeldBytes {
    /// Most bytes of all operations of a partition together.
    pub const MOST: usize = 1 << 27;

    /// The stream itself, or if it gathers what it is given, the stream with its bytes counted.
    pub fn counting(self: &Arc<Self>, stream: Box<dyn Stream>) -> Box<dyn Stream> {
        if !stream.gathers() {
            return stream;
        }
        let booking = Booking {
            account: self.clone(),
            bytes: 0,
        };
        Box::new(Counted { stream, booking })
    }
}

/// Bytes booked on an account, and given back when dropped.
struct Booking {
    account: Arc<HeldBytes>,
    bytes: usize,
}

impl Booking {
    fn book(&mut self, bytes: usize) -> Result<(), Failure> {
        self.account
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes)
                    .filter(|sum| *sum <= HeldBytes::MOST)
            })
            .map_err(|_| Failure::new(CKR_DEVICE_MEMORY))?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.account.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A stream that gathers, with its booking.
struct Counted {
    stream: Box<dyn Stream>,
    booking: Booking,
}

impl Stream for Counted {
    fn update(&mut self, input: Input<'_>, output: &mut Output<'_>) -> Result<(), Failure> {
        self.booking.book(input.len())?;
        self.stream.update(input, output)
    }

    fn finish(self: Box<Self>, output: &mut Output<'_>) -> Result<(), Failure> {
        self.stream.finish(output)
    }

    fn verify(self: Box<Self>, signature: &[u8]) -> Result<(), Failure> {
        self.stream.verify(signature)
    }

    fn output_length(&self, input: Option<usize>) -> usize {
        self.stream.output_length(input)
    }

    fn save(&self) -> Result<Secret, Failure> {
        self.stream.save()
    }

    fn gathers(&self) -> bool {
        true
    }
}
