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
