use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use jail::supervise::terminal::stdio::{Keyboard, StdioKind, classify_these};
use nix::pty::OpenptyResult;

use super::{Emulator, alone, dup, file, null, pipe, pty, read_until, read_waiting, relay, write};

const LARGE: usize = 100 << 20;

/// A pattern whose period shares no factor with any buffer size, so that a lost or repeated piece shows.
fn pattern() -> Vec<u8> {
    (0..65_521u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x20).collect()
}

fn send(to: OwnedFd, total: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let (mut to, pattern, mut left) = (File::from(to), pattern(), total);
        while left > 0 {
            let part = left.min(pattern.len());
            to.write_all(&pattern[..part]).expect("a reader");
            left -= part;
        }
    })
}

/// Reads to the end and compares with the pattern; the number of bytes.
fn compare(mut from: impl Read) -> usize {
    let (pattern, mut total) = (pattern(), 0);
    let mut buffer = vec![0; pattern.len()];
    loop {
        let want = pattern.len() - total % pattern.len();
        match from.read(&mut buffer[..want]) {
            Ok(0) => return total,
            Ok(count) => {
                let at = total % pattern.len();
                assert!(buffer[..count] == pattern[at..at + count], "differs within {count} bytes from {total}");
                total += count;
            }
            // The end of a pty.
            Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => return total,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn descriptors_are_classified() {
    let (reader, writer) = pipe();
    let OpenptyResult { master: _master, slave: terminal } = pty();
    let (socket, _other) = UnixStream::pair().expect("sockets");
    let (socket, null) = (OwnedFd::from(socket), null());
    let zero: OwnedFd = File::open("/dev/zero").expect("/dev/zero").into();
    let regular: OwnedFd = tempfile::tempfile().expect("a file").into();
    let kinds = |fds: [&OwnedFd; 3]| {
        let plan = classify_these(fds[0].as_fd(), fds[1].as_fd(), fds[2].as_fd());
        (plan.each, plan.merged, plan.keyboard())
    };
    use StdioKind::{Null, Relay, Terminal};
    assert_eq!(kinds([&terminal, &terminal, &terminal]), ([Terminal; 3], false, Keyboard::Raw));
    assert_eq!(kinds([&null, &null, &null]), ([Null; 3], false, Keyboard::Off));
    assert_eq!(kinds([&reader, &writer, &writer]), ([Relay; 3], true, Keyboard::Off));
    assert_eq!(kinds([&socket, &regular, &zero]), ([Relay; 3], false, Keyboard::Off));
    assert_eq!(kinds([&terminal, &writer, &terminal]).2, Keyboard::Follow { lines: true });
    assert_eq!(kinds([&null, &terminal, &terminal]).2, Keyboard::Follow { lines: false });
    assert_eq!(kinds([&reader, &regular, &terminal]).2, Keyboard::Off);
}

#[tokio::test]
async fn much_output_arrives_whole_in_a_pipe() {
    let (reader, writer) = pipe();
    let (mut relay, mut workload) = relay(null(), writer, null());
    let sender = send(workload.stdout.take().expect("a pipe"), LARGE);
    let received = thread::spawn(move || compare(File::from(reader)));
    relay.drain().await;
    drop(relay);
    sender.join().expect("sender");
    assert_eq!(received.join().expect("receiver"), LARGE);
}

#[tokio::test]
async fn much_output_arrives_whole_in_a_file_and_in_one_opened_for_appending() {
    for append in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out");
        let out = File::options().create(true).write(true).append(append).open(&path).expect("a file");
        let (mut relay, mut workload) = relay(null(), out.into(), null());
        let sender = send(workload.stdout.take().expect("a pipe"), LARGE);
        relay.drain().await;
        sender.join().expect("sender");
        assert_eq!(compare(File::open(&path).expect("the file")), LARGE, "append {append}");
    }
}

#[tokio::test]
async fn much_input_arrives_whole_from_a_pipe_a_file_and_a_socket() {
    let mut regular = tempfile::tempfile().expect("a file");
    let block = pattern();
    (0..LARGE / block.len() + 1).for_each(|_| regular.write_all(&block).expect("space"));
    regular.set_len(LARGE as u64).expect("a length");
    regular.rewind().expect("seek");
    let (reader, writer) = pipe();
    let (near, far) = UnixStream::pair().expect("sockets");
    let senders = [send(writer, LARGE), send(far.into(), LARGE)];
    for from in [OwnedFd::from(regular), reader, near.into()] {
        let (mut relay, mut workload) = relay(from, null(), null());
        let stdin = workload.stdin.take().expect("a pipe");
        let received = thread::spawn(move || compare(File::from(stdin)));
        assert_eq!(received.join().expect("receiver"), LARGE);
        relay.drain().await;
        assert!(relay.losses().is_empty(), "{:?}", relay.losses());
    }
    for sender in senders {
        sender.join().expect("sender");
    }
}

#[tokio::test]
async fn much_output_arrives_whole_on_a_terminal() {
    let _alone = alone();
    let OpenptyResult { master, slave } = pty();
    let (mut relay, mut workload) = relay(dup(&slave), slave, null());
    let tty = workload.tty.take().expect("a pty");
    super::set_raw(&tty);
    // Printable ASCII, which the filter and raw terminals leave alone.
    let text: Vec<u8> = (0..65_521u32).map(|n| b' ' + (n.wrapping_mul(2_654_435_761) >> 13) as u8 % 95).collect();
    let sent = text.clone();
    let sender = thread::spawn(move || {
        let mut tty = File::from(tty);
        (0..160).for_each(|_| tty.write_all(&sent).expect("a reader"));
    });
    let received = thread::spawn(move || {
        let (mut from, mut buffer, mut rounds) = (File::from(master), vec![0; text.len()], 0);
        while from.read_exact(&mut buffer).is_ok() {
            assert!(buffer == text, "round {rounds} differs");
            rounds += 1;
        }
        rounds
    });
    relay.drain().await;
    drop(relay);
    sender.join().expect("sender");
    assert_eq!(received.join().expect("receiver"), 160);
}

#[tokio::test]
async fn output_just_before_the_end_is_not_lost() {
    let _alone = alone();
    for round in 0..50 {
        let OpenptyResult { master, slave } = pty();
        let (reader, writer) = pipe();
        let (mut relay, workload) = relay(null(), slave, writer);
        write(workload.tty.as_ref().expect("a pty"), format!("last words {round}").as_bytes());
        write(workload.stderr.as_ref().expect("a pipe"), format!("last message {round}").as_bytes());
        drop(workload);
        relay.drain().await;
        drop(relay);
        let shown = read_waiting(&master, Duration::ZERO);
        assert_eq!(String::from_utf8_lossy(&shown), format!("last words {round}"));
        assert_eq!(std::io::read_to_string(File::from(reader)).expect("text"), format!("last message {round}"));
    }
}

#[tokio::test]
async fn the_end_of_the_input_reaches_the_workload() {
    let (reader, writer) = pipe();
    let (mut relay, mut workload) = relay(reader, null(), null());
    write(&writer, b"all of it");
    drop(writer);
    let stdin = workload.stdin.take().expect("a pipe");
    assert_eq!(std::io::read_to_string(File::from(stdin)).expect("text"), "all of it");
    relay.drain().await;
}

#[tokio::test]
async fn a_reader_that_went_away_breaks_the_workloads_pipe() {
    let (reader, writer) = pipe();
    let (mut relay, workload) = relay(null(), writer, null());
    drop(reader);
    let stdout = workload.stdout.expect("a pipe");
    let error = thread::spawn(move || {
        loop {
            if let Err(error) = file(&stdout).write_all(&[b'x'; 4096]) {
                return error;
            }
        }
    });
    assert_eq!(error.join().expect("writer").raw_os_error(), Some(nix::libc::EPIPE));
    relay.drain().await;
    assert!(relay.losses().is_empty(), "a reader may go: {:?}", relay.losses());
}

#[tokio::test]
async fn the_reader_sees_the_end_as_soon_as_the_workload_closes_its_output() {
    let (reader, writer) = pipe();
    let (_relay, mut workload) = relay(null(), writer, null());
    write(workload.stdout.as_ref().expect("a pipe"), b"first");
    workload.stdout = None;
    assert_eq!(std::io::read_to_string(File::from(reader)).expect("text"), "first");
}

#[tokio::test]
async fn a_full_disk_is_reported() {
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let (mut relay, workload) = relay(null(), full.into(), null());
    write(workload.stdout.as_ref().expect("a pipe"), b"data");
    drop(workload);
    relay.drain().await;
    let [loss] = relay.losses() else { panic!("{:?}", relay.losses()) };
    assert_eq!((loss.stream, loss.error.raw_os_error()), ("stdout", Some(nix::libc::ENOSPC)));
}

#[tokio::test]
async fn a_file_as_input_is_left_where_the_workload_stopped_reading() {
    let mut regular = tempfile::tempfile().expect("a file");
    regular.write_all(&[b'a'; 300_000]).expect("space");
    regular.rewind().expect("seek");
    let (mut relay, mut workload) = relay(regular.try_clone().expect("a duplicate").into(), null(), null());
    let mut stdin = File::from(workload.stdin.take().expect("a pipe"));
    stdin.read_exact(&mut [0; 1000]).expect("input");
    relay.drain().await;
    assert_eq!(regular.stream_position().expect("seek"), 1000);
}

#[tokio::test]
async fn both_outputs_in_one_pipe_keep_their_order() {
    let (reader, writer) = pipe();
    let (mut relay, workload) = relay(null(), dup(&writer), writer);
    let (out, err) = (workload.stdout.expect("a pipe"), workload.stderr.expect("a pipe"));
    for _ in 0..100 {
        write(&out, b"o");
        write(&err, b"e");
    }
    drop((out, err));
    relay.drain().await;
    drop(relay);
    assert_eq!(std::io::read_to_string(File::from(reader)).expect("text"), "oe".repeat(100));
}

#[tokio::test]
async fn what_fits_into_a_pipe_does_not_wait_for_its_reader() {
    let (reader, writer) = pipe();
    let (mut relay, workload) = relay(null(), writer, null());
    let stdout = workload.stdout.expect("a pipe");
    for number in 0..6000 {
        write(&stdout, format!("line {number:04}\n").as_bytes());
    }
    drop(stdout);
    tokio::time::timeout(Duration::from_secs(5), relay.drain()).await.expect("an end");
    drop(relay);
    let text = std::io::read_to_string(File::from(reader)).expect("text");
    assert!(text.lines().enumerate().all(|(number, line)| line == format!("line {number:04}")));
    assert_eq!(text.len(), 60_000);
}

#[tokio::test]
async fn waiting_input_does_not_hold_up_the_end() {
    // Nobody writes to the input, nobody reads what was written to it.
    let (reader, writer) = pipe();
    write(&writer, &[b'x'; 60_000]);
    let (mut relay, workload) = relay(reader, null(), null());
    tokio::time::timeout(Duration::from_secs(5), relay.drain()).await.expect("an end");
    drop((workload, writer));

    let _alone = alone();
    let OpenptyResult { master, slave } = pty();
    let (mut relay, workload) = relay_of(&slave);
    let tty = workload.tty.expect("a pty");
    let screen = Emulator::on(dup(&master), Duration::ZERO);
    // More than the line buffers take, and the workload does not read.
    let typist = thread::spawn(move || {
        let mut keyboard = File::from(master);
        let _ = keyboard.write_all(&[b'x'; 300_000]);
        keyboard
    });
    thread::sleep(Duration::from_millis(200));
    drop(tty);
    tokio::time::timeout(Duration::from_secs(5), relay.drain()).await.expect("an end");
    drop((relay, slave));
    typist.join().expect("typist");
    drop(screen);
}

fn relay_of(slave: &OwnedFd) -> (jail::supervise::terminal::relay::Relay, super::Workload) {
    relay(dup(slave), dup(slave), dup(slave))
}

#[tokio::test]
async fn standard_input_may_be_a_pipe_while_keys_come_from_the_terminal() {
    let _alone = alone();
    let OpenptyResult { master, slave } = pty();
    let (reader, writer) = pipe();
    let (mut relay, workload) = relay(reader, dup(&slave), dup(&slave));
    let (tty, stdin) = (workload.tty.expect("a pty"), workload.stdin.expect("a pipe"));
    write(&writer, b"page me");
    assert_eq!(read_until(&stdin, |got| got.len() >= 7), b"page me");
    super::set_raw(&tty);
    write(&tty, b":");
    read_until(&master, |got| got == b":");
    write(&master, b"q");
    assert_eq!(read_until(&tty, |got| !got.is_empty()), b"q");
    drop((tty, stdin, writer, workload.stdout, workload.stderr));
    relay.drain().await;
}
