//! Parameters to bytes and back.

use super::{Oaep, Parameters, Pss, Sp800Kdf, TlsRandoms};
use crate::fields::{Malformed, Reader};

const BYTES: u8 = 1;
const NUMBER: u8 = 2;
const COUNTER: u8 = 3;
const GCM: u8 = 4;
const GCM_MESSAGE: u8 = 5;
const OAEP: u8 = 6;
const PSS: u8 = 7;
const RSA_AES_WRAP: u8 = 8;
const ECDH: u8 = 9;
const EDDSA: u8 = 10;
const SIGN_CONTEXT: u8 = 11;
const HASH_SIGN_CONTEXT: u8 = 12;
const HKDF: u8 = 13;
pub(super) const SP800_KDF: u8 = 14;
const TLS_MASTER: u8 = 15;
const TLS_EXTENDED_MASTER: u8 = 16;
const TLS_KEY_MATERIAL: u8 = 17;
const TLS_KDF: u8 = 18;
const TLS_MAC: u8 = 19;
const CBC_DATA: u8 = 20;

/// Where the fields of parameters go, in wire order.
pub(super) trait Sink {
    fn fixed(&mut self, bytes: &[u8]);
    fn counted(&mut self, bytes: &[u8]);

    fn u8(&mut self, value: u8) {
        self.fixed(&[value]);
    }
    fn flag(&mut self, value: bool) {
        self.fixed(&[u8::from(value)]);
    }
    fn u32(&mut self, value: u32) {
        self.fixed(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.fixed(&value.to_le_bytes());
    }
    fn oaep(&mut self, oaep: &Oaep<'_>) {
        self.u64(oaep.hash);
        self.u64(oaep.mgf);
        self.u64(oaep.source);
        self.counted(oaep.label);
    }
    fn randoms(&mut self, randoms: &TlsRandoms<'_>) {
        self.counted(randoms.client);
        self.counted(randoms.server);
    }
}

impl Sink for Vec<u8> {
    fn fixed(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
    fn counted(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.extend_from_slice(bytes);
    }
}

/// FNV-1a over numbers and lengths; contents of byte strings do not count.
struct Shape(u64);

impl Sink for Shape {
    fn fixed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    fn counted(&mut self, bytes: &[u8]) {
        self.fixed(&bytes.len().to_le_bytes());
    }
}

impl<'a> Parameters<'a> {
    /// Appends the wire form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.write(out);
    }

    /// A number that two parameters share if they differ only in the contents of byte strings: a
    /// check that held for one holds for the other.
    pub fn shape(&self) -> u64 {
        let mut shape = Shape(0xcbf2_9ce4_8422_2325);
        self.write(&mut shape);
        shape.0
    }

    fn write(&self, out: &mut impl Sink) {
        match self {
            Self::None => {}
            Self::Bytes(bytes) => {
                out.u8(BYTES);
                out.counted(bytes);
            }
            Self::Number(number) => {
                out.u8(NUMBER);
                out.u64(*number);
            }
            Self::Counter { bits, block } => {
                out.u8(COUNTER);
                out.u32(*bits);
                // Sixteen single bytes would make every counter block a shape of its own.
                out.counted(block);
            }
            Self::Gcm {
                iv,
                iv_bits,
                aad,
                tag_bits,
            } => {
                out.u8(GCM);
                out.u32(*iv_bits);
                out.u32(*tag_bits);
                out.counted(iv);
                out.counted(aad);
            }
            Self::GcmMessage {
                iv,
                fixed_bits,
                generator,
                aad,
                tag_bits,
                tag,
            } => {
                out.u8(GCM_MESSAGE);
                out.u32(*fixed_bits);
                out.u32(*tag_bits);
                out.u64(*generator);
                out.counted(iv);
                out.counted(aad);
                out.counted(tag);
            }
            Self::Oaep(oaep) => {
                out.u8(OAEP);
                out.oaep(oaep);
            }
            Self::Pss(pss) => {
                out.u8(PSS);
                out.u64(pss.hash);
                out.u64(pss.mgf);
                out.u64(pss.salt_length);
            }
            Self::RsaAesWrap { aes_bits, oaep } => {
                out.u8(RSA_AES_WRAP);
                out.u32(*aes_bits);
                out.oaep(oaep);
            }
            Self::Ecdh {
                kdf,
                shared,
                public,
            } => {
                out.u8(ECDH);
                out.u64(*kdf);
                out.counted(shared);
                out.counted(public);
            }
            Self::Eddsa { prehash, context } => {
                out.u8(EDDSA);
                out.flag(*prehash);
                out.counted(context);
            }
            Self::SignContext { hedge, context } => {
                out.u8(SIGN_CONTEXT);
                out.u64(*hedge);
                out.counted(context);
            }
            Self::HashSignContext {
                hedge,
                context,
                hash,
            } => {
                out.u8(HASH_SIGN_CONTEXT);
                out.u64(*hedge);
                out.u64(*hash);
                out.counted(context);
            }
            _ => self.write_derivation(out),
        }
    }

    fn write_derivation(&self, out: &mut impl Sink) {
        match self {
            Self::Hkdf {
                extract,
                expand,
                hash,
                salt_type,
                salt,
                salt_key,
                info,
            } => {
                out.u8(HKDF);
                out.flag(*extract);
                out.flag(*expand);
                out.u64(*hash);
                out.u64(*salt_type);
                out.u64(*salt_key);
                out.counted(salt);
                out.counted(info);
            }
            Self::Sp800Kdf(kdf) => {
                out.u8(SP800_KDF);
                kdf.write(out);
            }
            Self::TlsMaster {
                prf,
                randoms,
                version,
            } => {
                out.u8(TLS_MASTER);
                out.u64(*prf);
                out.flag(*version);
                out.randoms(randoms);
            }
            Self::TlsExtendedMaster {
                prf,
                session_hash,
                version,
            } => {
                out.u8(TLS_EXTENDED_MASTER);
                out.u64(*prf);
                out.flag(*version);
                out.counted(session_hash);
            }
            Self::TlsKeyMaterial {
                prf,
                mac_bits,
                key_bits,
                iv_bits,
                randoms,
            } => {
                out.u8(TLS_KEY_MATERIAL);
                out.u64(*prf);
                out.u32(*mac_bits);
                out.u32(*key_bits);
                out.u32(*iv_bits);
                out.randoms(randoms);
            }
            Self::TlsKdf {
                prf,
                label,
                randoms,
                context,
            } => {
                out.u8(TLS_KDF);
                out.u64(*prf);
                out.counted(label);
                out.randoms(randoms);
                out.counted(context);
            }
            Self::TlsMac { prf, length, side } => {
                out.u8(TLS_MAC);
                out.u64(*prf);
                out.u64(*length);
                out.u64(*side);
            }
            Self::CbcData { iv, data } => {
                out.u8(CBC_DATA);
                out.counted(iv);
                out.counted(data);
            }
            _ => {}
        }
    }

    /// The parameters in these bytes; nothing may follow them.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Ok(Self::None);
        }
        let mut r = Reader::new(bytes);
        let parameters = match r.u8()? {
            BYTES => Self::Bytes(r.counted()?),
            NUMBER => Self::Number(r.u64()?),
            COUNTER => Self::Counter {
                bits: r.u32()?,
                block: block(&mut r)?,
            },
            GCM => {
                let (iv_bits, tag_bits) = (r.u32()?, r.u32()?);
                Self::Gcm {
                    iv: r.counted()?,
                    iv_bits,
                    aad: r.counted()?,
                    tag_bits,
                }
            }
            GCM_MESSAGE => {
                let (fixed_bits, tag_bits, generator) = (r.u32()?, r.u32()?, r.u64()?);
                Self::GcmMessage {
                    iv: r.counted()?,
                    fixed_bits,
                    generator,
                    aad: r.counted()?,
                    tag_bits,
                    tag: r.counted()?,
                }
            }
            OAEP => Self::Oaep(oaep(&mut r)?),
            PSS => Self::Pss(Pss {
                hash: r.u64()?,
                mgf: r.u64()?,
                salt_length: r.u64()?,
            }),
            RSA_AES_WRAP => Self::RsaAesWrap {
                aes_bits: r.u32()?,
                oaep: oaep(&mut r)?,
            },
            ECDH => Self::Ecdh {
                kdf: r.u64()?,
                shared: r.counted()?,
                public: r.counted()?,
            },
            EDDSA => Self::Eddsa {
                prehash: flag(&mut r)?,
                context: r.counted()?,
            },
            SIGN_CONTEXT => Self::SignContext {
                hedge: r.u64()?,
                context: r.counted()?,
            },
            HASH_SIGN_CONTEXT => {
                let (hedge, hash) = (r.u64()?, r.u64()?);
                Self::HashSignContext {
                    hedge,
                    context: r.counted()?,
                    hash,
                }
            }
            form => Self::decode_derivation(form, &mut r)?,
        };
        r.finish()?;
        Ok(parameters)
    }

    fn decode_derivation(form: u8, r: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match form {
            HKDF => {
                let (extract, expand) = (flag(r)?, flag(r)?);
                let (hash, salt_type, salt_key) = (r.u64()?, r.u64()?, r.u64()?);
                Self::Hkdf {
                    extract,
                    expand,
                    hash,
                    salt_type,
                    salt: r.counted()?,
                    salt_key,
                    info: r.counted()?,
                }
            }
            SP800_KDF => Self::Sp800Kdf(Sp800Kdf::read(r)?),
            TLS_MASTER => {
                let (prf, version) = (r.u64()?, flag(r)?);
                Self::TlsMaster {
                    prf,
                    randoms: randoms(r)?,
                    version,
                }
            }
            TLS_EXTENDED_MASTER => {
                let (prf, version) = (r.u64()?, flag(r)?);
                Self::TlsExtendedMaster {
                    prf,
                    session_hash: r.counted()?,
                    version,
                }
            }
            TLS_KEY_MATERIAL => Self::TlsKeyMaterial {
                prf: r.u64()?,
                mac_bits: r.u32()?,
                key_bits: r.u32()?,
                iv_bits: r.u32()?,
                randoms: randoms(r)?,
            },
            TLS_KDF => Self::TlsKdf {
                prf: r.u64()?,
                label: r.counted()?,
                randoms: randoms(r)?,
                context: r.counted()?,
            },
            TLS_MAC => Self::TlsMac {
                prf: r.u64()?,
                length: r.u64()?,
                side: r.u64()?,
            },
            CBC_DATA => Self::CbcData {
                iv: block(r)?,
                data: r.counted()?,
            },
            _ => return Err(Malformed { offset: 0 }),
        })
    }
}

pub(super) fn flag(r: &mut Reader<'_>) -> Result<bool, Malformed> {
    let offset = r.offset();
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed { offset }),
    }
}

fn block(r: &mut Reader<'_>) -> Result<[u8; 16], Malformed> {
    let offset = r.offset();
    r.counted()?.try_into().map_err(|_| Malformed { offset })
}

fn oaep<'a>(r: &mut Reader<'a>) -> Result<Oaep<'a>, Malformed> {
    Ok(Oaep {
        hash: r.u64()?,
        mgf: r.u64()?,
        source: r.u64()?,
        label: r.counted()?,
    })
}

fn randoms<'a>(r: &mut Reader<'a>) -> Result<TlsRandoms<'a>, Malformed> {
    Ok(TlsRandoms {
        client: r.counted()?,
        server: r.counted()?,
    })
}
