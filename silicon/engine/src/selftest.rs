//! Self-tests: known answers and consistency, before the first service and on demand.

use std::time::Instant;

use crate::lc::{ec, gcm, hmac, kdf, random};

/// One test and how it went.
#[derive(Clone, Debug)]
pub struct SelfTest {
    /// What it tests.
    pub name: &'static str,
    /// Whether it passed.
    pub passed: bool,
    /// How long it took.
    pub micros: u64,
}

type Test = fn() -> bool;

const TESTS: &[(&str, Test)] = &[
    ("AWS-LC's own (BORINGSSL_self_test)", library),
    ("AES-256-GCM round trip and refusal", aes_gcm),
    ("HMAC-SHA-256 known answer (RFC 4231, case 2)", hmac_sha256),
    ("KBKDF-SHA-384 is a function of its inputs", kbkdf),
    ("ECDSA P-256, P-384, P-521 pairwise", ecdsa),
    (
        "random generator: no repetition, no constant output",
        generator,
    ),
];

/// Runs them all, in order.
pub fn run_all() -> Vec<SelfTest> {
    TESTS
        .iter()
        .map(|(name, test)| {
            let begin = Instant::now();
            let passed = test();
            SelfTest {
                name,
                passed,
                micros: u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX),
            }
        })
        .collect()
}

fn library() -> bool {
    // SAFETY: takes nothing, tests everything.
    unsafe { aws_lc_sys::BORINGSSL_self_test() == 1 }
}

fn aes_gcm() -> bool {
    let Ok(key) = gcm::AesGcm::new(&[3; 32]) else {
        return false;
    };
    let Ok((ciphertext, mut tag)) = key.seal(&[1; 12], b"header", b"plaintext") else {
        return false;
    };
    let opened = key.open(&[1; 12], b"header", &ciphertext, &tag);
    let right = opened.is_ok_and(|plain| plain.expose() == b"plaintext");
    tag[0] ^= 1;
    right && key.open(&[1; 12], b"header", &ciphertext, &tag).is_err()
}

fn hmac_sha256() -> bool {
    let expected = [
        0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75,
        0xc7, 0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec,
        0x38, 0x43,
    ];
    hmac::sha256(b"Jefe", b"what do ya want for nothing?") == expected
}

fn kbkdf() -> bool {
    let derive = |label: &[u8]| {
        kdf::kbkdf_sha384(&[9; 48], label, b"", 32)
            .ok()
            .map(|s| s.expose().to_vec())
    };
    derive(b"a").is_some() && derive(b"a") == derive(b"a") && derive(b"a") != derive(b"b")
}

fn ecdsa() -> bool {
    ec::Curve::ALL.into_iter().all(|curve| {
        let Ok(key) = ec::PrivateKey::generate(curve) else {
            return false;
        };
        let Ok(public) = key
            .public_point()
            .and_then(|p| ec::PublicKey::from_point(curve, &p))
        else {
            return false;
        };
        let mut signature = [0; 132];
        let Ok(length) = key.sign(&[5; 48], &mut signature) else {
            return false;
        };
        let Some(signature) = signature.get(..length) else {
            return false;
        };
        public.verify(&[5; 48], signature).is_ok() && public.verify(&[6; 48], signature).is_err()
    })
}

fn generator() -> bool {
    let (mut a, mut b) = ([0u8; 64], [0u8; 64]);
    random::fill(&mut a).is_ok()
        && random::fill(&mut b).is_ok()
        && a != b
        && a.iter().any(|byte| *byte != a[0])
}
