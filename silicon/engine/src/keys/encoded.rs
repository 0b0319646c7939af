//! Keys in their standard encodings: PKCS #8 and PEM in, PKCS #8 and SubjectPublicKeyInfo out.

use cryptoki_sys::*;

use super::Key;
use crate::failure::Failure;
use crate::lc::{self, Secret, ed448, edwards, mldsa, mlkem, montgomery, pem, pkcs8};

impl Key {
    /// A private key from PKCS #8 (DER), or from a PEM file with one private key in it.
    pub fn from_encoded(bytes: &[u8]) -> Result<Self, lc::Error> {
        let key = if bytes.first() == Some(&0x30) {
            pkcs8::parse_private_key(bytes)?
        } else {
            pem::private_key(bytes)?
        };
        Ok(key.into())
    }

    /// PKCS #8, of a private key.
    pub(super) fn to_pkcs8(&self) -> Result<Secret, Failure> {
        Ok(match self {
            Self::RsaPrivate(key) => key.to_pkcs8()?,
            Self::EcPrivate(key) => key.to_pkcs8()?,
            Self::EdwardsPrivate(key) => key.to_pkcs8(),
            Self::Ed448Private(key) => key.to_pkcs8(),
            Self::MontgomeryPrivate(key) => key.to_pkcs8(),
            Self::MlDsaPrivate(key) => key.to_pkcs8(),
            Self::MlKemPrivate(key) => key.to_pkcs8(),
            _ => return Err(CKR_KEY_NOT_WRAPPABLE.into()),
        })
    }

    /// The public half, of a private key.
    pub fn public_half(&self) -> Result<Key, Failure> {
        Ok(match self {
            Self::RsaPrivate(key) => Self::RsaPublic(key.public()?),
            Self::EcPrivate(key) => Self::EcPublic(key.public()?),
            Self::EdwardsPrivate(key) => Self::EdwardsPublic(key.public_key()),
            Self::Ed448Private(key) => Self::Ed448Public(key.public_key()),
            Self::MontgomeryPrivate(key) => Self::MontgomeryPublic(key.public_key()),
            Self::MlDsaPrivate(key) => {
                Self::MlDsaPublic(mldsa::PublicKey::new(key.level(), &key.public_key()?)?)
            }
            Self::MlKemPrivate(key) => {
                Self::MlKemPublic(mlkem::PublicKey::new(key.level(), &key.public_key()?)?)
            }
            _ => return Err(CKR_KEY_TYPE_INCONSISTENT.into()),
        })
    }

    /// SubjectPublicKeyInfo, of either half.
    pub fn public_key_info(&self) -> Result<Vec<u8>, Failure> {
        Ok(match self {
            Self::RsaPrivate(key) => key.public()?.to_spki()?,
            Self::RsaPublic(key) => key.to_spki()?,
            Self::EcPrivate(key) => key.public()?.to_spki()?,
            Self::EcPublic(key) => key.to_spki()?,
            Self::EdwardsPrivate(key) => edwards::to_spki(&key.public_key()),
            Self::EdwardsPublic(key) => edwards::to_spki(key),
            Self::Ed448Private(key) => ed448::to_spki(&key.public_key()),
            Self::Ed448Public(key) => ed448::to_spki(key),
            Self::MontgomeryPrivate(key) => montgomery::to_spki(&key.public_key()),
            Self::MontgomeryPublic(key) => montgomery::to_spki(key),
            Self::MlDsaPrivate(key) => {
                mldsa::PublicKey::new(key.level(), &key.public_key()?)?.to_spki()?
            }
            Self::MlDsaPublic(key) => key.to_spki()?,
            Self::MlKemPrivate(key) => {
                mlkem::PublicKey::new(key.level(), &key.public_key()?)?.to_spki()?
            }
            Self::MlKemPublic(key) => key.to_spki()?,
            Self::Secret(_) => return Err(CKR_KEY_TYPE_INCONSISTENT.into()),
        })
    }
}

impl From<pkcs8::PrivateKey> for Key {
    fn from(key: pkcs8::PrivateKey) -> Self {
        match key {
            pkcs8::PrivateKey::Rsa(key) => Self::RsaPrivate(key),
            pkcs8::PrivateKey::Ec(key) => Self::EcPrivate(key),
            pkcs8::PrivateKey::Ed25519(key) => Self::EdwardsPrivate(key),
            pkcs8::PrivateKey::X25519(key) => Self::MontgomeryPrivate(key),
            pkcs8::PrivateKey::MlDsa(key) => Self::MlDsaPrivate(key),
            pkcs8::PrivateKey::MlKem(key) => Self::MlKemPrivate(key),
        }
    }
}
