//! docs/ci.md and docs/devcontainer.md: their scripts and examples are run, in a job without a terminal and in containers
//! made of a private root, a pid namespace, covers over /proc and a filter of calls.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::Failed;

use crate::checks::{ensure, same};
use crate::needs::{Need, Needing, test, test_with};
use crate::origin::{ANSWER, Origin};
use crate::programs::rule;
use crate::readme::play;
use crate::scene::{SECRET, Scene, printed, succeeded};
use crate::tries::{has, lacks};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("the_ci_page_shows_what_happens", || play("docs/ci.md", 2)),
        test_with("the_ci_page_s_wrapper_works_without_a_terminal", Need::Program("setsid"), wrapper),
        test_with("a_jail_works_in_a_container", CONTAINER, in_a_container),
        test_with("sv_001_a_container_s_filter_is_refused_with_its_remedy", CONTAINER, filtered),
        test_with("sv_001_a_container_s_proc_is_refused_with_its_remedy", CONTAINER, covered_proc),
        test_with("root_without_capabilities_is_refused_with_its_remedy", Need::Root, root_of_a_container),
    ]
}

const CONTAINER: Need = Need::Programs(&["unshare", "setpriv", "python3"]);

/// The block of a page after a mark.
fn marked(page: &str, mark: &str) -> Result<String, Failed> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page))?;
    let rest = text.split(&format!("<!-- {mark} -->\n```")).nth(1).ok_or_else(|| format!("{page}: no {mark}"))?;
    let block = rest.split_once('\n').and_then(|(_, rest)| rest.split_once("```")).ok_or("no end")?;
    Ok(block.0.to_owned())
}

/// A directory with the program as `jail`, and a script of a page.
fn tools(scene: &Scene, script: &str, text: &str) -> Result<PathBuf, Failed> {
    let tools = scene.outside("tools");
    fs::create_dir_all(&tools)?;
    fs::copy(env!("CARGO_BIN_EXE_jail"), tools.join("jail"))?;
    fs::write(tools.join(script), text)?;
    fs::set_permissions(tools.join(script), fs::Permissions::from_mode(0o755))?;
    Ok(tools)
}

fn wrapper() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let tools = tools(&scene, "agent.sh", &marked("ci.md", "wrapper")?)?;
    let origin = Origin::http("127.0.0.1")?;
    let policy = marked("ci.md", "policy")?;
    scene.write("ci-policy.toml", format!("{policy}\n{}", rule("plain.test", origin.port())))?;
    // The page's policy is one.
    let plan = scene.jail(&["plan", "--profile", "ci", "--policy", "ci-policy.toml", "--", "true"]).output()?;
    succeeded("plan", &plan)?;
    has("plan", &printed(&plan), "api.anthropic.com")?;
    let run = |script: &str| -> Result<Output, Failed> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(tools.clone()).chain(std::env::split_paths(&path)))?;
        let mut command = scene.host("setsid");
        command.args(["--wait", "agent.sh", "sh", "-c", script]).env("PATH", path);
        Ok(command.env("CI", "true").env("GITHUB_TOKEN", SECRET).env("GITHUB_SHA", "c0ffee").output()?)
    };
    let summary =
        || -> Result<serde_json::Value, Failed> { Ok(serde_json::from_slice(&fs::read(scene.path("summary.json"))?)?) };
    let fetch = |host: &str| {
        let program = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
        let _ = fs::copy(program, scene.path("client"));
        format!(
            "./client say {host}:{} 'send:GET /ci HTTP/1.1\\r\\nHost: {host}:{0}\\r\\nConnection: close\\r\\n\\r\\n' end",
            origin.port()
        )
    };
    let output = run(&format!("{}; echo said >&2; env; tty; exit 3", fetch("plain.test")))?;
    same(&output.status.code(), &Some(3))?;
    let text = printed(&output);
    has("inside", &text, ANSWER)?;
    has("inside", &text, "GITHUB_SHA=c0ffee")?;
    has("inside", &text, "not a tty")?;
    lacks("inside", &text, SECRET)?;
    has("arrived", &origin.text(), "GET /ci HTTP/1.1")?;
    same(&summary()?["status"], &serde_json::json!(3))?;
    same(&summary()?["egress"]["allowed"], &serde_json::json!(1))?;
    origin.forget();
    let output = run(&fetch("evil.test"))?;
    ensure(!output.status.success(), || printed(&output))?;
    same(&summary()?["egress"]["denied_hosts"][0]["host"], &serde_json::json!("evil.test"))?;
    same(&origin.connections().len(), &0)?;
    // Its own time limit, and a policy that is none.
    scene.write("ci-policy.toml", "[limits]\ntime = \"1s\"\n")?;
    let output = run("sleep 60")?;
    same(&output.status.code(), &Some(124))?;
    has("time", &printed(&output), "took too long")?;
    scene.write("ci-policy.toml", "[limit]\n")?;
    let output = run("echo ran > ran")?;
    same(&output.status.code(), &Some(125))?;
    has("policy", &printed(&output), "ci-policy.toml:1")?;
    ensure(!scene.path("ran").exists(), || "it ran".to_owned())
}

/// Makes a container around its arguments: `sh SCRIPT ROOT WORKSPACE TOOLS PROGRAM COVER CAPABILITIES COMMAND…`.
const CONTAIN: &str = r#"
set -e
PATH=$PATH:/usr/sbin:/sbin
root=$1 workspace=$2 tools=$3 program=$4 cover=$5 capabilities=$6
shift 6
mount -t tmpfs -o mode=755 none "$root"
cd "$root"
mkdir usr proc dev tmp home home/dev workspace old etc opt opt/tools
chmod 1777 tmp
mount --rbind /usr usr
for name in bin sbin lib lib64; do test ! -e /usr/$name || ln -s usr/$name $name; done
mount --rbind /dev dev
mount -t proc proc proc
mount --bind "$workspace" workspace
mount --bind "$tools" opt/tools
: > opt/test; mount --bind "$program" opt/test
if test "$cover" = cover; then mount --bind proc/sys proc/sys; mount -o remount,bind,ro proc/sys; fi
pivot_root . old
# umount(8) asks fstab where it is not started by root.
/usr/bin/python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).umount2(b"/old", 2))'
cd /workspace
exec setpriv --inh-caps=-all --ambient-caps=-all $capabilities \
    env -i PATH=/opt/tools:/usr/local/bin:/usr/bin:/bin HOME=/home/dev "$@"
"#;

struct Container {
    cover: bool,
    capabilities: &'static str,
}

const OPEN: Container = Container { cover: false, capabilities: "" };

impl Container {
    /// Runs words in it, in a workspace with a secret.
    fn run(&self, scene: &Scene, words: &[&str]) -> Result<Output, Failed> {
        let tools = tools(scene, "entrypoint.sh", &marked("devcontainer.md", "entrypoint")?)?;
        let script = scene.outside("contain.sh");
        fs::write(&script, CONTAIN)?;
        let root = scene.outside("root");
        fs::create_dir_all(&root)?;
        let mut command = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.args(["-U", "--map-current-user", "--keep-caps"]);
        }
        command.args(["-m", "-p", "-f", "-i", "-u", "--kill-child", "sh"]).arg(script);
        command.arg(root).arg(scene.workspace()).arg(tools).arg(std::env::current_exe()?);
        command.arg(if self.cover { "cover" } else { "open" }).arg(self.capabilities).args(words);
        // Its own group: nothing of the container outlives a test that is broken off.
        Ok(command.process_group(0).output()?)
    }
}

fn in_a_container() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let control = OPEN.run(&scene, &["sh", "-c", "cat .env; ls /proc | grep -c '^[0-9]'; ls /"])?;
    succeeded("the container", &control)?;
    has("the container", &printed(&control), SECRET)?;
    lacks("the container", &printed(&control), "work\n")?;
    let doctor = OPEN.run(&scene, &["jail", "doctor"])?;
    succeeded("doctor", &doctor)?;
    let output =
        OPEN.run(&scene, &["entrypoint.sh", "sh", "-c", "cat .env; echo made > made; echo :>> .git/hooks/x; exit 7"])?;
    same(&output.status.code(), &Some(7))?;
    lacks("inside", &printed(&output), SECRET)?;
    has("inside", &printed(&output), "Read-only file system")?;
    same(&fs::read_to_string(scene.path("made"))?, &"made\n".to_owned())?;
    // The way out is there, and closed.
    let refused = OPEN.run(
        &scene,
        &["entrypoint.sh", "python3", "-c", "import urllib.request as r; r.urlopen('http://evil.example/')"],
    )?;
    has("refused", &printed(&refused), "evil.example: no rule of the policy allows this host")
}

/// Nothing starts, and the message is the page's.
fn refused(scene: &Scene, output: &Output, mark: &str) -> Result<(), Failed> {
    same(&output.status.code(), &Some(125))?;
    let page = marked("devcontainer.md", mark)?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure(text.ends_with(&page), || format!("{text}the page shows:\n{page}"))?;
    ensure(!scene.path("ran").exists(), || "it ran".to_owned())
}

fn filtered() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let docker = ["/opt/test", "without", "clone3=ENOSYS", "clone-newuser=EPERM", "unshare=EPERM", "--"];
    let output = OPEN.run(&scene, &[&docker[..], &["entrypoint.sh", "sh", "-c", "echo ran > ran"]].concat())?;
    refused(&scene, &output, "filter")?;
    // As a container would start it that runs `jail doctor` first.
    let doctor = OPEN.run(&scene, &[&docker[..], &["jail", "doctor"]].concat())?;
    same(&doctor.status.code(), &Some(125))?;
    has("doctor", &printed(&doctor), "seccomp=unconfined")
}

fn covered_proc() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let covered = Container { cover: true, ..OPEN };
    let output = covered.run(&scene, &["entrypoint.sh", "sh", "-c", "echo ran > ran"])?;
    refused(&scene, &output, "proc")?;
    let doctor = covered.run(&scene, &["jail", "doctor"])?;
    has("doctor", &printed(&doctor), "systempaths=unconfined")
}

fn root_of_a_container() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let docker = Container {
        cover: false,
        capabilities: "--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,\
                       +net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap",
    };
    let output = docker.run(&scene, &["entrypoint.sh", "sh", "-c", "echo ran > ran"])?;
    same(&output.status.code(), &Some(125))?;
    has("message", &printed(&output), "the workspace belongs to root\nhint: start jail as an ordinary user")?;
    ensure(!scene.path("ran").exists(), || "it ran".to_owned())
}
