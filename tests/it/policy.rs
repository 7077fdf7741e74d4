//! The policy language: what is refused, and with which words.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jail::policy::egress::{Methods, Ports};
use jail::policy::environment::{looks_secret, pattern_covers};

use crate::config::World;

/// The first line of the error for a user's policy, without the file's name, and the hint.
#[track_caller]
fn refused(text: &str) -> (String, String) {
    let world = World::new().user(text);
    let error = world.load().err().unwrap_or_else(|| panic!("accepted:\n{text}"));
    let file = format!("{}:", world.user_file().display());
    let message = error.to_string();
    let first = message.lines().next().unwrap_or_default();
    let first = first.strip_prefix(&file).unwrap_or_else(|| panic!("no place in {first:?}"));
    (first.replace(&world.home().display().to_string(), "HOME"), error.hint_text().unwrap_or_default().to_owned())
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let cases = [
        // Shape.
        (
            "[filesystem]\nwirte = []",
            "2:1: unknown key \"wirte\", expected one of \"read\", \"write\", \"hide\", \"reveal\", \"cache\", \"protect\", \"unprotect\"",
            "did you mean \"write\"?",
        ),
        (
            "[filesytem]\n",
            "1:2: unknown key \"filesytem\", expected one of \"extends\", \"workspace\", \"filesystem\", \"secrets\", \"environment\", \"limits\", \"allow\", \"ask\", \"deny\", \"credential\"",
            "did you mean \"filesystem\"?",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\ntunnel = true",
            "3:1: unknown key \"tunnel\", expected one of \"host\", \"ports\", \"paths\", \"methods\", \"git\", \"graphql\"",
            "",
        ),
        ("[filesystem]\nread = \"~/x\"", "2:8: expected a list, found string \"~/x\"", ""),
        ("[filesystem]\nread = [\"~/a\", 5]", "2:16: expected a string, found integer \"5\"", ""),
        ("[limits]\nmemory = 8", "2:10: expected a string, found integer \"8\"", ""),
        (
            "[workspace]\nmode = \"dircet\"",
            "2:8: unknown value \"dircet\", expected one of \"direct\", \"overlay\", \"read-only\"",
            "",
        ),
        ("[[allow]]\nports = [443]", "1:1: missing key \"host\"", ""),
        ("[limits]\ncpu = 1\ncpu = 2", "3:1: duplicate key", ""),
        ("extends = [\"rust\"", "1:18: unclosed array, expected \"]\"", ""),
        // What is not there yet.
        (
            "[workspace]\nmode = \"overlay\"",
            "2:8: mode = \"overlay\" is not available in this version",
            "use \"direct\" or \"read-only\"",
        ),
        (
            "[workspace]\nsnapshot = true",
            "2:12: snapshot = true is not available in this version",
            "leave it out, and commit your work before the run",
        ),
        (
            "[secrets]\nscan = \"content\"",
            "2:8: scan = \"content\" is not available in this version",
            "use \"names\", and `hide` for files with other names",
        ),
        (
            "[secrets]\non_find = \"redact\"",
            "2:11: this value of `on_find` is not available in this version",
            "use on_find = \"hide\"",
        ),
        (
            "[secrets]\nhistory = \"warn\"",
            "2:11: this value of `history` is not available in this version",
            "use history = \"off\"; secrets in git objects stay readable",
        ),
        (
            "[filesystem]\ncache = [\"~/.npm\"]",
            "2:10: `cache` is not available in this version",
            "use `read`, or `write` if the tool's writes may reach the host",
        ),
        (
            "[[credential]]\nname = \"a\"\nsource = { env = \"A\" }\nhosts = [\"a.example.com\"]",
            "2:8: `[[credential]]` is not available in this version",
            "leave it out",
        ),
        // Paths.
        ("[filesystem]\nread = [\"\"]", "2:9: a path is empty", ""),
        (
            "[filesystem]\nread = [\"a/b\"]",
            "2:9: path \"a/b\" is relative; an absolute path or one that starts with `~/` is expected",
            "",
        ),
        ("[filesystem]\nread = [\"~bob/a\"]", "2:9: path \"~bob/a\" names another user's home; `~/` is expected", ""),
        (
            "[filesystem]\nread = [\"$HOME/a\"]",
            "2:9: path \"$HOME/a\" contains a variable; variables are not replaced",
            "write `~/` for the home directory",
        ),
        ("[filesystem]\nread = [\"~/a/../b\"]", "2:9: path \"~/a/../b\" contains `..`", ""),
        (
            "[filesystem]\nread = [\"~/*\"]",
            "2:9: path \"~/*\" contains a wildcard; a plain path is expected",
            "name the directory itself; globs work in `hide` and `reveal`",
        ),
        ("[filesystem]\nread = [\"~/a\\u0000b\"]", "2:9: path \"~/a\\0b\" contains a control character", ""),
        (
            "[filesystem]\nread = [\"~/a\", \"~/b\", \"~/a/\"]",
            "2:23: \"~/a/\" is given twice; it is in line 2 already",
            "",
        ),
        (
            "[filesystem]\nread = [\"/\"]",
            "2:9: path \"/\" is the whole file system",
            "name the directory that is needed, such as `~/.cargo/bin`",
        ),
        (
            "[filesystem]\nread = [\"~\"]",
            "2:9: path \"HOME\" is the whole home directory",
            "name the directory that is needed, such as `~/.cargo/bin`",
        ),
        (
            "[filesystem]\nwrite = [\"/tmp\"]",
            "2:10: path \"/tmp\" contains the home directory",
            "name the directory that is needed, such as `~/.cargo/bin`",
        ),
        (
            "[filesystem]\nread = [\"/etc/\"]",
            "2:9: path \"/etc\" is too broad",
            "name the directory that is needed, such as `~/.cargo/bin`",
        ),
        (
            "[filesystem]\nread = [\"/root\"]",
            "2:9: path \"/root\" is too broad",
            "name the directory that is needed, such as `~/.cargo/bin`",
        ),
        (
            "[filesystem]\nread = [\"/boot\"]",
            "2:9: path \"/boot\" is too broad",
            "name the directory that is needed, such as `~/.cargo/bin`",
        ),
        (
            "[filesystem]\nread = [\"/proc\"]",
            "2:9: path \"/proc\" is in /proc, where the host's devices, processes and sockets are",
            "",
        ),
        (
            "[filesystem]\nread = [\"/sys/fs\"]",
            "2:9: path \"/sys/fs\" is in /sys, where the host's devices, processes and sockets are",
            "",
        ),
        (
            "[filesystem]\nread = [\"/dev\"]",
            "2:9: path \"/dev\" is in /dev, where the host's devices, processes and sockets are",
            "",
        ),
        (
            "[filesystem]\nread = [\"/run/docker.sock\"]",
            "2:9: path \"/run/docker.sock\" is in /run, where the host's devices, processes and sockets are",
            "",
        ),
        (
            "[filesystem]\nread = [\"/var/run\"]",
            "2:9: path \"/var/run\" is in /var/run, where the host's devices, processes and sockets are",
            "",
        ),
        (
            "[filesystem]\nwrite = [\"/usr/local/bin\"]",
            "2:10: path \"/usr/local/bin\" is in /usr, which the host runs programs from",
            "",
        ),
        (
            "[filesystem]\nwrite = [\"~/.config\"]",
            "2:10: path \"HOME/.config\" gives access to HOME/.config/jail, where jail keeps policies and records",
            "name the directory that is needed, such as `~/.cargo/bin`",
        ),
        (
            "[filesystem]\nread = [\"~/.local/state/jail/x\"]",
            "2:9: path \"HOME/.local/state/jail/x\" gives access to HOME/.local/state/jail, where jail keeps policies and records",
            "name the directory that is needed, such as `~/.cargo/bin`",
        ),
        // Globs and workspace paths.
        ("[filesystem]\nhide = [\"\"]", "2:9: a glob is empty", ""),
        (
            "[filesystem]\nhide = [\"/etc/*\"]",
            "2:9: glob \"/etc/*\" is absolute; a glob relative to the workspace is expected",
            "",
        ),
        ("[filesystem]\nhide = [\"a[\"]", "2:9: glob \"a[\": unclosed character class; missing ']'", ""),
        (
            "[filesystem]\nhide = [\"a{b\"]",
            "2:9: glob \"a{b\": unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
            "",
        ),
        (
            "[filesystem]\nhide = [\"a/../b\"]",
            "2:9: glob \"a/../b\" has an empty, `.` or `..` part, and so matches nothing; a glob relative to the workspace is expected",
            "",
        ),
        (
            "[filesystem]\nhide = [\"!a\"]",
            "2:9: glob \"!a\" starts with `!`; a glob relative to the workspace is expected",
            "globs are not negated here",
        ),
        (
            "[filesystem]\nreveal = [\"**/*\"]",
            "2:11: glob \"**/*\" covers every file",
            "name the files that are to stay visible",
        ),
        ("[filesystem]\nhide = [\"a\"]\nreveal = [\"a\"]", "3:11: \"a\" is in `hide` and in `reveal`", ""),
        (
            "[filesystem]\nprotect = [\"*.sh\"]",
            "2:12: path \"*.sh\" contains a wildcard; a path relative to the workspace is expected",
            "",
        ),
        (
            "[filesystem]\nprotect = [\"x\"]\nunprotect = [\"x/\"]",
            "3:14: \"x/\" is in `protect` and in `unprotect`",
            "",
        ),
        (
            "[filesystem]\nunprotect = [\".jail.toml\"]",
            "2:14: \".jail.toml\" is always protected: it is the project's policy",
            "",
        ),
        // Environment.
        (
            "[environment]\npass = [\"*\"]",
            "2:9: \"*\" covers every variable",
            "name the variables, or a prefix such as `LC_*`",
        ),
        (
            "[environment]\npass = [\"LD_PRELOAD\"]",
            "2:9: variable \"LD_PRELOAD\" never enters the jail: it runs code or reaches the host's services",
            "give it a value of its own with `set`, or name the harmless variables one by one",
        ),
        (
            "[environment]\npass = [\"L*\"]",
            "2:9: pattern \"L*\" covers LD_*, which never enters the jail",
            "give it a value of its own with `set`, or name the harmless variables one by one",
        ),
        (
            "[environment]\npass = [\"GIT_AUTHOR_*\"]",
            "2:9: pattern \"GIT_AUTHOR_*\" covers GIT_*, which never enters the jail",
            "give it a value of its own with `set`, or name the harmless variables one by one",
        ),
        (
            "[environment]\npass = [\"A B\"]",
            "2:9: \"A B\" is not a variable's name; letters, digits and `_` are expected",
            "",
        ),
        ("[environment]\npass = [\"A\"]\nremove = [\"A\"]", "3:11: \"A\" is in `pass` and in `remove`", ""),
        ("[environment]\nset = { CI = 1 }", "2:14: expected a string, found integer \"1\"", ""),
        ("[environment]\nset = { JAIL_BRIEF = \"x\" }", "2:9: variable \"JAIL_BRIEF\" is set by jail itself", ""),
        ("[environment]\nset = { A = \"a\\u0000b\" }", "2:13: the value of A contains a NUL", ""),
        // Limits.
        (
            "[limits]\nmemory = \"8\"",
            "2:10: size \"8\" is not valid; a whole number with a unit is expected, such as \"512MiB\" or \"8GiB\"",
            "",
        ),
        (
            "[limits]\nmemory = \"-1GiB\"",
            "2:10: size \"-1GiB\" is not valid; a whole number with a unit is expected, such as \"512MiB\" or \"8GiB\"",
            "",
        ),
        ("[limits]\nmemory = \"0GiB\"", "2:10: size \"0GiB\" is too small; at least \"16MiB\" is expected", ""),
        ("[limits]\nmemory = \"16777216TiB\"", "2:10: size \"16777216TiB\" is too large", ""),
        (
            "[limits]\nmemory = \"18446744073709551616KiB\"",
            "2:10: size \"18446744073709551616KiB\" is not valid; a whole number with a unit is expected, such as \"512MiB\" or \"8GiB\"",
            "",
        ),
        ("[limits]\nprocesses = -1", "2:13: -1 is not between 1 and 4194304", ""),
        ("[limits]\nprocesses = 0", "2:13: 0 is not between 1 and 4194304", ""),
        (
            "[limits]\nprocesses = 18446744073709551616",
            "2:13: expected a whole number, found integer \"18446744073709551616\" as i128",
            "",
        ),
        ("[limits]\nopen_files = 3", "2:14: 3 is not between 16 and 1048576", ""),
        ("[limits]\ncpu = 0", "2:7: 0 is not between 0.01 and 4096", ""),
        ("[limits]\ncpu = nan", "2:7: NaN is not between 0.01 and 4096", ""),
        ("[limits]\ncpu = inf", "2:7: inf is not between 0.01 and 4096", ""),
        (
            "[limits]\ntime = \"0s\"",
            "2:8: time \"0s\" is not between a second and a year; a time of at least a second is expected, such as \"90s\", \"30m\" or \"2h\"",
            "",
        ),
        (
            "[limits]\ntime = \"-2h\"",
            "2:8: time \"-2h\" is not between a second and a year; a time of at least a second is expected, such as \"90s\", \"30m\" or \"2h\"",
            "",
        ),
        (
            "[limits]\ntime = \"2 fortnights\"",
            "2:8: time \"2 fortnights\" is not valid; a time of at least a second is expected, such as \"90s\", \"30m\" or \"2h\"",
            "",
        ),
        // Rules.
        ("[[allow]]\nhost = \"*\"", "2:8: host pattern \"*\" has a wildcard that is not a whole leading label", ""),
        (
            "[[allow]]\nhost = \"*.com\"",
            "2:8: host pattern \"*.com\" covers the public suffix \"com\", below which anyone can have a name",
            "",
        ),
        ("[[allow]]\nhost = \"\"", "2:8: a host name is empty", ""),
        (
            "[[allow]]\nhost = \"https://a.example.com\"",
            "2:8: host \"https://a.example.com\" contains '/'; a host name is expected, not a URL",
            "",
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
            "4:9: `paths` needs a look inside, but `tunnel = true` says that there is none",
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
        // Profiles.
        ("extends = [\"rsut\"]", "1:12: unknown profile \"rsut\"", "did you mean \"rust\"?"),
        (
            "extends = [\"../x\"]",
            "1:12: \"../x\" is not a profile's name; letters, digits, `-` and `_` are expected",
            "",
        ),
    ];
    let wrong: Vec<String> = cases
        .into_iter()
        .map(|(text, message, hint)| (text, (message.to_owned(), hint.to_owned()), refused(text)))
        .filter(|(_, expected, found)| expected != found)
        .map(|(text, expected, found)| format!("{text}\n  expected {expected:?}\n  found    {found:?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_first_of_several_mistakes_is_reported() {
    let text = "[[deny]]\nhost = \"a..b\"\n[limits]\nmemory = \"1\"\n[filesystem]\nread = [\"x\"]\n";
    assert!(refused(text).0.starts_with("2:8: host \"a..b\""));
}

#[test]
fn an_error_shows_the_line_and_marks_the_place() {
    let world = World::new().user("# é\n[filesystem]\nread = [\"~/é\", \"/etc\"]\n");
    let message = world.load().unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "{}:3:16: path \"/etc\" is too broad\n  |\n3 | read = [\"~/é\", \"/etc\"]\n  |                ^^^^^^",
            world.user_file().display()
        )
    );
}

#[test]
fn an_error_never_carries_terminal_controls() {
    for text in
        ["[filesystem]\n\"\\u001b[2Jx\" = 1\n", "x = \"\u{202e}abc\"\n[filesystem]\nwirte = 1\n", "\u{1b}]0;x\u{7}\n"]
    {
        let message = World::new().user(text).load().unwrap_err().to_string();
        let bad: Vec<char> = message.chars().filter(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}').collect();
        assert!(bad.is_empty(), "{bad:?} in {message:?}");
    }
}

#[test]
fn a_long_line_does_not_fill_the_terminal() {
    let text = format!("[filesystem]\nread = [{}\"/etc\"]\n", "\"~/a\",".to_owned() + &" ".repeat(5000));
    let message = World::new().user(&text).load().unwrap_err().to_string();
    assert!(message.len() < 500 && message.contains("\"/etc\""), "{message}");
}

#[test]
fn the_design_s_example_is_understood() {
    let policy = World::new()
        .user(
            r#"
extends = ["cursor-agent", "rust"]
[workspace]
mode = "direct"
snapshot = false
[filesystem]
read = ["~/.gitconfig.d"]
write = ["~/.cursor"]
hide = ["**/*.tfstate"]
reveal = ["tests/fixtures/*.pem"]
[secrets]
scan = "names"
on_find = "hide"
history = "off"
[environment]
pass = ["TERM", "LANG", "LC_*"]
set = { CI = "1" }
[limits]
memory = "8GiB"
processes = 2048
cpu = 2
time = "1h 30m"
[[allow]]
host = "api.github.com"
paths = ["/repos/acme/**"]
[[allow]]
host = "github.com"
git = "fetch"
[[allow]]
host = "backboard.railway.{app,com}"
graphql = { query = ["*"] }
[[ask]]
host = "backboard.railway.{app,com}"
graphql = { mutation = ["*"] }
[[deny]]
host = "backboard.railway.{app,com}"
graphql = { mutation = ["*Delete*"] }
[[allow]]
host = "api.test"
resolve = ["127.0.0.1"]
ports = [8443]
ca = "certs/test-ca.pem"
methods = ["GET", "POST"]
"#,
        )
        .loaded()
        .policy;
    let limits = &policy.limits;
    assert_eq!(limits.memory.as_ref().unwrap().value, 8 << 30);
    assert_eq!(limits.cpu.as_ref().unwrap().value, 2.0);
    assert_eq!(limits.time.as_ref().unwrap().value.as_secs(), 5400);
    let own: Vec<_> = policy.egress.allow.iter().filter(|rule| !rule.value.tunnel).collect();
    assert_eq!(own.len(), 4);
    assert_eq!(own[0].value.methods, Methods::safe());
    assert_eq!(own[0].value.ports, Ports::Only([443].into()));
    assert_eq!(own[1].value.methods, Methods::Any);
    assert!(own[3].value.ca.as_ref().unwrap().ends_with(".config/jail/certs/test-ca.pem"));
    assert_eq!(policy.egress.ask[0].value.ports, Ports::Any);
    assert_eq!(policy.egress.deny[0].value.graphql.as_ref().unwrap().mutation, ["*Delete*"]);
}

#[test]
fn a_prefix_does_not_take_secrets_along() {
    let policy = World::new().user("[environment]\npass = [\"MYAPP_*\", \"OTHER_TOKEN\"]\n").loaded().policy;
    let environment = &policy.environment;
    for name in ["MYAPP_LEVEL", "OTHER_TOKEN", "LC_ALL", "TERM"] {
        assert!(environment.passes(name), "{name}");
    }
    for name in [
        "MYAPP_TOKEN",
        "MYAPP_API_KEY",
        "MYAPP_DB_PASSWORD",
        "MYAPP_DATABASE_URL",
        "GITHUB_TOKEN",
        "LD_PRELOAD",
        "HTTPS_PROXY",
        "SSH_AUTH_SOCK",
        "DISPLAY",
        "MYAPP",
    ] {
        assert!(!environment.passes(name), "{name}");
    }
    assert!(looks_secret("AWS_ACCESS_KEY_ID") && !looks_secret("MONKEY") && !looks_secret("PWD"));
    assert!(
        pattern_covers("LC_*", "LC_ALL")
            && pattern_covers("L*", "LC_*")
            && !pattern_covers("LC_ALL", "LC_*")
            && !pattern_covers("LC_*", "L*")
    );
}

#[test]
fn a_rule_that_looks_inside_cannot_meet_a_tunnel() {
    let tunnel = "[[allow]]\nhost = \".example.com\"\ntunnel = true\n";
    for verb in ["deny", "ask"] {
        let text = format!("{tunnel}[[{verb}]]\nhost = \"a.example.com\"\nmethods = [\"DELETE\"]\n");
        let error = World::new().user(&text).load().unwrap_err();
        assert!(error.to_string().contains(&format!("this [[{verb}]] cannot be enforced")), "{error}");
        let whole = format!("{tunnel}[[{verb}]]\nhost = \"a.example.com\"\n");
        World::new().user(&whole).loaded();
        let elsewhere =
            format!("{tunnel}[[{verb}]]\nhost = \"a.example.com\"\nports = [8443]\nmethods = [\"DELETE\"]\n");
        World::new().user(&elsewhere).loaded();
    }
}

#[test]
fn the_workload_gets_the_variables_the_policy_passes_and_no_others() {
    let policy = World::new()
        .user("[environment]\npass = [\"MY_*\", \"NAMED_TOKEN\"]\nremove = [\"MY_A\", \"LC_TIME\"]\n")
        .loaded()
        .policy;
    let host = [
        "TERM",
        "MY_A",
        "MY_B",
        "MY_TOKEN",
        "NAMED_TOKEN",
        "LC_ALL",
        "LC_TIME",
        "LD_PRELOAD",
        "GITHUB_TOKEN",
        "SSH_AUTH_SOCK",
    ];
    let host = host.map(|name| (name.into(), "from the host".into())).into_iter();
    let inside = jail::plan::environment::build(&policy.environment, host, std::path::Path::new("/home/u"), "s", &[]);
    let mut taken: Vec<_> =
        inside.iter().filter(|(_, value)| value == "from the host").map(|(name, _)| name.to_str().unwrap()).collect();
    taken.sort_unstable();
    assert_eq!(taken, ["LC_ALL", "MY_B", "NAMED_TOKEN", "TERM"]);
}
