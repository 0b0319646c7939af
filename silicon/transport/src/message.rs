//! The messages: operations, headers, and attributes in their bodies. `fields` reads and writes what
//! they are made of.
//!
//! All integers are little-endian. A request has a header and four sections, `parameters`, `first`,
//! `second` and `data`, in this order in the slot's payload, each on a cache line of its own. `data`
//! is last because the answer overwrites it: the output of an operation stands where its data stood.
//! With a bulk region (header field `region` = n > 0) `data` and the output stand in region n - 1,
//! from its beginning; the other sections stay in the slot.

use crate::fields::{Malformed, Reader, Writer};
use crate::layout::{SECTION_ALIGN, SLOT_PAYLOAD};

/// Bytes of a request header.
pub const REQUEST_BYTES: usize = 56;
/// Bytes of a response header.
pub const RESPONSE_BYTES: usize = 40;

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What a request asks for. The sections that each one takes stand in docs/transport.md.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Operation { $($(#[$doc])* $name = $code,)* }

        impl Operation {
            /// Every operation, in the order of their codes.
            pub const ALL: &'static [Operation] = &[$(Operation::$name,)*];

            /// The operation with this code, or None.
            pub fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// Its name, as logs and metrics show it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

operations! {
    /// Answers at once: the round trip alone.
    Noop = 0,
    /// Output: `PartitionInfo`.
    PartitionInfo = 1,
    /// aux = flags (1 = read-write, 2 = asynchronous). Answer value0 = session.
    OpenSession = 2,
    /// Ends `session` and its objects.
    CloseSession = 3,
    /// Ends every session of the connection.
    CloseAllSessions = 4,
    /// Answer value0 = login state and flags, value1 = device error.
    SessionInfo = 5,
    /// object = user type, data = PIN.
    Login = 6,
    /// Ends the connection's login.
    Logout = 7,
    /// first = label, data = SO PIN.
    InitToken = 8,
    /// data = user PIN.
    InitPin = 9,
    /// first = old PIN, data = new PIN.
    SetPin = 10,
    /// Output: u64 mechanism types.
    MechanismList = 11,
    /// Answer value0 = min | max << 32, value1 = flags.
    MechanismInfo = 12,
    /// data = template. Answer value0 = handle.
    CreateObject = 13,
    /// object, data = template. Answer value0 = handle.
    CopyObject = 14,
    /// Destroys `object`.
    DestroyObject = 15,
    /// Answer value0 = size.
    ObjectSize = 16,
    /// object, data = attribute query. Output: attribute answers.
    GetAttributes = 17,
    /// object, data = template.
    SetAttributes = 18,
    /// object = cursor (0 to begin), aux = most handles, data = template. Output: u64 handles; value0 = next cursor or 0.
    FindObjects = 19,
    /// mechanism, data = template. Answer value0 = handle.
    GenerateKey = 20,
    /// mechanism, first = public template, data = private template. value0, value1 = handles.
    GenerateKeyPair = 21,
    /// mechanism, object = wrapping key, aux = key. Output: wrapped key.
    WrapKey = 22,
    /// mechanism, object = unwrapping key, first = template, data = wrapped key. value0 = handle.
    UnwrapKey = 23,
    /// mechanism, object = base key, data = template. value0 = handle; output: mechanism's own.
    DeriveKey = 24,
    /// mechanism, object = public key, data = template. Output: ciphertext; value0 = handle.
    EncapsulateKey = 25,
    /// mechanism, object = private key, first = template, data = ciphertext. value0 = handle.
    DecapsulateKey = 26,
    /// aux = `Usage`: whether such an operation may begin. Nothing is kept.
    Check = 27,
    /// One whole digest: data. Output: digest.
    Digest = 30,
    /// One whole signature or MAC.
    Sign = 31,
    /// first = signature, data = message.
    Verify = 32,
    /// One whole encryption; output in place of the data.
    Encrypt = 33,
    /// One whole decryption.
    Decrypt = 34,
    /// A signature with message recovery.
    SignRecover = 35,
    /// data = signature. Output: message.
    VerifyRecover = 36,
    /// aux = `Usage`: begins a multi-part operation of `session`.
    StreamBegin = 40,
    /// aux = `Usage`. Output: what the mechanism gives.
    StreamUpdate = 41,
    /// aux = `Usage`, first = signature where it verifies, data = last part.
    StreamFinal = 42,
    /// aux = `Usage`: forgets the operation.
    StreamCancel = 43,
    /// Digests the value of secret key `object`.
    StreamDigestKey = 44,
    /// aux = `Usage`. Output: the saved state of that operation, encrypted.
    SaveState = 45,
    /// aux = `Usage`, data = saved state.
    RestoreState = 46,
    /// aux = number of bytes.
    Random = 50,
    /// data = bytes that are mixed in.
    SeedRandom = 51,
    /// object = key, data = nonce. Output: key report.
    AttestKey = 60,
    /// Output: the partition's certificate chain.
    PartitionChain = 61,
    /// Wraps `aux` under `object` with associated data in first. Output: wrapped key.
    WrapKeyAuthenticated = 62,
    /// first = template, second = associated data, data = wrapped key. value0 = handle.
    UnwrapKeyAuthenticated = 63,
    /// object = user type, first = user name, data = PIN.
    LoginUser = 64,
    /// first = template, data = PKCS #8 or PEM. value0 = private handle, value1 = public handle.
    ImportKey = 65,
}

impl Operation {
    /// Whether requests with this code name a mechanism.
    pub fn has_mechanism(self) -> bool {
        matches!(
            self,
            Self::MechanismInfo
                | Self::GenerateKey
                | Self::GenerateKeyPair
                | Self::WrapKey
                | Self::UnwrapKey
                | Self::WrapKeyAuthenticated
                | Self::UnwrapKeyAuthenticated
                | Self::DeriveKey
                | Self::EncapsulateKey
                | Self::DecapsulateKey
                | Self::Check
                | Self::Digest
                | Self::Sign
                | Self::Verify
                | Self::Encrypt
                | Self::Decrypt
                | Self::SignRecover
                | Self::VerifyRecover
                | Self::StreamBegin
        )
    }

    /// Whether requests with this code carry a PIN.
    pub fn carries_pin(code: u16) -> bool {
        matches!(
            Self::from_code(code),
            Some(Self::Login | Self::LoginUser | Self::InitToken | Self::InitPin | Self::SetPin)
        )
    }
}

/// What a multi-part operation, or a check, is for. One of each may be active in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Usage {
    /// Message digest.
    Digest = 0,
    /// Signature or MAC.
    Sign = 1,
    /// Verification.
    Verify = 2,
    /// Encryption.
    Encrypt = 3,
    /// Decryption.
    Decrypt = 4,
    /// Signature with recovery.
    SignRecover = 5,
    /// Verification with recovery.
    VerifyRecover = 6,
    /// Wrapping another key.
    Wrap = 7,
    /// Unwrapping a key.
    Unwrap = 8,
    /// Deriving a key.
    Derive = 9,
    /// Key encapsulation.
    Encapsulate = 10,
    /// Key decapsulation.
    Decapsulate = 11,
}

impl Usage {
    /// All of them, by code.
    pub const ALL: [Usage; 12] = [
        Usage::Digest,
        Usage::Sign,
        Usage::Verify,
        Usage::Encrypt,
        Usage::Decrypt,
        Usage::SignRecover,
        Usage::VerifyRecover,
        Usage::Wrap,
        Usage::Unwrap,
        Usage::Derive,
        Usage::Encapsulate,
        Usage::Decapsulate,
    ];

    /// The usage with this code, or None.
    pub fn from_code(code: u64) -> Option<Self> {
        usize::try_from(code)
            .ok()
            .and_then(|index| Self::ALL.get(index).copied())
    }
}

/// Header flag: only the length of the output is wanted; nothing is consumed.
pub const FLAG_LENGTH_ONLY: u16 = 1;

/// The fixed part of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// `Operation` code.
    pub operation: u16,
    /// `FLAG_...` bits.
    pub flags: u16,
    /// 0: data in the slot; n: data in bulk region n - 1.
    pub region: u16,
    /// Lengths of `parameters` and `first` in bytes (both stay in the slot).
    pub parameters: u16,
    /// Session, or 0.
    pub session: u64,
    /// Object handle, or what the operation says.
    pub object: u64,
    /// CK_MECHANISM_TYPE.
    pub mechanism: u64,
    /// A further number, as the operation says.
    pub aux: u64,
    /// Length of `first` in bytes.
    pub first: u16,
    /// Length of `second` in bytes.
    pub second: u16,
    /// Length of `data` in bytes.
    pub data: u32,
    /// Bytes that the caller has for the output.
    pub capacity: u32,
    /// The client's count of requests in this slot: the answer carries it.
    pub sequence: u32,
}

impl RequestHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; REQUEST_BYTES] {
        let mut out = [0u8; REQUEST_BYTES];
        let mut w = Writer::new(&mut out);
        w.u16(self.operation);
        w.u16(self.flags);
        w.u16(self.region);
        w.u16(self.parameters);
        w.u64(self.session);
        w.u64(self.object);
        w.u64(self.mechanism);
        w.u64(self.aux);
        w.u16(self.first);
        w.u16(self.second);
        w.u32(self.data);
        w.u32(self.capacity);
        w.u32(self.sequence);
        out
    }

    /// The header in these bytes; every byte string is one.
    pub fn decode(bytes: &[u8; REQUEST_BYTES]) -> Self {
        let mut r = Reader::new(bytes);
        Self {
            operation: r.u16().unwrap_or(0),
            flags: r.u16().unwrap_or(0),
            region: r.u16().unwrap_or(0),
            parameters: r.u16().unwrap_or(0),
            session: r.u64().unwrap_or(0),
            object: r.u64().unwrap_or(0),
            mechanism: r.u64().unwrap_or(0),
            aux: r.u64().unwrap_or(0),
            first: r.u16().unwrap_or(0),
            second: r.u16().unwrap_or(0),
            data: r.u32().unwrap_or(0),
            capacity: r.u32().unwrap_or(0),
            sequence: r.u32().unwrap_or(0),
        }
    }

    /// Where the sections stand, or None if they do not fit. `bulk` is the size of the region that
    /// `data` is in, where it is not in the slot.
    pub fn sections(&self, bulk: Option<usize>) -> Option<Sections> {
        let parameters = Span {
            offset: 0,
            length: usize::from(self.parameters),
        };
        let first = parameters.next(usize::from(self.first));
        let second = first.next(usize::from(self.second));
        let data_length = usize::try_from(self.data).ok()?;
        if second.end() > SLOT_PAYLOAD {
            return None;
        }
        let (data, room) = match bulk {
            None => (second.next(data_length), SLOT_PAYLOAD),
            Some(size) => (
                Span {
                    offset: 0,
                    length: data_length,
                },
                size,
            ),
        };
        if data.end() > room {
            return None;
        }
        Some(Sections {
            parameters,
            first,
            second,
            data,
            room: room - data.offset,
        })
    }
}

/// A piece of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Bytes from the payload's beginning.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
}

impl Span {
    fn next(self, length: usize) -> Span {
        Span {
            offset: self.end().next_multiple_of(SECTION_ALIGN),
            length,
        }
    }

    /// The offset behind it.
    pub fn end(self) -> usize {
        self.offset + self.length
    }
}

/// Where a request's sections stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sections {
    /// Mechanism parameters.
    pub parameters: Span,
    /// As the operation says.
    pub first: Span,
    /// As the operation says.
    pub second: Span,
    /// The data; the output begins at the same offset.
    pub data: Span,
    /// Bytes from the data's offset to the end of what it stands in: the most output there can be.
    pub room: usize,
}

/// The fixed part of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseHeader {
    /// CK_RV.
    pub result: u64,
    /// Bytes of output; with CKR_BUFFER_TOO_SMALL or `FLAG_LENGTH_ONLY` the bytes that it needs.
    pub output: u64,
    /// As the operation says.
    pub value0: u64,
    /// As the operation says.
    pub value1: u64,
}

impl ResponseHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; RESPONSE_BYTES] {
        let mut out = [0u8; RESPONSE_BYTES];
        let mut w = Writer::new(&mut out);
        w.u64(self.result);
        w.u64(self.output);
        w.u64(self.value0);
        w.u64(self.value1);
        out
    }

    /// The header in these bytes; every byte string is one.
    pub fn decode(bytes: &[u8; RESPONSE_BYTES]) -> Self {
        let mut r = Reader::new(bytes);
        Self {
            result: r.u64().unwrap_or(0),
            output: r.u64().unwrap_or(0),
            value0: r.u64().unwrap_or(0),
            value1: r.u64().unwrap_or(0),
        }
    }
}

/// Attributes on the wire: for each a u64 type, a u32 length, the value. CK_ULONG values are eight
/// bytes, CK_BBOOL one. Templates inside a template (CKA_WRAP_TEMPLATE and its kind) nest.
pub fn encode_attribute(out: &mut Vec<u8>, kind: u64, value: &[u8]) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(value);
}

/// The attributes of a template, in order.
pub fn decode_attributes(bytes: &[u8]) -> Result<Vec<(u64, &[u8])>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut attributes = Vec::new();
    while !reader.is_empty() {
        let kind = reader.u64()?;
        attributes.push((kind, reader.counted()?));
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_header_survives_its_bytes(bytes in any::<[u8; REQUEST_BYTES]>()) {
            prop_assert_eq!(RequestHeader::decode(&bytes).encode(), bytes);
        }

        #[test]
        fn sections_never_leave_their_region(bytes in any::<[u8; REQUEST_BYTES]>(), bulk in proptest::option::of(0usize..1 << 25)) {
            if let Some(s) = RequestHeader::decode(&bytes).sections(bulk) {
                prop_assert!(s.second.end() <= SLOT_PAYLOAD);
                prop_assert!(s.first.offset >= s.parameters.end());
                prop_assert!(s.data.end() <= bulk.unwrap_or(SLOT_PAYLOAD));
                prop_assert_eq!(s.data.offset + s.room, bulk.unwrap_or(SLOT_PAYLOAD));
            }
        }

        #[test]
        fn any_bytes_decode_or_say_where_not(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            match decode_attributes(&bytes) {
                Ok(attributes) => {
                    let mut again = Vec::new();
                    for (kind, value) in attributes {
                        encode_attribute(&mut again, kind, value);
                    }
                    prop_assert_eq!(again, bytes);
                }
                Err(error) => prop_assert!(error.offset <= bytes.len()),
            }
        }
    }

    #[test]
    fn operation_codes_are_stable_and_total() {
        for operation in Operation::ALL {
            assert_eq!(Operation::from_code(*operation as u16), Some(*operation));
        }
        assert_eq!(Operation::from_code(0xFFFF), None);
    }
}
