//! A buffer for secret bytes: in locked memory, wiped when dropped, silent in logs.

use std::alloc::Layout;
use std::ptr::NonNull;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::arena;

/// Secret bytes of a fixed length. They stand in the arena once that is installed, before on the
/// heap.
pub struct Secret {
    base: NonNull<u8>,
    length: usize,
    on_heap: bool,
}

// SAFETY: it owns its bytes.
unsafe impl Send for Secret {}
// SAFETY: shared use only reads.
unsafe impl Sync for Secret {}

impl Secret {
    /// `length` zero bytes, to be filled in place.
    pub fn zeroed(length: usize) -> Self {
        if length == 0 {
            return Self {
                base: NonNull::dangling(),
                length,
                on_heap: true,
            };
        }
        let (base, on_heap) = match arena::allocate(length) {
            Some(base) => (base, false),
            None => (Self::on_heap(length), true),
        };
        match NonNull::new(base) {
            Some(base) => Self {
                base,
                length,
                on_heap,
            },
            None => std::alloc::handle_alloc_error(Self::layout(length)),
        }
    }

    fn on_heap(length: usize) -> *mut u8 {
        // SAFETY: the length is not zero.
        unsafe { std::alloc::alloc_zeroed(Self::layout(length)) }
    }

    fn layout(length: usize) -> Layout {
        Layout::array::<u8>(length).unwrap_or(Layout::new::<u8>())
    }

    /// A copy of these bytes.
    pub fn copy(bytes: &[u8]) -> Self {
        let mut secret = Self::zeroed(bytes.len());
        secret.expose_mut().copy_from_slice(bytes);
        secret
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        // SAFETY: `length` bytes of our own, initialised when they were made.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.length) }
    }

    /// The bytes, to be filled.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.length) }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Compares in constant time (the lengths are not secret).
    pub fn equals(&self, other: &[u8]) -> bool {
        constant_time_equal(self.expose(), other)
    }
}

impl Zeroize for Secret {
    fn zeroize(&mut self) {
        self.expose_mut().zeroize();
    }
}

impl ZeroizeOnDrop for Secret {}

impl Drop for Secret {
    fn drop(&mut self) {
        if self.length == 0 {
            return;
        }
        if self.on_heap {
            self.zeroize();
            // SAFETY: made with this layout, freed once.
            unsafe { std::alloc::dealloc(self.base.as_ptr(), Self::layout(self.length)) };
        } else {
            // SAFETY: made by the arena, which wipes it, and not used any more.
            unsafe { arena::free(self.base.as_ptr()) };
        }
    }
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        Self::copy(self.expose())
    }
}

impl From<Box<[u8]>> for Secret {
    fn from(mut bytes: Box<[u8]>) -> Self {
        let secret = Self::copy(&bytes);
        bytes.zeroize();
        secret
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({} bytes)", self.length)
    }
}

/// Whether two byte strings are equal, in a time that depends on their lengths only.
pub fn constant_time_equal(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    // SAFETY: both are readable for `len` bytes.
    unsafe {
        aws_lc_sys::CRYPTO_memcmp(left.as_ptr().cast(), right.as_ptr().cast(), left.len()) == 0
    }
}
