//! ECDH key agreement (PKCS#11 3.2, section 6.3.17): the NIST curves and X25519.
//!
//! CKM_ECDH1_DERIVE and CKM_ECDH1_COFACTOR_DERIVE are the same here: these curves have cofactor 1
//! (X25519 clears its own). Key derivation functions are ANSI X9.63's over SHA-1 to SHA-512 and SHA-3.

use std::sync::Arc;

use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::*;

use super::{Derived, Environment, Info, Mechanism, wrong_key};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::{Key, secret, unwrap_octet_string, unwrap_point};
use crate::lc::digest::Hash;
use crate::lc::{Secret, ec, kdf, montgomery};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &Ecdh {
        kind: CKM_ECDH1_DERIVE,
    },
    &Ecdh {
        kind: CKM_ECDH1_COFACTOR_DERIVE,
    },
];

struct Ecdh {
    kind: CK_MECHANISM_TYPE,
}

/// What the parameters say.
struct Agreement<'a> {
    /// None: the shared secret as it is.
    hash: Option<Hash>,
    shared: &'a [u8],
    public: &'a [u8],
}

impl<'a> Agreement<'a> {
    fn decode(parameters: &'a [u8]) -> Result<Self, Failure> {
        let invalid = Failure::new(CKR_MECHANISM_PARAM_INVALID);
        let Ok(Parameters::Ecdh {
            kdf,
            shared,
            public,
        }) = Parameters::decode(parameters)
        else {
            return Err(invalid);
        };
        let hash = match kdf {
            CKD_NULL => None,
            CKD_SHA1_KDF => Some(Hash::Sha1),
            CKD_SHA224_KDF => Some(Hash::Sha224),
            CKD_SHA256_KDF => Some(Hash::Sha256),
            CKD_SHA384_KDF => Some(Hash::Sha384),
            CKD_SHA512_KDF => Some(Hash::Sha512),
            CKD_SHA3_224_KDF => Some(Hash::Sha3_224),
            CKD_SHA3_256_KDF => Some(Hash::Sha3_256),
            CKD_SHA3_384_KDF => Some(Hash::Sha3_384),
            CKD_SHA3_512_KDF => Some(Hash::Sha3_512),
            _ => return Err(invalid),
        };
        if hash.is_none() && !shared.is_empty() {
            return Err(invalid);
        }
        Ok(Self {
            hash,
            shared,
            public,
        })
    }
}

impl Mechanism for Ecdh {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.kind
    }

    fn info(&self) -> Info {
        Info {
            min: 255,
            max: 521,
            flags: CKF_DERIVE
                | CKF_EC_F_P
                | CKF_EC_NAMEDCURVE
                | CKF_EC_UNCOMPRESS
                | CKF_EC_COMPRESS,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        match (usage, key) {
            (Usage::Derive, Some(Key::EcPrivate(_) | Key::MontgomeryPrivate(_))) => {
                Agreement::decode(parameters).map(|_| ())
            }
            (Usage::Derive, _) => Err(wrong_key()),
            _ => Err(CKR_MECHANISM_INVALID.into()),
        }
    }

    fn derive(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        template: &Attributes,
    ) -> Result<Derived, Failure> {
        let agreement = Agreement::decode(parameters)?;
        let secret = agree(key, agreement.public)?;
        let kind = template.number(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET);
        let made = match agreement.hash {
            None => secret::from_derived(kind, template, &secret)?,
            Some(hash) => {
                let length = match template.number(CKA_VALUE_LEN)? {
                    Some(length) => usize::try_from(length).unwrap_or(usize::MAX),
                    None if kind == CKK_AES => 32,
                    None => hash.bytes(),
                };
                if length > secret::SECRET_MAX {
                    return Err(CKR_KEY_SIZE_RANGE.into());
                }
                secret::made(
                    kind,
                    kdf::x963(hash, secret.expose(), agreement.shared, length)?,
                )?
            }
        };
        Ok(Derived::one(made))
    }
}

fn agree(key: &Key, public: &[u8]) -> Result<Secret, Failure> {
    let invalid = Failure::new(CKR_MECHANISM_PARAM_INVALID);
    match key {
        Key::EcPrivate(key) => {
            // Clients give the point as it is, or as the OCTET STRING that CKA_EC_POINT is.
            let curve = key.curve();
            let peer = ec::PublicKey::from_point(curve, public)
                .or_else(|_| ec::PublicKey::from_point(curve, unwrap_octet_string(public)))
                .map_err(|_| invalid)?;
            Ok(key.agree(&peer)?)
        }
        Key::MontgomeryPrivate(key) => key
            .agree(unwrap_point(public, montgomery::BYTES))
            .map_err(|_| invalid),
        _ => Err(wrong_key()),
    }
}
