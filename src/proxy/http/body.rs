//! How long a body is (RFC 9112 section 6), and the reader that finds its end.
//!
//! A length that two programs could read differently is refused, never repaired: that is what request smuggling is made
//! of. So there is one `Content-Length` of plain digits, or one `Transfer-Encoding` that says `chunked` and nothing else.

use std::io::Write as _;

use thiserror::Error;

use super::head::{Fields, Name, Version, is_token_byte, is_value_byte};

/// The largest length or chunk: what still fits a signed 64-bit number elsewhere.
const MAX_LENGTH: u64 = i64::MAX as u64;

/// The most bytes of a line with a chunk's size, its extensions included.
const MAX_CHUNK_LINE: usize = 256;

/// The most bytes of chunk extensions in one body. RFC 9112 section 7.1.1 asks for a limit.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// The most bytes of the trailer section.
const MAX_TRAILER: usize = 16 * 1024;

/// What ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Until the server closes the connection: responses only.
    UntilClose,
}

/// Why it is not certain how long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FramingError {
    /// `Content-Length` and `Transfer-Encoding` (RFC 9112 section 6.1).
    #[error("both Content-Length and Transfer-Encoding are given")]
    Both,
    /// A length that is not one plain number.
    #[error("Content-Length is not one plain number")]
    Length,
    /// A transfer coding other than one `chunked`.
    #[error("Transfer-Encoding is not the one word chunked")]
    Coding,
    /// RFC 9112 section 6.1: HTTP/1.0 has no transfer codings.
    #[error("Transfer-Encoding in HTTP/1.0")]
    OldVersion,
    /// A body where none may be.
    #[error("a body where none may be")]
    Unexpected,
}

/// Why a body is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyError {
    /// The line with a chunk's size.
    #[error("a chunk's size is malformed")]
    Size,
    /// A chunk, or a line between chunks, is not followed by CR LF.
    #[error("a chunk does not end in CR LF")]
    LineEnd,
    /// Extensions longer than any program needs.
    #[error("chunk extensions are too long")]
    Extensions,
    /// The fields after the last chunk.
    #[error("the trailer section is malformed")]
    Trailer,
    /// The fields after the last chunk are longer than any program needs.
    #[error("the trailer section is too long")]
    LongTrailer,
    /// The connection closed too early.
    #[error("the connection was closed before the body's end")]
    Truncated,
}

/// What the fields say about the body, before the rules for requests and responses.
pub fn declared(fields: &Fields<'_>, version: Version) -> Result<Option<Framing>, FramingError> {
    let coding = fields.only(Name::TransferEncoding).map_err(|_| FramingError::Coding)?;
    let length = fields.only(Name::ContentLength).map_err(|_| FramingError::Length)?;
    match (coding, length) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(FramingError::Both),
        (Some(_), None) if version == Version::Http10 => Err(FramingError::OldVersion),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::Chunked)),
        (Some(_), None) => Err(FramingError::Coding),
        (None, Some(length)) => decimal(length).map(|length| Some(Framing::Length(length))).ok_or(FramingError::Length),
    }
}

/// Plain decimal digits without leading zeros.
fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits.first() != Some(&b'0'));
    let number: u64 = std::str::from_utf8(plain.then_some(digits)?).ok()?.parse().ok()?;
    (number <= MAX_LENGTH).then_some(number)
}

/// What the start of a buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// So many bytes of framing come first: to be left out.
    pub skip: usize,
    /// So many bytes of the body come after them.
    pub payload: usize,
    /// Whether the body ends there. What follows is the next message.
    pub done: bool,
}

/// Finds the body in a stream, piece by piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// So many bytes are still to come.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// All there is.
    UntilClose,
}

impl Body {
    /// The reader for a body of this kind.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Whether the whole body was seen.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(rest) => *rest == 0,
            Self::Chunked(chunked) => chunked.state == State::Done,
            Self::UntilClose => false,
        }
    }

    /// How many bytes may be passed on without being looked at: the rest of a length or chunk, or everything.
    pub fn unread(&self) -> u64 {
        match self {
            Self::Length(rest) => *rest,
            Self::Chunked(chunked) if chunked.state == State::Data => chunked.rest,
            Self::Chunked(_) => 0,
            Self::UntilClose => u64::MAX,
        }
    }

    /// Notes that bytes were passed on unseen, at most as many as [`Body::unread`] said.
    pub fn passed(&mut self, bytes: u64) {
        match self {
            Self::Length(rest) => *rest = rest.saturating_sub(bytes),
            Self::Chunked(chunked) => chunked.take(bytes),
            Self::UntilClose => {}
        }
    }

    /// Looks at the next bytes of the stream. They are used up as far as the piece reaches; it is called again for the
    /// rest until the piece is empty, and then with more.
    ///
    /// # Errors
    /// See [`BodyError`]. The connection is of no use afterwards.
    pub fn next(&mut self, buf: &[u8]) -> Result<Piece, BodyError> {
        let skip = match self {
            Self::Chunked(chunked) => chunked.framing(buf)?,
            _ => 0,
        };
        let there = buf.len().saturating_sub(skip);
        let payload = usize::try_from(self.unread()).map_or(there, |unread| unread.min(there));
        self.passed(payload as u64);
        Ok(Piece { skip, payload, done: self.is_done() })
    }

    /// The connection was closed.
    ///
    /// # Errors
    /// The body is not whole.
    pub fn closed(&self) -> Result<(), BodyError> {
        match self {
            Self::UntilClose => Ok(()),
            _ if self.is_done() => Ok(()),
            _ => Err(BodyError::Truncated),
        }
    }
}

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// In the digits of a size, of which so many were seen.
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a line after the last chunk.
    Line,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

/// Reads chunks (RFC 9112 section 7.1). Extensions and trailers are checked, counted and left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunked {
    state: State,
    /// The size as read so far; then what is left of the chunk.
    rest: u64,
    /// Bytes of the current size line.
    line: usize,
    /// Bytes of extensions in the whole body.
    extensions: usize,
    /// Bytes of the trailer section.
    trailer: usize,
}

impl Chunked {
    /// Goes over framing up to the next payload or the end; says how many bytes that are.
    fn framing(&mut self, buf: &[u8]) -> Result<usize, BodyError> {
        for (at, byte) in buf.iter().enumerate() {
            if matches!(self.state, State::Data | State::Done) {
                return Ok(at);
            }
            self.state = self.step(*byte)?;
        }
        Ok(buf.len())
    }

    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::Size, b'\r') if self.line > 0 => Ok(State::SizeLf),
            // No white space between size and extension: section 7.1.1 calls it bad.
            (State::Size, b';') if self.line > 0 => self.extension(),
            (State::Size, _) => self.digit(byte),
            (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, _) if is_value_byte(byte) => self.extension(),
            (State::Extension, _) => Err(BodyError::Size),
            (State::SizeLf, b'\n') => {
                self.line = 0;
                Ok(if self.rest == 0 { State::Line } else { State::Data })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::Line, b'\r') => Ok(State::LastLf),
            (State::LastLf, b'\n') => Ok(State::Done),
            (State::Line | State::TrailerName, _) if is_token_byte(byte) => self.trailer(State::TrailerName),
            (State::TrailerName, b':') => self.trailer(State::TrailerValue),
            (State::TrailerValue, b'\r') => self.trailer(State::TrailerLf),
            (State::TrailerValue, _) if is_value_byte(byte) => self.trailer(State::TrailerValue),
            (State::TrailerLf, b'\n') => self.trailer(State::Line),
            (State::SizeLf | State::DataCr | State::DataLf, _) => Err(BodyError::LineEnd),
            (State::Line | State::LastLf | State::TrailerName | State::TrailerValue | State::TrailerLf, _) => {
                Err(BodyError::Trailer)
            }
            // `framing` stops before these.
            (state @ (State::Data | State::Done), _) => Ok(state),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<State, BodyError> {
        let digit = char::from(byte).to_digit(16).ok_or(BodyError::Size)?;
        // Sixteen digits are all that a size can need, zeros in front included.
        if self.line >= 16 {
            return Err(BodyError::Size);
        }
        self.line = self.line.saturating_add(1);
        self.rest = self.rest.checked_mul(16).and_then(|rest| rest.checked_add(digit.into())).ok_or(BodyError::Size)?;
        if self.rest > MAX_LENGTH {
            return Err(BodyError::Size);
        }
        Ok(State::Size)
    }

    fn extension(&mut self) -> Result<State, BodyError> {
        self.line = self.line.saturating_add(1);
        self.extensions = self.extensions.saturating_add(1);
        if self.line > MAX_CHUNK_LINE || self.extensions > MAX_EXTENSIONS {
            return Err(BodyError::Extensions);
        }
        Ok(State::Extension)
    }

    fn trailer(&mut self, next: State) -> Result<State, BodyError> {
        self.trailer = self.trailer.saturating_add(1);
        if self.trailer > MAX_TRAILER {
            return Err(BodyError::LongTrailer);
        }
        Ok(next)
    }

    fn take(&mut self, bytes: u64) {
        if self.state == State::Data {
            self.rest = self.rest.saturating_sub(bytes);
            if self.rest == 0 {
                self.state = State::DataCr;
            }
        }
    }
}

/// Writes one chunk. An empty payload is left out: it would end the body.
pub fn write_chunk(payload: &[u8], out: &mut Vec<u8>) {
    if payload.is_empty() {
        return;
    }
    write_chunk_head(payload.len() as u64, out);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Writes the line before a chunk's bytes, for bytes that follow without being copied. CR LF is to follow them.
pub fn write_chunk_head(length: u64, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{length:x}\r\n");
}
