//! Keys as the mechanisms use them: parsed once, shared by all operations under way.
//!
//! Each family of key types has a file: which attributes make a key, which follow from it, and what
//! the vault stores of it.

use cryptoki_sys::*;

use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::lc::aes::BLOCK;
use crate::lc::{self, Secret, ec, ed448, edwards, mldsa, mlkem, montgomery};
use crate::mechanisms::Made;

pub mod curve25519;
mod encoded;
pub mod nist;
pub mod postquantum;
mod prepared;
pub mod rsa;
pub mod secret;

pub use nist::curve_of;
pub use secret::SecretKey;

/// A key of any kind.
#[derive(Debug)]
pub enum Key {
    /// An RSA private key.
    RsaPrivate(lc::rsa::PrivateKey),
    /// An RSA public key.
    RsaPublic(lc::rsa::PublicKey),
    /// A private key on a NIST curve.
    EcPrivate(ec::PrivateKey),
    /// A public key on a NIST curve.
    EcPublic(ec::PublicKey),
    /// An Ed25519 private key.
    EdwardsPrivate(edwards::PrivateKey),
    /// An Ed25519 public key.
    EdwardsPublic([u8; edwards::PUBLIC]),
    /// An Ed448 private key.
    Ed448Private(ed448::PrivateKey),
    /// An Ed448 public key.
    Ed448Public([u8; ed448::BYTES]),
    /// An X25519 private key.
    MontgomeryPrivate(montgomery::PrivateKey),
    /// An X25519 public key.
    MontgomeryPublic([u8; montgomery::BYTES]),
    /// An ML-DSA private key.
    MlDsaPrivate(mldsa::PrivateKey),
    /// An ML-DSA public key.
    MlDsaPublic(mldsa::PublicKey),
    /// An ML-KEM private key.
    MlKemPrivate(mlkem::PrivateKey),
    /// An ML-KEM public key.
    MlKemPublic(mlkem::PublicKey),
    /// A secret key: its value.
    Secret(SecretKey),
}

impl Key {
    /// What the vault stores of a key: enough to make it again, with its public attributes. Public
    /// keys are made again from their attributes alone.
    pub fn stored(&self) -> Result<Secret, Failure> {
        match self {
            Self::RsaPrivate(key) => Ok(key.to_pkcs1()?),
            Self::EcPrivate(key) => Ok(key.scalar()?),
            Self::EdwardsPrivate(key) => Ok(key.seed()),
            Self::Ed448Private(key) => Ok(key.seed()),
            Self::MontgomeryPrivate(key) => Ok(key.scalar().clone()),
            Self::MlDsaPrivate(key) => Ok(key.seed().clone()),
            Self::MlKemPrivate(key) => Ok(key.seed().clone()),
            Self::Secret(key) => Ok(key.value().clone()),
            Self::RsaPublic(_)
            | Self::EcPublic(_)
            | Self::EdwardsPublic(_)
            | Self::Ed448Public(_)
            | Self::MontgomeryPublic(_)
            | Self::MlDsaPublic(_)
            | Self::MlKemPublic(_) => Ok(Secret::zeroed(0)),
        }
    }

    /// A part of the key material as an attribute, for keys that may be read.
    pub fn material(&self, kind: u64) -> Option<Vec<u8>> {
        let secret = match (self, kind) {
            (Self::RsaPrivate(key), _) => rsa::material(key, kind)?,
            (Self::EcPrivate(key), CKA_VALUE) => key.scalar().ok()?,
            (Self::EdwardsPrivate(key), CKA_VALUE) => key.seed(),
            (Self::Ed448Private(key), CKA_VALUE) => key.seed(),
            (Self::MontgomeryPrivate(key), CKA_VALUE) => key.scalar().clone(),
            (Self::MlDsaPrivate(key), CKA_SEED) => key.seed().clone(),
            (Self::MlDsaPrivate(key), CKA_VALUE) => key.expanded().ok()?,
            (Self::MlKemPrivate(key), CKA_SEED) => key.seed().clone(),
            (Self::MlKemPrivate(key), CKA_VALUE) => key.expanded().ok()?,
            (Self::Secret(key), CKA_VALUE) => key.value().clone(),
            _ => return None,
        };
        Some(secret.expose().to_vec())
    }

    /// The key of a stored object.
    pub fn from_stored(
        class: CK_OBJECT_CLASS,
        key_type: CK_KEY_TYPE,
        attributes: &Attributes,
        stored: &[u8],
    ) -> Result<Self, Failure> {
        match (class, key_type) {
            (CKO_PUBLIC_KEY, _) => Self::public(key_type, attributes),
            (CKO_SECRET_KEY, _) => Ok(Self::Secret(SecretKey::new(key_type, Secret::copy(stored)))),
            (CKO_PRIVATE_KEY, CKK_RSA) => rsa::private(stored),
            (CKO_PRIVATE_KEY, CKK_EC) => nist::private(attributes, stored),
            (CKO_PRIVATE_KEY, CKK_EC_EDWARDS) if stored.len() == ed448::BYTES => {
                Ok(Self::Ed448Private(ed448::PrivateKey::from_seed(stored)?))
            }
            (CKO_PRIVATE_KEY, CKK_EC_EDWARDS) => Ok(Self::EdwardsPrivate(
                edwards::PrivateKey::from_seed(stored)?,
            )),
            (CKO_PRIVATE_KEY, CKK_EC_MONTGOMERY) => Ok(Self::MontgomeryPrivate(
                montgomery::PrivateKey::new(stored)?,
            )),
            (CKO_PRIVATE_KEY, CKK_ML_DSA) => postquantum::mldsa_private(attributes, stored),
            (CKO_PRIVATE_KEY, CKK_ML_KEM) => postquantum::mlkem_private(attributes, stored),
            _ => Err(CKR_TEMPLATE_INCONSISTENT.into()),
        }
    }

    fn public(key_type: CK_KEY_TYPE, attributes: &Attributes) -> Result<Self, Failure> {
        match key_type {
            CKK_RSA => rsa::public(attributes),
            CKK_EC => nist::public(attributes),
            CKK_EC_EDWARDS if curve25519::Form::Ed448.require(attributes).is_ok() => {
                let point = curve25519::point(attributes, curve25519::Form::Ed448)?;
                if !ed448::is_public_key(&point) {
                    return Err(CKR_ATTRIBUTE_VALUE_INVALID.into());
                }
                Ok(Self::Ed448Public(point))
            }
            CKK_EC_EDWARDS => Ok(Self::EdwardsPublic(curve25519::point(
                attributes,
                curve25519::Form::Edwards,
            )?)),
            CKK_EC_MONTGOMERY => Ok(Self::MontgomeryPublic(curve25519::point(
                attributes,
                curve25519::Form::Montgomery,
            )?)),
            CKK_ML_DSA => postquantum::mldsa_public(attributes),
            CKK_ML_KEM => postquantum::mlkem_public(attributes),
            _ => Err(CKR_TEMPLATE_INCONSISTENT.into()),
        }
    }

    /// Takes the key material of a template (C_CreateObject) out of it and makes the key; what
    /// follows from the material is set in the attributes.
    pub fn import(
        class: CK_OBJECT_CLASS,
        key_type: CK_KEY_TYPE,
        attributes: &mut Attributes,
    ) -> Result<Self, Failure> {
        let invalid = Failure::new(CKR_ATTRIBUTE_VALUE_INVALID);
        match class {
            CKO_PUBLIC_KEY => Self::public(key_type, attributes),
            CKO_SECRET_KEY => {
                if attributes.contains(CKA_VALUE_LEN) {
                    return Err(CKR_ATTRIBUTE_READ_ONLY.into());
                }
                let made =
                    secret::made(key_type, take(attributes, CKA_VALUE)?).map_err(|failure| {
                        match failure.code {
                            CKR_KEY_SIZE_RANGE => invalid,
                            _ => failure,
                        }
                    })?;
                made.attributes
                    .iter()
                    .for_each(|(kind, value)| attributes.set(kind, value));
                Ok(made.key)
            }
            CKO_PRIVATE_KEY if key_type == CKK_RSA => {
                let key = rsa::import(attributes)?;
                key.imply(attributes)?;
                Ok(key)
            }
            _ => {
                let from = match key_type {
                    CKK_ML_DSA | CKK_ML_KEM => {
                        // The expanded form follows from the seed, without which no key is kept.
                        let seed = take(attributes, CKA_SEED)?;
                        if let Some(expanded) = attributes.remove(CKA_VALUE) {
                            drop(Secret::from(expanded));
                        }
                        seed
                    }
                    _ => take(attributes, CKA_VALUE)?,
                };
                let key = Self::from_stored(class, key_type, attributes, from.expose()).map_err(
                    |failure| {
                        if failure.code == CKR_FUNCTION_FAILED {
                            invalid
                        } else {
                            failure
                        }
                    },
                )?;
                key.imply(attributes)?;
                Ok(key)
            }
        }
    }

    /// Sets what follows from the value where the template leaves it open.
    fn imply(&self, attributes: &mut Attributes) -> Result<(), Failure> {
        for (kind, value) in self.implied()?.iter() {
            attributes.set_default(kind, value);
        }
        Ok(())
    }

    /// The attributes that follow from a private or public key's value, CKA_KEY_TYPE and
    /// CKA_PUBLIC_KEY_INFO among them.
    pub fn implied(&self) -> Result<Attributes, Failure> {
        let mut attributes = self.implied_values()?;
        if !matches!(self, Self::Secret(_)) {
            attributes.set(CKA_PUBLIC_KEY_INFO, &self.public_key_info()?);
        }
        Ok(attributes)
    }

    fn implied_values(&self) -> Result<Attributes, Failure> {
        match self {
            Self::RsaPrivate(key) => Ok(rsa::attributes(&key.modulus()?, &key.exponent()?, false)),
            Self::RsaPublic(key) => Ok(rsa::attributes(&key.modulus()?, &key.exponent()?, true)),
            Self::EcPrivate(key) => nist::attributes(key.curve(), &key.public_point()?),
            Self::EcPublic(key) => nist::attributes(key.curve(), &key.point()?),
            Self::EdwardsPrivate(key) => Ok(curve25519::attributes(
                curve25519::Form::Edwards,
                &key.public_key(),
            )),
            Self::EdwardsPublic(public) => {
                Ok(curve25519::attributes(curve25519::Form::Edwards, public))
            }
            Self::Ed448Private(key) => Ok(curve25519::attributes(
                curve25519::Form::Ed448,
                &key.public_key(),
            )),
            Self::Ed448Public(public) => {
                Ok(curve25519::attributes(curve25519::Form::Ed448, public))
            }
            Self::MontgomeryPrivate(key) => Ok(curve25519::attributes(
                curve25519::Form::Montgomery,
                &key.public_key(),
            )),
            Self::MontgomeryPublic(public) => {
                Ok(curve25519::attributes(curve25519::Form::Montgomery, public))
            }
            Self::MlDsaPrivate(key) => Ok(postquantum::mldsa_attributes(key.level(), None)),
            Self::MlDsaPublic(key) => Ok(postquantum::mldsa_attributes(
                key.level(),
                Some(&key.raw()?),
            )),
            Self::MlKemPrivate(key) => Ok(postquantum::mlkem_attributes(key.level(), None)),
            Self::MlKemPublic(key) => Ok(postquantum::mlkem_attributes(
                key.level(),
                Some(&key.raw()?),
            )),
            Self::Secret(_) => Ok(Attributes::new()),
        }
    }

    /// The key with the attributes that follow from it.
    pub fn made(self) -> Result<Made, Failure> {
        Ok(Made {
            attributes: self.implied()?,
            key: self,
        })
    }

    /// The material as it is wrapped: the value of a secret key, PKCS#8 for a private one.
    pub fn wrappable(&self) -> Result<Secret, Failure> {
        match self {
            Self::Secret(key) => Ok(key.value().clone()),
            _ => self.to_pkcs8(),
        }
    }

    /// The key in unwrapped material.
    pub fn from_wrapped(
        class: CK_OBJECT_CLASS,
        key_type: CK_KEY_TYPE,
        template: &Attributes,
        material: Secret,
    ) -> Result<Made, Failure> {
        if class != CKO_SECRET_KEY {
            let made = Self::from_encoded(material.expose())
                .map_err(|_| Failure::new(CKR_WRAPPED_KEY_INVALID))?
                .made()?;
            let found = made.attributes.number(CKA_KEY_TYPE)?;
            return if found == Some(key_type) {
                Ok(made)
            } else {
                Err(CKR_TEMPLATE_INCONSISTENT.into())
            };
        }
        // Mechanisms that fill up with zeros leave the length to the template. Nothing else is cut
        // off: ever longer beginnings of one wrapped key would give it away byte by byte.
        let material = match template.number(CKA_VALUE_LEN)? {
            Some(length) => {
                let (kept, rest) = usize::try_from(length)
                    .ok()
                    .and_then(|length| material.expose().split_at_checked(length))
                    .ok_or(Failure::new(CKR_TEMPLATE_INCONSISTENT))?;
                if rest.len() >= BLOCK || rest.iter().any(|byte| *byte != 0) {
                    return Err(CKR_TEMPLATE_INCONSISTENT.into());
                }
                Secret::copy(kept)
            }
            None => material,
        };
        secret::made(key_type, material).map_err(|failure| match failure.code {
            CKR_KEY_SIZE_RANGE => CKR_WRAPPED_KEY_LEN_RANGE.into(),
            _ => failure,
        })
    }

    /// The key that a shared secret makes.
    pub fn from_shared(
        key_type: CK_KEY_TYPE,
        template: &Attributes,
        shared: &Secret,
    ) -> Result<Made, Failure> {
        secret::from_derived(key_type, template, shared)
    }

    /// Fails for keys that only the policy `legacy-test` has: on P-192 and edwards448, and RSA
    /// below 2048 bits.
    pub fn require_current(&self) -> Result<(), Failure> {
        let least = lc::rsa::SIZES.into_iter().min().unwrap_or(usize::MAX);
        match self {
            Self::EcPrivate(key) if key.curve() == ec::Curve::P192 => {
                Err(CKR_CURVE_NOT_SUPPORTED.into())
            }
            Self::EcPublic(key) if key.curve() == ec::Curve::P192 => {
                Err(CKR_CURVE_NOT_SUPPORTED.into())
            }
            Self::Ed448Private(_) | Self::Ed448Public(_) => Err(CKR_CURVE_NOT_SUPPORTED.into()),
            Self::RsaPrivate(key) if key.bits() < least => Err(CKR_KEY_SIZE_RANGE.into()),
            Self::RsaPublic(key) if key.bits() < least => Err(CKR_KEY_SIZE_RANGE.into()),
            _ => Ok(()),
        }
    }

    /// Whether this private key belongs to that public one.
    pub fn is_pair_of(&self, public: &Key) -> bool {
        match (self.public_key_info(), public.public_key_info()) {
            (Ok(mine), Ok(theirs)) => mine == theirs,
            _ => false,
        }
    }
}

/// Takes a secret attribute out of a template.
fn take(attributes: &mut Attributes, kind: u64) -> Result<Secret, Failure> {
    attributes
        .remove(kind)
        .map(Secret::from)
        .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))
}

impl From<lc::Error> for Failure {
    fn from(error: lc::Error) -> Self {
        match error {
            lc::Error::Key | lc::Error::Encoding(_) => CKR_ATTRIBUTE_VALUE_INVALID.into(),
            lc::Error::Size => CKR_KEY_SIZE_RANGE.into(),
            lc::Error::Parameter => CKR_MECHANISM_PARAM_INVALID.into(),
            lc::Error::DataLength => CKR_DATA_LEN_RANGE.into(),
            lc::Error::Decrypt => CKR_ENCRYPTED_DATA_INVALID.into(),
            lc::Error::Signature => CKR_SIGNATURE_INVALID.into(),
            lc::Error::TooSmall(needed) => Failure::too_small(needed),
            lc::Error::Unsupported(_) => CKR_MECHANISM_INVALID.into(),
            lc::Error::Internal => Failure::internal(),
        }
    }
}

/// A DER OCTET STRING around these bytes.
pub fn octet_string(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x04];
    match u8::try_from(bytes.len()) {
        Ok(length) if length < 0x80 => out.push(length),
        Ok(length) => out.extend_from_slice(&[0x81, length]),
        Err(_) => {
            out.push(0x82);
            out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
    out
}

/// A point of so many bytes: as it is, or out of its OCTET STRING. Bytes of the right length are the
/// point even where they look like an OCTET STRING, as one in 65,536 of 32 random bytes does.
pub fn unwrap_point(bytes: &[u8], length: usize) -> &[u8] {
    if bytes.len() == length {
        bytes
    } else {
        unwrap_octet_string(bytes)
    }
}

/// The content of a DER OCTET STRING, or the bytes themselves where they are none: clients give
/// points both ways.
pub fn unwrap_octet_string(bytes: &[u8]) -> &[u8] {
    let content = match bytes {
        [0x04, length, rest @ ..] if *length < 0x80 && usize::from(*length) == rest.len() => {
            Some(rest)
        }
        [0x04, 0x81, length, rest @ ..]
            if *length >= 0x80 && usize::from(*length) == rest.len() =>
        {
            Some(rest)
        }
        _ => None,
    };
    content.unwrap_or(bytes)
}
