//! The record and the messages name the program inside that made a connection, by every way in.

use std::fs;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::checks::{ensure, same};
use crate::egress::{PROXY, World, connect, get};
use crate::needs::{Need, Needing, test, test_with};
use crate::scene::printed;
use crate::tries::{has, lacks};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("the_record_names_the_program_by_every_way_in", every_way_in),
        test("a_program_that_calls_itself_something_odd_is_shown_as_one_word", odd_name),
        test_with("messages_and_the_summary_name_the_program", Need::Program("curl"), told),
        test_with("one_of_many_programs_is_named", Need::Program("python3"), one_of_many),
    ]
}

fn own_name() -> Result<String, Failed> {
    let program = std::env::current_exe()?;
    let name = program.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
    Ok(name.chars().take(64).collect())
}

fn named(line: &Value, name: &str) -> Result<(), Failed> {
    ensure(line["program"] == name && line["pid"].as_i64().is_some_and(|pid| pid > 1), || {
        format!("{name} is not named: {line}")
    })
}

fn every_way_in() -> Result<(), Failed> {
    let world = World::new()?;
    let name = own_name()?;
    let (tls, six, plain) = (world.tls.port(), world.six.port(), world.plain.port());
    let hello = world.handshake("tls.test");
    let hello_six = world.handshake("six.test");
    let url = format!("plain.test:{plain}");
    let socks = |host: &str, port: u16| {
        let [high, low] = port.to_be_bytes();
        format!("send:\\x05\\x01\\x00\\x05\\x01\\x00\\x03\\x{:02x}{host}\\x{high:02x}\\x{low:02x}", host.len())
    };
    let (connect_tls, socks_tls) = (connect(&format!("tls.test:{tls}")), socks("tls.test", tls));
    let allowed: [(&str, String, Vec<&str>); 6] = [
        ("transparent", format!("tls.test:{tls}"), vec![&hello]),
        ("transparent", format!("six.test:{six}"), vec![&hello_six]),
        ("connect", PROXY.to_owned(), vec![&connect_tls, "head", &hello]),
        ("connect", "[fd00:18::1]:3128".to_owned(), vec![&connect_tls, "head", &hello]),
        ("socks", PROXY.to_owned(), vec![&socks_tls, "read:12", &hello]),
        ("forward", PROXY.to_owned(), vec![]),
    ];
    for (entry, address, mut steps) in allowed {
        let request = match entry {
            "forward" => get(&format!("http://{url}/"), &url),
            _ => get("/", if address.starts_with("six") { "six.test" } else { "tls.test" }),
        };
        steps.extend([request.as_str(), "end"]);
        has(entry, &world.say(&address, &steps)?, "ORIGIN_ANSWER")?;
        let (opened, ended) = (world.events("egress-open")?, world.events("egress")?);
        same(&(opened.len(), ended.len()), &(1, 1))?;
        same(&ended[0]["entry"], &Value::from(entry))?;
        named(&ended[0], &name)?;
    }
    let evil = connect("evil.test:443");
    let socks_evil = socks("evil.test", 443);
    let url_evil = get("http://evil.test/", "evil.test");
    let refused: [(&str, &str, &[&str]); 7] = [
        ("transparent", "203.0.113.7:443", &[&hello, "end"]),
        ("transparent", "[2001:db8::7]:22", &["send:x", "end"]),
        ("connect", PROXY, &[&evil, "end"]),
        ("socks", PROXY, &[&socks_evil, "end"]),
        ("forward", PROXY, &[&url_evil, "end"]),
        ("forward", "[fd00:18::1]:3128", &[&url_evil, "end"]),
        ("dns", "evil.test:443", &["end"]),
    ];
    for (entry, address, steps) in refused {
        world.say(address, steps)?;
        let lines = world.events("egress")?;
        ensure(!lines.is_empty(), || format!("{entry} to {address} is not recorded"))?;
        for line in lines {
            same(&line["entry"], &Value::from(entry))?;
            named(&line, &name)?;
        }
    }
    // Questions by TCP.
    let question = r"send:\x00\x1b\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04evil\x04test\x00\x00\x01\x00\x01";
    world.say("198.18.0.1:53", &[question, "answer"])?;
    named(world.events("egress")?.first().ok_or("no line")?, &name)
}

/// The name is the program's own doing.
fn odd_name() -> Result<(), Failed> {
    let world = World::new()?;
    let odd = world.scene.path("a: allowed\x1b[2J");
    fs::copy(std::env::current_exe()?, &odd)?;
    let odd = odd.display().to_string();
    let mut command = world.scene.jail(&["run", "--"]);
    let output = command.args([&odd, "say", PROXY, &connect("evil.test:443"), "end"]).output()?;
    let text = printed(&output);
    has("message", &text, "jail: a??allowed??2J: refused evil.test:443: no rule")?;
    has("summary", &text, "  a??allowed??2J: evil.test:443: no rule")?;
    lacks("message", &text, "a: allowed\x1b")?;
    named(world.events("egress")?.first().ok_or("no line")?, "a: allowed\x1b[2J")
}

fn told() -> Result<(), Failed> {
    let world = World::new()?;
    let script = "curl -s https://evil.test/; curl -s https://203.0.113.7/; true";
    let output = world.scene.jail(&["run", "--", "sh", "-c", script]).output()?;
    let text = printed(&output);
    for part in [
        "jail: curl: refused evil.test: no rule",
        "jail: curl: refused 203.0.113.7:443: addresses are allowed only one by one",
        "  curl: evil.test: no rule",
    ] {
        has("message", &text, part)?;
    }
    let output = world.scene.jail(&["run", "--json", "--", "sh", "-c", script]).output()?;
    has("JSON", &printed(&output), r#""programs":["curl"]"#)
}

/// Among many processes with many descriptors the right one is found.
fn one_of_many() -> Result<(), Failed> {
    let world = World::new()?;
    let program = std::env::current_exe()?.display().to_string();
    let many = "import os, socket, time; all = [socket.socket() for _ in range(200)]; open('ready%d' % os.getpid(), 'w'); time.sleep(60)";
    let script = format!(
        "for i in 1 2 3 4 5; do python3 -c \"{many}\" & done; until test $(ls | grep -c ready) = 5; do sleep 0.02; done; \
         '{program}' say {PROXY} '{}' end; kill $(jobs -p)",
        connect("evil.test:443")
    );
    world.inside(&["sh", "-c", &script])?;
    named(world.events("egress")?.first().ok_or("no line")?, &own_name()?)
}
