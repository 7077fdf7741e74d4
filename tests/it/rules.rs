//! Rules of policy files about requests: what is refused, and with which words.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::policy::{refused, said};

#[test]
fn every_mistake_in_a_rule_is_named_with_its_place() {
    let below =
        "name whose hosts are meant: `*.example.com` is one label below, `.example.com` the domain and all below";
    said(&[
        ("[[allow]]\nhost = \"*\"", "2:8: host pattern \"*\" has a wildcard that is not a whole leading label", below),
        (
            "[[allow]]\nhost = \"*.com\"",
            "2:8: host pattern \"*.com\" covers the public suffix \"com\", below which anyone can have a name",
            below,
        ),
        ("[[allow]]\nhost = \"\"", "2:8: a host name is empty", ""),
        (
            "[[allow]]\nhost = \"https://a.example.com\"",
            "2:8: host \"https://a.example.com\" contains '/'; a host name is expected, not a URL",
            "write host = \"a.example.com\"",
        ),
        (
            "[[allow]]\nhost = \"http://a.example.com:8080/v1?x#y\"",
            "2:8: host \"http://a.example.com:8080/v1?x#y\" contains '/'; a host name is expected, not a URL",
            "write host = \"a.example.com\" and ports = [8080]",
        ),
        (
            "[[allow]]\nhost = \"a.example.com:22\"",
            "2:8: host \"a.example.com:22\" contains ':'; ports are given by `ports`, IPv6 addresses in brackets",
            "write host = \"a.example.com\" and ports = [22]",
        ),
        (
            "[[allow]]\nhost = \"a.example.com\"\nports = 443",
            "3:9: expected a list, found integer 443",
            "put it in brackets: [443]",
        ),
        (
            "[[allow]]\nhost = \"a.example.com\"\nports = [\"443\"]",
            "3:10: expected a whole number, found string \"443\"",
            "without quotes: 443",
        ),
        (
            "[[allow]]\nhost = \"a.example.com\"\nresolve = \"10.0.0.7\"",
            "3:11: expected a list, found string \"10.0.0.7\"",
            "put it in brackets: [\"10.0.0.7\"]",
        ),
        (
            "[allow]\nhost = \"a.example.com\"",
            "1:1: expected a list, found a table",
            "write [[allow]] on a line of its own, and its keys below",
        ),
        (
            "deny = [\"a.example.com\"]",
            "1:9: expected a table, found string \"a.example.com\"",
            "write [[deny]] on a line of its own, and its keys below",
        ),
        ("[[allow]]\nhost = \"a.example.com\"\nports = [65536]", "3:10: port 65536 is not between 1 and 65535", ""),
        ("[[allow]]\nhost = \"a.example.com\"\nports = [0]", "3:10: port 0 is not between 1 and 65535", ""),
        ("[[allow]]\nhost = \"a.example.com\"\nports = [80, 80]", "3:14: port 80 is given twice", ""),
        (
            "[[deny]]\nhost = \"a.example.com\"\nports = []",
            "3:9: `ports` is empty, and so the rule matches nothing",
            "",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\nmethods = []",
            "3:11: `methods` is empty, and so the rule matches nothing",
            "",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\nmethods = [\"delete\"]",
            "3:12: \"delete\" is not a method; upper case is expected, such as \"GET\", or \"*\"",
            "",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\nmethods = [\"*\", \"GET\"]",
            "3:11: \"*\" is every method; nothing can stand beside it",
            "",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\npaths = []",
            "3:9: `paths` is empty, and so the rule matches nothing",
            "",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\npaths = [\"admin\"]",
            "3:10: path pattern \"admin\" does not start with `/`",
            "",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\npaths = [\"/a?b=1\"]",
            "3:10: path pattern \"/a?b=1\" contains `?` or `#`, and so matches nothing; patterns are compared without the query",
            "",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\npaths = [\"/a/../b\"]",
            "3:10: path pattern \"/a/../b\" has an empty, `.` or `..` segment, and so matches nothing",
            "",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\npaths = [\"/%61\"]",
            "3:10: path pattern \"/%61\" contains `%` or a backslash, and so matches nothing; patterns are compared with the decoded path",
            "",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\npaths = [\"/a**\"]",
            "3:10: path pattern \"/a**\" has `**` beside other characters; `**` stands for whole segments",
            "",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\ngraphql = { }",
            "3:11: `graphql` names no field, and so the rule matches nothing",
            "",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\ngraphql = { mutation = [\"a b\"] }",
            "3:25: \"a b\" is not a pattern of GraphQL fields; letters, digits, `_` and `*` are expected",
            "",
        ),
        (
            "[[allow]]\nhost = \"a.example.com\"\ngit = \"fetch\"\nmethods = [\"GET\"]",
            "4:11: `methods` and `git` cannot be in the same rule",
            "`git` says which requests it covers; write two rules if both are meant",
        ),
        (
            "[[allow]]\nhost = \"a.example.com\"\ntunnel = true\npaths = [\"/a\"]",
            "4:9: `paths` needs a look inside, but `tunnel` says that there is none",
            "leave out one of the two",
        ),
        (
            "[[allow]]\nhost = \"*.example.com\"\nresolve = [\"127.0.0.1\"]",
            "3:11: `resolve` needs a single host name, not a pattern or an address",
            "",
        ),
        (
            "[[allow]]\nhost = \"a.example.com\"\nresolve = [\"localhost\"]",
            "3:12: \"localhost\" is not an IP address",
            "",
        ),
        (
            "[[allow]]\nhost = \"a.example.com\"\nca = \"../ca.pem\"",
            "3:6: path \"../ca.pem\" has an empty, `.` or `..` part; a path relative to the workspace is expected",
            "",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\n[[deny]]\nhost = \"a.example.com\"",
            "4:8: this rule is given twice; it is in line 2 already",
            "",
        ),
        (
            "[[allow]]\nhost = \"a.example.com\"\n[[deny]]\nhost = \"a.example.com\"",
            "2:8: this rule allows nothing: line 4 denies everything to the same host",
            "leave out one of the two",
        ),
        (
            "[[allow]]\nhost = \"a.example.com\"\ntunnel = \"raw\"",
            "3:10: `tunnel = \"raw\"` passes any bytes on, and so it needs `ports`",
            "name the ports, such as ports = [22]",
        ),
        (
            "[[allow]]\nhost = \"a.example.com\"\ntunnel = \"all\"",
            "3:10: invalid value: string \"all\", expected true, false or \"raw\"",
            "",
        ),
        (
            "[[allow]]\nhost = \"a.example.com\"\ntunnel = 1",
            "3:10: expected true, false or \"raw\", found integer 1",
            "",
        ),
        ("[[allow]]\nhost = \"a.example.com\"\nconnections = 0", "3:15: 0 is not between 1 and 65536", ""),
        (
            "[[allow]]\nhost = \"192.0.2.7\"\nresolve = [\"127.0.0.1\"]",
            "3:11: `resolve` needs a single host name, not a pattern or an address",
            "",
        ),
        (
            "[[allow]]\nhost = \"a.example.com\"\nresolve = [\"0.0.0.0\"]",
            "3:12: \"0.0.0.0\" is no address of a host, and so nothing answers there",
            "",
        ),
        (
            "[[allow]]\nhost = \"169.254.169.254\"\ntunnel = true",
            "2:8: address 169.254.169.254 is a cloud's metadata service, which hands out the machine's credentials",
            "only a rule for a name with `resolve` can open it, in your own policy",
        ),
        (
            "[[allow]]\nhost = \"[::ffff:a9fe:a9fe]\"",
            "2:8: address 169.254.169.254 is a cloud's metadata service, which hands out the machine's credentials",
            "only a rule for a name with `resolve` can open it, in your own policy",
        ),
        ("[[allow]]\nhost = \"0.0.0.0\"", "2:8: address 0.0.0.0 is no address of a host", ""),
        (
            "[[allow]]\nhost = \"10.0.0.0/8\"",
            "2:8: host \"10.0.0.0/8\" contains '/'; a host name is expected, not a URL",
            "there are no ranges of addresses: a rule names one, or a name with `resolve`",
        ),
        ("[limits]\nconnections = 0", "2:15: 0 is not between 1 and 65536", ""),
    ]);
}

/// Keys that are understood and not kept yet, each in a rule that is right otherwise.
#[test]
fn what_needs_a_look_inside_is_refused_with_its_place() {
    let whole = "let the rule cover the whole host";
    let tunnel = "say `tunnel = true` to allow the whole host unseen, or leave the rule out";
    for (key, value, in_allow_only) in [
        ("paths", "[\"/repos/acme/**\"]", false),
        ("methods", "[\"GET\", \"POST\"]", false),
        ("methods", "[\"*\"]", false),
        ("git", "\"fetch\"", false),
        ("graphql", "{ query = [\"*\"] }", false),
        ("ca", "\"certs/test-ca.pem\"", true),
    ] {
        for (verb, hint) in [("allow", tunnel), ("ask", whole), ("deny", whole)] {
            if in_allow_only && verb != "allow" {
                continue;
            }
            let text = format!("[[{verb}]]\nhost = \"a.example.com\"\n{key} = {value}\n");
            let column = key.len() + 4;
            let message = format!("3:{column}: `{key}` is not enforced by this version yet");
            assert_eq!(refused(&text), (message, hint.to_owned()), "{text}");
        }
    }
}
