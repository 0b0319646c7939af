//! TLS 1.2's session keys (PKCS#11 3.2, section 6.40): master secrets, key material, exporters.
//! TLS 1.3 needs HKDF alone.
//!
//! Hashes are SHA-2's; the functions of TLS 1.1 and before, over MD5 and SHA-1, are not here.

use std::sync::Arc;

use casemate_transport::message::Usage;
use casemate_transport::parameters::{Parameters, TlsRandoms};
use cryptoki_sys::*;

use super::{Derived, Environment, Info, Lineage, Made, Mechanism, digest, secret};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::secret::{SECRET_MAX, made};
use crate::keys::{Key, SecretKey};
use crate::lc::Secret;
use crate::lc::digest::Hash;
use crate::lc::kdf::tls12_prf;

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &Master(CKM_TLS12_MASTER_KEY_DERIVE),
    &Master(CKM_TLS12_MASTER_KEY_DERIVE_DH),
    &Master(CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE),
    &Master(CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE_DH),
    &KeyMaterial(CKM_TLS12_KEY_AND_MAC_DERIVE),
    &KeyMaterial(CKM_TLS12_KEY_SAFE_DERIVE),
    &Exporter(CKM_TLS12_KDF),
    &Exporter(CKM_TLS_KDF),
];

/// Bytes of a master secret, and of a premaster secret that came by RSA.
const MASTER: usize = 48;
/// Most bytes of one random, session hash, MAC key, key or IV.
const PIECE_MAX: usize = 64;

pub(super) const fn invalid() -> Failure {
    Failure::new(CKR_MECHANISM_PARAM_INVALID)
}

/// The hash of the PRF.
pub(super) fn prf_hash(kind: CK_MECHANISM_TYPE) -> Result<Hash, Failure> {
    match digest::hash_of(kind) {
        Some(
            hash @ (Hash::Sha224
            | Hash::Sha256
            | Hash::Sha384
            | Hash::Sha512
            | Hash::Sha512_224
            | Hash::Sha512_256),
        ) => Ok(hash),
        _ => Err(invalid()),
    }
}

fn check_randoms(randoms: &TlsRandoms<'_>) -> Result<(), Failure> {
    let good = |bytes: &[u8]| !bytes.is_empty() && bytes.len() <= PIECE_MAX;
    if good(randoms.client) && good(randoms.server) {
        Ok(())
    } else {
        Err(invalid())
    }
}

pub(super) fn base(key: Option<&Key>) -> Result<&SecretKey, Failure> {
    secret::of_type(key, &[CKK_GENERIC_SECRET])
}

fn derives(usage: Usage) -> Result<(), Failure> {
    if usage == Usage::Derive {
        Ok(())
    } else {
        Err(CKR_MECHANISM_INVALID.into())
    }
}

pub(super) const DERIVATION: Info = Info {
    min: MASTER as u32,
    max: MASTER as u32,
    flags: CKF_DERIVE,
};

/// The master secret from a premaster secret.
struct Master(CK_MECHANISM_TYPE);

/// Hash, label, seeds, and whether the version in the premaster secret is wanted.
type MasterPlan<'a> = (Hash, &'static [u8], [&'a [u8]; 2], bool);

impl Master {
    /// Whether the premaster secret came by a key agreement: any length, no version.
    fn is_agreed(&self) -> bool {
        matches!(
            self.0,
            CKM_TLS12_MASTER_KEY_DERIVE_DH | CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE_DH
        )
    }

    fn plan<'a>(&self, parameters: &'a [u8]) -> Result<MasterPlan<'a>, Failure> {
        let extended = matches!(
            self.0,
            CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE | CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE_DH
        );
        let (prf, label, seeds, version): (_, &[u8], _, _) = match secret::decode(parameters)? {
            Parameters::TlsMaster {
                prf,
                randoms,
                version,
            } if !extended => {
                check_randoms(&randoms)?;
                (
                    prf,
                    b"master secret",
                    [randoms.client, randoms.server],
                    version,
                )
            }
            Parameters::TlsExtendedMaster {
                prf,
                session_hash,
                version,
            } if extended => {
                if session_hash.is_empty() || session_hash.len() > PIECE_MAX {
                    return Err(invalid());
                }
                (
                    prf,
                    b"extended master secret",
                    [session_hash, &[][..]],
                    version,
                )
            }
            _ => return Err(invalid()),
        };
        if version && self.is_agreed() {
            return Err(invalid());
        }
        Ok((prf_hash(prf)?, label, seeds, version))
    }
}

impl Mechanism for Master {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.0
    }

    fn info(&self) -> Info {
        DERIVATION
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        derives(usage)?;
        self.plan(parameters)?;
        let premaster = base(key)?.value();
        if !self.is_agreed() && premaster.len() != MASTER {
            return Err(CKR_KEY_SIZE_RANGE.into());
        }
        Ok(())
    }

    fn derive(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        _: &Attributes,
    ) -> Result<Derived, Failure> {
        self.check(Usage::Derive, Some(key), parameters)?;
        let (hash, label, seeds, version) = self.plan(parameters)?;
        let premaster = base(Some(key))?.value().expose();
        let master = tls12_prf(hash, premaster, label, seeds, MASTER)?;
        let output = if version {
            premaster.get(..2).unwrap_or(&[]).to_vec()
        } else {
            Vec::new()
        };
        Ok(Derived {
            output,
            ..Derived::one(made(CKK_GENERIC_SECRET, master)?)
        })
    }
}

/// MAC keys, keys and IVs of both sides from the master secret.
struct KeyMaterial(CK_MECHANISM_TYPE);

/// What the parameters say; sizes in bytes.
struct Sizes<'a> {
    hash: Hash,
    mac: usize,
    key: usize,
    iv: usize,
    randoms: TlsRandoms<'a>,
}

impl KeyMaterial {
    fn sizes<'a>(&self, parameters: &'a [u8]) -> Result<Sizes<'a>, Failure> {
        let Parameters::TlsKeyMaterial {
            prf,
            mac_bits,
            key_bits,
            iv_bits,
            randoms,
        } = secret::decode(parameters)?
        else {
            return Err(invalid());
        };
        check_randoms(&randoms)?;
        let bytes = |bits: u32| {
            usize::try_from(bits / 8)
                .ok()
                .filter(|bytes| bits.is_multiple_of(8) && *bytes <= PIECE_MAX)
                .ok_or(invalid())
        };
        let safe = self.0 == CKM_TLS12_KEY_SAFE_DERIVE;
        Ok(Sizes {
            hash: prf_hash(prf)?,
            mac: bytes(mac_bits)?,
            key: bytes(key_bits)?,
            iv: if safe { 0 } else { bytes(iv_bits)? },
            randoms,
        })
    }
}

impl Mechanism for KeyMaterial {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.0
    }

    fn info(&self) -> Info {
        DERIVATION
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        derives(usage)?;
        self.sizes(parameters)?;
        base(key).map(|_| ())
    }

    /// The sizes decide which bytes of the key block are IVs: what is an IV here may be a key there.
    fn lineage(&self, parameters: &[u8]) -> Result<Lineage, Failure> {
        Ok(if self.sizes(parameters)?.iv > 0 {
            Lineage::Shown
        } else {
            Lineage::Function
        })
    }

    fn derive(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        template: &Attributes,
    ) -> Result<Derived, Failure> {
        let sizes = self.sizes(parameters)?;
        let master = base(Some(key))?.value().expose();
        let seeds = [sizes.randoms.server, sizes.randoms.client];
        let total = 2 * (sizes.mac + sizes.key + sizes.iv);
        let block = tls12_prf(sizes.hash, master, b"key expansion", seeds, total)?;
        let mut rest = block.expose();
        let mut take = |length: usize| {
            let (piece, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = after;
            piece
        };
        let mut further = Vec::new();
        for _ in 0..2 {
            further.push(mac_key(template, take(sizes.mac))?);
        }
        for _ in 0..2 {
            further.push(write_key(template, take(sizes.key))?);
        }
        Ok(Derived {
            key: None,
            further,
            output: take(2 * sizes.iv).to_vec(),
        })
    }
}

type OneOf = Option<(Attributes, Made)>;

/// A MAC key: a generic secret that signs and verifies, whatever else the template says.
fn mac_key(template: &Attributes, value: &[u8]) -> Result<OneOf, Failure> {
    if value.is_empty() {
        return Ok(None);
    }
    let mut attributes = template.clone();
    for kind in [
        CKA_KEY_TYPE,
        CKA_VALUE_LEN,
        CKA_ENCRYPT,
        CKA_DECRYPT,
        CKA_WRAP,
        CKA_UNWRAP,
    ] {
        attributes.remove(kind);
    }
    for kind in [CKA_SIGN, CKA_VERIFY, CKA_DERIVE] {
        attributes.set_boolean(kind, true);
    }
    let made = made(CKK_GENERIC_SECRET, Secret::copy(value))?;
    Ok(Some((attributes, made)))
}

/// A key of the template's type that encrypts and decrypts.
fn write_key(template: &Attributes, value: &[u8]) -> Result<OneOf, Failure> {
    if value.is_empty() {
        return Ok(None);
    }
    let kind = template
        .number(CKA_KEY_TYPE)?
        .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
    let mut attributes = template.clone();
    for kind in [CKA_ENCRYPT, CKA_DECRYPT, CKA_DERIVE] {
        attributes.set_boolean(kind, true);
    }
    Ok(Some((attributes, made(kind, Secret::copy(value))?)))
}

/// Keying material for others (RFC 5705). The context, where there is one, comes with its length.
struct Exporter(CK_MECHANISM_TYPE);

/// Hash, label, seeds.
type ExporterPlan<'a> = (Hash, &'a [u8], (Vec<u8>, Vec<u8>));

fn exporter(parameters: &[u8]) -> Result<ExporterPlan<'_>, Failure> {
    let Parameters::TlsKdf {
        prf,
        label,
        randoms,
        context,
    } = secret::decode(parameters)?
    else {
        return Err(invalid());
    };
    check_randoms(&randoms)?;
    // With these labels it would make what the other mechanisms make under their own rules.
    let reserved = [
        &b"key expansion"[..],
        b"master secret",
        b"extended master secret",
        b"client finished",
        b"server finished",
    ];
    if label.is_empty() || reserved.contains(&label) {
        return Err(invalid());
    }
    let mut seed = Vec::new();
    if !context.is_empty() {
        let length = u16::try_from(context.len()).map_err(|_| invalid())?;
        seed.extend_from_slice(&length.to_be_bytes());
        seed.extend_from_slice(context);
    }
    let both = [randoms.client, randoms.server].concat();
    Ok((prf_hash(prf)?, label, (both, seed)))
}

impl Mechanism for Exporter {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.0
    }

    fn info(&self) -> Info {
        DERIVATION
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        derives(usage)?;
        exporter(parameters)?;
        base(key).map(|_| ())
    }

    fn derive(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        template: &Attributes,
    ) -> Result<Derived, Failure> {
        let (hash, label, (first, second)) = exporter(parameters)?;
        let kind = template.number(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET);
        let length = template
            .number(CKA_VALUE_LEN)?
            .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= SECRET_MAX)
            .ok_or(Failure::new(CKR_KEY_SIZE_RANGE))?;
        let master = base(Some(key))?.value().expose();
        let value = tls12_prf(hash, master, label, [&first, &second], length)?;
        Ok(Derived::one(made(kind, value)?))
    }
}
