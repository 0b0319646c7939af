//! Masked blobs: how keys leave the vault for the disk.
//!
//! The header is the Azure Integrated HSM's (notes: masked-key blob, little-endian): version u16,
//! algorithm u16, then the lengths and paddings of IV, metadata, ciphertext and tag (u16 each), 34
//! reserved bytes; behind it IV, metadata, ciphertext, tag, each padded to four bytes. Ours has
//! version 0xCA01: AES-256-GCM (algorithm 2) with everything before the ciphertext as associated
//! data; metadata = partition (16), kind u8, 7 zero bytes, id u64, generation u64; the plaintext is
//! the record: attributes and key alike, so nothing of an object can be read or exchanged at rest.

use casemate_transport::fields::{Reader, Writer};

use crate::control::{RecordKey, RecordKind};
use crate::lc::gcm::AesGcm;
use crate::lc::{Secret, kdf, random};

/// Bytes of a masking or sealing secret.
pub const SECRET_BYTES: usize = 48;
/// The largest record in bytes.
pub const RECORD_MAX: usize = 60 * 1024;

const VERSION: u16 = 0xCA01;
const ALGORITHM_GCM256: u16 = 2;
const HEADER: usize = 54;
const IV: usize = 12;
const METADATA: usize = 40;
const TAG: usize = 16;

/// Why a blob does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskError {
    /// Not a blob of ours, or cut; the offset says where.
    Malformed(usize),
    /// A version or algorithm that this module does not know.
    Version(u16, u16),
    /// The tag does not verify: damaged, or masked under another key.
    Authentication,
    /// Authentic, but another partition's, object's or generation's.
    Identity,
    /// The record does not fit a blob.
    TooLarge(usize),
    /// The library failed.
    Internal,
}

impl std::fmt::Display for MaskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(offset) => write!(f, "malformed at byte {offset}"),
            Self::Version(version, algorithm) => {
                write!(
                    f,
                    "version {version:#x}, algorithm {algorithm} is not one that this module writes"
                )
            }
            Self::Authentication => {
                f.write_str("does not authenticate: damaged, or of another module")
            }
            Self::Identity => f.write_str("belongs to another partition, object or generation"),
            Self::TooLarge(bytes) => write!(f, "has {bytes} bytes, at most {RECORD_MAX} fit"),
            Self::Internal => f.write_str("the cryptographic library failed"),
        }
    }
}

impl std::error::Error for MaskError {}

/// Which record a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The partition's UUID.
    pub partition: [u8; 16],
    /// Which of its records.
    pub key: RecordKey,
    /// Counts its changes.
    pub generation: u64,
}

impl Identity {
    fn encode(&self) -> [u8; METADATA] {
        let mut out = [0u8; METADATA];
        let mut w = Writer::new(&mut out);
        w.bytes(&self.partition);
        w.u64(self.key.kind as u64);
        w.u64(self.key.id);
        w.u64(self.generation);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let partition = r.bytes(16).ok()?.try_into().ok()?;
        let kind = RecordKind::from_code(r.u64().ok()?)?;
        let id = r.u64().ok()?;
        let generation = r.u64().ok()?;
        r.finish().ok()?;
        Some(Self {
            partition,
            key: RecordKey { kind, id },
            generation,
        })
    }
}

/// A key that masks: AES-256-GCM, derived from a masking or sealing secret.
#[derive(Debug)]
pub struct MaskingKey {
    aead: AesGcm,
}

impl MaskingKey {
    /// The key of `secret` for this purpose.
    pub fn derive(secret: &Secret, purpose: &[u8]) -> Result<Self, MaskError> {
        let key = derive(secret, purpose)?;
        Ok(Self {
            aead: AesGcm::new(key.expose()).map_err(|_| MaskError::Internal)?,
        })
    }

    /// Masks a record.
    pub fn mask(&self, identity: &Identity, record: &[u8]) -> Result<Vec<u8>, MaskError> {
        if record.len() > RECORD_MAX {
            return Err(MaskError::TooLarge(record.len()));
        }
        let padding = record.len().next_multiple_of(4) - record.len();
        let mut blob = vec![0u8; HEADER];
        let mut w = Writer::new(&mut blob);
        for field in [VERSION, ALGORITHM_GCM256, 12, 0, 40, 0] {
            w.u16(field);
        }
        for field in [record.len(), padding, TAG] {
            w.u16(u16::try_from(field).map_err(|_| MaskError::TooLarge(record.len()))?);
        }
        let mut iv = [0u8; IV];
        random::fill(&mut iv).map_err(|_| MaskError::Internal)?;
        // The header is 52 bytes of fields and reserved bytes; two more keep what follows aligned.
        blob.extend_from_slice(&iv);
        blob.extend_from_slice(&identity.encode());
        let (ciphertext, tag) = {
            let associated = blob.as_slice();
            self.aead
                .seal(&iv, associated, record)
                .map_err(|_| MaskError::Internal)?
        };
        blob.extend_from_slice(&ciphertext);
        blob.resize(blob.len() + padding, 0);
        blob.extend_from_slice(&tag);
        Ok(blob)
    }

    /// Opens a blob: whose it is, its record, its tag.
    pub fn unmask(&self, blob: &[u8]) -> Result<(Identity, Secret, [u8; TAG]), MaskError> {
        let parts = Parts::parse(blob)?;
        let record = self
            .aead
            .open(parts.iv, parts.associated, parts.ciphertext, parts.tag)
            .map_err(|_| MaskError::Authentication)?;
        let identity = Identity::decode(parts.metadata).ok_or(MaskError::Identity)?;
        let tag = parts.tag.try_into().map_err(|_| MaskError::Internal)?;
        Ok((identity, record, tag))
    }
}

/// The tag of a blob: what the root authenticates of it.
pub fn tag_of(blob: &[u8]) -> Option<[u8; TAG]> {
    blob.get(blob.len().checked_sub(TAG)?..)?.try_into().ok()
}

/// 32 bytes for one purpose out of a masking or sealing secret.
pub fn derive(secret: &Secret, purpose: &[u8]) -> Result<Secret, MaskError> {
    derive_bytes(secret, purpose, 32)
}

/// Bytes for one purpose out of a masking or sealing secret.
pub fn derive_bytes(secret: &Secret, purpose: &[u8], length: usize) -> Result<Secret, MaskError> {
    kdf::kbkdf_sha384(secret.expose(), purpose, b"", length).map_err(|_| MaskError::Internal)
}

struct Parts<'a> {
    iv: &'a [u8],
    metadata: &'a [u8],
    associated: &'a [u8],
    ciphertext: &'a [u8],
    tag: &'a [u8],
}

impl<'a> Parts<'a> {
    fn parse(blob: &'a [u8]) -> Result<Self, MaskError> {
        let mut r = Reader::new(blob);
        let mut field = || {
            r.u16()
                .map(usize::from)
                .map_err(|e| MaskError::Malformed(e.offset))
        };
        let version = field()?;
        let algorithm = field()?;
        if version != usize::from(VERSION) || algorithm != usize::from(ALGORITHM_GCM256) {
            return Err(MaskError::Version(version as u16, algorithm as u16));
        }
        let fields = [field()?, field()?, field()?, field()?];
        let (length, padding, tag) = (field()?, field()?, field()?);
        if fields != [IV, 0, METADATA, 0] || tag != TAG || padding > 3 {
            return Err(MaskError::Malformed(4));
        }
        let associated_length = HEADER + IV + METADATA;
        if blob.len() != associated_length + length + padding + TAG {
            return Err(MaskError::Malformed(blob.len()));
        }
        let part = |from: usize, length: usize| {
            blob.get(from..from + length)
                .ok_or(MaskError::Malformed(from))
        };
        Ok(Self {
            iv: part(HEADER, IV)?,
            metadata: part(HEADER + IV, METADATA)?,
            associated: part(0, associated_length)?,
            ciphertext: part(associated_length, length)?,
            tag: part(associated_length + length + padding, TAG)?,
        })
    }
}
