use std::io::Read;
use std::time::Duration;

use jail::supervise::terminal::outer::Outer;
use nix::pty::{OpenptyResult, Winsize};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};

use super::{Emulator, alone, dup, pty, read_until, read_waiting, relay, set_raw, write};

const MOMENT: Duration = Duration::from_millis(100);

fn modes(tty: &std::os::fd::OwnedFd) -> Termios {
    tcgetattr(tty).expect("modes")
}

fn is_raw(tty: &std::os::fd::OwnedFd) -> bool {
    !modes(tty).local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
}

fn size(tty: &std::os::fd::OwnedFd) -> (u16, u16) {
    let size = jail::sys::tty::window_size(tty).expect("size");
    (size.ws_row, size.ws_col)
}

fn set_size(tty: &std::os::fd::OwnedFd, ws_row: u16, ws_col: u16) {
    let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    jail::sys::tty::set_window_size(tty, &size).expect("size");
}

#[tokio::test]
async fn the_terminal_is_raw_during_the_run_and_as_before_after_it() {
    let _alone = alone();
    let OpenptyResult { master, slave } = pty();
    let mut own = modes(&slave);
    own.control_chars[SpecialCharacterIndices::VERASE as usize] = 0x08;
    tcsetattr(&slave, SetArg::TCSANOW, &own).expect("modes");
    set_size(&slave, 40, 100);
    let before = modes(&slave);

    let (mut relay, workload) = relay(dup(&slave), dup(&slave), dup(&slave));
    let tty = workload.tty.expect("a pty");
    assert!(is_raw(&slave));
    assert_eq!(modes(&tty).control_chars, before.control_chars, "the same keys inside");
    assert_eq!(modes(&tty).local_flags, before.local_flags);
    assert_eq!(size(&tty), (40, 100));

    set_size(&slave, 50, 120);
    relay.resize();
    assert_eq!(size(&tty), (50, 120));

    write(&master, b"typed\r");
    assert_eq!(read_until(&tty, |got| got.contains(&b'\n')), b"typed\n");
    write(&tty, b"\x1b]52;c;aGk=\x07\x1b[?1049h\x1b[?25lanswer");
    let ends = |got: &[u8]| got.ends_with(b"answer");
    assert_eq!(read_until(&master, ends), b"typed\r\n\x1b[?1049h\x1b[?25lanswer", "echo and output, filtered");

    drop(tty);
    relay.run().await;
    assert!(is_raw(&slave), "only the end puts it back");
    relay.drain().await;
    assert_eq!(modes(&slave), before);
    assert_eq!(read_waiting(&master, MOMENT), b"\x1b[?1049l\x1b[?25h");
    assert!(relay.losses().is_empty(), "{:?}", relay.losses());
}

#[tokio::test]
async fn answers_of_the_terminal_do_not_reach_the_next_reader() {
    let _alone = alone();
    // Without a relay the answer lies in the input of whoever reads next.
    let OpenptyResult { master, slave } = pty();
    set_raw(&slave);
    let mut emulator = Emulator::on(master, MOMENT);
    write(&slave, b"\x1b[6n");
    assert_eq!(read_waiting(&slave, MOMENT * 3), b"\x1b[24;80R");
    drop(slave);
    emulator.end();

    let OpenptyResult { master, slave } = pty();
    let mut emulator = Emulator::on(master, MOMENT);
    let (mut relay, mut workload) = relay(dup(&slave), dup(&slave), dup(&slave));
    write(workload.tty.as_ref().expect("a pty"), b"\x1b[6n");
    workload.tty = None;
    relay.drain().await;
    drop(relay);
    set_raw(&slave);
    assert_eq!(read_waiting(&slave, MOMENT * 3).escape_ascii().to_string(), "");
    assert_eq!(emulator.shown(), r"\x1b[6n\x1b[5n");
    drop(slave);
    emulator.end();
}

#[tokio::test]
async fn reports_of_the_mouse_do_not_reach_the_next_reader() {
    let _alone = alone();
    let OpenptyResult { master, slave } = pty();
    let keyboard = dup(&master);
    let mut emulator = Emulator::on(master, MOMENT);
    let (mut relay, mut workload) = relay(dup(&slave), dup(&slave), dup(&slave));
    write(workload.tty.as_ref().expect("a pty"), b"\x1b[?1003h\x1b[?1006h");
    // Longer than any answer takes: the mouse moves whenever it likes.
    std::thread::sleep(MOMENT * 21);
    workload.tty = None;
    let mover = std::thread::spawn(move || {
        std::thread::sleep(MOMENT / 2);
        write(&keyboard, b"\x1b[<35;10;10M");
    });
    relay.drain().await;
    drop(relay);
    mover.join().expect("the mouse");
    set_raw(&slave);
    assert_eq!(read_waiting(&slave, MOMENT * 3).escape_ascii().to_string(), "");
    assert_eq!(emulator.shown(), r"\x1b[?1003h\x1b[?1006h\x1b[?1003l\x1b[?1006l\x1b[5n");
    drop(slave);
    emulator.end();
}

#[test]
fn what_was_typed_and_not_read_does_not_reach_the_next_reader() {
    let _alone = alone();
    let OpenptyResult { master, slave } = pty();
    let outer = Outer::new(dup(&slave), dup(&slave));
    assert!(outer.handle().enter().expect("enter"));
    write(&master, b"rm -r x\r");
    assert!(super::readable(&slave, MOMENT), "it waits in the queue");
    outer.finish();
    assert_eq!(read_waiting(&slave, MOMENT).escape_ascii().to_string(), "");
}

#[tokio::test]
async fn an_unanswered_question_does_not_hold_up_the_end() {
    let _alone = alone();
    let OpenptyResult { master: _master, slave } = pty();
    let (mut relay, mut workload) = relay(dup(&slave), dup(&slave), dup(&slave));
    write(workload.tty.as_ref().expect("a pty"), b"\x1b[6n");
    workload.tty = None;
    let start = std::time::Instant::now();
    relay.drain().await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_panic_or_a_drop_puts_the_terminal_back() {
    let _alone = alone();
    let OpenptyResult { master: _master, slave } = pty();
    let before = modes(&slave);
    let outer = Outer::new(dup(&slave), dup(&slave));
    assert!(outer.handle().enter().expect("enter"));
    assert!(is_raw(&slave));
    let other = std::thread::Builder::new().name("jail-screen".to_owned());
    let other = other.spawn(|| panic!("on purpose, by a test")).expect("a thread");
    assert!(other.join().is_err());
    assert_eq!(modes(&slave), before, "after a panic in another thread");

    assert!(outer.handle().enter().expect("enter"));
    assert!(is_raw(&slave));
    drop(outer);
    assert_eq!(modes(&slave), before, "after a drop");
}

#[tokio::test]
async fn in_a_pipeline_the_terminal_stays_as_it_is_until_the_workload_wants_keys() {
    let _alone = alone();
    let OpenptyResult { master, slave } = pty();
    let before = modes(&slave);
    let (reader, writer) = super::pipe();
    let (mut relay, mut workload) = relay(dup(&slave), writer, dup(&slave));
    let tty = workload.tty.take().expect("a pty");
    assert_eq!(modes(&slave), before);

    // Whole lines pass; the echo is the outer terminal's own, once.
    write(&master, b"line\r");
    assert_eq!(read_until(&tty, |got| got.contains(&b'\n')), b"line\n");
    assert_eq!(read_waiting(&master, MOMENT), b"line\r\n");
    // Ctrl-D on an empty line is the end of the file, here and inside.
    write(&master, b"\x04");
    assert!(super::readable(&tty, MOMENT * 10));
    assert_eq!(read_waiting(&tty, Duration::ZERO), b"");

    // Another member of the pipeline takes the keys.
    set_raw(&slave);
    write(&master, b"q");
    assert_eq!(read_waiting(&slave, MOMENT * 2), b"q");
    tcsetattr(&slave, SetArg::TCSANOW, &before).expect("modes");

    let cooked = modes(&tty);
    set_raw(&tty);
    write(&tty, b"keys?");
    assert_eq!(read_until(&master, |got| got.ends_with(b"?")), b"keys?");
    assert!(is_raw(&slave));
    write(&master, b"k");
    assert_eq!(read_until(&tty, |got| !got.is_empty()), b"k");
    tcsetattr(&tty, SetArg::TCSANOW, &cooked).expect("modes");
    write(&tty, b"done");
    read_until(&master, |got| got.ends_with(b"done"));
    assert_eq!(modes(&slave), before);

    write(workload.stdout.as_ref().expect("a pipe"), b"data \x1b]52;c;aGk=\x07");
    drop((workload, tty));
    relay.drain().await;
    drop(relay);
    assert_eq!(read_until(&reader, |got| got.ends_with(b"\x07")), b"data \x1b]52;c;aGk=\x07", "data is not filtered");
}

#[tokio::test]
async fn a_terminal_that_goes_away_hangs_up_the_workload() {
    let _alone = alone();
    for keyboard in [true, false] {
        let OpenptyResult { master, slave } = pty();
        let stdin = if keyboard { dup(&slave) } else { super::null() };
        let (mut relay, workload) = relay(stdin, dup(&slave), dup(&slave));
        let tty = workload.tty.expect("a pty");
        drop((master, slave));
        // The next output fails, and with the relay's threads the master of the workload's pty closes.
        write(&tty, b"anyone?");
        tokio::time::timeout(MOMENT * 50, relay.run()).await.expect("an end");
        assert!(super::readable(&tty, MOMENT * 10), "no hang-up, keyboard {keyboard}");
        let read = super::file(&tty).read(&mut [0; 16]);
        assert!(matches!(read, Ok(0)), "{read:?}");
    }
}
