//! The same messages framed on a stream: how a virtual machine reaches a partition.
//!
//! The guest's library connects to a proxy (over a vsock, or any stream socket) and shakes hands as
//! it does with the module; the proxy welcomes it without descriptors, and from then on each side
//! sends frames. A request frame is a u32 length of what follows, the request header (56 bytes) and
//! the four sections without padding; an answer frame is a u32 length, the response header (40
//! bytes), the partition's epoch (u64) and the output. One message is under way at a time. The proxy
//! is a client of the module like any other: it can do what its socket lets it do, no more.

use crate::client::{ConnectError, Connection, Lost, Request, SubmitError};
use crate::fields::Reader;
use crate::handshake::{HELLO_BYTES, Hello, Refusal, Welcome};
use crate::layout::BULK_BYTES;
use crate::message::{REQUEST_BYTES, RESPONSE_BYTES, RequestHeader, ResponseHeader};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The longest frame: a bulk region of data, and sections that fit a slot.
const FRAME_MAX: usize = BULK_BYTES + 4 * 65536;
/// How long a peer of the proxy may take over its hello.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// An answer that has come.
#[derive(Debug)]
pub struct Answer {
    /// Its header.
    pub header: ResponseHeader,
    /// Its output.
    pub output: zeroize::Zeroizing<Vec<u8>>,
}

/// A connection through a proxy.
#[derive(Debug)]
pub struct StreamConnection {
    socket: Mutex<UnixStream>,
    welcome: Welcome,
    epoch: AtomicU64,
    lost: AtomicBool,
}

impl StreamConnection {
    /// After the handshake.
    pub fn new(socket: UnixStream, welcome: Welcome) -> Result<Self, ConnectError> {
        socket.set_read_timeout(None)?;
        socket.set_write_timeout(None)?;
        Ok(Self {
            socket: Mutex::new(socket),
            welcome,
            epoch: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        })
    }

    /// The partition's name and the module's instance.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The partition's epoch as the newest answer had it.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether it has ended.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Asks the socket whether the proxy still lives.
    pub fn check(&self) -> Result<(), Lost> {
        // A lock that is held is a message under way: it will notice.
        if let Ok(socket) = self.socket.try_lock() {
            let mut byte = 0u8;
            // SAFETY: one byte of room; peeking takes nothing away.
            let count = unsafe {
                let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
                libc::recv(socket.as_raw_fd(), (&raw mut byte).cast(), 1, flags)
            };
            if count == 0 {
                self.lost.store(true, Ordering::Release);
            }
        }
        if self.is_lost() { Err(Lost) } else { Ok(()) }
    }

    /// In a forked child: the connection is lost here; it stays its owner's. The child's copy of the
    /// descriptor closes with the drop.
    pub fn abandon(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Sends a request and waits for its answer.
    pub fn exchange(&self, request: &Request<'_>) -> Result<Answer, SubmitError> {
        if self.is_lost() {
            return Err(SubmitError::Lost);
        }
        let frame = encode_request(request)?;
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = socket
            .write_all(&frame)
            .and_then(|()| read_frame(&mut socket));
        let decoded = answer.ok().and_then(|frame| decode_answer(&frame));
        let Some((answer, epoch)) = decoded else {
            self.lost.store(true, Ordering::Release);
            return Err(SubmitError::Lost);
        };
        self.epoch.store(epoch, Ordering::Release);
        Ok(answer)
    }
}

fn encode_request(request: &Request<'_>) -> Result<zeroize::Zeroizing<Vec<u8>>, SubmitError> {
    let short = |bytes: &[u8]| u16::try_from(bytes.len()).map_err(|_| SubmitError::TooLarge);
    let mut header = request.header;
    header.parameters = short(request.parameters)?;
    header.first = short(request.first)?;
    header.second = short(request.second)?;
    header.data = u32::try_from(request.data.len()).map_err(|_| SubmitError::TooLarge)?;
    let sections = [
        request.parameters,
        request.first,
        request.second,
        request.data,
    ];
    let length = REQUEST_BYTES + sections.iter().map(|section| section.len()).sum::<usize>();
    if length > FRAME_MAX {
        return Err(SubmitError::TooLarge);
    }
    let mut frame = zeroize::Zeroizing::new(Vec::with_capacity(4 + length));
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(&header.encode());
    sections
        .iter()
        .for_each(|section| frame.extend_from_slice(section));
    Ok(frame)
}

fn decode_request(frame: &[u8]) -> Option<Request<'_>> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(reader.bytes(REQUEST_BYTES).ok()?.try_into().ok()?);
    let request = Request {
        header,
        parameters: reader.bytes(usize::from(header.parameters)).ok()?,
        first: reader.bytes(usize::from(header.first)).ok()?,
        second: reader.bytes(usize::from(header.second)).ok()?,
        data: reader.bytes(usize::try_from(header.data).ok()?).ok()?,
    };
    reader.finish().ok()?;
    Some(request)
}

fn encode_answer(
    header: &ResponseHeader,
    epoch: u64,
    output: &[u8],
) -> zeroize::Zeroizing<Vec<u8>> {
    let length = RESPONSE_BYTES + 8 + output.len();
    let mut frame = zeroize::Zeroizing::new(Vec::with_capacity(4 + length));
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(&header.encode());
    frame.extend_from_slice(&epoch.to_le_bytes());
    frame.extend_from_slice(output);
    frame
}

fn decode_answer(frame: &[u8]) -> Option<(Answer, u64)> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(reader.bytes(RESPONSE_BYTES).ok()?.try_into().ok()?);
    let epoch = reader.u64().ok()?;
    let output = zeroize::Zeroizing::new(reader.rest().to_vec());
    Some((Answer { header, output }, epoch))
}

fn read_frame(socket: &mut UnixStream) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_MAX {
        return Err(io::Error::other(format!(
            "a frame of {length} bytes, at most {FRAME_MAX} are taken"
        )));
    }
    let mut frame = zeroize::Zeroizing::new(Vec::new());
    // What is announced is not believed: memory grows with what really comes.
    let taken = socket.take(length as u64).read_to_end(&mut frame)?;
    if taken < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame)
}

/// Serves one peer of a proxy: its hello, then its frames, until it goes or sends what is none.
/// The module's socket is connected to when the peer has said hello.
pub fn serve_peer(mut peer: UnixStream, module: &Path) -> io::Result<()> {
    peer.set_read_timeout(Some(HELLO_LIMIT))?;
    let mut bytes = [0; HELLO_BYTES];
    peer.read_exact(&mut bytes)?;
    let refuse = |peer: &mut UnixStream, refusal: Refusal| {
        let version = crate::layout::PROTOCOL_VERSION;
        let welcome = Welcome {
            refusal,
            version,
            instance: 0,
            name: String::new(),
        };
        peer.write_all(&welcome.encode())
    };
    let version = Hello::decode(&bytes).map(|hello| hello.common_version());
    match version {
        Err(_) => return refuse(&mut peer, Refusal::Malformed),
        Ok(None) => return refuse(&mut peer, Refusal::Version),
        Ok(Some(_)) => {}
    }
    let connection = match Connection::open(module) {
        Ok(connection) => connection,
        Err(ConnectError::Refused(refusal)) => return refuse(&mut peer, refusal),
        Err(_) => return refuse(&mut peer, Refusal::Resources),
    };
    peer.write_all(&connection.welcome().encode())?;
    peer.set_read_timeout(None)?;
    let mut patience = Connection::patience();
    loop {
        let frame = match read_frame(&mut peer) {
            Ok(frame) => frame,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let request = decode_request(&frame).ok_or_else(|| {
            io::Error::other("a frame whose sections are not as long as its header says")
        })?;
        let answer = connection.call(&request, &mut patience, |header, output| {
            encode_answer(&header, connection.epoch(), output)
        });
        match answer {
            Ok(frame) => peer.write_all(&frame)?,
            Err(SubmitError::Lost) => return Err(io::Error::other("the module has gone")),
            Err(SubmitError::TooLarge | SubmitError::NoBulk | SubmitError::Busy) => {
                // CKR_DATA_LEN_RANGE: the message is no message for this partition.
                let header = ResponseHeader {
                    result: 0x21,
                    ..ResponseHeader::default()
                };
                peer.write_all(&encode_answer(&header, connection.epoch(), &[]))?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn requests_survive_their_frames(
            parameters in proptest::collection::vec(any::<u8>(), 0..100),
            first in proptest::collection::vec(any::<u8>(), 0..100),
            second in proptest::collection::vec(any::<u8>(), 0..100),
            data in proptest::collection::vec(any::<u8>(), 0..5000),
        ) {
            let request = Request {
                header: RequestHeader { operation: 31, session: 7, ..RequestHeader::default() },
                parameters: &parameters,
                first: &first,
                second: &second,
                data: &data,
            };
            let frame = encode_request(&request).unwrap();
            let again = decode_request(&frame[4..]).unwrap();
            prop_assert_eq!(
                (again.parameters, again.first, again.second, again.data),
                (&parameters[..], &first[..], &second[..], &data[..])
            );
            for length in 0..frame.len().min(300) - 4 {
                prop_assert!(decode_request(&frame[4..4 + length]).is_none());
            }
        }

        #[test]
        fn garbage_is_no_frame_or_a_bounded_one(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_request(&bytes);
            let _ = decode_answer(&bytes);
        }
    }

    #[test]
    fn a_frame_that_announces_too_much_is_refused_before_memory_is_taken() {
        let (mut left, mut right) = UnixStream::pair().unwrap();
        left.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(read_frame(&mut right).is_err());
    }
}
