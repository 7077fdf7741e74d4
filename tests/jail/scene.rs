//! A home directory with a repository in it, and running commands in a jail around it or outside.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use libtest_mimic::Failed;
use tempfile::TempDir;

/// The content of every hidden file in a scene.
pub const SECRET: &str = "CANARY_5b1c0d9e7f_SECRET";

/// A home directory, a repository in it, and places outside both.
#[derive(Debug)]
pub struct Scene {
    base: TempDir,
    name: &'static str,
    read: Vec<PathBuf>,
}

impl Scene {
    /// A home with one git repository: two commits, a clean work tree, `.env` untracked and ignored.
    pub fn new() -> Result<Self, Failed> {
        let scene = Self::bare()?;
        scene.git(&["init", "--quiet", "--initial-branch=main", "."])?;
        fs::write(scene.path("notes.txt"), "one\n")?;
        fs::write(scene.path(".gitignore"), ".env\n")?;
        scene.git(&["add", "."])?;
        scene.git(&["commit", "--quiet", "-m", "first"])?;
        fs::write(scene.path("notes.txt"), "one\ntwo\n")?;
        scene.git(&["commit", "--quiet", "-am", "second"])?;
        fs::write(scene.path(".env"), format!("TOKEN={SECRET}\n"))?;
        Ok(scene)
    }

    /// A home with an empty directory as workspace, without git.
    pub fn bare() -> Result<Self, Failed> {
        let base = tempfile::Builder::new().prefix("jail-test.").tempdir()?;
        let scene = Self { base, name: "repo", read: Vec::new() };
        fs::create_dir_all(scene.workspace())?;
        fs::create_dir_all(scene.home().join(".config/git"))?;
        fs::write(scene.home().join(".gitconfig"), "[user]\n\tname = Ann\n\temail = ann@example.com\n")?;
        Ok(scene)
    }

    /// Gives the workspace, still empty, another name.
    pub fn with_workspace(self, name: &'static str) -> Result<Self, Failed> {
        fs::rename(self.workspace(), self.home().join(name))?;
        Ok(Self { name, ..self })
    }

    /// The private home of this scene.
    pub fn home(&self) -> PathBuf {
        self.base.path().join("home")
    }

    /// The workspace.
    pub fn workspace(&self) -> PathBuf {
        self.home().join(self.name)
    }

    /// A path in the workspace.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.workspace().join(relative)
    }

    /// A path beside home and workspace, never visible inside.
    pub fn outside(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.base.path().join(relative)
    }

    /// Writes a file in the workspace, with the directories above it.
    pub fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<PathBuf, Failed> {
        let path = self.path(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content)?;
        Ok(path)
    }

    /// git on the host, in the workspace.
    pub fn git(&self, arguments: &[&str]) -> Result<String, Failed> {
        let output = self.host("git").args(arguments).output()?;
        succeeded("git", &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A command on the host, in the workspace, with the scene's home.
    pub fn host(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.workspace()).env_clear().envs(self.environment()).stdin(Stdio::null());
        command
    }

    /// `jail` with these arguments, in the workspace, with the scene's home.
    pub fn jail(&self, arguments: &[&str]) -> Command {
        let mut command = self.host(env!("CARGO_BIN_EXE_jail"));
        command.args(arguments);
        command
    }

    /// `jail run` with flags, ready for the command to be added.
    pub fn run_with(&self, flags: &[&str]) -> Command {
        let mut command = self.jail(&["--quiet", "run"]);
        for path in &self.read {
            command.arg("--read").arg(path);
        }
        command.args(flags).arg("--");
        command
    }

    /// Runs a shell script in the jail.
    pub fn inside(&self, script: &str) -> Result<Output, Failed> {
        self.inside_with(&[], script)
    }

    /// Runs a shell script in the jail, with flags.
    pub fn inside_with(&self, flags: &[&str], script: &str) -> Result<Output, Failed> {
        Ok(self.run_with(flags).args(["sh", "-c", script]).output()?)
    }

    /// Runs a shell script in the jail that must succeed; its standard output.
    pub fn inside_ok(&self, script: &str) -> Result<String, Failed> {
        let output = self.inside(script)?;
        succeeded(script, &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the same shell script outside, as positive control; its standard output.
    pub fn outside_ok(&self, script: &str) -> Result<String, Failed> {
        let output = self.host("sh").args(["-c", script]).output()?;
        succeeded(script, &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a group of attacks inside; one JSON line for each try.
    pub fn attack(&self, flags: &[&str], arguments: &[&str]) -> Result<Vec<serde_json::Value>, Failed> {
        let program = std::env::current_exe()?;
        let mut command = self.jail(&["--quiet", "run", "--read"]);
        command.arg(&program).args(flags).arg("--").arg(&program).arg("try").args(arguments);
        lines(&command.output()?)
    }

    /// Runs the same group outside.
    pub fn attack_outside(&self, arguments: &[&str]) -> Result<Vec<serde_json::Value>, Failed> {
        lines(&self.host(std::env::current_exe()?).arg("try").args(arguments).output()?)
    }

    /// Everything below a directory: path, type, mode, size, content; to compare before and after.
    pub fn listing(directory: &Path) -> Result<Vec<String>, Failed> {
        let mut lines = Vec::new();
        list(directory, directory, &mut lines)?;
        lines.sort();
        Ok(lines)
    }

    fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        vec![
            ("HOME", self.home()),
            ("PATH", path.into()),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "xterm".into()),
            ("XDG_STATE_HOME", self.outside("state")),
            ("XDG_RUNTIME_DIR", self.runtime()),
            ("USER", "ann".into()),
        ]
    }

    /// The scene's runtime directory.
    pub fn runtime(&self) -> PathBuf {
        let path = self.outside("run");
        let _ = fs::create_dir(&path);
        path
    }
}

fn list(base: &Path, directory: &Path, lines: &mut Vec<String>) -> Result<(), Failed> {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let found = fs::symlink_metadata(&path)?;
        let name = path.strip_prefix(base)?.display().to_string();
        let mode = found.permissions().mode();
        if found.is_dir() {
            lines.push(format!("{name} directory {mode:o}"));
            list(base, &path, lines)?;
        } else if found.is_symlink() {
            lines.push(format!("{name} -> {}", fs::read_link(&path)?.display()));
        } else {
            lines.push(format!("{name} {mode:o} {:?}", fs::read(&path)?));
        }
    }
    Ok(())
}

/// An error with everything a command printed, unless it succeeded.
pub fn succeeded(what: &str, output: &Output) -> Result<(), Failed> {
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{what}: {}\n{}", output.status, printed(output)).into())
}

/// What a command printed, for messages.
pub fn printed(output: &Output) -> String {
    format!(
        "--- stdout\n{}\n--- stderr\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn lines(output: &Output) -> Result<Vec<serde_json::Value>, Failed> {
    succeeded("attack", output)?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).map_err(|error| format!("{line}: {error}").into())).collect()
}

/// Feeds a command's standard input and collects what it prints.
pub fn with_input(command: &mut Command, input: &[u8]) -> Result<Output, Failed> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    let input = input.to_owned();
    // Beside the reading: a command may answer before it has read everything.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    let _ = writer.join();
    Ok(output)
}
