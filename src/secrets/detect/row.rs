//! A row of the table of detectors.

use crate::secrets::finding::Extent;
use crate::secrets::substitute::Checksum;

/// Groups of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Clouds and what runs on them.
    Cloud,
    /// Platforms that deploy and host.
    Platform,
    /// Forges and continuous integration.
    Forge,
    /// Package registries.
    Registry,
    /// Chat, mail and telephony.
    Message,
    /// Payment and commerce.
    Payment,
    /// Model providers.
    Model,
    /// Databases, monitoring, identity and other services.
    Service,
    /// Private keys.
    Key,
    /// Credentials inside addresses, headers and the files of tools.
    Login,
    /// Assignments to telling names.
    Assignment,
}

impl Group {
    /// All, in the order of the documentation.
    pub const ALL: [Self; 11] = [
        Self::Cloud,
        Self::Platform,
        Self::Forge,
        Self::Registry,
        Self::Message,
        Self::Payment,
        Self::Model,
        Self::Service,
        Self::Key,
        Self::Login,
        Self::Assignment,
    ];

    /// The heading in the documentation.
    pub fn title(self) -> &'static str {
        match self {
            Self::Cloud => "Clouds",
            Self::Platform => "Platforms",
            Self::Forge => "Forges and continuous integration",
            Self::Registry => "Package registries",
            Self::Message => "Chat, mail and telephony",
            Self::Payment => "Payment and commerce",
            Self::Model => "Model providers",
            Self::Service => "Databases, monitoring, identity and other services",
            Self::Key => "Private keys",
            Self::Login => "Addresses, headers and files of tools",
            Self::Assignment => "Assignments",
        }
    }
}

/// How a row's expression stands to its keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It begins where the keyword begins, and no letter, digit or `_` stands before it.
    At,
    /// It begins where the keyword begins, which may be part of a longer word; letter case of the keyword does not count.
    Near,
    /// It is searched for from so many bytes before the keyword on: the keyword stands inside the value.
    Within(usize),
    /// The keyword is part of a name to which a value is assigned; no expression, the code of `assign.rs` reads it.
    Assigned,
}

/// What is verified beyond the expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Nothing.
    None,
    /// The last six characters are the CRC-32 in base 62 of what stands between the prefix and them.
    Crc32Base62,
    /// Header and payload are JSON in base64url, as RFC 7519 section 7.2 has it.
    Jwt,
    /// It is base64 of this many bytes.
    Base64(usize),
    /// The checksum of Bech32 (BIP 173).
    Bech32,
    /// It decodes from base64 to `user:password`, as RFC 7617 has it.
    BasicAuth,
}

/// One kind of secret: how it is found, and what of it stays in a placeholder.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Short stable name, used in reports.
    pub id: &'static str,
    /// Group in the documentation.
    pub group: Group,
    /// What it is.
    pub what: &'static str,
    /// Words one of which stands in every match; the search for them comes first.
    pub keywords: &'static [&'static str],
    /// The expression, in the syntax of the regex crate without Unicode. The value is the first group, or all of it.
    pub regex: &'static str,
    /// How the expression stands to the keyword.
    pub how: How,
    /// Bytes at the beginning of the value that stay, by which tools recognise its kind.
    pub prefix: usize,
    /// What is verified.
    pub verify: Verify,
    /// Least entropy of the value without its prefix, in tenths of a bit per character.
    pub entropy: u8,
    /// How much of the file is hidden.
    pub extent: Extent,
    /// How many bytes from the keyword on may belong to a match.
    pub window: usize,
    /// Whether the value may be written in words, so that only placeholders are left out and nothing is measured.
    pub words: bool,
}

impl Row {
    /// A row whose expression begins with a keyword: a token with a prefix of its own.
    pub const fn at(
        id: &'static str,
        what: &'static str,
        prefix: usize,
        keywords: &'static [&'static str],
        regex: &'static str,
    ) -> Self {
        Self {
            id,
            group: Group::Service,
            what,
            keywords,
            regex,
            how: How::At,
            prefix,
            verify: Verify::None,
            entropy: 30,
            extent: Extent::Value,
            window: 512,
            words: false,
        }
    }

    /// A row for values without a mark of their own, near the name of what they belong to.
    pub const fn near(
        id: &'static str,
        what: &'static str,
        keywords: &'static [&'static str],
        regex: &'static str,
    ) -> Self {
        Self { how: How::Near, ..Self::at(id, what, 0, keywords, regex) }
    }

    /// A row for values with a keyword inside, which begin at most `back` bytes before it.
    pub const fn within(
        id: &'static str,
        what: &'static str,
        back: usize,
        keywords: &'static [&'static str],
        regex: &'static str,
    ) -> Self {
        Self { how: How::Within(back), ..Self::at(id, what, 0, keywords, regex) }
    }

    /// A row for assignments to names that contain a keyword.
    pub const fn assigned(id: &'static str, what: &'static str, keywords: &'static [&'static str]) -> Self {
        Self { how: How::Assigned, group: Group::Assignment, ..Self::at(id, what, 0, keywords, "") }
    }

    /// With something to verify.
    pub const fn verify(self, verify: Verify) -> Self {
        Self { verify, ..self }
    }

    /// With another least entropy, in tenths of a bit per character.
    pub const fn entropy(self, entropy: u8) -> Self {
        Self { entropy, ..self }
    }

    /// With another window.
    pub const fn window(self, window: usize) -> Self {
        Self { window, ..self }
    }

    /// Whose finding hides the whole file.
    pub const fn whole_file(self) -> Self {
        Self { extent: Extent::File, ..self }
    }

    /// Whose values may be words, as passwords are.
    pub const fn words(self) -> Self {
        Self { words: true, entropy: 0, ..self }
    }

    /// With a prefix to keep.
    pub const fn keep(self, prefix: usize) -> Self {
        Self { prefix, ..self }
    }

    /// The checksum that a placeholder has to carry.
    pub const fn checksum(&self) -> Checksum {
        match self.verify {
            Verify::Crc32Base62 => Checksum::Crc32Base62,
            _ => Checksum::None,
        }
    }
}
