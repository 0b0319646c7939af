//! Digests and MACs.

use super::*;

#[test]
fn digests_are_those_of_the_standards() {
    for (kind, expected) in [
        (CKM_SHA_1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            CKM_SHA256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            CKM_SHA3_256,
            "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
        ),
    ] {
        assert_eq!(
            whole(kind, Usage::Digest, None, &[], b"abc", 64).unwrap(),
            hex(expected)
        );
        assert_eq!(
            parts(kind, Usage::Digest, None, &[], b"abc", 2).unwrap(),
            hex(expected)
        );
    }
    assert_eq!(
        code(whole(CKM_SHA256, Usage::Digest, None, &[1], b"", 64)),
        CKR_MECHANISM_PARAM_INVALID
    );
    let short = whole(CKM_SHA256, Usage::Digest, None, &[], b"", 31).unwrap_err();
    assert_eq!(short, Failure::too_small(32));
}

#[test]
fn a_digest_goes_on_from_its_saved_state() {
    for mechanism in digest::TABLE {
        let expected = whole(
            mechanism.kind(),
            Usage::Digest,
            None,
            &[],
            b"first second",
            64,
        )
        .unwrap();
        let mut stream = mechanism.begin(Usage::Digest, None, &[]).unwrap();
        stream
            .update(Input::new(b"first "), &mut Output::new(&mut []))
            .unwrap();
        let saved = stream.save();
        if matches!(
            mechanism.kind(),
            CKM_SHA3_224 | CKM_SHA3_256 | CKM_SHA3_384 | CKM_SHA3_512
        ) {
            assert_eq!(code(saved), CKR_STATE_UNSAVEABLE);
            continue;
        }
        let mut again = mechanism.restore(saved.unwrap().expose()).unwrap();
        let mut buffer = [0; 64];
        let mut output = Output::new(&mut buffer);
        again.update(Input::new(b"second"), &mut output).unwrap();
        again.finish(&mut output).unwrap();
        let written = output.written();
        assert_eq!(buffer[..written], expected);
        assert_eq!(
            code(mechanism.restore(&[1, 2, 3]).map(|_| ())),
            CKR_SAVED_STATE_INVALID
        );
    }
}

/// RFC 4231, test case 2; RFC 4493, example 2.
#[test]
fn macs_are_those_of_the_standards() {
    let cases = [
        (
            CKM_SHA256_HMAC,
            CKM_SHA256_HMAC_GENERAL,
            key(CKK_GENERIC_SECRET, b"Jefe"),
            b"what do ya want for nothing?".to_vec(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            CKM_AES_CMAC,
            CKM_AES_CMAC_GENERAL,
            key(CKK_AES, &hex("2b7e151628aed2a6abf7158809cf4f3c")),
            hex("6bc1bee22e409f96e93d7e117393172a"),
            "070a16b46b4d4144f79bdd9dd04a287c",
        ),
    ];
    for (mac, general, key, data, expected) in cases {
        let expected = hex(expected);
        let only = &key;
        let key = Some(only);
        assert_eq!(
            whole(mac, Usage::Sign, key, &[], &data, 64).unwrap(),
            expected
        );
        assert_eq!(
            parts(mac, Usage::Sign, key, &[], &data, 5).unwrap(),
            expected
        );
        let seven = encoded(&Parameters::Number(7));
        assert_eq!(
            whole(general, Usage::Sign, key, &seven, &data, 64).unwrap(),
            expected[..7]
        );
        for length in [0, expected.len() as u64 + 1, u64::MAX] {
            let wrong = encoded(&Parameters::Number(length));
            assert_eq!(
                code(whole(general, Usage::Sign, key, &wrong, &data, 64)),
                CKR_MECHANISM_PARAM_INVALID
            );
        }
        let verify = |kind, parameters: &[u8], signature: &[u8]| {
            let mechanism = find(kind, false).unwrap();
            let mut stream = mechanism.begin(Usage::Verify, key, parameters).unwrap();
            stream
                .update(Input::new(&data), &mut Output::new(&mut []))
                .unwrap();
            let streamed = stream.verify(signature);
            let at_once = mechanism.verify(
                &Here::default(),
                only,
                parameters,
                Input::new(&data),
                signature,
            );
            assert_eq!(streamed, at_once);
            at_once
        };
        verify(mac, &[], &expected).unwrap();
        verify(general, &seven, &expected[..7]).unwrap();
        assert_eq!(
            code(verify(general, &seven, &expected)),
            CKR_SIGNATURE_LEN_RANGE
        );
        assert_eq!(
            code(verify(mac, &[], &expected[1..])),
            CKR_SIGNATURE_LEN_RANGE
        );
        let mut wrong = expected.clone();
        wrong[0] ^= 1;
        assert_eq!(code(verify(mac, &[], &wrong)), CKR_SIGNATURE_INVALID);
    }
}

#[test]
fn keys_of_another_type_are_refused() {
    let aes = key(CKK_AES, &[0; 16]);
    let generic = key(CKK_GENERIC_SECRET, &[0; 32]);
    let other = key(CKK_SHA512_HMAC, &[0; 32]);
    for (kind, usage, key) in [
        (CKM_SHA256_HMAC, Usage::Sign, &aes),
        (CKM_SHA256_HMAC, Usage::Verify, &other),
        (CKM_AES_CMAC, Usage::Sign, &generic),
        (CKM_AES_ECB, Usage::Encrypt, &generic),
    ] {
        assert_eq!(
            code(find(kind, false).unwrap().check(usage, Some(key), &[])),
            CKR_KEY_TYPE_INCONSISTENT
        );
    }
    assert_eq!(
        code(
            find(CKM_AES_ECB, false)
                .unwrap()
                .check(Usage::Sign, Some(&aes), &[])
        ),
        CKR_MECHANISM_INVALID
    );
}
