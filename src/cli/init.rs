//! `jail init`: a policy for a workspace, outside of it.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::put;
use super::trust::workspace;
use crate::config::text::printable;
use crate::config::trust::write_private;
use crate::config::{Places, workspace_file};
use crate::error::{Error, Result};

/// Write your policy for a workspace, with the tool chains found in it
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The workspace; the repository around the current directory unless given
    path: Option<PathBuf>,
    /// Replace a policy that is there already
    #[arg(long)]
    force: bool,
    /// Print the policy instead of writing it
    #[arg(long)]
    print: bool,
}

/// A tool chain: its profile and the files that tell of it.
struct Tools {
    profile: &'static str,
    markers: &'static [&'static str],
}

const TOOLS: &[Tools] = &[
    Tools { profile: "rust", markers: &["Cargo.toml"] },
    Tools { profile: "node", markers: &["package.json", "deno.json"] },
    Tools {
        profile: "python",
        markers: &["pyproject.toml", "requirements.txt", "setup.py", "Pipfile", "environment.yml"],
    },
    Tools { profile: "go", markers: &["go.mod", "go.work"] },
    Tools {
        profile: "java",
        markers: &["pom.xml", "build.gradle", "build.gradle.kts", "settings.gradle.kts", "build.sbt"],
    },
    Tools { profile: "c", markers: &["CMakeLists.txt", "meson.build", "configure.ac", "Makefile"] },
];

/// Runs `jail init`.
///
/// # Errors
/// A policy is there already, or an I/O error.
pub fn run(args: &InitArgs, places: &Places, out: &mut dyn Write) -> Result<()> {
    let workspace = workspace(args.path.as_deref(), places)?;
    let text = policy(&workspace);
    if args.print {
        return put(out, &text);
    }
    let file = workspace_file(&places.own_config(), &workspace);
    if !args.force && file.symlink_metadata().is_ok() {
        return Err(Error::setup(format!("{}: exists already", file.display()))
            .hint("edit it, or replace it with `jail init --force`"));
    }
    write_private(&file, text.as_bytes())?;
    put(out, &format!("{}\n", file.display()))
}

/// The text of a policy that fits what lies in the workspace. Only names are looked at, no contents.
fn policy(workspace: &Path) -> String {
    let is_file = |name: &&&str| workspace.join(name).symlink_metadata().is_ok_and(|file| file.is_file());
    let found = TOOLS.iter().filter(|tools| tools.markers.iter().find(is_file).is_some());
    let names: Vec<String> = found.map(|tools| format!("{:?}", tools.profile)).collect();
    format!(
        "# Your policy for {}\n\
         # It lies outside the workspace: nothing in the jail can change it. Every key: docs/policy.md.\n\n\
         extends = [{}] # tool chains found here, with the hosts they load packages from\n\n\
         [workspace]\nmode = \"direct\" # \"read-only\" for a look around\n\n\
         # [filesystem]\n# hide = [\"*.tfstate\"]     # beyond the names that are hidden anyway\n\
         # read = [\"~/data\"]        # beyond the tool chains\n\n\
         # [[allow]]\n# host = \"api.example.com\"\n# tunnel = true\n",
        printable(&workspace.display().to_string()),
        names.join(", "),
    )
}
