//! Every file of Wycheproof in CASEMATE_DATA/wycheproof, through the room of AWS-LC.
//!
//! A valid case must succeed with the expected bytes, an invalid one must fail; an acceptable one
//! may do either, but where it succeeds the bytes must be right. What the room refuses although it
//! is valid stands in `REFUSED` with its reason, and is counted.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use casemate_engine::lc::aes::{AesKey, Direction};
use casemate_engine::lc::cmac::CmacKey;
use casemate_engine::lc::digest::{Hash, digest};
use casemate_engine::lc::ec::{Curve, PrivateKey, PublicKey};
use casemate_engine::lc::gcm::{AesGcm, tag_allowed};
use casemate_engine::lc::hmac::HmacKey;
use casemate_engine::lc::rsa::encrypt::Oaep;
use casemate_engine::lc::rsa::sign::Pss;
use casemate_engine::lc::xts::XtsKey;
use casemate_engine::lc::{
    Error, Input, Output, der, edwards, kdf, keywrap, mldsa, mlkem, montgomery, pkcs8,
};
use serde_json::Value;

/// Valid or acceptable cases that are refused on purpose: the file, the reason, how to tell.
type Refusal = (&'static str, &'static str, fn(&Value, &Value) -> bool);

const REFUSED: &[Refusal] = &[
    (
        "aes_xts_test.json",
        "AWS-LC has AES-256-XTS only",
        |group, _| group["keySize"] != 512,
    ),
    (
        "aes_wrap_test.json",
        "RFC 3394 wraps at least 16 bytes",
        |_, test| text(test, "msg").len() < 32,
    ),
];

/// What a case gave: bytes to compare with the expected ones, or nothing but success.
type Outcome = Result<Option<Vec<u8>>, Error>;

/// Runs one case: the group and the case.
type Runner = fn(&Value, &Value) -> Outcome;

fn runner(file: &str) -> Runner {
    match file {
        "aes_cbc_pkcs5_test.json" => cbc,
        "aes_cmac_test.json" => cmac,
        "aes_gcm_test.json" => gcm,
        "aes_kwp_test.json" => kwp,
        "aes_wrap_test.json" => kw,
        "aes_xts_test.json" => xts,
        "hkdf_sha384_test.json" => |_, test| hkdf(Hash::Sha384, test),
        "hmac_sha256_test.json" => |group, test| hmac(Hash::Sha256, group, test),
        "hmac_sha384_test.json" => |group, test| hmac(Hash::Sha384, group, test),
        "ecdh_secp256r1_test.json" => ecdh_spki,
        "ecdh_secp384r1_ecpoint_test.json" => ecdh_point,
        "ecdsa_secp256r1_sha256_p1363_test.json" | "ecdsa_secp384r1_sha384_p1363_test.json" => {
            ecdsa_raw
        }
        "ecdsa_secp256r1_sha256_test.json" | "ecdsa_secp384r1_sha384_test.json" => ecdsa_der,
        "ed25519_test.json" => ed25519,
        "x25519_test.json" => x25519,
        "mldsa_65_verify_test.json" => mldsa_65,
        "mlkem_768_test.json" => mlkem_768,
        "rsa_oaep_2048_sha256_mgf1sha256_test.json" => oaep,
        "rsa_pss_2048_sha256_mgf1_32_test.json" => pss,
        "rsa_signature_2048_sha256_test.json" => pkcs1,
        _ => panic!("{file}: no runner for this file"),
    }
}

#[test]
fn every_file_holds() {
    let Ok(data) = std::env::var("CASEMATE_DATA") else {
        println!("skipped: CASEMATE_DATA is not set, so there are no Wycheproof files");
        return;
    };
    let folder = PathBuf::from(data).join("wycheproof");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}: no files", folder.display());
    let mut failures = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let mut counts = BTreeMap::new();
        for group in file["testGroups"].as_array().unwrap() {
            for test in group["tests"].as_array().unwrap() {
                match judge(&name, group, test) {
                    Ok(verdict) => *counts.entry(verdict).or_insert(0) += 1,
                    Err(problem) => failures.push(format!(
                        "{name} case {}: {problem} ({})",
                        test["tcId"], test["comment"]
                    )),
                }
            }
        }
        println!("{name}: {counts:?}");
        let ran: u64 = counts.values().sum();
        if failures.is_empty() {
            assert_eq!(Some(ran), file["numberOfTests"].as_u64(), "{name}");
        }
    }
    assert!(failures.is_empty(), "{:#?}", failures);
}

fn judge(name: &str, group: &Value, test: &Value) -> Result<&'static str, String> {
    let outcome = runner(name)(group, test);
    let expected = ["shared", "okm", "ct", "tag", "K"]
        .into_iter()
        .find(|field| test.get(*field).is_some())
        .map(|field| bytes(test, field));
    let right = match (&outcome, &expected) {
        (Ok(Some(got)), Some(expected)) => got == expected,
        _ => true,
    };
    match (test["result"].as_str().unwrap(), outcome) {
        ("valid" | "acceptable", Ok(_)) if !right => Err("the bytes differ".into()),
        ("valid", Ok(_)) => Ok("valid, accepted"),
        ("acceptable", Ok(_)) => Ok("acceptable, accepted"),
        ("invalid", Err(_)) => Ok("invalid, rejected"),
        ("invalid", Ok(_)) => Err("accepted although invalid".into()),
        ("valid" | "acceptable", Err(_))
            if REFUSED
                .iter()
                .any(|(file, _, applies)| *file == name && applies(group, test)) =>
        {
            let refusal = REFUSED.iter().find(|(file, ..)| *file == name).unwrap();
            Ok(refusal.1)
        }
        ("acceptable", Err(_)) => Ok("acceptable, rejected"),
        (result, Err(error)) => Err(format!("{result}, but {error}")),
        (result, _) => Err(format!("unknown result {result}")),
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or("")
}

fn bytes(value: &Value, field: &str) -> Vec<u8> {
    let text = text(value, field);
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

fn written(
    capacity: usize,
    body: impl FnOnce(&mut Output<'_>) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; capacity];
    let mut output = Output::new(&mut buffer);
    body(&mut output)?;
    let written = output.written();
    buffer.truncate(written);
    Ok(buffer)
}

/// Encryption must give the ciphertext where the case is valid; decryption must give the message.
fn both_ways(
    test: &Value,
    encrypt: impl FnOnce(&[u8]) -> Result<Vec<u8>, Error>,
    decrypt: impl FnOnce(&[u8]) -> Result<Vec<u8>, Error>,
) -> Outcome {
    let message = bytes(test, "msg");
    let plain = decrypt(&bytes(test, "ct"))?;
    if plain != message {
        return Err(Error::Decrypt);
    }
    encrypt(&message).map(Some)
}

fn cbc(_: &Value, test: &Value) -> Outcome {
    let key = AesKey::new(&bytes(test, "key"))?;
    let iv = bytes(test, "iv").try_into().map_err(|_| Error::Parameter)?;
    let run = |direction, data: &[u8]| {
        written(data.len() + 16, |output| {
            key.cbc_padded(direction, &iv, Input::new(data), output)
        })
    };
    both_ways(
        test,
        |message| run(Direction::Encrypt, message),
        |ciphertext| run(Direction::Decrypt, ciphertext),
    )
}

fn xts(_: &Value, test: &Value) -> Outcome {
    let key = XtsKey::new(&bytes(test, "key"))?;
    // Shorter data unit numbers are little-endian, filled with zeros.
    let mut tweak = bytes(test, "iv");
    tweak.resize(16, 0);
    let tweak = tweak.try_into().map_err(|_| Error::Parameter)?;
    let run = |direction, data: &[u8]| {
        written(data.len(), |output| {
            key.unit(direction, &tweak, Input::new(data), output)
        })
    };
    both_ways(
        test,
        |message| run(Direction::Encrypt, message),
        |ciphertext| run(Direction::Decrypt, ciphertext),
    )
}

fn gcm(group: &Value, test: &Value) -> Outcome {
    let key = AesGcm::new(&bytes(test, "key"))?;
    let (iv, aad) = (bytes(test, "iv"), bytes(test, "aad"));
    let tag = bytes(test, "tag");
    let size = usize::try_from(group["tagSize"].as_u64().unwrap() / 8).unwrap();
    assert!(
        tag_allowed(size),
        "a tag size that the runner does not know"
    );
    both_ways(
        test,
        |message| {
            let whole = written(message.len() + size, |output| {
                key.encrypt(&iv, &aad, Input::new(message), output, size)
            })?;
            let (ciphertext, sealed) = whole.split_at(message.len());
            if sealed == tag {
                Ok(ciphertext.to_vec())
            } else {
                Err(Error::Signature)
            }
        },
        |ciphertext| Ok(key.open(&iv, &aad, ciphertext, &tag)?.expose().to_vec()),
    )
}

fn kw(_: &Value, test: &Value) -> Outcome {
    let key = AesKey::new(&bytes(test, "key"))?;
    both_ways(
        test,
        |message| keywrap::wrap(&key, &keywrap::DEFAULT_IV, message),
        |wrapped| {
            Ok(keywrap::unwrap(&key, &keywrap::DEFAULT_IV, wrapped)?
                .expose()
                .to_vec())
        },
    )
}

fn kwp(_: &Value, test: &Value) -> Outcome {
    let key = AesKey::new(&bytes(test, "key"))?;
    both_ways(
        test,
        |message| keywrap::wrap_padded(&key, &keywrap::DEFAULT_ICV, message),
        |wrapped| {
            Ok(
                keywrap::unwrap_padded(&key, &keywrap::DEFAULT_ICV, wrapped)?
                    .expose()
                    .to_vec(),
            )
        },
    )
}

/// A MAC, cut to the group's size. An invalid case is one whose tag is another.
fn tag(group: &Value, test: &Value, whole: &[u8]) -> Outcome {
    let size = usize::try_from(group["tagSize"].as_u64().unwrap() / 8).unwrap();
    if whole[..size] == bytes(test, "tag") {
        Ok(Some(whole[..size].to_vec()))
    } else {
        Err(Error::Signature)
    }
}

fn cmac(group: &Value, test: &Value) -> Outcome {
    let key = CmacKey::new(&bytes(test, "key"))?;
    tag(group, test, &key.mac(Input::new(&bytes(test, "msg")))?)
}

fn hmac(hash: Hash, group: &Value, test: &Value) -> Outcome {
    let key = HmacKey::new(hash, &bytes(test, "key"))?;
    tag(group, test, &key.mac(Input::new(&bytes(test, "msg")))?)
}

fn hkdf(hash: Hash, test: &Value) -> Outcome {
    let length = usize::try_from(test["size"].as_u64().unwrap()).unwrap();
    let (salt, secret, info) = (bytes(test, "salt"), bytes(test, "ikm"), bytes(test, "info"));
    let out = kdf::hkdf(hash, &salt, &secret, &info, length)?;
    Ok(Some(out.expose().to_vec()))
}

fn curve(name: &str) -> Curve {
    match name {
        "secp256r1" => Curve::P256,
        "secp384r1" => Curve::P384,
        "secp521r1" => Curve::P521,
        _ => panic!("{name}: a curve that the runner does not know"),
    }
}

fn ecdh(group: &Value, test: &Value, public: &PublicKey) -> Outcome {
    let curve = curve(text(group, "curve"));
    let scalar = bytes(test, "private");
    let skip = scalar.iter().take_while(|byte| **byte == 0).count();
    let private = PrivateKey::from_scalar(curve, &scalar[skip..])?;
    Ok(Some(private.agree(public)?.expose().to_vec()))
}

fn ecdh_spki(group: &Value, test: &Value) -> Outcome {
    match pkcs8::parse_public_key(&bytes(test, "public"))? {
        pkcs8::PublicKey::Ec(public) => ecdh(group, test, &public),
        _ => Err(Error::Key),
    }
}

fn ecdh_point(group: &Value, test: &Value) -> Outcome {
    let curve = curve(text(group, "curve"));
    let public = PublicKey::from_point(curve, &bytes(test, "public"))?;
    ecdh(group, test, &public)
}

fn hash(group: &Value) -> Hash {
    match text(group, "sha") {
        "SHA-256" => Hash::Sha256,
        "SHA-384" => Hash::Sha384,
        "SHA-512" => Hash::Sha512,
        other => panic!("{other}: a hash that the runner does not know"),
    }
}

fn ecdsa(group: &Value, test: &Value, signature: &[u8]) -> Outcome {
    let pkcs8::PublicKey::Ec(public) = pkcs8::parse_public_key(&bytes(group, "publicKeyDer"))?
    else {
        return Err(Error::Key);
    };
    let value = digest(hash(group), Input::new(&bytes(test, "msg")))?;
    public.verify(&value, signature).map(|()| None)
}

fn ecdsa_raw(group: &Value, test: &Value) -> Outcome {
    ecdsa(group, test, &bytes(test, "sig"))
}

fn ecdsa_der(group: &Value, test: &Value) -> Outcome {
    let half = curve(text(&group["publicKey"], "curve")).bytes();
    ecdsa(group, test, &der::ecdsa_raw(&bytes(test, "sig"), half)?)
}

fn ed25519(group: &Value, test: &Value) -> Outcome {
    let pkcs8::PublicKey::Ed25519(public) = pkcs8::parse_public_key(&bytes(group, "publicKeyDer"))?
    else {
        return Err(Error::Key);
    };
    let (message, signature) = (bytes(test, "msg"), bytes(test, "sig"));
    edwards::verify(&public, edwards::Scheme::Pure, &message, &signature).map(|()| None)
}

fn x25519(_: &Value, test: &Value) -> Outcome {
    let private = montgomery::PrivateKey::new(&bytes(test, "private"))?;
    Ok(Some(
        private.agree(&bytes(test, "public"))?.expose().to_vec(),
    ))
}

fn mldsa_65(group: &Value, test: &Value) -> Outcome {
    let level = mldsa::Level::MlDsa65;
    let public = mldsa::PublicKey::new(level, &bytes(group, "publicKey"))?;
    let (message, context) = (bytes(test, "msg"), bytes(test, "ctx"));
    public
        .verify(&message, &context, &bytes(test, "sig"))
        .map(|()| None)
}

fn mlkem_768(_: &Value, test: &Value) -> Outcome {
    let private = mlkem::PrivateKey::from_seed(mlkem::Level::MlKem768, &bytes(test, "seed"))?;
    if test.get("ek").is_some() && private.public_key()? != bytes(test, "ek") {
        return Err(Error::Key);
    }
    let shared = private.decapsulate(&bytes(test, "c"))?;
    Ok(Some(shared.expose().to_vec()))
}

fn oaep(group: &Value, test: &Value) -> Outcome {
    let pkcs8::PrivateKey::Rsa(key) = pkcs8::parse_private_key(&bytes(group, "privateKeyPkcs8"))?
    else {
        return Err(Error::Key);
    };
    assert_eq!(group["mgfSha"], "SHA-256");
    let label = bytes(test, "label");
    let oaep = Oaep {
        hash: hash(group),
        mask: Hash::Sha256,
        label: &label,
    };
    let plain = key.decrypt_oaep(&oaep, &bytes(test, "ct"))?;
    if plain.expose() == bytes(test, "msg") {
        Ok(None)
    } else {
        Err(Error::Decrypt)
    }
}

fn rsa_public(group: &Value) -> Result<casemate_engine::lc::rsa::PublicKey, Error> {
    match pkcs8::parse_public_key(&bytes(group, "publicKeyDer"))? {
        pkcs8::PublicKey::Rsa(key) => Ok(key),
        _ => Err(Error::Key),
    }
}

fn pss(group: &Value, test: &Value) -> Outcome {
    assert_eq!(group["mgfSha"], "SHA-256");
    let pss = Pss {
        hash: hash(group),
        mask: Hash::Sha256,
        salt: usize::try_from(group["sLen"].as_u64().unwrap()).unwrap(),
    };
    let value = digest(pss.hash, Input::new(&bytes(test, "msg")))?;
    rsa_public(group)?
        .verify_pss(&pss, &value, &bytes(test, "sig"))
        .map(|()| None)
}

fn pkcs1(group: &Value, test: &Value) -> Outcome {
    let value = digest(hash(group), Input::new(&bytes(test, "msg")))?;
    rsa_public(group)?
        .verify_pkcs1(hash(group), &value, &bytes(test, "sig"))
        .map(|()| None)
}
