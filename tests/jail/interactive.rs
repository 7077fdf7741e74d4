//! Interactive programs in a jail, on a real terminal: job control, editors, pagers, and a terminal that is as before.

use std::fs;
use std::process::Command;

use libtest_mimic::Failed;

use crate::needs::{Need, Needing, test, test_with};
use crate::pty::Screen;
use crate::running::Running;
use crate::scene::Scene;

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_Z: &str = "\x1a";

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test_with("a_shell_has_a_prompt_and_job_control", Need::Program("bash"), shell),
        test("a_plain_shell_has_job_control_too", plain_shell),
        test("a_new_window_size_arrives", resize),
        test("an_interrupt_key_reaches_the_program", interrupt),
        test_with("a_stop_key_stops_jail_and_fg_continues_it", Need::Program("bash"), stop_and_continue),
        test_with("an_editor_edits_saves_and_leaves_the_terminal_as_before", Need::Program("vim.tiny"), editor),
        test_with("a_pager_scrolls_and_leaves_the_terminal_as_before", Need::Program("less"), pager),
        test("a_killed_program_leaves_the_terminal_as_before", killed),
        test("the_clipboard_and_reports_do_not_reach_the_terminal", no_clipboard),
        test("answers_nobody_read_are_not_typed_into_the_shell", late_answers),
        test("exit_statuses_come_back_through_a_terminal", statuses),
        test("pipes_and_files_mix_with_the_terminal", mixed),
        test_with("a_pager_behind_a_pipe_has_the_keys", Need::Program("less"), piped_pager),
        test("the_controlling_terminal_can_be_opened", controlling_terminal),
        test_with("script_records_a_session_inside", Need::Program("script"), record),
        test_with("tmux_runs_inside", Need::Program("tmux"), multiplexer),
        test_with("exec_gives_a_shell_with_job_control", Need::Program("bash"), exec_shell),
        test_with("exec_gives_an_editor_and_a_new_size", Need::Program("vim.tiny"), exec_editor),
        test("exec_mixes_pipes_and_statuses", exec_mixed),
    ]
}

/// `jail run` with this command on a terminal.
fn run(scene: &Scene, command: &[&str]) -> Result<Screen, Failed> {
    Screen::start(scene.run_with(&[]).args(command))
}

/// A command line in a shell of the host, on a terminal; `$jail` is the program.
fn host_shell(scene: &Scene, script: &str) -> Result<Screen, Failed> {
    Screen::start(scene.host("sh").env("jail", env!("CARGO_BIN_EXE_jail")).args(["-c", script]))
}

fn drive_shell(screen: &mut Screen) -> Result<(), Failed> {
    screen.expect("$ ")?;
    screen.keys("sleep 100\r")?;
    screen.expect("sleep 100\r\n")?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    screen.keys(CTRL_Z)?;
    screen.expect("Stopped")?;
    screen.expect("$ ")?;
    screen.keys("bg\r")?;
    screen.expect("sleep 100 &")?;
    screen.keys("jobs\r")?;
    screen.expect("Running")?;
    screen.keys("fg\r")?;
    screen.expect("fg\r\n")?;
    screen.expect("sleep 100\r\n")?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    screen.keys(CTRL_C)?;
    screen.keys("echo status=$?\r")?;
    screen.expect("status=130")?;
    // The terminal belongs to the shell again, and lines are edited.
    screen.keys("echo o$((40+2))j\x7fk\r")?;
    screen.expect("o42k")?;
    let shown = screen.shown();
    if shown.contains("job control") || shown.contains("process group") {
        return Err(format!("no job control: {shown:?}").into());
    }
    Ok(())
}

fn shell() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut screen = run(&scene, &["bash", "--norc", "--noprofile", "-i"])?;
    drive_shell(&mut screen)?;
    screen.keys("exit 7\r")?;
    screen.ends_well(7)
}

fn plain_shell() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut screen = run(&scene, &["sh", "-i"])?;
    screen.expect("$ ")?;
    screen.keys("sleep 100\r")?;
    screen.expect("sleep 100\r\n")?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    screen.keys(CTRL_Z)?;
    screen.expect("Stopped")?;
    screen.keys("kill %1; fg; echo o$((40+2))k\r")?;
    screen.expect("o42k")?;
    screen.keys(CTRL_D)?;
    screen.ends_well(0)
}

fn resize() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let script = "stty size; trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut screen = run(&scene, &["sh", "-c", script])?;
    screen.expect("24 80")?;
    screen.expect("ready")?;
    screen.resize(50, 132)?;
    screen.expect("50 132")?;
    screen.ends_well(3)
}

fn interrupt() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut screen = run(&scene, &["sh", "-c", "echo up; exec sleep 100"])?;
    screen.expect("up")?;
    screen.keys(CTRL_C)?;
    screen.ends_well(128 + 2)?;
    let mut screen = run(&scene, &["sh", "-c", "echo up; exec sleep 100"])?;
    screen.expect("up")?;
    screen.keys("\x1c")?;
    screen.ends_well(128 + 3)
}

fn stop_and_continue() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut shell = scene.host("bash");
    shell.args(["--norc", "--noprofile", "-i"]).env("jail", env!("CARGO_BIN_EXE_jail")).env("PS1", "$ ");
    let mut screen = Screen::start(&shell)?;
    screen.expect("$ ")?;
    screen.keys("\"$jail\" -q run -- sh -c 'stty -echo; echo u$((1))p; exec cat'\r")?;
    screen.expect("u1p")?;
    for round in ["first", "second"] {
        screen.keys(&format!("{round}\r"))?;
        screen.expect(round)?;
        screen.keys(CTRL_Z)?;
        screen.expect("Stopped")?;
        screen.expect("$ ")?;
        screen.keys("stty -a | grep -c -w -- '-icanon'; echo c$((1))d\r")?;
        screen.expect("c1d")?;
        screen.keys("fg\r")?;
        screen.expect("exec cat'\r\n")?;
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    screen.keys("third\r")?;
    screen.expect("third")?;
    screen.keys(CTRL_D)?;
    screen.expect("$ ")?;
    screen.keys("echo status=$?; exit 5\r")?;
    screen.expect("status=0")?;
    screen.ends_well(5)
}

fn edit(scene: &Scene, screen: &mut Screen, text: &str) -> Result<(), Failed> {
    screen.expect("\x1b[?1049h")?;
    screen.expect("one")?;
    screen.keys(&format!("O{text}\x1b"))?;
    screen.expect(text)?;
    // After the escape key, vim waits whether a function key follows.
    std::thread::sleep(std::time::Duration::from_millis(300));
    screen.keys(":wq\r")?;
    screen.expect("\x1b[?1049l")?;
    screen.ends_well(0)?;
    let written = fs::read_to_string(scene.path("notes.txt"))?;
    if written != format!("{text}\none\ntwo\n") {
        return Err(format!("written: {written:?}").into());
    }
    Ok(())
}

fn editor() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut screen = run(&scene, &["vim.tiny", "notes.txt"])?;
    edit(&scene, &mut screen, "zero point")
}

fn pager() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let lines: String = (0..500).map(|number| format!("line-{number}\n")).collect();
    scene.write("long", lines)?;
    let mut screen = run(&scene, &["less", "long"])?;
    screen.expect("\x1b[?1049h")?;
    screen.expect("line-10\r")?;
    screen.keys(" ")?;
    screen.expect("line-40\r")?;
    screen.keys("G")?;
    screen.expect("line-499")?;
    screen.keys("q")?;
    screen.expect("\x1b[?1049l")?;
    screen.ends_well(0)
}

fn killed() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let script = r"stty raw -echo; printf '\033[?1049h\033[?1000h\033[?25lup'; kill -9 $$";
    let mut screen = run(&scene, &["sh", "-c", script])?;
    screen.expect("up")?;
    screen.ends_well(128 + 9)?;
    let shown = screen.shown();
    for back in ["\x1b[?1049l", "\x1b[?1000l", "\x1b[?25h"] {
        if !shown.contains(back) {
            return Err(format!("{back:?} is not in {shown:?}").into());
        }
    }
    // The whole jail killed from outside.
    let mut screen = run(&scene, &["sh", "-c", "stty raw -echo; echo up; sleep 100"])?;
    screen.expect("up")?;
    let sleeping = *crate::running::descendants(screen.pid()).first().ok_or("no init")?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(sleeping), nix::sys::signal::Signal::SIGKILL)?;
    screen.ends_well(125)
}

/// Reads and writes the clipboard, asks for the title, sets a title; `end` shows that everything was printed.
const HOSTILE: &str =
    r"printf 'begin\033]52;c;aGkK\007\033]52;c;?\007\033[21t\033P+q544e\033\\\033]0;t\007end'; sleep 0.2";

fn no_clipboard() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut outside = Screen::start(scene.host("sh").args(["-c", HOSTILE]))?;
    outside.expect("end")?;
    outside.wait()?;
    for hostile in ["\x1b]52;c;aGkK", "\x1b]52;c;?", "\x1b[21t", "\x1bP+q"] {
        if !outside.shown().contains(hostile) {
            return Err(format!("the positive control does not show {hostile:?}: {:?}", outside.shown()).into());
        }
    }
    let mut screen = run(&scene, &["sh", "-c", HOSTILE])?;
    screen.expect("begin")?;
    screen.expect("end")?;
    screen.ends_well(0)?;
    let shown = screen.shown();
    for hostile in ["]52", "aGkK", "21t", "+q544e"] {
        if shown.contains(hostile) {
            return Err(format!("{hostile:?} got through: {shown:?}").into());
        }
    }
    Ok(())
}

fn late_answers() -> Result<(), Failed> {
    let scene = Scene::new()?;
    // Outside, the terminal's answers wait for whoever reads next.
    let mut outside =
        Screen::start(scene.host("sh").args(["-c", r"stty -echo; printf '\033[6n\033[c'; sleep 0.3; stty echo"]))?;
    outside.wait()?;
    if outside.ends_well(0).is_ok() {
        return Err("the positive control left nothing to read".into());
    }
    let mut screen = run(&scene, &["sh", "-c", r"stty raw -echo; printf 'asked\033[6n\033[c'"])?;
    screen.expect("asked")?;
    screen.ends_well(0)
}

fn statuses() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for (script, status) in [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143), ("no-such-command", 127)] {
        run(&scene, &["sh", "-c", script])?.ends_well(status)?;
    }
    run(&scene, &["no-such-command"])?.ends_well(127)
}

fn mixed() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut screen = host_shell(&scene, "$jail -q run -- seq 100000 | tail -n 1")?;
    screen.expect("100000")?;
    screen.ends_well(0)?;
    // A reader that leaves early ends the writer, as it does without a jail.
    let mut screen = host_shell(&scene, "$jail -q run -- yes | head -n 1")?;
    screen.expect("y\r\n")?;
    screen.ends_well(0)?;
    let mut screen = host_shell(&scene, "$jail -q run -- sh -c 'cat; test -t 1 && echo term' < notes.txt")?;
    screen.expect("one\r\ntwo\r\n")?;
    screen.expect("term")?;
    screen.ends_well(0)?;
    let script = "$jail -q run -- sh -c 'echo shown; echo kept >&2; test -t 0 && test -t 1 && ! test -t 2' 2> log";
    let mut screen = host_shell(&scene, script)?;
    screen.expect("shown")?;
    screen.ends_well(0)?;
    if screen.shown().contains("kept") || fs::read_to_string(scene.path("log"))? != "kept\n" {
        return Err(format!("the error output went elsewhere: {:?}", screen.shown()).into());
    }
    let mut screen = host_shell(&scene, "printf abc | $jail -q run -- tr a-z A-Z > out; cat out")?;
    screen.expect("ABC")?;
    screen.ends_well(0)?;
    // Keys as standard input, output to a file.
    let mut screen = host_shell(&scene, "$jail -q run -- sh -c 'read line; echo got:$line' > out; cat out")?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    screen.keys("typed\r")?;
    screen.expect("got:typed")?;
    screen.ends_well(0)
}

fn piped_pager() -> Result<(), Failed> {
    let scene = Scene::new()?;
    // The host's pager reads keys from the terminal while the jail writes.
    let mut screen = host_shell(&scene, "$jail -q run -- seq 5000 | less")?;
    screen.expect("\x1b[?1049h")?;
    screen.expect("20\r")?;
    screen.keys("G")?;
    screen.expect("5000")?;
    screen.keys("q")?;
    screen.ends_well(0)?;
    // A pager inside reads keys from its own terminal while its input is a pipe from the host.
    let mut screen = host_shell(&scene, "seq 5000 | $jail -q run -- less")?;
    screen.expect("\x1b[?1049h")?;
    screen.expect("20\r")?;
    screen.keys("G")?;
    screen.expect("5000")?;
    screen.keys("q")?;
    screen.ends_well(0)
}

fn controlling_terminal() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let script = "exec </dev/null >/dev/null 2>&1; echo name >/dev/tty; read line </dev/tty; echo hello-$line >/dev/tty; tty </dev/tty >/dev/tty";
    let mut screen = run(&scene, &["sh", "-c", script])?;
    screen.expect("name")?;
    screen.keys("ann\r")?;
    screen.expect("hello-ann")?;
    screen.expect("/dev/")?;
    screen.ends_well(0)
}

fn record() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut screen = run(&scene, &["script", "-q", "-e", "-c", "test -t 0 && echo o$((40+2))k; exit 9", "typescript"])?;
    screen.expect("o42k")?;
    screen.ends_well(9)?;
    let typescript = fs::read_to_string(scene.path("typescript"))?;
    if !typescript.contains("o42k") {
        return Err(format!("recorded: {typescript:?}").into());
    }
    Ok(())
}

fn multiplexer() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut screen = run(&scene, &["tmux", "-f", "/dev/null", "new-session", "sh"])?;
    screen.expect("\x1b[?1049h")?;
    screen.expect("$ ")?;
    screen.keys("echo o$((40+2))k; tty\r")?;
    screen.expect("o42k")?;
    screen.expect("/dev/pts/")?;
    screen.keys("exit\r")?;
    screen.expect("\x1b[?1049l")?;
    screen.ends_well(0)
}

/// A session that waits for its end.
fn session(scene: &Scene) -> Result<Running, Failed> {
    Running::start(scene, &[], "echo ready; exec sleep 300")
}

fn exec(scene: &Scene, session: &Running, command: &[&str]) -> Command {
    let mut exec = scene.jail(&["--quiet", "exec", &session.session, "--"]);
    exec.args(command);
    exec
}

fn exec_shell() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let running = session(&scene)?;
    let mut screen = Screen::start(&exec(&scene, &running, &["bash", "--norc", "--noprofile", "-i"]))?;
    drive_shell(&mut screen)?;
    screen.keys("exit 8\r")?;
    screen.ends_well(8)?;
    let mut screen = Screen::start(&exec(&scene, &running, &["sh", "-c", "echo up; exec sleep 100"]))?;
    screen.expect("up")?;
    screen.keys(CTRL_C)?;
    screen.ends_well(128 + 2)
}

fn exec_editor() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let running = session(&scene)?;
    let mut screen = Screen::start(&exec(&scene, &running, &["vim.tiny", "notes.txt"]))?;
    edit(&scene, &mut screen, "zero point")?;
    let script = "trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut screen = Screen::start(&exec(&scene, &running, &["sh", "-c", script]))?;
    screen.expect("ready")?;
    screen.resize(50, 132)?;
    screen.expect("50 132")?;
    screen.ends_well(3)
}

fn exec_mixed() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let running = session(&scene)?;
    let shell = |script: &str| -> Result<Screen, Failed> {
        let script = format!("x() {{ \"$jail\" -q exec {} -- \"$@\"; }}; {script}", running.session);
        host_shell(&scene, &script)
    };
    let mut screen = shell("x seq 100000 | tail -n 1")?;
    screen.expect("100000")?;
    screen.ends_well(0)?;
    let mut screen = shell("x cat < notes.txt; x sh -c 'echo bad >&2; exit 6' 2> log")?;
    screen.expect("one\r\ntwo\r\n")?;
    screen.ends_well(6)?;
    if fs::read_to_string(scene.path("log"))? != "bad\n" {
        return Err(format!("the error output went elsewhere: {:?}", screen.shown()).into());
    }
    shell("x sh -c 'kill -TERM $$'")?.ends_well(143)
}
