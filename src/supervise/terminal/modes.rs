//! What a program has left changed in the terminal, so that it can be put back.

use super::table::PRIVATE_MODES;

/// The state of the terminal as far as programs in the jail changed it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modes {
    /// A bit per row of [`PRIVATE_MODES`] that differs from its default.
    changed: u64,
    insert: bool,
    newline: bool,
    keypad: bool,
    charset: bool,
    shifted: bool,
    attributes: bool,
    region: bool,
    margins: bool,
    cursor_style: bool,
    other_keys: bool,
    link: bool,
    progress: bool,
    palette: bool,
    /// Text, background, cursor (OSC 10, 11, 12).
    colours: [bool; 3],
    /// Pushed kitty keyboard flags on the main and on the alternate screen, which have a stack each.
    keyboard: [u16; 2],
    /// Kitty keyboard flags set without a push, main and alternate.
    keyboard_set: [bool; 2],
    /// How many questions the terminal was asked.
    queries: u64,
}

impl Modes {
    /// How many questions were passed to the terminal so far; each makes it type an answer.
    pub fn queries(&self) -> u64 {
        self.queries
    }

    /// Whether the terminal types reports by itself: of the mouse, the focus, its theme or size.
    pub fn reports(&self) -> bool {
        [9, 1000, 1002, 1003, 1004, 2031, 2048].into_iter().any(|mode| self.differs(mode))
    }

    /// Counts a question.
    pub(super) fn asked(&mut self) {
        self.queries += 1;
    }

    /// Forgets everything but the questions: the program reset the terminal.
    pub(super) fn reset(&mut self) {
        *self = Self { queries: self.queries, ..Self::default() };
    }

    /// `CSI ! p` puts back most modes, but neither screen nor mouse nor keyboard; forget only what it surely resets.
    pub(super) fn soft_reset(&mut self) {
        (self.insert, self.attributes, self.keypad) = (false, false, false);
    }

    /// Notes `CSI ? number h` (on) or `l`. Returns whether the mode is on the list.
    pub(super) fn private(&mut self, number: u16, on: bool) -> bool {
        let Some(index) = PRIVATE_MODES.iter().position(|mode| mode.number == number) else { return false };
        let bit = 1u64 << index;
        if PRIVATE_MODES[index].default == on {
            self.changed &= !bit;
        } else {
            self.changed |= bit;
        }
        true
    }

    /// Notes `CSI number h` or `l` for the ANSI modes.
    pub(super) fn ansi(&mut self, number: u16, on: bool) {
        match number {
            4 => self.insert = on,
            20 => self.newline = on,
            _ => {}
        }
    }

    /// Whether a private mode differs from its default.
    fn differs(&self, number: u16) -> bool {
        PRIVATE_MODES
            .iter()
            .position(|mode| mode.number == number)
            .is_some_and(|index| self.changed & (1 << index) != 0)
    }

    fn screen(&self) -> usize {
        usize::from(self.differs(47) || self.differs(1047) || self.differs(1049))
    }

    /// Notes a `CSI` sequence that passes (modes come through [`Self::private`] and [`Self::ansi`]).
    pub(super) fn csi(&mut self, marker: u8, intermediates: &[u8], params: &[u8], last: u8) {
        let first = || params.split(|b| *b == b';').next().and_then(number).unwrap_or(0);
        match (marker, intermediates, last) {
            (0, b"", b'm') => self.attributes = !matches!(params, b"" | b"0"),
            (0, b"", b'r') => self.region = !params.is_empty(),
            (0, b"", b's') => self.margins |= !params.is_empty(),
            (0, b" ", b'q') => self.cursor_style = first() != 0,
            (0, b"!", b'p') => self.soft_reset(),
            (b'>', b"", b'm') => {
                self.other_keys = !matches!(params.split(|b| *b == b';').nth(1), None | Some(b"" | b"0"))
            }
            (b'>', b"", b'n') => self.other_keys = true,
            (b'>', b"", b'u') => {
                let depth = &mut self.keyboard[self.screen()];
                *depth = depth.saturating_add(1);
            }
            (b'<', b"", b'u') => {
                let screen = self.screen();
                let count = u16::try_from(first().max(1)).unwrap_or(u16::MAX);
                self.keyboard[screen] = self.keyboard[screen].saturating_sub(count);
            }
            (b'=', b"", b'u') => {
                let screen = self.screen();
                self.keyboard_set[screen] = true;
            }
            _ => {}
        }
    }

    /// Notes a short escape sequence that passes.
    pub(super) fn esc(&mut self, intermediates: &[u8], last: u8) {
        match (intermediates, last) {
            (b"", b'c') => self.reset(),
            (b"", b'=') => self.keypad = true,
            (b"", b'>') => self.keypad = false,
            (b"(", set) => self.charset = set != b'B',
            (b")" | b"*" | b"+", _) => {}
            (b"", b'n' | b'o' | b'|' | b'}' | b'~') => self.shifted = true,
            _ => {}
        }
    }

    /// Notes SO (on) and SI.
    pub(super) fn shift(&mut self, on: bool) {
        self.shifted = on;
    }

    /// Notes an open or closed hyperlink.
    pub(super) fn link(&mut self, open: bool) {
        self.link = open;
    }

    /// Notes a shown or removed progress bar.
    pub(super) fn progress(&mut self, shown: bool) {
        self.progress = shown;
    }

    /// Notes that a colour was set (`OSC` 4, 10, 11, 12) or reset (104, 110, 111, 112).
    pub(super) fn colour(&mut self, osc: u32) {
        match osc {
            4 => self.palette = true,
            10..=12 => self.colours[(osc - 10) as usize] = true,
            110..=112 => self.colours[(osc - 110) as usize] = false,
            _ => {}
        }
    }

    /// Notes that the whole palette was reset.
    pub(super) fn palette_reset(&mut self) {
        self.palette = false;
    }

    /// The bytes that put the terminal back; empty when nothing is left changed.
    pub fn closing(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
        if self.link {
            put(b"\x1b]8;;\x1b\\");
        }
        if self.progress {
            put(b"\x1b]9;4;0\x1b\\");
        }
        let alternate = self.screen();
        self.close_keyboard(alternate, &mut put);
        if self.other_keys {
            put(b"\x1b[>4m");
        }
        if self.insert {
            put(b"\x1b[4l");
        }
        if self.newline {
            put(b"\x1b[20l");
        }
        for (index, mode) in PRIVATE_MODES.iter().enumerate() {
            if mode.restore && self.changed & (1 << index) != 0 {
                let last = if mode.default { 'h' } else { 'l' };
                put(format!("\x1b[?{}{last}", mode.number).as_bytes());
            }
        }
        if alternate == 1 {
            self.close_keyboard(0, &mut put);
        }
        if self.region || self.margins {
            // Resetting the region moves the cursor home.
            put(b"\x1b7\x1b[r\x1b8");
        }
        if self.keypad {
            put(b"\x1b>");
        }
        if self.charset {
            put(b"\x1b(B");
        }
        if self.shifted {
            put(b"\x0f");
        }
        if self.attributes {
            put(b"\x1b[m");
        }
        if self.cursor_style {
            put(b"\x1b[0 q");
        }
        if self.palette {
            put(b"\x1b]104\x1b\\");
        }
        for (changed, reset) in self.colours.iter().zip(["\x1b]110\x1b\\", "\x1b]111\x1b\\", "\x1b]112\x1b\\"]) {
            if *changed {
                put(reset.as_bytes());
            }
        }
        out
    }

    fn close_keyboard(&self, screen: usize, put: &mut impl FnMut(&[u8])) {
        if self.keyboard[screen] > 0 {
            put(format!("\x1b[<{}u", self.keyboard[screen]).as_bytes());
        }
        if self.keyboard_set[screen] {
            put(b"\x1b[=0;1u");
        }
    }

    /// The bytes that bring back the modes in use after a stop (Ctrl-Z, `fg`). What a program draws it draws again
    /// when it is continued; colours, kitty keyboard flags and styles are its own to set again.
    pub fn opening(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, mode) in PRIVATE_MODES.iter().enumerate().rev() {
            if mode.restore && self.changed & (1 << index) != 0 {
                let last = if mode.default { 'l' } else { 'h' };
                out.extend_from_slice(format!("\x1b[?{}{last}", mode.number).as_bytes());
            }
        }
        if self.keypad {
            out.extend_from_slice(b"\x1b=");
        }
        out
    }
}

/// A decimal number of at most five digits.
pub(super) fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    digits.iter().try_fold(0u32, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u32::from(digit - b'0')))
}
