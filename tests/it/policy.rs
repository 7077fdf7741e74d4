//! The policy language: what is refused, and with which words.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jail::policy::egress::{Methods, Ports, Rule, Tunnel};
use jail::policy::environment::{looks_secret, pattern_covers};
use jail::policy::{Origin, Sourced};

use crate::config::World;

/// The first line of the error for a user's policy, without the file's name, and the hint.
#[track_caller]
pub fn refused(text: &str) -> (String, String) {
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
            "1:2: unknown key \"filesytem\", expected one of \"extends\", \"workspace\", \"filesystem\", \"secrets\", \"environment\", \"limits\", \"allow\", \"ask\", \"deny\", \"publish\", \"credential\", \"credentials\"",
            "did you mean \"filesystem\"?",
        ),
        (
            "[[deny]]\nhost = \"a.example.com\"\ntunnel = true",
            "3:1: unknown key \"tunnel\", expected one of \"host\", \"ports\", \"paths\", \"methods\", \"git\", \"graphql\"",
            "",
        ),
        ("[filesystem]\nread = \"~/x\"", "2:8: expected a list, found string \"~/x\"", "put it in brackets: [\"~/x\"]"),
        ("[filesystem]\nread = [\"~/a\", 5]", "2:16: expected a string, found integer 5", ""),
        ("[limits]\nmemory = 8", "2:10: expected a string, found integer 8", ""),
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
            "2:8: the credential is nowhere inside: it has no `env` and no `file`",
            "name the variable that holds a placeholder inside: env = \"API_TOKEN\"",
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
        ("[environment]\nset = { CI = 1 }", "2:14: expected a string, found integer 1", ""),
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
            "2:13: expected a whole number, found integer 18446744073709551616",
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
        // Profiles.
        ("extends = [\"rsut\"]", "1:12: unknown profile \"rsut\"", "did you mean \"rust\"?"),
        (
            "extends = [\"../x\"]",
            "1:12: \"../x\" is not a profile's name; letters, digits, `-` and `_` are expected",
            "",
        ),
    ];
    said(&cases);
}

/// Text, first line of the error, hint: each as the program says it.
#[track_caller]
pub fn said(cases: &[(&str, &str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(text, message, hint)| (text, ((*message).to_owned(), (*hint).to_owned()), refused(text)))
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
connections = 100
connect_time = "5s"
idle_time = "10m"
[[allow]]
host = "api.github.com"
[[allow]]
host = "github.com"
ports = [22]
tunnel = "raw"
connections = 2
[[allow]]
host = "backboard.railway.{app,com}"
tunnel = true
[[ask]]
host = "api.railway.app"
[[deny]]
host = "backboard.railway.app"
ports = [80]
[[allow]]
host = "api.test"
tunnel = true
resolve = ["127.0.0.1", "::ffff:10.0.0.7"]
ports = [8443]
"#,
        )
        .loaded()
        .policy;
    let limits = &policy.limits;
    assert_eq!(limits.memory.as_ref().unwrap().value, 8 << 30);
    assert_eq!(limits.cpu.as_ref().unwrap().value, 2.0);
    assert_eq!(limits.time.as_ref().unwrap().value.as_secs(), 5400);
    assert_eq!((limits.connections(), limits.connect_time().as_secs(), limits.idle_time().as_secs()), (100, 5, 600));
    let user = |rule: &&Sourced<Rule>| rule.source.origin == Origin::User;
    let own: Vec<&Rule> = policy.egress.allow.iter().filter(user).map(|rule| &rule.value).collect();
    assert_eq!(own.len(), 4);
    assert_eq!((own[0].tunnel, &own[0].methods), (Tunnel::No, &Methods::safe()));
    assert_eq!(own[0].ports, Ports::Only([80, 443].into()));
    assert_eq!((own[1].tunnel, &own[1].methods, own[1].connections), (Tunnel::Raw, &Methods::Any, Some(2)));
    assert_eq!((own[2].tunnel, &own[2].ports), (Tunnel::Named, &Ports::Only([80, 443].into())));
    assert_eq!(own[3].resolve.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1", "10.0.0.7"]);
    assert_eq!(policy.egress.ask[0].value.ports, Ports::Any);
    assert_eq!(policy.egress.deny[0].value.ports, Ports::Only([80].into()));
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
