//! AU: what a run leaves on record.

use std::fs;
use std::path::PathBuf;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::checks::{ensure, same};
use crate::needs::{Needing, test};
use crate::scene::{SECRET, Scene};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("au_001_a_run_is_recorded_without_its_secrets", recorded),
        test("au_002_the_record_is_out_of_reach", out_of_reach),
        test("steps_are_traced_when_asked_for", traced),
    ]
}

/// Every file below a directory.
fn files(directory: PathBuf) -> Result<Vec<PathBuf>, Failed> {
    let mut found = Vec::new();
    let mut waiting = vec![directory];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() { waiting.push(path) } else { found.push(path) }
        }
    }
    Ok(found)
}

fn recorded() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("Makefile", "all:\n")?;
    let output = scene.inside("cat .env; echo changed >> Makefile; exit 3")?;
    same(&output.status.code(), &Some(3))?;
    let records: Vec<PathBuf> = files(scene.outside("state"))?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    same(&records.len(), &1)?;
    let text = fs::read_to_string(&records[0])?;
    ensure(!text.contains(SECRET), || format!("the record holds the secret:\n{text}"))?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let events: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    same(&events, &vec!["session-start", "planted", "session-end"])?;
    same(&lines[0]["hidden"], &serde_json::json!([".env"]))?;
    same(&lines[0]["command"][0], &serde_json::json!("sh"))?;
    same(&lines[1]["path"], &serde_json::json!("Makefile"))?;
    same(&lines[2]["status"], &serde_json::json!(3))
}

fn out_of_reach() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.inside_ok("true")?;
    let state = scene.outside("state").display().to_string();
    let find = format!("find '{state}' -type f 2>/dev/null | wc -l");
    let outside = scene.outside_ok(&find)?;
    ensure(outside.trim() != "0", || "the positive control found no record".to_owned())?;
    same(&scene.inside_ok(&find)?.trim(), &"0")
}

fn traced() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut command = scene.run_with(&[]);
    command.args(["sh", "-c", "env; cat .env"]);
    let silent = command.output()?;
    same(&silent.stderr, &Vec::new())?;
    let output = command.env("JAIL_LOG", "debug").env("OTHER", SECRET).output()?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for step in ["passed over the workspace", "cloned init", "the jail stands", "the workload runs"] {
        ensure(stderr.contains(step), || format!("no {step:?} in:\n{stderr}"))?;
    }
    ensure(!stderr.contains(SECRET) && !stdout.contains("JAIL_LOG"), || format!("{stdout}\n{stderr}"))
}
