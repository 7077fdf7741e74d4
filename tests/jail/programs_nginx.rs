//! A web server of the world at large as origin: HTTP/2, and files too large to be kept in between.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;

use crate::checks::{ensure, same};
use crate::egress::World;
use crate::needs::{Need, Needing, program, test_with};
use crate::programs::{rule, works};
use crate::running::eventually;
use crate::scene::{printed, succeeded};
use crate::tries::{has, lacks};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test_with("http_2_comes_through_a_tunnel", NEED, http2),
        test_with("a_large_file_comes_and_goes_unchanged", NEED, large),
    ]
}

const NEED: Need = Need::Programs(&["nginx", "curl"]);

/// nginx on the host's loopback, for www.test and evil.test; ended when it is dropped.
struct Nginx {
    child: Child,
    /// TLS with HTTP/2.
    tls: u16,
    /// Plain HTTP.
    plain: u16,
    directory: PathBuf,
}

impl Nginx {
    fn start(world: &World) -> Result<Self, Failed> {
        let directory = world.scene.outside("nginx");
        fs::create_dir_all(directory.join("files"))?;
        let (certificate, key) = world.authority.certificate(&["www.test", "evil.test"])?;
        fs::write(directory.join("certificate.pem"), certificate)?;
        fs::write(directory.join("key.pem"), key)?;
        let free = || -> Result<u16, Failed> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
        let (tls, plain) = (free()?, free()?);
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {0}/temporary-{name};\n", directory.display()))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid {0}/pid; error_log {0}/errors;
             events {{ worker_connections 256; }}
             http {{
               log_format short '$server_protocol $request_method $uri $status name=$ssl_server_name';
               access_log {0}/arrived short;
               {temporary}
               client_max_body_size 0;
               server {{
                 listen 127.0.0.1:{tls} ssl http2;
                 listen 127.0.0.1:{plain};
                 ssl_certificate {0}/certificate.pem;
                 ssl_certificate_key {0}/key.pem;
                 root {0}/files;
                 dav_methods PUT;
               }}
             }}",
            directory.display()
        );
        fs::write(directory.join("nginx.conf"), configuration)?;
        let nginx = program("nginx").ok_or("no nginx")?;
        let child = Command::new(nginx)
            .args(["-e", "errors", "-c", "nginx.conf", "-p"])
            .arg(&directory)
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let nginx = Self { child, tls, plain, directory };
        eventually("nginx answers", Duration::from_secs(20), || {
            [tls, plain].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
        })
        .map_err(|failed| {
            let errors = fs::read_to_string(nginx.directory.join("errors")).unwrap_or_default();
            format!("{}: {errors}", failed.message().unwrap_or_default())
        })?;
        world.allow(&(rule("www.test", tls) + &rule("www.test", plain)))?;
        Ok(nginx)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join("files").join(name)
    }

    /// What has arrived, once a request with these words has.
    fn arrived(&self, words: &str) -> Result<String, Failed> {
        let log = self.directory.join("arrived");
        let read = || fs::read_to_string(&log).unwrap_or_default();
        eventually(words, Duration::from_secs(5), || read().contains(words)).map_err(|_| read())?;
        Ok(read())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http2() -> Result<(), Failed> {
    let world = World::new()?;
    let nginx = Nginx::start(&world)?;
    fs::write(nginx.file("small"), "x".repeat(300_000))?;
    let url = format!("https://www.test:{}/small", nginx.tls);
    for (way, version, proxy) in [
        ("--http2", "2", ""),
        ("--http1.1", "1.1", ""),
        ("--http2", "2", "--proxy http://198.18.0.1:3128"),
        ("--http2", "2", "--proxy socks5h://198.18.0.1:3128"),
        ("--http2 -6", "2", ""),
    ] {
        // Two at once, on one connection where the version can.
        let script = format!(
            "curl -sS --cacert ca.pem {way} {proxy} -Z -w '%{{http_version}} %{{size_download}}\\n' \
             -o one {url}?1 -o two {url}?2 && cmp one two"
        );
        let (printed, _) = works(&world, &["sh", "-c", &script])?;
        same(&printed, &format!("{version} 300000\n{version} 300000\n"))?;
    }
    has("arrived", &nginx.arrived("HTTP/1.1 GET /small 200 name=www.test")?, "HTTP/2.0 GET /small 200 name=www.test")?;
    // Without TLS it says nothing that could be compared with the host.
    let plain = format!("http://www.test:{}/small", nginx.plain);
    let known = world.inside(&["curl", "-sS", "-m", "20", "--http2-prior-knowledge", &plain])?;
    ensure(!known.status.success() && known.stdout.len() < 1000, || printed(&known))?;
    // An offer to change to it is left out, and the answer comes as it was asked for.
    let (offered, _) = works(&world, &["curl", "-sS", "--http2", "-o", "three", "-w", "%{http_version}", &plain])?;
    same(&offered, &"1.1".to_owned())?;
    let evil = format!("https://evil.test:{}/denied", nginx.tls);
    let denied = world.inside(&["curl", "-sS", "-m", "20", "--http2", "--cacert", "ca.pem", &evil])?;
    ensure(denied.status.code() == Some(6), || printed(&denied))?;
    let coalesced =
        format!("--resolve evil.test:{0}:$(getent ahostsv4 www.test | head -n1 | cut -d' ' -f1)", nginx.tls);
    let script = format!("curl -sS -m 20 --http2 --cacert ca.pem {coalesced} {url}?last {evil} -o last -o denied");
    let both = world.inside(&["sh", "-c", &script])?;
    ensure(!both.status.success(), || printed(&both))?;
    let arrived = nginx.arrived("GET /small")?;
    lacks("arrived", &arrived, "PRI")?;
    lacks("arrived", &arrived, "evil.test")
}

/// `JAIL_TEST_LARGE` makes it a gigabyte.
fn large() -> Result<(), Failed> {
    let mebibytes = if std::env::var_os("JAIL_TEST_LARGE").is_some() { 1024 } else { 64 };
    let world = World::new()?;
    let nginx = Nginx::start(&world)?;
    let file = nginx.file("large").display().to_string();
    let sum = |file: &str| format!("sha256sum < {file}");
    let made = world.scene.outside_ok(&format!("head -c {mebibytes}M /dev/urandom > {file} && {}", sum(&file)))?;
    for (scheme, port) in [("https", nginx.tls), ("http", nginx.plain)] {
        for version in ["--http1.1", "--http2"] {
            let url = format!("{scheme}://www.test:{port}");
            let script = format!(
                "curl -sS --cacert ca.pem {version} -o came {url}/large && sha256sum < came && \
                 curl -sS --cacert ca.pem {version} -T came {url}/went"
            );
            let (printed, _) = works(&world, &["sh", "-c", &script])?;
            same(&printed, &made)?;
            let went = world.scene.host("sh").args(["-c", &sum(&nginx.file("went").display().to_string())]).output()?;
            succeeded("sha256sum", &went)?;
            same(&String::from_utf8_lossy(&went.stdout).into_owned(), &made)?;
            fs::remove_file(nginx.file("went"))?;
            if scheme == "http" {
                // Without TLS there is one version.
                break;
            }
        }
    }
    let arrived = nginx.arrived("PUT /went 201")?;
    has("arrived", &arrived, "HTTP/2.0 PUT /went 201 name=www.test")?;
    has("arrived", &arrived, "HTTP/1.1 GET /large 200")?;
    let ended = world.events("egress")?;
    let bytes: u64 = ended.iter().filter_map(|line| line["bytes_up"].as_u64()).sum();
    ensure(bytes > mebibytes << 20, || format!("{ended:#?}"))
}
