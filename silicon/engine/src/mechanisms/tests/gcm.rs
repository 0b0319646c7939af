//! AES-GCM in its two forms.

use casemate_transport::layout::BULK_BYTES;

use super::*;

pub(super) fn gcm(iv: &[u8], tag_bits: u32) -> Vec<u8> {
    encoded(&Parameters::Gcm {
        iv,
        iv_bits: 8 * iv.len() as u32,
        aad: b"aad",
        tag_bits,
    })
}

fn message(iv: &[u8], fixed_bits: u32, generator: u64, tag: &[u8]) -> Vec<u8> {
    encoded(&Parameters::GcmMessage {
        iv,
        fixed_bits,
        generator,
        aad: b"aad",
        tag_bits: 128,
        tag,
    })
}

/// The GCM specification's test case 16, without the associated data of the helper.
#[test]
fn gcm_is_that_of_the_specification() {
    let key = key(
        CKK_AES,
        &hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
    );
    let parameters = encoded(&Parameters::Gcm {
        iv: &hex("cafebabefacedbaddecaf888"),
        iv_bits: 96,
        aad: &hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
        tag_bits: 128,
    });
    let plain = hex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    );
    let sealed = whole(
        CKM_AES_GCM,
        Usage::Encrypt,
        Some(&key),
        &parameters,
        &plain,
        76,
    )
    .unwrap();
    assert_eq!(sealed[60..], hex("76fc6ece0f4e1768cddf8853bb2d551b"));
    assert_eq!(sealed[..8], hex("522dc1f099567d07"));
    assert_eq!(
        parts(
            CKM_AES_GCM,
            Usage::Encrypt,
            Some(&key),
            &parameters,
            &plain,
            13
        )
        .unwrap(),
        sealed
    );
    assert_eq!(
        parts(
            CKM_AES_GCM,
            Usage::Decrypt,
            Some(&key),
            &parameters,
            &sealed,
            13
        )
        .unwrap(),
        plain
    );
    assert_eq!(
        whole(
            CKM_AES_GCM,
            Usage::Decrypt,
            Some(&key),
            &parameters,
            &sealed,
            60
        )
        .unwrap(),
        plain
    );
    let small = whole(
        CKM_AES_GCM,
        Usage::Decrypt,
        Some(&key),
        &parameters,
        &sealed,
        59,
    )
    .unwrap_err();
    assert_eq!(small, Failure::too_small(60));
}

#[test]
fn changed_ciphertexts_give_nothing() {
    let key = key(CKK_AES, &[3; 16]);
    let key = Some(&key);
    for (iv, bits) in [
        (&[1; 12][..], 128),
        (&[1; 1], 96),
        (&[1; 129], 32),
        (&[1; 16], 104),
    ] {
        let parameters = gcm(iv, bits);
        let sealed = whole(
            CKM_AES_GCM,
            Usage::Encrypt,
            key,
            &parameters,
            b"some bytes",
            64,
        )
        .unwrap();
        assert_eq!(sealed.len(), 10 + bits as usize / 8);
        for place in [0, 9, 10, sealed.len() - 1] {
            let mut wrong = sealed.clone();
            wrong[place] ^= 0x40;
            for answer in [
                whole(CKM_AES_GCM, Usage::Decrypt, key, &parameters, &wrong, 64),
                parts(CKM_AES_GCM, Usage::Decrypt, key, &parameters, &wrong, 4),
            ] {
                assert_eq!(code(answer), CKR_ENCRYPTED_DATA_INVALID);
            }
        }
        let short = &sealed[..bits as usize / 8 - 1];
        assert_eq!(
            code(whole(
                CKM_AES_GCM,
                Usage::Decrypt,
                key,
                &parameters,
                short,
                64
            )),
            CKR_ENCRYPTED_DATA_LEN_RANGE
        );
        assert_eq!(
            code(parts(
                CKM_AES_GCM,
                Usage::Decrypt,
                key,
                &parameters,
                short,
                4
            )),
            CKR_ENCRYPTED_DATA_LEN_RANGE
        );
    }
}

#[test]
fn messages_carry_the_iv_that_was_made() {
    let key = key(CKK_AES, &[3; 32]);
    let mut seen = std::collections::HashSet::new();
    for (fixed, generator) in [
        (0, CKG_GENERATE),
        (0, CKG_GENERATE_RANDOM),
        (0, CKG_GENERATE_COUNTER),
        (32, CKG_GENERATE),
        (12, CKG_GENERATE_COUNTER),
    ] {
        for _ in 0..50 {
            let parameters = message(&[0xa5; 12], fixed, generator, &[]);
            let all = whole(
                CKM_AES_GCM,
                Usage::Encrypt,
                Some(&key),
                &parameters,
                b"text",
                32,
            )
            .unwrap();
            let (ciphertext, rest) = all.split_at(4);
            let (tag, iv) = rest.split_at(16);
            let value = u32::from_be_bytes(iv[..4].try_into().unwrap());
            let first = value.checked_shr(32 - fixed).unwrap_or_default();
            assert_eq!(
                first,
                0xa5a5_a5a5u32.checked_shr(32 - fixed).unwrap_or_default(),
                "{fixed}"
            );
            assert!(iv.len() == 12 && seen.insert(iv.to_vec()));
            let open = message(iv, 0, CKG_NO_GENERATE, tag);
            assert_eq!(
                whole(
                    CKM_AES_GCM,
                    Usage::Decrypt,
                    Some(&key),
                    &open,
                    ciphertext,
                    4
                )
                .unwrap(),
                b"text"
            );
            let wrong = message(iv, 0, CKG_NO_GENERATE, &[0; 16]);
            assert_eq!(
                code(whole(
                    CKM_AES_GCM,
                    Usage::Decrypt,
                    Some(&key),
                    &wrong,
                    ciphertext,
                    4
                )),
                CKR_AEAD_DECRYPT_FAILED
            );
            let without = message(iv, 0, CKG_NO_GENERATE, &[]);
            assert_eq!(
                code(whole(
                    CKM_AES_GCM,
                    Usage::Decrypt,
                    Some(&key),
                    &without,
                    ciphertext,
                    4
                )),
                CKR_MECHANISM_PARAM_INVALID
            );
        }
        let parameters = message(&[0xa5; 12], fixed, generator, &[]);
        let small = whole(
            CKM_AES_GCM,
            Usage::Encrypt,
            Some(&key),
            &parameters,
            b"text",
            31,
        )
        .unwrap_err();
        assert_eq!(small, Failure::too_small(32));
    }
    for (iv, fixed, generator) in [
        (&[0; 12][..], 33, CKG_GENERATE),
        (&[0; 12], 8, CKG_GENERATE_RANDOM),
        (&[0; 12], 0, CKG_GENERATE_COUNTER_XOR),
        (&[0; 16], 0, CKG_GENERATE),
        (&[], 0, CKG_NO_GENERATE),
    ] {
        let parameters = message(iv, fixed, generator, &[]);
        assert_eq!(
            code(whole(
                CKM_AES_GCM,
                Usage::Encrypt,
                Some(&key),
                &parameters,
                b"",
                64
            )),
            CKR_MECHANISM_PARAM_INVALID
        );
    }
}

#[test]
fn what_a_decryption_gathers_is_counted() {
    let (here, account) = (Here::default(), Arc::new(HeldBytes::default()));
    let key = key(CKK_AES, &[3; 16]);
    let parameters = gcm(&[1; 12], 128);
    let mechanism = find(CKM_AES_GCM, false).unwrap();
    let begin = || {
        let begun = mechanism.start(&here, Usage::Decrypt, Some(&key), &parameters);
        account.counting(begun.unwrap().0)
    };
    let piece = vec![0; BULK_BYTES];
    let mut streams = Vec::new();
    loop {
        let mut stream = begin();
        match stream.update(Input::new(&piece), &mut Output::new(&mut [])) {
            Ok(()) => streams.push(stream),
            Err(failure) => {
                assert_eq!(failure.code, CKR_DEVICE_MEMORY);
                break;
            }
        }
    }
    assert_eq!(streams.len(), HeldBytes::MOST / piece.len());
    let more = streams[0].update(Input::new(&[0]), &mut Output::new(&mut []));
    assert_eq!(code(more), CKR_ENCRYPTED_DATA_LEN_RANGE);
    // Streams that keep nothing are not counted.
    let begun = mechanism.start(&here, Usage::Encrypt, Some(&key), &parameters);
    let mut encryption = account.counting(begun.unwrap().0);
    let mut sealed = vec![0; piece.len()];
    encryption
        .update(Input::new(&piece), &mut Output::new(&mut sealed))
        .unwrap();
    // Ended or forgotten, each gives back what it held.
    let ended = streams.pop().unwrap().finish(&mut Output::new(&mut sealed));
    assert_eq!(code(ended), CKR_ENCRYPTED_DATA_INVALID);
    begin()
        .update(Input::new(&piece), &mut Output::new(&mut []))
        .unwrap();
    streams.clear();
    begin()
        .update(Input::new(&piece), &mut Output::new(&mut []))
        .unwrap();
}
