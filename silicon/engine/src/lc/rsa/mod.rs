//! RSA (RFC 8017, FIPS 186-5): keys here, signatures in `sign`, encryption in `encrypt`.
//!
//! Everything here works on private memory.

pub mod encrypt;
mod factors;
mod rejection;
pub mod sign;

use super::der::{self, Reader};
use super::error::{check, failed};
use super::number::{self, Number};
use super::pkcs8;
use super::{Error, Secret};
use aws_lc_sys::{
    EVP_PKEY, EVP_PKEY_free, EVP_PKEY_new, EVP_PKEY_set1_RSA, RSA, RSA_bits, RSA_check_fips,
    RSA_check_key, RSA_free, RSA_generate_key_ex, RSA_generate_key_fips, RSA_get0_d, RSA_get0_dmp1,
    RSA_get0_dmq1, RSA_get0_e, RSA_get0_iqmp, RSA_get0_n, RSA_get0_p, RSA_get0_q, RSA_new,
    RSA_new_private_key, RSA_new_public_key,
};

/// The usual public exponent, 65537, big-endian.
pub const E_65537: [u8; 3] = [1, 0, 1];
/// Bits of the moduli that are generated.
pub const SIZES: [usize; 3] = [2048, 3072, 4096];
/// Bits of the modulus that only old tests need.
pub const LEGACY_SIZE: usize = 1024;
/// Bytes of the longest public exponent looked at; AWS-LC takes 33 bits.
const E_MAX: usize = 8;
/// Bits of the shortest public modulus, which only old certificates in tests have.
pub const LEGACY_PUBLIC_SIZE: usize = 512;
/// Bits of the longest modulus taken in.
pub const BITS_MAX: usize = 8192;
/// rsaEncryption.
pub(super) const OID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// A key of AWS-LC in both of its forms.
struct Handle {
    rsa: *mut RSA,
    pkey: *mut EVP_PKEY,
}

// SAFETY: owned, and not changed by us after its making.
unsafe impl Send for Handle {}
// SAFETY: AWS-LC allows concurrent operations on one RSA; it guards what it caches in it with locks.
unsafe impl Sync for Handle {}

impl Handle {
    /// Takes the key over.
    fn own(rsa: *mut RSA) -> Result<Self, Error> {
        let mut handle = Self {
            rsa,
            pkey: std::ptr::null_mut(),
        };
        if handle.rsa.is_null() {
            return failed(Error::Key);
        }
        // SAFETY: a new EVP_PKEY, owned by the handle, which takes a reference of the key.
        unsafe {
            handle.pkey = EVP_PKEY_new();
            check(i32::from(!handle.pkey.is_null()), Error::Internal)?;
            check(EVP_PKEY_set1_RSA(handle.pkey, handle.rsa), Error::Internal)?;
        }
        Ok(handle)
    }

    fn bits(&self) -> usize {
        // SAFETY: a valid key.
        unsafe { RSA_bits(self.rsa) as usize }
    }

    fn bytes(&self) -> usize {
        self.bits().div_ceil(8)
    }

    fn modulus(&self) -> Result<Vec<u8>, Error> {
        // SAFETY: the key's own number.
        unsafe { number::public(RSA_get0_n(self.rsa)) }
    }

    fn exponent(&self) -> Result<Vec<u8>, Error> {
        // SAFETY: the key's own number.
        unsafe { number::public(RSA_get0_e(self.rsa)) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: both are owned (or null) and freed once; AWS-LC wipes private numbers.
        unsafe {
            EVP_PKEY_free(self.pkey);
            RSA_free(self.rsa);
        }
    }
}

/// The numbers of a private key, big-endian.
#[derive(Debug)]
pub struct Components {
    /// Modulus.
    pub n: Vec<u8>,
    /// Public exponent.
    pub e: Vec<u8>,
    /// Private exponent.
    pub d: Secret,
    /// The primes and CRT values.
    pub primes: Primes,
}

/// The primes p and q, d mod p-1, d mod q-1, q^-1 mod p.
#[derive(Debug)]
pub struct Primes {
    /// First prime.
    pub p: Secret,
    /// Second prime.
    pub q: Secret,
    /// d mod p-1.
    pub dp: Secret,
    /// d mod q-1.
    pub dq: Secret,
    /// q^-1 mod p.
    pub qinv: Secret,
}

/// A private key, and its public one.
pub struct PrivateKey {
    key: Handle,
    /// SHA-256 of the private exponent: the key of implicit rejection.
    rejection: Secret,
}

/// A public key.
pub struct PublicKey {
    key: Handle,
}

fn allowed(bits: usize, least: usize) -> Result<(), Error> {
    if (least..=BITS_MAX).contains(&bits) {
        Ok(())
    } else {
        Err(Error::Size)
    }
}

fn bits(modulus: &[u8]) -> usize {
    let skip = modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = modulus.get(skip..).unwrap_or(&[]);
    modulus.first().map_or(0, |first| {
        modulus.len() * 8 - first.leading_zeros() as usize
    })
}

impl PrivateKey {
    /// A new key pair. 2048, 3072 or 4096 bits and an odd exponent from 65537 to below 2^33; with
    /// `legacy` also 1024 bits and exponents from 3.
    pub fn generate(bits: usize, exponent: &[u8], legacy: bool) -> Result<Self, Error> {
        let allowed = SIZES.contains(&bits) || (legacy && bits == LEGACY_SIZE);
        if !allowed {
            return Err(Error::Size);
        }
        let skip = exponent.iter().take_while(|byte| **byte == 0).count();
        let exponent = exponent.get(skip..).unwrap_or(&[]);
        if exponent.len() > 5 {
            return Err(Error::Parameter);
        }
        let value = exponent
            .iter()
            .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let least = if legacy { 3 } else { 65537 };
        if value < least || value >= 1 << 33 || value % 2 == 0 {
            return Err(Error::Parameter);
        }
        let number = Number::from_bytes(exponent)?;
        let count = bits as i32;
        // SAFETY: a new key, owned by the handle at once.
        unsafe {
            let key = Handle::own(RSA_new())?;
            let null = std::ptr::null_mut();
            if value == 65537 && bits >= 2048 {
                check(RSA_generate_key_fips(key.rsa, count, null), Error::Internal)?;
            } else {
                check(
                    RSA_generate_key_ex(key.rsa, count, number.0, null),
                    Error::Internal,
                )?;
                check(RSA_check_key(key.rsa), Error::Internal)?;
                if bits >= 2048 {
                    check(RSA_check_fips(key.rsa), Error::Internal)?;
                }
            }
            Self::with(key)
        }
    }

    /// The key with these numbers, which must belong together.
    pub fn from_components(components: &Components) -> Result<Self, Error> {
        allowed(bits(&components.n), LEGACY_SIZE)?;
        let primes = &components.primes;
        let secrets = [
            &components.d,
            &primes.p,
            &primes.q,
            &primes.dp,
            &primes.dq,
            &primes.qinv,
        ];
        let longest = secrets.iter().map(|secret| secret.len()).max();
        if longest > Some(components.n.len() + 1) || components.e.len() > E_MAX {
            return Err(Error::Key);
        }
        let numbers = [
            &components.n[..],
            &components.e,
            components.d.expose(),
            primes.p.expose(),
            primes.q.expose(),
            primes.dp.expose(),
            primes.dq.expose(),
            primes.qinv.expose(),
        ]
        .map(Number::from_bytes);
        let [n, e, d, p, q, dp, dq, qinv] = &numbers;
        let pointer = |number: &Result<Number, Error>| {
            number
                .as_ref()
                .map(|number| number.0)
                .map_err(|error| *error)
        };
        // SAFETY: all are valid numbers; AWS-LC copies them and checks that they belong together.
        let rsa = unsafe {
            RSA_new_private_key(
                pointer(n)?,
                pointer(e)?,
                pointer(d)?,
                pointer(p)?,
                pointer(q)?,
                pointer(dp)?,
                pointer(dq)?,
                pointer(qinv)?,
            )
        };
        Self::with(Handle::own(rsa)?)
    }

    /// The key with these numbers where the primes (`p` and `q`) may be missing: they follow from
    /// the exponents (SP 800-56B, appendix C). So do the CRT values.
    pub fn from_exponents(
        n: &[u8],
        e: &[u8],
        d: &[u8],
        primes: Option<(&[u8], &[u8])>,
    ) -> Result<Self, Error> {
        allowed(bits(n), LEGACY_SIZE)?;
        if e.len() > E_MAX || d.len() > n.len() + 1 {
            return Err(Error::Key);
        }
        Self::from_components(&Components {
            n: n.to_vec(),
            e: e.to_vec(),
            d: Secret::copy(d),
            primes: factors::primes(n, e, d, primes)?,
        })
    }

    fn with(key: Handle) -> Result<Self, Error> {
        // SAFETY: the key's own number.
        let exponent = unsafe { number::secret(RSA_get0_d(key.rsa), key.bytes()) }?;
        Ok(Self {
            rejection: rejection::key(&exponent)?,
            key,
        })
    }

    /// Bits of the modulus.
    pub fn bits(&self) -> usize {
        self.key.bits()
    }

    /// Bytes of the modulus, of a signature and of a ciphertext.
    pub fn bytes(&self) -> usize {
        self.key.bytes()
    }

    /// The modulus, big-endian without leading zeros.
    pub fn modulus(&self) -> Result<Vec<u8>, Error> {
        self.key.modulus()
    }

    /// The public exponent, big-endian without leading zeros.
    pub fn exponent(&self) -> Result<Vec<u8>, Error> {
        self.key.exponent()
    }

    /// Its public key.
    pub fn public(&self) -> Result<PublicKey, Error> {
        PublicKey::from_components(&self.modulus()?, &self.exponent()?)
    }

    /// All numbers: for wrapping inside the module.
    pub fn components(&self) -> Result<Components, Error> {
        let (whole, half) = (self.bytes(), self.bytes().div_ceil(2));
        let rsa = self.key.rsa;
        // SAFETY: the key's own numbers, null where it has none.
        unsafe {
            Ok(Components {
                n: self.modulus()?,
                e: self.exponent()?,
                d: number::secret(RSA_get0_d(rsa), whole)?,
                primes: Primes {
                    p: number::secret(RSA_get0_p(rsa), half)?,
                    q: number::secret(RSA_get0_q(rsa), half)?,
                    dp: number::secret(RSA_get0_dmp1(rsa), half)?,
                    dq: number::secret(RSA_get0_dmq1(rsa), half)?,
                    qinv: number::secret(RSA_get0_iqmp(rsa), half)?,
                },
            })
        }
    }

    /// RSAPrivateKey (RFC 8017, appendix A.1.2).
    pub fn to_pkcs1(&self) -> Result<Secret, Error> {
        let components = self.components()?;
        let primes = &components.primes;
        let numbers = [
            &[0][..],
            &components.n,
            &components.e,
            components.d.expose(),
            primes.p.expose(),
            primes.q.expose(),
            primes.dp.expose(),
            primes.dq.expose(),
            primes.qinv.expose(),
        ]
        .map(der::unsigned);
        let parts = numbers.each_ref().map(Secret::expose);
        Ok(der::element(der::SEQUENCE, &parts))
    }

    /// The key of an RSAPrivateKey of two primes.
    pub fn from_pkcs1(bytes: &[u8]) -> Result<Self, Error> {
        let mut outer = Reader::new(bytes, "the RSAPrivateKey");
        let mut fields = outer.sequence()?;
        outer.finish()?;
        if fields.small()? != 0 {
            return Err(fields.malformed());
        }
        let mut next = || fields.unsigned();
        let components = Components {
            n: next()?.to_vec(),
            e: next()?.to_vec(),
            d: Secret::copy(next()?),
            primes: Primes {
                p: Secret::copy(next()?),
                q: Secret::copy(next()?),
                dp: Secret::copy(next()?),
                dq: Secret::copy(next()?),
                qinv: Secret::copy(next()?),
            },
        };
        fields.finish()?;
        Self::from_components(&components)
    }

    /// PKCS #8.
    pub fn to_pkcs8(&self) -> Result<Secret, Error> {
        Ok(pkcs8::private_key_info(
            OID,
            &[der::NULL, 0],
            self.to_pkcs1()?.expose(),
        ))
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rsa::PrivateKey({} bits)", self.bits())
    }
}

impl PublicKey {
    /// The key with this modulus (512 to 8192 bits) and exponent (odd, 3 to below 2^33).
    pub fn from_components(modulus: &[u8], exponent: &[u8]) -> Result<Self, Error> {
        allowed(bits(modulus), LEGACY_PUBLIC_SIZE)?;
        if exponent.len() > E_MAX {
            return Err(Error::Key);
        }
        let (n, e) = (Number::from_bytes(modulus)?, Number::from_bytes(exponent)?);
        // SAFETY: valid numbers; AWS-LC copies and checks them.
        let key = Handle::own(unsafe { RSA_new_public_key(n.0, e.0) })?;
        Ok(Self { key })
    }

    /// Bits of the modulus.
    pub fn bits(&self) -> usize {
        self.key.bits()
    }

    /// Bytes of the modulus, of a signature and of a ciphertext.
    pub fn bytes(&self) -> usize {
        self.key.bytes()
    }

    /// The modulus, big-endian without leading zeros.
    pub fn modulus(&self) -> Result<Vec<u8>, Error> {
        self.key.modulus()
    }

    /// The public exponent, big-endian without leading zeros.
    pub fn exponent(&self) -> Result<Vec<u8>, Error> {
        self.key.exponent()
    }

    /// RSAPublicKey (RFC 8017, appendix A.1.1).
    pub fn to_pkcs1(&self) -> Result<Vec<u8>, Error> {
        let (n, e) = (
            der::unsigned(&self.modulus()?),
            der::unsigned(&self.exponent()?),
        );
        Ok(der::element(der::SEQUENCE, &[n.expose(), e.expose()])
            .expose()
            .to_vec())
    }

    /// The key of an RSAPublicKey.
    pub fn from_pkcs1(bytes: &[u8]) -> Result<Self, Error> {
        let mut outer = Reader::new(bytes, "the RSAPublicKey");
        let mut fields = outer.sequence()?;
        outer.finish()?;
        let (n, e) = (fields.unsigned()?, fields.unsigned()?);
        fields.finish()?;
        Self::from_components(n, e)
    }

    /// SubjectPublicKeyInfo (RFC 3279).
    pub fn to_spki(&self) -> Result<Vec<u8>, Error> {
        Ok(pkcs8::public_key_info(
            OID,
            &[der::NULL, 0],
            &self.to_pkcs1()?,
        ))
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rsa::PublicKey({} bits)", self.bits())
    }
}

#[cfg(test)]
mod tests;
