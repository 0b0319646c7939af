//! PEM (RFC 7468), as much as the import of a key needs.

use super::pkcs8::{self, PrivateKey};
use super::{Error, Secret, ec, rsa};

const MALFORMED: Error = Error::Encoding("the PEM text");
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// A block of a PEM file.
#[derive(Debug)]
pub struct Block {
    /// What it says it is, such as PRIVATE KEY.
    pub label: String,
    /// Its bytes.
    pub bytes: Secret,
}

/// The blocks of a PEM file, in order. Text between them is passed over.
pub fn blocks(text: &[u8]) -> Result<Vec<Block>, Error> {
    let mut blocks = Vec::new();
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    while let Some(line) = lines.next() {
        let Some(label) = label(line, BEGIN) else {
            continue;
        };
        let mut body = Secret::zeroed(text.len());
        let mut used = 0;
        loop {
            let line = lines.next().ok_or(MALFORMED)?;
            if line.starts_with(DASHES) {
                if self::label(line, END) != Some(label) {
                    return Err(MALFORMED);
                }
                break;
            }
            body.expose_mut()
                .get_mut(used..used + line.len())
                .ok_or(MALFORMED)?
                .copy_from_slice(line);
            used += line.len();
        }
        blocks.push(Block {
            label: String::from_utf8(label.to_vec()).map_err(|_| MALFORMED)?,
            bytes: base64(body.expose().get(..used).unwrap_or(&[]))?,
        });
    }
    Ok(blocks)
}

/// The one private key in a PEM file: PKCS #8, PKCS #1 or SEC 1. Other blocks, such as
/// certificates, are passed over; an encrypted key is refused by name.
pub fn private_key(text: &[u8]) -> Result<PrivateKey, Error> {
    let mut found = None;
    for block in blocks(text)? {
        let bytes = block.bytes.expose();
        let key = match block.label.as_str() {
            "PRIVATE KEY" => pkcs8::parse_private_key(bytes)?,
            "RSA PRIVATE KEY" => PrivateKey::Rsa(rsa::PrivateKey::from_pkcs1(bytes)?),
            "EC PRIVATE KEY" => PrivateKey::Ec(ec::PrivateKey::from_sec1(bytes, None)?),
            "ENCRYPTED PRIVATE KEY" => return Err(Error::Unsupported("an encrypted PEM key")),
            label if label.ends_with("PRIVATE KEY") => {
                return Err(Error::Unsupported("a PEM key of this kind"));
            }
            _ => continue,
        };
        if found.replace(key).is_some() {
            return Err(MALFORMED);
        }
    }
    found.ok_or(MALFORMED)
}

fn label<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(start)?.strip_suffix(DASHES)
}

/// Base64 (RFC 4648, section 4) with its padding, without a table: a table's cache lines would tell
/// the key.
fn base64(text: &[u8]) -> Result<Secret, Error> {
    let (quads, rest) = text.as_chunks::<4>();
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if !rest.is_empty() || quads.is_empty() || padding > 2 {
        return Err(MALFORMED);
    }
    let mut out = Secret::zeroed(quads.len() * 3 - padding);
    let (mut bad, mut last) = (0, 0);
    for (index, (quad, place)) in quads.iter().zip(out.expose_mut().chunks_mut(3)).enumerate() {
        let end = index + 1 == quads.len();
        last = 0;
        for (at, symbol) in quad.iter().enumerate() {
            // Padding is public, as its place is; it counts as 0.
            let value = if end && at >= 4 - padding {
                0
            } else {
                value(*symbol)
            };
            bad |= value >> 8;
            last = last << 6 | (value & 0x3f);
        }
        let [_, bytes @ ..] = last.to_be_bytes();
        for (place, byte) in place.iter_mut().zip(bytes) {
            *place = byte;
        }
    }
    // Bits that the padding cuts off must be zero: one text for one key.
    bad |= last & ((1 << (8 * padding)) - 1);
    if bad == 0 { Ok(out) } else { Err(MALFORMED) }
}

/// The value of a symbol, or 256 and more.
fn value(symbol: u8) -> u32 {
    let symbol = i32::from(symbol);
    // For each range: all ones in it, zero outside.
    let within = |low: u8, high: u8| (i32::from(low) - 1 - symbol) & (symbol - i32::from(high) - 1);
    let range = |low: u8, high: u8, value: i32| within(low, high) >> 8 & value;
    let found = range(b'A', b'Z', symbol - i32::from(b'A') + 1)
        | range(b'a', b'z', symbol - i32::from(b'a') + 27)
        | range(b'0', b'9', symbol - i32::from(b'0') + 53)
        | range(b'+', b'+', 63)
        | range(b'/', b'/', 64);
    // 0, for no range, becomes all ones.
    (found - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(bytes: &[u8]) -> String {
        let table = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        bytes
            .chunks(3)
            .flat_map(|chunk| {
                let value = (0..3).fold(0, |sum, i| {
                    sum << 8 | usize::from(*chunk.get(i).unwrap_or(&0))
                });
                (0..4).map(move |i| match i <= chunk.len() {
                    true => char::from(table[value >> (18 - 6 * i) & 63]),
                    false => '=',
                })
            })
            .collect()
    }

    #[test]
    fn keys_of_each_label_are_found() {
        let key = ec::PrivateKey::generate(ec::Curve::P256).unwrap();
        let forms = [
            ("PRIVATE KEY", key.to_pkcs8().unwrap()),
            ("EC PRIVATE KEY", key.to_sec1().unwrap()),
        ];
        for (label, bytes) in forms {
            let text = format!(
                "a note\n-----BEGIN CERTIFICATE-----\r\nAAAA\r\n-----END CERTIFICATE-----\n-----BEGIN {label}-----\n{}\n-----END {label}-----",
                encode(bytes.expose())
            );
            match private_key(text.as_bytes()).unwrap() {
                PrivateKey::Ec(again) => {
                    assert_eq!(again.public_point().unwrap(), key.public_point().unwrap());
                }
                _ => panic!("not an EC key"),
            }
            assert_eq!(
                private_key(format!("{text}\n{text}").as_bytes()).unwrap_err(),
                MALFORMED
            );
        }
        let sealed =
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(
            private_key(sealed).unwrap_err(),
            Error::Unsupported("an encrypted PEM key")
        );
        for wrong in [
            &b""[..],
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            b"-----BEGIN PRIVATE KEY-----\nAA=A\n-----END PRIVATE KEY-----\n",
            b"-----BEGIN PRIVATE KEY-----\nAAB=\n-----END PRIVATE KEY-----\n",
        ] {
            assert_eq!(private_key(wrong).unwrap_err(), MALFORMED);
        }
    }

    proptest! {
        #[test]
        fn base64_comes_back(bytes in proptest::collection::vec(any::<u8>(), 1..100)) {
            let decoded = base64(encode(&bytes).as_bytes()).unwrap();
            prop_assert_eq!(decoded.expose(), &bytes[..]);
        }

        #[test]
        fn no_text_breaks_it(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = base64(&text);
            let _ = private_key(&[b"-----BEGIN PRIVATE KEY-----\n", &text[..]].concat());
        }
    }

    #[test]
    fn only_the_alphabet_has_values() {
        let table = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for symbol in 0..=255u8 {
            match table.iter().position(|other| *other == symbol) {
                Some(index) => assert_eq!(value(symbol), index as u32),
                None => assert!(value(symbol) > 255),
            }
        }
    }
}
