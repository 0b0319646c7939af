//! The messages of the socket, and descriptors beside them.
//!
//! A partition's socket is a Unix stream socket. The client says hello (64 bytes); the module
//! answers (128 bytes) with three descriptors: ring, status page, eventfd. After that the client may
//! ask for bulk regions (16 bytes each way, one descriptor); the socket otherwise says only, by
//! staying open, that both sides live. The module takes no descriptor: what comes with a message is
//! closed unseen by the kernel, since it never offers room for one.

use crate::fields::{Malformed, Reader, Writer};
use crate::layout::{
    BULK_BYTES, PROTOCOL_VERSION, RING_BYTES, SLOT_COUNT, SLOT_STRIDE, STATUS_BYTES,
};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Bytes of the client's hello.
pub const HELLO_BYTES: usize = 64;
/// Bytes of the module's answer.
pub const WELCOME_BYTES: usize = 128;
/// Bytes of a bulk request and of its answer.
pub const BULK_MESSAGE_BYTES: usize = 16;
/// Longest partition name in bytes.
pub const NAME_MAX: usize = 64;

const HELLO_MAGIC: u32 = u32::from_le_bytes(*b"CMh1");
const WELCOME_MAGIC: u32 = u32::from_le_bytes(*b"CMw1");
const BULK_MAGIC: u32 = u32::from_le_bytes(*b"CMb1");

/// Why the module refuses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Refusal {
    /// Accepted.
    None = 0,
    /// No common protocol version.
    Version = 1,
    /// The partition has all the connections or mapped bytes that its quota allows.
    Quota = 2,
    /// The partition is suspended.
    Suspended = 3,
    /// The hello was not one.
    Malformed = 4,
    /// The module could not make the shared memory.
    Resources = 5,
}

impl Refusal {
    fn from_code(code: u16) -> Option<Self> {
        [
            Self::None,
            Self::Version,
            Self::Quota,
            Self::Suspended,
            Self::Malformed,
            Self::Resources,
        ]
        .into_iter()
        .find(|refusal| *refusal as u16 == code)
    }
}

/// The client's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Oldest protocol version that the client speaks.
    pub minimum: u16,
    /// Newest protocol version that the client speaks.
    pub maximum: u16,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            minimum: PROTOCOL_VERSION,
            maximum: PROTOCOL_VERSION,
        }
    }
}

impl Hello {
    /// The message's bytes.
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut out = [0u8; HELLO_BYTES];
        let mut w = Writer::new(&mut out);
        w.u32(HELLO_MAGIC);
        w.u16(self.minimum);
        w.u16(self.maximum);
        out
    }

    /// The message in these bytes.
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.u32()? != HELLO_MAGIC {
            return Err(Malformed { offset: 0 });
        }
        Ok(Self {
            minimum: r.u16()?,
            maximum: r.u16()?,
        })
    }

    /// The newest version that both sides speak.
    pub fn common_version(&self) -> Option<u16> {
        (self.minimum <= PROTOCOL_VERSION && PROTOCOL_VERSION <= self.maximum)
            .then_some(PROTOCOL_VERSION)
    }
}

/// The module's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// `Refusal::None`, or why not.
    pub refusal: Refusal,
    /// The version chosen, or the newest that the module speaks.
    pub version: u16,
    /// Changes with every start of the module.
    pub instance: u64,
    /// The partition's name, at most `NAME_MAX` bytes of UTF-8.
    pub name: String,
}

impl Welcome {
    /// The message's bytes; a longer name is cut.
    pub fn encode(&self) -> [u8; WELCOME_BYTES] {
        let mut out = [0u8; WELCOME_BYTES];
        let mut w = Writer::new(&mut out);
        w.u32(WELCOME_MAGIC);
        w.u16(self.refusal as u16);
        w.u16(self.version);
        w.u64(self.instance);
        for size in [
            SLOT_COUNT,
            SLOT_STRIDE,
            RING_BYTES,
            STATUS_BYTES,
            BULK_BYTES,
        ] {
            w.u32(u32::try_from(size).unwrap_or(u32::MAX));
        }
        let name = self.name.as_bytes();
        let name = name.get(..name.len().min(NAME_MAX)).unwrap_or(name);
        w.u32(u32::try_from(name.len()).unwrap_or(0));
        w.bytes(name);
        out
    }

    /// The message in these bytes; sizes other than ours are malformed at their offset.
    pub fn decode(bytes: &[u8; WELCOME_BYTES]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.u32()? != WELCOME_MAGIC {
            return Err(Malformed { offset: 0 });
        }
        let refusal = Refusal::from_code(r.u16()?).ok_or(Malformed { offset: 4 })?;
        let version = r.u16()?;
        let instance = r.u64()?;
        for size in [
            SLOT_COUNT,
            SLOT_STRIDE,
            RING_BYTES,
            STATUS_BYTES,
            BULK_BYTES,
        ] {
            let offset = r.offset();
            if usize::try_from(r.u32()?).ok() != Some(size) && refusal == Refusal::None {
                return Err(Malformed { offset });
            }
        }
        let offset = r.offset();
        let name = String::from_utf8(r.counted()?.to_vec()).map_err(|_| Malformed { offset })?;
        Ok(Self {
            refusal,
            version,
            instance,
            name,
        })
    }
}

/// A request for a bulk region, or its answer (`index` with a descriptor, or a refusal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkMessage {
    /// In an answer: the number that requests use, from 1. 0: refused (quota).
    pub index: u16,
}

impl BulkMessage {
    /// The message's bytes.
    pub fn encode(&self) -> [u8; BULK_MESSAGE_BYTES] {
        let mut out = [0u8; BULK_MESSAGE_BYTES];
        let mut w = Writer::new(&mut out);
        w.u32(BULK_MAGIC);
        w.u16(self.index);
        out
    }

    /// The message in these bytes.
    pub fn decode(bytes: &[u8; BULK_MESSAGE_BYTES]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.u32()? != BULK_MAGIC {
            return Err(Malformed { offset: 0 });
        }
        Ok(Self { index: r.u16()? })
    }
}

/// Room for the control message of up to four descriptors, aligned as the kernel wants it.
#[repr(C, align(8))]
struct ControlBuffer([u8; 64]);

/// Sends bytes and descriptors in one message, without SIGPIPE.
pub fn send_with_descriptors(
    socket: &UnixStream,
    bytes: &[u8],
    descriptors: &[RawFd],
) -> io::Result<()> {
    let mut control = ControlBuffer([0; 64]);
    let mut vector = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut vector;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let payload =
            u32::try_from(std::mem::size_of_val(descriptors)).map_err(io::Error::other)?;
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
        let (space, length) = unsafe { (libc::CMSG_SPACE(payload), libc::CMSG_LEN(payload)) };
        if space as usize > control.0.len() {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = space as usize;
        // SAFETY: the control buffer has room for one header and its payload (checked above), and
        // is aligned for cmsghdr.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = length as usize;
            std::ptr::copy_nonoverlapping(
                descriptors.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(header),
                payload as usize,
            );
        }
    }
    // SAFETY: the message and all that it points to live during the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL) };
    match usize::try_from(sent) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::WriteZero,
            "short message on the socket",
        )),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Receives exactly `N` bytes and up to `descriptors` descriptors (close-on-exec).
pub fn receive_with_descriptors<const N: usize>(
    socket: &UnixStream,
    descriptors: usize,
) -> io::Result<([u8; N], Vec<OwnedFd>)> {
    let mut bytes = [0u8; N];
    let mut received = Vec::new();
    let mut filled = 0;
    while filled < N {
        let mut control = ControlBuffer([0; 64]);
        let rest = bytes.get_mut(filled..).unwrap_or(&mut []);
        let mut vector = libc::iovec {
            iov_base: rest.as_mut_ptr().cast(),
            iov_len: rest.len(),
        };
        // SAFETY: all-zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &mut vector;
        message.msg_iovlen = 1;
        if descriptors > 0 {
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = control.0.len();
        }
        // SAFETY: the message and all that it points to live during the call.
        let count =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        if descriptors > 0 {
            collect_descriptors(&message, &mut received);
        }
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed the socket",
            ));
        }
        filled += count;
    }
    if received.len() > descriptors {
        return Err(io::Error::other("more descriptors than expected"));
    }
    Ok((bytes, received))
}

fn collect_descriptors(message: &libc::msghdr, received: &mut Vec<OwnedFd>) {
    // SAFETY: the kernel filled the control buffer; the CMSG macros walk it within msg_controllen,
    // and each SCM_RIGHTS payload is an array of descriptors that now belong to this process.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                for index in 0..bytes / std::mem::size_of::<RawFd>() {
                    let mut raw: RawFd = -1;
                    std::ptr::copy_nonoverlapping(
                        libc::CMSG_DATA(header).add(index * std::mem::size_of::<RawFd>()),
                        (&raw mut raw).cast::<u8>(),
                        std::mem::size_of::<RawFd>(),
                    );
                    received.push(OwnedFd::from_raw_fd(raw));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn descriptors_travel_with_their_message() {
        let (left, right) = UnixStream::pair().unwrap();
        let welcome = Welcome {
            refusal: Refusal::None,
            version: 1,
            instance: 9,
            name: "web".into(),
        };
        send_with_descriptors(&left, &welcome.encode(), &[0, 1, 2]).unwrap();
        let (bytes, fds) = receive_with_descriptors::<WELCOME_BYTES>(&right, 3).unwrap();
        assert_eq!(Welcome::decode(&bytes).unwrap(), welcome);
        assert_eq!(fds.len(), 3);
        for fd in fds {
            assert_eq!(
                unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) },
                libc::FD_CLOEXEC
            );
        }
    }

    #[test]
    fn a_peer_that_leaves_early_is_an_error() {
        let (left, right) = UnixStream::pair().unwrap();
        send_with_descriptors(&left, &[1, 2, 3], &[]).unwrap();
        drop(left);
        let error = receive_with_descriptors::<HELLO_BYTES>(&right, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn versions_meet_or_not() {
        assert_eq!(
            Hello {
                minimum: 0,
                maximum: 9
            }
            .common_version(),
            Some(PROTOCOL_VERSION)
        );
        assert_eq!(
            Hello {
                minimum: PROTOCOL_VERSION + 1,
                maximum: 9
            }
            .common_version(),
            None
        );
        assert_eq!(
            Hello {
                minimum: 0,
                maximum: 0
            }
            .common_version(),
            None
        );
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_decodes(hello in any::<[u8; HELLO_BYTES]>(), welcome in proptest::array::uniform32(any::<u8>())) {
            let _ = Hello::decode(&hello);
            let mut bytes = [0u8; WELCOME_BYTES];
            bytes[..32].copy_from_slice(&welcome);
            bytes[..4].copy_from_slice(&WELCOME_MAGIC.to_le_bytes());
            let _ = Welcome::decode(&bytes);
        }
    }
}
