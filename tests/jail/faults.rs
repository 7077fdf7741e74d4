//! Faults around the proxy: hosts and programs that break off, stall and dribble, crowds, floods, missing descriptors, a
//! record that cannot be written, killed parts. Nothing hangs, nothing leaves, and who behaves is served.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Linger;

use crate::checks::{ensure, same};
use crate::egress::World;
use crate::faults_crowd::{Echo, listener};
use crate::needs::{Need, Needing, test, test_with};
use crate::origin::{ANSWER, Origin, Recorder};
use crate::programs::rule;
use crate::running::{Running, eventually, lives};
use crate::scene::{printed, succeeded};
use crate::tries::{has, lacks};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("what_a_host_breaks_off_is_broken_off_inside", resets),
        test("a_host_that_says_nothing_is_given_up", silent_hosts),
        test("a_host_that_takes_nobody_is_given_up", deaf_host),
        test("a_program_that_takes_nothing_is_given_up", deaf_program),
        test("a_host_that_dribbles_is_heard_out", dribbling_host),
        test("px_019_programs_that_dribble_are_ended_and_hold_nobody_up", dribbling_programs),
        test("thousands_of_connections_are_held_at_once", crowd),
        test("a_program_without_descriptors_hurts_itself_alone", no_descriptors_inside),
        test("few_descriptors_are_few_connections", few_descriptors),
        test("without_descriptors_the_proxy_waits_and_goes_on", no_descriptors),
        test("a_flood_of_questions_hurts_nobody", flood),
        test("what_cannot_be_recorded_does_not_leave", unrecorded),
        test("a_killed_supervisor_closes_what_it_carried", killed),
        test_with("sv_004_a_proxy_that_cannot_accept_ends_the_run", Need::Root, lost_listener),
    ]
}

/// A rule for any bytes.
pub fn raw_rule(host: &str, port: u16) -> String {
    rule(host, port).replace("tunnel = true", "tunnel = \"raw\"")
}

/// The words that run this program's part inside.
fn own(words: &[&str]) -> Result<Vec<String>, Failed> {
    let program = std::env::current_exe()?.display().to_string();
    Ok(std::iter::once(program).chain(words.iter().map(|word| (*word).to_owned())).collect())
}

/// A line of a shell script that says something, see `say.rs`.
fn say(address: &str, steps: &[&str]) -> Result<String, Failed> {
    let words = own(&[&["say", address], steps].concat())?;
    Ok(words.iter().map(|word| format!("'{word}' ")).collect())
}

fn get(path: &str, host: &str) -> String {
    format!("send:GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n")
}

/// Breaks a connection off, so that the peer sees a reset.
fn abort(stream: &TcpStream) -> io::Result<()> {
    Ok(setsockopt(stream, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?)
}

fn request(stream: &mut TcpStream, log: &Recorder) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer)?;
    log.bytes(&buffer[..read]);
    Ok(())
}

fn resets() -> Result<(), Failed> {
    let world = World::new()?;
    let http = Origin::start("127.0.0.1", |mut stream, log| {
        request(&mut stream, &log)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nBEGUN")?;
        sleep(Duration::from_millis(200));
        abort(&stream)
    })?;
    let raw = Origin::start("127.0.0.1", |mut stream, log| {
        stream.write_all(b"BEGUN")?;
        request(&mut stream, &log)?;
        abort(&stream)
    })?;
    let tls = Origin::start("127.0.0.1", |mut stream, log| {
        request(&mut stream, &log)?;
        abort(&stream)
    })?;
    world.allow(
        &[rule("http.test", http.port()), raw_rule("raw.test", raw.port()), rule("broken.test", tls.port())].concat(),
    )?;
    let address = |host: &str, origin: &Origin| format!("{host}:{}", origin.port());
    let lines = [
        say(&address("http.test", &http), &[&get("/", &address("http.test", &http)), "end"])?,
        say(&address("raw.test", &raw), &["read:5", "send:more", "end"])?,
        say(&address("broken.test", &tls), &[&world.handshake("broken.test"), "end"])?,
        // Who comes next is served as ever.
        say(&address("plain.test", &world.plain), &[&get("/", &address("plain.test", &world.plain)), "end"])?,
    ];
    let output = world.inside(&["sh", "-c", &lines.join("; echo '|';")])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let parts: Vec<&str> = text.split('|').collect();
    let [http, raw, tls, good] = parts[..] else { return Err(printed(&output).into()) };
    has("http", http, "BEGUN")?;
    // Half an answer must not look like a whole one.
    has("http", http, "Connection reset by peer")?;
    has("raw", raw, "BEGUN")?;
    has("raw", raw, "Connection reset by peer")?;
    has("tls", tls, "Connection reset by peer")?;
    has("good", good, ANSWER)
}

/// Both patiences a second long.
const IMPATIENT: &str = "[limits]\nconnect_time = \"1s\"\nidle_time = \"1s\"\n";

/// Longer than any patience of a test, shorter than a program that hangs.
const AT_LAST: Duration = Duration::from_secs(15);

fn silent_hosts() -> Result<(), Failed> {
    let world = World::new()?;
    let silent = || {
        Origin::start("127.0.0.1", |mut stream, log| {
            loop {
                request(&mut stream, &log)?;
                sleep(Duration::from_millis(50));
            }
        })
    };
    let (http, tls, raw) = (silent()?, silent()?, silent()?);
    let rules =
        [rule("http.test", http.port()), rule("silent.test", tls.port()), raw_rule("raw.test", raw.port())].concat();
    world.allow(&(rules + IMPATIENT))?;
    let begun = Instant::now();
    let host = format!("http.test:{}", http.port());
    let said = world.say(&host, &[&get("/", &host), "end"])?;
    has("http", &said, "HTTP/1.1 504")?;
    has("http", &said, "\"reason\":\"timed_out\"")?;
    has("http", &http.text(), "GET / HTTP/1.1\r\n")?;
    let said = world.say(&format!("silent.test:{}", tls.port()), &[&world.handshake("silent.test"), "end"])?;
    has("tls", &said, "[")?;
    lacks("tls", &said, "os error 11")?;
    world.say(&format!("raw.test:{}", raw.port()), &["send:hello", "end"])?;
    same(&raw.text(), &"hello".to_owned())?;
    ensure(begun.elapsed() < AT_LAST, || format!("{:?}", begun.elapsed()))
}

/// A listener whose queue is full: who comes next gets no answer at all.
fn full_listener() -> Result<(TcpListener, Vec<TcpStream>), Failed> {
    let listener = listener(0)?;
    let address = listener.local_addr()?;
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queue.push(stream);
        ensure(queue.len() < 64, || "the queue is never full".to_owned())?;
    }
    Ok((listener, queue))
}

fn deaf_host() -> Result<(), Failed> {
    let world = World::new()?;
    let (listener, queue) = full_listener()?;
    let port = listener.local_addr()?.port();
    world.allow(&(rule("deaf.test", port) + IMPATIENT))?;
    let begun = Instant::now();
    let host = format!("deaf.test:{port}");
    has("http", &world.say(&host, &[&get("/", &host), "end"])?, "\"reason\":\"timed_out\"")?;
    // SOCKS is told while it waits for its connection: the host cannot be reached.
    let name: String = "deaf.test".bytes().map(|byte| format!("\\x{byte:02x}")).collect();
    let [high, low] = port.to_be_bytes();
    let ask = format!("send:\\x05\\x01\\x00\\x03\\x09{name}\\x{high:02x}\\x{low:02x}");
    let hello = world.handshake("deaf.test");
    let said = world.say("198.18.0.1:3128", &["send:\\x05\\x01\\x00", "read:2", &ask, "read:10", &hello, "end"])?;
    lacks("socks", &said, ANSWER)?;
    let refused = format!("{:?}", world.events("egress")?);
    has("record", &refused, "timed_out")?;
    ensure(begun.elapsed() < AT_LAST, || format!("{:?}", begun.elapsed()))?;
    drop(queue);
    Ok(())
}

fn deaf_program() -> Result<(), Failed> {
    let world = World::new()?;
    world.allow(IMPATIENT)?;
    let host = format!("plain.test:{}", world.plain.port());
    let begun = Instant::now();
    let said = world.say(&host, &[&get("/bytes/80000000", &host), "sleep:4000", "end"])?;
    ensure(said.len() < 80_000_000, || format!("all of {} bytes", said.len()))?;
    has("program", &said[said.len().saturating_sub(100)..], "reset by peer")?;
    ensure(begun.elapsed() < AT_LAST, || format!("{:?}", begun.elapsed()))?;
    // One that is slower than the host and still takes something is waited for.
    let said = world.say(&host, &[&get("/bytes/20000000", &host), "read:5000000", "sleep:500", "end"])?;
    ensure(said.len() > 20_000_000, || format!("{} bytes", said.len()))
}

fn dribbling_host() -> Result<(), Failed> {
    let world = World::new()?;
    let dribble = |mut stream: TcpStream, log: Recorder| {
        request(&mut stream, &log)?;
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: 1234567890\r\nContent-Length: 20\r\n\r\n12345678901234567890" {
            stream.write_all(&[*byte])?;
            sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    let (http, raw) = (Origin::start("127.0.0.1", dribble)?, Origin::start("127.0.0.1", dribble)?);
    world.allow(&(rule("http.test", http.port()) + &raw_rule("raw.test", raw.port()) + IMPATIENT))?;
    for (name, origin) in [("http.test", &http), ("raw.test", &raw)] {
        let host = format!("{name}:{}", origin.port());
        let said = world.say(&host, &[&get("/", &host), "end"])?;
        has(name, &said, "HTTP/1.1 200 OK\r\n")?;
        ensure(said.ends_with("\r\n\r\n12345678901234567890"), || said.clone())?;
    }
    Ok(())
}

fn dribbling_programs() -> Result<(), Failed> {
    let world = World::new()?;
    let host = format!("plain.test:{}", world.plain.port());
    let words = own(&["crowd", "dribble", &host, "200"])?;
    let mut command = world.command(&[])?;
    let good = say(&host, &[&get("/good", &host), "end"])?;
    let script = format!(
        "'{}' crowd dribble {host} 200 > dribbled & for i in 1 2 3 4 5; do {good}; sleep 0.5; done | grep -c {ANSWER}; wait",
        words[0]
    );
    command.args(["sh", "-c", &script]);
    let begun = Instant::now();
    let output = command.output()?;
    succeeded("dribble", &output)?;
    same(&String::from_utf8_lossy(&output.stdout).trim(), &"5")?;
    let told = fs::read_to_string(world.scene.path("dribbled"))?;
    same(&told.trim(), &"ended 200 told 200")?;
    ensure(begun.elapsed() < Duration::from_secs(40), || format!("{:?}", begun.elapsed()))?;
    let arrived = world.plain.text();
    same(&arrived.matches("GET /").count(), &5)?;
    lacks("arrived", &arrived, "X-Slow")
}

/// As many as the descriptors of this machine allow: the proxy needs two for each.
fn many() -> Result<usize, Failed> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard)?.saturating_sub(512).div_euclid(2).min(10_000))
}

/// The resident memory of a process, in KiB.
fn memory(pid: i32) -> Result<u64, Failed> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn crowd() -> Result<(), Failed> {
    let many = many()?;
    let world = World::new()?;
    let echo = Echo::start()?;
    world.allow(&(raw_rule("echo.test", echo.port()) + "[limits]\nconnections = 20000\n"))?;
    let host = format!("echo.test:{}", echo.port());
    let words = own(&["crowd", "hold", &host, &many.to_string()])?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut running = Running::spawn(&world.scene, world.command(&words)?)?;
    same(&running.line()?, &format!("stood {many}"))?;
    same(&echo.open(), &many)?;
    // Each of them waits: what the proxy holds for it is small.
    let held = memory(running.supervisor())?;
    ensure(held < 64 << 10, || format!("{held} KiB for {many} connections"))?;
    fs::write(world.scene.path("go"), "")?;
    same(&running.line()?, &format!("echoed {many}"))?;
    let status = running.wait(Duration::from_secs(30))?;
    ensure(status.success(), || format!("{status:?}"))?;
    eventually("all are closed", Duration::from_secs(10), || echo.open() == 0)?;
    same(&world.events("egress")?.len(), &many)
}

fn no_descriptors_inside() -> Result<(), Failed> {
    let world = World::new()?;
    let echo = Echo::start()?;
    world.allow(&raw_rule("echo.test", echo.port()))?;
    let host = format!("echo.test:{}", echo.port());
    let plain = format!("plain.test:{}", world.plain.port());
    let good = say(&plain, &[&get("/good", &plain), "end"])?;
    let script = format!(
        "(ulimit -n 40; '{}' crowd hold {host} 1000 > held) & until test -s held; do sleep 0.05; done; {good}; touch go; wait",
        own(&[])?[0]
    );
    let output = world.inside(&["sh", "-c", &script])?;
    has("good", &printed(&output), ANSWER)?;
    let held = fs::read_to_string(world.scene.path("held"))?;
    let stood: usize = held.lines().find_map(|line| line.strip_prefix("stood ")?.parse().ok()).ok_or("none")?;
    ensure((1..40).contains(&stood), || held.clone())?;
    has("held", &held, &format!("echoed {stood}"))
}

fn few_descriptors() -> Result<(), Failed> {
    let world = World::new()?;
    let echo = Echo::start()?;
    world.allow(&raw_rule("echo.test", echo.port()))?;
    let host = format!("echo.test:{}", echo.port());
    let run = world.command(&[])?;
    let mut command = world.scene.host("sh");
    command.args(["-c", "ulimit -n 320; exec \"$@\"", "sh"]).arg(run.get_program()).args(run.get_args());
    // One after the other: who waits for a place is served when another has left.
    let program = own(&[])?[0].clone();
    let script = format!(
        "'{program}' crowd hold {host} 200 > first & until test -s first; do sleep 0.05; done; touch go; wait; \
         '{program}' crowd hold {host} 20 > second"
    );
    let output = command.args(["sh", "-c", &script]).output()?;
    succeeded("few", &output)?;
    let stood = |name: &str| -> Result<usize, Failed> {
        let text = fs::read_to_string(world.scene.path(name))?;
        text.lines().find_map(|line| line.strip_prefix("stood ")?.parse().ok()).ok_or_else(|| text.into())
    };
    let first = stood("first")?;
    ensure((20..=160).contains(&first), || format!("{first} stood"))?;
    same(&stood("second")?, &20)
}

fn no_descriptors() -> Result<(), Failed> {
    let world = World::new()?;
    let plain = format!("plain.test:{}", world.plain.port());
    let good = say(&plain, &[&get("/good", &plain), "answer"])?;
    let script =
        format!("echo ready; while test ! -e stop; do {good} > out; cat out >> all; echo >> tries; sleep 0.1; done");
    let mut running = Running::spawn(&world.scene, {
        let mut command = world.command(&["sh", "-c"])?;
        command.arg(script);
        command
    })?;
    let answers = || fs::read_to_string(world.scene.path("all")).unwrap_or_default().matches(ANSWER).count();
    let patience = Duration::from_secs(20);
    eventually("an answer", patience, || answers() > 0)?;
    let limit = |files: &str| -> Result<(), Failed> {
        let pid = format!("--pid={}", running.supervisor());
        succeeded("prlimit", &Command::new("prlimit").args([&pid, &format!("--nofile={files}:")]).output()?)
    };
    limit("4")?;
    sleep(Duration::from_millis(500));
    let tries = || fs::read_to_string(world.scene.path("tries")).unwrap_or_default().len();
    let (tried, before) = (tries(), answers());
    eventually("more tries", patience, || tries() > tried + 1)?;
    // One that was accepted before may have come through.
    ensure(answers() <= before + 1, || format!("{} answers", answers() - before))?;
    limit("1024")?;
    eventually("answers again", patience, || answers() > before + 2)?;
    fs::write(world.scene.path("stop"), "")?;
    let status = running.wait(patience)?;
    ensure(status.success(), || format!("{status:?}"))
}

fn flood() -> Result<(), Failed> {
    let world = World::new()?;
    let plain = format!("plain.test:{}", world.plain.port());
    let good = say(&plain, &[&get("/good", &plain), "end"])?;
    let script =
        format!("'{}' crowd ask evil.test 30000 & for i in 1 2 3; do {good}; done; wait; {good}", own(&[])?[0]);
    let output = world.inside(&["sh", "-c", &script])?;
    let text = printed(&output);
    same(&text.matches(ANSWER).count(), &4)?;
    has("flood", &text, "asked 30000")?;
    let refused = world.events("egress")?;
    // Counted, not written one by one.
    ensure(refused.len() < 2000, || format!("{} lines", refused.len()))?;
    let more: u64 = refused.iter().filter_map(|line| line["more_refused"].as_u64()).sum();
    ensure(more > 1000, || format!("{more} more in {} lines", refused.len()))
}

fn unrecorded() -> Result<(), Failed> {
    let world = World::new()?;
    let plain = format!("plain.test:{}", world.plain.port());
    let good = |path: &str| say(&plain, &[&get(path, &plain), "answer"]);
    let script = format!(
        "{}; echo; echo ready; until test -e go; do sleep 0.02; done; {}; touch came-back; sleep 600",
        good("/before")?,
        good("/after")?
    );
    let (mut messages, writer) = io::pipe()?;
    let mut command = world.command(&["sh", "-c"])?;
    command.arg(script).stderr(writer);
    let mut running = Running::spawn(&world.scene, command)?;
    has("before", &world.plain.text(), "GET /before ")?;
    let limit = format!("--pid={}", running.supervisor());
    succeeded("prlimit", &Command::new("prlimit").args([&limit, "--fsize=1"]).output()?)?;
    fs::write(world.scene.path("go"), "")?;
    same(&running.wait(Duration::from_secs(20))?.code(), &Some(125))?;
    let mut text = String::new();
    messages.read_to_string(&mut text)?;
    has("message", &text, "error: cannot write the record")?;
    lacks("arrived", &world.plain.text(), "GET /after ")?;
    same(&world.plain.connections().iter().filter(|arrived| !arrived.bytes.is_empty()).count(), &1)
}

fn killed() -> Result<(), Failed> {
    let world = World::new()?;
    let echo = Echo::start()?;
    world.allow(&raw_rule("echo.test", echo.port()))?;
    let host = format!("echo.test:{}", echo.port());
    let words = own(&["crowd", "hold", &host, "20"])?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut running = Running::spawn(&world.scene, world.command(&words)?)?;
    same(&running.line()?, &"stood 20".to_owned())?;
    same(&echo.open(), &20)?;
    let processes = running.processes();
    ensure(processes.len() >= 2, || format!("only {processes:?}"))?;
    running.signal(Signal::SIGKILL)?;
    running.wait(Duration::from_secs(10))?;
    let patience = Duration::from_secs(5);
    eventually("every connection is closed", patience, || echo.open() == 0)?;
    eventually("everything inside is gone", patience, || !processes.iter().any(|pid| lives(*pid)))?;
    // The next run works, and takes what the last one left.
    let plain = format!("plain.test:{}", world.plain.port());
    has("the next run", &world.say(&plain, &[&get("/", &plain), "end"])?, ANSWER)?;
    let left: Vec<_> = fs::read_dir(world.scene.runtime().join("jail"))?.flatten().collect();
    ensure(left.is_empty(), || format!("{left:?}"))
}

/// Finds the socket on which another process listens at 198.18.0.1:3128, and shuts it down.
const SHUT: &str = r#"
import ctypes, os, socket, sys
pid = int(sys.argv[1])
handle = os.pidfd_open(pid)
for name in os.listdir(f'/proc/{pid}/fd'):
    if not os.readlink(f'/proc/{pid}/fd/{name}').startswith('socket:'):
        continue
    # pidfd_getfd has the same number everywhere.
    copy = ctypes.CDLL(None, use_errno=True).syscall(438, handle, int(name), 0)
    if copy < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    found = socket.socket(fileno=copy)
    try:
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        continue
    if listens and found.family == socket.AF_INET and found.getsockname() == ('198.18.0.1', 3128):
        found.shutdown(socket.SHUT_RDWR)
        print('shut')
        break
"#;

fn lost_listener() -> Result<(), Failed> {
    let world = World::new()?;
    let (mut messages, writer) = io::pipe()?;
    let mut command = world.command(&["sh", "-c", "echo ready; sleep 600"])?;
    command.stderr(writer);
    let mut running = Running::spawn(&world.scene, command)?;
    let processes = running.processes();
    let shut = Command::new("python3").args(["-c", SHUT, &running.supervisor().to_string()]).output()?;
    succeeded("shut", &shut)?;
    has("shut", &printed(&shut), "shut")?;
    same(&running.wait(Duration::from_secs(10))?.code(), &Some(125))?;
    let mut text = String::new();
    messages.read_to_string(&mut text)?;
    has("message", &text, "the policy proxy cannot accept connections")?;
    let patience = Duration::from_secs(2);
    eventually("everything inside is gone", patience, || !processes.iter().any(|pid| lives(*pid)))
}
