//! X25519 (RFC 7748).

use super::error::failed;
use super::{Error, Secret, pkcs8};
use aws_lc_sys::{X25519, X25519_public_from_private};

/// Bytes of a private key, a public key and a shared secret.
pub const BYTES: usize = 32;
/// id-X25519 (RFC 8410).
pub(super) const OID: &[u8] = &[0x2b, 0x65, 0x6e];

/// A private key.
#[derive(Debug)]
pub struct PrivateKey {
    scalar: Secret,
    public: [u8; BYTES],
}

impl PrivateKey {
    /// The key with these 32 bytes.
    pub fn new(scalar: &[u8]) -> Result<Self, Error> {
        if scalar.len() != BYTES {
            return Err(Error::Key);
        }
        let mut public = [0; BYTES];
        // SAFETY: both have 32 bytes.
        unsafe { X25519_public_from_private(public.as_mut_ptr(), scalar.as_ptr()) };
        Ok(Self {
            scalar: Secret::copy(scalar),
            public,
        })
    }

    /// The key with 32 bytes that were just drawn, after the pairwise consistency test that FIPS
    /// 140-3 wants of each new key pair: both sides of an agreement get the same secret.
    pub fn from_new_bytes(scalar: &[u8]) -> Result<Self, Error> {
        let key = Self::new(scalar)?;
        // Any other key does; this one is fixed.
        let other = Self::new(&[0x55; BYTES])?;
        let (mine, theirs) = (key.agree(&other.public)?, other.agree(&key.public)?);
        if mine.equals(theirs.expose()) {
            Ok(key)
        } else {
            Err(Error::Internal)
        }
    }

    /// The private bytes.
    pub fn scalar(&self) -> &Secret {
        &self.scalar
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; BYTES] {
        self.public
    }

    /// PKCS #8 (RFC 8410).
    pub fn to_pkcs8(&self) -> Secret {
        pkcs8::private_octets(OID, self.scalar.expose())
    }

    /// The shared secret; a peer of small order is refused (RFC 7748, section 6.1).
    pub fn agree(&self, peer: &[u8]) -> Result<Secret, Error> {
        if peer.len() != BYTES {
            return Err(Error::Key);
        }
        let mut shared = Secret::zeroed(BYTES);
        // SAFETY: all three have 32 bytes.
        let done = unsafe {
            X25519(
                shared.expose_mut().as_mut_ptr(),
                self.scalar.expose().as_ptr(),
                peer.as_ptr(),
            )
        };
        if done == 1 {
            Ok(shared)
        } else {
            failed(Error::Key)
        }
    }
}

/// SubjectPublicKeyInfo of a public key (RFC 8410).
pub fn to_spki(public: &[u8; BYTES]) -> Vec<u8> {
    pkcs8::public_key_info(OID, &[], public)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::hex;

    #[test]
    fn rfc_7748_section_5_2_holds() {
        let key = PrivateKey::new(&hex(
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        ))
        .unwrap();
        let peer = hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
        assert_eq!(
            key.agree(&peer).unwrap().expose(),
            hex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
        );
    }

    #[test]
    fn both_sides_agree_and_small_orders_are_refused() {
        let (a, b) = (
            PrivateKey::new(&[1; 32]).unwrap(),
            PrivateKey::new(&[2; 32]).unwrap(),
        );
        assert_eq!(
            a.agree(&b.public_key()).unwrap().expose(),
            b.agree(&a.public_key()).unwrap().expose()
        );
        assert!(a.agree(&[0; 32]).is_err());
        assert!(a.agree(&[0; 31]).is_err());
    }
}
