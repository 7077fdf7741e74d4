//! Credentials of policy files: what is refused, and with which words.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::policy::said;

/// A credential with these lines; they begin in line 3.
macro_rules! with {
    ($lines:literal) => {
        concat!("[[credential]]\nname = \"a\"\n", $lines, "\nhosts = [\"a.example.com\"]")
    };
}

#[test]
fn every_mistake_in_a_credential_is_named_with_its_place() {
    said(&[
        ("[[credential]]\nname = \"a\"\nenv = \"A\"\nsource = { env = \"B\" }", "1:1: missing key \"hosts\"", ""),
        (
            "[[credential]]\nname = \"a\"\nenv = \"A\"\nsource = { env = \"B\" }\nhosts = []",
            "5:9: `hosts` is empty, and so the credential is of no use",
            "",
        ),
        (
            "[[credential]]\nname = \"a\"\nenv = \"A\"\nsource = { env = \"B\" }\nhosts = [\"*.com\"]",
            "5:10: host pattern \"*.com\" covers the public suffix \"com\", below which anyone can have a name",
            "name whose hosts are meant: `*.example.com` is one label below, `.example.com` the domain and all below",
        ),
        (
            with!("env = \"A\"\nsource = {}"),
            "4:10: a source has one of `env`, `file`, `command` and `keyring`",
            "source = { env = \"NAME\" }",
        ),
        (
            with!("env = \"A\"\nsource = { env = \"B\", file = \"~/b\" }"),
            "4:10: a source has one of `env`, `file`, `command` and `keyring`",
            "source = { env = \"NAME\" }",
        ),
        (
            with!("env = \"A\"\nsource = { secret-service = { service = \"b\" } }"),
            "4:29: `secret-service` is not available in this version",
            "use a program that asks it: source = { command = [\"secret-tool\", \"lookup\", \"service\", \"NAME\"] }",
        ),
        (
            with!("env = \"A\"\nsource = { command = [] }"),
            "4:22: the command is empty",
            "name a program and its arguments, one by one",
        ),
        (
            with!("env = \"A\"\nsource = { command = [\"pass show x\"] }"),
            "4:22: \"pass show x\" is one word with spaces; no shell takes it apart",
            "write the program and its arguments as words of the list",
        ),
        (
            with!("env = \"A\"\nsource = { command = [\"./x\"] }"),
            "4:22: program \"./x\" is relative; an absolute path, or a name that is looked for in PATH, is expected",
            "",
        ),
        (
            with!("env = \"A\"\nsource = { env = \"B\", timeout = \"5s\" }"),
            "4:33: `timeout` is for a `command`, and there is none",
            "",
        ),
        (
            with!("env = \"A\"\nsource = { file = \"b\" }"),
            "4:19: path \"b\" is relative; an absolute path or one that starts with `~/` is expected",
            "",
        ),
        (with!("env = \"PATH\"\nsource = { env = \"B\" }"), "3:7: variable \"PATH\" is set by jail itself", ""),
        (
            with!("file = \"/etc/a\"\nsource = { env = \"B\" }"),
            "3:8: file \"/etc/a\" is not in the home directory",
            "the jail's home is private: name a file in it, such as `~/.config/tool/token`",
        ),
        (
            with!("file = \"~/a\"\ntemplate = \"x\"\nsource = { env = \"B\" }"),
            "4:12: the template has `{}` 0 times; once is expected, where the value stands",
            "for example \"token = \\\"{}\\\"\"",
        ),
        (
            with!("env = \"A\"\ntemplate = \"{}\"\nsource = { env = \"B\" }"),
            "4:12: `template` says what `file` holds, and there is no `file`",
            "",
        ),
        (
            with!("header = \"Host: {}\"\nenv = \"A\"\nsource = { env = \"B\" }"),
            "3:10: header \"Host\" is the connection's own, or says where a request goes",
            "",
        ),
        (
            with!("header = \"X-Key: {} {}\"\nenv = \"A\"\nsource = { env = \"B\" }"),
            "3:10: the header has `{}` 2 times; once is expected, where the value stands",
            "for example \"Authorization: Bearer {}\"",
        ),
        (
            with!("header = \"X-Key: {}\"\nquery = \"key\"\nenv = \"A\"\nsource = { env = \"B\" }"),
            "4:9: `header` and `query` cannot both say where the value goes",
            "leave out one of the two",
        ),
        (
            with!("basic = \"{}\"\nenv = \"A\"\nsource = { env = \"B\" }"),
            "3:9: \"{}\" is not USER:PASSWORD",
            "for example \"oauth2:{}\" or \"{}:\"",
        ),
        (
            concat!(
                with!("env = \"A\"\nsource = { env = \"B\" }"),
                "\n",
                with!("env = \"C\"\nsource = { env = \"D\" }")
            ),
            "7:8: credential a is given twice; it is in line 2 already",
            "give it another name, or another `environment`",
        ),
    ]);
}
