//! Input and output that another process may change while an operation runs.
//!
//! No reference to such bytes is ever made: they are pointers and lengths. Which primitives may run
//! on them directly stands in DESIGN.md, section 6; all others copy first.

use std::marker::PhantomData;
use std::sync::atomic::{Ordering, compiler_fence};

use super::{Error, Secret};

/// Bytes to read: private memory, or shared memory that may change at any moment.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    base: *const u8,
    length: usize,
    lifetime: PhantomData<&'a [u8]>,
}

impl<'a> Input<'a> {
    /// Private memory.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            base: bytes.as_ptr(),
            length: bytes.len(),
            lifetime: PhantomData,
        }
    }

    /// Memory that may be shared.
    ///
    /// # Safety
    /// `length` bytes from `base` must be mapped and readable for the lifetime.
    pub unsafe fn from_raw(base: *const u8, length: usize) -> Self {
        Self {
            base,
            length,
            lifetime: PhantomData,
        }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The address, for primitives that read each byte once.
    pub fn as_ptr(&self) -> *const u8 {
        self.base
    }

    /// A private copy, read once.
    pub fn to_secret(&self) -> Secret {
        let mut copy = Secret::zeroed(self.length);
        self.copy_to(copy.expose_mut());
        copy
    }

    /// Copies as much as fits into private memory, read once.
    pub fn copy_to(&self, target: &mut [u8]) {
        let length = self.length.min(target.len());
        // SAFETY: both are at least `length` bytes; private memory does not overlap the input.
        unsafe { std::ptr::copy_nonoverlapping(self.base, target.as_mut_ptr(), length) };
        // For the compiler the input may change here: without this it could read the input again
        // where the copy is used, which would undo the copy's purpose.
        compiler_fence(Ordering::SeqCst);
    }

    /// A private copy of what is not secret, read once.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = vec![0; self.length];
        self.copy_to(&mut copy);
        copy
    }

    /// Whether `length` bytes written at the output's next byte would overwrite this input. Exactly
    /// in place (the same first byte) counts as well.
    pub(super) fn overlaps(&self, output: &Output<'_>, length: usize) -> bool {
        let input = self.base.addr();
        let output = output.base.addr() + output.written;
        input < output + length && output < input + self.length
    }

    /// Whether the output's next byte is this input's first.
    pub(super) fn in_place(&self, output: &Output<'_>) -> bool {
        self.base.addr() == output.base.addr() + output.written
    }

    /// The part from `offset`, at most `length` bytes.
    pub fn part(&self, offset: usize, length: usize) -> Input<'a> {
        let offset = offset.min(self.length);
        Input {
            base: self.base.wrapping_add(offset),
            length: length.min(self.length - offset),
            lifetime: PhantomData,
        }
    }
}

/// Bytes to write: a place with a capacity, and how much of it is written.
#[derive(Debug)]
pub struct Output<'a> {
    base: *mut u8,
    capacity: usize,
    written: usize,
    lifetime: PhantomData<&'a mut [u8]>,
}

impl<'a> Output<'a> {
    /// Private memory.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self {
            base: bytes.as_mut_ptr(),
            capacity: bytes.len(),
            written: 0,
            lifetime: PhantomData,
        }
    }

    /// Memory that may be shared.
    ///
    /// # Safety
    /// `capacity` bytes from `base` must be mapped and writable for the lifetime.
    pub unsafe fn from_raw(base: *mut u8, capacity: usize) -> Self {
        Self {
            base,
            capacity,
            written: 0,
            lifetime: PhantomData,
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.capacity - self.written
    }

    /// The address of the next `length` bytes, which the caller fills and then `advance`s over.
    pub fn reserve(&mut self, length: usize) -> Result<*mut u8, Error> {
        if length > self.room() {
            return Err(Error::TooSmall(self.written + length));
        }
        Ok(self.base.wrapping_add(self.written))
    }

    /// Counts `length` bytes, at most what fits, as written.
    pub fn advance(&mut self, length: usize) {
        self.written += length.min(self.room());
    }

    /// Appends private bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let target = self.reserve(bytes.len())?;
        // SAFETY: `reserve` checked the room; private memory does not overlap the output.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
        self.advance(bytes.len());
        Ok(())
    }
}
