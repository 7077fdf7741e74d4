//! Checksums and structures of tokens that have one.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::row::Verify;
use crate::secrets::substitute::crc32_base62;

/// Whether a value without its prefix has what its kind has.
pub(super) fn holds(verify: Verify, body: &[u8]) -> bool {
    match verify {
        Verify::None => true,
        Verify::Crc32Base62 => body.split_last_chunk::<6>().is_some_and(|(rest, sum)| crc32_base62(rest) == *sum),
        Verify::Jwt => is_jwt(body),
        Verify::Base64(bytes) => {
            let decoded = STANDARD.decode(body).or_else(|_| STANDARD_NO_PAD.decode(body)).map(Zeroizing::new);
            decoded.is_ok_and(|decoded| decoded.len() == bytes)
        }
        Verify::Bech32 => is_bech32(body),
        Verify::BasicAuth => {
            let decoded = STANDARD.decode(body).or_else(|_| STANDARD_NO_PAD.decode(body)).map(Zeroizing::new);
            decoded.is_ok_and(|decoded| is_login(&decoded))
        }
    }
}

/// `user:password` in printable characters, the password of some length.
fn is_login(decoded: &[u8]) -> bool {
    let Some(colon) = decoded.iter().position(|byte| *byte == b':') else { return false };
    decoded.len() > colon + 4 && decoded.iter().all(|byte| (b' '..=b'~').contains(byte))
}

fn is_jwt(token: &[u8]) -> bool {
    let mut parts = token.split(|byte| *byte == b'.');
    let json = |part: Option<&[u8]>| {
        let decoded = URL_SAFE_NO_PAD.decode(part?).ok().map(Zeroizing::new)?;
        let whole = decoded.first() == Some(&b'{') && decoded.last() == Some(&b'}');
        (whole && std::str::from_utf8(&decoded).is_ok()).then_some(decoded)
    };
    let header = json(parts.next());
    let names_algorithm = |header: Zeroizing<Vec<u8>>| header.windows(5).any(|part| part == b"\"alg\"");
    header.is_some_and(names_algorithm) && json(parts.next()).is_some()
}

/// The checksum of BIP 173 over human-readable part, `1` and data, in either case.
fn is_bech32(text: &[u8]) -> bool {
    const ALPHABET: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let Some(one) = text.iter().rposition(|byte| *byte == b'1') else { return false };
    let (human, data) = (&text[..one], &text[one + 1..]);
    let lower = |byte: &u8| byte.to_ascii_lowercase();
    let mut check = 1_u32;
    let mut feed = |value: u8| {
        let top = check >> 25;
        check = (check & 0x01ff_ffff) << 5 ^ u32::from(value);
        for (bit, factor) in [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3].into_iter().enumerate() {
            if top >> bit & 1 == 1 {
                check ^= factor;
            }
        }
    };
    human.iter().map(lower).for_each(|byte| feed(byte >> 5));
    feed(0);
    human.iter().map(lower).for_each(|byte| feed(byte & 31));
    for byte in data.iter().map(lower) {
        let Some(value) = ALPHABET.iter().position(|known| *known == byte) else { return false };
        feed(value as u8);
    }
    check == 1
}
