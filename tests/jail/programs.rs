//! Real programs inside, unchanged: what is allowed arrives by every way they have, and of what is not allowed nothing
//! does, at once and with words.

use std::fs;
use std::process::Output;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use libtest_mimic::Failed;
use sha1::{Digest as _, Sha1};

use crate::checks::{ensure, same};
use crate::egress::World;
use crate::needs::{Need, Needing, test_with};
use crate::origin::{ANSWER, Origin, Request, Response, answer};
use crate::scene::{printed, succeeded};
use crate::tries::has;

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test_with("curl_arrives_by_every_way", Need::Program("curl"), curl_allowed),
        test_with("curl_is_refused_by_every_way", Need::Program("curl"), curl_denied),
        test_with("python_urllib_works", Need::Program("python3"), python_urllib),
        test_with("python_requests_works", Need::Python("requests"), python_requests),
        test_with("node_fetch_works", Need::Program("node"), node_fetch),
        test_with("server_sent_events_arrive_one_by_one", Need::Program("node"), server_sent_events),
        test_with("java_speaks_http_and_websocket", Need::Program("javac"), java),
        test_with("a_static_program_needs_no_library_to_come_through", Need::Compiler, static_program),
    ]
}

/// How much longer than its usual time a program may take to hear that it is refused.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);

/// Runs words that must succeed; what they printed and how long that took.
pub fn works(world: &World, words: &[&str]) -> Result<(String, Duration), Failed> {
    let begun = Instant::now();
    let output = world.inside(words)?;
    if !output.status.success() {
        let refused = world.events("egress")?;
        return Err(format!("{words:?}: {}\n{}\n{refused:#?}", output.status, printed(&output)).into());
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), begun.elapsed()))
}

/// Runs words that ask for something denied: they fail about as soon as they usually succeed, nothing arrives, and
/// somebody who reads what they print learns the host or that its name leads nowhere.
pub fn refused(
    world: &World,
    origin: &Origin,
    words: &[&str],
    usual: Duration,
    message: &str,
) -> Result<Output, Failed> {
    origin.forget();
    let begun = Instant::now();
    let output = world.inside(words)?;
    let took = begun.elapsed();
    ensure(!output.status.success(), || format!("{words:?} succeeded: {}", printed(&output)))?;
    ensure(took < usual + REFUSED_WITHIN, || format!("{took:?}, usually {usual:?}: {}", printed(&output)))?;
    has("the message", &printed(&output), message)?;
    same(&origin.connections().len(), &0)?;
    has("the record", &format!("{:?}", world.events("egress")?), "host_not_allowed")?;
    Ok(output)
}

/// A rule for a name at a port of the host's loopback.
pub fn rule(host: &str, port: u16) -> String {
    format!("[[allow]]\nhost = \"{host}\"\nports = [{port}]\ntunnel = true\nresolve = [\"127.0.0.1\"]\n\n")
}

/// Runs curl with several arguments in one jail; its exit status for each, by name. `$four` and `$six` are the addresses
/// that tls.test has inside.
fn curl(world: &World, ways: &[(&str, String)]) -> Result<Vec<(String, i32)>, Failed> {
    let mut script = String::from(
        "four=$(getent ahostsv4 tls.test | head -n 1 | cut -d ' ' -f 1)\n\
         six=$(getent ahostsv6 tls.test | head -n 1 | cut -d ' ' -f 1)\n",
    );
    for (name, arguments) in ways {
        script += &format!("curl -sS -m 20 --cacert ca.pem {arguments} >out 2>>err; echo {name} $?\n");
    }
    let output = world.inside(&["sh", "-c", &script])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let parse = |line: &str| Some((line.split_once(' ')?.0.to_owned(), line.split_once(' ')?.1.parse().ok()?));
    let found: Vec<(String, i32)> = text.lines().filter_map(parse).collect();
    ensure(found.len() == ways.len(), || printed(&output))?;
    Ok(found)
}

/// The ways to a host that curl has, with the path of the request as name.
fn ways(scheme: &str, host: &str, port: u16) -> Vec<(&'static str, String)> {
    let arguments = [
        ("transparent", ""),
        ("noproxy", "--noproxy '*'"),
        ("four", "-4"),
        ("six", "-6"),
        ("old", "--http1.0"),
        ("tls12", "--tls-max 1.2"),
        ("proxy", "--proxy http://198.18.0.1:3128"),
        ("proxy6", "--proxy 'http://[fd00:18::1]:3128'"),
        ("tunnel", "--proxytunnel --proxy http://198.18.0.1:3128"),
        ("socks4a", "--proxy socks4a://198.18.0.1:3128"),
        ("socks5", "--proxy socks5://198.18.0.1:3128"),
        ("socks5h", "--proxy socks5h://198.18.0.1:3128"),
    ];
    arguments.map(|(name, arguments)| (name, format!("{arguments} {scheme}://{host}:{port}/{name}/"))).into()
}

fn curl_allowed() -> Result<(), Failed> {
    let world = World::new()?;
    let port = world.tls.port();
    for (scheme, host, origin) in [("https", "tls.test", &world.tls), ("http", "plain.test", &world.plain)] {
        let mut all = ways(scheme, host, origin.port());
        if scheme == "https" {
            all.extend([
                ("connect-to", format!("--connect-to ::tls.test:{port} https://tls.test/connect-to/")),
                ("resolve", format!("--resolve tls.test:{port}:$four https://tls.test:{port}/resolve/")),
                ("resolve6", format!("--resolve tls.test:{port}:[$six] https://tls.test:{port}/resolve6/")),
            ]);
        }
        let expected: Vec<(String, i32)> = all.iter().map(|(name, _)| ((*name).to_owned(), 0)).collect();
        same(&curl(&world, &all)?, &expected)?;
        let arrived = origin.text();
        for (name, _) in &all {
            has(scheme, &arrived, &format!("GET /{name}/ "))?;
        }
        same(&origin.connections().len(), &all.len())?;
    }
    Ok(())
}

fn curl_denied() -> Result<(), Failed> {
    let world = World::new()?;
    let port = world.tls.port();
    let outside = world.say_outside(&format!("127.0.0.1:{port}"), &[&world.handshake("evil.test")]);
    ensure(outside.is_ok(), || format!("{outside:?}"))?;
    world.tls.forget();
    let url = format!("https://evil.test:{port}/");
    let good = format!("https://tls.test:{port}/");
    let mut all = ways("https", "evil.test", port);
    all.extend([
        ("name-of-the-other", format!("--connect-to ::tls.test:{port} {url}")),
        ("to-the-other", format!("--connect-to ::evil.test:{port} {good}")),
        ("address-of-the-other", format!("--resolve evil.test:{port}:$four {url}")),
        ("address-6-of-the-other", format!("--resolve evil.test:{port}:[$six] {url}")),
        ("any-address", format!("--resolve tls.test:{port}:192.0.2.1 {good}")),
        ("any-address-6", format!("--resolve tls.test:{port}:[2001:db8::1] {good}")),
        ("loopback", format!("--resolve tls.test:{port}:127.0.0.1 {good}")),
        ("another-port", format!("--connect-to ::tls.test:{} {good}", port ^ 1)),
    ]);
    let begun = Instant::now();
    let found = curl(&world, &all)?;
    let took = begun.elapsed();
    ensure(found.iter().all(|(_, status)| *status != 0), || format!("{found:?}"))?;
    // All of them together.
    ensure(took < 4 * REFUSED_WITHIN, || format!("{took:?}"))?;
    same(&world.tls.connections().len(), &0)?;
    let plain: Vec<_> = ways("http", "evil.test", world.plain.port());
    // A proxy can tell why; then curl is content with the answer.
    curl(&world, &plain)?;
    same(&world.plain.connections().len(), &0)?;
    let said = fs::read_to_string(world.scene.path("err"))?;
    has("message", &said, "Could not resolve host: evil.test")
}

fn python_urllib() -> Result<(), Failed> {
    let world = World::new()?;
    world.scene.write(
        "fetch.py",
        "import sys, urllib.request\n\
         url = sys.argv[1]\n\
         print(len(urllib.request.urlopen(url + '/bytes/100000').read()))\n\
         print(len(urllib.request.urlopen(url + '/echo', data=b'z' * 200000).read()))\n\
         print(urllib.request.urlopen(urllib.request.Request(url + '/py', headers={'X-Own': 'kept'})).read().decode())\n",
    )?;
    python(&world, "fetch.py", "urllib.error.URLError")
}

fn python_requests() -> Result<(), Failed> {
    let world = World::new()?;
    world.scene.write(
        "fetch.py",
        "import sys, requests\n\
         url = sys.argv[1]\n\
         session = requests.Session()\n\
         print(len(session.get(url + '/bytes/100000').content))\n\
         print(len(session.post(url + '/echo', data=(b'z' * 1000 for _ in range(200))).content))\n\
         print(session.get(url + '/py', headers={'X-Own': 'kept'}).text)\n",
    )?;
    python(&world, "fetch.py", "ConnectionError")
}

fn python(world: &World, program: &str, message: &str) -> Result<(), Failed> {
    let trust = format!("SSL_CERT_FILE={}", world.authority.file().display());
    let bundle = format!("REQUESTS_CA_BUNDLE={}", world.authority.file().display());
    let words = ["env", trust.as_str(), bundle.as_str(), "python3", program];
    let mut usual = Duration::ZERO;
    for (url, origin) in [
        (format!("https://tls.test:{}", world.tls.port()), &world.tls),
        (format!("http://plain.test:{}", world.plain.port()), &world.plain),
    ] {
        let (printed, took) = works(world, &[&words[..], &[&url]].concat())?;
        same(&printed, &format!("100000\n200000\n{ANSWER}\n"))?;
        let arrived = origin.text();
        has("get", &arrived, "GET /bytes/100000 HTTP/1.1\r\n")?;
        has("own field", &arrived, "X-Own: kept\r\n")?;
        usual = took;
    }
    for (url, origin) in [
        (format!("https://evil.test:{}", world.tls.port()), &world.tls),
        (format!("http://evil.test:{}", world.plain.port()), &world.plain),
    ] {
        refused(world, origin, &[&words[..], &[&url]].concat(), usual, message)?;
    }
    Ok(())
}

fn node_fetch() -> Result<(), Failed> {
    let world = World::new()?;
    world.scene.write(
        "fetch.mjs",
        "const url = process.argv[2];\n\
         const size = async (path, options) => (await (await fetch(url + path, options)).arrayBuffer()).byteLength;\n\
         console.log((await Promise.all([1, 2, 3].map((n) => size(`/bytes/${n}00000`)))).join(' '));\n\
         const body = new ReadableStream({ start(c) { c.enqueue(new Uint8Array(200000)); c.close(); } });\n\
         console.log(await size('/echo', { method: 'POST', body, duplex: 'half' }));\n",
    )?;
    let trust = format!("NODE_EXTRA_CA_CERTS={}", world.authority.file().display());
    let words = ["env", &trust, "node", "fetch.mjs"];
    let mut usual = Duration::ZERO;
    for (url, origin) in [
        (format!("https://tls.test:{}", world.tls.port()), &world.tls),
        (format!("http://plain.test:{}", world.plain.port()), &world.plain),
    ] {
        let (printed, took) = works(&world, &[&words[..], &[&url]].concat())?;
        same(&printed, &"100000 200000 300000\n200000\n".to_owned())?;
        has("post", &origin.text(), "POST /echo HTTP/1.1\r\n")?;
        usual = took;
    }
    let url = format!("https://evil.test:{}", world.tls.port());
    refused(&world, &world.tls, &[&words[..], &[&url]].concat(), usual, "evil.test").map(drop)
}

/// The second event is sent only when the program has confirmed the first: one that waits for more never gets there.
fn server_sent_events() -> Result<(), Failed> {
    let world = World::new()?;
    let events = |world: &World, tls: bool| -> Result<Origin, Failed> {
        let (confirm, confirmed) = mpsc::channel();
        let (confirm, confirmed) = (Mutex::new(confirm), std::sync::Arc::new(Mutex::new(confirmed)));
        let answers = move |request: &Request| {
            if request.target == "/confirm" {
                let _ = confirm.lock().unwrap_or_else(PoisonError::into_inner).send(());
                return Response::ok("confirmed");
            }
            let confirmed = std::sync::Arc::clone(&confirmed);
            Response::Own(Box::new(move |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")?;
                for number in 0..3 {
                    stream.write_all(format!("data: event {number}\n\n").as_bytes())?;
                    stream.flush()?;
                    let confirmed = confirmed.lock().unwrap_or_else(PoisonError::into_inner);
                    confirmed.recv_timeout(Duration::from_secs(20)).map_err(std::io::Error::other)?;
                }
                stream.write_all(b"data: done\n\n")
            }))
        };
        match tls {
            true => Origin::https_with("127.0.0.1", &world.authority, &["events.test"], answers),
            false => Origin::http_with("127.0.0.1", answers),
        }
    };
    world.scene.write(
        "events.mjs",
        "const url = process.argv[2];\n\
         const decoder = new TextDecoder();\n\
         for await (const chunk of (await fetch(url + '/events')).body) {\n\
           const text = decoder.decode(chunk);\n\
           process.stdout.write(text);\n\
           if (!text.includes('done')) await fetch(url + '/confirm');\n\
         }\n",
    )?;
    let trust = format!("NODE_EXTRA_CA_CERTS={}", world.authority.file().display());
    for (scheme, origin) in [("https", events(&world, true)?), ("http", events(&world, false)?)] {
        world.allow(&rule("events.test", origin.port()))?;
        let url = format!("{scheme}://events.test:{}", origin.port());
        let (printed, _) = works(&world, &["env", &trust, "node", "events.mjs", &url])?;
        same(&printed, &"data: event 0\n\ndata: event 1\n\ndata: event 2\n\ndata: done\n\n".to_owned())?;
    }
    Ok(())
}

const JAVA: &str = r#"
import java.io.*;
import java.net.*;
import java.net.http.*;
import java.security.*;
import java.security.cert.*;
import java.util.concurrent.*;
import javax.net.ssl.*;

public class Fetch {
    public static void main(String[] words) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (InputStream in = new FileInputStream("ca.pem")) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        HttpClient client = HttpClient.newBuilder().sslContext(context).build();
        for (String url : words) {
            HttpResponse<byte[]> answer = client.send(HttpRequest.newBuilder(URI.create(url + "/bytes/100000")).build(),
                HttpResponse.BodyHandlers.ofByteArray());
            System.out.println(answer.body().length);
            CompletableFuture<String> heard = new CompletableFuture<>();
            WebSocket socket = client.newWebSocketBuilder()
                .buildAsync(URI.create(url.replaceFirst("http", "ws") + "/socket"), new WebSocket.Listener() {
                    public CompletionStage<?> onText(WebSocket socket, CharSequence text, boolean last) {
                        heard.complete(text.toString());
                        return null;
                    }
                }).get(20, TimeUnit.SECONDS);
            socket.sendText("said by java", true).get(20, TimeUnit.SECONDS);
            System.out.println(heard.get(20, TimeUnit.SECONDS));
            socket.abort();
        }
    }
}
"#;

/// Accepts a WebSocket and sends its first message back (RFC 6455).
fn web_socket(request: &Request) -> Response {
    if request.target != "/socket" {
        return answer(request);
    }
    let key = request.field("sec-websocket-key").unwrap_or_default().to_owned();
    let accept = BASE64_STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
    Response::Own(Box::new(move |stream| {
        write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )?;
        stream.flush()?;
        let mut head = [0; 6];
        stream.read_exact(&mut head)?;
        let mut text = vec![0; usize::from(head[1] & 0x7f)];
        stream.read_exact(&mut text)?;
        for (byte, mask) in text.iter_mut().zip(head[2..].iter().cycle()) {
            *byte ^= mask;
        }
        let heard = format!("heard: {}", String::from_utf8_lossy(&text));
        stream.write_all(&[0x81, u8::try_from(heard.len()).map_err(std::io::Error::other)?])?;
        stream.write_all(heard.as_bytes())?;
        stream.flush()?;
        // Until the program has left.
        let _ = stream.read(&mut [0; 64]);
        Ok(())
    }))
}

fn java() -> Result<(), Failed> {
    let world = World::new()?;
    world.scene.write("Fetch.java", JAVA)?;
    succeeded("javac", &world.scene.host("javac").args(["-proc:none", "Fetch.java"]).output()?)?;
    let tls = Origin::https_with("127.0.0.1", &world.authority, &["java.test", "evil.test"], web_socket)?;
    let plain = Origin::http_with("127.0.0.1", web_socket)?;
    world.allow(&(rule("java.test", tls.port()) + &rule("java.test", plain.port())))?;
    let (secure, open) = (format!("https://java.test:{}", tls.port()), format!("http://java.test:{}", plain.port()));
    let words = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "Fetch"];
    let (printed, usual) = works(&world, &[&words[..], &[&secure, &open]].concat())?;
    same(&printed, &"100000\nheard: said by java\n".repeat(2))?;
    for origin in [&tls, &plain] {
        has("socket", &origin.text(), "GET /socket HTTP/1.1\r\n")?;
    }
    let evil = format!("https://evil.test:{}", tls.port());
    refused(&world, &tls, &[&words[..], &[&evil]].concat(), usual, "Exception")?;
    Ok(())
}

const STATIC: &str = r#"
use std::io::{Read, Write};
fn main() -> std::io::Result<()> {
    let host = std::env::args().nth(1).unwrap();
    let mut stream = std::net::TcpStream::connect(&host)?;
    write!(stream, "GET /static HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    print!("{text}");
    Ok(())
}
"#;

/// Nothing is preloaded or hooked: a program without the dynamic linker is carried like any other.
fn static_program() -> Result<(), Failed> {
    let world = World::new()?;
    world.scene.write("fetch.rs", STATIC)?;
    let mut rustc = std::process::Command::new("rustc");
    rustc.current_dir(world.scene.workspace()).args(["-C", "target-feature=+crt-static", "-o", "fetch", "fetch.rs"]);
    succeeded("rustc", &rustc.output()?)?;
    let linked = world.scene.outside_ok("ldd ./fetch 2>&1; true")?;
    has("ldd", &linked, "statically linked")?;
    let host = format!("plain.test:{}", world.plain.port());
    let (printed, usual) = works(&world, &["./fetch", &host])?;
    has("answer", &printed, ANSWER)?;
    has("request", &world.plain.text(), "GET /static HTTP/1.1\r\n")?;
    let evil = format!("evil.test:{}", world.plain.port());
    refused(&world, &world.plain, &["./fetch", &evil], usual, "Error")?;
    Ok(())
}
