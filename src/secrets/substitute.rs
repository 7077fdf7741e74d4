//! Placeholders: what stands for a secret's value inside the jail.
//!
//! A placeholder has the value's length and, character by character, its alphabet, so that what parses the value goes on
//! parsing. It follows from the value and the session's key: one value has one placeholder in a session, and another in
//! the next, so that one seen anywhere else tells where it came from.
//!
//! Of the value it tells length and alphabet and nothing else: a character is drawn from all of its alphabet, the one that
//! stands there among them. Were that one left out, whoever collects the placeholders of a few hundred sessions could read
//! the value from what never occurs.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::sys::random;

/// What makes the placeholders of a session its own: 32 random bytes.
pub struct SessionKey(Zeroizing<[u8; 32]>);

impl SessionKey {
    /// A key of these bytes, which have to be random.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new key, from the kernel.
    ///
    /// # Errors
    /// getrandom(2) fails.
    pub fn random() -> nix::Result<Self> {
        random::bytes().map(Self::new)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey")
    }
}

/// What of a value stays the same in its placeholder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// So many bytes at its beginning, by which tools recognise its kind (`ghp_`, `AKIA`).
    pub prefix: usize,
    /// What stands at its end.
    pub checksum: Checksum,
}

/// A checksum that tools verify, made anew for the placeholder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checksum {
    /// None.
    #[default]
    None,
    /// The last six characters are the CRC-32 of what stands between prefix and them, in base 62 with leading zeros, as in
    /// tokens of GitHub and npm.
    Crc32Base62,
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of a checksum in base 62.
const CHECK: usize = 6;

/// The checksum of [`Checksum::Crc32Base62`] over `body`.
pub fn crc32_base62(body: &[u8]) -> [u8; CHECK] {
    let mut rest = crc32fast::hash(body);
    let mut digits = [b'0'; CHECK];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

/// What stands for `value` in this session: of the same length. A character is by chance the value's own as often as any
/// other.
///
/// Letters become letters of the same case, digits digits of the same kind (a value of hexadecimal digits stays one);
/// every other byte below 0x80 stays, so that separators, quotes and line ends keep their places. Bytes from 0x80 on
/// become `x`.
pub fn placeholder(key: &SessionKey, value: &[u8], shape: Shape) -> Vec<u8> {
    let prefix = shape.prefix.min(value.len());
    let (kept, body) = value.split_at(prefix);
    let hex = body.iter().all(|byte| byte.is_ascii_hexdigit() || !byte.is_ascii_alphanumeric());
    let mut stream = Stream::new(key, value);
    let mut out = Vec::with_capacity(value.len());
    out.extend_from_slice(kept);
    for &byte in body {
        out.push(match byte {
            b'0'..=b'9' => drawn(&mut stream, b"0123456789"),
            b'a'..=b'f' if hex => drawn(&mut stream, b"abcdef"),
            b'A'..=b'F' if hex => drawn(&mut stream, b"ABCDEF"),
            b'a'..=b'z' => drawn(&mut stream, b"abcdefghijklmnopqrstuvwxyz"),
            b'A'..=b'Z' => drawn(&mut stream, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
            0x80.. => b'x',
            separator => separator,
        });
    }
    if shape.checksum == Checksum::Crc32Base62 && body.len() > CHECK {
        let end = out.len() - CHECK;
        let check = crc32_base62(&out[prefix..end]);
        out[end..].copy_from_slice(&check);
    }
    out
}

/// A character of the alphabet, each as likely as the others.
fn drawn(stream: &mut Stream<'_>, alphabet: &[u8]) -> u8 {
    alphabet[stream.below(alphabet.len())]
}

/// Bytes that follow from key and value.
struct Stream<'a> {
    key: &'a SessionKey,
    value: &'a [u8],
    block: Zeroizing<[u8; 32]>,
    used: usize,
    count: u64,
}

impl<'a> Stream<'a> {
    fn new(key: &'a SessionKey, value: &'a [u8]) -> Self {
        Self { key, value, block: Zeroizing::new([0; 32]), used: 32, count: 0 }
    }

    fn byte(&mut self) -> u8 {
        if self.used == self.block.len() {
            let hash = Sha256::new().chain_update(*self.key.0).chain_update(self.count.to_le_bytes());
            self.block.copy_from_slice(&hash.chain_update(self.value).finalize());
            (self.used, self.count) = (0, self.count + 1);
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// A number below `limit`, each as likely as the others.
    fn below(&mut self, limit: usize) -> usize {
        let fair = 256 - 256 % limit;
        loop {
            let byte = usize::from(self.byte());
            if byte < fair {
                return byte % limit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SessionKey {
        SessionKey::new([byte; 32])
    }

    #[test]
    fn a_placeholder_has_the_values_length_and_alphabet() {
        let value = b"postgres-Pw: 90aZ\n";
        let made = placeholder(&key(1), value, Shape::default());
        assert_eq!(made.len(), value.len());
        assert_ne!(made, value);
        for (old, new) in value.iter().zip(&made) {
            if old.is_ascii_alphanumeric() {
                assert_eq!(old.is_ascii_digit(), new.is_ascii_digit());
                assert_eq!(old.is_ascii_uppercase(), new.is_ascii_uppercase());
            } else {
                assert_eq!(old, new);
            }
        }
        let hex = placeholder(&key(1), b"3d2c42fb-00ff", Shape::default());
        assert!(hex.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-'));
    }

    #[test]
    fn placeholders_of_many_sessions_do_not_tell_the_value() {
        let value = b"q7";
        let mut seen = [[0_u32; 256]; 2];
        for session in 0..5200_u32 {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&session.to_le_bytes());
            let made = placeholder(&SessionKey::new(bytes), value, Shape::default());
            for (counts, byte) in seen.iter_mut().zip(&made) {
                counts[usize::from(*byte)] += 1;
            }
        }
        // Each letter 200 times, each digit 520 times, give or take seven standard deviations.
        for (counts, alphabet, expected) in [(&seen[0], b'a'..=b'z', 200_i64), (&seen[1], b'0'..=b'9', 520)] {
            for byte in alphabet {
                let count = i64::from(counts[usize::from(byte)]);
                assert!((count - expected).abs() < 7 * expected.isqrt(), "{} occurs {count} times", char::from(byte));
            }
        }
    }

    #[test]
    fn one_value_has_one_placeholder_in_a_session_and_another_in_the_next() {
        let value = b"sk_live_4eC39HqLyjWDarjtT1zdp7dc";
        let shape = Shape { prefix: 8, checksum: Checksum::None };
        let made = placeholder(&key(1), value, shape);
        assert_eq!(made, placeholder(&key(1), value, shape));
        assert_ne!(made, placeholder(&key(2), value, shape));
        assert!(made.starts_with(b"sk_live_"));
        assert_eq!(placeholder(&key(1), b"", Shape { prefix: 4, checksum: Checksum::Crc32Base62 }), b"");
    }

    #[test]
    fn a_checksum_is_made_anew() {
        let body = b"abcdefghijklmnopqrstuvwxyzABCD";
        let value = [b"ghp_", &body[..], &crc32_base62(body)].concat();
        let made = placeholder(&key(3), &value, Shape { prefix: 4, checksum: Checksum::Crc32Base62 });
        assert_eq!(made.len(), value.len());
        assert_eq!(made[34..], crc32_base62(&made[4..34]));
        assert_ne!(made[4..34], *body);
    }
}
