//! The caller's output buffer and its length word, by the conventions of PKCS#11 (section 5.2).

use crate::flights::Buffer;
use crate::outcome::Outcome;
use cryptoki_sys::{CK_ULONG, CKR_ARGUMENTS_BAD};

/// Where an operation's output goes.
///
/// The buffer may be the input's (in place): it is written only once the input has been sent, and
/// never through a reference.
#[derive(Debug)]
pub struct Output {
    buffer: *mut u8,
    length: *mut CK_ULONG,
    room: usize,
}

impl Output {
    /// The caller's buffer (or null: only the length is wanted) and length word.
    ///
    /// # Safety
    /// The buffer, if it is not null, has the room that the length word says, as long as this lives.
    pub unsafe fn new(buffer: *mut u8, length: *mut CK_ULONG) -> Outcome<Self> {
        // SAFETY: the caller's own word.
        let told = unsafe { length.as_ref() }.ok_or(CKR_ARGUMENTS_BAD)?;
        Ok(Self {
            buffer,
            length,
            room: usize::try_from(*told).unwrap_or(usize::MAX),
        })
    }

    /// Whether only the length is wanted.
    pub fn length_only(&self) -> bool {
        self.buffer.is_null()
    }

    /// Bytes of room.
    pub fn room(&self) -> usize {
        if self.buffer.is_null() { 0 } else { self.room }
    }

    /// The room, as a request's header says it.
    pub fn capacity(&self) -> u32 {
        u32::try_from(self.room()).unwrap_or(u32::MAX)
    }

    /// The same buffer with at most this much room: a request need not reserve more.
    pub fn limited(&self, room: usize) -> Self {
        Self {
            buffer: self.buffer,
            length: self.length,
            room: self.room.min(room),
        }
    }

    /// Writes the output and its length; false if it does not fit.
    pub fn write(&self, bytes: &[u8]) -> bool {
        self.write_at(0, bytes)
    }

    /// Writes a piece of the output at this offset, and the length so far.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> bool {
        let Some(end) = offset.checked_add(bytes.len()) else {
            return false;
        };
        if end > self.room() {
            return bytes.is_empty() && offset == 0;
        }
        if !bytes.is_empty() {
            // SAFETY: `room` bytes are the caller's to write; the source is the module's answer, in
            // another mapping.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    bytes.as_ptr(),
                    self.buffer.wrapping_add(offset),
                    bytes.len(),
                );
            }
        }
        self.tell(end as u64);
        true
    }

    /// Writes the length.
    pub fn tell(&self, length: u64) {
        // SAFETY: the caller's own word, checked not to be null.
        unsafe { *self.length = length as CK_ULONG };
    }

    /// The buffer, for a call that is left in flight.
    pub fn buffer(&self) -> Buffer {
        Buffer {
            base: self.buffer,
            room: self.room(),
        }
    }

    /// Whether the buffer shares bytes with the input.
    pub fn overlaps(&self, input: &[u8]) -> bool {
        let (own, other) = (self.buffer as usize, input.as_ptr() as usize);
        own < other.saturating_add(input.len()) && other < own.saturating_add(self.room())
    }
}

/// The caller's input; null is allowed for no bytes only.
///
/// # Safety
/// The pointer, if it is not null, points to `length` bytes that stay as they are.
pub unsafe fn input<'a>(pointer: *const u8, length: CK_ULONG) -> Outcome<&'a [u8]> {
    let length = usize::try_from(length).map_err(|_| CKR_ARGUMENTS_BAD)?;
    if length == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || length > isize::MAX as usize {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: by this function's contract.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}

/// Writes a result through a pointer that must not be null.
///
/// # Safety
/// The pointer, if it is not null, is the caller's to write.
pub unsafe fn store<T>(pointer: *mut T, value: T) -> Outcome {
    if pointer.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: by this function's contract.
    unsafe { std::ptr::write_unaligned(pointer, value) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_tells_its_length_and_never_leaves_its_room() {
        let mut buffer = [0u8; 8];
        let mut length: CK_ULONG = 4;
        let output = unsafe { Output::new(buffer.as_mut_ptr(), &mut length) }.unwrap();
        assert!(!output.write(b"12345"));
        assert!(output.write(b"123"));
        assert_eq!(length, 3);
        assert!(output.write_at(3, b"4"));
        assert!(!output.write_at(4, b"5"));
        assert_eq!(length, 4);
        assert_eq!(&buffer, b"1234\0\0\0\0");
    }

    #[test]
    fn a_null_buffer_asks_for_the_length() {
        let mut length: CK_ULONG = 99;
        let output = unsafe { Output::new(std::ptr::null_mut(), &mut length) }.unwrap();
        assert!(output.length_only() && output.capacity() == 0);
        output.tell(64);
        assert_eq!(length, 64);
        assert!(unsafe { Output::new(std::ptr::null_mut(), std::ptr::null_mut()) }.is_err());
    }

    #[test]
    fn null_input_is_no_bytes_or_an_error() {
        unsafe {
            assert_eq!(input(std::ptr::null(), 0), Ok(&[][..]));
            assert!(input(std::ptr::null(), 1).is_err());
        }
    }
}
