//! Profiles: the built-in ones, and the user's own in `~/.config/jail/profiles`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::check::Ground;
use super::layer::Layer;
use super::suggest;
use super::text::{Links, SourceText, read_regular};
use crate::error::{Error, Result};
use crate::policy::{Origin, Sourced};

/// What a built-in profile is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Taken by every run.
    Base,
    /// Taken when the command is this agent.
    Agent,
    /// A tool chain's directories and registries; the base takes all of them, without the registries.
    Tools,
    /// Where the run takes place; named by `--profile`.
    Place,
}

/// A profile that comes with the program.
#[derive(Debug)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// Its TOML.
    pub text: &'static str,
}

macro_rules! builtin {
    ($($kind:ident $name:literal),* $(,)?) => {
        &[$(Builtin {
            name: $name,
            kind: Kind::$kind,
            text: include_str!(concat!("../../profiles/", $name, ".toml")),
        }),*]
    };
}

/// Every built-in profile.
pub const BUILTIN: &[Builtin] = builtin![
    Base "default",
    Agent "aider",
    Agent "amp",
    Agent "claude",
    Agent "codex",
    Agent "copilot",
    Agent "crush",
    Agent "cursor-agent",
    Agent "gemini",
    Agent "goose",
    Agent "opencode",
    Agent "qwen",
    Tools "c",
    Tools "go",
    Tools "java",
    Tools "node",
    Tools "python",
    Tools "rust",
    Place "ci",
    Place "devcontainer",
];

/// The profile every run builds on.
pub const BASE: &str = "default";

/// The built-in profile of this name.
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTIN.iter().find(|profile| profile.name == name)
}

/// The agent profile for a command, chosen by its file name.
///
/// A program that lies in the workspace is never taken for an agent: `./claude` in a cloned repository would
/// otherwise be given the agent's login. So a command with a slash counts only when it is absolute and elsewhere.
pub fn agent(command: &OsStr, workspace: &Path) -> Option<&'static str> {
    let path = Path::new(command);
    let trusted = path.components().count() == 1 && !command.as_encoded_bytes().contains(&b'/')
        || path.is_absolute()
            && path.canonicalize().is_ok_and(|real| !real.starts_with(workspace))
            && !path.starts_with(workspace);
    let name = path.file_name()?.to_str()?;
    BUILTIN
        .iter()
        .find(|profile| trusted && profile.kind == Kind::Agent && profile.name == name)
        .map(|profile| profile.name)
}

/// The profiles of tool chains with their contents; one that does not load, which a test excludes, is left out.
pub fn tools(ground: &Ground) -> impl Iterator<Item = (&'static str, Layer)> {
    BUILTIN.iter().filter(|profile| profile.kind == Kind::Tools).filter_map(|profile| {
        let path = PathBuf::from(format!("profiles/{}.toml", profile.name));
        let text = SourceText::new(Origin::Profile(profile.name.to_owned()), path, profile.text.into()).ok()?;
        Some((profile.name, Layer::parse(&text, ground).ok()?))
    })
}

/// The user's profiles' directory below the configuration directory of `jail`.
pub fn directory(own_config: &Path) -> PathBuf {
    own_config.join("profiles")
}

/// The names of the user's own profiles, sorted.
///
/// # Errors
/// An I/O error other than a missing directory.
pub fn user_names(own_config: &Path) -> Result<Vec<String>> {
    let directory = directory(own_config);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::setup(format!("{}: cannot be read: {error}", directory.display()))),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// A profile's text, without the profiles it builds on.
///
/// # Errors
/// No such profile, or its file cannot be read.
pub fn text(name: &str, own_config: &Path) -> Result<SourceText> {
    let file = directory(own_config).join(format!("{name}.toml"));
    if let Some(profile) = builtin(name) {
        if file.symlink_metadata().is_ok() {
            return Err(Error::setup(format!("{}: {name:?} is the name of a built-in profile", file.display()))
                .hint("rename the file; it can build on the built-in one with `extends`"));
        }
        let path = PathBuf::from(format!("profiles/{name}.toml"));
        return SourceText::new(Origin::Profile(name.to_owned()), path, profile.text.into());
    }
    match read_regular(&file, Links::Follow)? {
        Some(bytes) => SourceText::new(Origin::User, file, bytes),
        None => Err(unknown(name, own_config)?),
    }
}

fn unknown(name: &str, own_config: &Path) -> Result<Error> {
    let users = user_names(own_config)?;
    let known = BUILTIN.iter().map(|profile| profile.name).chain(users.iter().map(String::as_str));
    let error = Error::setup(format!("unknown profile {name:?}"));
    Ok(match suggest::nearest(name, known) {
        Some(near) => error.hint(format!("did you mean {near:?}?")),
        None => error.hint("`jail profile list` names them all"),
    })
}

/// Profiles in the order they are applied, each after those it builds on.
#[derive(Debug, Default)]
pub struct Resolved {
    /// Name and contents, each profile once.
    pub layers: Vec<(String, Layer)>,
    /// Files that were read.
    pub files: Vec<PathBuf>,
    /// Profiles that somebody named: not those that only the base builds on.
    pub named: Vec<String>,
}

impl Resolved {
    /// Adds a profile and what it builds on.
    ///
    /// # Errors
    /// No such profile, an invalid one, or a cycle.
    pub fn add(&mut self, name: &Sourced<String>, own_config: &Path, ground: &Ground) -> Result<()> {
        self.visit(name, own_config, ground, &mut Vec::new())
    }

    fn visit(
        &mut self,
        name: &Sourced<String>,
        own_config: &Path,
        ground: &Ground,
        open: &mut Vec<String>,
    ) -> Result<()> {
        let at = |error: Error| match name.source.file {
            Some(_) => {
                let hint = error.hint_text().map(str::to_owned);
                let moved = Error::setup(format!("{}:{}: {error}", name.source, name.source.column));
                match hint {
                    Some(hint) => moved.hint(hint),
                    None => moved,
                }
            }
            None => error,
        };
        if open.contains(&name.value) {
            let cycle =
                open.iter().skip_while(|one| **one != name.value).map(String::as_str).collect::<Vec<_>>().join(" → ");
            return Err(at(Error::setup(format!(
                "profile {:?} builds on itself: {cycle} → {}",
                name.value, name.value
            ))));
        }
        let by_base = open.first().is_some_and(|first| first == BASE);
        let newly_named = !by_base && !self.named.contains(&name.value);
        if newly_named {
            self.named.push(name.value.clone());
        }
        let tools = builtin(&name.value).filter(|profile| profile.kind == Kind::Tools);
        if let Some((_, done)) = self.layers.iter_mut().find(|(done, _)| *done == name.value) {
            if newly_named && tools.is_some() {
                *done = Layer::parse(&text(&name.value, own_config)?, ground)?;
            }
            return Ok(());
        }
        let text = match (tools.is_some(), text(&name.value, own_config)) {
            // That a tool is installed opens no host. What is not read costs no time at the start of every run.
            (true, Ok(text)) if by_base => text.before("\n[[allow]]"),
            (_, Ok(text)) => text,
            (false, Err(error)) if error.to_string().starts_with("unknown profile") => return Err(at(error)),
            (_, Err(error)) => return Err(error),
        };
        let layer = Layer::parse(&text, ground)?;
        open.push(name.value.clone());
        for base in &layer.extends {
            self.visit(base, own_config, ground, open)?;
        }
        open.pop();
        if text.origin == Origin::User {
            self.files.push(text.path.clone());
        }
        self.layers.push((name.value.clone(), layer));
        Ok(())
    }
}
