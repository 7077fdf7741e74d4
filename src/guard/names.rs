//! The table of configuration that is read-only in the jail; `docs/handoff.md` is made from it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::Placeholder;
use crate::secrets::matcher::{NameMap, fold};

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The name, or `parent/name`; at any depth outside directories of installed packages.
    pub name: &'static str,
    /// What stands in for it at the top of the workspace while it does not exist.
    pub missing: Missing,
    /// What the host does with it.
    pub what: &'static str,
}

/// What stands in for a missing name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Nothing: its creation is reported after the run.
    Reported,
    /// A read-only, empty directory.
    Directory,
    /// A read-only file with this content.
    File(&'static str),
}

const fn row(name: &'static str, missing: Missing, what: &'static str) -> Row {
    Row { name, missing, what }
}

/// The table. Covered while it is missing is what a program that already runs on the host obeys as soon as it appears.
/// The rest is reported, and for a reason: JetBrains' editors ask before they trust a project they have not opened, which
/// has no `.idea`; opencode and other agents write their own directory while they work in the jail; consoles are started
/// by hand.
pub const ROWS: &[Row] = &[
    row(".jail.toml", Missing::File("# jail: covered during the run\n"), "the project's own policy of this program"),
    row(".jail", Missing::Reported, "files of the project for this program"),
    row(".claude", Missing::Directory, "settings, hooks, commands and permissions of Claude Code"),
    row(".cursor", Missing::Directory, "rules, hooks and servers of Cursor"),
    row(".codex", Missing::Directory, "configuration of Codex"),
    row(".gemini", Missing::Directory, "settings and extensions of Gemini"),
    row(".mcp.json", Missing::File("{}\n"), "servers that agents start"),
    row("opencode.json", Missing::Reported, "configuration of opencode: servers, plugins, commands"),
    row("opencode.jsonc", Missing::Reported, "configuration of opencode"),
    row(".opencode", Missing::Reported, "plugins and commands of opencode"),
    row(".kiro", Missing::Directory, "hooks and servers of Kiro"),
    row(".windsurf", Missing::Directory, "rules and workflows of Windsurf"),
    row(".qwen", Missing::Reported, "settings of Qwen Code"),
    row(".crush", Missing::Reported, "state of Crush"),
    row(".crush.json", Missing::Reported, "configuration of Crush: servers, commands"),
    row("crush.json", Missing::Reported, "configuration of Crush: servers, commands"),
    row(".continue", Missing::Reported, "configuration of Continue"),
    row(".roo", Missing::Reported, "rules and servers of Roo Code"),
    row(".clinerules", Missing::Reported, "rules and hooks of Cline"),
    row(".amazonq", Missing::Reported, "agents and servers of Amazon Q"),
    row(".junie", Missing::Reported, "configuration of Junie"),
    row(".aider.conf.yml", Missing::Reported, "configuration of aider: lint and test commands"),
    row(".vscode", Missing::Directory, "tasks that run when the folder opens, settings that name programs"),
    row(".devcontainer", Missing::Directory, "commands run when a development container starts"),
    row(".devcontainer.json", Missing::Reported, "commands run when a development container starts"),
    row(".idea", Missing::Reported, "run configurations and start-up tasks of JetBrains' editors"),
    row(".fleet", Missing::Reported, "run configurations of Fleet"),
    row(".zed", Missing::Directory, "tasks and language servers of Zed"),
    row(".helix", Missing::Reported, "language servers of Helix"),
    row(".vim", Missing::Reported, "start-up files of Vim"),
    row(".nvim", Missing::Reported, "start-up files of Neovim"),
    row(".exrc", Missing::Reported, "start-up file of Vim"),
    row(".vimrc", Missing::Reported, "start-up file of Vim"),
    row(".nvimrc", Missing::Reported, "start-up file of Neovim"),
    row(".nvim.lua", Missing::Reported, "start-up file of Neovim"),
    row(".lvimrc", Missing::Reported, "start-up file of Vim"),
    row(".dir-locals.el", Missing::Reported, "variables Emacs sets on opening a file"),
    row(".Rprofile", Missing::Reported, "start-up file of R"),
    row(".ghci", Missing::Reported, "start-up file of GHCi"),
    row(".irbrc", Missing::Reported, "start-up file of Ruby's console"),
    row(".pryrc", Missing::Reported, "start-up file of Ruby's console"),
    row(".iex.exs", Missing::Reported, "start-up file of Elixir's console"),
    row(".ocamlinit", Missing::Reported, "start-up file of OCaml's console"),
    row(".envrc", Missing::File("# jail: covered during the run\n"), "commands direnv runs on entering the directory"),
    row(".husky", Missing::Directory, "git hooks"),
    row(".githooks", Missing::Reported, "git hooks"),
    row(".github/workflows", Missing::Reported, "what runs in the project's CI with its credentials"),
    row(".github/actions", Missing::Reported, "steps of what runs in the project's CI"),
];

static BY_NAME: LazyLock<NameMap<Vec<u8>, &'static Row>> =
    LazyLock::new(|| ROWS.iter().map(|row| (fold(split(row.name).1.as_bytes()).into_owned(), row)).collect());

fn split(name: &'static str) -> (&'static str, &'static str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

fn find(parent: &[u8], folded: &[u8]) -> Option<&'static Row> {
    let row = *BY_NAME.get(folded)?;
    let wanted = split(row.name).0.as_bytes();
    let above = parent.rsplit(|&b| b == b'/').next().unwrap_or_default();
    (wanted.is_empty() || *fold(above) == *wanted).then_some(row)
}

/// Whether the table protects the entry `folded` (as [`fold`] returns it) of the directory `parent`.
pub fn protects(parent: &[u8], folded: &[u8]) -> bool {
    find(parent, folded).is_some()
}

fn row_of(path: &Path) -> Option<&'static Row> {
    let parent = path.parent().map_or(&[][..], |parent| parent.as_os_str().as_bytes());
    find(parent, &fold(path.file_name().map_or(&[][..], OsStr::as_bytes)))
}

/// Why the table protects a path.
pub(super) fn why(path: &Path) -> Option<&'static str> {
    row_of(path).map(|row| row.what)
}

/// The directory above that has to stay where it is, for rows that name one.
pub(super) fn pinned_parent(path: &Path) -> Option<PathBuf> {
    row_of(path).filter(|row| row.name.contains('/')).and_then(|_| path.parent()).map(Path::to_path_buf)
}

/// What is covered at the top of the workspace while it does not exist.
pub(super) fn missing() -> impl Iterator<Item = (&'static str, Placeholder, &'static str)> {
    ROWS.iter().filter_map(|row| match row.missing {
        Missing::Reported => None,
        Missing::Directory => Some((row.name, Placeholder::Directory, row.what)),
        Missing::File(content) => Some((row.name, Placeholder::File(content), row.what)),
    })
}
