//! The search that comes first: where one of hundreds of keywords may stand.
//!
//! Every second group of three bytes is looked up in a table of bits, letter case aside. From each keyword the rarest four
//! bytes are taken, whose two groups are in the table: one of them is met wherever the keyword stands. An automaton over
//! the same words was measured at a third of the speed (docs/benchmarks.md).

use std::collections::HashMap;

/// Bits of the table, as bytes: small enough for the first cache.
const TABLE: usize = 8192;
/// Bytes looked at in one step.
const STEP: usize = 16;

/// Keywords, ready to be searched for.
pub(super) struct Prefilter {
    bits: Box<[u8; TABLE]>,
    /// The same for the keys of both maps, which cost more to ask.
    keys: Box<[u8; TABLE]>,
    /// Keywords by four of their bytes in lower case: number, and where these four begin.
    fours: HashMap<u32, Vec<(usize, usize)>>,
    /// Keywords of three bytes, by them.
    threes: HashMap<u32, Vec<usize>>,
    words: Vec<Box<[u8]>>,
}

/// Letters without their case; other bytes may fall together, which the comparison afterwards tells apart.
const FOLD: u32 = 0x2020_2020;

fn slot(bytes: u32) -> usize {
    (((bytes | FOLD) << 8).wrapping_mul(0x9e37_79b1) >> 16) as usize
}

fn key_slot(key: u32) -> usize {
    ((key | FOLD).wrapping_mul(0x85eb_ca6b) >> 16) as usize
}

fn load(bytes: &[u8]) -> u32 {
    let mut four = [0; 4];
    let len = bytes.len().min(4);
    four[..len].copy_from_slice(&bytes[..len]);
    u32::from_le_bytes(four)
}

/// How common a byte is in source text, roughly, in tenths of a percent.
fn weight(byte: u8) -> u32 {
    match byte | 0x20 {
        b' ' => 150,
        b'e' => 80,
        b't' => 65,
        b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 55,
        b'l' | b'c' | b'd' | b'u' => 35,
        b'p' | b'm' | b'f' | 0x7f | b'h' | b'g' | b'/' | b':' | b'"' | b'-' => 24,
        b'0'..=b'9' => 8,
        _ => 12,
    }
}

impl Prefilter {
    pub(super) fn new<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut made = Self {
            bits: Box::new([0; TABLE]),
            keys: Box::new([0; TABLE]),
            fours: HashMap::new(),
            threes: HashMap::new(),
            words: words.map(|word| word.as_bytes().into()).collect(),
        };
        for index in 0..made.words.len() {
            let word = made.words[index].to_ascii_lowercase();
            if word.len() == 3 {
                made.set(load(&word));
                // Its second half stands before any byte that a value may have.
                (b' '..=b'~').for_each(|next| made.set(load(&[word[1], word[2], next])));
                made.set_key(load(&word));
                made.threes.entry(load(&word) | FOLD).or_default().push(index);
                continue;
            }
            let cost = |at: &usize| {
                let three = |at: usize| word[at..at + 3].iter().map(|byte| u64::from(weight(*byte))).product::<u64>();
                three(*at) + three(*at + 1)
            };
            let best = (0..=word.len().saturating_sub(4)).min_by_key(cost).unwrap_or(0);
            made.set(load(&word[best..best + 3]));
            made.set(load(&word[best + 1..best + 4]));
            made.set_key(load(&word[best..best + 4]));
            made.fours.entry(load(&word[best..best + 4]) | FOLD).or_default().push((index, best));
        }
        made
    }

    fn set(&mut self, three: u32) {
        let slot = slot(three);
        self.bits[slot >> 3] |= 1 << (slot & 7);
    }

    fn set_key(&mut self, key: u32) {
        let slot = key_slot(key);
        self.keys[slot >> 3] |= 1 << (slot & 7);
    }

    fn has_key(&self, key: u32) -> bool {
        let slot = key_slot(key);
        self.keys[slot >> 3] >> (slot & 7) & 1 == 1
    }

    fn has(&self, bytes: u32) -> bool {
        let slot = slot(bytes);
        self.bits[slot >> 3] >> (slot & 7) & 1 == 1
    }

    /// Tells of each keyword in the content, letter case aside: its number and where it begins. Not in order. One
    /// of three bytes counts where something printable follows it, as a value does.
    pub(super) fn each(&self, content: &[u8], mut tell: impl FnMut(usize, usize)) {
        let mut at = 0;
        while let Some(block) = content.get(at..at + STEP + 4) {
            let mut mask = 0_u32;
            for (bit, place) in (0..STEP).step_by(2).enumerate() {
                let four = u32::from_le_bytes([block[place], block[place + 1], block[place + 2], block[place + 3]]);
                mask |= u32::from(self.has(four)) << bit;
            }
            while mask != 0 {
                let place = at + 2 * mask.trailing_zeros() as usize;
                mask &= mask - 1;
                self.compare(content, place, &mut tell);
            }
            at += STEP;
        }
        while at + 3 <= content.len() {
            if self.has(load(&content[at..])) {
                self.compare(content, at, &mut tell);
            }
            at += 2;
        }
    }

    /// The keywords whose four bytes begin at `place` or one byte before.
    fn compare(&self, content: &[u8], place: usize, tell: &mut impl FnMut(usize, usize)) {
        for first in [Some(place), place.checked_sub(1)].into_iter().flatten() {
            let here = content.get(first..).unwrap_or_default();
            if here.len() >= 4
                && self.has_key(load(here))
                && let Some(words) = self.fours.get(&(load(here) | FOLD))
            {
                for (index, offset) in words {
                    let word = &self.words[*index];
                    let whole = first.checked_sub(*offset).and_then(|start| content.get(start..start + word.len()));
                    if whole.is_some_and(|whole| whole.eq_ignore_ascii_case(word)) {
                        tell(*index, first - offset);
                    }
                }
            }
            if here.len() >= 3
                && self.has_key(load(&here[..3]))
                && let Some(words) = self.threes.get(&(load(&here[..3]) | FOLD))
            {
                let same = |index: &&usize| here[..3].eq_ignore_ascii_case(&self.words[**index]);
                words.iter().filter(same).for_each(|index| tell(*index, first));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_keyword_is_told_of_at_every_offset_and_in_every_case() {
        let words = ["AKIA", "SG.", "github_pat_", "password", "://"];
        let search = Prefilter::new(words.into_iter());
        for (index, word) in words.iter().enumerate() {
            for before in 0..40 {
                for after in [0, 1, 30] {
                    // A keyword of three bytes is told of when something printable follows, as a value does.
                    if after == 0 && word.len() == 3 {
                        continue;
                    }
                    let text = [".".repeat(before), word.to_lowercase(), "~".repeat(after)].concat();
                    let mut found = Vec::new();
                    search.each(text.as_bytes(), |word, at| found.push((word, at)));
                    found.dedup();
                    assert_eq!(found, [(index, before)], "{text}");
                }
            }
        }
    }
}
