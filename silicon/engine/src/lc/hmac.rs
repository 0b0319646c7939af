//! HMAC (FIPS 198-1).

/// HMAC-SHA-256 of a short message.
pub fn sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    let mut length = 0;
    // SAFETY: every pointer comes with its length; SHA-256 writes 32 bytes. HMAC fails only when it
    // cannot allocate, and then aborts the process.
    unsafe {
        aws_lc_sys::HMAC(
            aws_lc_sys::EVP_sha256(),
            key.as_ptr().cast(),
            key.len(),
            message.as_ptr(),
            message.len(),
            out.as_mut_ptr(),
            &mut length,
        );
    }
    out
}
