//! Ed448 and Ed448ph (RFC 8032, section 5.2), which AWS-LC does not have: for outside suites only, where
//! the policy `legacy-test` allows it.
//!
//! Numbers are AWS-LC's, and their time depends on their values: no key that matters may be used here.

use super::error::failed;
use super::{Error, Secret, pkcs8};
use aws_lc_sys::{
    BIGNUM, BN_CTX, BN_CTX_free, BN_CTX_new, BN_bin2bn, BN_bn2bin_padded, BN_clear_free, BN_cmp,
    BN_is_bit_set, BN_is_odd, BN_is_zero, BN_mod_add, BN_mod_exp, BN_mod_inverse, BN_mod_mul,
    BN_mod_sub, BN_new, BN_nnmod, EVP_DigestFinalXOF, EVP_DigestInit_ex, EVP_DigestUpdate,
    EVP_MD_CTX_free, EVP_MD_CTX_new, EVP_shake256,
};

/// Bytes of a private key, a public key, and half a signature.
pub const BYTES: usize = 57;
/// Bytes of a signature.
pub const SIGNATURE: usize = 2 * BYTES;

/// id-Ed448 (RFC 8410).
const OID: &[u8] = &[0x2b, 0x65, 0x71];
/// 2^448 - 2^224 - 1, big-endian.
const P: &str = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffe\
                 ffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
/// The order of the base point.
const L: &str = "3fffffffffffffffffffffffffffffffffffffffffffffffffffffff\
                 7cca23e9c44edb49aed63690216cc2728dc58f552378c292ab5844f3";
/// p - 39081.
const D: &str = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffe\
                 ffffffffffffffffffffffffffffffffffffffffffffffffffff6756";
/// (p - 3) / 4.
const ROOT: &str = "3fffffffffffffffffffffffffffffffffffffffffffffffffffffff\
                    bfffffffffffffffffffffffffffffffffffffffffffffffffffffff";
/// The base point.
const BASE: (&str, &str) = (
    "4f1970c66bed0ded221d15a622bf36da9e146570470f1767ea6de324\
     a3d3a46412ae1af72ab66511433b80e18b00938e2626a82bc70cc05e",
    "693f46716eb6bc248876203756c9c7624bea73736ca3984087789c1e\
     05a0c2d73ad3ff1ce67c39c4fdbd132c4ed7c8ad9808795bf230fa14",
);

/// A number that frees and wipes itself.
struct Number(*mut BIGNUM);

impl Drop for Number {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { BN_clear_free(self.0) };
    }
}

impl Number {
    fn new() -> Result<Self, Error> {
        // SAFETY: a new number, owned.
        let number = Self(unsafe { BN_new() });
        if number.0.is_null() {
            failed(Error::Internal)
        } else {
            Ok(number)
        }
    }

    fn from_little_endian(bytes: &[u8]) -> Result<Self, Error> {
        let mut reversed = Secret::copy(bytes);
        reversed.expose_mut().reverse();
        // SAFETY: the bytes come with their length; the number is new and owned.
        let number = Self(unsafe {
            BN_bin2bn(
                reversed.expose().as_ptr(),
                reversed.expose().len(),
                std::ptr::null_mut(),
            )
        });
        if number.0.is_null() {
            failed(Error::Internal)
        } else {
            Ok(number)
        }
    }

    fn from_hex(digits: &str) -> Result<Self, Error> {
        let mut bytes = Vec::with_capacity(digits.len() / 2);
        for pair in digits.as_bytes().rchunks(2) {
            let pair = std::str::from_utf8(pair).map_err(|_| Error::Internal)?;
            bytes.push(u8::from_str_radix(pair, 16).map_err(|_| Error::Internal)?);
        }
        Self::from_little_endian(&bytes)
    }

    fn to_little_endian(&self) -> Result<[u8; BYTES], Error> {
        let mut out = [0; BYTES];
        // SAFETY: the buffer is writable for its length.
        if unsafe { BN_bn2bin_padded(out.as_mut_ptr(), out.len(), self.0) } != 1 {
            return failed(Error::Internal);
        }
        out.reverse();
        Ok(out)
    }

    fn is_zero(&self) -> bool {
        // SAFETY: a valid number.
        unsafe { BN_is_zero(self.0) == 1 }
    }

    fn is_odd(&self) -> bool {
        // SAFETY: a valid number.
        unsafe { BN_is_odd(self.0) == 1 }
    }

    fn has_bit(&self, bit: i32) -> bool {
        // SAFETY: a valid number.
        unsafe { BN_is_bit_set(self.0, bit) == 1 }
    }

    fn is_below(&self, other: &Number) -> bool {
        // SAFETY: valid numbers.
        unsafe { BN_cmp(self.0, other.0) < 0 }
    }

    fn equals(&self, other: &Number) -> bool {
        // SAFETY: valid numbers.
        unsafe { BN_cmp(self.0, other.0) == 0 }
    }
}

/// Numbers below a modulus.
struct Field {
    modulus: Number,
    context: *mut BN_CTX,
}

impl Drop for Field {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { BN_CTX_free(self.context) };
    }
}

type Binary = unsafe extern "C" fn(
    *mut BIGNUM,
    *const BIGNUM,
    *const BIGNUM,
    *const BIGNUM,
    *mut BN_CTX,
) -> std::ffi::c_int;

impl Field {
    fn new(modulus: &str) -> Result<Self, Error> {
        let modulus = Number::from_hex(modulus)?;
        // SAFETY: a new context, owned.
        let context = unsafe { BN_CTX_new() };
        if context.is_null() {
            return failed(Error::Internal);
        }
        Ok(Self { modulus, context })
    }

    fn apply(&self, function: Binary, a: &Number, b: &Number) -> Result<Number, Error> {
        let out = Number::new()?;
        // SAFETY: valid numbers and context.
        if unsafe { function(out.0, a.0, b.0, self.modulus.0, self.context) } == 1 {
            Ok(out)
        } else {
            failed(Error::Internal)
        }
    }

    fn add(&self, a: &Number, b: &Number) -> Result<Number, Error> {
        self.apply(BN_mod_add, a, b)
    }

    fn sub(&self, a: &Number, b: &Number) -> Result<Number, Error> {
        self.apply(BN_mod_sub, a, b)
    }

    fn mul(&self, a: &Number, b: &Number) -> Result<Number, Error> {
        self.apply(BN_mod_mul, a, b)
    }

    fn power(&self, a: &Number, exponent: &Number) -> Result<Number, Error> {
        self.apply(BN_mod_exp, a, exponent)
    }

    fn reduce(&self, a: &Number) -> Result<Number, Error> {
        let out = Number::new()?;
        // SAFETY: valid numbers and context.
        if unsafe { BN_nnmod(out.0, a.0, self.modulus.0, self.context) } == 1 {
            Ok(out)
        } else {
            failed(Error::Internal)
        }
    }

    fn inverse(&self, a: &Number) -> Result<Number, Error> {
        let out = Number::new()?;
        // SAFETY: valid numbers and context; null where there is no inverse.
        let done = unsafe { BN_mod_inverse(out.0, a.0, self.modulus.0, self.context) };
        if done.is_null() {
            failed(Error::Key)
        } else {
            Ok(out)
        }
    }
}

/// A point in projective coordinates.
struct Point {
    x: Number,
    y: Number,
    z: Number,
}

/// The curve x^2 + y^2 = 1 + d x^2 y^2.
struct Curve {
    field: Field,
    d: Number,
}

impl Curve {
    fn new() -> Result<Self, Error> {
        Ok(Self {
            field: Field::new(P)?,
            d: Number::from_hex(D)?,
        })
    }

    fn base() -> Result<Point, Error> {
        Ok(Point {
            x: Number::from_hex(BASE.0)?,
            y: Number::from_hex(BASE.1)?,
            z: Number::from_little_endian(&[1])?,
        })
    }

    /// RFC 8032, section 5.2.4.
    fn add(&self, one: &Point, two: &Point) -> Result<Point, Error> {
        let f = &self.field;
        let a = f.mul(&one.z, &two.z)?;
        let b = f.mul(&a, &a)?;
        let c = f.mul(&one.x, &two.x)?;
        let d = f.mul(&one.y, &two.y)?;
        let e = f.mul(&self.d, &f.mul(&c, &d)?)?;
        let (below, above) = (f.sub(&b, &e)?, f.add(&b, &e)?);
        let h = f.mul(&f.add(&one.x, &one.y)?, &f.add(&two.x, &two.y)?)?;
        let cross = f.sub(&f.sub(&h, &c)?, &d)?;
        Ok(Point {
            x: f.mul(&f.mul(&a, &below)?, &cross)?,
            y: f.mul(&f.mul(&a, &above)?, &f.sub(&d, &c)?)?,
            z: f.mul(&below, &above)?,
        })
    }

    fn times(&self, scalar: &Number, point: &Point) -> Result<Point, Error> {
        let mut sum = Point {
            x: Number::new()?,
            y: Number::from_little_endian(&[1])?,
            z: Number::from_little_endian(&[1])?,
        };
        for bit in (0..448).rev() {
            sum = self.add(&sum, &sum)?;
            if scalar.has_bit(bit) {
                sum = self.add(&sum, point)?;
            }
        }
        Ok(sum)
    }

    fn encode(&self, point: &Point) -> Result<[u8; BYTES], Error> {
        let scale = self.field.inverse(&point.z)?;
        let (x, y) = (
            self.field.mul(&point.x, &scale)?,
            self.field.mul(&point.y, &scale)?,
        );
        let mut out = y.to_little_endian()?;
        if let Some(last) = out.last_mut() {
            *last |= u8::from(x.is_odd()) << 7;
        }
        Ok(out)
    }

    /// RFC 8032, section 5.2.3.
    fn decode(&self, bytes: &[u8; BYTES]) -> Result<Point, Error> {
        let f = &self.field;
        let (Some(last), Some(body)) = (bytes.last(), bytes.get(..BYTES - 1)) else {
            return Err(Error::Key);
        };
        let y = Number::from_little_endian(body)?;
        if last & 0x7f != 0 || !y.is_below(&f.modulus) {
            return Err(Error::Key);
        }
        let one = Number::from_little_endian(&[1])?;
        let square = f.mul(&y, &y)?;
        let u = f.sub(&square, &one)?;
        let v = f.sub(&f.mul(&self.d, &square)?, &one)?;
        let u3 = f.mul(&f.mul(&u, &u)?, &u)?;
        let v3 = f.mul(&f.mul(&v, &v)?, &v)?;
        let inner = f.mul(&f.mul(&f.mul(&u3, &u)?, &u)?, &v3)?;
        let mut x = f.mul(
            &f.mul(&u3, &v)?,
            &f.power(&inner, &Number::from_hex(ROOT)?)?,
        )?;
        if !f.mul(&v, &f.mul(&x, &x)?)?.equals(&u) {
            return Err(Error::Key);
        }
        let odd = last & 0x80 != 0;
        if x.is_zero() && odd {
            return Err(Error::Key);
        }
        if x.is_odd() != odd {
            x = f.sub(&f.modulus, &x)?;
        }
        Ok(Point { x, y, z: one })
    }
}

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
