//! The arithmetic of edwards448 (RFC 8032, section 5.2), for `ed448` alone.
//!
//! Numbers are AWS-LC's, and their time depends on their values.

use super::ed448::BYTES;
use super::error::failed;
use super::{Error, Secret};
use aws_lc_sys::{
    BIGNUM, BN_CTX, BN_CTX_free, BN_CTX_new, BN_bin2bn, BN_bn2bin_padded, BN_clear_free, BN_cmp,
    BN_is_bit_set, BN_is_odd, BN_is_zero, BN_mod_add, BN_mod_exp, BN_mod_inverse, BN_mod_mul,
    BN_mod_sub, BN_new, BN_nnmod,
};

/// 2^448 - 2^224 - 1, big-endian.
const P: &str = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffe\
                 ffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
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
pub(super) struct Number(*mut BIGNUM);

impl Drop for Number {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { BN_clear_free(self.0) };
    }
}

impl Number {
    pub(super) fn new() -> Result<Self, Error> {
        // SAFETY: a new number, owned.
        let number = Self(unsafe { BN_new() });
        if number.0.is_null() {
            failed(Error::Internal)
        } else {
            Ok(number)
        }
    }

    pub(super) fn from_little_endian(bytes: &[u8]) -> Result<Self, Error> {
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

    pub(super) fn from_hex(digits: &str) -> Result<Self, Error> {
        let mut bytes = Vec::with_capacity(digits.len() / 2);
        for pair in digits.as_bytes().rchunks(2) {
            let pair = std::str::from_utf8(pair).map_err(|_| Error::Internal)?;
            bytes.push(u8::from_str_radix(pair, 16).map_err(|_| Error::Internal)?);
        }
        Self::from_little_endian(&bytes)
    }

    pub(super) fn to_little_endian(&self) -> Result<[u8; BYTES], Error> {
        let mut out = [0; BYTES];
        // SAFETY: the buffer is writable for its length.
        if unsafe { BN_bn2bin_padded(out.as_mut_ptr(), out.len(), self.0) } != 1 {
            return failed(Error::Internal);
        }
        out.reverse();
        Ok(out)
    }

    pub(super) fn is_zero(&self) -> bool {
        // SAFETY: a valid number.
        unsafe { BN_is_zero(self.0) == 1 }
    }

    pub(super) fn is_odd(&self) -> bool {
        // SAFETY: a valid number.
        unsafe { BN_is_odd(self.0) == 1 }
    }

    pub(super) fn has_bit(&self, bit: i32) -> bool {
        // SAFETY: a valid number.
        unsafe { BN_is_bit_set(self.0, bit) == 1 }
    }

    pub(super) fn is_below(&self, other: &Number) -> bool {
        // SAFETY: valid numbers.
        unsafe { BN_cmp(self.0, other.0) < 0 }
    }

    pub(super) fn equals(&self, other: &Number) -> bool {
        // SAFETY: valid numbers.
        unsafe { BN_cmp(self.0, other.0) == 0 }
    }
}

/// Numbers below a modulus.
pub(super) struct Field {
    pub(super) modulus: Number,
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
    pub(super) fn new(modulus: &str) -> Result<Self, Error> {
        let modulus = Number::from_hex(modulus)?;
        // SAFETY: a new context, owned.
        let context = unsafe { BN_CTX_new() };
        if context.is_null() {
            return failed(Error::Internal);
        }
        Ok(Self { modulus, context })
    }

    pub(super) fn apply(&self, function: Binary, a: &Number, b: &Number) -> Result<Number, Error> {
        let out = Number::new()?;
        // SAFETY: valid numbers and context.
        if unsafe { function(out.0, a.0, b.0, self.modulus.0, self.context) } == 1 {
            Ok(out)
        } else {
            failed(Error::Internal)
        }
    }

    pub(super) fn add(&self, a: &Number, b: &Number) -> Result<Number, Error> {
        self.apply(BN_mod_add, a, b)
    }

    pub(super) fn sub(&self, a: &Number, b: &Number) -> Result<Number, Error> {
        self.apply(BN_mod_sub, a, b)
    }

    pub(super) fn mul(&self, a: &Number, b: &Number) -> Result<Number, Error> {
        self.apply(BN_mod_mul, a, b)
    }

    pub(super) fn power(&self, a: &Number, exponent: &Number) -> Result<Number, Error> {
        self.apply(BN_mod_exp, a, exponent)
    }

    pub(super) fn reduce(&self, a: &Number) -> Result<Number, Error> {
        let out = Number::new()?;
        // SAFETY: valid numbers and context.
        if unsafe { BN_nnmod(out.0, a.0, self.modulus.0, self.context) } == 1 {
            Ok(out)
        } else {
            failed(Error::Internal)
        }
    }

    pub(super) fn inverse(&self, a: &Number) -> Result<Number, Error> {
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
pub(super) struct Point {
    x: Number,
    y: Number,
    z: Number,
}

/// The curve x^2 + y^2 = 1 + d x^2 y^2.
pub(super) struct Curve {
    field: Field,
    d: Number,
}

impl Curve {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self {
            field: Field::new(P)?,
            d: Number::from_hex(D)?,
        })
    }

    pub(super) fn base() -> Result<Point, Error> {
        Ok(Point {
            x: Number::from_hex(BASE.0)?,
            y: Number::from_hex(BASE.1)?,
            z: Number::from_little_endian(&[1])?,
        })
    }

    /// RFC 8032, section 5.2.4.
    pub(super) fn add(&self, one: &Point, two: &Point) -> Result<Point, Error> {
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

    pub(super) fn times(&self, scalar: &Number, point: &Point) -> Result<Point, Error> {
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

    pub(super) fn encode(&self, point: &Point) -> Result<[u8; BYTES], Error> {
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
    pub(super) fn decode(&self, bytes: &[u8; BYTES]) -> Result<Point, Error> {
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
