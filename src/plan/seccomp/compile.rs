//! Table → BPF: a binary search over ranges of call numbers with the same verdict.
//!
//! seccompiler's own filters list every number and search them one after the other, and one filter knows two actions
//! only. The kernel charges by the instruction at every start (it checks the program, and runs it once per number to
//! find the constant answers), so the same table costs a fraction as a tree. Its `sock_filter` and its installation are used.

use std::collections::BTreeMap;

use seccompiler::sock_filter;
use thiserror::Error;

use super::{Arch, Case, Half, Refusal, Rule, Test, UNKNOWN, Verdict, rows};

/// A compiled filter. Install it with [`seccompiler::apply_filter`].
#[derive(Debug, Clone)]
pub struct Program {
    instructions: seccompiler::BpfProgram,
}

impl Program {
    /// The instructions, for installing.
    pub fn instructions(&self) -> &[sock_filter] {
        &self.instructions
    }
}

/// Why the table cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompileError {
    /// Two rows have the same number.
    #[error("system call {number} stands twice in the table: {first} and {second}")]
    Duplicate {
        /// The number both have.
        number: u32,
        /// The row that came first.
        first: &'static str,
        /// The row that came second.
        second: &'static str,
    },
    /// A rule that is longer than a jump reaches (255 instructions).
    #[error("the rule for system call {name} is too long")]
    TooLong {
        /// The row's name.
        name: &'static str,
    },
}

// Offsets in `struct seccomp_data` (linux/seccomp.h); both architectures are little-endian.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

// Instruction codes (linux/bpf_common.h).
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Actions (linux/seccomp.h).
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_ALLOW: u32 = 0x7FFF_0000;

/// Compiles the table for `arch`.
///
/// # Errors
///
/// When two rows share a number or a rule is longer than a jump reaches.
pub fn compile(arch: Arch) -> Result<Program, CompileError> {
    compile_without(arch, &[])
}

/// The same, with some calls refused whatever the table says.
///
/// # Errors
///
/// See [`compile`].
pub fn compile_without(arch: Arch, refused: &[&str]) -> Result<Program, CompileError> {
    let mut instructions = vec![
        op(LOAD, OFFSET_ARCH),
        jump(JUMP_EQ, arch.audit(), 1, 0),
        op(RETURN, RET_KILL_PROCESS),
        op(LOAD, OFFSET_NUMBER),
    ];
    instructions.extend(tree(&ranges(arch, refused)?));
    Ok(Program { instructions })
}

/// The first number of a range, and the code that decides for all of it.
struct Range {
    start: u32,
    code: Vec<sock_filter>,
}

/// Splits all 32-bit numbers into ranges; those of x32 and of newer kernels are the last one.
fn ranges(arch: Arch, refused: &[&str]) -> Result<Vec<Range>, CompileError> {
    let mut by_number = BTreeMap::new();
    for row in rows() {
        let Some(number) = row.number(arch) else {
            continue;
        };
        if let Some(first) = by_number.insert(number, row) {
            return Err(CompileError::Duplicate { number, first: first.name, second: row.name });
        }
    }
    let mut ranges: Vec<Range> = Vec::new();
    let mut push = |start: u32, code: Vec<sock_filter>| {
        if ranges.last().is_none_or(|last| last.code != code) {
            ranges.push(Range { start, code });
        }
    };
    let mut next = 0;
    for (number, row) in by_number {
        if number > next {
            push(next, vec![ret(UNKNOWN)]);
        }
        let refused = refused.contains(&row.name).then_some(Rule::Always(Verdict::Refuse(Refusal::Perm)));
        push(number, rule(row.name, refused.unwrap_or(row.rule))?);
        next = number + 1;
    }
    push(next, vec![ret(UNKNOWN)]);
    Ok(ranges)
}

/// A balanced tree of comparisons; the accumulator holds the number.
fn tree(ranges: &[Range]) -> Vec<sock_filter> {
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let ([_, ..], [middle, ..]) = (below, above) else {
        return above.first().map(|range| range.code.clone()).unwrap_or_default();
    };
    let (left, right) = (tree(below), tree(above));
    let mut code = Vec::with_capacity(left.len() + right.len() + 2);
    match u8::try_from(left.len()) {
        Ok(distance) => code.push(jump(JUMP_GE, middle.start, distance, 0)),
        Err(_) => {
            code.push(jump(JUMP_GE, middle.start, 0, 1));
            code.push(op(JUMP, left.len() as u32));
        }
    }
    code.extend(left);
    code.extend(right);
    code
}

fn rule(name: &'static str, rule: Rule) -> Result<Vec<sock_filter>, CompileError> {
    match rule {
        Rule::Always(verdict) => Ok(vec![ret(verdict)]),
        Rule::Args { cases, otherwise } => {
            let mut code = Vec::new();
            for case in cases {
                code.extend(self::case(case).ok_or(CompileError::TooLong { name })?);
            }
            code.push(ret(otherwise));
            Ok(code)
        }
    }
}

/// All tests, then the verdict; a test that fails jumps past the end. `None` where a jump does not reach.
fn case(case: &Case) -> Option<Vec<sock_filter>> {
    let mut code = vec![ret(case.verdict)];
    for test in case.when.iter().rev() {
        let mut with_test = self::test(test, code.len())?;
        with_test.extend(code);
        code = with_test;
    }
    Some(code)
}

/// One test followed by `rest` instructions: falls through when it holds, else jumps past them.
fn test(test: &Test, rest: usize) -> Option<Vec<sock_filter>> {
    let half = match test.half {
        Half::Low => 0,
        Half::High => 4,
    };
    let mut code = vec![op(LOAD, OFFSET_ARGS + 8 * u32::from(test.arg) + half)];
    if test.mask != u32::MAX {
        code.push(op(AND, test.mask));
    }
    for (i, value) in test.values.iter().enumerate() {
        let to_end = test.values.len() - 1 - i;
        let past = u8::try_from(to_end + rest).ok()?;
        let to_end = u8::try_from(to_end).ok()?;
        code.push(match (test.among, to_end) {
            (true, 0) => jump(JUMP_EQ, *value, 0, past),
            (true, _) => jump(JUMP_EQ, *value, to_end, 0),
            (false, _) => jump(JUMP_EQ, *value, past, 0),
        });
    }
    Some(code)
}

fn ret(verdict: Verdict) -> sock_filter {
    op(
        RETURN,
        match verdict {
            Verdict::Allow => RET_ALLOW,
            Verdict::Refuse(refusal) => RET_ERRNO | u32::from(refusal.errno()),
        },
    )
}

fn op(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
