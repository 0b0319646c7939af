//! Known answers, one or more for each family of mechanisms.
//!
//! Inputs are counting bytes and short texts; the answers were computed with other implementations
//! (OpenSSL through pyca/cryptography, Python's hashlib), long ones are compared by their SHA-256.

use crate::lc::aes::{AesKey, Blocks, Ctr, Direction};
use crate::lc::cmac::CmacKey;
use crate::lc::digest::{Hash, digest};
use crate::lc::gcm::AesGcm;
use crate::lc::hmac::HmacKey;
use crate::lc::kdf::{Field, Prf};
use crate::lc::xts::XtsKey;
use crate::lc::{Error, Input, Output, ec, edwards, kdf, keywrap, mldsa, mlkem, montgomery, rsa};

type Outcome = Result<bool, Error>;

/// 0, 1, 2, ... 63.
const COUNTING: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut i = 0;
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    while i < 64 {
        bytes[i] = i as u8;
        i += 1;
    }
    bytes
};

fn counting(length: usize) -> &'static [u8] {
    COUNTING.get(..length).unwrap_or(&COUNTING)
}

fn key() -> &'static [u8] {
    counting(32)
}

fn iv() -> [u8; 16] {
    std::array::from_fn(|i| i as u8)
}

/// Whether these bytes are those that the hexadecimal digits spell.
fn is(bytes: &[u8], expected: &str) -> bool {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    expected.len() == 2 * bytes.len()
        && digits
            .map(|digit| char::from_digit(u32::from(digit), 16))
            .eq(expected.chars().map(Some))
}

fn has_digest(bytes: &[u8], expected: &str) -> Outcome {
    Ok(is(&digest(Hash::Sha256, Input::new(bytes))?, expected))
}

fn decode(digits: &str) -> Vec<u8> {
    let values: Vec<u8> = digits
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    values
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect()
}

/// AES in CBC, CTR, CMAC, XTS and GCM.
pub fn aes() -> Outcome {
    let answers = [
        (
            16,
            "5e5b871257f5a4e57ece431cb1e9bd8efc6339d47f4d985ec419295abc13a4e9",
            "00deeec8c738adc2d9c44cc69aacc52a92b2756e7c62b2358ca9c4494b0b883f",
            "6b00056b615a68d4efa8c2cdb9ab0b09",
        ),
        (
            24,
            "7d31d7fd61287573d732ad2cbf57d1ff654903753d8489ba33fef03945e1aaaf",
            "05b05a2a2b33ed902a39defbc1527a012bee6489113209727787384ebc535edb",
            "0b470e022643fc94996bf2c69c2969ba",
        ),
        (
            32,
            "871dd79eecf9458954ec47f55c5354079ef52b411831b55cb1027629b6a56ec0",
            "f3e66e3569ec0ebe1be4177425f4b878cbd5bab64522e7e43da0a6979be2ad16",
            "d1fdc78fcd04e186339def75abd0094a",
        ),
    ];
    for (bytes, cbc, ctr, mac) in answers {
        let key = AesKey::new(counting(bytes))?;
        let mut out = [0; 64];
        let mut back = [0; 64];
        let mut mode = Blocks::cbc(&key, Direction::Encrypt, &iv());
        mode.update(Input::new(&COUNTING), &mut Output::new(&mut out))?;
        let mut mode = Blocks::cbc(&key, Direction::Decrypt, &iv());
        mode.update(Input::new(&out), &mut Output::new(&mut back))?;
        if !has_digest(&out, cbc)? || back != COUNTING {
            return Ok(false);
        }
        Ctr::new(&key, &iv(), 128)?.update(Input::new(&COUNTING), &mut Output::new(&mut out))?;
        let tag = CmacKey::new(counting(bytes))?.mac(Input::new(&COUNTING))?;
        if !has_digest(&out, ctr)? || !is(&tag, mac) {
            return Ok(false);
        }
    }
    let mut out = [0; 64];
    XtsKey::new(&COUNTING)?.unit(
        Direction::Encrypt,
        &iv(),
        Input::new(&COUNTING),
        &mut Output::new(&mut out),
    )?;
    if !has_digest(
        &out,
        "d92e2f1cd6544de66e3e9fe149d1ba8f3f3c84eb41c13ba6aee30df4c9e5e010",
    )? {
        return Ok(false);
    }
    let gcm = AesGcm::new(key())?;
    let (mut sealed, mut tag) = gcm.seal(counting(12), b"header", &COUNTING)?;
    let opened = gcm.open(counting(12), b"header", &sealed, &tag)?;
    sealed.extend_from_slice(&tag);
    tag[0] ^= 1;
    let forged = gcm.open(counting(12), b"header", counting(64), &tag);
    Ok(has_digest(
        &sealed,
        "ded48acca9df89912e2ece921f3bc5a7bbac0a64fc6731546cf172f869718ae0",
    )? && opened.expose() == COUNTING
        && forged.is_err())
}

/// AES key wrap, with and without padding.
pub fn key_wrap() -> Outcome {
    let key = AesKey::new(key())?;
    let plain = keywrap::wrap(&key, &[0xA6; 8], counting(16))?;
    let padded = keywrap::wrap_padded(&key, &[0xA6, 0x59, 0x59, 0xA6], counting(7))?;
    Ok(
        is(&plain, "8cc4bfeca8a9f2f38c8b28392f1e8f4b3e5a5fd2f20bd688")
            && is(&padded, "015d947fce931441feff45f438251bc2")
            && keywrap::unwrap(&key, &[0xA6; 8], &plain)?.expose() == counting(16)
            && keywrap::unwrap(&key, &[0xA6; 8], &padded).is_err(),
    )
}

/// SHA-1, SHA-2 and SHA-3 of "abc" (FIPS 180-4 and 202), and HMAC.
pub fn hashes() -> Outcome {
    let digests = [
        (Hash::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            Hash::Sha224,
            "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
        ),
        (
            Hash::Sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            Hash::Sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc23\
         58baeca134c825a7",
        ),
        (
            Hash::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a8\
         36ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        (
            Hash::Sha3_224,
            "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf",
        ),
        (
            Hash::Sha3_256,
            "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
        ),
        (
            Hash::Sha3_384,
            "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f5\
         39f1edf228376d25",
        ),
        (
            Hash::Sha3_512,
            "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c9\
         1a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
        ),
    ];
    for (hash, expected) in digests {
        if !is(&digest(hash, Input::new(b"abc"))?, expected) {
            return Ok(false);
        }
    }
    let macs = [
        (
            Hash::Sha256,
            "f0133729c4163dede81e21cd47839256da58171238c8a0d874397c73b14e1e47",
        ),
        (
            Hash::Sha384,
            "0118b503c345483648a9ea6a1243ee9c65f3edea3092adbc4b86ea0d94ca8192a25f5e2714a5725b\
         4a7112bd450473a5",
        ),
        (
            Hash::Sha512,
            "69d4a21e226bf0d348cb9a847c01cf24e93e8ac30d7c951704b936f82f795a624b470e23abd33ac8\
         700e797f0f2a499b932bac7d283bbbb37d8fecf70d5e08a7",
        ),
        (
            Hash::Sha3_256,
            "632f618ac17ba24355d9ee1fd187cf75bb5b68e6948804bf6674bf5ee7f1c345",
        ),
    ];
    for (hash, expected) in macs {
        if !is(
            &HmacKey::new(hash, key())?.mac(Input::new(b"abc"))?,
            expected,
        ) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// HKDF, SP 800-108 in counter mode, the PRF of TLS 1.2, PBKDF2.
pub fn derivation() -> Outcome {
    let hkdf = kdf::hkdf(Hash::Sha256, b"salt", key(), b"info", 42)?;
    let counter = Field::Counter {
        width: 4,
        little_endian: false,
    };
    let fields = [counter, Field::Bytes(b"label")];
    let counted = kdf::kbkdf_counter(&Prf::hmac(Hash::Sha256, key())?, &fields, 40)?;
    let tls = kdf::tls12_prf(
        Hash::Sha256,
        key(),
        b"master secret",
        [b"client", b"server"],
        48,
    )?;
    let password = kdf::pbkdf2_sha512(b"password", b"salt", 1000, 32)?;
    Ok(is(
        hkdf.expose(),
        "64cc2a23b7a1da4310420350405fdf5d632cb9bda3700d753e96cbcfeb81d4496259e7075d6da9d2\
         c325",
    ) && is(
        counted.expose(),
        "128e8456813e8ce45a12771b43c1e8a317ae0b4e6ef351a8b79d9e423a1c5d3f00bbe24364ea5a4b",
    ) && is(
        tls.expose(),
        "e4fbc4a672a972ef286dca77cfe780e3c8b08a6d805c94c369923daff62807a96b535f331e8ea561\
         ff56ffe88c9fd55e",
    ) && is(
        password.expose(),
        "afe6c5530785b6cc6b1c6453384731bd5ee432ee549fd42fb6695779ad8a1c5b",
    ))
}

/// ECDH on the NIST curves.
pub fn ecdh() -> Outcome {
    let answers = [
        (
            ec::Curve::P256,
            "a7e2db026faf13a3f2e65d25f483d675cd9e9fd32a8ffddc3ac24e501a802a8c",
        ),
        (
            ec::Curve::P384,
            "4eaf275e824aaf0b61076946f2e87613deb150467a74cfc2299039eff36f69cd",
        ),
        (
            ec::Curve::P521,
            "d4dd70de072c31b4b631e9db2df0e26c82204cae37bb276d57b04c05d9e830f7",
        ),
    ];
    for (curve, expected) in answers {
        // The scalar 0x0102...1f, and the next number.
        let mut scalar = vec![0; curve.bytes() - 31];
        scalar.extend(1..32u8);
        let own = ec::PrivateKey::from_scalar(curve, &scalar)?;
        if let Some(last) = scalar.last_mut() {
            *last += 1;
        }
        let peer = ec::PrivateKey::from_scalar(curve, &scalar)?.public()?;
        if !has_digest(own.agree(&peer)?.expose(), expected)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// ECDSA: what is signed verifies, and nothing else.
pub fn ecdsa() -> Outcome {
    for curve in ec::Curve::ALL {
        let key = ec::PrivateKey::generate(curve)?;
        let mut signature = [0; 132];
        let length = key.sign(&[5; 48], &mut signature)?;
        let signature = signature.get(..length).unwrap_or(&[]);
        let public = key.public()?;
        if public.verify(&[5; 48], signature).is_err() || public.verify(&[6; 48], signature).is_ok()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Ed25519 and X25519.
pub fn curve25519() -> Outcome {
    let signer = edwards::PrivateKey::from_seed(key())?;
    let signature = signer.sign(edwards::Scheme::Pure, b"abc")?;
    let public = signer.public_key();
    let right = edwards::verify(&public, edwards::Scheme::Pure, b"abc", &signature).is_ok();
    let wrong = edwards::verify(&public, edwards::Scheme::Pure, b"abd", &signature).is_ok();
    let peer = decode("358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254");
    let shared = montgomery::PrivateKey::new(key())?.agree(&peer)?;
    Ok(right
        && !wrong
        && is(
            &public,
            "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8",
        )
        && is(
            &signature,
            "cc46d62d3754f41754b27b6ea2cb2c272bafa7a5a1f6062bd060f414e50caaeac2da66ad39cef442\
         4a90236ea907b7d8057e3443dc5abfc9986967ee7213a407",
        )
        && is(
            shared.expose(),
            "9663aa1da97e848a914a436d04163dfbb89178f107f1b5b77ed3854203382854",
        ))
}

/// RSA-2048: a PKCS #1 v1.5 signature by its answer, PSS and OAEP back and forth.
pub fn rsa() -> Outcome {
    let modulus = decode(RSA_MODULUS);
    let exponent = decode(RSA_PRIVATE_EXPONENT);
    let key = rsa::PrivateKey::from_exponents(&modulus, &[1, 0, 1], &exponent, None)?;
    let public = key.public()?;
    let hashed = digest(Hash::Sha256, Input::new(b"abc"))?;
    let mut signature = vec![0; 256];
    key.sign_pkcs1(Hash::Sha256, &hashed, &mut signature)?;
    let known = has_digest(
        &signature,
        "0c5dc7eabd84857fa337ada00002035da49438951d485e527a78ec4db44da0f1",
    )? && public
        .verify_pkcs1(Hash::Sha256, &hashed, &signature)
        .is_ok()
        && public
            .verify_pkcs1(Hash::Sha256, another_digest(), &signature)
            .is_err();
    let pss = rsa::sign::Pss {
        hash: Hash::Sha256,
        mask: Hash::Sha256,
        salt: 32,
    };
    key.sign_pss(&pss, &hashed, &mut signature)?;
    let oaep = rsa::encrypt::Oaep {
        hash: Hash::Sha256,
        mask: Hash::Sha256,
        label: b"",
    };
    let opened = key.decrypt_oaep(&oaep, &public.encrypt_oaep(&oaep, b"abc")?)?;
    Ok(known && public.verify_pss(&pss, &hashed, &signature).is_ok() && opened.expose() == b"abc")
}

/// Another digest than that of "abc".
fn another_digest() -> &'static [u8] {
    counting(32)
}

/// ML-DSA: keys from their seed, signatures back and forth.
pub fn mldsa() -> Outcome {
    let answers = [
        (
            mldsa::Level::MlDsa44,
            "9f107644c1084526af3bc8098680b05499a2325a644e388fb4f970e058d19d46",
        ),
        (
            mldsa::Level::MlDsa65,
            "d666806e11cee19a7c989f7445f90dd419cf4d2d51db8c0fdb4c0f0a542238c9",
        ),
        (
            mldsa::Level::MlDsa87,
            "91dc389cfaa01470b7f66eee45a4ae9026d154817c754dfe22298b3fa241ffcd",
        ),
    ];
    for (level, expected) in answers {
        let key = mldsa::PrivateKey::from_seed(level, key())?;
        let raw = key.public_key()?;
        let public = mldsa::PublicKey::new(level, &raw)?;
        let signature = key.sign(b"abc", b"")?;
        if !has_digest(&raw, expected)?
            || public.verify(b"abc", b"", &signature).is_err()
            || public.verify(b"abd", b"", &signature).is_ok()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// ML-KEM: keys from their seed, implicit rejection by its answer, encapsulation back and forth.
pub fn mlkem() -> Outcome {
    let answers = [
        (
            mlkem::Level::MlKem768,
            "0b7934c83125c788995e2ba6bd761e33046b3e40571be53e023309a29f398cc9",
            "e50253479d106a5b1484e8f999a3b24e45d6c5726a0853d1705e669263e41c1e",
        ),
        (
            mlkem::Level::MlKem1024,
            "c7b8fa0aa471d5ae18922d6ccad5b31e1d84f92ae723abfd13747018740a8530",
            "8f08454a6d6290a3ca20292b1d1761145b9dac04e1bdb615442f221bfcf95572",
        ),
    ];
    for (level, expected, rejected) in answers {
        let key = mlkem::PrivateKey::from_seed(level, &COUNTING)?;
        let noise = vec![1; level.ciphertext_bytes()];
        if !has_digest(&key.public_key()?, expected)?
            || !is(key.decapsulate(&noise)?.expose(), rejected)
        {
            return Ok(false);
        }
    }
    for level in mlkem::Level::ALL {
        let key = mlkem::PrivateKey::from_seed(level, &COUNTING)?;
        let (ciphertext, secret) =
            mlkem::PublicKey::new(level, &key.public_key()?)?.encapsulate()?;
        if !secret.equals(key.decapsulate(&ciphertext)?.expose()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A key of the self-test only.
const RSA_MODULUS: &str = "bc0b2b0ff67ab9bb37d4d3fef08886a86fda1b919b79500fa930b1399bf985beceb2a12f177eadcc\
         458a5ddfbf9e8bc962f7623cb9a64971ca3e45be0b8c763ce800a6836867a7a63e29c17865f14264\
         93cf0422f4f56d53cfa121e9f65699814ce512a7a06a49cea13a39173169d7422c63bee2a27ebe58\
         e8d9d0068567e923bf6aef4d2478f30cb2b94d5c92b2718dbc07e954990c8dd87b41b9be5d30c18f\
         b388fcfd697b42b94314af0a404d87b1b9afa45ba7f8352b27961986b37088536fe4308f99479527\
         e559c3f9eeb019ea24deb27ff88a5847afcd9c994bb061020f3bc7713fa71d6355d7817bc893e91b\
         d776be4271961fdb7316256dfb550e31";
const RSA_PRIVATE_EXPONENT: &str = "00bf443ef9e623d0b1bd5625dcdf9d0fb014f31bf12bca65d5ee88300000712d1f656783ba6071e2\
         37c8aea5eb3afefa2381845f25a52ff3ddfb2bad1e410b97a7823a6b6886a11b70100228d6d44087\
         0139b4c8a49b2aff75be1b3aa5ce1bb26158c238f97688c830625ab22a6b80f62c27c3117089b16e\
         11d24f20ad3d19e12c42d75bccf1dcc716defe7674e987d3bbae3abff906d5b992bf14dcc4749bd1\
         6779eecc18020b3580c965d3456d92c7fa9336fd9208d4dc9bef51d0221d469cf1d840f347f9ad72\
         ca806692a3d0f6307fda06a35f754ee85a465ca6037176674b750268c9b1478a8aeca74a074da389\
         cc095494ffb95cb0ea21aa955afbf201";
