//! What a partition says about itself (`Operation::PartitionInfo`): a fixed structure.

use crate::fields::{Malformed, Reader, Writer};

/// Bytes of a `PartitionInfo`.
pub const PARTITION_INFO_BYTES: usize = 200;

/// A partition as a token: CK_TOKEN_INFO and what else a client may know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionInfo {
    /// UTF-8, padded with blanks.
    pub label: [u8; 32],
    /// UTF-8, padded with blanks.
    pub manufacturer: [u8; 32],
    /// UTF-8, padded with blanks.
    pub model: [u8; 16],
    /// ASCII, padded with blanks.
    pub serial: [u8; 16],
    /// CKF_... of CK_TOKEN_INFO.
    pub flags: u64,
    /// Sessions that the partition's quota allows; 0: no limit.
    pub sessions_max: u64,
    /// Sessions open on this connection.
    pub sessions: u64,
    /// As `sessions_max`, for read-write sessions.
    pub rw_sessions_max: u64,
    /// Read-write sessions open on this connection.
    pub rw_sessions: u64,
    /// Bytes.
    pub pin_max: u32,
    /// Bytes.
    pub pin_min: u32,
    /// Bytes of object memory that the quota allows; u64::MAX: not told.
    pub memory_total: u64,
    /// Bytes of object memory that are free; u64::MAX: not told.
    pub memory_free: u64,
    /// Major, minor.
    pub hardware_version: (u8, u8),
    /// Major, minor.
    pub firmware_version: (u8, u8),
    /// The partition's state, as on the status page.
    pub state: u32,
    /// Seconds since the epoch, or 0: no clock.
    pub time: u64,
    /// CKS_..._VALIDATION flags that hold now (C_GetSessionValidationFlags).
    pub validation_flags: u64,
    /// Objects that the quota allows; 0: no limit.
    pub objects_max: u64,
    /// Token objects that exist.
    pub objects: u64,
}

impl PartitionInfo {
    /// The structure's bytes.
    pub fn encode(&self) -> [u8; PARTITION_INFO_BYTES] {
        let mut out = [0u8; PARTITION_INFO_BYTES];
        let mut w = Writer::new(&mut out);
        w.bytes(&self.label);
        w.bytes(&self.manufacturer);
        w.bytes(&self.model);
        w.bytes(&self.serial);
        w.u64(self.flags);
        w.u64(self.sessions_max);
        w.u64(self.sessions);
        w.u64(self.rw_sessions_max);
        w.u64(self.rw_sessions);
        w.u32(self.pin_max);
        w.u32(self.pin_min);
        w.u64(self.memory_total);
        w.u64(self.memory_free);
        w.bytes(&[self.hardware_version.0, self.hardware_version.1]);
        w.bytes(&[self.firmware_version.0, self.firmware_version.1]);
        w.u32(self.state);
        w.u64(self.time);
        w.u64(self.validation_flags);
        w.u64(self.objects_max);
        w.u64(self.objects);
        out
    }

    /// The structure in these bytes. Longer input is a newer module's: the rest is not read.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        Ok(Self {
            label: array(&mut r)?,
            manufacturer: array(&mut r)?,
            model: array(&mut r)?,
            serial: array(&mut r)?,
            flags: r.u64()?,
            sessions_max: r.u64()?,
            sessions: r.u64()?,
            rw_sessions_max: r.u64()?,
            rw_sessions: r.u64()?,
            pin_max: r.u32()?,
            pin_min: r.u32()?,
            memory_total: r.u64()?,
            memory_free: r.u64()?,
            hardware_version: (r.u8()?, r.u8()?),
            firmware_version: (r.u8()?, r.u8()?),
            state: r.u32()?,
            time: r.u64()?,
            validation_flags: r.u64()?,
            objects_max: r.u64()?,
            objects: r.u64()?,
        })
    }
}

fn array<const N: usize>(r: &mut Reader<'_>) -> Result<[u8; N], Malformed> {
    let offset = r.offset();
    r.bytes(N)?.try_into().map_err(|_| Malformed { offset })
}

/// Text padded with blanks, as CK_TOKEN_INFO has it; what is too long is cut between characters.
pub fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [b' '; N];
    let mut end = text.len().min(N);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for (target, byte) in out.iter_mut().zip(text.bytes().take(end)) {
        *target = byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_structure_survives_its_bytes(bytes in proptest::collection::vec(any::<u8>(), PARTITION_INFO_BYTES)) {
            let info = PartitionInfo::decode(&bytes).unwrap();
            prop_assert_eq!(&info.encode()[..], &bytes[..]);
            prop_assert!(PartitionInfo::decode(&bytes[1..]).is_err());
        }

        #[test]
        fn padded_text_is_text(text in "\\PC{0,40}") {
            let field: [u8; 32] = padded(&text);
            prop_assert!(text.starts_with(std::str::from_utf8(&field).unwrap().trim_end()) || text.ends_with(' '));
        }
    }
}
