//! The rows, by topic, and the rules that look at arguments.

mod args;
mod files;
mod kernel;
mod memory;
mod net;
mod process;

use super::{Refusal, Row, Rule, Verdict};

pub(super) const SECTIONS: &[(&str, &[Row])] = &[
    ("Files and descriptors", files::ROWS),
    ("Processes", process::ROWS),
    ("Memory", memory::ROWS),
    ("Sockets and messages", net::ROWS),
    ("Time and administration", kernel::ROWS),
];

const ALLOW: Rule = Rule::Always(Verdict::Allow);
const EPERM: Rule = Rule::Always(Verdict::Refuse(Refusal::Perm));
const ENOSYS: Rule = Rule::Always(Verdict::Refuse(Refusal::NoSys));
const EOPNOTSUPP: Rule = Rule::Always(Verdict::Refuse(Refusal::OpNotSupp));

/// `row!(SYS_name x86-64 aarch64, rule, "why")`, with `-` where the call does not exist. The number is checked against
/// `libc` when the program is built for that architecture; `new name` marks calls for which `libc` lacks a constant.
macro_rules! row {
    (new $name:ident $x86_64:tt $aarch64:tt, $rule:expr, $why:literal) => {
        Row {
            name: stringify!($name),
            x86_64: row!(@number $x86_64),
            aarch64: row!(@number $aarch64),
            rule: $rule,
            why: $why,
        }
    };
    ($name:ident $x86_64:tt $aarch64:tt, $rule:expr, $why:literal) => {{
        #[cfg(target_arch = "x86_64")]
        row!(@check $name $x86_64);
        #[cfg(target_arch = "aarch64")]
        row!(@check $name $aarch64);
        Row {
            name: stringify!($name).split_at("SYS_".len()).1,
            x86_64: row!(@number $x86_64),
            aarch64: row!(@number $aarch64),
            rule: $rule,
            why: $why,
        }
    }};
    (@number -) => { None };
    (@number $number:literal) => { Some($number) };
    (@check $name:ident -) => {};
    (@check $name:ident $number:literal) => { const _: () = assert!(nix::libc::$name == $number); };
}
use row;
