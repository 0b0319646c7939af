//! ML-KEM (FIPS 203): keys from their seeds, encapsulation, decapsulation.

use super::error::failed;
use super::evp::{Pkey, PkeyContext};
use super::seeded::{self, ParameterSet};
use super::{Error, Secret};
use aws_lc_sys::{
    EVP_PKEY_CTX_kem_set_params, EVP_PKEY_CTX_new_id, EVP_PKEY_KEM, EVP_PKEY_decapsulate,
    EVP_PKEY_encapsulate, EVP_PKEY_kem_new_raw_public_key, EVP_PKEY_keygen_deterministic,
    EVP_PKEY_keygen_init, NID_MLKEM512, NID_MLKEM768, NID_MLKEM1024,
};

/// Bytes of a seed (d || z).
pub const SEED: usize = 64;
/// Bytes of a shared secret.
pub const SHARED: usize = 32;

/// The modulus of the coefficients.
const Q: u16 = 3329;

/// A parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// ML-KEM-512.
    MlKem512,
    /// ML-KEM-768.
    MlKem768,
    /// ML-KEM-1024.
    MlKem1024,
}

impl Level {
    /// All of them.
    pub const ALL: [Level; 3] = [Level::MlKem512, Level::MlKem768, Level::MlKem1024];

    const fn nid(self) -> i32 {
        match self {
            Self::MlKem512 => NID_MLKEM512,
            Self::MlKem768 => NID_MLKEM768,
            Self::MlKem1024 => NID_MLKEM1024,
        }
    }

    /// The rank of the module: 384 bytes of coefficients each.
    const fn rank(self) -> usize {
        match self {
            Self::MlKem512 => 2,
            Self::MlKem768 => 3,
            Self::MlKem1024 => 4,
        }
    }

    /// The content of the object identifier (RFC 9935).
    pub(super) const fn oid(self) -> &'static [u8] {
        match self {
            Self::MlKem512 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 0x01],
            Self::MlKem768 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 0x02],
            Self::MlKem1024 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 0x03],
        }
    }

    /// The parameter set of an object identifier's content.
    pub(super) fn of(oid: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.oid() == oid)
    }

    /// Bytes of a public key.
    pub const fn public_bytes(self) -> usize {
        match self {
            Self::MlKem512 => 800,
            Self::MlKem768 => 1184,
            Self::MlKem1024 => 1568,
        }
    }

    /// Bytes of a ciphertext.
    pub const fn ciphertext_bytes(self) -> usize {
        match self {
            Self::MlKem512 => 768,
            Self::MlKem768 => 1088,
            Self::MlKem1024 => 1568,
        }
    }

    /// Bytes of an expanded private key.
    pub const fn expanded_bytes(self) -> usize {
        match self {
            Self::MlKem512 => 1632,
            Self::MlKem768 => 2400,
            Self::MlKem1024 => 3168,
        }
    }
}

/// A private key with its seed.
pub type PrivateKey = seeded::PrivateKey<Level>;
/// A public key.
pub type PublicKey = seeded::PublicKey<Level>;

impl ParameterSet for Level {
    const SEED: usize = SEED;

    fn oid(self) -> &'static [u8] {
        Level::oid(self)
    }

    fn public_bytes(self) -> usize {
        Level::public_bytes(self)
    }

    fn expanded_bytes(self) -> usize {
        Level::expanded_bytes(self)
    }

    fn private(self, seed: &[u8]) -> Result<Pkey, Error> {
        // SAFETY: the context is owned and lives; the seed comes with its length; the new key is owned.
        unsafe {
            let context =
                PkeyContext::own(EVP_PKEY_CTX_new_id(EVP_PKEY_KEM, std::ptr::null_mut()))?;
            let mut key = std::ptr::null_mut();
            let mut length = seed.len();
            let done = EVP_PKEY_CTX_kem_set_params(context.as_ptr(), self.nid()) == 1
                && EVP_PKEY_keygen_init(context.as_ptr()) == 1
                && EVP_PKEY_keygen_deterministic(
                    context.as_ptr(),
                    &mut key,
                    seed.as_ptr(),
                    &mut length,
                ) == 1;
            if !done {
                return failed(Error::Internal);
            }
            Pkey::own(key)
        }
    }

    /// Its coefficients are checked (FIPS 203, section 7.2).
    fn public(self, raw: &[u8]) -> Result<Pkey, Error> {
        // SAFETY: the key comes with its length; the new key is owned.
        let key = Pkey::own(unsafe {
            EVP_PKEY_kem_new_raw_public_key(self.nid(), raw.as_ptr(), raw.len())
        })?;
        let reduced = raw.as_chunks::<3>().0.iter().take(128 * self.rank());
        let reduced = reduced.copied().all(|[low, middle, high]| {
            let first = u16::from(low) | (u16::from(middle) & 0x0f) << 8;
            let second = u16::from(middle) >> 4 | u16::from(high) << 4;
            first < Q && second < Q
        });
        if reduced { Ok(key) } else { Err(Error::Key) }
    }

    /// An encapsulated secret comes out again.
    fn check_pair(private: &PrivateKey, public: &PublicKey) -> Result<(), Error> {
        let (ciphertext, shared) = public.encapsulate()?;
        if shared.equals(private.decapsulate(&ciphertext)?.expose()) {
            Ok(())
        } else {
            Err(Error::Internal)
        }
    }
}

impl PrivateKey {
    /// The shared secret of a ciphertext; a wrong one of the right length gives another secret
    /// (implicit rejection).
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret, Error> {
        if ciphertext.len() != self.level().ciphertext_bytes() {
            return Err(Error::DataLength);
        }
        let mut shared = Secret::zeroed(SHARED);
        let mut length = SHARED;
        let context = self.key.context()?;
        // SAFETY: the context lives; every pointer comes with its length.
        let done = unsafe {
            EVP_PKEY_decapsulate(
                context.as_ptr(),
                shared.expose_mut().as_mut_ptr(),
                &mut length,
                ciphertext.as_ptr(),
                ciphertext.len(),
            )
        };
        if done == 1 && length == SHARED {
            Ok(shared)
        } else {
            failed(Error::Decrypt)
        }
    }
}

impl PublicKey {
    /// A ciphertext and its shared secret.
    pub fn encapsulate(&self) -> Result<(Vec<u8>, Secret), Error> {
        let mut ciphertext = vec![0; self.level().ciphertext_bytes()];
        let mut shared = Secret::zeroed(SHARED);
        let (mut ciphertext_length, mut shared_length) = (ciphertext.len(), SHARED);
        let context = self.key.context()?;
        // SAFETY: the context lives; every pointer comes with its length.
        let done = unsafe {
            EVP_PKEY_encapsulate(
                context.as_ptr(),
                ciphertext.as_mut_ptr(),
                &mut ciphertext_length,
                shared.expose_mut().as_mut_ptr(),
                &mut shared_length,
            )
        };
        let whole = ciphertext_length == ciphertext.len() && shared_length == SHARED;
        if done == 1 && whole {
            Ok((ciphertext, shared))
        } else {
            failed(Error::Internal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::digest::{Hash, digest};
    use crate::lc::{Input, hex};

    /// Digests of the public keys of one seed, from another implementation (OpenSSL).
    #[test]
    fn keys_of_a_seed_are_the_known_ones() {
        let seed: Vec<u8> = (0..64).collect();
        for (level, expected) in [
            (
                Level::MlKem768,
                "0b7934c83125c788995e2ba6bd761e33046b3e40571be53e023309a29f398cc9",
            ),
            (
                Level::MlKem1024,
                "c7b8fa0aa471d5ae18922d6ccad5b31e1d84f92ae723abfd13747018740a8530",
            ),
        ] {
            let key = PrivateKey::from_seed(level, &seed).unwrap();
            let public = key.public_key().unwrap();
            let value = digest(Hash::Sha256, Input::new(&public)).unwrap();
            assert_eq!(value.as_slice(), hex(expected));
        }
    }

    #[test]
    fn both_sides_have_the_same_secret() {
        for level in Level::ALL {
            let key = PrivateKey::generate(level).unwrap();
            let again = PrivateKey::from_seed(level, key.seed().expose()).unwrap();
            assert_eq!(again.public_key().unwrap(), key.public_key().unwrap());
            assert_eq!(
                again.expanded().unwrap().expose(),
                key.expanded().unwrap().expose()
            );
            let public = PublicKey::new(level, &key.public_key().unwrap()).unwrap();
            let (mut ciphertext, shared) = public.encapsulate().unwrap();
            assert_eq!(
                key.decapsulate(&ciphertext).unwrap().expose(),
                shared.expose()
            );
            ciphertext[5] ^= 1;
            assert_ne!(
                key.decapsulate(&ciphertext).unwrap().expose(),
                shared.expose()
            );
            assert!(key.decapsulate(&ciphertext[1..]).is_err());
            assert!(PublicKey::new(level, &vec![0xff; level.public_bytes()]).is_err());
        }
    }
}
