//! The primes of an RSA key from its exponents, and the CRT values from the primes.
//!
//! Only at import: AWS-LC's general arithmetic here does not run in constant time.

use super::Primes;
use crate::lc::error::check;
use crate::lc::number::{Number, Scratch};
use crate::lc::{Error, Secret};
use aws_lc_sys::{
    BN_cmp, BN_copy, BN_div, BN_gcd, BN_is_one, BN_is_zero, BN_mod_exp, BN_mod_inverse, BN_mod_sqr,
    BN_mul, BN_nnmod, BN_num_bits, BN_rshift, BN_set_u64, BN_sub, BN_sub_word,
};

/// Bases tried before the exponents are called wrong: each fails for a right key with at most 1/2.
const BASES: u64 = 100;

/// The primes, given or found, and the CRT values.
pub(super) fn primes(
    n: &[u8],
    e: &[u8],
    d: &[u8],
    given: Option<(&[u8], &[u8])>,
) -> Result<Primes, Error> {
    let scratch = Scratch::new()?;
    let (modulus, exponent) = (Number::from_bytes(n)?, Number::from_bytes(d)?);
    let (p, q) = match given {
        Some((p, q)) => (Number::from_bytes(p)?, Number::from_bytes(q)?),
        None => factor(&modulus, &Number::from_bytes(e)?, &exponent, &scratch)?,
    };
    let half = n.len().div_ceil(2);
    let reduced = |prime: &Number| -> Result<Secret, Error> {
        let (less, rest) = (copy(prime)?, Number::zero()?);
        // SAFETY: valid numbers.
        unsafe {
            check(BN_sub_word(less.0, 1), Error::Key)?;
            check(i32::from(BN_is_zero(less.0) == 0), Error::Key)?;
            check(BN_nnmod(rest.0, exponent.0, less.0, scratch.0), Error::Key)?;
        }
        rest.to_secret(half)
    };
    let inverse = Number::zero()?;
    // SAFETY: valid numbers.
    unsafe {
        check(i32::from(BN_is_zero(p.0) == 0), Error::Key)?;
        let found = BN_mod_inverse(inverse.0, q.0, p.0, scratch.0);
        check(i32::from(!found.is_null()), Error::Key)?;
    }
    Ok(Primes {
        dp: reduced(&p)?,
        dq: reduced(&q)?,
        qinv: inverse.to_secret(half)?,
        p: p.to_secret(half).map_err(|_| Error::Key)?,
        q: q.to_secret(half).map_err(|_| Error::Key)?,
    })
}

fn copy(number: &Number) -> Result<Number, Error> {
    let copy = Number::zero()?;
    // SAFETY: valid numbers.
    let done = unsafe { BN_copy(copy.0, number.0) };
    check(i32::from(!done.is_null()), Error::Internal)?;
    Ok(copy)
}

/// p and q, p > q, by a root of unity that is neither 1 nor -1.
fn factor(
    n: &Number,
    e: &Number,
    d: &Number,
    scratch: &Scratch,
) -> Result<(Number, Number), Error> {
    let numbers = [
        Number::zero()?,
        Number::zero()?,
        Number::zero()?,
        Number::zero()?,
    ];
    let [k, x, y, less] = &numbers;
    // SAFETY: valid numbers throughout; n is odd and above 1, as its size and the first check say.
    unsafe {
        check(i32::from(aws_lc_sys::BN_is_odd(n.0) == 1), Error::Key)?;
        // k = d * e - 1 is a multiple of the order of the group, and even.
        check(BN_mul(k.0, d.0, e.0, scratch.0), Error::Key)?;
        check(i32::from(BN_is_zero(k.0) == 0), Error::Key)?;
        check(BN_sub_word(k.0, 1), Error::Key)?;
        check(i32::from(BN_is_zero(k.0) == 0), Error::Key)?;
        let twos = aws_lc_sys::BN_count_low_zero_bits(k.0);
        check(BN_rshift(k.0, k.0, twos), Error::Key)?;
        check(i32::from(twos > 0 && BN_num_bits(k.0) > 0), Error::Key)?;
        check(BN_sub(less.0, n.0, aws_lc_sys::BN_value_one()), Error::Key)?;
        for base in 2..2 + BASES {
            check(BN_set_u64(y.0, base), Error::Internal)?;
            check(BN_mod_exp(x.0, y.0, k.0, n.0, scratch.0), Error::Key)?;
            for _ in 0..twos {
                if BN_is_one(x.0) == 1 || BN_cmp(x.0, less.0) == 0 {
                    break;
                }
                check(BN_mod_sqr(y.0, x.0, n.0, scratch.0), Error::Key)?;
                if BN_is_one(y.0) == 1 {
                    return split(n, x, scratch);
                }
                let done = BN_copy(x.0, y.0);
                check(i32::from(!done.is_null()), Error::Internal)?;
            }
        }
    }
    Err(Error::Key)
}

/// The factors that a root of unity x gives: gcd(x - 1, n) and its cofactor.
fn split(n: &Number, x: &Number, scratch: &Scratch) -> Result<(Number, Number), Error> {
    let (p, q) = (Number::zero()?, Number::zero()?);
    // SAFETY: valid numbers; the gcd is not zero since n is not.
    let larger = unsafe {
        check(BN_sub_word(x.0, 1), Error::Key)?;
        check(BN_gcd(p.0, x.0, n.0, scratch.0), Error::Key)?;
        check(
            BN_div(q.0, std::ptr::null_mut(), n.0, p.0, scratch.0),
            Error::Key,
        )?;
        BN_cmp(p.0, q.0) > 0
    };
    Ok(if larger { (p, q) } else { (q, p) })
}
