//! AES-GCM (SP 800-38D): any IV of at least one byte, tags of 4, 8 or 12 to 16 bytes.
//!
//! Encryption may run on memory that others change. Decryption works on private memory, in one
//! piece, and gives no byte before the tag has verified.

use super::aes::{Cipher, Direction};
use super::error::{check, failed};
use super::{Error, Input, Output, Secret};
use aws_lc_sys::{
    EVP_AEAD, EVP_AEAD_CTX, EVP_AEAD_CTX_free, EVP_AEAD_CTX_new, EVP_AEAD_CTX_open_gather,
    EVP_AEAD_CTX_seal, EVP_AEAD_CTX_seal_scatter, EVP_CIPHER_CTX_ctrl, EVP_CTRL_AEAD_GET_TAG,
    EVP_CTRL_AEAD_SET_IVLEN, EVP_CipherInit_ex, EVP_CipherUpdate, EVP_EncryptFinal_ex,
    EVP_aead_aes_128_gcm, EVP_aead_aes_192_gcm, EVP_aead_aes_256_gcm, EVP_aes_128_gcm,
    EVP_aes_192_gcm, EVP_aes_256_gcm,
};

/// Bytes of the usual tag.
pub const TAG: usize = 16;

/// Whether a tag may have so many bytes.
pub const fn tag_allowed(length: usize) -> bool {
    matches!(length, 4 | 8 | 12..=16)
}

/// AWS-LC's context, for one tag length.
struct Context(*mut EVP_AEAD_CTX);

// SAFETY: the context is owned, and immutable after its making.
unsafe impl Send for Context {}
// SAFETY: sealing and opening take the context as const; AWS-LC allows them at the same time.
unsafe impl Sync for Context {}

impl Context {
    fn new(key: &[u8], tag: usize) -> Result<Self, Error> {
        // SAFETY: the table is static; the key is readable for its length.
        let context = unsafe { EVP_AEAD_CTX_new(aead(key.len())?, key.as_ptr(), key.len(), tag) };
        if context.is_null() {
            return failed(Error::Internal);
        }
        Ok(Self(context))
    }

    /// Decrypts in place; on failure the buffer is wiped.
    fn open(
        &self,
        iv: &[u8],
        associated: &[u8],
        buffer: &mut [u8],
        tag: &[u8],
    ) -> Result<(), Error> {
        // SAFETY: every pointer comes with its length; in place is allowed.
        let done = unsafe {
            EVP_AEAD_CTX_open_gather(
                self.0,
                buffer.as_mut_ptr(),
                iv.as_ptr(),
                iv.len(),
                buffer.as_ptr(),
                buffer.len(),
                tag.as_ptr(),
                tag.len(),
                associated.as_ptr(),
                associated.len(),
            )
        };
        check(done, Error::Decrypt)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; AWS-LC wipes the schedule.
        unsafe { EVP_AEAD_CTX_free(self.0) };
    }
}

fn aead(key: usize) -> Result<*const EVP_AEAD, Error> {
    // SAFETY: these return static tables.
    unsafe {
        match key {
            16 => Ok(EVP_aead_aes_128_gcm()),
            24 => Ok(EVP_aead_aes_192_gcm()),
            32 => Ok(EVP_aead_aes_256_gcm()),
            _ => Err(Error::Size),
        }
    }
}

/// A key for AES-GCM with its schedule.
pub struct AesGcm {
    context: Context,
    key: Secret,
}

impl AesGcm {
    /// A key of 16, 24 or 32 bytes.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        Ok(Self {
            context: Context::new(key, TAG)?,
            key: Secret::copy(key),
        })
    }

    /// Encrypts, and appends ciphertext and a tag of `tag` bytes. Input and output may be memory
    /// that others change, and the ciphertext may stand exactly where the plaintext stands.
    pub fn encrypt(
        &self,
        iv: &[u8],
        associated: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
        tag: usize,
    ) -> Result<(), Error> {
        if iv.is_empty() || !tag_allowed(tag) {
            return Err(Error::Parameter);
        }
        let length = input.len();
        let target = output.reserve(length + tag)?;
        let copy = (input.overlaps(output, length + tag) && !input.in_place(output))
            .then(|| input.to_secret());
        let input = copy
            .as_ref()
            .map_or(input, |copy| Input::new(copy.expose()));
        if tag == TAG {
            let mut written = 0;
            // SAFETY: the input is readable for the length, the target writable for tag and
            // ciphertext; all else comes with its length.
            let done = unsafe {
                EVP_AEAD_CTX_seal(
                    self.context.0,
                    target,
                    &mut written,
                    length + TAG,
                    iv.as_ptr(),
                    iv.len(),
                    input.as_ptr(),
                    length,
                    associated.as_ptr(),
                    associated.len(),
                )
            };
            check(done, Error::DataLength)?;
            output.advance(written);
            return Ok(());
        }
        // A shorter tag is the first bytes of the whole one.
        let mut whole_tag = [0; TAG];
        let mut written = 0;
        // SAFETY: the input is readable and the target writable for the length; the tag is private;
        // all else comes with its length.
        let done = unsafe {
            EVP_AEAD_CTX_seal_scatter(
                self.context.0,
                target,
                whole_tag.as_mut_ptr(),
                &mut written,
                TAG,
                iv.as_ptr(),
                iv.len(),
                input.as_ptr(),
                length,
                std::ptr::null(),
                0,
                associated.as_ptr(),
                associated.len(),
            )
        };
        check(done, Error::DataLength)?;
        output.advance(length);
        output.write(whole_tag.get(..tag).unwrap_or(&whole_tag))
    }

    /// Decrypts private memory in place if the tag, of any allowed length, verifies; otherwise the
    /// buffer is wiped.
    pub fn open_in_place(
        &self,
        iv: &[u8],
        associated: &[u8],
        buffer: &mut [u8],
        tag: &[u8],
    ) -> Result<(), Error> {
        if iv.is_empty() || !tag_allowed(tag.len()) {
            return Err(Error::Parameter);
        }
        if tag.len() == TAG {
            self.context.open(iv, associated, buffer, tag)
        } else {
            Context::new(self.key.expose(), tag.len())?.open(iv, associated, buffer, tag)
        }
    }

    /// An encryption in parts.
    pub fn begin(&self, iv: &[u8], associated: &[u8], tag: usize) -> Result<GcmStream, Error> {
        if iv.is_empty() || !tag_allowed(tag) {
            return Err(Error::Parameter);
        }
        let iv_length = i32::try_from(iv.len()).map_err(|_| Error::Parameter)?;
        // SAFETY: these return static tables.
        let cipher = unsafe {
            match self.key.len() {
                16 => EVP_aes_128_gcm(),
                24 => EVP_aes_192_gcm(),
                _ => EVP_aes_256_gcm(),
            }
        };
        let cipher = Cipher::new(cipher, self.key.expose(), Direction::Encrypt)?;
        let null = std::ptr::null_mut();
        // SAFETY: the context is ours; IV and associated data come with their lengths.
        unsafe {
            check(
                EVP_CIPHER_CTX_ctrl(cipher.0, EVP_CTRL_AEAD_SET_IVLEN, iv_length, null),
                Error::Parameter,
            )?;
            check(
                EVP_CipherInit_ex(
                    cipher.0,
                    std::ptr::null(),
                    std::ptr::null_mut(),
                    std::ptr::null(),
                    iv.as_ptr(),
                    -1,
                ),
                Error::Internal,
            )?;
            for piece in associated.chunks(PIECE) {
                let mut done = 0;
                check(
                    EVP_CipherUpdate(
                        cipher.0,
                        std::ptr::null_mut(),
                        &mut done,
                        piece.as_ptr(),
                        piece.len() as i32,
                    ),
                    Error::Parameter,
                )?;
            }
        }
        Ok(GcmStream { cipher, tag })
    }

    /// Ciphertext and tag.
    pub fn seal(
        &self,
        iv: &[u8],
        associated: &[u8],
        plain: &[u8],
    ) -> Result<(Vec<u8>, [u8; TAG]), Error> {
        let mut ciphertext = vec![0; plain.len() + TAG];
        let mut output = Output::new(&mut ciphertext);
        self.encrypt(iv, associated, Input::new(plain), &mut output, TAG)?;
        let mut tag = [0; TAG];
        tag.copy_from_slice(ciphertext.split_off(plain.len()).as_slice());
        Ok((ciphertext, tag))
    }

    /// The plaintext, if the tag verifies.
    pub fn open(
        &self,
        iv: &[u8],
        associated: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
    ) -> Result<Secret, Error> {
        let mut plain = Secret::copy(ciphertext);
        self.open_in_place(iv, associated, plain.expose_mut(), tag)?;
        Ok(plain)
    }
}

impl std::fmt::Debug for AesGcm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AesGcm({} bits)", self.key.len() * 8)
    }
}

/// Most bytes that one EVP call takes at once here.
const PIECE: usize = 1 << 30;

/// An encryption under way.
pub struct GcmStream {
    cipher: Cipher,
    tag: usize,
}

impl GcmStream {
    /// Encrypts more: as many bytes. Input and output may be memory that others change.
    pub fn update(&mut self, input: Input<'_>, output: &mut Output<'_>) -> Result<(), Error> {
        let total = input.len();
        output.reserve(total)?;
        let copy =
            (input.overlaps(output, total) && !input.in_place(output)).then(|| input.to_secret());
        let input = copy
            .as_ref()
            .map_or(input, |copy| Input::new(copy.expose()));
        let mut offset = 0;
        while offset < total {
            let piece = input.part(offset, PIECE);
            let target = output.reserve(piece.len())?;
            let mut done = 0;
            // SAFETY: the context is ours; readable and writable for the length, apart or the same.
            let answer = unsafe {
                EVP_CipherUpdate(
                    self.cipher.0,
                    target,
                    &mut done,
                    piece.as_ptr(),
                    piece.len() as i32,
                )
            };
            check(answer, Error::DataLength)?;
            output.advance(piece.len());
            offset += piece.len();
        }
        Ok(())
    }

    /// Bytes of the tag that `finish` appends.
    pub fn tag_length(&self) -> usize {
        self.tag
    }

    /// Appends the tag.
    pub fn finish(self, output: &mut Output<'_>) -> Result<(), Error> {
        output.reserve(self.tag)?;
        let (mut last, mut done, mut tag) = ([0; TAG], 0, [0u8; TAG]);
        // SAFETY: the context is ours; GCM writes nothing at the end; the tag is writable.
        unsafe {
            check(
                EVP_EncryptFinal_ex(self.cipher.0, last.as_mut_ptr(), &mut done),
                Error::Internal,
            )?;
            check(
                EVP_CIPHER_CTX_ctrl(
                    self.cipher.0,
                    EVP_CTRL_AEAD_GET_TAG,
                    TAG as i32,
                    tag.as_mut_ptr().cast(),
                ),
                Error::Internal,
            )?;
        }
        output.write(tag.get(..self.tag).unwrap_or(&tag))
    }
}

impl std::fmt::Debug for GcmStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GcmStream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::hex;
    use proptest::prelude::*;

    /// Test case 4 of the GCM specification (McGrew and Viega).
    #[test]
    fn a_known_answer_holds() {
        let key = AesGcm::new(&hex("feffe9928665731c6d6a8f9467308308")).unwrap();
        let plain = hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let (ciphertext, tag) = key
            .seal(
                &hex("cafebabefacedbaddecaf888"),
                &hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
                &plain,
            )
            .unwrap();
        assert_eq!(tag[..], hex("5bc94fbc3221a5db94fae95ae7121a47"));
        assert_eq!(ciphertext[..4], hex("42831ec2"));
    }

    #[test]
    fn what_gcm_does_not_allow_is_refused() {
        assert_eq!(AesGcm::new(&[0; 31]).unwrap_err(), Error::Size);
        let key = AesGcm::new(&[0; 32]).unwrap();
        let mut out = [0; 32];
        let mut encrypt = |iv: &[u8], tag| {
            key.encrypt(
                iv,
                &[],
                Input::new(&[0; 16]),
                &mut Output::new(&mut out),
                tag,
            )
        };
        assert_eq!(encrypt(&[], 16), Err(Error::Parameter));
        for tag in [0, 1, 3, 5, 7, 9, 11, 17] {
            assert_eq!(encrypt(&[1; 12], tag), Err(Error::Parameter));
            assert_eq!(key.begin(&[1; 12], &[], tag).unwrap_err(), Error::Parameter);
        }
        let mut tight = [0; 31];
        let answer = key.encrypt(
            &[1; 12],
            &[],
            Input::new(&[0; 16]),
            &mut Output::new(&mut tight),
            16,
        );
        assert_eq!(answer, Err(Error::TooSmall(32)));
    }

    proptest! {
        #[test]
        fn one_call_parts_and_back_agree(
            size in proptest::sample::select(vec![16usize, 24, 32]),
            tag in proptest::sample::select(vec![4usize, 8, 12, 13, 14, 15, 16]),
            iv in proptest::collection::vec(any::<u8>(), 1..40),
            aad in proptest::collection::vec(any::<u8>(), 0..50),
            plain in proptest::collection::vec(any::<u8>(), 0..300),
            cut in 0usize..300, flip in any::<prop::sample::Index>(),
        ) {
            let key = AesGcm::new(&vec![6; size]).unwrap();
            let mut sealed = vec![0; plain.len() + tag];
            key.encrypt(&iv, &aad, Input::new(&plain), &mut Output::new(&mut sealed), tag).unwrap();

            let mut parts = vec![0; plain.len() + tag];
            let mut output = Output::new(&mut parts);
            let mut stream = key.begin(&iv, &aad, tag).unwrap();
            let cut = cut.min(plain.len());
            stream.update(Input::new(&plain[..cut]), &mut output).unwrap();
            stream.update(Input::new(&plain[cut..]), &mut output).unwrap();
            stream.finish(&mut output).unwrap();
            prop_assert_eq!(&parts, &sealed);

            let mut place = plain.clone();
            place.resize(plain.len() + tag, 0);
            let base = place.as_mut_ptr();
            let (input, mut output) = unsafe {
                (Input::from_raw(base, plain.len()), Output::from_raw(base, plain.len() + tag))
            };
            key.encrypt(&iv, &aad, input, &mut output, tag).unwrap();
            prop_assert_eq!(&place, &sealed);

            let (ciphertext, seal) = sealed.split_at(plain.len());
            let opened = key.open(&iv, &aad, ciphertext, seal).unwrap();
            prop_assert_eq!(opened.expose(), &plain[..]);
            let mut damaged = sealed.clone();
            damaged[flip.index(sealed.len())] ^= 1;
            let (ciphertext, seal) = damaged.split_at(plain.len());
            let mut buffer = ciphertext.to_vec();
            prop_assert_eq!(key.open_in_place(&iv, &aad, &mut buffer, seal), Err(Error::Decrypt));
            prop_assert!(buffer.iter().all(|byte| *byte == 0));
        }
    }
}
