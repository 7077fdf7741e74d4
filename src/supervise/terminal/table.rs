//! Which control sequences may reach the user's terminal, as data: an allow-list with a reason per entry.
//!
//! What has no row is dropped. `docs/terminal.md` shows these tables; a test compares them.

/// What happens to a control sequence introduced by `CSI` (`ESC [`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CsiRule {
    /// Passes unchanged.
    Pass,
    /// Passes and is remembered as a question: the terminal will type an answer.
    Query,
    /// Passes with at most this many parameters.
    AtMost(usize),
    /// Passes when the first parameter (absent counts as 0) is one of these.
    First(&'static [u16]),
    /// As `First`, and a question.
    QueryFirst(&'static [u16]),
    /// Modes: each parameter has to be in [`PRIVATE_MODES`]; the others are taken out.
    PrivateModes,
    /// Modes: each parameter has to be in [`ANSI_MODES`]; the others are taken out.
    AnsiModes,
    /// Dropped.
    Drop,
}

/// A row about `CSI` sequences.
#[derive(Debug)]
pub struct Csi {
    /// The private marker: one of `<=>?`, or 0 for none.
    pub marker: u8,
    /// Intermediate bytes between parameters and final byte.
    pub intermediates: &'static [u8],
    /// The final bytes the row is about.
    pub finals: &'static [u8],
    /// What happens.
    pub rule: CsiRule,
    /// An example, without `CSI`.
    pub example: &'static str,
    /// What it is, and why it passes or not.
    pub why: &'static str,
}

const fn csi(
    marker: u8,
    intermediates: &'static [u8],
    finals: &'static [u8],
    rule: CsiRule,
    example: &'static str,
    why: &'static str,
) -> Csi {
    Csi { marker, intermediates, finals, rule, example, why }
}

/// `CSI` sequences. The first row that fits and accepts the parameters decides; no row means dropped.
pub const CSI: &[Csi] = &[
    csi(0, b"", b"ABCDEFGHIZ`adef", CsiRule::Pass, "10;20H", "moves the cursor"),
    csi(0, b"", b"@LMPX", CsiRule::Pass, "2L", "inserts, deletes, erases cells and lines"),
    csi(0, b"", b"JK", CsiRule::Pass, "2J", "erases"),
    csi(b'?', b"", b"JK", CsiRule::Pass, "?2J", "erases unprotected cells"),
    csi(0, b"", b"S", CsiRule::Pass, "3S", "scrolls up"),
    csi(
        0,
        b"",
        b"T",
        CsiRule::AtMost(1),
        "3T",
        "scrolls down; with more parameters it is highlight tracking, in which a terminal waits for the program",
    ),
    csi(0, b"", b"b", CsiRule::Pass, "20b", "repeats the last character"),
    csi(0, b"", b"g", CsiRule::Pass, "3g", "clears tab stops"),
    csi(b'?', b"", b"W", CsiRule::Pass, "?5W", "resets tab stops"),
    csi(0, b"", b"m", CsiRule::Pass, "1;38;2;10;20;30m", "colours and attributes"),
    csi(0, b"", b"r", CsiRule::Pass, "1;24r", "scroll region; reset at the end"),
    csi(0, b"", b"s", CsiRule::Pass, "s", "saves the cursor, or sets the margins; reset at the end"),
    csi(0, b"", b"u", CsiRule::Pass, "u", "restores the cursor"),
    csi(
        b'?',
        b"",
        b"hl",
        CsiRule::PrivateModes,
        "?1049h",
        "private modes that are on the list of modes; reset at the end",
    ),
    csi(0, b"", b"hl", CsiRule::AnsiModes, "4h", "insert mode and newline mode; reset at the end"),
    csi(b'?', b"", b"c", CsiRule::Pass, "?1c", "cursor shape of the Linux console"),
    csi(0, b" ", b"q", CsiRule::Pass, "6 q", "cursor shape; reset at the end"),
    csi(0, b"!", b"p", CsiRule::Pass, "!p", "soft reset"),
    csi(0, b"\"", b"q", CsiRule::Pass, "1\"q", "character protection"),
    csi(b'>', b"", b"mn", CsiRule::Pass, ">4;2m", "modifyOtherKeys on and off; reset at the end"),
    csi(b'>', b"", b"u", CsiRule::Pass, ">1u", "kitty keyboard: push; popped at the end"),
    csi(b'<', b"", b"u", CsiRule::Pass, "<1u", "kitty keyboard: pop"),
    csi(b'=', b"", b"u", CsiRule::Pass, "=1;1u", "kitty keyboard: set; reset at the end"),
    csi(b'?', b"", b"u", CsiRule::Query, "?u", "kitty keyboard: asks the flags; the answer is a number"),
    csi(b'?', b"", b"m", CsiRule::Query, "?4m", "asks for modifyOtherKeys; the answer is a number"),
    csi(
        0,
        b"",
        b"c",
        CsiRule::QueryFirst(&[0]),
        "c",
        "primary device attributes; the answer is the terminal's own list of numbers",
    ),
    csi(b'>', b"", b"c", CsiRule::QueryFirst(&[0]), ">c", "secondary device attributes; the answer is numbers"),
    csi(
        b'>',
        b"",
        b"q",
        CsiRule::QueryFirst(&[0]),
        ">q",
        "terminal name and version; the program has no say in the answer",
    ),
    csi(0, b"", b"n", CsiRule::QueryFirst(&[5, 6]), "6n", "status and cursor position; the answer is numbers"),
    csi(
        b'?',
        b"",
        b"n",
        CsiRule::QueryFirst(&[6, 996]),
        "?996n",
        "cursor position, light or dark theme; the answer is numbers",
    ),
    csi(b'?', b"$", b"p", CsiRule::Query, "?2026$p", "asks whether a private mode is set; the answer is numbers"),
    csi(0, b"$", b"p", CsiRule::Query, "4$p", "asks whether a mode is set; the answer is numbers"),
    csi(
        0,
        b"",
        b"t",
        CsiRule::QueryFirst(&[14, 16, 18, 19]),
        "18t",
        "size of window, cell and text area; the answer is numbers",
    ),
    csi(0, b"", b"t", CsiRule::First(&[22, 23]), "22;0t", "saves and restores the title on the terminal's own stack"),
    csi(
        0,
        b"",
        b"t",
        CsiRule::Drop,
        "21t",
        "title report (typed back: CVE-2003-0063), and moving, resizing, raising, minimising the window",
    ),
    csi(b'>', b"", b"t", CsiRule::Drop, ">2t", "title modes: would turn titles into hexadecimal code"),
    csi(0, b"", b"i", CsiRule::Drop, "5i", "media copy: prints, or types the screen back"),
    csi(b'?', b"", b"i", CsiRule::Drop, "?5i", "media copy: prints, or types the screen back"),
    csi(b'?', b"", b"S", CsiRule::Drop, "?2;1;0S", "graphics attributes: sets memory sizes, asks geometry"),
    csi(b'=', b"", b"c", CsiRule::Drop, "=c", "tertiary device attributes: a unit id some terminals let programs set"),
    csi(0, b"", b"x", CsiRule::Drop, "x", "terminal parameters: an answer nobody needs"),
    csi(0, b"", b"~", CsiRule::Drop, "201~", "looks like the end of a bracketed paste; only a terminal sends it"),
    csi(0, b"*", b"y", CsiRule::Drop, "1;1;1;1;5;5*y", "checksum of a rectangle: reads what is on the screen"),
    csi(0, b"$", b"w", CsiRule::Drop, "1$w", "presentation state report: typed back"),
    csi(0, b"+", b"p", CsiRule::Drop, "+p", "secure reset and its confirmation, typed back"),
    csi(0, b"\"", b"p", CsiRule::Drop, "62;0\"p", "conformance level: switches to 8-bit controls"),
    csi(0, b"", b"]", CsiRule::Drop, "12;3]", "Linux console: switches the console, sets bell and blanking"),
    csi(0, b"", b"q", CsiRule::Drop, "1q", "keyboard lights"),
];

/// A mode of `CSI ? … h` / `CSI ? … l`.
#[derive(Debug)]
pub struct Mode {
    /// Its number.
    pub number: u16,
    /// Whether a terminal has it on before any program ran.
    pub default: bool,
    /// Whether it is put back at the end when a program left it changed.
    pub restore: bool,
    /// What it is.
    pub what: &'static str,
}

const fn mode(number: u16, default: bool, restore: bool, what: &'static str) -> Mode {
    Mode { number, default, restore, what }
}

/// Private modes a program may set and reset; the order is the order of restoring. At most 64 rows.
pub const PRIVATE_MODES: &[Mode] = &[
    mode(2026, false, true, "synchronised output"),
    mode(9, false, true, "mouse, X10"),
    mode(1000, false, true, "mouse buttons"),
    mode(1002, false, true, "mouse drag"),
    mode(1003, false, true, "mouse motion"),
    mode(1005, false, true, "mouse coordinates, UTF-8"),
    mode(1006, false, true, "mouse coordinates, SGR"),
    mode(1015, false, true, "mouse coordinates, urxvt"),
    mode(1016, false, true, "mouse coordinates, pixels"),
    mode(1004, false, true, "focus reports"),
    mode(2004, false, true, "bracketed paste"),
    mode(2031, false, true, "theme change reports"),
    mode(2048, false, true, "size change reports"),
    mode(2027, false, true, "grapheme clusters"),
    mode(6, false, true, "origin mode"),
    mode(69, false, true, "left and right margins"),
    mode(5, false, true, "reverse screen"),
    mode(7, true, true, "wrap at the margin"),
    mode(8, true, true, "key repeat"),
    mode(1, false, true, "cursor keys, application"),
    mode(66, false, true, "keypad, application"),
    mode(7727, false, true, "escape key, application; tmux turns it on"),
    mode(47, false, true, "alternate screen, old"),
    mode(1047, false, true, "alternate screen"),
    mode(1049, false, true, "alternate screen with saved cursor"),
    mode(25, true, true, "cursor visible"),
    mode(3, false, false, "132 columns; terminals ignore it unless told otherwise"),
    mode(4, false, false, "smooth scroll"),
    mode(12, false, false, "cursor blinks"),
    mode(45, false, false, "reverse wrap"),
    mode(67, false, false, "backspace key"),
    mode(1007, false, false, "wheel as cursor keys on the alternate screen"),
    mode(1034, false, false, "meta key, 8 bit; readline turns it on"),
    mode(1048, false, false, "saved cursor"),
];

/// Modes of `CSI … h` / `CSI … l` a program may set: insert mode and newline mode.
pub const ANSI_MODES: &[u16] = &[4, 20];

/// Modes that are not on the list, with the reason, for the documentation and its test.
pub const REFUSED_MODES: &[(u16, &str)] = &[
    (2, "VT52: another grammar, which this filter does not read"),
    (38, "Tektronix: another grammar"),
    (40, "allows 132 columns, which resizes the window"),
    (80, "sixel scrolling"),
    (1001, "highlight tracking: the terminal waits for the program"),
    (9001, "win32 input"),
];

/// What happens to an operating system command (`OSC`, `ESC ]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OscRule {
    /// A title: control characters are taken out, at most 255 characters.
    Title,
    /// A hyperlink: only `http`, `https`, `mailto`.
    Link,
    /// Palette: pairs of index and colour; `?` asks.
    Palette,
    /// One colour; `?` asks.
    Colour,
    /// Resets colours: a list of indices or nothing.
    Reset,
    /// `9;4`: progress, digits only.
    Progress,
    /// Dropped.
    Drop,
}

/// A row about `OSC` sequences.
#[derive(Debug)]
pub struct Osc {
    /// Its number.
    pub number: u32,
    /// What happens.
    pub rule: OscRule,
    /// An example, without `OSC` and terminator.
    pub example: &'static str,
    /// What it is, and why it passes or not.
    pub why: &'static str,
}

const fn osc(number: u32, rule: OscRule, example: &'static str, why: &'static str) -> Osc {
    Osc { number, rule, example, why }
}

/// `OSC` sequences by number; no row means dropped.
pub const OSC: &[Osc] = &[
    osc(0, OscRule::Title, "0;title", "icon and window title; cannot be read back (`CSI 21 t`)"),
    osc(1, OscRule::Title, "1;title", "icon title"),
    osc(2, OscRule::Title, "2;title", "window title"),
    osc(
        4,
        OscRule::Palette,
        "4;1;rgb:ff/00/00",
        "palette colour, and the question for it (the answer is hexadecimal); reset at the end",
    ),
    osc(
        8,
        OscRule::Link,
        "8;;https://example.com/",
        "hyperlink to http, https or mailto; a file or application link would act on the host",
    ),
    osc(9, OscRule::Progress, "9;4;1;50", "progress, digits only; any other OSC 9 is a notification and is dropped"),
    osc(
        10,
        OscRule::Colour,
        "10;?",
        "text colour, and the question for it, by which programs choose a theme; reset at the end",
    ),
    osc(11, OscRule::Colour, "11;?", "background colour, as above"),
    osc(12, OscRule::Colour, "12;#ff0000", "cursor colour, as above"),
    osc(104, OscRule::Reset, "104;1", "resets palette colours"),
    osc(110, OscRule::Reset, "110", "resets the text colour"),
    osc(111, OscRule::Reset, "111", "resets the background colour"),
    osc(112, OscRule::Reset, "112", "resets the cursor colour"),
    osc(3, OscRule::Drop, "3;WM_NAME=x", "sets X properties"),
    osc(5, OscRule::Drop, "5;0;?", "special colours"),
    osc(
        7,
        OscRule::Drop,
        "7;file://host/tmp",
        "working directory: a new tab of the user would open in a directory the jail chose",
    ),
    osc(50, OscRule::Drop, "50;?", "font: the answer carries text the program chose (CVE-2022-45063)"),
    osc(51, OscRule::Drop, "51;[\"call\",\"f\",[]]", "calls functions of the editor that hosts the terminal"),
    osc(52, OscRule::Drop, "52;c;aGk=", "clipboard: reads what the user copied, or plants what the user will paste"),
    osc(99, OscRule::Drop, "99;;hi", "notifications, with actions"),
    osc(
        133,
        OscRule::Drop,
        "133;A",
        "marks prompts and commands: would pass the jail's output off as the user's own shell",
    ),
    osc(633, OscRule::Drop, "633;E;rm", "an editor's shell integration: names commands the user may run again"),
    osc(777, OscRule::Drop, "777;notify;a;b", "notifications and extensions"),
    osc(1337, OscRule::Drop, "1337;File=inline=1:aGk=", "files, clipboard, variables, working directory"),
    osc(5113, OscRule::Drop, "5113;ac=send", "file transfer"),
    osc(5522, OscRule::Drop, "5522;type=read", "clipboard"),
];

/// An escape sequence without `CSI` or string: intermediates, final bytes, whether it passes, why.
#[derive(Debug)]
pub struct Esc {
    /// Intermediate bytes.
    pub intermediates: &'static [u8],
    /// The final bytes the row is about.
    pub finals: &'static [u8],
    /// Whether it passes.
    pub pass: bool,
    /// What it is, and why it passes or not.
    pub why: &'static str,
}

const fn esc(intermediates: &'static [u8], finals: &'static [u8], pass: bool, why: &'static str) -> Esc {
    Esc { intermediates, finals, pass, why }
}

/// Short escape sequences; no row means dropped.
pub const ESC: &[Esc] = &[
    esc(b"", b"78", true, "saves and restores the cursor"),
    esc(b"", b"69", true, "moves the columns"),
    esc(b"", b"=>", true, "keypad mode; reset at the end"),
    esc(b"", b"DEHM", true, "index, next line, tab stop, reverse index"),
    esc(b"", b"NOno|}~", true, "shifts between character sets; reset at the end"),
    esc(b"", b"c", true, "reset"),
    esc(b"(", b"0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ`", true, "first character set; reset at the end"),
    esc(b")", b"0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ`", true, "second character set"),
    esc(b"*", b"0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ`", true, "third character set"),
    esc(b"+", b"0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ`", true, "fourth character set"),
    esc(b"#", b"34568", true, "line size, alignment pattern"),
    esc(b"%", b"@G8", false, "leaves UTF-8: parts of characters would become controls"),
    esc(b" ", b"FGLMN", false, "8-bit controls in the terminal's answers"),
    esc(b"", b"Z", false, "old question for the terminal's identity"),
    esc(b"", b"lm", false, "memory lock"),
    esc(b"", b"\\", false, "end of a string that never began"),
];

/// Strings that are dropped whole: the byte after `ESC`, name, reason.
pub const STRINGS: &[(u8, &str, &str)] = &[
    (
        b'P',
        "DCS",
        "sixel and ReGIS pictures, DECRQSS and XTGETTCAP questions, function keys (DECUDK), macros, tmux control mode and pass-through, hexadecimal of everything",
    ),
    (b'X', "SOS", "no use"),
    (b'^', "PM", "no use"),
    (b'_', "APC", "kitty graphics: reads files and shared memory by name; tmux and editor commands"),
    (b'k', "title of screen", "not a string for other terminals, which would print it"),
];

/// C0 control characters that pass; the other ones are dropped.
pub const C0_PASS: &[(u8, &str)] = &[
    (0x00, "NUL: padding"),
    (0x07, "BEL"),
    (0x08, "BS"),
    (0x09, "HT"),
    (0x0a, "LF"),
    (0x0b, "VT"),
    (0x0c, "FF"),
    (0x0d, "CR"),
    (0x0e, "SO: second character set"),
    (0x0f, "SI: first character set"),
];

/// C0 control characters with a reason to drop them.
pub const C0_DROP: &[(u8, &str)] = &[
    (0x01, "SOH: starts a Kermit transfer in some terminals"),
    (0x05, "ENQ: the terminal types its answerback"),
    (0x11, "DC1: flow control"),
    (0x12, "DC2: printer"),
    (0x13, "DC3: flow control"),
    (0x14, "DC4: printer"),
    (0x18, "CAN: ends a sequence; also starts a ZMODEM transfer in some terminals"),
    (0x1a, "SUB: ends a sequence"),
    (0x7f, "DEL: ignored by terminals"),
];
