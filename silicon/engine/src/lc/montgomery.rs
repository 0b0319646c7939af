//! X25519 (RFC 7748).

use super::evp::failed;
use super::{Error, Secret};
use aws_lc_sys::{X25519, X25519_public_from_private};

/// Bytes of a private key, a public key and a shared secret.
pub const BYTES: usize = 32;

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

    /// The private bytes.
    pub fn scalar(&self) -> &Secret {
        &self.scalar
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; BYTES] {
        self.public
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

#[cfg(test)]
mod tests {
    use super::*;

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
