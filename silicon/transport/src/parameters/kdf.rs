//! The parameters of the SP 800-108 key derivation functions.

use super::wire::{Sink, flag};
use crate::fields::{Malformed, Reader};

/// Most data parameters of a counter KDF.
pub const KDF_FIELDS_MAX: usize = 32;
/// Most further keys that one derivation gives.
pub const DERIVED_KEYS_MAX: usize = 16;

/// One field of the fixed input of an SP 800-108 KDF, in the order of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KdfField<'a> {
    /// CK_SP800_108_ITERATION_VARIABLE, in counter mode the counter.
    Iteration {
        /// Byte order.
        little_endian: bool,
        /// 8, 16, 24 or 32.
        width_bits: u32,
    },
    /// CK_SP800_108_COUNTER: a counter beside the iteration variable (feedback modes).
    Counter {
        /// Byte order.
        little_endian: bool,
        /// 8, 16, 24 or 32.
        width_bits: u32,
    },
    /// CK_SP800_108_DKM_LENGTH.
    Length {
        /// CK_SP800_108_DKM_LENGTH_METHOD: 1 sum of keys, 2 sum of segments.
        method: u64,
        /// Byte order.
        little_endian: bool,
        /// 8 to 64.
        width_bits: u32,
    },
    /// CK_SP800_108_BYTE_ARRAY.
    Bytes(&'a [u8]),
    /// CK_SP800_108_KEY_HANDLE: the value of a further key.
    Key(u64),
}

/// CK_SP800_108_KDF_PARAMS and, with an `iv`, CK_SP800_108_FEEDBACK_KDF_PARAMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sp800Kdf<'a> {
    /// CK_SP800_108_PRF_TYPE, a mechanism type.
    pub prf: u64,
    /// The fixed input, at most `KDF_FIELDS_MAX`.
    pub fields: Vec<KdfField<'a>>,
    /// Feedback mode's initial value; empty otherwise.
    pub iv: &'a [u8],
    /// Templates (as `message::decode_attributes` reads them) of further keys, at most
    /// `DERIVED_KEYS_MAX`; the answer carries their handles.
    pub further_keys: Vec<&'a [u8]>,
}

const FIELD_ITERATION: u8 = 1;
const FIELD_COUNTER: u8 = 2;
const FIELD_LENGTH: u8 = 3;
const FIELD_BYTES: u8 = 4;
pub(super) const FIELD_KEY: u8 = 5;

impl<'a> Sp800Kdf<'a> {
    pub(super) fn write(&self, out: &mut impl Sink) {
        out.u64(self.prf);
        out.u8(u8::try_from(self.fields.len()).unwrap_or(u8::MAX));
        out.u8(u8::try_from(self.further_keys.len()).unwrap_or(u8::MAX));
        out.counted(self.iv);
        for field in &self.fields {
            match field {
                KdfField::Iteration {
                    little_endian,
                    width_bits,
                } => {
                    out.u8(FIELD_ITERATION);
                    out.flag(*little_endian);
                    out.u32(*width_bits);
                }
                KdfField::Counter {
                    little_endian,
                    width_bits,
                } => {
                    out.u8(FIELD_COUNTER);
                    out.flag(*little_endian);
                    out.u32(*width_bits);
                }
                KdfField::Length {
                    method,
                    little_endian,
                    width_bits,
                } => {
                    out.u8(FIELD_LENGTH);
                    out.flag(*little_endian);
                    out.u32(*width_bits);
                    out.u64(*method);
                }
                KdfField::Bytes(bytes) => {
                    out.u8(FIELD_BYTES);
                    out.counted(bytes);
                }
                KdfField::Key(handle) => {
                    out.u8(FIELD_KEY);
                    out.u64(*handle);
                }
            }
        }
        for template in &self.further_keys {
            out.counted(template);
        }
    }

    pub(super) fn read(r: &mut Reader<'a>) -> Result<Self, Malformed> {
        let prf = r.u64()?;
        let offset = r.offset();
        let (fields, keys) = (usize::from(r.u8()?), usize::from(r.u8()?));
        if fields > KDF_FIELDS_MAX || keys > DERIVED_KEYS_MAX {
            return Err(Malformed { offset });
        }
        let iv = r.counted()?;
        Ok(Self {
            prf,
            iv,
            fields: (0..fields)
                .map(|_| Self::read_field(r))
                .collect::<Result<_, _>>()?,
            further_keys: (0..keys).map(|_| r.counted()).collect::<Result<_, _>>()?,
        })
    }

    fn read_field(r: &mut Reader<'a>) -> Result<KdfField<'a>, Malformed> {
        let offset = r.offset();
        Ok(match r.u8()? {
            FIELD_ITERATION => KdfField::Iteration {
                little_endian: flag(r)?,
                width_bits: r.u32()?,
            },
            FIELD_COUNTER => KdfField::Counter {
                little_endian: flag(r)?,
                width_bits: r.u32()?,
            },
            FIELD_LENGTH => {
                let (little_endian, width_bits) = (flag(r)?, r.u32()?);
                KdfField::Length {
                    method: r.u64()?,
                    little_endian,
                    width_bits,
                }
            }
            FIELD_BYTES => KdfField::Bytes(r.counted()?),
            FIELD_KEY => KdfField::Key(r.u64()?),
            _ => return Err(Malformed { offset }),
        })
    }
}
