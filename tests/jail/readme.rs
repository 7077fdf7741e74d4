//! The documentation's terminal sessions: every `console` block is played and must print what the page shows.

use std::fs;
use std::path::Path;

use libtest_mimic::Failed;

use crate::checks::{ensure, same};
use crate::needs::{Needing, test};
use crate::scene::{Scene, printed, succeeded};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("the_readme_shows_what_happens", || play("README.md", 1)),
        test("the_quickstart_shows_what_happens", || play("docs/quickstart.md", 4)),
        test("the_readme_s_run_command_works", run_command_works),
    ]
}

/// Where the pages say the user's home is.
const HOME: &str = "/home/ann";

/// A command and what the page shows after it.
struct Step {
    command: String,
    shown: String,
}

fn page(name: &str) -> Result<String, Failed> {
    Ok(fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))?)
}

/// The blocks of a page. One with a `<!-- name -->` above it is somebody else's.
fn blocks(text: &str) -> Vec<Vec<Step>> {
    let mut blocks = Vec::new();
    let mut above = "";
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "```console" {
            let named = above.starts_with("<!--");
            let mut steps: Vec<Step> = Vec::new();
            for line in lines.by_ref().take_while(|line| *line != "```") {
                match (line.strip_prefix("$ "), steps.last_mut()) {
                    (Some(command), _) => steps.push(Step { command: command.to_owned(), shown: String::new() }),
                    (None, Some(step)) => step.shown.push_str(&format!("{line}\n")),
                    (None, None) => {}
                }
            }
            if !named {
                blocks.push(steps);
            }
        }
        above = line;
    }
    blocks
}

/// Every session's name is another one.
fn without_names(text: &str) -> String {
    let name = |word: &str| word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    let mut out = String::new();
    for line in text.lines() {
        let words: Vec<String> = line
            .split(' ')
            .map(|word| if name(word.trim_end_matches(':')) { "SESSION:".to_owned() } else { word.to_owned() })
            .collect();
        out.push_str(&words.join(" "));
        out.push('\n');
    }
    out
}

/// The shop of the examples: a small repository with an ignored `.env`.
fn shop() -> Result<Scene, Failed> {
    let scene = Scene::bare()?.with_workspace("shop")?;
    scene.git(&["init", "--quiet", "--initial-branch=main", "."])?;
    scene.write(".gitignore", ".env\n")?;
    scene.write("notes.txt", "one\n")?;
    scene.write("Cargo.toml", "[package]\nname = \"shop\"\n")?;
    scene.git(&["add", "."])?;
    scene.git(&["commit", "--quiet", "-m", "first"])?;
    scene.write(".env", "TOKEN=tok_5b1c\n")?;
    fs::create_dir(scene.home().join(".ssh"))?;
    fs::write(scene.home().join(".ssh/id_ed25519"), "key\n")?;
    Ok(scene)
}

/// Plays a page with at least so many blocks.
pub fn play(name: &str, least: usize) -> Result<(), Failed> {
    let text = page(name)?;
    let blocks = blocks(&text);
    ensure(blocks.len() >= least, || format!("{name} has {} blocks", blocks.len()))?;
    let scene = shop()?;
    let programs = Path::new(env!("CARGO_BIN_EXE_jail")).parent().ok_or("no directory")?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path)))?;
    let real = scene.home().canonicalize()?.display().to_string();
    for step in blocks.iter().flatten() {
        // One pipe for both, as on a terminal.
        let output =
            scene.host("sh").arg("-c").arg(format!("exec 2>&1\n{}", step.command)).env("PATH", &path).output()?;
        let actual = String::from_utf8_lossy(&output.stdout).replace(&real, HOME);
        let (actual, shown) = (without_names(&actual), without_names(&step.shown));
        ensure(actual == shown, || format!("{name}: $ {}\n{actual}the page shows:\n{shown}", step.command))?;
    }
    Ok(())
}

/// The command after a mark in the README.
fn marked(mark: &str) -> Result<String, Failed> {
    let text = page("README.md")?;
    let rest = text.split(&format!("<!-- {mark} -->\n")).nth(1).ok_or("no mark")?;
    let line = rest.lines().find_map(|line| line.strip_prefix("$ ")).ok_or("no command")?;
    Ok(line.to_owned())
}

/// The run command of the README on this project's own checkout, with the program that is built already.
fn run_command_works() -> Result<(), Failed> {
    let scene = Scene::bare()?;
    // The checkout may belong to another user than the one who runs the tests.
    fs::write(scene.home().join(".gitconfig"), "[safe]\n\tdirectory = *\n")?;
    let checkout = scene.workspace();
    let output = scene.host("git").args(["clone", "--quiet", env!("CARGO_MANIFEST_DIR"), "."]).output()?;
    succeeded("git clone", &output)?;
    let command = marked("run")?;
    let words: Vec<&str> = command.split_whitespace().collect();
    let (cargo, arguments) = words.split_at(words.len().min(4));
    same(&cargo, &&["cargo", "run", "--quiet", "--release"][..])?;
    let arguments = arguments.strip_prefix(&["--"]).ok_or("no `--` after cargo's own arguments")?;
    let program = arguments.iter().position(|word| *word == "--").ok_or("no command for the jail")?;
    let control = scene.host(arguments[program + 1]).args(&arguments[program + 2..]).output()?;
    succeeded("outside", &control)?;
    ensure(control.stdout.len() > 20, || printed(&control))?;
    let inside = scene.jail(arguments).current_dir(checkout).output()?;
    succeeded(&command, &inside)?;
    same(&String::from_utf8_lossy(&inside.stdout), &String::from_utf8_lossy(&control.stdout))
}
