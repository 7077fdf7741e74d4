//! The table of files the host will execute or obey although the agent may change them; changes are reported.

use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use nix::sys::stat::FileStat;
use serde::Serialize;

use crate::secrets::matcher::{NameMap, fold};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// `name`, `*.extension`, `parent/name`, or with a trailing `/` a directory and all in it.
    pub pattern: &'static str,
    /// Who executes or obeys it.
    pub what: &'static str,
}

const fn row(pattern: &'static str, what: &'static str) -> Row {
    Row { pattern, what }
}

/// The table. Directories of installed packages are searched only for the rows in [`IN_DEPENDENCIES`].
pub const ROWS: &[Row] = &[
    row("Makefile", "make"),
    row("GNUmakefile", "make"),
    row("makefile", "make"),
    row("*.mk", "make"),
    row("justfile", "just"),
    row(".justfile", "just"),
    row("*.just", "just"),
    row("Taskfile.yml", "task"),
    row("Taskfile.yaml", "task"),
    row("Rakefile", "rake"),
    row("CMakeLists.txt", "cmake"),
    row("configure", "configure scripts"),
    row("meson.build", "meson"),
    row("BUILD.bazel", "bazel"),
    row("WORKSPACE", "bazel"),
    row("MODULE.bazel", "bazel"),
    row(".bazelrc", "bazel"),
    row("package.json", "scripts and hooks of npm, pnpm, yarn, bun"),
    row(".npmrc", "npm: registry and script shell"),
    row(".yarnrc", "yarn"),
    row(".yarnrc.yml", "yarn: the program itself and its plugins"),
    row(".yarn/releases/", "yarn itself"),
    row(".yarn/plugins/", "plugins of yarn"),
    row(".pnpmfile.cjs", "pnpm"),
    row("pnpm-workspace.yaml", "pnpm"),
    row("bunfig.toml", "bun: preloaded scripts"),
    row("deno.json", "deno: tasks"),
    row("turbo.json", "turbo"),
    row("Gruntfile.js", "grunt"),
    row("gulpfile.js", "gulp"),
    row("webpack.config.js", "webpack"),
    row("rollup.config.js", "rollup"),
    row("rollup.config.mjs", "rollup"),
    row("vite.config.js", "vite"),
    row("vite.config.mjs", "vite"),
    row("vite.config.ts", "vite"),
    row("vitest.config.js", "vitest"),
    row("vitest.config.ts", "vitest"),
    row("jest.config.js", "jest"),
    row("jest.config.ts", "jest"),
    row("babel.config.js", "babel"),
    row("postcss.config.js", "postcss"),
    row("next.config.js", "next"),
    row("next.config.mjs", "next"),
    row("next.config.ts", "next"),
    row("eslint.config.js", "eslint, also from editors"),
    row("eslint.config.mjs", "eslint, also from editors"),
    row("eslint.config.cjs", "eslint, also from editors"),
    row("eslint.config.ts", "eslint, also from editors"),
    row(".eslintrc.js", "eslint, also from editors"),
    row(".eslintrc.cjs", "eslint, also from editors"),
    row(".eslintrc.json", "eslint, also from editors: plugins"),
    row("prettier.config.js", "prettier, also from editors"),
    row("prettier.config.mjs", "prettier, also from editors"),
    row("prettier.config.cjs", "prettier, also from editors"),
    row(".prettierrc.js", "prettier, also from editors"),
    row(".prettierrc.cjs", "prettier, also from editors"),
    row(".prettierrc.mjs", "prettier, also from editors"),
    row("node_modules/.bin/", "commands of npm, npx and scripts"),
    row("build.rs", "cargo, on every build"),
    row("Cargo.toml", "cargo: dependencies and build scripts"),
    row(".cargo/config.toml", "cargo: runners, wrappers, linkers"),
    row(".cargo/config", "cargo: runners, wrappers, linkers"),
    row("rust-toolchain", "rustup: which compiler runs"),
    row("rust-toolchain.toml", "rustup: which compiler runs"),
    row("setup.py", "pip"),
    row("setup.cfg", "pip"),
    row("pyproject.toml", "pip, uv, poetry: build back ends and tools"),
    row("conftest.py", "pytest"),
    row("noxfile.py", "nox"),
    row("tox.ini", "tox"),
    row("pytest.ini", "pytest: plugins"),
    row("requirements.txt", "pip: packages, indexes and local paths"),
    row(".pylintrc", "pylint, also from editors: start-up hook and plugins"),
    row("pylintrc", "pylint, also from editors: start-up hook and plugins"),
    row("mypy.ini", "mypy, also from editors: plugins"),
    row(".mypy.ini", "mypy, also from editors: plugins"),
    row(".flake8", "flake8, also from editors: plugins"),
    row("sitecustomize.py", "every Python started here"),
    row("usercustomize.py", "every Python started here"),
    row("*.pth", "every Python of the environment"),
    row("pyvenv.cfg", "which Python a virtual environment starts"),
    row("venv/bin/", "commands of the virtual environment"),
    row(".venv/bin/", "commands of the virtual environment"),
    row("Gemfile", "bundler"),
    row("composer.json", "composer: scripts"),
    row("build.gradle", "gradle"),
    row("build.gradle.kts", "gradle"),
    row("settings.gradle", "gradle"),
    row("settings.gradle.kts", "gradle"),
    row("init.gradle", "gradle"),
    row("gradle.properties", "gradle"),
    row("gradlew", "gradle's wrapper"),
    row("gradle/wrapper/", "gradle's wrapper"),
    row("pom.xml", "maven"),
    row("mvnw", "maven's wrapper"),
    row(".mvn/", "maven: extensions and options of the JVM"),
    row("build.sbt", "sbt"),
    row("mix.exs", "mix"),
    row("go.work", "go: replaced modules"),
    row("Dockerfile", "docker build"),
    row("Containerfile", "podman build"),
    row("docker-compose.yml", "docker compose: mounts and commands"),
    row("docker-compose.yaml", "docker compose: mounts and commands"),
    row("docker-compose.override.yml", "docker compose: mounts and commands"),
    row("compose.yml", "docker compose: mounts and commands"),
    row("compose.yaml", "docker compose: mounts and commands"),
    row("Vagrantfile", "vagrant"),
    row("Tiltfile", "tilt"),
    row(".terraform/", "terraform: providers and modules it has downloaded"),
    row(".terraform.lock.hcl", "terraform: which providers it trusts"),
    row("flake.nix", "nix"),
    row("shell.nix", "nix"),
    row("default.nix", "nix"),
    row(".github/", "the project's CI, its owners and its bots"),
    row(".gitlab-ci.yml", "the project's CI"),
    row(".circleci/", "the project's CI"),
    row(".buildkite/", "the project's CI"),
    row(".woodpecker.yml", "the project's CI"),
    row(".travis.yml", "the project's CI"),
    row("azure-pipelines.yml", "the project's CI"),
    row("bitbucket-pipelines.yml", "the project's CI"),
    row("Jenkinsfile", "the project's CI"),
    row("renovate.json", "a bot that changes dependencies"),
    row("CODEOWNERS", "who has to review"),
    row(".pre-commit-config.yaml", "pre-commit, from git hooks"),
    row(".pre-commit-hooks.yaml", "pre-commit, from git hooks"),
    row("lefthook.yml", "lefthook, from git hooks"),
    row(".lefthook.yml", "lefthook, from git hooks"),
    row("lefthook-local.yml", "lefthook, from git hooks"),
    row(".lintstagedrc", "lint-staged, from git hooks"),
    row(".lintstagedrc.json", "lint-staged, from git hooks"),
    row(".gitattributes", "git: filters, drivers and diff programs by path"),
    row(".gitmodules", "git: addresses of submodules"),
    row(".lfsconfig", "git-lfs: its server"),
    row(".gitconfig", "git, where the configuration includes it"),
    row(".tool-versions", "asdf, mise: which programs run"),
    row("mise.toml", "mise: tools, tasks, hooks"),
    row(".mise.toml", "mise: tools, tasks, hooks"),
    row("mise.local.toml", "mise: tools, tasks, hooks"),
    row(".mise.local.toml", "mise: tools, tasks, hooks"),
    row(".direnv/*.rc", "direnv, on entering the directory: the environment it keeps"),
    row(".direnv/bin/", "commands that direnv puts on the path"),
    row(".nvmrc", "nvm: which node runs"),
    row(".node-version", "which node runs"),
    row(".python-version", "pyenv, uv: which Python runs"),
    row(".ruby-version", "which Ruby runs"),
    row(".sdkmanrc", "sdkman: which JDK runs"),
    row("devbox.json", "devbox"),
    row("Procfile", "foreman and hosts"),
    row("CLAUDE.md", "instructions for an agent"),
    row("CLAUDE.local.md", "instructions for an agent"),
    row("AGENTS.md", "instructions for an agent"),
    row("GEMINI.md", "instructions for an agent"),
    row(".cursorrules", "instructions for an agent"),
    row(".windsurfrules", "instructions for an agent"),
    row(".goosehints", "instructions for an agent"),
    row("*.code-workspace", "VS Code: settings and tasks"),
    row(".editorconfig", "editors"),
    row(".bashrc", "shells, where this is a home directory"),
    row(".bash_profile", "shells, where this is a home directory"),
    row(".profile", "shells, where this is a home directory"),
    row(".zshrc", "shells, where this is a home directory"),
    row(".zshenv", "shells, where this is a home directory"),
    row(".inputrc", "shells, where this is a home directory"),
    row(".gdbinit", "gdb"),
    row(".lldbinit", "lldb"),
    row(".Renviron", "R, when it starts here"),
    row(".RData", "R, when it starts here"),
    row("Session.vim", "Vim"),
];

/// Rows that count in directories of installed packages too.
pub const IN_DEPENDENCIES: &[&str] = &[
    ".yarn/releases/",
    ".yarn/plugins/",
    "node_modules/.bin/",
    "venv/bin/",
    ".venv/bin/",
    "*.pth",
    "sitecustomize.py",
    "pyvenv.cfg",
];

struct Entry {
    parent: Vec<u8>,
    directory: bool,
    dependency: bool,
}

struct Table {
    exact: NameMap<Vec<u8>, Vec<Entry>>,
    extensions: NameMap<Vec<u8>, Entry>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table { exact: NameMap::default(), extensions: NameMap::default() };
    for row in ROWS {
        let dependency = IN_DEPENDENCIES.contains(&row.pattern);
        let (pattern, directory) = match row.pattern.strip_suffix('/') {
            Some(pattern) => (pattern, true),
            None => (row.pattern, false),
        };
        let (parent, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        let entry = Entry { parent: fold(parent.as_bytes()).into_owned(), directory, dependency };
        match name.strip_prefix("*.") {
            Some(extension) => drop(table.extensions.insert(extension.as_bytes().to_vec(), entry)),
            None => table.exact.entry(fold(name.as_bytes()).into_owned()).or_default().push(entry),
        }
    }
    table
});

/// Whether the host executes the entry `folded` of the directory `parent`, or all in it where it is a directory.
pub fn runs(parent: &[u8], folded: &[u8], directory: bool, dependency: bool) -> bool {
    let fits = |entry: &Entry| {
        let above = parent.rsplit(|&b| b == b'/').next().unwrap_or_default();
        entry.directory == directory
            && (!dependency || entry.dependency)
            && (entry.parent.is_empty() || *fold(above) == *entry.parent)
    };
    if TABLE.exact.get(folded).is_some_and(|entries| entries.iter().any(fits)) {
        return true;
    }
    let Some(dot) = folded.iter().rposition(|&b| b == b'.') else { return false };
    TABLE.extensions.get(&folded[dot + 1..]).is_some_and(fits)
}

/// A file the host will execute, as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostRun {
    /// Relative to the workspace.
    #[serde(serialize_with = "crate::tree::escaped")]
    pub path: PathBuf,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes.
    pub size: i64,
    /// `st_mode`.
    pub mode: u32,
    /// Modification time, seconds since the epoch and nanoseconds.
    pub mtime: (i64, i64),
    /// Change time: nobody can set it back.
    pub ctime: (i64, i64),
}

impl HostRun {
    pub(crate) fn new(path: PathBuf, stat: &FileStat) -> Self {
        Self {
            path,
            ino: stat.st_ino,
            size: stat.st_size,
            mode: stat.st_mode,
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Where a symbolic link leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outward {
    /// Out of the workspace.
    Yes,
    /// Not out of it, as far as its own text says.
    No,
}

/// Says where a link in the directory `parent` of the workspace leads, without looking at more files than it has to.
pub(crate) fn outward(root: &Path, parent: &[u8], target: &OsStr) -> Outward {
    let target = Path::new(target);
    let mut depth = 0usize;
    let relative = if target.is_absolute() {
        match target.strip_prefix(root) {
            Ok(rest) => rest,
            Err(_) => return Outward::Yes,
        }
    } else {
        depth = parent.split(|&b| b == b'/').filter(|part| !part.is_empty()).count();
        target
    };
    let mut named = false;
    let mut doubtful = false;
    for part in relative.components() {
        match part {
            Component::Normal(_) => {
                depth += 1;
                named = true;
            }
            Component::ParentDir => {
                // `link/..` is not where the text says when `link` is a symbolic link.
                doubtful |= named;
                match depth.checked_sub(1) {
                    Some(above) => depth = above,
                    None => return Outward::Yes,
                }
            }
            _ => {}
        }
    }
    if doubtful {
        let from = root.join(OsStr::from_bytes(parent)).join(target);
        if let Ok(real) = std::fs::canonicalize(from)
            && !real.starts_with(root)
        {
            return Outward::Yes;
        }
    }
    Outward::No
}
