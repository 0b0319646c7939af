//! Self-tests: known answers and consistency, before the first service and on demand.

use std::time::Instant;

use crate::lc::{Error, random};

mod known_answers;

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

/// A test: whether the answers were right; an error of the library is a failure as well.
type Test = fn() -> Result<bool, Error>;

const TESTS: &[(&str, Test)] = &[
    ("AWS-LC's own (BORINGSSL_self_test)", library),
    ("AES-CBC, CTR, CMAC, XTS, GCM", known_answers::aes),
    (
        "AES key wrap, with and without padding",
        known_answers::key_wrap,
    ),
    ("SHA-1, SHA-2, SHA-3, HMAC", known_answers::hashes),
    (
        "HKDF, KBKDF, TLS 1.2 PRF, PBKDF2",
        known_answers::derivation,
    ),
    ("ECDH P-256, P-384, P-521", known_answers::ecdh),
    ("ECDSA P-256, P-384, P-521 pairwise", known_answers::ecdsa),
    ("Ed25519, X25519", known_answers::curve25519),
    ("RSA-2048 PKCS #1, PSS, OAEP", known_answers::rsa),
    ("ML-DSA-44, -65, -87", known_answers::mldsa),
    ("ML-KEM-512, -768, -1024", known_answers::mlkem),
    (
        "random generator: no repetition, no constant output",
        generator,
    ),
];

/// Runs them all, in order.
pub fn run_all() -> Vec<SelfTest> {
    run(TESTS)
}

fn run(tests: &[(&'static str, Test)]) -> Vec<SelfTest> {
    tests
        .iter()
        .map(|(name, test)| {
            let begin = Instant::now();
            let passed = test() == Ok(true) && !broken(name);
            SelfTest {
                name,
                passed,
                micros: u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX),
            }
        })
        .collect()
}

/// The name of a test that shall fail: only tests of this crate have this.
#[cfg(test)]
pub(crate) static BROKEN: std::sync::Mutex<Option<&'static str>> = std::sync::Mutex::new(None);

#[cfg(test)]
fn broken(name: &str) -> bool {
    *BROKEN.lock().unwrap() == Some(name)
}

#[cfg(not(test))]
fn broken(_: &str) -> bool {
    false
}

fn library() -> Result<bool, Error> {
    // SAFETY: takes nothing, tests everything.
    Ok(unsafe { aws_lc_sys::BORINGSSL_self_test() == 1 })
}

fn generator() -> Result<bool, Error> {
    let (mut a, mut b) = ([0u8; 64], [0u8; 64]);
    random::fill(&mut a)?;
    random::fill(&mut b)?;
    Ok(a != b && a.iter().any(|byte| *byte != a[0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, EngineError, EngineState};
    use crate::partition::Policy;
    use crate::sealing::SealingFile;

    #[test]
    fn an_error_and_a_wrong_answer_are_failures() {
        let results = run(&[
            ("right", || Ok(true)),
            ("wrong", || Ok(false)),
            ("error", || Err(Error::Internal)),
        ]);
        let passed: Vec<bool> = results.iter().map(|test| test.passed).collect();
        assert_eq!(passed, [true, false, false]);
    }

    #[test]
    fn a_failure_is_final_and_stops_all_services() {
        let sealing = SealingFile::new(std::path::Path::new("/nonexistent/sealing"), false);
        let engine = Engine::new().unwrap();
        assert!(matches!(
            engine.unseal(&sealing),
            Err(EngineError::State(EngineState::SelfTest))
        ));
        for (name, _) in TESTS {
            *BROKEN.lock().unwrap() = Some(name);
            let results = Engine::new().unwrap().self_test();
            let failed: Vec<_> = results.iter().filter(|test| !test.passed).collect();
            assert_eq!(failed.len(), 1, "{failed:?}");
            assert_eq!(failed[0].name, *name);
        }
        engine.self_test();
        assert_eq!(engine.state(), EngineState::Error);
        *BROKEN.lock().unwrap() = None;
        // Passing again leads nowhere: only a restart does.
        assert!(engine.self_test().iter().all(|test| test.passed));
        assert_eq!(engine.state(), EngineState::Error);
        assert!(matches!(
            engine.unseal(&sealing),
            Err(EngineError::State(EngineState::Error))
        ));
        let policy = Policy {
            pin_required: false,
            legacy_test: false,
            mechanisms: None,
            keys: 1,
            sessions: 1,
            connections: 1,
            mapped_bytes: 1 << 30,
            workers: 1,
            weight: 100,
            spin: 200,
        };
        assert!(matches!(
            engine.load_partition([1; 16], "web", policy, &[], &[]),
            Err(EngineError::State(EngineState::Error))
        ));
        let fresh = Engine::new().unwrap();
        assert!(fresh.self_test().iter().all(|test| test.passed));
        assert_eq!(fresh.state(), EngineState::Operational);
    }
}
