//! The raw loop: AWS-LC called as a program would that holds its keys itself.
//!
//! Keys are parsed and contexts made before the loop. What a loop needs lives as long as the process
//! (it is not freed): a few keys, made once.

use crate::failure::Failure;
use crate::measure::Lane;
use crate::operation::{Case, KeyKind, Operation};
use aws_lc_sys::{
    BN_free, BN_new, BN_set_word, EC_KEY, EC_KEY_free, EC_KEY_generate_key,
    EC_KEY_new_by_curve_name, ECDSA_sign, EVP_AEAD_CTX, EVP_AEAD_CTX_new, EVP_AEAD_CTX_seal,
    EVP_DigestSign, EVP_DigestSignInit, EVP_MD_CTX, EVP_MD_CTX_new, EVP_MD_CTX_reset, EVP_PKEY,
    EVP_PKEY_CTX_free, EVP_PKEY_CTX_new_id, EVP_PKEY_CTX_pqdsa_set_params, EVP_PKEY_PQDSA,
    EVP_PKEY_free, EVP_PKEY_keygen, EVP_PKEY_keygen_init, EVP_aead_aes_256_gcm, EVP_sha256,
    HMAC_CTX, HMAC_CTX_new, HMAC_Final, HMAC_Init_ex, HMAC_Update, NID_MLDSA65,
    NID_X9_62_prime256v1, NID_secp384r1, NID_sha256, RAND_bytes, RSA, RSA_F4, RSA_free,
    RSA_generate_key_ex, RSA_new, RSA_sign, SHA256,
};
use std::collections::HashMap;
use std::ptr;

/// Bytes of tag and IV of AES-GCM.
const TAG: usize = 16;
const IV: usize = 12;
/// Room for the longest signature (ML-DSA-65: 3,309 bytes).
const SIGNATURE: usize = 4096;

/// A pointer to an object of AWS-LC that nobody frees.
#[derive(Debug)]
struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: keys and AEAD contexts may be used by many threads at the same time once they are made;
// a digest or HMAC context is used by the one lane that made it.
unsafe impl<T> Send for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer; fails where AWS-LC gave none.
    fn new(pointer: *mut T, what: &str) -> Result<Self, Failure> {
        if pointer.is_null() {
            return Err(Failure::Other(format!("AWS-LC made no {what}")));
        }
        Ok(Self(pointer))
    }

    /// A method, so that closures capture the whole (which is Send) and not the pointer in it.
    fn get(self) -> *mut T {
        self.0
    }
}

#[derive(Clone, Copy)]
enum Key {
    Ec(Shared<EC_KEY>),
    Rsa(Shared<RSA>),
    MlDsa(Shared<EVP_PKEY>),
}

/// The keys of the raw loops.
#[derive(Default)]
pub struct Raw {
    keys: HashMap<KeyKind, Key>,
}

struct Loop<F>(F);

impl<F: FnMut() -> bool + Send> Lane for Loop<F> {
    fn operate(&mut self) -> Result<(), Failure> {
        if (self.0)() {
            return Ok(());
        }
        Err(Failure::Other("AWS-LC failed".into()))
    }
}

fn lane(act: impl FnMut() -> bool + Send + 'static) -> Result<Box<dyn Lane>, Failure> {
    Ok(Box::new(Loop(act)))
}

impl Raw {
    /// A further thread's loop.
    pub fn lane(&mut self, case: &Case) -> Result<Box<dyn Lane>, Failure> {
        match case.operation {
            Operation::Sign(kind) => {
                let key = match self.keys.get(&kind) {
                    Some(key) => *key,
                    None => {
                        let key = generate(kind)?;
                        self.keys.insert(kind, key);
                        key
                    }
                };
                sign(key)
            }
            Operation::Encrypt => encrypt(case.bytes),
            Operation::Mac => mac(case.bytes),
            Operation::Digest => {
                let data = vec![0x5a; case.bytes];
                let mut out = [0; 32];
                // SAFETY: the data come with their length, the output has 32 bytes.
                lane(move || unsafe {
                    !SHA256(data.as_ptr(), data.len(), out.as_mut_ptr()).is_null()
                })
            }
            Operation::Random => {
                let mut out = vec![0; case.bytes];
                // SAFETY: the buffer comes with its length.
                lane(move || unsafe { RAND_bytes(out.as_mut_ptr(), out.len()) == 1 })
            }
            Operation::RoundTrip => Err(Failure::Unsupported(
                "AWS-LC has no round trip: it is called in process".into(),
            )),
            Operation::Generate(kind) => lane(move || generate(kind).map(free).is_ok()),
        }
    }
}

fn generate(kind: KeyKind) -> Result<Key, Failure> {
    match kind {
        KeyKind::P256 => ec(NID_X9_62_prime256v1),
        KeyKind::P384 => ec(NID_secp384r1),
        KeyKind::Rsa(bits) => rsa(bits),
        KeyKind::MlDsa65 => mldsa(),
        KeyKind::Aes256 | KeyKind::Secret => Err(Failure::Unsupported(
            "a secret key is random bytes: see `random`".into(),
        )),
    }
}

fn free(key: Key) {
    // SAFETY: the caller has just made the key and gives it up.
    unsafe {
        match key {
            Key::Ec(key) => EC_KEY_free(key.get()),
            Key::Rsa(key) => RSA_free(key.get()),
            Key::MlDsa(key) => EVP_PKEY_free(key.get()),
        }
    }
}

fn done(code: i32, what: &str) -> Result<(), Failure> {
    if code == 1 {
        return Ok(());
    }
    Err(Failure::Other(format!("AWS-LC: {what} failed")))
}

fn ec(curve: i32) -> Result<Key, Failure> {
    // SAFETY: a new key, checked.
    let key = Shared::new(unsafe { EC_KEY_new_by_curve_name(curve) }, "EC key")?;
    // SAFETY: the key is there.
    let code = unsafe { EC_KEY_generate_key(key.get()) };
    done(code, "EC_KEY_generate_key")?;
    Ok(Key::Ec(key))
}

fn rsa(bits: u16) -> Result<Key, Failure> {
    // SAFETY: new objects, checked; the exponent is freed after its use.
    unsafe {
        let key = Shared::new(RSA_new(), "RSA key")?;
        let exponent = Shared::new(BN_new(), "number")?;
        let made = done(
            BN_set_word(exponent.get(), RSA_F4 as u64),
            "setting the exponent",
        )
        .and_then(|()| {
            done(
                RSA_generate_key_ex(key.get(), i32::from(bits), exponent.get(), ptr::null_mut()),
                "RSA_generate_key_ex",
            )
        });
        BN_free(exponent.get());
        made?;
        Ok(Key::Rsa(key))
    }
}

fn mldsa() -> Result<Key, Failure> {
    let mut key: *mut EVP_PKEY = ptr::null_mut();
    // SAFETY: the context is checked and freed; the key is an output argument.
    unsafe {
        let context = Shared::new(
            EVP_PKEY_CTX_new_id(EVP_PKEY_PQDSA, ptr::null_mut()),
            "ML-DSA context",
        )?;
        let made = EVP_PKEY_keygen_init(context.get()) == 1
            && EVP_PKEY_CTX_pqdsa_set_params(context.get(), NID_MLDSA65) == 1
            && EVP_PKEY_keygen(context.get(), &mut key) == 1;
        EVP_PKEY_CTX_free(context.get());
        done(i32::from(made), "EVP_PKEY_keygen")?;
    }
    Ok(Key::MlDsa(Shared::new(key, "ML-DSA key")?))
}

fn sign(key: Key) -> Result<Box<dyn Lane>, Failure> {
    let mut out = vec![0u8; SIGNATURE];
    let digest = [0x5a; 48];
    let mut short = 0;
    match key {
        Key::Ec(key) => {
            // SAFETY: the key lives for ever.
            let bits = unsafe { aws_lc_sys::ECDSA_size(key.get()) };
            let length = if bits > 80 { 48 } else { 32 };
            // SAFETY: the digest has at least `length` bytes; the output has room for a signature.
            lane(move || unsafe {
                ECDSA_sign(
                    0,
                    digest.as_ptr(),
                    length,
                    out.as_mut_ptr(),
                    &mut short,
                    key.get(),
                ) == 1
            })
        }
        // SAFETY: as above; a SHA-256 digest has 32 bytes.
        Key::Rsa(key) => lane(move || unsafe {
            RSA_sign(
                NID_sha256,
                digest.as_ptr(),
                32,
                out.as_mut_ptr(),
                &mut short,
                key.get(),
            ) == 1
        }),
        Key::MlDsa(key) => {
            // SAFETY: a new context, checked.
            let context: Shared<EVP_MD_CTX> =
                Shared::new(unsafe { EVP_MD_CTX_new() }, "digest context")?;
            // SAFETY: the context is this lane's; the message comes with its length.
            lane(move || unsafe {
                let mut length = out.len();
                EVP_MD_CTX_reset(context.get());
                EVP_DigestSignInit(
                    context.get(),
                    ptr::null_mut(),
                    ptr::null(),
                    ptr::null_mut(),
                    key.get(),
                ) == 1
                    && EVP_DigestSign(
                        context.get(),
                        out.as_mut_ptr(),
                        &mut length,
                        digest.as_ptr(),
                        32,
                    ) == 1
            })
        }
    }
}

fn encrypt(bytes: usize) -> Result<Box<dyn Lane>, Failure> {
    let mut key = [0; 32];
    // SAFETY: the key comes with its length; the table is static.
    let context: Shared<EVP_AEAD_CTX> = unsafe {
        RAND_bytes(key.as_mut_ptr(), key.len());
        Shared::new(
            EVP_AEAD_CTX_new(EVP_aead_aes_256_gcm(), key.as_ptr(), key.len(), TAG),
            "AEAD context",
        )?
    };
    let data = vec![0x5a; bytes];
    let mut out = vec![0; bytes + TAG];
    let mut counter = 0u128;
    lane(move || {
        counter += 1;
        let iv = counter.to_le_bytes();
        let mut length = 0;
        // SAFETY: every pointer comes with its length.
        unsafe {
            EVP_AEAD_CTX_seal(
                context.get(),
                out.as_mut_ptr(),
                &mut length,
                out.len(),
                iv.as_ptr(),
                IV,
                data.as_ptr(),
                data.len(),
                ptr::null(),
                0,
            ) == 1
        }
    })
}

fn mac(bytes: usize) -> Result<Box<dyn Lane>, Failure> {
    let key = [0x5a; 32];
    // SAFETY: a new context, checked; the key comes with its length, the table is static.
    let context: Shared<HMAC_CTX> = unsafe {
        let context = Shared::new(HMAC_CTX_new(), "HMAC context")?;
        done(
            HMAC_Init_ex(
                context.get(),
                key.as_ptr().cast(),
                key.len(),
                EVP_sha256(),
                ptr::null_mut(),
            ),
            "HMAC_Init_ex",
        )?;
        context
    };
    let data = vec![0x5a; bytes];
    let mut out = [0; 32];
    let mut length = 0;
    // SAFETY: the context is this lane's; without a key it begins anew with the one it has.
    lane(move || unsafe {
        HMAC_Init_ex(context.get(), ptr::null(), 0, ptr::null(), ptr::null_mut()) == 1
            && HMAC_Update(context.get(), data.as_ptr(), data.len()) == 1
            && HMAC_Final(context.get(), out.as_mut_ptr(), &mut length) == 1
    })
}
