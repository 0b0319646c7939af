//! Ed448 and Ed448ph (RFC 8032, section 5.2), which AWS-LC does not have: for outside suites only, where
//! the policy `legacy-test` allows it.
//!
//! Numbers are AWS-LC's, and their time depends on their values: no key that matters may be used here.

use super::edwards448::{Curve, Field, Number};
use super::error::failed;
use super::{Error, Secret, pkcs8};
use aws_lc_sys::{
    EVP_DigestFinalXOF, EVP_DigestInit_ex, EVP_DigestUpdate, EVP_MD_CTX_free, EVP_MD_CTX_new,
    EVP_shake256,
};

/// Bytes of a private key, a public key, and half a signature.
pub const BYTES: usize = 57;
/// Bytes of a signature.
pub const SIGNATURE: usize = 2 * BYTES;

/// id-Ed448 (RFC 8410).
const OID: &[u8] = &[0x2b, 0x65, 0x71];
/// The order of the base point.
const L: &str = "3fffffffffffffffffffffffffffffffffffffffffffffffffffffff\
                 7cca23e9c44edb49aed63690216cc2728dc58f552378c292ab5844f3";
/// SHAKE256 over these pieces.
fn shake(pieces: &[&[u8]], length: usize) -> Result<Secret, Error> {
    let mut out = Secret::zeroed(length);
    // SAFETY: the context is new, owned and freed; every piece and the output come with their lengths.
    unsafe {
        let context = EVP_MD_CTX_new();
        let mut fine = !context.is_null()
            && EVP_DigestInit_ex(context, EVP_shake256(), std::ptr::null_mut()) == 1;
        for piece in pieces {
            fine = fine && EVP_DigestUpdate(context, piece.as_ptr().cast(), piece.len()) == 1;
        }
        fine = fine && EVP_DigestFinalXOF(context, out.expose_mut().as_mut_ptr(), length) == 1;
        EVP_MD_CTX_free(context);
        if fine {
            Ok(out)
        } else {
            failed(Error::Internal)
        }
    }
}

/// dom4 and the message as it is signed (RFC 8032, section 5.2).
fn prepared(prehash: bool, context: &[u8], message: &[u8]) -> Result<(Vec<u8>, Secret), Error> {
    let length = u8::try_from(context.len()).map_err(|_| Error::Parameter)?;
    let mut domain = b"SigEd448".to_vec();
    domain.extend([u8::from(prehash), length]);
    domain.extend(context);
    let message = if prehash {
        shake(&[message], 64)?
    } else {
        Secret::copy(message)
    };
    Ok((domain, message))
}

/// A hash as a number below the order of the base point.
fn scalar(order: &Field, pieces: &[&[u8]]) -> Result<Number, Error> {
    let hash = shake(pieces, SIGNATURE)?;
    order.reduce(&Number::from_little_endian(hash.expose())?)
}

/// A private key.
#[derive(Debug)]
pub struct PrivateKey {
    seed: Secret,
    public: [u8; BYTES],
}

impl PrivateKey {
    /// The key of a seed of 57 bytes.
    pub fn from_seed(seed: &[u8]) -> Result<Self, Error> {
        if seed.len() != BYTES {
            return Err(Error::Key);
        }
        let seed = Secret::copy(seed);
        let curve = Curve::new()?;
        let (secret, _) = Self::expand(&seed)?;
        let public = curve.encode(&curve.times(&secret, &Curve::base()?)?)?;
        Ok(Self { seed, public })
    }

    /// The secret scalar, and what nonces are made from.
    fn expand(seed: &Secret) -> Result<(Number, Secret), Error> {
        let mut hash = shake(&[seed.expose()], SIGNATURE)?;
        let (head, tail) = hash.expose_mut().split_at_mut(BYTES);
        if let [first, .., next, last] = head {
            *first &= 0xfc;
            *next |= 0x80;
            *last = 0;
        }
        Ok((Number::from_little_endian(head)?, Secret::copy(tail)))
    }

    /// The seed.
    pub fn seed(&self) -> Secret {
        Secret::copy(self.seed.expose())
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; BYTES] {
        self.public
    }

    /// PKCS #8 (RFC 8410).
    pub fn to_pkcs8(&self) -> Secret {
        pkcs8::private_octets(OID, self.seed.expose())
    }

    /// Signs a message in private memory.
    pub fn sign(
        &self,
        prehash: bool,
        context: &[u8],
        message: &[u8],
    ) -> Result<[u8; SIGNATURE], Error> {
        let (domain, message) = prepared(prehash, context, message)?;
        let (curve, order) = (Curve::new()?, Field::new(L)?);
        let (secret, prefix) = Self::expand(&self.seed)?;
        let nonce = scalar(&order, &[&domain, prefix.expose(), message.expose()])?;
        let commitment = curve.encode(&curve.times(&nonce, &Curve::base()?)?)?;
        let challenge = scalar(
            &order,
            &[&domain, &commitment, &self.public, message.expose()],
        )?;
        let answer = order.add(&nonce, &order.mul(&challenge, &order.reduce(&secret)?)?)?;
        let mut out = [0; SIGNATURE];
        let (first, second) = out.split_at_mut(BYTES);
        first.copy_from_slice(&commitment);
        second.copy_from_slice(&answer.to_little_endian()?);
        Ok(out)
    }
}

/// Verifies a signature of 114 bytes.
pub fn verify(
    public: &[u8; BYTES],
    prehash: bool,
    context: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    let (domain, message) = prepared(prehash, context, message)?;
    let (curve, order) = (Curve::new()?, Field::new(L)?);
    let halves = signature.split_at_checked(BYTES);
    let Some((Ok(commitment), Ok(answer))) = halves.map(|(first, second)| {
        (
            <[u8; BYTES]>::try_from(first),
            <[u8; BYTES]>::try_from(second),
        )
    }) else {
        return Err(Error::Signature);
    };
    let key = curve.decode(public)?;
    let point = curve.decode(&commitment).map_err(|_| Error::Signature)?;
    let answer = Number::from_little_endian(&answer)?;
    if !answer.is_below(&order.modulus) {
        return Err(Error::Signature);
    }
    let challenge = scalar(&order, &[&domain, &commitment, public, message.expose()])?;
    let left = curve.times(&answer, &Curve::base()?)?;
    let right = curve.add(&point, &curve.times(&challenge, &key)?)?;
    if curve.encode(&left)? == curve.encode(&right)? {
        Ok(())
    } else {
        Err(Error::Signature)
    }
}

/// SubjectPublicKeyInfo of a public key (RFC 8410).
pub fn to_spki(public: &[u8; BYTES]) -> Vec<u8> {
    pkcs8::public_key_info(OID, &[], public)
}

/// Whether these bytes are a point of the curve.
pub fn is_public_key(bytes: &[u8; BYTES]) -> bool {
    Curve::new().and_then(|curve| curve.decode(bytes)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len() / 2)
            .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    }

    /// RFC 8032, section 7.4, "Blank".
    #[test]
    fn the_first_vector_of_the_standard() {
        let seed = unhex(
            "6c82a562cb808d10d632be89c8513ebf6c929f34ddfa8c9f63c9960ef6e348a3\
             528c8a3fcc2f044e39a3fc5b94492f8f032e7549a20098f95b",
        );
        let key = PrivateKey::from_seed(&seed).unwrap();
        assert_eq!(
            key.public_key().to_vec(),
            unhex(
                "5fd7449b59b461fd2ce787ec616ad46a1da1342485a70e1f8a0ea75d80e96778\
                 edf124769b46c7061bd6783df1e50f6cd1fa1abeafe8256180"
            )
        );
        let signature = key.sign(false, b"", b"").unwrap();
        assert_eq!(
            signature.to_vec(),
            unhex(
                "533a37f6bbe457251f023c0d88f976ae2dfb504a843e34d2074fd823d41a591f\
                 2b233f034f628281f2fd7a22ddd47d7828c59bd0a21bfd3980ff0d2028d4b18a\
                 9df63e006c5d1c2d345b925d8dc00b4104852db99ac5c7cdda8530a113a0f4db\
                 b61149f05a7363268c71d95808ff2e652600"
            )
        );
        verify(&key.public_key(), false, b"", b"", &signature).unwrap();
    }

    #[test]
    fn another_message_context_or_scheme_does_not_verify() {
        let key = PrivateKey::from_seed(&[7; BYTES]).unwrap();
        let public = key.public_key();
        let signature = key.sign(true, b"here", b"message").unwrap();
        verify(&public, true, b"here", b"message", &signature).unwrap();
        for (prehash, context, message) in [
            (true, &b"here"[..], &b"massage"[..]),
            (true, b"there", b"message"),
            (false, b"here", b"message"),
        ] {
            let refused = verify(&public, prehash, context, message, &signature);
            assert_eq!(refused, Err(Error::Signature));
        }
        assert!(verify(&public, true, b"here", b"message", &signature[1..]).is_err());
        assert!(!is_public_key(&[0xff; BYTES]));
    }
}
