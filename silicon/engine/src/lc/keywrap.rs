//! AES key wrap: KW (RFC 3394, SP 800-38F) and KWP with padding (RFC 5649).
//!
//! AWS-LC's own functions fix the check value of KWP, which PKCS#11 lets the caller give, so both
//! stand here on the block cipher. Unwrapping works on private memory only.

use super::aes::{AesKey, BLOCK, Block, Direction};
use super::secret::constant_time_equal;
use super::{Error, Secret};
use zeroize::Zeroize;

/// Bytes of a half-block, the unit of wrapping.
const HALF: usize = 8;
/// The check value of RFC 3394.
pub const DEFAULT_IV: [u8; HALF] = [0xa6; HALF];
/// The check value of RFC 5649.
pub const DEFAULT_ICV: [u8; 4] = [0xa6, 0x59, 0x59, 0xa6];
/// Longest key to wrap: far above any private key, far below what the step counter holds.
const MAX: usize = 1 << 20;

/// Wraps a multiple of 8 bytes, at least 16: 8 bytes longer.
pub fn wrap(key: &AesKey, iv: &[u8; HALF], plain: &[u8]) -> Result<Vec<u8>, Error> {
    if plain.len() < 2 * HALF || !plain.len().is_multiple_of(HALF) || plain.len() > MAX {
        return Err(Error::DataLength);
    }
    let mut out = [&iv[..], plain].concat();
    wrap_in_place(key, &mut out);
    Ok(out)
}

/// Unwraps: 8 bytes shorter, or `Error::Decrypt`.
pub fn unwrap(key: &AesKey, iv: &[u8; HALF], wrapped: &[u8]) -> Result<Secret, Error> {
    if wrapped.len() < 3 * HALF || !wrapped.len().is_multiple_of(HALF) || wrapped.len() > MAX {
        return Err(Error::DataLength);
    }
    let mut buffer = Secret::copy(wrapped);
    unwrap_in_place(key, buffer.expose_mut());
    let (check, plain) = buffer.expose().split_at(HALF);
    if constant_time_equal(check, iv) {
        Ok(Secret::copy(plain))
    } else {
        Err(Error::Decrypt)
    }
}

/// Wraps any number of bytes, at least one: up to 15 longer, a multiple of 8.
pub fn wrap_padded(key: &AesKey, icv: &[u8; 4], plain: &[u8]) -> Result<Vec<u8>, Error> {
    if plain.is_empty() || plain.len() > MAX {
        return Err(Error::DataLength);
    }
    let length = (plain.len() as u32).to_be_bytes();
    let mut out = Vec::with_capacity(plain.len() + BLOCK);
    out.extend_from_slice(icv);
    out.extend_from_slice(&length);
    out.extend_from_slice(plain);
    out.resize(out.len().next_multiple_of(HALF), 0);
    match <&mut Block>::try_from(&mut out[..]) {
        Ok(block) => key.block(Direction::Encrypt, block),
        Err(_) => wrap_in_place(key, &mut out),
    }
    Ok(out)
}

/// Unwraps what `wrap_padded` gave, or `Error::Decrypt`. Which of its checks failed does not show.
pub fn unwrap_padded(key: &AesKey, icv: &[u8; 4], wrapped: &[u8]) -> Result<Secret, Error> {
    if wrapped.len() < BLOCK || !wrapped.len().is_multiple_of(HALF) || wrapped.len() > MAX + BLOCK {
        return Err(Error::DataLength);
    }
    let mut buffer = Secret::copy(wrapped);
    match <&mut Block>::try_from(buffer.expose_mut()) {
        Ok(block) => key.block(Direction::Decrypt, block),
        Err(_) => unwrap_in_place(key, buffer.expose_mut()),
    }
    let (head, padded) = buffer.expose().split_at(HALF);
    let (check, length) = head.split_at(4);
    let length = length
        .iter()
        .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    // The length must leave 0 to 7 bytes of padding, all zero; all checks are made before one is
    // told, without a branch on a decrypted byte.
    let padding = (padded.len() as u64).wrapping_sub(length);
    let mut bad = u64::from(!constant_time_equal(check, icv)) | padding >> 3;
    for (back, byte) in (0u64..).zip(padded.iter().rev().take(HALF)) {
        let inside = back.wrapping_sub(padding) >> 63;
        bad |= u64::from(*byte) & inside.wrapping_neg();
    }
    if std::hint::black_box(bad) != 0 {
        return Err(Error::Decrypt);
    }
    let length = usize::try_from(length).map_err(|_| Error::Decrypt)?;
    padded.get(..length).map(Secret::copy).ok_or(Error::Decrypt)
}

/// W of SP 800-38F, over the check value and at least two half-blocks.
fn wrap_in_place(key: &AesKey, data: &mut [u8]) {
    let Some((check, rest)) = data.split_first_chunk_mut::<HALF>() else {
        return;
    };
    let mut block = [0; BLOCK];
    let mut step = 0u64;
    for _ in 0..6 {
        for half in rest.as_chunks_mut::<HALF>().0 {
            step += 1;
            join(&mut block, check, half);
            key.block(Direction::Encrypt, &mut block);
            split(&block, check, half);
            *check = (u64::from_be_bytes(*check) ^ step).to_be_bytes();
        }
    }
    block.zeroize();
}

/// The inverse of `wrap_in_place`.
fn unwrap_in_place(key: &AesKey, data: &mut [u8]) {
    let Some((check, rest)) = data.split_first_chunk_mut::<HALF>() else {
        return;
    };
    let halves = rest.as_chunks_mut::<HALF>().0;
    let mut block = [0; BLOCK];
    let mut step = 6 * halves.len() as u64;
    for _ in 0..6 {
        for half in halves.iter_mut().rev() {
            *check = (u64::from_be_bytes(*check) ^ step).to_be_bytes();
            join(&mut block, check, half);
            key.block(Direction::Decrypt, &mut block);
            split(&block, check, half);
            step -= 1;
        }
    }
    block.zeroize();
}

fn join(block: &mut Block, left: &[u8; HALF], right: &[u8; HALF]) {
    let (first, second) = block.split_at_mut(HALF);
    first.copy_from_slice(left);
    second.copy_from_slice(right);
}

fn split(block: &Block, left: &mut [u8; HALF], right: &mut [u8; HALF]) {
    let (first, second) = block.split_at(HALF);
    left.copy_from_slice(first);
    right.copy_from_slice(second);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::hex;
    use proptest::prelude::*;

    #[test]
    fn rfc_3394_section_4_holds() {
        let data = hex("00112233445566778899aabbccddeeff0001020304050607");
        let key = AesKey::new(&(0..32).collect::<Vec<u8>>()).unwrap();
        let wrapped = hex("a8f9bc1612c68b3ff6e6f4fbe30e71e4769c8b80a32cb8958cd5d17d6b254da1");
        assert_eq!(wrap(&key, &DEFAULT_IV, &data).unwrap(), wrapped);
        assert_eq!(unwrap(&key, &DEFAULT_IV, &wrapped).unwrap().expose(), data);
        assert_eq!(unwrap(&key, &[0; 8], &wrapped).unwrap_err(), Error::Decrypt);
    }

    #[test]
    fn rfc_5649_section_6_holds() {
        let key = AesKey::new(&hex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")).unwrap();
        for (plain, wrapped) in [
            (
                "c37b7e6492584340bed12207808941155068f738",
                "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
            ),
            ("466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"),
        ] {
            let (plain, wrapped) = (hex(plain), hex(wrapped));
            assert_eq!(wrap_padded(&key, &DEFAULT_ICV, &plain).unwrap(), wrapped);
            assert_eq!(
                unwrap_padded(&key, &DEFAULT_ICV, &wrapped)
                    .unwrap()
                    .expose(),
                plain
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_wrapped_comes_back_and_nothing_else(
            size in proptest::sample::select(vec![16usize, 24, 32]),
            plain in proptest::collection::vec(any::<u8>(), 1..200),
            iv in any::<[u8; 8]>(), icv in any::<[u8; 4]>(), at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let key = AesKey::new(&vec![4; size]).unwrap();
            let mut wrapped = wrap_padded(&key, &icv, &plain).unwrap();
            let back = unwrap_padded(&key, &icv, &wrapped).unwrap();
            prop_assert_eq!(back.expose(), &plain[..]);
            let at = at.index(wrapped.len());
            wrapped[at] ^= 1 << bit;
            prop_assert_eq!(unwrap_padded(&key, &icv, &wrapped).unwrap_err(), Error::Decrypt);
            if plain.len() >= 16 && plain.len() % 8 == 0 {
                let wrapped = wrap(&key, &iv, &plain).unwrap();
                let back = unwrap(&key, &iv, &wrapped).unwrap();
                prop_assert_eq!(back.expose(), &plain[..]);
            } else {
                prop_assert_eq!(wrap(&key, &iv, &plain).unwrap_err(), Error::DataLength);
            }
        }

        /// Padding that is not zero and lengths that lie are refused, with the check value right.
        #[test]
        fn wrong_padding_is_refused(length in any::<u32>(), tail in any::<[u8; 8]>()) {
            let key = AesKey::new(&[4; 16]).unwrap();
            let mut data = [&DEFAULT_ICV[..], &length.to_be_bytes(), &[1; 16], &tail].concat();
            let good = (17..=24).contains(&length) && tail[(length - 16) as usize..].iter().all(|b| *b == 0);
            wrap_in_place(&key, &mut data);
            prop_assert_eq!(unwrap_padded(&key, &DEFAULT_ICV, &data).is_ok(), good);
        }
    }
}
