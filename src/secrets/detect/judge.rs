//! What tells a secret from what only looks like one.

/// Words in a value that say that it is none.
const WORDS: &[&[u8]] = &[
    b"example",
    b"changeme",
    b"change_me",
    b"change-me",
    b"placeholder",
    b"your_",
    b"your-",
    b"yourkey",
    b"yourtoken",
    b"yourpass",
    b"yoursecret",
    b"dummy",
    b"redacted",
    b"xxxx",
    b"****",
    b"....",
    b"replace",
    b"insert",
    b"todo",
    b"fixme",
    b"notreal",
    b"not-real",
    b"not_real",
    b"fake",
    b"sample",
    b"<",
    b"${",
    b"{{",
    b"$(",
    b"%(",
    b"foobar",
    b"lorem",
];

/// Runs of characters that people type for want of a value.
const RUNS: &[&[u8]] =
    &[b"abcdefgh", b"12345678", b"01234567", b"87654321", b"deadbeef", b"qwertyui", b"aaaaaaaa", b"00000000"];

/// Whether the value says of itself that it is none: an example, a variable, a run of one character.
pub fn is_placeholder(value: &[u8]) -> bool {
    if value.is_empty() {
        return true;
    }
    let has = |word: &&[u8]| value.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    WORDS.iter().any(has) || RUNS.iter().any(has) || few_characters(value)
}

/// At most a few different characters: `xxxxxxxx`, `00000000-0000-…`, `-----`.
fn few_characters(value: &[u8]) -> bool {
    let mut seen = [false; 256];
    let mut different = 0;
    for byte in value {
        if !std::mem::replace(&mut seen[usize::from(*byte)], true) {
            different += 1;
        }
    }
    different <= 4.min(value.len() / 3)
}

/// Shannon's entropy of the bytes, in bits per byte.
pub fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value {
        counts[usize::from(*byte)] += 1;
    }
    let total = value.len() as f64;
    counts.iter().filter(|count| **count > 0).fold(0.0, |sum, count| {
        let part = f64::from(*count) / total;
        sum - part * part.log2()
    })
}
