//! Serving a partition: its socket, its connections, its workers.
//!
//! One listener thread for all partitions accepts, shakes hands and watches for ends; worker threads
//! of each partition, started with its first connection, take requests from its rings. So the kernel
//! shares the CPU between partitions (their workers' weights are nice values), preempts long
//! operations, and charges spinning to whom it belongs; and a partition that nobody uses costs no
//! thread. A partition's helpers, with which it uses CPUs that others leave, have a twentieth of its weight
//! while others work, so that a flood on many CPUs takes little from other partitions.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub mod competition;
mod desk;
pub mod listener;
mod places;
pub mod pool;
pub mod worker;

/// What wakes a sleeping first worker: an epoll set of eventfds, one of the module's own and one for each
/// connection (a client that drains its own bell harms itself only).
#[derive(Debug)]
pub struct Bell {
    epoll: OwnedFd,
    own: OwnedFd,
}

impl Bell {
    /// A bell without connections.
    pub fn new() -> io::Result<Self> {
        // SAFETY: plain system call; the result is checked.
        let epoll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        let bell = Self {
            epoll,
            own: eventfd()?,
        };
        bell.add(bell.own.as_raw_fd())?;
        Ok(bell)
    }

    /// Adds a connection's eventfd. It leaves the set when its last descriptor closes, or by `remove`.
    pub fn add(&self, fd: RawFd) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET) as u32,
            u64: 0,
        };
        // SAFETY: the event lives during the call.
        let done =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Takes a connection's eventfd out.
    pub fn remove(&self, fd: RawFd) {
        // SAFETY: plain system call.
        unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_DEL,
                fd,
                std::ptr::null_mut(),
            )
        };
    }

    /// Wakes the first worker.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes of our own.
        unsafe { libc::write(self.own.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Sleeps until somebody rings.
    pub fn sleep(&self) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for one event.
        unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), &mut event, 1, -1) };
    }
}

/// A new eventfd, non-blocking.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the result is checked.
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

fn owned(raw: RawFd) -> io::Result<OwnedFd> {
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
