//! Round trips of every form.

use super::kdf::FIELD_KEY;
use super::wire::SP800_KDF;
use super::*;
use crate::fields::Malformed;
use proptest::prelude::*;

/// Parameters of every form from the same arbitrary pieces.
fn forms<'a>(n: [u64; 3], w: [u32; 3], f: [bool; 2], b: &'a [Vec<u8>; 4]) -> Vec<Parameters<'a>> {
    let [x, y, z, t] = b.each_ref().map(Vec::as_slice);
    let oaep = Oaep {
        hash: n[0],
        mgf: n[1],
        source: n[2],
        label: x,
    };
    let randoms = TlsRandoms {
        client: x,
        server: y,
    };
    let block = n[0].to_le_bytes().repeat(2).try_into().unwrap();
    vec![
        Parameters::None,
        Parameters::Bytes(x),
        Parameters::Number(n[0]),
        Parameters::Counter { bits: w[0], block },
        Parameters::Gcm {
            iv: x,
            iv_bits: w[0],
            aad: y,
            tag_bits: w[1],
        },
        Parameters::GcmMessage {
            iv: x,
            fixed_bits: w[0],
            generator: n[0],
            aad: y,
            tag_bits: w[1],
            tag: z,
        },
        Parameters::Oaep(oaep),
        Parameters::Pss(Pss {
            hash: n[0],
            mgf: n[1],
            salt_length: n[2],
        }),
        Parameters::RsaAesWrap {
            aes_bits: w[0],
            oaep,
        },
        Parameters::Ecdh {
            kdf: n[0],
            shared: x,
            public: y,
        },
        Parameters::Eddsa {
            prehash: f[0],
            context: x,
        },
        Parameters::SignContext {
            hedge: n[0],
            context: x,
        },
        Parameters::HashSignContext {
            hedge: n[0],
            context: x,
            hash: n[1],
        },
        Parameters::Hkdf {
            extract: f[0],
            expand: f[1],
            hash: n[0],
            salt_type: n[1],
            salt: x,
            salt_key: n[2],
            info: y,
        },
        Parameters::Sp800Kdf(Sp800Kdf {
            prf: n[0],
            fields: vec![
                KdfField::Iteration {
                    little_endian: f[0],
                    width_bits: w[0],
                },
                KdfField::Counter {
                    little_endian: f[1],
                    width_bits: w[1],
                },
                KdfField::Length {
                    method: n[1],
                    little_endian: f[0],
                    width_bits: w[2],
                },
                KdfField::Bytes(x),
                KdfField::Key(n[2]),
            ],
            iv: y,
            further_keys: vec![z, t],
        }),
        Parameters::TlsMaster {
            prf: n[0],
            randoms,
            version: f[0],
        },
        Parameters::TlsExtendedMaster {
            prf: n[0],
            session_hash: z,
            version: f[0],
        },
        Parameters::TlsKeyMaterial {
            prf: n[0],
            mac_bits: w[0],
            key_bits: w[1],
            iv_bits: w[2],
            randoms,
        },
        Parameters::TlsKdf {
            prf: n[0],
            label: z,
            randoms,
            context: t,
        },
        Parameters::TlsMac {
            prf: n[0],
            length: n[1],
            side: n[2],
        },
        Parameters::CbcData { iv: block, data: x },
    ]
}

fn pieces() -> impl Strategy<Value = [Vec<u8>; 4]> {
    proptest::array::uniform4(proptest::collection::vec(any::<u8>(), 0..40))
}

proptest! {
    #[test]
    fn every_form_survives_its_bytes(n in any::<[u64; 3]>(), w in any::<[u32; 3]>(), f in any::<[bool; 2]>(), b in pieces()) {
        for parameters in forms(n, w, f, &b) {
            let mut bytes = Vec::new();
            parameters.encode(&mut bytes);
            prop_assert_eq!(Parameters::decode(&bytes), Ok(parameters.clone()));
            for cut in 1..bytes.len() {
                prop_assert!(Parameters::decode(&bytes[..cut]).is_err());
            }
            if !bytes.is_empty() {
                bytes.push(0);
                prop_assert!(Parameters::decode(&bytes).is_err());
            }
        }
    }

    #[test]
    fn any_bytes_decode_to_what_encodes_to_them(form in 0u8..24, tail in proptest::collection::vec(prop_oneof![Just(0u8), Just(1u8), any::<u8>()], 0..120)) {
        let mut bytes = vec![form];
        bytes.extend(tail);
        match Parameters::decode(&bytes) {
            Ok(parameters) => {
                let mut again = Vec::new();
                parameters.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
            Err(error) => prop_assert!(error.offset <= bytes.len()),
        }
    }

    #[test]
    fn a_shape_ignores_contents_and_sees_lengths_and_numbers(iv in any::<[u8; 12]>(), bits in any::<u32>()) {
        let gcm = |iv, tag_bits| Parameters::Gcm { iv, iv_bits: 96, aad: &[], tag_bits }.shape();
        prop_assert_eq!(gcm(&iv, bits), gcm(&[0; 12], bits));
        prop_assert_ne!(gcm(&iv, bits), gcm(&[0; 13], bits));
        prop_assert_ne!(gcm(&iv, bits), gcm(&iv, bits ^ 1));
    }
}

#[test]
fn lists_are_bounded() {
    let mut bytes = vec![SP800_KDF];
    bytes.extend(0u64.to_le_bytes());
    bytes.extend([u8::try_from(KDF_FIELDS_MAX).unwrap() + 1, 0]);
    bytes.extend(vec![FIELD_KEY; 9 * 64]);
    assert_eq!(Parameters::decode(&bytes), Err(Malformed { offset: 9 }));
}
