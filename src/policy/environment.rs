//! Which variables enter the jail.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Sourced;

/// Which variables enter the jail. Ask [`EnvironmentPolicy::passes`]; the lists are there to be shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EnvironmentPolicy {
    /// Names, with an optional trailing `*`, taken over from the host environment.
    pub pass: Vec<Sourced<String>>,
    /// Names and patterns that are not taken over although `pass` names them.
    pub remove: Vec<Sourced<String>>,
    /// Variables set inside, whatever the host has.
    pub set: BTreeMap<String, Sourced<String>>,
}

impl EnvironmentPolicy {
    /// Whether the host's variable of this name enters the jail.
    ///
    /// What looks like a secret enters only when it is named in full: `MYAPP_*` does not take `MYAPP_TOKEN` along.
    pub fn passes(&self, name: &str) -> bool {
        if is_dangerous(name) || self.remove.iter().any(|entry| pattern_matches(&entry.value, name)) {
            return false;
        }
        self.pass
            .iter()
            .any(|entry| entry.value == name || (pattern_matches(&entry.value, name) && !looks_secret(name)))
    }
}

/// Whether a name or a `PREFIX*` pattern covers the name.
pub fn pattern_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// Whether everything `inner` covers is covered by `outer`.
pub fn pattern_covers(outer: &str, inner: &str) -> bool {
    match inner.strip_suffix('*') {
        Some(prefix) => outer.strip_suffix('*').is_some_and(|outer| prefix.starts_with(outer)),
        None => pattern_matches(outer, inner),
    }
}

/// Variables that make a program run other code, and ways to the host's services: never taken over.
pub const DANGEROUS: &[&str] = &[
    "LD_*",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "MALLOC_*",
    "LOCPATH",
    "NLSPATH",
    "RESOLV_HOST_CONF",
    "HOSTALIASES",
    "BASH_ENV",
    "BASH_FUNC_*",
    "ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PROMPT_COMMAND",
    "IFS",
    "PYTHONSTARTUP",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONINSPECT",
    "PERL5OPT",
    "PERL5LIB",
    "PERL5DB",
    "RUBYOPT",
    "RUBYLIB",
    "NODE_OPTIONS",
    "NODE_PATH",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "GIT_*",
    "SSH_*",
    "GPG_*",
    "DBUS_*",
    "DISPLAY",
    "WAYLAND_*",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "SESSION_MANAGER",
    "DOCKER_*",
    "CONTAINER_HOST",
    "KUBECONFIG",
    "TMUX",
    "STY",
    "VSCODE_*",
    "JAIL_*",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "FTP_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "ftp_proxy",
];

/// Whether the name is one that never enters the jail from outside.
pub fn is_dangerous(name: &str) -> bool {
    DANGEROUS.iter().any(|pattern| pattern_matches(pattern, name))
}

/// Whether a variable of this name commonly holds a secret.
pub fn looks_secret(name: &str) -> bool {
    const WORDS: &[&str] = &[
        "TOKEN",
        "SECRET",
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "CREDENTIAL",
        "PRIVATE",
        "APIKEY",
        "COOKIE",
        "SESSION",
        "DSN",
        "WEBHOOK",
    ];
    const PARTS: &[&str] = &["KEY", "KEYS", "PASS", "PWD", "AUTH", "PAT", "SAS", "JWT", "CERT"];
    let upper = name.to_ascii_uppercase();
    let connection = upper.contains("CONNECTION_STRING") || upper.ends_with("DATABASE_URL");
    connection
        || WORDS.iter().any(|word| upper.contains(word))
        || upper.split('_').filter(|_| upper.contains('_')).any(|part| PARTS.contains(&part))
}
