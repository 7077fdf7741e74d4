//! What the proxy itself could be made to give away: the password of the host's own proxy, that proxy, and the record.

use std::io::{Read, Write};

use libtest_mimic::Failed;

use crate::checks::{ensure, same};
use crate::egress::{PROXY, World, connect, get};
use crate::needs::{Needing, test};
use crate::origin::{ANSWER, Origin};
use crate::scene::printed;
use crate::tries::{has, lacks};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("px_022_the_hosts_proxy_is_not_made_to_show_its_password", trace),
        test("px_022_a_websocket_asks_the_hosts_proxy_for_a_connection", websocket),
        test("px_007_a_rule_for_reading_lets_nothing_be_written", reading),
        test("au_003_a_flood_of_refusals_does_not_hide_the_next_host", hidden_in_a_flood),
    ]
}

const PASSWORD: &str = "Basic YW5uOnNlY3JldA==";

/// The answer to the handshake of RFC 6455 section 1.3.
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A proxy on the host. It shows what it is asked (RFC 9110 section 9.3.8), passes on WebSockets and goes on reading
/// requests behind them.
fn parent() -> Result<Origin, Failed> {
    Origin::start("127.0.0.1", |mut stream, log| {
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer)?;
            let asked = &buffer[..read];
            log.bytes(asked);
            if asked.is_empty() {
                return Ok(());
            } else if asked.starts_with(b"CONNECT") {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            } else if asked.windows(9).any(|bytes| bytes == b"websocket") {
                stream.write_all(SWITCH.as_bytes())?;
            } else {
                stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {read}\r\n\r\n").as_bytes())?;
                stream.write_all(asked)?;
            }
        }
    })
}

fn chained(world: &World, parent: &Origin, address: &str, steps: &[&str]) -> Result<String, Failed> {
    let program = std::env::current_exe()?.display().to_string();
    let mut command = world.command(&[&[program.as_str(), "say", address], steps].concat())?;
    let url = format!("http://ann:secret@127.0.0.1:{}", parent.port());
    Ok(printed(&command.env("HTTPS_PROXY", &url).env("HTTP_PROXY", &url).output()?))
}

fn trace() -> Result<(), Failed> {
    let world = World::new()?;
    world.allow("[[allow]]\nhost = \"chained.test\"\ntunnel = true\n")?;
    let parent = parent()?;
    // It does show the password, in the answer to a method that is passed on.
    let said = chained(&world, &parent, PROXY, &[&get("http://chained.test/", "chained.test"), "end"])?;
    has("control", &said, PASSWORD)?;
    parent.forget();
    let ask = |method: &str, target: &str| {
        format!("send:{method} {target} HTTP/1.1\\r\\nHost: chained.test\\r\\nMax-Forwards: 0\\r\\n\\r\\n")
    };
    for method in ["TRACE", "trace", "TRACK"] {
        for (address, steps) in [
            (PROXY, vec![ask(method, "http://chained.test/")]),
            ("chained.test:80", vec![ask(method, "/")]),
            ("chained.test:80", vec![ask(method, "http://chained.test/")]),
            (PROXY, vec![connect("chained.test:80"), "head".to_owned(), ask(method, "/")]),
        ] {
            let steps: Vec<&str> = steps.iter().map(String::as_str).chain(["end"]).collect();
            let said = chained(&world, &parent, address, &steps)?;
            has(method, &said, "\"reason\":\"bad_request\"")?;
            lacks(method, &said, PASSWORD)?;
            lacks(method, &parent.text().to_uppercase(), &method.to_uppercase())?;
        }
    }
    Ok(())
}

fn websocket() -> Result<(), Failed> {
    let world = World::new()?;
    world.allow("[[allow]]\nhost = \"chained.test\"\ntunnel = true\n")?;
    let parent = parent()?;
    let handshake = "send:GET /ws HTTP/1.1\\r\\nHost: chained.test\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\
                     Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n";
    let denied = get("http://evil.test/", "evil.test");
    // A request first, whose connection must not be used for the WebSocket.
    let first = "send:GET /first HTTP/1.1\\r\\nHost: chained.test\\r\\n\\r\\n";
    let said = chained(&world, &parent, "chained.test:80", &[first, "answer", handshake, "head", &denied, "answer"])?;
    has("handshake", &said, "101 Switching Protocols")?;
    let arrived = parent.connections();
    same(&arrived.len(), &2)?;
    has("first", &arrived[0].text(), "GET http://chained.test/first HTTP/1.1\r\n")?;
    lacks("first", &arrived[0].text(), "evil.test")?;
    // What follows the handshake goes through a connection to the host, and is no request to the proxy.
    let text = arrived[1].text();
    ensure(text.starts_with("CONNECT chained.test:80 HTTP/1.1\r\n"), || text.clone())?;
    has("handshake", &text, "GET /ws HTTP/1.1\r\nHost: chained.test\r\n")?;
    same(&text.matches(PASSWORD).count(), &1)?;
    has("tunnel", &text, "GET http://evil.test/ HTTP/1.1\r\n")
}

fn reading() -> Result<(), Failed> {
    let world = World::new()?;
    let host = format!("read.test:{}", world.plain.port());
    let rule = |tunnel: &str| {
        let port = world.plain.port();
        format!("[[allow]]\nhost = \"read.test\"\nports = [{port}]\nresolve = [\"127.0.0.1\"]\n{tunnel}\n")
    };
    world.allow(&rule(""))?;
    let requests = [
        "POST / HTTP/1.1\\r\\nHost: {host}\\r\\nContent-Length: 4\\r\\n\\r\\nleak",
        "GET /a HTTP/1.1\\r\\nHost: {host}\\r\\nContent-Length: 4\\r\\n\\r\\nleak",
        "GET /a HTTP/1.1\\r\\nHost: {host}\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n4\\r\\nleak\\r\\n0\\r\\n\\r\\n",
        "GET /a HTTP/1.1\\r\\nHost: {host}\\r\\nX-HTTP-Method-Override: DELETE\\r\\n\\r\\n",
        "GET /a HTTP/1.1\\r\\nHost: {host}\\r\\nx_method_override: DELETE\\r\\n\\r\\n",
    ]
    .map(|request| format!("send:{}", request.replace("{host}", &host)));
    for request in &requests {
        for steps in [vec![request.as_str(), "answer"], vec![&connect(&host), "head", request, "answer"]] {
            let address = if steps.len() == 2 { host.as_str() } else { PROXY };
            let said = world.say(address, &steps)?;
            has(request, &said, "\"reason\":\"method_not_allowed\"")?;
        }
    }
    same(&world.plain.text(), &String::new())?;
    has("reading", &world.say(&host, &[&get("/read", &host), "end"])?, ANSWER)?;
    // With a rule for all of it the same requests arrive, whatever rule for reading stands behind it.
    world.allow(&rule("tunnel = true"))?;
    world.allow(&rule("connections = 9"))?;
    for request in &requests {
        world.plain.forget();
        has(request, &world.say(&host, &[request, "answer"])?, ANSWER)?;
        ensure(!world.plain.text().is_empty(), || request.clone())?;
    }
    Ok(())
}

fn hidden_in_a_flood() -> Result<(), Failed> {
    let world = World::new()?;
    let program = std::env::current_exe()?.display().to_string();
    let script = format!("'{program}' crowd ask evil.test 450; '{program}' say other.test:443 end; true");
    let output = world.inside(&["sh", "-c", &script])?;
    has("flood", &printed(&output), "asked 450")?;
    let refused = world.events("egress")?;
    ensure(refused.len() > 200, || format!("only {} lines", refused.len()))?;
    let named = refused.iter().filter(|line| line["host"] == "other.test").count();
    ensure(named > 0, || format!("not one of {} lines names it", refused.len()))
}
