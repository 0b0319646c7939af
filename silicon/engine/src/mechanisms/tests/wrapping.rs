//! Wrapping and generating secret keys.

use super::gcm::gcm;
use super::*;

/// RFC 3394, section 4.1; RFC 5649, section 6.
#[test]
fn key_wrap_is_that_of_the_rfcs() {
    let here = Here::default();
    let wrapping = key(CKK_AES, &hex("000102030405060708090a0b0c0d0e0f"));
    let padding = key(
        CKK_AES,
        &hex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"),
    );
    for (kind, wrapping, plain, expected) in [
        (
            CKM_AES_KEY_WRAP,
            &wrapping,
            "00112233445566778899aabbccddeeff",
            "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5",
        ),
        (
            CKM_AES_KEY_WRAP_KWP,
            &padding,
            "466f7250617369",
            "afbeb0f07dfbf5419200f2ccb50bb24f",
        ),
        (
            CKM_AES_KEY_WRAP_PAD,
            &padding,
            "c37b7e6492584340bed12207808941155068f738",
            "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
        ),
    ] {
        let mechanism = find(kind, false).unwrap();
        let material = Secret::copy(&hex(plain));
        let wrapped = mechanism
            .wrap(&here, wrapping, &[], &material, &[])
            .unwrap();
        assert_eq!(wrapped, hex(expected));
        let opened = mechanism
            .unwrap(&here, wrapping, &[], &wrapped, &[])
            .unwrap();
        assert_eq!(opened.expose(), hex(plain));
        assert_eq!(
            whole(kind, Usage::Encrypt, Some(wrapping), &[], &hex(plain), 64).unwrap(),
            wrapped
        );
        assert_eq!(
            whole(kind, Usage::Decrypt, Some(wrapping), &[], &wrapped, 64).unwrap(),
            hex(plain)
        );
    }
    // A key that is no multiple of eight bytes long, and one that would need more.
    let mechanism = find(CKM_AES_KEY_WRAP, false).unwrap();
    let odd = mechanism.wrap(&here, &wrapping, &[], &Secret::zeroed(17), &[]);
    assert_eq!(code(odd), CKR_KEY_SIZE_RANGE);
}

#[test]
fn wrapped_keys_open_or_say_why_not() {
    let here = Here::default();
    let wrapping = key(CKK_AES, &[8; 32]);
    let iv = encoded(&Parameters::Bytes(&[9; 16]));
    for (kind, parameters) in [
        (CKM_AES_KEY_WRAP_KWP, Vec::new()),
        (CKM_AES_KEY_WRAP_PKCS7, Vec::new()),
        (CKM_AES_CBC_PAD, iv.clone()),
        (CKM_AES_GCM, gcm(&[1; 12], 128)),
    ] {
        let mechanism = find(kind, false).unwrap();
        // The padding of PKCS #7 leaves the two half-blocks that a wrapped key needs only from here.
        let least = if kind == CKM_AES_KEY_WRAP_PKCS7 { 8 } else { 1 };
        for length in least..50 {
            let material = Secret::copy(&vec![length as u8; length]);
            let wrapped = mechanism
                .wrap(&here, &wrapping, &parameters, &material, &[])
                .unwrap();
            let opened = mechanism
                .unwrap(&here, &wrapping, &parameters, &wrapped, &[])
                .unwrap();
            assert_eq!(opened.expose(), material.expose());
            let mut wrong = wrapped.clone();
            *wrong.last_mut().unwrap() ^= 0x55;
            if kind != CKM_AES_CBC_PAD {
                assert_eq!(
                    code(mechanism.unwrap(&here, &wrapping, &parameters, &wrong, &[])),
                    CKR_WRAPPED_KEY_INVALID
                );
            }
        }
        let short = mechanism.unwrap(&here, &wrapping, &parameters, &[1; 7], &[]);
        assert_eq!(code(short), CKR_WRAPPED_KEY_LEN_RANGE);
    }
    // ECB and CBC fill up with zeros: the template must say how long the key was.
    for (kind, parameters) in [(CKM_AES_ECB, Vec::new()), (CKM_AES_CBC, iv)] {
        let mechanism = find(kind, false).unwrap();
        let wrapped = mechanism
            .wrap(&here, &wrapping, &parameters, &Secret::copy(&[5; 20]), &[])
            .unwrap();
        let opened = mechanism
            .unwrap(&here, &wrapping, &parameters, &wrapped, &[])
            .unwrap();
        assert_eq!(opened.expose(), [[5; 20].as_slice(), &[0; 12]].concat());
    }
}

#[test]
fn associated_data_binds_a_wrapped_key() {
    let here = Here::default();
    let wrapping = key(CKK_AES, &[8; 32]);
    let make = encoded(&Parameters::GcmMessage {
        iv: &[0; 12],
        fixed_bits: 0,
        generator: CKG_GENERATE,
        aad: &[],
        tag_bits: 128,
        tag: &[],
    });
    let mechanism = find(CKM_AES_GCM, false).unwrap();
    let wrapped = mechanism
        .wrap(&here, &wrapping, &make, &Secret::copy(&[5; 20]), b"who")
        .unwrap();
    let (body, iv) = wrapped.split_at(36);
    let given = encoded(&Parameters::GcmMessage {
        iv,
        fixed_bits: 0,
        generator: CKG_NO_GENERATE,
        aad: &[],
        tag_bits: 128,
        tag: &[],
    });
    let open = |associated: &[u8]| mechanism.unwrap(&here, &wrapping, &given, body, associated);
    assert_eq!(open(b"who").unwrap().expose(), [5; 20]);
    assert_eq!(code(open(b"whom")), CKR_WRAPPED_KEY_INVALID);
}

#[test]
fn keys_are_generated_as_long_as_the_template_says() {
    let here = Here::default();
    let generate = |kind, length: Option<u64>, key_type: Option<u64>| {
        let mut template = Attributes::new();
        if let Some(length) = length {
            template.set_number(CKA_VALUE_LEN, length);
        }
        if let Some(key_type) = key_type {
            template.set_number(CKA_KEY_TYPE, key_type);
        }
        find(kind, false).unwrap().generate(&here, &[], &template)
    };
    for (kind, length, key_type) in [
        (CKM_AES_KEY_GEN, 24, CKK_AES),
        (CKM_AES_XTS_KEY_GEN, 64, CKK_AES_XTS),
        (CKM_GENERIC_SECRET_KEY_GEN, 1, CKK_GENERIC_SECRET),
        (CKM_SHA512_256_KEY_GEN, 32, CKK_SHA512_256_HMAC),
    ] {
        let made = generate(kind, Some(length), Some(key_type)).unwrap();
        assert_eq!(made.attributes.number(CKA_VALUE_LEN).unwrap(), Some(length));
        let Key::Secret(secret) = &made.key else {
            panic!("no secret key");
        };
        assert_eq!(
            (secret.kind(), secret.value().len() as u64),
            (key_type, length)
        );
    }
    assert_eq!(
        code(generate(CKM_AES_KEY_GEN, None, None)),
        CKR_TEMPLATE_INCOMPLETE
    );
    assert_eq!(
        code(generate(CKM_AES_KEY_GEN, Some(20), None)),
        CKR_ATTRIBUTE_VALUE_INVALID
    );
    assert_eq!(
        code(generate(CKM_AES_XTS_KEY_GEN, Some(32), None)),
        CKR_ATTRIBUTE_VALUE_INVALID
    );
    assert_eq!(
        code(generate(CKM_GENERIC_SECRET_KEY_GEN, Some(0), None)),
        CKR_ATTRIBUTE_VALUE_INVALID
    );
    assert_eq!(
        code(generate(CKM_AES_KEY_GEN, Some(16), Some(CKK_DES3))),
        CKR_TEMPLATE_INCONSISTENT
    );
    assert_eq!(
        generate(CKM_SHA384_KEY_GEN, None, None)
            .unwrap()
            .attributes
            .number(CKA_VALUE_LEN)
            .unwrap(),
        Some(48)
    );
}
