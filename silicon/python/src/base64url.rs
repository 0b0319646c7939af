//! Base64url without padding (RFC 4648, section 5), behind `casemate.formats.base64url.encode`.
//!
//! Rust and not Python: a signed result has some 15 KB, and what Python has for it takes a fifth of
//! the time of the signature.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Two characters for each value of twelve bits.
const PAIRS: [[u8; 2]; 4096] = pairs();

#[allow(clippy::indexing_slicing)] // In a constant: an index outside would not compile.
const fn pairs() -> [[u8; 2]; 4096] {
    let mut found = [[0; 2]; 4096];
    let mut value = 0;
    while value < 4096 {
        found[value] = [ALPHABET[value >> 6], ALPHABET[value & 63]];
        value += 1;
    }
    found
}

/// The characters of the upper and of the lower twelve bits.
fn four(bits: u32) -> [u8; 4] {
    let [a, b] = pair(bits >> 12);
    let [c, d] = pair(bits);
    [a, b, c, d]
}

fn pair(bits: u32) -> [u8; 2] {
    // Twelve bits are always within the table.
    PAIRS
        .get((bits & 0xfff) as usize)
        .copied()
        .unwrap_or_default()
}

/// `head`, and the text of `data` behind it.
#[pyfunction]
pub fn base64url<'py>(py: Python<'py>, head: &[u8], data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let size = head.len() + (data.len() * 4).div_ceil(3);
    PyBytes::new_with(py, size, |out| {
        let Some((start, text)) = out.split_at_mut_checked(head.len()) else {
            return Ok(());
        };
        start.copy_from_slice(head);
        let (mut fours, mut triples) = (text.chunks_exact_mut(4), data.chunks_exact(3));
        for (place, triple) in (&mut fours).zip(&mut triples) {
            if let &[a, b, c] = triple {
                place.copy_from_slice(&four(u32::from_be_bytes([0, a, b, c])));
            }
        }
        match (triples.remainder(), fours.into_remainder()) {
            (&[a], [one, two]) => [*one, *two] = pair(u32::from(a) << 4),
            (&[a, b], [one, two, three]) => {
                [*one, *two, *three, _] = four(u32::from_be_bytes([0, a, b, 0]));
            }
            _ => {}
        }
        Ok(())
    })
}
