//! Keys that are kept as the seed they are made of, each with its parameter set: what ML-DSA and
//! ML-KEM have in common.

use super::evp::Pkey;
use super::{Error, Secret, pkcs8, random};

/// The parameter set of an algorithm.
pub trait ParameterSet: Copy {
    /// Bytes of a seed.
    const SEED: usize;

    /// The content of the object identifier.
    fn oid(self) -> &'static [u8];
    /// Bytes of a public key.
    fn public_bytes(self) -> usize;
    /// Bytes of an expanded private key.
    fn expanded_bytes(self) -> usize;
    /// The private key of a seed, which has its length.
    fn private(self, seed: &[u8]) -> Result<Pkey, Error>;
    /// The public key of its raw form, which has its length.
    fn public(self, raw: &[u8]) -> Result<Pkey, Error>;
    /// The pairwise consistency test that FIPS 140-3 wants of each new key pair.
    fn check_pair(private: &PrivateKey<Self>, public: &PublicKey<Self>) -> Result<(), Error>;
}

/// A private key with its seed.
#[derive(Debug)]
pub struct PrivateKey<L> {
    level: L,
    seed: Secret,
    pub(super) key: Pkey,
}

/// A public key.
#[derive(Debug)]
pub struct PublicKey<L> {
    level: L,
    pub(super) key: Pkey,
}

impl<L: ParameterSet> PrivateKey<L> {
    /// The key of a seed.
    pub fn from_seed(level: L, seed: &[u8]) -> Result<Self, Error> {
        if seed.len() != L::SEED {
            return Err(Error::Key);
        }
        Ok(Self {
            level,
            seed: Secret::copy(seed),
            key: level.private(seed)?,
        })
    }

    /// The key of a seed that was just drawn, after the pairwise consistency test.
    pub fn from_new_seed(level: L, seed: &[u8]) -> Result<Self, Error> {
        let key = Self::from_seed(level, seed)?;
        L::check_pair(&key, &PublicKey::new(level, &key.public_key()?)?)?;
        Ok(key)
    }

    /// A new key, from AWS-LC's random bytes.
    pub fn generate(level: L) -> Result<Self, Error> {
        let mut seed = Secret::zeroed(L::SEED);
        random::fill(seed.expose_mut())?;
        Self::from_new_seed(level, seed.expose())
    }

    /// The key in the forms of RFC 9881 and RFC 9935. An expanded key without its seed is refused:
    /// no key is kept without it.
    pub(super) fn from_choice(level: L, octets: &[u8]) -> Result<Self, Error> {
        let choice = pkcs8::Choice::read(octets)?;
        let key = Self::from_seed(level, choice.seed()?)?;
        choice.check(|| key.expanded())?;
        Ok(key)
    }

    /// PKCS #8: the seed (RFC 9881, RFC 9935).
    pub fn to_pkcs8(&self) -> Secret {
        pkcs8::private_seed(self.level.oid(), &self.seed)
    }

    /// Its parameter set.
    pub fn level(&self) -> L {
        self.level
    }

    /// Its seed.
    pub fn seed(&self) -> &Secret {
        &self.seed
    }

    /// The public key.
    pub fn public_key(&self) -> Result<Vec<u8>, Error> {
        self.key.raw_public(self.level.public_bytes())
    }

    /// The expanded private key.
    pub fn expanded(&self) -> Result<Secret, Error> {
        self.key.raw_private(self.level.expanded_bytes())
    }
}

impl<L: ParameterSet> PublicKey<L> {
    /// The key in its raw form.
    pub fn new(level: L, raw: &[u8]) -> Result<Self, Error> {
        if raw.len() != level.public_bytes() {
            return Err(Error::Key);
        }
        Ok(Self {
            level,
            key: level.public(raw)?,
        })
    }

    /// Its parameter set.
    pub fn level(&self) -> L {
        self.level
    }

    /// SubjectPublicKeyInfo (RFC 9881, RFC 9935).
    pub fn to_spki(&self) -> Result<Vec<u8>, Error> {
        Ok(pkcs8::public_key_info(self.level.oid(), &[], &self.raw()?))
    }

    /// The raw form.
    pub fn raw(&self) -> Result<Vec<u8>, Error> {
        self.key.raw_public(self.level.public_bytes())
    }
}
