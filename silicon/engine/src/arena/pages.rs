//! The pages under the arena: memfd_secret where the kernel has it, else locked anonymous memory.
//!
//! memfd_secret(2) takes pages out of the kernel's own map: neither root through /proc/PID/mem nor a
//! debugger nor a kernel bug that reads stray addresses finds them; they are locked by their nature,
//! and no hibernation image holds them. Where it is not there (CONFIG_SECRETMEM, secretmem.enable)
//! pages are locked with mlock and left out of core dumps. Where the limit of locked memory is
//! reached, pages are left out of core dumps only, and the report counts them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// What kind of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pages that the kernel itself does not map.
    MemfdSecret,
    /// Anonymous pages, locked.
    Mlock,
    /// Anonymous pages that could not be locked.
    Unlocked,
}

impl Kind {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::MemfdSecret => "memfd_secret",
            Self::Mlock => "mlock",
            Self::Unlocked => "unlocked",
        }
    }
}

/// Maps further pages of one kind, or the next best.
#[derive(Debug)]
pub struct Pages {
    kind: Kind,
}

impl Pages {
    /// The best kind that this host allows.
    pub fn probe() -> Self {
        let length = 4096;
        let kind = if map_secret(None, length)
            .map(|base| unmap(base, length))
            .is_ok()
        {
            Kind::MemfdSecret
        } else {
            match map_anonymous(None, length) {
                Ok(base) => {
                    let locked = lock(base, length);
                    unmap(base, length);
                    if locked { Kind::Mlock } else { Kind::Unlocked }
                }
                Err(_) => Kind::Unlocked,
            }
        };
        Self { kind }
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Maps pages at a reserved address: whether they are locked, or None if there are none.
    pub fn map(&mut self, address: usize, length: usize) -> Option<bool> {
        if self.kind == Kind::MemfdSecret && map_secret(Some(address), length).is_ok() {
            return Some(true);
        }
        let base = map_anonymous(Some(address), length).ok()?;
        Some(self.kind != Kind::Unlocked && lock(base, length))
    }
}

/// Reserves addresses without memory behind them.
pub fn reserve(length: usize) -> io::Result<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let base = map(None, length, libc::PROT_NONE, flags, -1)?;
    Ok(base.expose_provenance())
}

/// A mapping of its own, left out of core dumps and children, and whether it is locked.
pub fn map_large(length: usize, locked: bool) -> Option<(*mut u8, bool)> {
    let base = map_anonymous(None, length).ok()?;
    Some((base, locked && lock(base, length)))
}

fn map(
    address: Option<usize>,
    length: usize,
    protection: libc::c_int,
    flags: libc::c_int,
    fd: libc::c_int,
) -> io::Result<*mut u8> {
    let fixed = if address.is_some() {
        libc::MAP_FIXED
    } else {
        0
    };
    let hint = address.map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut);
    // SAFETY: a new mapping; a fixed address lies in the range that `reserve` made for this.
    let base = unsafe { libc::mmap(hint, length, protection, flags | fixed, fd, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(base.cast())
}

fn map_secret(address: Option<usize>, length: usize) -> io::Result<*mut u8> {
    // SAFETY: plain system call; the result is checked.
    let raw = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let raw = libc::c_int::try_from(raw).unwrap_or(-1);
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, ours alone; closed at the end of this function, so that nobody can
    // take it from this process and map it.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let size = libc::off_t::try_from(length).map_err(io::Error::other)?;
    // SAFETY: plain system call on our descriptor.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let base = map(
        address,
        length,
        protection,
        libc::MAP_SHARED,
        fd.as_raw_fd(),
    )?;
    hide(base, length);
    Ok(base)
}

fn map_anonymous(address: Option<usize>, length: usize) -> io::Result<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let base = map(address, length, protection, flags, -1)?;
    hide(base, length);
    Ok(base)
}

/// Neither in core dumps nor in forked children.
fn hide(base: *mut u8, length: usize) {
    // SAFETY: advice about a mapping of our own.
    unsafe {
        libc::madvise(base.cast(), length, libc::MADV_DONTDUMP);
        libc::madvise(base.cast(), length, libc::MADV_DONTFORK);
    }
}

fn lock(base: *mut u8, length: usize) -> bool {
    // SAFETY: locks a mapping of our own.
    unsafe { libc::mlock(base.cast(), length) == 0 }
}

fn unmap(base: *mut u8, length: usize) {
    // SAFETY: a mapping that this module has just made and nobody uses.
    unsafe { libc::munmap(base.cast(), length) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_gives_pages_at_its_place() {
        for kind in [Kind::MemfdSecret, Kind::Mlock, Kind::Unlocked] {
            let base = reserve(1 << 20).unwrap();
            let mut pages = Pages { kind };
            for chunk in 0..4 {
                let address = base + chunk * (64 << 10);
                let locked = pages.map(address, 64 << 10).unwrap();
                assert!(kind != Kind::Unlocked || !locked);
                let bytes = unsafe {
                    let start = ptr::with_exposed_provenance_mut::<u8>(address);
                    std::slice::from_raw_parts_mut(start, 64 << 10)
                };
                assert!(bytes.iter().all(|byte| *byte == 0));
                bytes.fill(7);
            }
        }
    }
}
