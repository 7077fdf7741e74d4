//! Which system calls the workload may make: an allow-list as data, one row per call with its reason.
//!
//! What no row names answers `ENOSYS`, as an older kernel would, so that programs fall back. A call through a foreign
//! architecture's entry (`int 0x80`) kills the process: its numbers mean other calls. `docs/syscalls.md` is this table.

mod compile;
mod table;

use std::fmt;

use serde::Serialize;

pub use compile::{CompileError, Program, compile, compile_without};

/// A machine architecture the table has numbers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64, without its 32-bit and x32 entries.
    X86_64,
    /// 64-bit ARM, without its 32-bit entry.
    Aarch64,
}

impl Arch {
    /// The architecture this program was built for; `None` where there is no table.
    pub const NATIVE: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(Self::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Aarch64)
    } else {
        None
    };

    /// The kernel's identifier (`AUDIT_ARCH_*` in `linux/audit.h`) that every call carries.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xC000_003E,
            Self::Aarch64 => 0xC000_00B7,
        }
    }
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The kernel carries it out.
    Allow,
    /// The call returns this error and does nothing.
    Refuse(Refusal),
}

/// The errors a refused call can answer; chosen so that programs take their own fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Refusal {
    /// "Operation not permitted": known, and refused.
    #[serde(rename = "EPERM")]
    Perm,
    /// "Function not implemented": as a kernel without it.
    #[serde(rename = "ENOSYS")]
    NoSys,
    /// "Invalid argument": as a file system or kernel that does not know the flag.
    #[serde(rename = "EINVAL")]
    Inval,
    /// "Device or resource busy".
    #[serde(rename = "EBUSY")]
    Busy,
    /// "Operation not supported".
    #[serde(rename = "EOPNOTSUPP")]
    OpNotSupp,
    /// "Protocol not supported".
    #[serde(rename = "EPROTONOSUPPORT")]
    ProtoNoSupport,
    /// "Address family not supported".
    #[serde(rename = "EAFNOSUPPORT")]
    AfNoSupport,
}

impl Refusal {
    /// The error number (the same on every architecture of [`Arch`]).
    pub const fn errno(self) -> u16 {
        match self {
            Self::Perm => 1,
            Self::Busy => 16,
            Self::Inval => 22,
            Self::NoSys => 38,
            Self::ProtoNoSupport => 93,
            Self::OpNotSupp => 95,
            Self::AfNoSupport => 97,
        }
    }

    /// The error's symbolic name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Perm => "EPERM",
            Self::Busy => "EBUSY",
            Self::Inval => "EINVAL",
            Self::NoSys => "ENOSYS",
            Self::ProtoNoSupport => "EPROTONOSUPPORT",
            Self::OpNotSupp => "EOPNOTSUPP",
            Self::AfNoSupport => "EAFNOSUPPORT",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Refuse(refusal) => refusal.name(),
        })
    }
}

/// The verdict for every number that no row names.
pub const UNKNOWN: Verdict = Verdict::Refuse(Refusal::NoSys);

/// One system call of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The kernel's name of the call.
    pub name: &'static str,
    /// Its number on x86-64, if it exists there.
    pub x86_64: Option<u32>,
    /// Its number on 64-bit ARM, if it exists there.
    pub aarch64: Option<u32>,
    /// What happens to it.
    pub rule: Rule,
    /// Who needs it, or what refusing it stops.
    pub why: &'static str,
}

impl Row {
    /// The call's number on `arch`, if it exists there.
    pub const fn number(&self, arch: Arch) -> Option<u32> {
        match arch {
            Arch::X86_64 => self.x86_64,
            Arch::Aarch64 => self.aarch64,
        }
    }
}

/// How a row decides.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// By the number alone; the kernel remembers such an answer and never runs the filter again for it.
    Always(Verdict),
    /// By the arguments: the first case whose tests all hold decides, else `otherwise`.
    Args {
        /// Tried in order.
        cases: &'static [Case],
        /// When no case holds.
        otherwise: Verdict,
    },
}

/// One case of a rule that looks at arguments.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// All of these must hold.
    pub when: &'static [Test],
    /// What happens then.
    pub verdict: Verdict,
    /// The case in words.
    pub why: &'static str,
}

/// One test of one half of one argument: `(word & mask)` is among `values`, or is not.
///
/// Arguments arrive as 64 bits of which the kernel often takes 32. A test therefore names the half it looks at, and a
/// rule that *allows* on the low half of an argument the kernel takes whole must test the high half as well.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// Which argument, from 0.
    pub arg: u8,
    /// Which half of it.
    pub half: Half,
    /// Bits that count.
    pub mask: u32,
    /// The values compared with.
    pub values: &'static [u32],
    /// True: the test holds when the value is among them. False: when it is not.
    pub among: bool,
}

impl Test {
    /// Whether the test holds for these arguments.
    pub fn holds(&self, args: &[u64; 6]) -> bool {
        let [low, high] = halves(args[usize::from(self.arg)]);
        let word = match self.half {
            Half::Low => low,
            Half::High => high,
        };
        self.values.contains(&(word & self.mask)) == self.among
    }
}

/// Half of a 64-bit argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Bits 0 to 31.
    Low,
    /// Bits 32 to 63.
    High,
}

const fn halves(value: u64) -> [u32; 2] {
    [(value & 0xFFFF_FFFF) as u32, (value >> 32) as u32]
}

/// The sections of the table, in the order of `docs/syscalls.md`: a title and its rows.
pub fn sections() -> &'static [(&'static str, &'static [Row])] {
    table::SECTIONS
}

/// All rows of the table.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    table::SECTIONS.iter().flat_map(|(_, rows)| rows.iter())
}

/// What the table says about a call, straight from the rows: the meaning that [`compile`] must keep.
pub fn verdict(arch: Arch, number: u32, args: &[u64; 6]) -> Verdict {
    let Some(row) = rows().find(|row| row.number(arch) == Some(number)) else {
        return UNKNOWN;
    };
    match row.rule {
        Rule::Always(verdict) => verdict,
        Rule::Args { cases, otherwise } => cases
            .iter()
            .find(|case| case.when.iter().all(|test| test.holds(args)))
            .map_or(otherwise, |case| case.verdict),
    }
}

/// The system-call filter as the plan shows it: plain numbers, the program itself is compiled just before the launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeccompPlan {
    /// For which machine.
    pub arch: Arch,
    /// Calls allowed by their number alone.
    pub allowed: usize,
    /// Calls whose arguments decide.
    pub by_argument: Vec<&'static str>,
    /// Calls known and refused.
    pub refused: Vec<&'static str>,
}

impl SeccompPlan {
    /// Summarises the table for `arch`.
    pub fn new(arch: Arch) -> Self {
        let mut plan = Self { arch, allowed: 0, by_argument: Vec::new(), refused: Vec::new() };
        for row in rows().filter(|row| row.number(arch).is_some()) {
            match row.rule {
                Rule::Always(Verdict::Allow) => plan.allowed += 1,
                Rule::Always(Verdict::Refuse(_)) => plan.refused.push(row.name),
                Rule::Args { .. } => plan.by_argument.push(row.name),
            }
        }
        plan
    }

    /// Compiles the program that the workload installs.
    ///
    /// # Errors
    ///
    /// When the table contradicts itself; `tests/it/seccomp.rs` shows that it does not.
    pub fn compile(&self) -> Result<Program, CompileError> {
        compile(self.arch)
    }
}

/// The machine's architecture; error where there is no table for it.
pub fn native_arch() -> crate::error::Result<Arch> {
    Arch::NATIVE.ok_or_else(|| {
        crate::error::Error::setup("there is no system-call table for this processor")
            .hint("jail runs on x86_64 and aarch64")
    })
}
