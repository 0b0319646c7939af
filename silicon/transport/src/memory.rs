//! Sealed shared memory: the module makes it, seals it and passes it on; the client maps it.
//!
//! Seals (F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL) come before the descriptor leaves the module, so
//! nobody can pull pages away under the other side. The client's mapping is not inherited by fork
//! (MADV_DONTFORK), and no descriptor survives exec.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A shared mapping; unmapped when dropped. Its bytes belong to both processes at once: nothing
/// here hands out a reference to them.
#[derive(Debug)]
pub struct SharedMemory {
    base: *mut u8,
    length: usize,
}

// SAFETY: the mapping is process-wide, and all access goes through raw pointers and atomics.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Makes `length` bytes (a multiple of the page size), sealed, mapped here for reading and
    /// writing. With `read_only_for_others` later mappings of the descriptor cannot write.
    pub fn create(
        name: &std::ffi::CStr,
        length: usize,
        read_only_for_others: bool,
    ) -> io::Result<(Self, OwnedFd)> {
        // SAFETY: `name` is a C string; the result is checked.
        let raw = unsafe {
            libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
        };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let size = libc::off_t::try_from(length).map_err(io::Error::other)?;
        // SAFETY: plain system call on our descriptor.
        check(unsafe { libc::ftruncate(fd.as_raw_fd(), size) })?;
        let memory = Self::map(fd.as_raw_fd(), length, libc::PROT_READ | libc::PROT_WRITE)?;
        let mut seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        if read_only_for_others {
            seals |= libc::F_SEAL_FUTURE_WRITE;
        }
        // SAFETY: plain system call on our descriptor.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
        Ok((memory, fd))
    }

    /// Maps what the module made, as a client: `length` bytes, which the descriptor must have.
    pub fn open(fd: BorrowedFd<'_>, length: usize, writable: bool) -> io::Result<Self> {
        // SAFETY: a zeroed stat is a valid output argument.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: plain system call, the output argument lives.
        check(unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) })?;
        if usize::try_from(stat.st_size).ok() != Some(length) {
            return Err(io::Error::other(format!(
                "the module's shared memory has {} bytes, expected {length}",
                stat.st_size
            )));
        }
        let protection = if writable {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_READ
        };
        let memory = Self::map(fd.as_raw_fd(), length, protection)?;
        // SAFETY: the range is our own mapping.
        check(unsafe { libc::madvise(memory.base.cast(), length, libc::MADV_DONTFORK) })?;
        Ok(memory)
    }

    fn map(fd: RawFd, length: usize, protection: libc::c_int) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            base: base.cast(),
            length,
        })
    }

    /// Bytes mapped.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The address of byte `offset`, or None if `length` bytes from there are not all mapped.
    pub fn at(&self, offset: usize, length: usize) -> Option<*mut u8> {
        let end = offset.checked_add(length)?;
        if end > self.length {
            return None;
        }
        // SAFETY: the offset is inside the mapping.
        Some(unsafe { self.base.add(offset) })
    }

    /// The base address: `length()` bytes are mapped from here.
    pub fn base(&self) -> *mut u8 {
        self.base
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and nobody can hold a reference into it.
        unsafe {
            libc::munmap(self.base.cast(), self.length);
        }
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn sealed_memory_neither_shrinks_nor_grows() {
        let (_memory, fd) = SharedMemory::create(c"test", 8192, false).unwrap();
        for size in [0, 4096, 16384] {
            assert_eq!(unsafe { libc::ftruncate(fd.as_raw_fd(), size) }, -1);
        }
        assert_eq!(
            unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_WRITE) },
            -1
        );
    }

    #[test]
    fn the_status_page_cannot_be_written_by_others() {
        let (_memory, fd) = SharedMemory::create(c"test", 4096, true).unwrap();
        assert!(SharedMemory::open(fd.as_fd(), 4096, true).is_err());
        assert!(SharedMemory::open(fd.as_fd(), 4096, false).is_ok());
    }

    #[test]
    fn a_wrong_size_is_refused() {
        let (_memory, fd) = SharedMemory::create(c"test", 8192, false).unwrap();
        assert!(SharedMemory::open(fd.as_fd(), 4096, true).is_err());
    }
}
