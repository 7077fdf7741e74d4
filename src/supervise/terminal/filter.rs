//! The filter between the jail and the user's terminal: a streaming state machine over an allow-list.
//!
//! A sequence is held back until it is complete and then passes whole, changed, or not at all; so whatever happens,
//! the terminal is never left inside a sequence, and it never sees anything that this parser read differently. What
//! comes out does not depend on how the input was cut into pieces. At most [`PENDING_MAX`] bytes are held.

use super::modes::{Modes, number};
use super::table::{ANSI_MODES, C0_PASS, CSI, CsiRule, ESC, OSC, OscRule};

/// The longest sequence that can pass, in bytes; a longer one is dropped while it streams by.
pub const PENDING_MAX: usize = 4096;

/// The longest title, in characters.
const TITLE_MAX: usize = 255;

/// The largest number in a sequence. Some terminals take seconds for "a billion times".
const PARAMETER_MAX: u32 = 65_535;

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// How the terminal reads bytes from 0x80 up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    /// UTF-8. What is not valid UTF-8, and U+0080 to U+009F, becomes U+FFFD.
    #[default]
    Utf8,
    /// One byte per character. 0x80 to 0x9F become `?`: such a terminal takes them for controls.
    EightBit,
}

impl Charset {
    /// The character set of this process's locale.
    pub fn of_environment() -> Self {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::of_locale(&["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default())
    }

    /// The character set of a locale name (the first non-empty of `LC_ALL`, `LC_CTYPE`, `LANG`).
    ///
    /// Without a locale, and with `C`, it is UTF-8: containers rarely set one, and their terminals are.
    pub fn of_locale(locale: &str) -> Self {
        let (name, modifier) = locale.split_once('@').unwrap_or((locale, ""));
        match name.split_once('.') {
            Some((_, codeset)) if codeset.replace('-', "").eq_ignore_ascii_case("utf8") => Self::Utf8,
            Some(_) => Self::EightBit,
            None if modifier.eq_ignore_ascii_case("euro") => Self::EightBit,
            None => Self::Utf8,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ground,
    /// After `ESC`; `pending` holds the intermediates.
    Escape,
    /// After `CSI`; `pending` holds what came.
    Csi,
    /// After `OSC`; `pending` holds the payload.
    Osc,
    /// In a string that is dropped whole.
    Ignored,
    /// After `ESC` inside a string; true in an OSC.
    StringEscape(bool),
    /// The Linux console's `ESC ] P` has seven digits and no terminator.
    Palette(u8),
}

/// The filter; one per terminal.
#[derive(Debug)]
pub struct Filter {
    charset: Charset,
    state: State,
    pending: Vec<u8>,
    /// The pending sequence cannot pass any more: too long, or with a control character inside.
    refused: bool,
    partial: [u8; 4],
    partial_len: usize,
    modes: Modes,
    dropped: u64,
}

impl Filter {
    /// A filter for a terminal with this character set.
    pub fn new(charset: Charset) -> Self {
        Self {
            charset,
            state: State::Ground,
            pending: Vec::new(),
            refused: false,
            partial: [0; 4],
            partial_len: 0,
            modes: Modes::default(),
            dropped: 0,
        }
    }

    /// What programs have changed in the terminal so far.
    pub fn modes(&self) -> &Modes {
        &self.modes
    }

    /// How many sequences and characters were dropped or replaced so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Filters `input`; the result borrows from `input` where nothing has to be looked at, else from `scratch`,
    /// whose old content is discarded.
    pub fn run<'a>(&mut self, input: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if self.state == State::Ground && self.partial_len == 0 && plain_prefix(input) == input.len() {
            return input;
        }
        scratch.clear();
        self.push(input, scratch);
        scratch
    }

    /// Filters `input` and appends the result to `out`.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        while let Some(&byte) = rest.first() {
            if self.state == State::Ground {
                rest = self.ground(rest, out);
            } else {
                rest = &rest[1..];
                self.step(byte, out);
            }
        }
    }

    /// Ends the stream: an unfinished sequence is forgotten. The terminal's modes stay; see [`Modes::closing`].
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if self.partial_len > 0 {
            self.partial_len = 0;
            self.replace(out);
        }
        self.state = State::Ground;
        self.pending = Vec::new();
    }

    /// Takes text up to the next escape; returns what is left.
    fn ground<'i>(&mut self, input: &'i [u8], out: &mut Vec<u8>) -> &'i [u8] {
        if self.partial_len > 0 {
            return self.complete(input, out);
        }
        let plain = plain_prefix(input);
        out.extend_from_slice(&input[..plain]);
        let rest = &input[plain..];
        let Some(&byte) = rest.first() else { return rest };
        match byte {
            0x1b => {
                self.begin(State::Escape);
                &rest[1..]
            }
            0x00..0x20 | 0x7f => {
                self.control(byte, out);
                &rest[1..]
            }
            _ if self.charset == Charset::EightBit => {
                if byte < 0xa0 {
                    self.replace(out);
                } else {
                    out.push(byte);
                }
                &rest[1..]
            }
            _ => self.wide(rest, out),
        }
    }

    /// Takes characters of more than one byte.
    fn wide<'i>(&mut self, mut rest: &'i [u8], out: &mut Vec<u8>) -> &'i [u8] {
        while rest.first().is_some_and(|byte| *byte >= 0x80) {
            match decode(rest) {
                Decoded::Char(len) => {
                    out.extend_from_slice(&rest[..len]);
                    rest = &rest[len..];
                }
                Decoded::Bad(len) => {
                    self.replace(out);
                    rest = &rest[len..];
                }
                Decoded::Partial => {
                    self.partial[..rest.len()].copy_from_slice(rest);
                    self.partial_len = rest.len();
                    return &[];
                }
            }
        }
        rest
    }

    /// Goes on with a character that began in the previous piece.
    fn complete<'i>(&mut self, input: &'i [u8], out: &mut Vec<u8>) -> &'i [u8] {
        let held = self.partial_len;
        let mut joined = self.partial;
        let more = input.len().min(4 - held);
        joined[held..held + more].copy_from_slice(&input[..more]);
        match decode(&joined[..held + more]) {
            Decoded::Char(len) => {
                self.partial_len = 0;
                out.extend_from_slice(&joined[..len]);
                &input[len - held..]
            }
            // What is held is a valid beginning, so the fault lies in the new bytes, and all held ones go.
            Decoded::Bad(len) => {
                self.partial_len = 0;
                self.replace(out);
                &input[len.saturating_sub(held)..]
            }
            Decoded::Partial => {
                self.partial = joined;
                self.partial_len = held + more;
                &input[more..]
            }
        }
    }

    fn replace(&mut self, out: &mut Vec<u8>) {
        self.dropped += 1;
        out.extend_from_slice(if self.charset == Charset::Utf8 { REPLACEMENT } else { b"?" });
    }

    /// A C0 control character outside a string.
    fn control(&mut self, byte: u8, out: &mut Vec<u8>) {
        if !C0_PASS.iter().any(|(pass, _)| *pass == byte) {
            self.dropped += 1;
            return;
        }
        if byte == 0x0e || byte == 0x0f {
            self.modes.shift(byte == 0x0e);
        }
        out.push(byte);
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.pending.clear();
        self.refused = false;
    }

    fn hold(&mut self, byte: u8) {
        if self.pending.len() < PENDING_MAX {
            self.pending.push(byte);
        } else {
            self.refused = true;
        }
    }

    /// Leaves the pending sequence without passing it.
    fn abandon(&mut self, state: State) {
        self.dropped += 1;
        self.begin(state);
    }

    /// One byte inside a sequence.
    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        match (self.state, byte) {
            (_, 0x18 | 0x1a) => self.abandon(State::Ground),
            (State::Osc | State::Ignored, 0x1b) => self.state = State::StringEscape(self.state == State::Osc),
            (State::StringEscape(osc), b'\\') => self.end_string(osc, b"\x1b\\", out),
            (State::StringEscape(_), _) => {
                self.abandon(State::Escape);
                self.step(byte, out);
            }
            (State::Osc, 0x07) => self.end_string(true, b"\x07", out),
            (State::Osc, b'P' | b'R') if self.pending.is_empty() => {
                self.abandon(if byte == b'P' { State::Palette(7) } else { State::Ground });
            }
            (State::Osc, 0x00..0x20 | 0x7f) => self.refused = true,
            (State::Osc, _) => self.hold(byte),
            (State::Ignored, _) => {}
            (State::Palette(left), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.state = if left == 1 { State::Ground } else { State::Palette(left - 1) };
            }
            (State::Palette(_), 0x1b) => self.begin(State::Escape),
            (State::Palette(_), _) => {
                self.begin(State::Ground);
                self.push(&[byte], out);
            }
            (_, 0x1b) => self.abandon(State::Escape),
            // Terminals obey these at once and go on with the sequence.
            (State::Escape | State::Csi, 0x00..0x20 | 0x7f) => self.control(byte, out),
            (State::Escape | State::Csi, 0x80..) => {
                self.abandon(State::Ground);
                self.push(&[byte], out);
            }
            (State::Escape, _) => self.escape(byte, out),
            (State::Csi, 0x40..) => self.end_csi(byte, out),
            (State::Csi, _) => self.hold(byte),
            (State::Ground, _) => self.push(&[byte], out),
        }
    }

    /// A byte after `ESC` and intermediates.
    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            0x20..0x30 => return self.hold(byte),
            b'[' if self.pending.is_empty() => return self.begin(State::Csi),
            b']' if self.pending.is_empty() => return self.begin(State::Osc),
            b'P' | b'X' | b'^' | b'_' | b'k' if self.pending.is_empty() => return self.begin(State::Ignored),
            _ => {}
        }
        let pass =
            ESC.iter().any(|row| row.pass && same(row.intermediates, &self.pending) && row.finals.contains(&byte));
        if pass {
            out.push(0x1b);
            out.extend_from_slice(&self.pending);
            out.push(byte);
            self.modes.esc(&self.pending, byte);
        } else {
            self.dropped += 1;
        }
        self.begin(State::Ground);
    }

    fn end_csi(&mut self, last: u8, out: &mut Vec<u8>) {
        let pending = std::mem::take(&mut self.pending);
        if self.refused || !self.csi(&pending, last, out) {
            self.dropped += 1;
        }
        self.pending = pending;
        self.begin(State::Ground);
    }

    /// Decides about a complete `CSI` sequence; returns whether any of it passed.
    fn csi(&mut self, body: &[u8], last: u8, out: &mut Vec<u8>) -> bool {
        let (marker, body) = match body.split_first() {
            Some((marker @ b'<'..=b'?', rest)) => (*marker, rest),
            _ => (0, body),
        };
        let split = body.iter().position(|b| *b < 0x30).unwrap_or(body.len());
        let (params, intermediates) = body.split_at(split);
        if intermediates.iter().any(|b| *b >= 0x30) || !parameters_fit(params) {
            return false;
        }
        let first = params.split(|b| *b == b';').next().and_then(number).unwrap_or(0);
        let count = params.split(|b| *b == b';').count();
        let row = CSI.iter().find(|row| {
            row.marker == marker
                && same(row.intermediates, intermediates)
                && row.finals.contains(&last)
                && match row.rule {
                    CsiRule::First(list) | CsiRule::QueryFirst(list) => list.iter().any(|n| u32::from(*n) == first),
                    CsiRule::AtMost(most) => count <= most,
                    _ => true,
                }
        });
        let mut kept = None;
        match row.map(|row| row.rule) {
            None | Some(CsiRule::Drop) => return false,
            Some(CsiRule::PrivateModes) => kept = Some(self.keep_modes(params, last, true)),
            Some(CsiRule::AnsiModes) => kept = Some(self.keep_modes(params, last, false)),
            Some(CsiRule::Query | CsiRule::QueryFirst(_)) => self.modes.asked(),
            Some(CsiRule::Pass | CsiRule::AtMost(_) | CsiRule::First(_)) => {
                self.modes.csi(marker, intermediates, params, last);
            }
        }
        let params = kept.as_deref().unwrap_or(params);
        if kept.is_some() && params.is_empty() {
            return false;
        }
        out.extend_from_slice(b"\x1b[");
        out.extend((marker != 0).then_some(marker));
        out.extend_from_slice(params);
        out.extend_from_slice(intermediates);
        out.push(last);
        true
    }

    /// The modes of a list that may be changed.
    fn keep_modes(&mut self, params: &[u8], last: u8, private: bool) -> Vec<u8> {
        let on = last == b'h';
        let mut kept = Vec::with_capacity(params.len());
        for param in params.split(|b| *b == b';') {
            let Some(mode) = number(param).and_then(|n| u16::try_from(n).ok()) else { continue };
            let listed = if private { self.modes.private(mode, on) } else { ANSI_MODES.contains(&mode) };
            if !listed {
                continue;
            }
            if !private {
                self.modes.ansi(mode, on);
            }
            if !kept.is_empty() {
                kept.push(b';');
            }
            kept.extend_from_slice(param);
        }
        kept
    }

    fn end_string(&mut self, osc: bool, terminator: &[u8], out: &mut Vec<u8>) {
        let pending = std::mem::take(&mut self.pending);
        let passed = osc && !self.refused && self.osc(&pending, terminator, out);
        self.dropped += u64::from(!passed);
        self.pending = pending;
        self.begin(State::Ground);
    }

    /// Decides about a complete `OSC` payload; returns whether it passed.
    fn osc(&mut self, payload: &[u8], terminator: &[u8], out: &mut Vec<u8>) -> bool {
        let (code, data) = match payload.iter().position(|b| *b == b';') {
            Some(at) => (&payload[..at], Some(&payload[at + 1..])),
            None => (payload, None),
        };
        let Some(code) = number(code) else { return false };
        let Some(row) = OSC.iter().find(|row| row.number == code) else { return false };
        let title;
        let mut passed = payload;
        match (row.rule, data) {
            (OscRule::Title, Some(text)) => {
                title = [code.to_string().as_bytes(), b";", &self.title(text)].concat();
                passed = &title;
            }
            (OscRule::Link, Some(data)) if link(data) => self.modes.link(!data.ends_with(b";")),
            (OscRule::Palette, Some(data)) => {
                let fields: Vec<&[u8]> = data.split(|b| *b == b';').collect();
                if !fields.len().is_multiple_of(2)
                    || !fields.chunks(2).all(|pair| number(pair[0]).is_some() && colour(pair[1]))
                {
                    return false;
                }
                for pair in fields.chunks(2) {
                    self.colour(code, pair[1]);
                }
            }
            (OscRule::Colour, Some(data)) if colour(data) => self.colour(code, data),
            (OscRule::Reset, None) if code == 104 => self.modes.palette_reset(),
            (OscRule::Reset, None) => self.modes.colour(code),
            (OscRule::Reset, Some(data)) if code == 104 && data.split(|b| *b == b';').all(|n| number(n).is_some()) => {}
            (OscRule::Progress, Some(data)) if progress(data) => {
                self.modes.progress(!data.starts_with(b"4;0"));
            }
            _ => return false,
        }
        out.extend_from_slice(b"\x1b]");
        out.extend_from_slice(passed);
        out.extend_from_slice(terminator);
        true
    }

    fn colour(&mut self, code: u32, value: &[u8]) {
        if value == b"?" {
            self.modes.asked();
        } else {
            self.modes.colour(code);
        }
    }

    /// A title without control characters; the payload has no C0 ones, so this is about the C1 ones.
    fn title(&self, text: &[u8]) -> Vec<u8> {
        match self.charset {
            Charset::Utf8 => {
                let text = String::from_utf8_lossy(text);
                text.chars().filter(|c| !c.is_control()).take(TITLE_MAX).collect::<String>().into_bytes()
            }
            Charset::EightBit => text.iter().copied().filter(|b| !(0x80..0xa0).contains(b)).take(TITLE_MAX).collect(),
        }
    }
}

/// Equality of short slices, mostly empty ones, for which the library's comparison costs far more.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

/// Whether parameters are digits and separators, with small numbers.
fn parameters_fit(params: &[u8]) -> bool {
    params.iter().all(|b| matches!(b, b'0'..=b'9' | b';' | b':'))
        && params
            .split(|b| matches!(b, b';' | b':'))
            .all(|digits| digits.is_empty() || number(digits).is_some_and(|n| n <= PARAMETER_MAX))
}

/// Whether `OSC 8` data is a closing link or one to a place that is safe to click.
fn link(data: &[u8]) -> bool {
    let Some(at) = data.iter().position(|b| *b == b';') else { return false };
    let (params, uri) = (&data[..at], &data[at + 1..]);
    let tidy = params.iter().all(|b| b.is_ascii_alphanumeric() || b":=_-.".contains(b));
    let Ok(text) = std::str::from_utf8(uri) else { return false };
    let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    tidy && (uri.is_empty()
        || uri.iter().all(u8::is_ascii_graphic) && matches!(scheme.as_deref(), Some("http" | "https" | "mailto")))
}

/// Whether a colour is a question or a plain specification.
fn colour(value: &[u8]) -> bool {
    value == b"?"
        || (1..=64).contains(&value.len()) && value.iter().all(|b| b.is_ascii_alphanumeric() || b"#:/. %-".contains(b))
}

/// Whether `OSC 9` data is `4;state` or `4;state;percent`.
fn progress(data: &[u8]) -> bool {
    let fields: Vec<&[u8]> = data.split(|b| *b == b';').collect();
    matches!(fields.as_slice(), [b"4", state] if number(state).is_some_and(|s| s <= 4))
        || matches!(fields.as_slice(), [b"4", state, percent]
            if number(state).is_some_and(|s| s <= 4) && (percent.is_empty() || number(percent).is_some_and(|p| p <= 100)))
}

/// The length of the longest beginning that is printable ASCII and harmless controls.
fn plain_prefix(input: &[u8]) -> usize {
    const STEP: usize = 64;
    // Two ranges, BEL to CR and space to tilde; written without branches so that it becomes vector code.
    let plain = |byte: u8| (byte.wrapping_sub(0x20) < 0x5f) | (byte.wrapping_sub(0x07) < 0x07);
    let whole =
        input.chunks_exact(STEP).take_while(|chunk| chunk.iter().fold(true, |all, byte| all & plain(*byte))).count();
    let start = whole * STEP;
    start + input[start..].iter().take_while(|byte| plain(**byte)).count()
}

enum Decoded {
    /// A valid character of this many bytes that is not a C1 control.
    Char(usize),
    /// This many bytes are not a character, or a C1 control.
    Bad(usize),
    /// The beginning of a character; more bytes are needed.
    Partial,
}

/// Reads one character at the start of `bytes`, which begin with a byte from 0x80 up.
fn decode(bytes: &[u8]) -> Decoded {
    let (len, low, high) = match bytes[0] {
        0xc2..=0xdf => (2, 0x80, 0xbf),
        0xe0 => (3, 0xa0, 0xbf),
        0xed => (3, 0x80, 0x9f),
        0xe1..=0xef => (3, 0x80, 0xbf),
        0xf0 => (4, 0x90, 0xbf),
        0xf1..=0xf3 => (4, 0x80, 0xbf),
        0xf4 => (4, 0x80, 0x8f),
        _ => return Decoded::Bad(1),
    };
    for at in 1..len {
        let range = if at == 1 { low..=high } else { 0x80..=0xbf };
        match bytes.get(at) {
            None => return Decoded::Partial,
            Some(byte) if !range.contains(byte) => return Decoded::Bad(at),
            Some(_) => {}
        }
    }
    if bytes[0] == 0xc2 && bytes[1] < 0xa0 { Decoded::Bad(2) } else { Decoded::Char(len) }
}
