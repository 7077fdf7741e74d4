//! What `jail` says: it names the path, the reason and a remedy that works.

use libtest_mimic::Failed;

use crate::checks::ensure;
use crate::needs::{Needing, test};
use crate::scene::{Scene, printed, succeeded};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("explain_names_no_remedy_that_a_policy_refuses", no_refused_remedy),
        test("the_end_names_what_was_hidden_when_it_appeared", names_hidden_later),
        test("a_jail_in_a_jail_is_refused_for_what_it_is", jail_in_jail),
        test("init_and_trust_below_the_top_mean_the_repository", below_the_top),
        test("what_no_project_gets_is_no_warning", never_granted),
        test("a_mistyped_word_is_answered_with_the_right_one", mistyped),
        test("doctor_ends_with_a_verdict", verdict),
        test("the_last_session_takes_its_directory_along", session_directory),
    ]
}

fn explain(scene: &Scene, path: &str) -> Result<String, Failed> {
    let output = scene.jail(&["explain", path]).output()?;
    succeeded(path, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn no_refused_remedy() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let home = scene.home();
    for (path, access) in
        [(home.to_str().ok_or("home")?, "read"), ("/usr/bin/env", "write"), ("/run/docker.sock", "read")]
    {
        let said = explain(&scene, path)?;
        ensure(!said.contains(&format!("{access} = [")) && said.contains("hint: no policy can change that"), || said)?;
        // The remedy that would be the obvious one is refused.
        let output = scene.jail(&["plan", &format!("--{access}"), path]).output()?;
        ensure(output.status.code() == Some(125), || printed(&output))?;
    }
    let wanted = home.join("data");
    std::fs::create_dir_all(&wanted)?;
    let wanted = wanted.to_str().ok_or("home")?;
    let said = explain(&scene, wanted)?;
    ensure(said.contains(&format!("read = [\"{wanted}\"]")), || said)?;
    succeeded("plan", &scene.jail(&["plan", "--read", wanted]).output()?)?;
    // A link at the top of the jail is looked through.
    let said = explain(&scene, "/var/run/docker.sock")?;
    ensure(!said.contains("read-only"), || said)
}

fn names_hidden_later() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let script = "mkdir out; echo abc > out/test.pem; for i in $(seq 500); do grep -q abc out/test.pem || exit 0; sleep 0.01; done; exit 9";
    let output = scene.jail(&["run", "--", "sh", "-c", script]).output()?;
    succeeded("run", &output)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(said.contains("\n  out/test.pem\n") && said.contains("jail explain"), || said.clone().into_owned())?;
    // What was hidden from the start is no news.
    ensure(!said.contains("\n  .env\n"), || said.clone().into_owned())
}

fn jail_in_jail() -> Result<(), Failed> {
    let scene = Scene::new()?;
    std::fs::copy(env!("CARGO_BIN_EXE_jail"), scene.path("inner"))?;
    let output = scene.inside("./inner run -- true")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.code() == Some(125) && said.contains("a jail cannot be started in a jail"), || {
        printed(&output)
    })
}

fn below_the_top() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("sub/file", "")?;
    scene.write(".jail.toml", "[filesystem]\nread = [\"~/data\"]\n")?;
    let below = |arguments: &[&str]| scene.jail(arguments).current_dir(scene.path("sub")).output();
    let output = below(&["init", "--print"])?;
    succeeded("init", &output)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let workspace = scene.workspace().canonicalize()?;
    ensure(said.contains(&format!("Your policy for {}\n", workspace.display())), || said.into_owned())?;
    let output = below(&["trust", "--yes"])?;
    succeeded("trust", &output)?;
    ensure(String::from_utf8_lossy(&output.stdout).contains("filesystem.read"), || printed(&output))
}

fn never_granted() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write(".jail.toml", "[filesystem]\nreveal = [\".env\"]\n")?;
    let said = |arguments: &[&str]| -> Result<String, Failed> {
        let output = scene.jail(arguments).output()?;
        succeeded("run", &output)?;
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    ensure(said(&["run", "--", "true"])?.contains("never grants that"), || "it is not said at all".to_owned())?;
    let quiet = said(&["--quiet", "run", "--", "true"])?;
    ensure(quiet.is_empty(), || quiet)?;
    // What the user could grant is worth a word.
    scene.write(".jail.toml", "[filesystem]\nreveal = [\".env\"]\nread = [\"~/data\"]\n")?;
    let quiet = said(&["--quiet", "run", "--", "true"])?;
    ensure(quiet.contains("jail trust"), || quiet)
}

fn mistyped() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for (arguments, tip) in [
        (&["run", "--reed", "x", "--", "true"][..], "'--read"),
        (&["doctr"], "'doctor'"),
        (&["exec", "--directry", "x", "session", "true"], "'--directory"),
        (&["man", "rnu"], "no subcommand rnu"),
    ] {
        let output = scene.jail(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure(output.status.code() == Some(125) && said.contains(tip), || printed(&output))?;
    }
    // The command's own options are its own.
    let output = scene.jail(&["--quiet", "run", "sh", "-c", "echo $0 $1", "--reed", "--help"]).output()?;
    ensure(output.stdout == b"--reed --help\n", || printed(&output))?;
    let page = scene.jail(&["man", "profile", "show"]).output()?;
    ensure(String::from_utf8_lossy(&page.stdout).contains(".TH jail-profile-show"), || printed(&page))
}

fn verdict() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let output = scene.jail(&["doctor"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure(said.lines().last().is_some_and(|last| last.starts_with("`jail run` works here")), || printed(&output))
}

fn session_directory() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let uid = nix::unistd::geteuid();
    // In a login session's own directory it may stay.
    let login = std::path::PathBuf::from(format!("/run/user/{uid}"));
    let own = match login.metadata() {
        Ok(found) if std::os::unix::fs::MetadataExt::uid(&found) == uid.as_raw() => login.join("jail"),
        _ => std::path::PathBuf::from(format!("/dev/shm/jail-{uid}")),
    };
    let mut command =
        scene.jail(&["--quiet", "run", "--", "sh", "-c", "touch started; while [ ! -e stop ]; do sleep 0.01; done"]);
    let mut child = command.env_remove("XDG_RUNTIME_DIR").spawn()?;
    crate::checks::wait_for(&scene.path("started"))?;
    let during = own.is_dir();
    scene.write("stop", "")?;
    ensure(child.wait()?.success() && during, || format!("no {} during the run", own.display()))?;
    // Others' sessions keep it.
    let empty = std::fs::read_dir(&own).is_ok_and(|mut entries| entries.next().is_none());
    ensure(!empty || own.starts_with(&login), || format!("{} is left behind, empty", own.display()))
}
