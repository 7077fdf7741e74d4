//! The way out: what is allowed arrives unchanged by every way in, and of what is not allowed nothing arrives.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::checks::{ensure, same};
use crate::needs::{Need, Needing, test, test_with};
use crate::origin::{ANSWER, Authority, Origin};
use crate::scene::{Scene, printed, succeeded};
use crate::tries::{has, lacks};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("a_request_by_connect_arrives", by_connect),
        test("a_request_of_plain_http_arrives", by_whole_url),
        test("px_001_nothing_is_allowed_without_a_rule", no_rule),
        test("px_010_what_is_said_in_connect_must_be_for_its_host", inner_host),
        test("px_011_raw_bytes_in_connect_do_not_arrive", raw_in_connect),
        test("px_006_a_whole_url_and_host_must_agree", url_and_host),
        test("nt_009_the_proxy_is_not_reached_through_itself", itself),
        test("px_018_alternative_services_are_not_told", alternative_services),
        test("a_connection_is_recorded_before_and_after", recorded),
        test("what_is_allowed_and_not_reached_is_told_in_words", not_reached),
        test_with("curl_comes_through_the_proxy", Need::Program("curl"), curl),
        test_with("curl_needs_no_proxy", Need::Program("curl"), curl_transparent),
        test_with("dn_001_a_denied_name_is_refused_with_its_reason", Need::Program("curl"), denied_name),
        test("a_connection_to_a_name_arrives", to_a_name),
        test("tl_001_the_server_name_must_be_the_name_that_was_asked_for", server_name),
        test("nt_011_an_address_with_an_allowed_server_name_is_refused", address_with_name),
        test("a_request_by_socks_arrives", by_socks),
        test("px_022_the_hosts_proxy_gets_what_the_policy_allows", chained),
        test("sv_018_the_supervisor_gives_up_what_it_does_not_need", supervisor_gives_up),
        test("dn_003_a_name_that_leads_to_this_machine_is_refused", private_address),
        test("px_017_socks_serves_connect_alone", socks_connect_alone),
    ]
}

/// The proxy inside.
pub const PROXY: &str = "198.18.0.1:3128";

/// A scene with origins on both loopback addresses.
pub struct World {
    /// The scene.
    pub scene: Scene,
    /// Signs the certificates.
    pub authority: Authority,
    /// Plain HTTP on 127.0.0.1, the host `plain.test`.
    pub plain: Origin,
    /// TLS on 127.0.0.1, the hosts `tls.test` and `evil.test`.
    pub tls: Origin,
    /// TLS on ::1, the host `six.test`.
    pub six: Origin,
    policy: PathBuf,
}

impl World {
    /// `plain.test`, `tls.test` and `six.test` are allowed; `evil.test` has an origin too, and no rule.
    pub fn new() -> Result<Self, Failed> {
        let scene = Scene::new()?;
        let authority = Authority::new(&scene.path("ca.pem"))?;
        let plain = Origin::http("127.0.0.1")?;
        let tls = Origin::https("127.0.0.1", &authority, &["tls.test", "evil.test"])?;
        let six = Origin::https("[::1]", &authority, &["six.test"])?;
        let rule = |host: &str, port: u16, address: &str| {
            format!("[[allow]]\nhost = \"{host}\"\nports = [{port}]\ntunnel = true\nresolve = [\"{address}\"]\n\n")
        };
        let policy = scene.outside("policy.toml");
        let rules = [
            rule("plain.test", plain.port(), "127.0.0.1"),
            rule("tls.test", tls.port(), "127.0.0.1"),
            rule("six.test", six.port(), "::1"),
        ];
        fs::write(&policy, rules.concat())?;
        Ok(Self { scene, authority, plain, tls, six, policy })
    }

    /// Adds rules.
    pub fn allow(&self, rules: &str) -> Result<(), Failed> {
        let mut text = fs::read_to_string(&self.policy)?;
        text.push_str(rules);
        Ok(fs::write(&self.policy, text)?)
    }

    /// Runs words inside.
    pub fn inside(&self, words: &[&str]) -> Result<Output, Failed> {
        Ok(self.command(words)?.output()?)
    }

    /// The command that runs words inside.
    pub fn command(&self, words: &[&str]) -> Result<Command, Failed> {
        let program = std::env::current_exe()?.display().to_string();
        let policy = self.policy.display().to_string();
        let flags = ["--policy", &policy, "--read", &program];
        let mut command = self.scene.run_with(&flags);
        command.args(words);
        Ok(command)
    }

    /// Says something inside, see `say.rs`; what came back.
    pub fn say(&self, address: &str, steps: &[&str]) -> Result<String, Failed> {
        let program = std::env::current_exe()?.display().to_string();
        let output = self.inside(&[&[program.as_str(), "say", address], steps].concat())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same on the host, as positive control.
    pub fn say_outside(&self, address: &str, steps: &[&str]) -> Result<String, Failed> {
        let output = self.scene.host(std::env::current_exe()?).arg("say").arg(address).args(steps).output()?;
        succeeded("say", &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A step that starts TLS with this server name.
    pub fn handshake(&self, name: &str) -> String {
        format!("tls:{name}:{}", self.authority.file().display())
    }

    /// The lines of the newest record with this event.
    pub fn events(&self, event: &str) -> Result<Vec<Value>, Failed> {
        let mut records: Vec<_> = fs::read_dir(self.scene.outside("state/jail/sessions"))?
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        records.sort();
        let (_, newest) = records.pop().ok_or("no record")?;
        let lines = fs::read_to_string(newest)?;
        let lines: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(lines.into_iter().filter(|line| line["event"] == event).collect())
    }
}

/// A step of `say`: a request.
pub fn get(path: &str, host: &str) -> String {
    format!("send:GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n")
}

/// A step of `say`: a request for a connection.
pub fn connect(authority: &str) -> String {
    format!("send:CONNECT {authority} HTTP/1.1\\r\\nHost: {authority}\\r\\n\\r\\n")
}

fn by_connect() -> Result<(), Failed> {
    let world = World::new()?;
    for (host, origin) in [("tls.test", &world.tls), ("six.test", &world.six)] {
        let authority = format!("{host}:{}", origin.port());
        let handshake = world.handshake(host);
        let said = world.say(PROXY, &[&connect(&authority), "head", &handshake, &get("/a?b=c", host), "end"])?;
        has(host, &said, "HTTP/1.1 200 Connection established")?;
        has(host, &said, ANSWER)?;
        let arrived = origin.connections();
        same(&arrived.len(), &1)?;
        same(&arrived[0].server_name.as_deref(), &Some(host))?;
        same(&arrived[0].text(), &format!("GET /a?b=c HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))?;
    }
    Ok(())
}

fn by_whole_url() -> Result<(), Failed> {
    let world = World::new()?;
    let host = format!("plain.test:{}", world.plain.port());
    let said = world.say(PROXY, &[&get(&format!("http://{host}/a?b=c"), &host), "end"])?;
    has("answer", &said, "HTTP/1.1 200 OK")?;
    has("answer", &said, ANSWER)?;
    // Through CONNECT, as programs do that know no other way.
    let said = world.say(PROXY, &[&connect(&host), "head", &get("/d", &host), "end"])?;
    has("answer", &said, ANSWER)?;
    let arrived = world.plain.connections();
    same(&arrived.len(), &2)?;
    has("request", &arrived[0].text(), &format!("GET /a?b=c HTTP/1.1\r\nHost: {host}\r\n"))?;
    has("request", &arrived[1].text(), &format!("GET /d HTTP/1.1\r\nHost: {host}\r\n"))
}

fn no_rule() -> Result<(), Failed> {
    let world = World::new()?;
    let port = world.tls.port();
    let evil = format!("evil.test:{port}");
    // It answers who comes from outside the jail.
    let handshake = world.handshake("evil.test");
    has(
        "outside",
        &world.say_outside(&format!("127.0.0.1:{port}"), &[&handshake, &get("/", "evil.test"), "end"])?,
        ANSWER,
    )?;
    world.tls.forget();
    let said = world.say(PROXY, &[&connect(&evil), "end"])?;
    has("CONNECT", &said, "HTTP/1.1 403 Forbidden")?;
    has("CONNECT", &said, "\"reason\":\"host_not_allowed\"")?;
    let said = world.say(PROXY, &[&get(&format!("http://{evil}/"), &evil), "end"])?;
    has("URL", &said, "\"reason\":\"host_not_allowed\"")?;
    let said = world.say(PROXY, &[&connect(&format!("127.0.0.1:{port}")), "end"])?;
    has("address", &said, "HTTP/1.1 403 Forbidden")?;
    let said = world.say(PROXY, &[&connect(&format!("tls.test:{}", port ^ 1)), "end"])?;
    has("port", &said, "\"reason\":\"port_not_allowed\"")?;
    same(&world.tls.connections().len(), &0)
}

fn inner_host() -> Result<(), Failed> {
    let world = World::new()?;
    let tls = format!("tls.test:{}", world.tls.port());
    let evil = world.handshake("evil.test");
    let said = world.say(PROXY, &[&connect(&tls), "head", &evil, &get("/", "tls.test"), "end"])?;
    lacks("SNI", &said, ANSWER)?;
    same(&world.tls.text(), &String::new())?;
    let refused = world.events("egress")?;
    has("record", &format!("{refused:?}"), "sni_mismatch")?;
    // Plain HTTP: the first request is for the host, the second is not.
    let plain = format!("plain.test:{}", world.plain.port());
    let first = format!("send:GET /one HTTP/1.1\\r\\nHost: {plain}\\r\\n\\r\\n");
    let said = world.say(PROXY, &[&connect(&plain), "head", &first, "answer", &get("/two", "evil.test"), "end"])?;
    has("first", &said, ANSWER)?;
    has("second", &said, "\"reason\":\"host_mismatch\"")?;
    let arrived = world.plain.text();
    has("first", &arrived, "GET /one")?;
    lacks("second", &arrived, "/two")
}

fn raw_in_connect() -> Result<(), Failed> {
    let world = World::new()?;
    let plain = format!("plain.test:{}", world.plain.port());
    for bytes in [
        "SSH-2.0-OpenSSH_9.9\\r\\n",
        "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n",
        "\\x00\\x00\\x00\\x08\\x04\\xd2\\x16\\x2f",
        "\\x05\\x01\\x00",
        "\\x16\\x03\\x01\\x00\\x02zz",
        "GET / HTTP/1.1\\nHost: plain.test\\n\\n",
    ] {
        world.say(PROXY, &[&connect(&plain), "head", &format!("send:{bytes}"), "answer"])?;
        same(&world.plain.text(), &String::new())?;
    }
    // A rule for any bytes lets them through.
    let raw = Origin::raw("127.0.0.1", b"WELCOME ")?;
    world.allow(&format!(
        "[[allow]]\nhost = \"raw.test\"\nports = [{}]\ntunnel = \"raw\"\nresolve = [\"127.0.0.1\"]\n",
        raw.port()
    ))?;
    let authority = format!("raw.test:{}", raw.port());
    let said = world
        .say(PROXY, &[&connect(&authority), "head", "read:8", "send:SSH-2.0-x\\r\\n", "read:11", "shut", "end"])?;
    has("raw", &said, "WELCOME SSH-2.0-x\r\n")?;
    same(&raw.text(), &"SSH-2.0-x\r\n".to_owned())
}

fn url_and_host() -> Result<(), Failed> {
    let world = World::new()?;
    let plain = format!("plain.test:{}", world.plain.port());
    for (url, host) in [(plain.as_str(), "evil.test"), ("evil.test", plain.as_str())] {
        let said = world.say(PROXY, &[&get(&format!("http://{url}/"), host), "end"])?;
        has(url, &said, "HTTP/1.1 400 Bad Request")?;
    }
    let said = world.say(PROXY, &[&get(&format!("https://{plain}/"), &plain), "end"])?;
    has("https", &said, "HTTP/1.1 400 Bad Request")?;
    same(&world.plain.text(), &String::new())
}

fn itself() -> Result<(), Failed> {
    let world = World::new()?;
    for authority in [PROXY, "[fd00:18::1]:3128", "localhost:3128"] {
        has(authority, &world.say(PROXY, &[&connect(authority), "end"])?, "HTTP/1.1 403 Forbidden")?;
    }
    has("to itself", &world.say(PROXY, &[&get("/", PROXY), "end"])?, "HTTP/1.1 400 Bad Request")?;
    let hello = world.handshake("tls.test");
    has("TLS", &world.say(PROXY, &[&hello, "end"])?, "[")?;
    // One CONNECT inside another is a request like any other, and asks for nothing that is there.
    let plain = format!("plain.test:{}", world.plain.port());
    let said = world.say(PROXY, &[&connect(&plain), "head", &connect(&plain), "end"])?;
    has("nested", &said, "HTTP/1.1 400 Bad Request")?;
    same(&world.plain.text(), &String::new())
}

fn alternative_services() -> Result<(), Failed> {
    let world = World::new()?;
    let host = format!("plain.test:{}", world.plain.port());
    let outside = world.say_outside(&format!("127.0.0.1:{}", world.plain.port()), &[&get("/", &host), "end"])?;
    has("outside", &outside, "Alt-Svc")?;
    lacks("inside", &world.say(PROXY, &[&get(&format!("http://{host}/"), &host), "end"])?, "Alt-Svc")
}

fn recorded() -> Result<(), Failed> {
    let world = World::new()?;
    let authority = format!("tls.test:{}", world.tls.port());
    let handshake = world.handshake("tls.test");
    world.say(PROXY, &[&connect(&authority), "head", &handshake, &get("/secret?token=1", "tls.test"), "end"])?;
    let (opened, ended) = (world.events("egress-open")?, world.events("egress")?);
    same(&(opened.len(), ended.len()), &(1, 1))?;
    for line in [&opened[0], &ended[0]] {
        same(&line["host"], &Value::from("tls.test"))?;
        same(&line["port"], &Value::from(world.tls.port()))?;
        same(&line["entry"], &Value::from("connect"))?;
        same(&line["verdict"], &Value::from("allow"))?;
        same(&line["address"], &Value::from(format!("127.0.0.1:{}", world.tls.port())))?;
        has("rule", line["rule"].as_str().unwrap_or_default(), "policy.toml:8")?;
        lacks("secret", &line.to_string(), "token")?;
    }
    same(&opened[0]["id"], &ended[0]["id"])?;
    let bytes = |key: &str| ended[0][key].as_u64().unwrap_or_default();
    ensure(bytes("bytes_up") > 300 && bytes("bytes_down") > 500, || format!("{}", ended[0]))
}

fn curl() -> Result<(), Failed> {
    let world = World::new()?;
    let ca = world.authority.file().display().to_string();
    let url = format!("https://tls.test:{}/bytes/3000000", world.tls.port());
    let proxy = format!("http://{PROXY}");
    let output = world.inside(&["curl", "-sS", "--cacert", &ca, "-x", &proxy, &url])?;
    ensure(output.stdout.len() == 3_000_000, || printed(&output))?;
    for path in ["bytes/3000000", "chunked/300000"] {
        let url = format!("http://plain.test:{}/{path}", world.plain.port());
        let output = world.inside(&["curl", "-sS", "-x", &proxy, &url, &url])?;
        let length: usize = path.rsplit('/').next().and_then(|length| length.parse().ok()).unwrap_or_default();
        ensure(output.stdout.len() == 2 * length, || printed(&output))?;
    }
    let url = format!("http://plain.test:{}/echo", world.plain.port());
    let body = "b".repeat(100_000);
    let output = world.inside(&["curl", "-sS", "-x", &proxy, "--data-binary", &body, &url])?;
    ensure(output.stdout == body.as_bytes(), || printed(&output))
}

fn curl_transparent() -> Result<(), Failed> {
    let world = World::new()?;
    let ca = world.authority.file().display().to_string();
    for (host, origin) in [("tls.test", &world.tls), ("six.test", &world.six)] {
        for family in ["-4", "-6"] {
            let url = format!("https://{host}:{}/bytes/2000000", origin.port());
            let output = world.inside(&["curl", "-sS", family, "--cacert", &ca, &url])?;
            ensure(output.stdout.len() == 2_000_000, || printed(&output))?;
        }
    }
    let url = format!("http://plain.test:{}/chunked/100000", world.plain.port());
    let output = world.inside(&["curl", "-sS", &url, &url])?;
    ensure(output.stdout.len() == 200_000, || printed(&output))?;
    same(&world.plain.connections().len(), &1)
}

fn denied_name() -> Result<(), Failed> {
    let world = World::new()?;
    let output = world.inside(&["curl", "-sS", "http://secret-in-a-label.evil.test/"])?;
    ensure(output.status.code() == Some(6), || printed(&output))?;
    let refused = world.events("egress")?;
    let line = refused.first().ok_or("nothing is recorded")?;
    same(&line["host"], &Value::from("secret-in-a-label.evil.test"))?;
    same(&line["entry"], &Value::from("dns"))?;
    same(&line["reason"], &Value::from("host_not_allowed"))
}

fn not_reached() -> Result<(), Failed> {
    let world = World::new()?;
    // Nobody listens there any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let rule = format!("[[allow]]\nhost = \"gone.test\"\nports = [{port}]\ntunnel = true\nresolve = [\"127.0.0.1\"]\n");
    world.allow(&rule)?;
    let host = format!("gone.test:{port}");
    let program = std::env::current_exe()?.display().to_string();
    let policy = world.policy.display().to_string();
    let output = world
        .scene
        .jail(&["run", "--policy", &policy, "--read", &program, "--"])
        .args([&program, "say", &host, &get("/", &host), "end"])
        .output()?;
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    has("status", &said, "HTTP/1.1 502 ")?;
    has("status", &said, "error=destination_unavailable")?;
    has("body", &said, "\"reason\":\"unreachable\"")?;
    let sentence = format!("{host}: no address of the host could be reached");
    has("at once", &told, &format!(": not reached {sentence} (Connection refused"))?;
    has("summary", &told, "1 allowed, and not reached:\n  ")?;
    has("summary", &told, &format!(": {sentence}\n"))?;
    lacks("summary", &told, "refused on the way out")
}

fn to_a_name() -> Result<(), Failed> {
    let world = World::new()?;
    let handshake = world.handshake("tls.test");
    let said = world.say(&format!("tls.test:{}", world.tls.port()), &[&handshake, &get("/", "tls.test"), "end"])?;
    has("TLS", &said, ANSWER)?;
    let host = format!("plain.test:{}", world.plain.port());
    let said = world.say(&host, &[&get("/", &host), "end"])?;
    has("HTTP", &said, ANSWER)?;
    let opened = world.events("egress-open")?;
    same(&opened.first().ok_or("nothing is recorded")?["entry"], &Value::from("transparent"))
}

fn server_name() -> Result<(), Failed> {
    let world = World::new()?;
    let address = format!("tls.test:{}", world.tls.port());
    let handshake = world.handshake("evil.test");
    let said = world.say(&address, &[&handshake, &get("/", "evil.test"), "end"])?;
    lacks("said", &said, ANSWER)?;
    // The client hears why at once: an alert, not a reset.
    has("alert", &said, "UnrecognisedName")?;
    same(&world.tls.connections().len(), &0)?;
    has("record", &format!("{:?}", world.events("egress")?), "sni_mismatch")
}

fn address_with_name() -> Result<(), Failed> {
    let world = World::new()?;
    let handshake = world.handshake("tls.test");
    for address in ["192.0.2.1", "[2001:db8::1]", "198.18.77.77"] {
        let said =
            world.say(&format!("{address}:{}", world.tls.port()), &[&handshake, &get("/", "tls.test"), "end"])?;
        lacks("said", &said, ANSWER)?;
        has("alert", &said, "received fatal alert")?;
    }
    same(&world.tls.connections().len(), &0)
}

fn socks5(host: &str, port: u16) -> String {
    let name: String = host.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
    let [high, low] = port.to_be_bytes();
    format!("send:\\x05\\x01\\x00\\x03\\x{:02x}{name}\\x{high:02x}\\x{low:02x}", host.len())
}

fn by_socks() -> Result<(), Failed> {
    let world = World::new()?;
    let port = world.tls.port();
    let handshake = world.handshake("tls.test");
    let greet = "send:\\x05\\x01\\x00";
    let said = world.say(
        PROXY,
        &[greet, "read:2", &socks5("tls.test", port), "read:10", &handshake, &get("/5", "tls.test"), "end"],
    )?;
    has("SOCKS 5", &said, ANSWER)?;
    let [high, low] = port.to_be_bytes();
    let four = format!("send:\\x04\\x01\\x{high:02x}\\x{low:02x}\\x00\\x00\\x00\\x01\\x00tls.test\\x00");
    let said = world.say(PROXY, &[&four, "read:8", &handshake, &get("/4", "tls.test"), "end"])?;
    has("SOCKS 4a", &said, ANSWER)?;
    let arrived = world.tls.text();
    has("SOCKS 5", &arrived, "GET /5")?;
    has("SOCKS 4a", &arrived, "GET /4")?;
    world.tls.forget();
    // Another name, another server name, another protocol.
    let evil = world.handshake("evil.test");
    world.say(PROXY, &[greet, "read:2", &socks5("evil.test", port), "read:10", "end"])?;
    world.say(PROXY, &[greet, "read:2", &socks5("tls.test", port), "read:10", &evil, "end"])?;
    world.say(PROXY, &[greet, "read:2", &socks5("tls.test", port), "read:10", "send:SSH-2.0-x\\r\\n", "answer"])?;
    world.say(PROXY, &[greet, "read:2", &socks5("evil.test\0.tls.test", port), "answer"])?;
    same(&world.tls.text(), &String::new())
}

fn socks_connect_alone() -> Result<(), Failed> {
    let world = World::new()?;
    let refused = |command: &str| -> Result<String, Failed> {
        let request = format!("send:\\x05\\x{command}\\x00\\x01\\x7f\\x00\\x00\\x01\\x00\\x50");
        let output = world.inside(&[
            &std::env::current_exe()?.display().to_string(),
            "say",
            PROXY,
            "send:\\x05\\x01\\x00",
            "read:2",
            &request,
            "end",
        ])?;
        Ok(format!("{:?}", output.stdout))
    };
    has("BIND", &refused("02")?, "[5, 0, 5, 7,")?;
    has("UDP", &refused("03")?, "[5, 0, 5, 7,")?;
    has("an address", &refused("01")?, "[5, 0, 5, 2,")
}

/// A proxy on the host: it answers every CONNECT, keeps what it is asked, and answers like an origin.
fn chained() -> Result<(), Failed> {
    let world = World::new()?;
    world.allow("[[allow]]\nhost = \"chained.test\"\ntunnel = true\n")?;
    let parent = Origin::start("127.0.0.1", |mut stream, log| {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer)?;
        log.bytes(&buffer[..read]);
        if buffer.starts_with(b"CONNECT") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            let read = stream.read(&mut buffer)?;
            log.bytes(format!("[{} bytes of TLS]", usize::from(buffer[0] == 22 && read > 100)).as_bytes());
            return Ok(());
        }
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{ANSWER}", ANSWER.len()).as_bytes())
    })?;
    let run = |address: &str, steps: &[&str]| -> Result<String, Failed> {
        let program = std::env::current_exe()?.display().to_string();
        let url = format!("http://ann:secret@127.0.0.1:{}", parent.port());
        let mut command = world.command(&[&[program.as_str(), "say", address], steps].concat())?;
        let output = command.env("HTTPS_PROXY", &url).env("http_proxy", &url).output()?;
        Ok(printed(&output))
    };
    let handshake = world.handshake("chained.test");
    run("chained.test:443", &[&handshake])?;
    let arrived = parent.text();
    has("CONNECT", &arrived, "CONNECT chained.test:443 HTTP/1.1\r\nHost: chained.test:443\r\n")?;
    has("CONNECT", &arrived, "Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n")?;
    has("TLS", &arrived, "[1 bytes of TLS]")?;
    parent.forget();
    has("plain", &run("chained.test:80", &[&get("/a", "chained.test"), "answer"])?, ANSWER)?;
    let arrived = parent.text();
    has("plain", &arrived, "GET http://chained.test/a HTTP/1.1\r\nHost: chained.test\r\n")?;
    has("plain", &arrived, "Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n")?;
    parent.forget();
    // What the policy denies does not reach it, and who asks it is not known inside.
    run(PROXY, &[&connect("evil.test:443"), "end"])?;
    run(PROXY, &[&get("http://evil.test/", "evil.test"), "end"])?;
    run("evil.test:443", &["end"])?;
    // A name with an address of its own is not its affair.
    let handshake = world.handshake("tls.test");
    has(
        "pinned",
        &run(&format!("tls.test:{}", world.tls.port()), &[&handshake, &get("/", "tls.test"), "end"])?,
        ANSWER,
    )?;
    same(&parent.connections().len(), &0)?;
    let mut command = world.command(&["env"])?;
    let output = command.env("HTTPS_PROXY", "http://ann:secret@127.0.0.1:1").output()?;
    lacks("environment", &printed(&output), "secret")?;
    let mut command = world.command(&["true"])?;
    let output = command.env("HTTPS_PROXY", "socks5://ann:secret@127.0.0.1:1").output()?;
    same(&output.status.code(), &Some(125))?;
    has("error", &printed(&output), "HTTPS_PROXY")?;
    lacks("error", &printed(&output), "secret")
}

/// The supervisor reads what the jail sends, so it keeps nothing that whoever takes it over could use.
fn supervisor_gives_up() -> Result<(), Failed> {
    let world = World::new()?;
    let handshake = world.handshake("tls.test");
    let address = format!("tls.test:{}", world.tls.port());
    let program = std::env::current_exe()?.display().to_string();
    let steps = [&handshake, &get("/", "tls.test"), "end"];
    let mut command = world.command(&[&[program.as_str(), "say", &address], &steps[..], &["sleep:2000"]].concat())?;
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Once something arrived, every thread is there.
    let mut tries = 0;
    while world.tls.connections().is_empty() && tries < 200 {
        tries += 1;
    }
    let mut threads = 0;
    for entry in fs::read_dir(format!("/proc/{}/task", child.id()))? {
        let status = fs::read_to_string(entry?.path().join("status"))?;
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "Seccomp_filters:\t"] {
            has("supervisor", &status, line)?;
        }
        threads += 1;
    }
    ensure(threads >= 2, || format!("{threads} threads"))?;
    let output = child.wait_with_output()?;
    has("answer", &printed(&output), ANSWER)
}

/// A name that the policy allows and that leads to this machine: nothing but a rule with `resolve` opens that way.
fn private_address() -> Result<(), Failed> {
    let world = World::new()?;
    let port = world.plain.port();
    let outside = world.say_outside(&format!("localhost:{port}"), &[&get("/", "localhost"), "answer"])?;
    has("outside", &outside, ANSWER)?;
    world.plain.forget();
    world.allow(&format!("[[allow]]\nhost = \"localhost\"\nports = [{port}]\ntunnel = true\n"))?;
    let authority = format!("localhost:{port}");
    let said = world.say(PROXY, &[&connect(&authority), "end"])?;
    has("CONNECT", &said, "\"reason\":\"address_not_public\"")?;
    let said = world.say(PROXY, &[&get(&format!("http://{authority}/"), &authority), "end"])?;
    has("URL", &said, "\"reason\":\"address_not_public\"")?;
    same(&world.plain.connections().len(), &0)
}
