use super::*;
use crate::lc::hex;
use proptest::prelude::*;

const KEY: [u8; 32] = {
    let mut key = [0; 32];
    let mut i = 0;
    while i < 32 {
        key[i] = i as u8;
        i += 1;
    }
    key
};

#[test]
fn rfc_5869_case_1_holds() {
    let salt: Vec<u8> = (0..13).collect();
    let info: Vec<u8> = (0xf0..0xfa).collect();
    let key = hkdf_extract(Hash::Sha256, &salt, &[0x0b; 22]).unwrap();
    assert_eq!(
        key.expose(),
        hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    );
    let out = hkdf(Hash::Sha256, &salt, &[0x0b; 22], &info, 42).unwrap();
    assert_eq!(
        out.expose(),
        hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    );
}

/// Answers from another implementation (OpenSSL).
#[test]
fn counter_mode_known_answers_hold() {
    let fields = |counter: usize, length: usize| {
        [
            Field::Counter {
                width: counter,
                little_endian: false,
            },
            Field::Bytes(b"label\0context"),
            Field::Length {
                bits: 320,
                width: length,
                little_endian: false,
            },
        ]
    };
    let hmac = Prf::hmac(Hash::Sha256, &KEY).unwrap();
    let cmac = Prf::cmac(&KEY).unwrap();
    let [counter, bytes, length] = fields(3, 4);
    for (prf, fields, expected) in [
        (
            &hmac,
            fields(4, 4),
            "c5115a8e2c9cf655fabbfecbe725e440a9838838f5b46130c654f368f780edd650d532c0fdeb6a35",
        ),
        (
            &hmac,
            fields(1, 2),
            "d7568fe23d2c8f883642744b7a83b9feeb65dba65ca769bea50b72598cf196fc4d236d256dbb36b1",
        ),
        (
            &hmac,
            [bytes, length, counter],
            "6a7d15e4d4dd97e9dd87a832c2d85c440f6c89a1eb9d83261a0a55cde424cb122e8289a3089c2dd6",
        ),
        (
            &cmac,
            fields(2, 4),
            "37efdce9d64fd411be5b84aea5e6c060556813a0c9f48b366d4ca2517fa0efb110a88659c6164a97",
        ),
    ] {
        let out = kbkdf_counter(prf, &fields, 40).unwrap();
        assert_eq!(out.expose(), hex(expected));
    }
}

#[test]
fn both_ways_of_the_fixed_format_agree() {
    let prf = Prf::hmac(Hash::Sha384, &KEY).unwrap();
    let fields = [
        Field::Counter {
            width: 4,
            little_endian: false,
        },
        Field::Bytes(b"label"),
        Field::Bytes(&[0]),
        Field::Bytes(b"context"),
        Field::Length {
            bits: 800,
            width: 4,
            little_endian: false,
        },
    ];
    let one = kbkdf_sha384(&KEY, b"label", b"context", 100).unwrap();
    let other = kbkdf_counter(&prf, &fields, 100).unwrap();
    assert_eq!(one.expose(), other.expose());
}

#[test]
fn wrong_fields_and_lengths_are_refused() {
    let prf = Prf::hmac(Hash::Sha256, &KEY).unwrap();
    let counter = |width| Field::Counter {
        width,
        little_endian: true,
    };
    let length = |bits, width| Field::Length {
        bits,
        width,
        little_endian: true,
    };
    for (fields, error) in [
        (vec![], Error::Parameter),
        (vec![Field::Bytes(b"x")], Error::Parameter),
        (vec![counter(0)], Error::Parameter),
        (vec![counter(5)], Error::Parameter),
        (vec![counter(1), counter(1)], Error::Parameter),
        (vec![counter(4), length(256, 1)], Error::Parameter),
        (vec![counter(4), length(1, 0)], Error::Parameter),
        (vec![counter(4), length(1, 9)], Error::Parameter),
    ] {
        assert_eq!(kbkdf_counter(&prf, &fields, 32).unwrap_err(), error);
    }
    assert!(kbkdf_counter(&prf, &[counter(1)], 255 * 32).is_ok());
    let longer = kbkdf_counter(&prf, &[counter(1)], 255 * 32 + 1);
    assert_eq!(longer.unwrap_err(), Error::Size);
    assert_eq!(
        kbkdf_counter(&prf, &[counter(4)], 0).unwrap_err(),
        Error::Size
    );
    let longer = hkdf_expand(Hash::Sha256, &KEY, b"", 255 * 32 + 1);
    assert_eq!(longer.unwrap_err(), Error::Size);
    assert_eq!(x963(Hash::Sha256, &KEY, b"", 0).unwrap_err(), Error::Size);
    let none = pbkdf2(Hash::Sha256, b"", b"", 0, 32);
    assert_eq!(none.unwrap_err(), Error::Parameter);
    assert_eq!(Prf::cmac(&[0; 20]).unwrap_err(), Error::Size);
}

/// The vector of the TLS working group for P_SHA256, and RFC 7914, section 11.
#[test]
fn prf_and_pbkdf2_known_answers_hold() {
    let secret = hex("9bbe436ba940f017b17652849a71db35");
    let seed = hex("a0ba9f936cda311827a6f796ffd5198c");
    let (first, second) = seed.split_at(5);
    let out = tls12_prf(Hash::Sha256, &secret, b"test label", [first, second], 100).unwrap();
    assert_eq!(
        out.expose()[..32],
        hex("e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a")
    );
    let out = pbkdf2(Hash::Sha256, b"passwd", b"salt", 1, 64).unwrap();
    assert_eq!(
        out.expose(),
        hex(
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"
        )
    );
}

#[test]
fn derivations_after_agreement_known_answers_hold() {
    let out = x963(Hash::Sha256, &KEY, b"shared", 40).unwrap();
    assert_eq!(
        out.expose(),
        hex("35e25f5b250849d60d0403920daf2a27821f9bc80668c26a9d0bed0e2502e31feeb75f4a4dce845f")
    );
    let out = one_step(Hash::Sha256, &KEY, b"info", 40).unwrap();
    assert_eq!(
        out.expose(),
        hex("c3d6e2a35ac18f4771d72ff4a7e577ea7b98ae7fa6b6f165bbd17d7c1a24b91f4660044d61757df5")
    );
}

proptest! {
    #[test]
    fn a_shorter_derivation_begins_a_longer_one(
        short in 1usize..100, more in 0usize..100, info in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        for hash in Hash::ALL {
            let derive = |length| [
                hkdf(hash, b"salt", &KEY, &info, length).unwrap(),
                x963(hash, &KEY, &info, length).unwrap(),
                one_step(hash, &KEY, &info, length).unwrap(),
                tls12_prf(hash, &KEY, b"label", [&info, b""], length).unwrap(),
                pbkdf2(hash, &KEY, &info, 2, length).unwrap(),
            ];
            for (short, long) in derive(short).iter().zip(derive(short + more)) {
                prop_assert!(long.expose().starts_with(short.expose()));
            }
        }
    }
}
