//! Hidden files: at any depth, under odd names, under every name and way of reading.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libtest_mimic::Failed;

use crate::checks::{ensure, same, succeeded, unchanged};
use crate::needs::{Needing, test};
use crate::scene::{SECRET, Scene, printed};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("fs_001_a_secret_is_not_read_by_any_program", programs),
        test("fs_001_a_stand_in_withstands_every_verb", every_verb),
        test("fs_002_secrets_are_hidden_at_every_depth_under_odd_names", depths_and_names),
        test("fs_002_the_users_globs_hide", globs),
        test("fs_002_a_glob_that_cannot_be_read_refuses_the_start", bad_glob),
        test("fs_005_a_file_that_is_saved_while_a_jail_starts_does_not_stop_it", saved_meanwhile),
        test("fs_006_the_mask_follows_a_renamed_parent", renamed_parent),
        test("fs_011_a_hidden_file_cannot_be_moved_or_exchanged", moved),
        test("fs_021_names_in_any_case_are_hidden", cases),
        test("fs_026_a_hidden_directory_lists_nothing", directory),
        test("fs_026_mounts_do_not_show_the_bytes", mounts),
        test("fs_026_very_many_stand_ins_take_bounded_memory", bounded),
        test("fs_028_copies_that_editors_make_are_hidden", copies),
        test("fs_031_a_watch_inside_sees_no_byte_and_no_fanotify", fanotify),
    ]
}

fn programs() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("sub/.env", SECRET)?;
    scene.write("keys/id_ed25519", SECRET)?;
    let script = "for f in .env sub/.env keys/id_ed25519 $PWD/.env /proc/self/cwd/.env /proc/self/root$PWD/.env; do
        cat $f; head -c 200 $f; dd if=$f status=none; tail $f; od -c $f | head; cp $f copy; cat copy; rm copy
        ln -s $f l; cat l; rm l; tar cf - $f | cat; done 2>&1; exec 3< .env; cat <&3; cat /proc/self/fd/3; cat < /dev/fd/3
        grep -r CANARY . ; git grep --no-index CANARY; python3 -c 'print(open(\".env\").read())' 2>/dev/null; true";
    ensure(scene.outside_ok(script)?.matches(SECRET).count() > 10, || "positive control".to_owned())?;
    let inside = scene.inside_ok(script)?;
    ensure(!inside.contains("CANARY") && !inside.contains("C   A   N   A   R   Y"), || inside.clone())?;
    // The raw calls, also by another root.
    let path = scene.path(".env").display().to_string();
    let control = format!("{:?}", scene.attack_outside(&["read", &path])?);
    ensure(control.contains(SECRET), || control.clone())?;
    let inside = format!("{:?}", scene.attack(&[], &["read", &path])?);
    ensure(inside.contains("read") && !inside.contains("CANARY"), || inside.clone())
}

fn every_verb() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("sub/.env", SECRET)?;
    scene.write("sub/other", "other")?;
    let before = Scene::listing(&scene.workspace())?;
    let path = scene.path("sub/.env").display().to_string();
    let worked = succeeded(&scene.attack(&[], &["write-verbs", &path])?);
    // The directory is writable: something may be made beside it.
    let beside = ["create", "mkdir", "mknodat fifo", "mknodat file", "open O_TMPFILE", "symlink", "mknodat whiteout"];
    let bad: Vec<_> = worked.iter().filter(|verb| !beside.contains(&verb.as_str())).collect();
    ensure(bad.is_empty(), || format!("{bad:?}"))?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)?;
    let control = succeeded(&scene.attack_outside(&["write-verbs", &path])?);
    ensure(control.len() > 15, || format!("positive control: {control:?}"))
}

/// Reads every file of the workspace, names and all.
const READ_ALL: &str = "find . -path ./.git -prune -o -type f -exec cat {} +";

fn depths_and_names() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let odd: [&[u8]; 10] = [
        b"plain.pem",
        b"with space.key",
        b"[x]*?.pem",
        b"new\nline.key",
        b"-rf.pem",
        b"\xff\xfe.key",
        b"quote'\".pem",
        b"$(id).key",
        b"\x1b[31m.pem",
        b"..pem",
    ];
    let mut count = 0;
    for depth in [1, 4, 12] {
        let mut directory = Path::new("d").to_path_buf();
        for level in 1..depth {
            directory.push(if level % 3 == 0 { ".hidden dir" } else { "x" });
        }
        for name in odd {
            scene.write(directory.join(OsStr::from_bytes(name)), SECRET)?;
            count += 1;
        }
        for name in [".env.local", "prod.tfstate", "id_rsa", ".netrc", ".npmrc"] {
            let content =
                if name == ".npmrc" { format!("//r.example/:_authToken={SECRET}") } else { SECRET.to_owned() };
            scene.write(directory.join(name), content)?;
            count += 1;
        }
        scene.write(directory.join(".env.example"), "EXAMPLE=visible\n")?;
    }
    let outside = scene.outside_ok(READ_ALL)?;
    same(&outside.matches(SECRET).count(), &(count + 1))?;
    let inside = scene.inside_ok(READ_ALL)?;
    ensure(!inside.contains("CANARY"), || inside.clone())?;
    same(&inside.matches("EXAMPLE=visible").count(), &3)
}

fn globs() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let policy = scene.outside("policy.toml");
    fs::write(&policy, "[filesystem]\nhide = [\"**/*.dump\", \"internal/*\", \"customers/\"]\n")?;
    for name in ["a.dump", "x/y/z/b.dump", "internal/c", "customers/deep/er/d", "x/customers/e"] {
        scene.write(name, SECRET)?;
    }
    scene.write("x/internal.txt", "visible")?;
    same(&scene.outside_ok(READ_ALL)?.matches(SECRET).count(), &6)?;
    let flags = ["--policy", &policy.display().to_string()];
    let inside = scene.inside_with(&flags, READ_ALL)?;
    let text = String::from_utf8_lossy(&inside.stdout).into_owned();
    ensure(!text.contains("CANARY") && text.contains("visible"), || printed(&inside))
}

fn bad_glob() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let policy = scene.outside("policy.toml");
    fs::write(&policy, "[filesystem]\nhide = [\"a/[\"]\n")?;
    let output = scene.inside_with(&["--policy", &policy.display().to_string()], "cat .env; echo ran")?;
    ensure(output.status.code() == Some(125) && output.stdout.is_empty(), || printed(&output))?;
    ensure(printed(&output).contains("policy.toml:2"), || printed(&output))
}

fn saved_meanwhile() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let (new, file) = (scene.outside("new"), scene.path(".env"));
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let editor = std::thread::spawn(move || {
        let mut saved = 0;
        while !told.load(Ordering::Relaxed) {
            saved += u32::from(fs::write(&new, SECRET).and_then(|()| fs::rename(&new, &file)).is_ok());
            std::thread::sleep(Duration::from_micros(300));
        }
        saved
    });
    let outputs: Vec<_> = (0..30).map(|_| scene.inside("echo ran")).collect();
    stop.store(true, Ordering::Relaxed);
    let saved = editor.join().map_err(|_| "the editor panicked")?;
    for output in outputs {
        let output = output?;
        ensure(output.status.success() && output.stdout == b"ran\n", || printed(&output))?;
    }
    ensure(saved > 100, || format!("saved only {saved} times"))
}

fn renamed_parent() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("sub/deep/.env", SECRET)?;
    let script = "mv sub sub2 && cat sub2/deep/.env; cd sub2; mv deep ../flat; cat ../flat/.env; cd ..
        mkdir -p sub/deep; echo mine > sub/deep/.env; cat flat/.env";
    let inside = scene.inside_ok(script)?;
    ensure(!inside.contains("CANARY") && inside.trim().is_empty(), || inside.clone())?;
    same(&fs::read_to_string(scene.path("flat/.env"))?.as_str(), &SECRET)?;
    // The next run hides it where it is now.
    ensure(scene.outside_ok("cat flat/.env")?.contains(SECRET), || "positive control".to_owned())?;
    let inside = scene.inside_ok("cat flat/.env")?;
    ensure(inside.trim().is_empty(), || inside.clone())
}

fn moved() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("keys/server.key", SECRET)?;
    scene.write(".aws/credentials", SECRET)?;
    let script = "mv .env y; cat y; mv keys/server.key z; cat z; mv .aws aws; cat aws/*; cat .aws/*
        echo a > a; mv -f a .env; mv --exchange a .env; cat a .env; rm -f .env; rmdir .aws; rm -rf .aws
        cp -l .env hard; cat hard; cp --reflink=auto .env r; cat r; true";
    let before = Scene::listing(&scene.workspace())?;
    let inside = scene.inside_ok(script)?;
    ensure(!inside.contains("CANARY"), || inside.clone())?;
    scene.outside_ok("rm -f a y z r hard; rm -rf aws")?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)?;
    let outside = scene.outside_ok(script)?;
    ensure(outside.matches(SECRET).count() >= 3, || outside.clone())
}

fn cases() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let names = [
        ".ENV",
        ".Env.Production",
        "ID_RSA",
        "Server.PEM",
        ".NETRC",
        ".env.",
        ".env ",
        ".e\u{200d}nv",
        "TerraForm.TFSTATE",
    ];
    for name in names {
        scene.write(Path::new("x").join(name), SECRET)?;
    }
    same(&scene.outside_ok(READ_ALL)?.matches(SECRET).count(), &(names.len() + 1))?;
    let inside = scene.inside_ok(READ_ALL)?;
    ensure(!inside.contains("CANARY"), || inside.clone())
}

fn directory() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for name in [".aws/credentials", ".ssh/config", "sub/.gnupg/private-keys-v1.d/x.key", ".config/gcloud/x/y"] {
        scene.write(name, SECRET)?;
    }
    let script = "ls -A .aws .ssh sub/.gnupg .config/gcloud; cat .aws/credentials .ssh/config .config/gcloud/x/y; stat .aws/credentials
        touch .aws/new; mkdir .ssh/new; true";
    let outside = scene.outside_ok(script)?;
    ensure(outside.matches(SECRET).count() == 3 && outside.contains("private-keys-v1.d"), || outside.clone())?;
    scene.outside_ok("rm .aws/new; rmdir .ssh/new")?;
    let before = Scene::listing(&scene.workspace())?;
    let inside = scene.inside_ok(script)?;
    let listed: Vec<&str> = inside.lines().filter(|line| !line.is_empty() && !line.ends_with(':')).collect();
    ensure(listed.is_empty(), || format!("{listed:?}"))?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)
}

fn mounts() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let inside = scene
        .inside_ok("cat /proc/self/mountinfo /proc/self/mounts; df -a 2>/dev/null; ls -laR . | head -50; stat .env")?;
    ensure(inside.contains("/.env") && !inside.contains("CANARY"), || inside.clone())?;
    // Nor do the stand-ins' own places: the file system they are on has no path.
    let inside = scene.inside_ok(
        "find / -xdev -name 'm[0-9]*' -size -2 -path '*mask*' 2>/dev/null; ls /proc/self/root/proc/m0 2>&1 | head -1",
    )?;
    ensure(inside.contains("No such file"), || inside.clone())
}

/// More than fit into the memory there is for their blanks.
fn bounded() -> Result<(), Failed> {
    const SIZE: u64 = 64 * 1024;
    const FILES: u64 = 1200;
    let scene = Scene::new()?;
    for number in 0..FILES {
        let path = scene.write(format!("many{}/.env.{number}", number % 2), SECRET)?;
        fs::File::options().write(true).open(path)?.set_len(SIZE)?;
    }
    let script =
        "cat many*/.env.* | wc -c; cat many*/.env.* | tr -d '\\0 \\n' | wc -c; stat -f -c '%S %b' many0/.env.0";
    let expected = (FILES * SIZE, FILES * SECRET.len() as u64);
    let numbers = |text: &str| -> Vec<u64> { text.split_whitespace().filter_map(|word| word.parse().ok()).collect() };
    let outside = numbers(&scene.outside_ok(script)?);
    same(&(outside[0], outside[1]), &expected)?;
    let inside = numbers(&scene.inside_ok(script)?);
    same(&(inside[0], inside[1]), &(expected.0, 0))?;
    ensure(inside[2] * inside[3] < FILES * SIZE, || format!("the file system of the stand-ins: {inside:?}"))
}

fn copies() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let names = [
        ".env.bak",
        ".env~",
        ".#.env",
        ".env.swp",
        "..env.swp",
        "#.env#",
        "id_rsa.old",
        "terraform.tfstate.backup",
        ".env.1",
    ];
    for name in names {
        scene.write(Path::new("x").join(name), SECRET)?;
    }
    same(&scene.outside_ok(READ_ALL)?.matches(SECRET).count(), &(names.len() + 1))?;
    let inside = scene.inside_ok(READ_ALL)?;
    ensure(!inside.contains("CANARY"), || inside.clone())
}

fn fanotify() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let lines = scene.attack(&[], &["kernel"])?;
    let fanotify: Vec<_> =
        lines.iter().filter(|line| line["try"].as_str().is_some_and(|t| t.contains("fanotify"))).collect();
    ensure(!fanotify.is_empty() && fanotify.iter().all(|line| line["result"] != "ok"), || format!("{fanotify:?}"))
}
