//! Keys from keys.

use casemate_transport::message::encode_attribute;
use casemate_transport::parameters::{KdfField, Sp800Kdf, TlsRandoms};

use super::*;
use crate::lc::kdf;

fn template(attributes: &[(u64, u64)]) -> Attributes {
    let mut out = Attributes::new();
    for (kind, value) in attributes {
        out.set_number(*kind, *value);
    }
    out
}

fn derive_in(
    here: &Here,
    kind: u64,
    key: &Arc<Key>,
    parameters: &Parameters<'_>,
    template: &Attributes,
) -> Result<Derived, Failure> {
    let mechanism = find(kind, false)?;
    let parameters = encoded(parameters);
    mechanism.check(Usage::Derive, Some(key), &parameters)?;
    mechanism.derive(here, key, &parameters, template)
}

fn derive(
    kind: u64,
    key: &Arc<Key>,
    parameters: &Parameters<'_>,
    attributes: &[(u64, u64)],
) -> Result<Derived, Failure> {
    derive_in(
        &Here::default(),
        kind,
        key,
        parameters,
        &template(attributes),
    )
}

fn value(made: &Made) -> &[u8] {
    match &made.key {
        Key::Secret(secret) => secret.value().expose(),
        _ => panic!("no secret key"),
    }
}

fn one(derived: Result<Derived, Failure>) -> Vec<u8> {
    let derived = derived.unwrap();
    assert!(derived.further.is_empty() && derived.output.is_empty());
    value(&derived.key.unwrap()).to_vec()
}

fn hkdf<'a>(extract: bool, expand: bool, salt: Option<&'a [u8]>, info: &'a [u8]) -> Parameters<'a> {
    Parameters::Hkdf {
        extract,
        expand,
        hash: CKM_SHA256,
        salt_type: if salt.is_some() {
            CKF_HKDF_SALT_DATA
        } else {
            CKF_HKDF_SALT_NULL
        },
        salt: salt.unwrap_or(&[]),
        salt_key: 0,
        info,
    }
}

/// RFC 5869, test case 1.
#[test]
fn hkdf_is_that_of_the_rfc() {
    let secret = [0x0b; 22];
    let salt = hex("000102030405060708090a0b0c");
    let info = hex("f0f1f2f3f4f5f6f7f8f9");
    let pseudorandom = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
    let expected =
        hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    let long = [(CKA_VALUE_LEN, 42)];
    for kind in [CKK_HKDF, CKK_GENERIC_SECRET] {
        let base = key(kind, &secret);
        let whole = derive(
            CKM_HKDF_DERIVE,
            &base,
            &hkdf(true, true, Some(&salt), &info),
            &long,
        );
        assert_eq!(one(whole), expected);
    }
    let base = key(CKK_HKDF, &secret);
    let extracted = derive(
        CKM_HKDF_DERIVE,
        &base,
        &hkdf(true, false, Some(&salt), &[]),
        &[],
    );
    assert_eq!(one(extracted), pseudorandom);
    let expanded = derive(
        CKM_HKDF_DATA,
        &key(CKK_HKDF, &pseudorandom),
        &hkdf(false, true, None, &info),
        &long,
    );
    assert_eq!(one(expanded), expected);
    // The salt can be a key.
    let here = Here::with(7, key(CKK_GENERIC_SECRET, &salt));
    let by_key = Parameters::Hkdf {
        extract: true,
        expand: true,
        hash: CKM_SHA256,
        salt_type: CKF_HKDF_SALT_KEY,
        salt: &[],
        salt_key: 7,
        info: &info,
    };
    let derived = derive_in(&here, CKM_HKDF_DERIVE, &base, &by_key, &template(&long));
    assert_eq!(one(derived), expected);
    let unknown = derive(CKM_HKDF_DERIVE, &base, &by_key, &long);
    assert_eq!(code(unknown), CKR_KEY_HANDLE_INVALID);
}

/// RFC 8448, section 3: the early secret and what the handshake secret's salt is derived to.
#[test]
fn tls_1_3_begins_as_the_rfc_shows() {
    let zeros = key(CKK_GENERIC_SECRET, &[0; 32]);
    let early = one(derive(
        CKM_HKDF_DERIVE,
        &zeros,
        &hkdf(true, false, None, &[]),
        &[],
    ));
    assert_eq!(
        early,
        hex("33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a")
    );
    let empty = hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let info = [&[0, 32, 13][..], b"tls13 derived", &[32], &empty].concat();
    let derived = derive(
        CKM_HKDF_DERIVE,
        &key(CKK_HKDF, &early),
        &hkdf(false, true, None, &info),
        &[(CKA_VALUE_LEN, 32)],
    );
    assert_eq!(
        one(derived),
        hex("6f2615a108c702c5678f54fc9dbab69716c076189c48250cebeac3576c3611ba")
    );
}

#[test]
fn hkdf_refuses_what_it_cannot_make() {
    let base = key(CKK_HKDF, &[1; 32]);
    let both = hkdf(true, true, None, &[]);
    let aes = (CKA_KEY_TYPE, CKK_AES);
    for (parameters, attributes, expected) in [
        (
            hkdf(false, false, None, &[]),
            vec![],
            CKR_MECHANISM_PARAM_INVALID,
        ),
        (Parameters::None, vec![], CKR_MECHANISM_PARAM_INVALID),
        (
            both.clone(),
            vec![(CKA_VALUE_LEN, 255 * 32 + 1)],
            CKR_KEY_SIZE_RANGE,
        ),
        (both.clone(), vec![(CKA_VALUE_LEN, 0)], CKR_KEY_SIZE_RANGE),
        (both.clone(), vec![aes], CKR_TEMPLATE_INCOMPLETE),
        (
            both.clone(),
            vec![aes, (CKA_VALUE_LEN, 20)],
            CKR_KEY_SIZE_RANGE,
        ),
        (
            hkdf(true, false, None, &[]),
            vec![(CKA_VALUE_LEN, 16)],
            CKR_TEMPLATE_INCONSISTENT,
        ),
    ] {
        let answer = derive(CKM_HKDF_DERIVE, &base, &parameters, &attributes);
        assert_eq!(code(answer), expected, "{parameters:?} {attributes:?}");
    }
    let wrong = derive(CKM_HKDF_DERIVE, &key(CKK_AES, &[0; 16]), &both, &[]);
    assert_eq!(code(wrong), CKR_KEY_TYPE_INCONSISTENT);
}

fn counter_kdf<'a>(
    prf: u64,
    fields: Vec<KdfField<'a>>,
    further_keys: Vec<&'a [u8]>,
) -> Parameters<'a> {
    Parameters::Sp800Kdf(Sp800Kdf {
        prf,
        fields,
        iv: &[],
        further_keys,
    })
}

fn usual_fields(method: u64) -> Vec<KdfField<'static>> {
    vec![
        KdfField::Iteration {
            little_endian: false,
            width_bits: 32,
        },
        KdfField::Bytes(b"label"),
        KdfField::Bytes(&[0]),
        KdfField::Bytes(b"context"),
        KdfField::Length {
            method,
            little_endian: false,
            width_bits: 32,
        },
    ]
}

/// The same function as AWS-LC has it, for the one form that it has.
#[test]
fn the_counter_kdf_agrees_with_another() {
    let base = key(CKK_GENERIC_SECRET, &[9; 40]);
    for length in [1usize, 16, 47, 48, 49, 200] {
        let derived = derive(
            CKM_SP800_108_COUNTER_KDF,
            &base,
            &counter_kdf(
                CKM_SHA384_HMAC,
                usual_fields(CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS),
                Vec::new(),
            ),
            &[(CKA_VALUE_LEN, length as u64)],
        );
        let expected = kdf::kbkdf_sha384(&[9; 40], b"label", b"context", length).unwrap();
        assert_eq!(one(derived), expected.expose());
    }
}

#[test]
fn the_counter_kdf_makes_several_keys_of_one_output() {
    let base = key(CKK_GENERIC_SECRET, &[9; 40]);
    let mut further = Vec::new();
    encode_attribute(&mut further, CKA_KEY_TYPE, &CKK_AES.to_le_bytes());
    encode_attribute(&mut further, CKA_VALUE_LEN, &32u64.to_le_bytes());
    let derived = derive(
        CKM_SP800_108_COUNTER_KDF,
        &base,
        &counter_kdf(
            CKM_SHA384_HMAC,
            usual_fields(CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS),
            vec![&further, &further],
        ),
        &[(CKA_VALUE_LEN, 20)],
    )
    .unwrap();
    let expected = kdf::kbkdf_sha384(&[9; 40], b"label", b"context", 84).unwrap();
    let mut all = value(derived.key.as_ref().unwrap()).to_vec();
    for further in derived.further.iter().flatten() {
        assert_eq!(
            further.1.attributes.number(CKA_KEY_TYPE).unwrap(),
            Some(CKK_AES)
        );
        all.extend_from_slice(value(&further.1));
    }
    assert_eq!(
        (derived.further.len(), all.as_slice()),
        (2, expected.expose())
    );
}

/// By the definition, from the MAC alone: AES-CMAC, a counter of one byte at the end, little-endian
/// lengths in segments, a further key in the input.
#[test]
fn the_counter_kdf_takes_its_fields_in_their_order() {
    let base = key(CKK_AES, &[9; 16]);
    let here = Here::with(5, key(CKK_GENERIC_SECRET, b"hidden"));
    let fields = vec![
        KdfField::Bytes(b"fixed"),
        KdfField::Key(5),
        KdfField::Length {
            method: CK_SP800_108_DKM_LENGTH_SUM_OF_SEGMENTS,
            little_endian: true,
            width_bits: 24,
        },
        KdfField::Iteration {
            little_endian: true,
            width_bits: 8,
        },
    ];
    let parameters = counter_kdf(CKM_AES_CMAC, fields, Vec::new());
    let kind = CKM_SP800_108_COUNTER_KDF;
    let derived = derive_in(
        &here,
        kind,
        &base,
        &parameters,
        &template(&[(CKA_VALUE_LEN, 24)]),
    );
    let mut expected = Vec::new();
    for counter in 1..=2u8 {
        // Two segments of 16 bytes are 256 bits.
        let message = [b"fixedhidden".as_slice(), &[0, 1, 0], &[counter]].concat();
        expected.extend(whole(CKM_AES_CMAC, Usage::Sign, Some(&base), &[], &message, 16).unwrap());
    }
    assert_eq!(one(derived), expected[..24]);
    // One byte counts to 255.
    let long = template(&[(CKA_VALUE_LEN, 256 * 16)]);
    let derived = derive_in(&here, kind, &base, &parameters, &long);
    assert_eq!(code(derived), CKR_KEY_SIZE_RANGE);
}

#[test]
fn the_counter_kdf_refuses_wrong_fields() {
    let base = key(CKK_GENERIC_SECRET, &[9; 40]);
    let iteration = |width_bits| KdfField::Iteration {
        little_endian: false,
        width_bits,
    };
    let length = |method, width_bits| KdfField::Length {
        method,
        little_endian: false,
        width_bits,
    };
    let counter = KdfField::Counter {
        little_endian: false,
        width_bits: 8,
    };
    for fields in [
        vec![],
        vec![KdfField::Bytes(b"label")],
        vec![iteration(0)],
        vec![iteration(12)],
        vec![iteration(64)],
        vec![iteration(8), iteration(8)],
        vec![iteration(8), counter],
        vec![iteration(8), length(0, 32)],
        vec![iteration(8), length(3, 32)],
        vec![iteration(8), length(1, 72)],
        vec![iteration(8), length(1, 0)],
        vec![iteration(8), length(1, 32), length(1, 32)],
    ] {
        let parameters = counter_kdf(CKM_SHA256_HMAC, fields, Vec::new());
        let answer = derive(
            CKM_SP800_108_COUNTER_KDF,
            &base,
            &parameters,
            &[(CKA_VALUE_LEN, 16)],
        );
        assert_eq!(code(answer), CKR_MECHANISM_PARAM_INVALID, "{parameters:?}");
    }
    let usual = || usual_fields(CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS);
    let kind = CKM_SP800_108_COUNTER_KDF;
    let by_hash = derive(kind, &base, &counter_kdf(CKM_SHA256, usual(), vec![]), &[]);
    assert_eq!(code(by_hash), CKR_MECHANISM_PARAM_INVALID);
    let aes = derive(
        kind,
        &base,
        &counter_kdf(CKM_AES_CMAC, usual(), vec![]),
        &[],
    );
    assert_eq!(code(aes), CKR_KEY_TYPE_INCONSISTENT);
    let sizeless = derive(
        kind,
        &base,
        &counter_kdf(CKM_SHA256_HMAC, usual(), vec![]),
        &[],
    );
    assert_eq!(code(sizeless), CKR_TEMPLATE_INCOMPLETE);
}

const CLIENT: [u8; 32] = [1; 32];
const SERVER: [u8; 32] = [2; 32];
const RANDOMS: TlsRandoms<'static> = TlsRandoms {
    client: &CLIENT,
    server: &SERVER,
};

/// The vector for SHA-256 that the TLS working group's list carries.
#[test]
fn the_prf_of_tls_1_2_is_the_known_one() {
    let out = kdf::tls12_prf(
        crate::lc::digest::Hash::Sha256,
        &hex("9bbe436ba940f017b17652849a71db35"),
        b"test label",
        [&hex("a0ba9f936cda3118"), &hex("27a6f796ffd5198c")],
        100,
    )
    .unwrap();
    assert_eq!(
        out.expose(),
        hex(
            "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66"
        )
    );
}

fn prf(secret: &[u8], label: &[u8], seed: &[u8], length: usize) -> Vec<u8> {
    let hash = crate::lc::digest::Hash::Sha256;
    let out = kdf::tls12_prf(hash, secret, label, [seed, &[]], length).unwrap();
    out.expose().to_vec()
}

#[test]
fn master_secrets_come_from_the_premaster_secret() {
    let mut premaster = [0x33; 48];
    premaster[..2].copy_from_slice(&[3, 3]);
    let base = key(CKK_GENERIC_SECRET, &premaster);
    let short = key(CKK_GENERIC_SECRET, &[5; 32]);
    let plain = |version| Parameters::TlsMaster {
        prf: CKM_SHA256,
        randoms: RANDOMS,
        version,
    };
    let extended = |version| Parameters::TlsExtendedMaster {
        prf: CKM_SHA256,
        session_hash: &[6; 32],
        version,
    };
    let seed = [CLIENT, SERVER].concat();
    let derived = derive(CKM_TLS12_MASTER_KEY_DERIVE, &base, &plain(true), &[]).unwrap();
    assert_eq!(
        value(&derived.key.unwrap()),
        prf(&premaster, b"master secret", &seed, 48)
    );
    assert_eq!(derived.output, [3, 3]);
    let agreed = derive(CKM_TLS12_MASTER_KEY_DERIVE_DH, &short, &plain(false), &[]);
    assert_eq!(one(agreed), prf(&[5; 32], b"master secret", &seed, 48));
    let expected = prf(&[5; 32], b"extended master secret", &[6; 32], 48);
    let kind = CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE_DH;
    assert_eq!(one(derive(kind, &short, &extended(false), &[])), expected);

    for (kind, base, parameters, expected) in [
        (
            CKM_TLS12_MASTER_KEY_DERIVE,
            &short,
            plain(false),
            CKR_KEY_SIZE_RANGE,
        ),
        (
            CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE,
            &short,
            extended(false),
            CKR_KEY_SIZE_RANGE,
        ),
        (
            CKM_TLS12_MASTER_KEY_DERIVE_DH,
            &short,
            plain(true),
            CKR_MECHANISM_PARAM_INVALID,
        ),
        (
            CKM_TLS12_MASTER_KEY_DERIVE,
            &base,
            extended(false),
            CKR_MECHANISM_PARAM_INVALID,
        ),
        (
            CKM_TLS12_MASTER_KEY_DERIVE,
            &base,
            Parameters::TlsMaster {
                prf: CKM_SHA_1,
                randoms: RANDOMS,
                version: false,
            },
            CKR_MECHANISM_PARAM_INVALID,
        ),
    ] {
        assert_eq!(
            code(derive(kind, base, &parameters, &[])),
            expected,
            "{parameters:?}"
        );
    }
}

#[test]
fn key_material_is_cut_in_the_order_of_the_rfc() {
    let base = key(CKK_GENERIC_SECRET, &[7; 48]);
    let parameters = |mac_bits, key_bits, iv_bits| Parameters::TlsKeyMaterial {
        prf: CKM_SHA256,
        mac_bits,
        key_bits,
        iv_bits,
        randoms: RANDOMS,
    };
    let seed = [SERVER, CLIENT].concat();
    let aes = [(CKA_KEY_TYPE, CKK_AES)];
    let derived = derive(
        CKM_TLS12_KEY_AND_MAC_DERIVE,
        &base,
        &parameters(256, 128, 96),
        &aes,
    )
    .unwrap();
    assert!(derived.key.is_none());
    let mut all = Vec::new();
    for (attributes, made) in derived.further.iter().flatten() {
        all.extend_from_slice(value(made));
        let kind = made.attributes.number(CKA_KEY_TYPE).unwrap();
        if value(made).len() == 32 {
            assert_eq!(kind, Some(CKK_GENERIC_SECRET));
            assert!(attributes.is_true(CKA_SIGN) && !attributes.contains(CKA_ENCRYPT));
        } else {
            assert_eq!(kind, Some(CKK_AES));
            assert!(attributes.is_true(CKA_ENCRYPT) && !attributes.contains(CKA_SIGN));
        }
    }
    all.extend_from_slice(&derived.output);
    assert_eq!(
        all,
        prf(&[7; 48], b"key expansion", &seed, 2 * (32 + 16 + 12))
    );

    let safe = derive(
        CKM_TLS12_KEY_SAFE_DERIVE,
        &base,
        &parameters(0, 256, 96),
        &aes,
    )
    .unwrap();
    assert!(safe.output.is_empty() && safe.further[0].is_none() && safe.further[1].is_none());
    let keys: Vec<u8> = safe
        .further
        .iter()
        .flatten()
        .flat_map(|(_, made)| value(made).to_vec())
        .collect();
    assert_eq!(keys, prf(&[7; 48], b"key expansion", &seed, 64));

    let kind = CKM_TLS12_KEY_AND_MAC_DERIVE;
    let typeless = derive(kind, &base, &parameters(0, 128, 0), &[]);
    assert_eq!(code(typeless), CKR_TEMPLATE_INCOMPLETE);
    for wrong in [parameters(12, 128, 0), parameters(0, 1024, 0)] {
        assert_eq!(
            code(derive(kind, &base, &wrong, &aes)),
            CKR_MECHANISM_PARAM_INVALID
        );
    }
    // What gives IVs in clear says so.
    let lineage = |kind, parameters| {
        let parameters = encoded(&parameters);
        find(kind, false).unwrap().lineage(&parameters).unwrap()
    };
    assert_eq!(lineage(kind, parameters(0, 128, 96)), Lineage::Shown);
    assert_eq!(lineage(kind, parameters(0, 128, 0)), Lineage::Function);
    assert_eq!(
        lineage(CKM_TLS12_KEY_SAFE_DERIVE, parameters(0, 128, 96)),
        Lineage::Function
    );
}

#[test]
fn exporters_bind_their_context_and_keep_off_reserved_labels() {
    let base = key(CKK_GENERIC_SECRET, &[7; 48]);
    let parameters = |label, context| Parameters::TlsKdf {
        prf: CKM_SHA256,
        label,
        randoms: RANDOMS,
        context,
    };
    let length = [(CKA_VALUE_LEN, 40)];
    let seed = [CLIENT, SERVER].concat();
    for kind in [CKM_TLS12_KDF, CKM_TLS_KDF] {
        let derived = derive(kind, &base, &parameters(b"EXPORTER-x", &[]), &length);
        assert_eq!(one(derived), prf(&[7; 48], b"EXPORTER-x", &seed, 40));
        let derived = derive(kind, &base, &parameters(b"EXPORTER-x", b"ctx"), &length);
        let seed = [&seed[..], &[0, 3], b"ctx"].concat();
        assert_eq!(one(derived), prf(&[7; 48], b"EXPORTER-x", &seed, 40));
        for label in [&b""[..], b"key expansion", b"master secret"] {
            let answer = derive(kind, &base, &parameters(label, &[]), &length);
            assert_eq!(code(answer), CKR_MECHANISM_PARAM_INVALID);
        }
    }
}

#[test]
fn verify_data_are_those_of_the_side() {
    let base = key(CKK_GENERIC_SECRET, &[7; 48]);
    let parameters = |length, side| {
        encoded(&Parameters::TlsMac {
            prf: CKM_SHA256,
            length,
            side,
        })
    };
    for (side, label) in [(1, b"server finished"), (2, b"client finished")] {
        let expected = prf(&[7; 48], label, &[3; 32], 12);
        for kind in [CKM_TLS12_MAC, CKM_TLS_MAC] {
            let parameters = parameters(12, side);
            let made = whole(kind, Usage::Sign, Some(&base), &parameters, &[3; 32], 12);
            assert_eq!(made.unwrap(), expected);
            let mechanism = find(kind, false).unwrap();
            let verify = |signature: &[u8]| {
                let input = Input::new(&[3; 32]);
                mechanism.verify(&Here::default(), &base, &parameters, input, signature)
            };
            verify(&expected).unwrap();
            assert_eq!(code(verify(&expected[1..])), CKR_SIGNATURE_LEN_RANGE);
            assert_eq!(code(verify(&[0; 12])), CKR_SIGNATURE_INVALID);
        }
    }
    for (length, side) in [(11, 1), (65, 1), (12, 0), (12, 3)] {
        let answer = whole(
            CKM_TLS12_MAC,
            Usage::Sign,
            Some(&base),
            &parameters(length, side),
            &[],
            64,
        );
        assert_eq!(code(answer), CKR_MECHANISM_PARAM_INVALID);
    }
}

#[test]
fn combined_keys_are_whole() {
    let base = key(CKK_AES, &[0x0f; 16]);
    let data = Parameters::Bytes(&[0xf0; 16]);
    let aes = [(CKA_KEY_TYPE, CKK_AES)];
    let after = one(derive(CKM_CONCATENATE_BASE_AND_DATA, &base, &data, &aes));
    assert_eq!(after, [[0x0f; 16], [0xf0; 16]].concat());
    let before = one(derive(CKM_CONCATENATE_DATA_AND_BASE, &base, &data, &aes));
    assert_eq!(before, [[0xf0; 16], [0x0f; 16]].concat());
    assert_eq!(
        one(derive(CKM_XOR_BASE_AND_DATA, &base, &data, &aes)),
        [0xff; 16]
    );
    let short = Parameters::Bytes(&[0xf0; 15]);
    assert_eq!(
        code(derive(CKM_XOR_BASE_AND_DATA, &base, &short, &[])),
        CKR_MECHANISM_PARAM_INVALID
    );
    let here = Here::with(3, key(CKK_GENERIC_SECRET, b"more"));
    let kind = CKM_CONCATENATE_BASE_AND_KEY;
    let derived = derive_in(&here, kind, &base, &Parameters::Number(3), &template(&[]));
    assert_eq!(one(derived), [&[0x0f; 16][..], b"more"].concat());
    assert_eq!(
        find(kind, false)
            .unwrap()
            .lineage(&encoded(&Parameters::Number(3)))
            .unwrap(),
        Lineage::Transparent(vec![3])
    );
    assert_eq!(
        code(find(CKM_EXTRACT_KEY_FROM_KEY, true).map(Mechanism::kind)),
        CKR_MECHANISM_INVALID
    );
}

#[test]
fn encrypted_data_make_a_key() {
    let base = key(CKK_AES, &hex("2b7e151628aed2a6abf7158809cf4f3c"));
    let data = hex("6bc1bee22e409f96e93d7e117393172a");
    let ecb = derive(
        CKM_AES_ECB_ENCRYPT_DATA,
        &base,
        &Parameters::Bytes(&data),
        &[],
    );
    assert_eq!(one(ecb), hex("3ad77bb40d7a3660a89ecaf32466ef97"));
    let iv = hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
    let parameters = Parameters::CbcData { iv, data: &data };
    let cbc = derive(
        CKM_AES_CBC_ENCRYPT_DATA,
        &base,
        &parameters,
        &[(CKA_KEY_TYPE, CKK_AES)],
    );
    assert_eq!(one(cbc), hex("7649abac8119b246cee98e9b12e9197d"));
    let part = derive(
        CKM_AES_ECB_ENCRYPT_DATA,
        &base,
        &Parameters::Bytes(&data[1..]),
        &[],
    );
    assert_eq!(code(part), CKR_MECHANISM_PARAM_INVALID);
}
