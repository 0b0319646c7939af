//! The modes of AES.

use super::gcm::gcm;
use super::*;

const PLAIN: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51";

/// SP 800-38A, F.1.1, F.2.1, F.5.1.
#[test]
fn the_modes_of_aes_are_those_of_the_standard() {
    let key = key(CKK_AES, &hex("2b7e151628aed2a6abf7158809cf4f3c"));
    let iv: [u8; 16] = hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
    let counter: [u8; 16] = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff").try_into().unwrap();
    let iv = encoded(&Parameters::Bytes(&iv));
    let counter = encoded(&Parameters::Counter {
        bits: 128,
        block: counter,
    });
    for (kind, parameters, expected) in [
        (
            CKM_AES_ECB,
            &[][..],
            "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf",
        ),
        (
            CKM_AES_CBC,
            &iv,
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2",
        ),
        (
            CKM_AES_CTR,
            &counter,
            "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff",
        ),
    ] {
        let (plain, expected) = (hex(PLAIN), hex(expected));
        let key = Some(&key);
        assert_eq!(
            whole(kind, Usage::Encrypt, key, parameters, &plain, 32).unwrap(),
            expected
        );
        assert_eq!(
            whole(kind, Usage::Decrypt, key, parameters, &expected, 32).unwrap(),
            plain
        );
        for part in [1, 15, 16, 17] {
            assert_eq!(
                parts(kind, Usage::Encrypt, key, parameters, &plain, part).unwrap(),
                expected
            );
            assert_eq!(
                parts(kind, Usage::Decrypt, key, parameters, &expected, part).unwrap(),
                plain
            );
        }
        let small = whole(kind, Usage::Encrypt, key, parameters, &plain, 31).unwrap_err();
        assert_eq!(small, Failure::too_small(32));
        if kind != CKM_AES_CTR {
            let short = &plain[..31];
            for way in [
                whole(kind, Usage::Encrypt, key, parameters, short, 32),
                parts(kind, Usage::Encrypt, key, parameters, short, 7),
            ] {
                assert_eq!(code(way), CKR_DATA_LEN_RANGE);
            }
            for way in [
                whole(kind, Usage::Decrypt, key, parameters, short, 32),
                parts(kind, Usage::Decrypt, key, parameters, short, 7),
            ] {
                assert_eq!(code(way), CKR_ENCRYPTED_DATA_LEN_RANGE);
            }
        }
    }
}

#[test]
fn padded_cbc_pads_and_refuses_what_is_no_padding() {
    let key = key(CKK_AES, &[7; 32]);
    let key = Some(&key);
    let iv = encoded(&Parameters::Bytes(&[9; 16]));
    for length in 0..40 {
        let plain = vec![length as u8; length];
        let sealed = whole(CKM_AES_CBC_PAD, Usage::Encrypt, key, &iv, &plain, 48).unwrap();
        assert_eq!(sealed.len(), length / 16 * 16 + 16);
        assert_eq!(
            parts(CKM_AES_CBC_PAD, Usage::Encrypt, key, &iv, &plain, 3).unwrap(),
            sealed
        );
        assert_eq!(
            parts(CKM_AES_CBC_PAD, Usage::Decrypt, key, &iv, &sealed, 7).unwrap(),
            plain
        );
        // Exactly as much room as the plaintext needs is enough.
        assert_eq!(
            whole(CKM_AES_CBC_PAD, Usage::Decrypt, key, &iv, &sealed, length).unwrap(),
            plain
        );
    }
    let unpadded = whole(CKM_AES_CBC, Usage::Encrypt, key, &iv, &[0; 16], 16).unwrap();
    let pad = |data: &[u8]| code(whole(CKM_AES_CBC_PAD, Usage::Decrypt, key, &iv, data, 48));
    assert_eq!(pad(&unpadded), CKR_ENCRYPTED_DATA_INVALID);
    assert_eq!(pad(&unpadded[1..]), CKR_ENCRYPTED_DATA_LEN_RANGE);
    assert_eq!(pad(&[]), CKR_ENCRYPTED_DATA_LEN_RANGE);
}

#[test]
fn wrong_parameters_are_refused() {
    let key = key(CKK_AES, &[0; 16]);
    let bytes = |n: usize| encoded(&Parameters::Bytes(&vec![0; n]));
    let counter = |bits| {
        encoded(&Parameters::Counter {
            bits,
            block: [0; 16],
        })
    };
    for (kind, parameters) in [
        (CKM_AES_ECB, bytes(16)),
        (CKM_AES_CBC, Vec::new()),
        (CKM_AES_CBC, bytes(15)),
        (CKM_AES_CBC_PAD, bytes(17)),
        (CKM_AES_CBC, vec![0xff]),
        (CKM_AES_CTR, bytes(16)),
        (CKM_AES_CTR, counter(0)),
        (CKM_AES_CTR, counter(129)),
        (CKM_AES_GCM, bytes(12)),
        (CKM_AES_GCM, gcm(&[], 128)),
        (CKM_AES_GCM, gcm(&[1; 12], 24)),
        (CKM_AES_GCM, gcm(&[1; 12], 127)),
        (CKM_AES_GCM, gcm(&[1; 12], 136)),
        (CKM_AES_KEY_WRAP, bytes(4)),
        (CKM_AES_KEY_WRAP_KWP, bytes(8)),
    ] {
        let answer = find(kind, false)
            .unwrap()
            .check(Usage::Encrypt, Some(&key), &parameters);
        assert_eq!(
            code(answer),
            CKR_MECHANISM_PARAM_INVALID,
            "{kind:#x} {parameters:?}"
        );
    }
}

/// IEEE 1619, vector 10.
#[test]
fn xts_is_that_of_the_standard() {
    let value = [
        hex("2718281828459045235360287471352662497757247093699959574966967627"),
        hex("3141592653589793238462643383279502884197169399375105820974944592"),
    ]
    .concat();
    let xts = key(CKK_AES_XTS, &value);
    let mut tweak = [0; 16];
    tweak[0] = 0xff;
    let tweak = encoded(&Parameters::Bytes(&tweak));
    let plain: Vec<u8> = (0..512).map(|i| i as u8).collect();
    let sealed = whole(CKM_AES_XTS, Usage::Encrypt, Some(&xts), &tweak, &plain, 512).unwrap();
    assert_eq!(sealed[..16], hex("1c3b3a102f770386e4836c99e370cf9b"));
    assert_eq!(
        parts(CKM_AES_XTS, Usage::Encrypt, Some(&xts), &tweak, &plain, 33).unwrap(),
        sealed
    );
    assert_eq!(
        whole(
            CKM_AES_XTS,
            Usage::Decrypt,
            Some(&xts),
            &tweak,
            &sealed,
            512
        )
        .unwrap(),
        plain
    );
    assert_eq!(
        code(whole(
            CKM_AES_XTS,
            Usage::Encrypt,
            Some(&xts),
            &tweak,
            &plain[..15],
            512
        )),
        CKR_DATA_LEN_RANGE
    );
    let aes = key(CKK_AES, &[0; 32]);
    assert_eq!(
        code(whole(
            CKM_AES_XTS,
            Usage::Encrypt,
            Some(&aes),
            &tweak,
            &plain,
            512
        )),
        CKR_KEY_TYPE_INCONSISTENT
    );
}
