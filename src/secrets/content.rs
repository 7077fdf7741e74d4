//! What lets a file with a secret's name stay visible: a look at its content that only ever says "public" when sure.

/// Largest file that is looked at; anything larger stays hidden.
pub const LIMIT: usize = 1024 * 1024;
/// Largest settings file that is looked at.
pub const SETTINGS_LIMIT: usize = 64 * 1024;

const BEGIN: &[u8] = b"-----BEGIN ";

/// Labels of PEM and OpenPGP blocks that hold nothing private.
const PUBLIC_LABELS: &[&[u8]] = &[
    b"CERTIFICATE",
    b"X509 CERTIFICATE",
    b"TRUSTED CERTIFICATE",
    b"CERTIFICATE REQUEST",
    b"NEW CERTIFICATE REQUEST",
    b"PKCS7",
    b"CMS",
    b"X509 CRL",
    b"PUBLIC KEY",
    b"RSA PUBLIC KEY",
    b"EC PUBLIC KEY",
    b"SSH2 PUBLIC KEY",
    b"DH PARAMETERS",
    b"X9.42 DH PARAMETERS",
    b"EC PARAMETERS",
    b"DSA PARAMETERS",
    b"PGP PUBLIC KEY BLOCK",
    b"PGP SIGNATURE",
    b"PGP SIGNED MESSAGE",
    b"SSH SIGNATURE",
];

/// Whether the content is made of PEM blocks that are all public. Text between the blocks, as certificate bundles carry
/// it, is accepted as long as the words `PRIVATE` and `SECRET` stay away.
pub fn public_pem(content: &[u8]) -> bool {
    if content.len() > LIMIT {
        return false;
    }
    let mut blocks = 0;
    let mut from = 0;
    while let Some(at) = find(&content[from..], BEGIN) {
        let label = &content[from + at + BEGIN.len()..];
        let Some(end) = find(label, b"-----") else { return false };
        if !PUBLIC_LABELS.contains(&&label[..end]) {
            return false;
        }
        blocks += 1;
        from += at + BEGIN.len() + end;
    }
    blocks > 0 && !contains_word(content, b"private key") && !contains_word(content, b"secret")
}

/// Words in the key of a setting, or in an address, that announce a credential.
const CREDENTIAL_WORDS: &[&[u8]] = &[
    b"auth",
    b"pass",
    b"token",
    b"secret",
    b"key",
    b"credential",
    b"login",
    b"user",
    b"cookie",
    b"session",
    b"-----begin",
];

/// Whether a settings file has no line that could hold a credential: neither a telling word with a value of its own nor
/// an address with a user in it.
pub fn no_credential(content: &[u8]) -> bool {
    if content.len() > SETTINGS_LIMIT || content.contains(&0) {
        return false;
    }
    content.split(|&b| b == b'\n').all(|line| {
        let line = line.trim_ascii();
        let comment =
            line.starts_with(b"#") || line.starts_with(b";") || line.starts_with(b"//") && !line.contains(&b'=');
        let has_user = find(line, b"://").is_some_and(|at| line[at..].contains(&b'@'));
        if has_user {
            return false;
        }
        let telling = CREDENTIAL_WORDS.iter().any(|word| contains_word(line, word));
        !telling || comment && !line.iter().any(|&b| b == b'=' || b == b':') || is_reference(line)
    })
}

/// `name=${VARIABLE}`: the value is somewhere else.
fn is_reference(line: &[u8]) -> bool {
    let Some(at) = find(line, b"${") else { return false };
    let before = line[..at].trim_ascii_end();
    let before = before.strip_suffix(b"\"").or_else(|| before.strip_suffix(b"'")).unwrap_or(before).trim_ascii_end();
    let assigned = before.ends_with(b"=") || before.ends_with(b":");
    let rest = &line[at + 2..];
    let name = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    // Compared in place: nothing of the line is copied to memory that is not wiped.
    let after = || rest[name..].iter().filter(|b| !b"\"';, ".contains(*b));
    let ends = [&b"}"[..], b"-}", b":-}", b"?}"];
    assigned && name > 0 && ends.iter().any(|end| after().eq(end.iter()))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn contains_word(haystack: &[u8], lower: &[u8]) -> bool {
    haystack.windows(lower.len()).any(|window| window.eq_ignore_ascii_case(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_blocks_are_public() {
        assert!(public_pem(b"# a bundle\n-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"));
        assert!(!public_pem(
            b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n"
        ));
        assert!(!public_pem(b"-----BEGIN RSA PRIVATE KEY-----\n"));
        assert!(!public_pem(b""));
        assert!(!public_pem(b"\x30\x82\x01"));
        assert!(!public_pem(b"-----BEGIN CERTIFICATE"));
    }

    #[test]
    fn settings_without_a_credential_are_public() {
        assert!(no_credential(b"save-exact=true\nregistry=https://registry.example.com/\n"));
        assert!(no_credential(b"//registry.example.com/:_authToken=${NPM_TOKEN}\n"));
        assert!(no_credential(b"npmAuthToken: \"${NPM_TOKEN:-}\"\n"));
        assert!(!no_credential(b"//registry.example.com/:_authToken=npm_abcdef\n"));
        assert!(!no_credential(b"//registry.example.com/:_authToken=x${NPM_TOKEN}\n"));
        assert!(!no_credential(b"# old: _authToken=npm_abcdef\n"));
        assert!(!no_credential(b"index-url = https://me:pw@index.example.com/simple\n"));
        assert!(!no_credential(b"AGE-SECRET-KEY-1QQQ\n"));
    }
}
