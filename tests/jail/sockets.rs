//! IP: sockets of the host, its network, and other jails. Every listener stays alive and must hear nothing.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;

use crate::canary::{ANSWER, Canaries};
use crate::needs::{Needing, test};
use crate::running::Running;
use crate::scene::{SECRET, Scene};
use crate::tries::{Tries, has, lacks, same};

type Test = Result<(), Failed>;

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("ip_001_ip_004_host_sockets_by_path", host_sockets_by_path),
        test("ip_001_known_services_are_not_there", known_services_are_not_there),
        test("ip_001_a_granted_socket_is_refused", granted_socket_is_refused),
        test("ip_002_ip_011_ip_013_no_service_is_announced", no_service_is_announced),
        test("ip_003_no_container_engine", no_container_engine),
        test("ip_005_a_socket_moved_into_the_workspace", socket_moved_into_the_workspace),
        test("ip_006_abstract_sockets", abstract_sockets),
        test("ip_007_ip_008_pk_015_other_families", other_families),
        test("nt_001_nt_002_host_network", host_network),
        test("nt_015_nothing_leaves_in_the_first_instruction", nothing_leaves_at_first),
        test("ip_015_two_jails_share_nothing", two_jails_share_nothing),
        test("ip_015_the_control_socket_is_out_of_reach", control_socket_is_out_of_reach),
    ]
}

fn strings(paths: &[String]) -> Vec<&str> {
    paths.iter().map(String::as_str).collect()
}

/// A socket in every place where programs meet: the workspace, beside it, the home, /tmp, the runtime directory.
fn host_sockets_by_path() -> Test {
    let scene = Scene::new()?;
    let temporary = tempfile::Builder::new().prefix("canary.").tempdir_in("/tmp")?;
    let shared = tempfile::Builder::new().prefix("canary.").tempdir_in("/dev/shm")?;
    let mut canaries = Canaries::new();
    let places: Vec<PathBuf> = vec![
        scene.workspace(),
        scene.outside(""),
        scene.home(),
        scene.runtime(),
        temporary.path().to_owned(),
        shared.path().to_owned(),
    ];
    let mut streams = Vec::new();
    let mut datagrams = Vec::new();
    for place in &places {
        let [stream, datagram] = canaries.unix(place, "canary")?;
        streams.push(stream);
        datagrams.push(datagram);
    }
    let all = [&["unix"], &strings(&streams)[..], &strings(&datagrams)[..]].concat();
    let control = Tries::from(scene.attack_outside(&all)?);
    for (stream, datagram) in streams.iter().zip(&datagrams) {
        same("control", control.bytes(&format!("connect {stream}"))?, ANSWER)?;
        control.expect(&[&format!("send to {datagram}")], &["ok"])?;
    }
    same("control", &canaries.arrived().len().to_string(), &(2 * places.len()).to_string())?;
    let inside = Tries::from(scene.attack(&[], &all)?);
    for path in streams.iter().chain(&datagrams) {
        inside.expect(&[&format!("connect {path}"), &format!("send to {path}")], &["ENOENT", "ECONNREFUSED"])?;
    }
    same("arrived", &format!("{:?}", canaries.arrived()), "[]")
}

fn known_services_are_not_there() -> Test {
    let scene = Scene::new()?;
    let known = [
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/run/podman/podman.sock",
        "/run/containerd/containerd.sock",
        "/run/libvirt/libvirt-sock",
        "/run/user",
        "/run/dbus/system_bus_socket",
        "/run/systemd/private",
        "/run/systemd/journal/socket",
        "/run/systemd/resolve/io.systemd.Resolve",
        "/run/snapd.socket",
        "/run/udev/control",
        "/var/run/nscd/socket",
        "/run/nscd/socket",
        "/dev/log",
        "/tmp/.X11-unix",
        "/run/acpid.socket",
    ];
    let inside = Tries::from(scene.attack(&[], &[&["unix"], &known[..]].concat())?);
    for path in known {
        inside.expect(&[&format!("connect {path}"), &format!("send to {path}")], &["ENOENT"])?;
    }
    // No socket by path at all: what a walk over everything visible finds.
    let found = scene.inside_ok(
        "find / -xdev -type s 2>/dev/null; find /run /tmp /var /dev /usr /opt /etc -type s 2>/dev/null; true",
    )?;
    same("sockets", &found, "")?;
    // The control for the walk: one that is made inside is found.
    let own = scene
        .inside_ok("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/tmp/own\")'; find /tmp -type s")?;
    has("control", &own, "/tmp/own")
}

fn granted_socket_is_refused() -> Test {
    let scene = Scene::new()?;
    let mut canaries = Canaries::new();
    let [stream, _] = canaries.unix(&scene.outside(""), "granted")?;
    for flag in ["--read", "--write"] {
        let output = scene.run_with(&[flag, &stream]).arg("true").output()?;
        same("status", &format!("{:?}", output.status.code()), "Some(125)")?;
        has("message", &String::from_utf8_lossy(&output.stderr), "socket")?;
    }
    // A directory that holds one: it is covered.
    let directory = scene.outside("granted-directory");
    fs::create_dir_all(directory.join("deep"))?;
    let [stream, datagram] = canaries.unix(&directory.join("deep"), "in")?;
    let granted = directory.display().to_string();
    let control = Tries::from(scene.attack_outside(&["unix", &stream, &datagram])?);
    same("control", control.bytes(&format!("connect {stream}"))?, ANSWER)?;
    canaries.arrived();
    for flag in ["--read", "--write"] {
        let inside = Tries::from(scene.attack(&[flag, &granted], &["unix", &stream, &datagram])?);
        inside.expect_none("connect")?;
        inside.expect_none("send")?;
        same("arrived", &format!("{:?}", canaries.arrived()), "[]")?;
    }
    Ok(())
}

/// Variables by which programs find services of the session.
const SERVICES: &[&str] = &[
    "DBUS_SESSION_BUS_ADDRESS",
    "DBUS_SYSTEM_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "GPG_AGENT_INFO",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "CONTAINER_HOST",
    "PULSE_SERVER",
    "TMUX",
    "STY",
    "VSCODE_IPC_HOOK_CLI",
    "VSCODE_GIT_IPC_HANDLE",
    "SESSION_MANAGER",
    "BROWSER",
    "KUBECONFIG",
    "GNOME_KEYRING_CONTROL",
];

fn no_service_is_announced() -> Test {
    let scene = Scene::new()?;
    let mut inside = scene.run_with(&[]);
    for name in SERVICES {
        inside.env(
            name,
            if *name == "XDG_RUNTIME_DIR" { scene.runtime().display().to_string() } else { SECRET.to_owned() },
        );
    }
    let text = String::from_utf8_lossy(&inside.arg("env").output()?.stdout).into_owned();
    has("control", &text, "HOME=")?;
    for name in SERVICES {
        lacks("environment", &text, &format!("{name}="))?;
    }
    lacks("environment", &text, SECRET)?;
    for command in [
        "systemd-run --user true",
        "busctl --user list",
        "dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames",
        "at now",
        "crontab -l",
        "machinectl list",
        "loginctl list-sessions",
    ] {
        let output = scene.inside(&format!("{command} </dev/null"))?;
        if output.status.success() && !output.stdout.is_empty() {
            return Err(format!("{command}: {}", String::from_utf8_lossy(&output.stdout)).into());
        }
    }
    Ok(())
}

/// A listener that speaks for a container engine: by its usual path it is not there, by TCP not reachable.
fn no_container_engine() -> Test {
    let scene = Scene::new()?;
    let mut canaries = Canaries::new();
    let [engine, _] = canaries.unix(&scene.runtime(), "docker")?;
    let address = canaries.tcp("127.0.0.1")?;
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_UNIX)\ntry:\n s.connect('{engine}'); s.send(b'POST /containers/create'); print('reached')\n\
         except OSError as e: print(e)\nt = socket.socket()\nt.settimeout(2)\ntry:\n host, port = '{address}'.split(':'); t.connect((host, int(port))); print('reached')\n\
         except OSError as e: print(e)\n"
    );
    scene.write("engine.py", script)?;
    let control = scene.outside_ok("python3 engine.py")?;
    same("control", &control, "reached\nreached\n")?;
    same("control", &canaries.arrived().len().to_string(), "2")?;
    let mut inside = scene.run_with(&[]);
    inside.env("DOCKER_HOST", format!("tcp://{address}"));
    let text = String::from_utf8_lossy(&inside.args(["python3", "engine.py"]).output()?.stdout).into_owned();
    same("lines", &text.lines().count().to_string(), "2")?;
    lacks("inside", &text, "reached")?;
    same("arrived", &format!("{:?}", canaries.arrived()), "[]")
}

/// The host makes or moves sockets while the jail runs: the watcher covers what it sees.
fn socket_moved_into_the_workspace() -> Test {
    let scene = Scene::new()?;
    let program = std::env::current_exe()?.display().to_string();
    // Made by a process inside, sockets in the workspace work: build tools and language servers need them.
    let own = scene.path("own.sock").display().to_string();
    let script = format!(
        "import socket, os\ns = socket.socket(socket.AF_UNIX); s.bind('{own}'); s.listen()\n\
         if os.fork() == 0:\n c = socket.socket(socket.AF_UNIX); c.connect('{own}'); c.send(b'inside'); os._exit(0)\n\
         print(s.accept()[0].recv(10).decode())\n"
    );
    scene.write("own.py", script)?;
    same("control", scene.inside_ok("python3 own.py")?.trim(), "inside")?;
    let mut canaries = Canaries::new();
    let [stream, datagram] = canaries.unix(&scene.outside(""), "moved")?;
    let link = scene.path("link").display().to_string();
    std::os::unix::fs::symlink(&stream, &link)?;
    let inside = Tries::from(scene.attack(&["--read", &program], &["unix", &link, &stream, &datagram])?);
    inside.expect_none("connect")?;
    inside.expect_none("send")?;
    same("arrived", &format!("{:?}", canaries.arrived()), "[]")
}

fn abstract_sockets() -> Test {
    let scene = Scene::new()?;
    let mut canaries = Canaries::new();
    let mut names = Vec::new();
    for name in ["/tmp/.X11-unix/X99", "/tmp/dbus-canary", "/containerd-shim/canary", "org.chromium.canary"] {
        names.extend(canaries.abstract_(&format!("{name}.{}", std::process::id()))?);
    }
    let all = [&["abstract"], &strings(&names)[..]].concat();
    let control = Tries::from(scene.attack_outside(&all)?);
    for name in &names {
        let verb = if name.ends_with("stream") { "connect" } else { "send to" };
        control.expect(&[&format!("{verb} @{name}")], &["ok"])?;
    }
    same("control", &canaries.arrived().len().to_string(), &names.len().to_string())?;
    let inside = Tries::from(scene.attack(&[], &all)?);
    inside.expect_none("connect @")?;
    inside.expect_none("send to @")?;
    same("arrived", &format!("{:?}", canaries.arrived()), "[]")
}

fn other_families() -> Test {
    let scene = Scene::new()?;
    let control = Tries::from(scene.attack_outside(&["families"])?);
    control.expect(&["socket 1", "socket 2", "socket netlink 0", "socket netlink 15"], &["ok"])?;
    let inside = Tries::from(scene.attack(&[], &["families"])?);
    for family in 0..=46 {
        if ![1, 2, 10, 16].contains(&family) {
            inside.expect(&[&format!("socket {family}"), &format!("socket {family} high bits")], &["EAFNOSUPPORT"])?;
        }
    }
    for protocol in 1..=22 {
        inside.expect(&[&format!("socket netlink {protocol}")], &["EPROTONOSUPPORT"])?;
    }
    for cid in 1..=3 {
        inside.expect(&[&format!("vsock connect CID {cid}")], &["EAFNOSUPPORT"])?;
    }
    inside.expect(&["socket IPv4 raw", "socket IPv6 raw", "socket IPv4 packet"], &["EPERM"])
}

fn host_network() -> Test {
    let scene = Scene::new()?;
    let mut canaries = Canaries::new();
    let (tcp4, udp4) = (canaries.tcp("127.0.0.1")?, canaries.udp("127.0.0.1")?);
    let mut tcp = vec![tcp4.clone()];
    let mut udp = vec![udp4.clone()];
    if fs::metadata("/proc/net/if_inet6").is_ok() {
        tcp.push(canaries.tcp("[::1]")?);
        udp.push(canaries.udp("[::1]")?);
    }
    if let Some(address) = own_address() {
        tcp.push(canaries.tcp(&address)?);
        udp.push(canaries.udp(&address)?);
    }
    let (tcp_all, udp_all) = ([&["tcp"], &strings(&tcp)[..]].concat(), [&["udp"], &strings(&udp)[..]].concat());
    let control = Tries::from(scene.attack_outside(&tcp_all)?);
    for address in &tcp {
        same(address, control.bytes(&format!("tcp {address}"))?, ANSWER)?;
    }
    let control = Tries::from(scene.attack_outside(&udp_all)?);
    for address in &udp {
        same(address, control.bytes(&format!("udp {address}"))?, ANSWER)?;
    }
    same("control", &canaries.arrived().len().to_string(), &(tcp.len() + udp.len()).to_string())?;
    // The same and other spellings, and what cannot be anybody's: refused at once, not after a timeout.
    let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
    for host in ["0.0.0.0", "[::ffff:127.0.0.1]", "[::]", "10.0.2.2", "169.254.169.254", "192.0.2.1", "[2001:db8::1]"] {
        tcp.push(format!("{host}:{}", port(&tcp4)));
    }
    // Where a datagram gets no answer the attack waits for one.
    udp.extend(["10.0.2.2", "192.0.2.1"].map(|host| format!("{host}:{}", port(&udp4))));
    let start = std::time::Instant::now();
    let inside = Tries::from(scene.attack(&[], &[&["tcp"], &strings(&tcp)[..]].concat())?);
    for address in &tcp {
        // What is not the jail's own reaches the proxy, which says why not.
        let said = inside.bytes(&format!("tcp {address}"))?;
        if !said.is_empty() && !said.starts_with("HTTP/1.1 403 Forbidden") {
            return Err(format!("{address} answered {said}").into());
        }
    }
    if start.elapsed() > std::time::Duration::from_secs(5) {
        return Err("a connection hangs instead of being refused".into());
    }
    Tries::from(scene.attack(&[], &[&["udp"], &strings(&udp)[..]].concat())?).expect_none("udp")?;
    same("arrived", &format!("{:?}", canaries.arrived()), "[]")
}

/// An address of the host that is not loopback, if it has one.
fn own_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // No packet is sent: connecting a datagram socket only chooses the source address.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
}

fn nothing_leaves_at_first() -> Test {
    let scene = Scene::new()?;
    let mut canaries = Canaries::new();
    let address = canaries.tcp("127.0.0.1")?;
    for _ in 0..30 {
        Tries::from(scene.attack(&[], &["tcp", &address])?).expect_none("tcp")?;
    }
    same("arrived", &format!("{:?}", canaries.arrived()), "[]")?;
    same("control", Tries::from(scene.attack_outside(&["tcp", &address])?).bytes(&format!("tcp {address}"))?, ANSWER)
}

/// A jail that listens in every way, and another of the same user that looks for it.
fn two_jails_share_nothing() -> Test {
    let scene = Scene::new()?;
    let other = Scene::new()?;
    let name = format!("jail-canary.{}", std::process::id());
    let script = format!(
        "import socket, time\nkeep = []\n\
         def unix(kind, name):\n s = socket.socket(socket.AF_UNIX, kind); s.bind(name); keep.append(s)\n \
         if kind == socket.SOCK_STREAM: s.listen()\n\
         unix(socket.SOCK_STREAM, '\\0{name}'); unix(socket.SOCK_STREAM, '/tmp/{name}')\n\
         t = socket.socket(); t.bind(('127.0.0.1', 45871)); t.listen(); keep.append(t)\n\
         open('/tmp/{name}.file', 'w').write('{SECRET}'); open('/dev/shm/{name}', 'w').write('{SECRET}')\n\
         print('ready', flush=True)\ntime.sleep(60)\n"
    );
    let mut command = scene.run_with(&[]);
    command.args(["python3", "-c", &script]);
    let first = Running::spawn(&scene, command)?;
    let hosts: Vec<String> = first.processes().iter().map(ToString::to_string).collect();
    same("processes", &hosts.len().to_string(), "2")?;
    // The control: in the first jail itself all of it is there.
    let flag = ["exec", first.session.as_str(), "cat"];
    let path = format!("/tmp/{name}.file");
    let read = scene.jail(&flag).arg(&path).output()?;
    same("control", &String::from_utf8_lossy(&read.stdout), SECRET)?;
    let attack = |arguments: &[&str]| -> Result<Tries, Failed> { Ok(other.attack(&[], arguments)?.into()) };
    attack(&["unix", &format!("/tmp/{name}")])?.expect_none("connect")?;
    attack(&["abstract", &name])?.expect_none("connect")?;
    attack(&["tcp", "127.0.0.1:45871"])?.expect_none("tcp")?;
    let shared = format!("/dev/shm/{name}");
    attack(&["read", &path, &shared])?.expect_none("read")?;
    // Processes, by the ids that the host gives them and by those they have inside.
    let pids: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let trace = attack(&[&["trace"], &pids[..]].concat())?;
    let signals = attack(&[&["signals"], &pids[..]].concat())?;
    let proc = attack(&[&["proc"], &pids[..]].concat())?;
    for pid in &pids {
        trace.expect(
            &[&format!("ptrace SEIZE pid {pid}"), &format!("process_vm_readv pid {pid}")],
            &["ESRCH", "EPERM"],
        )?;
        trace.expect(&[&format!("pidfd_getfd pid {pid}")], &["ESRCH", "EPERM"])?;
        signals.expect(&[&format!("kill pid {pid}"), &format!("tgkill pid {pid}")], &["ESRCH", "EPERM"])?;
        proc.expect(
            &[&format!("read environ of {pid}"), &format!("open mem of {pid}"), &format!("list root of {pid}")],
            &["ENOENT"],
        )?;
    }
    // From outside the same is possible to the user: the processes live.
    Tries::from(other.attack_outside(&[&["signals"], &pids[..1]].concat())?)
        .expect(&[&format!("kill pid {}", pids[0])], &["ok"])
}

fn control_socket_is_out_of_reach() -> Test {
    let scene = Scene::new()?;
    let running = Running::start(&scene, &[], "echo ready; sleep 60")?;
    let socket = scene.runtime().join("jail").join(&running.session).join("control.sock");
    if !Path::new(&socket).exists() {
        return Err(format!("control: there is no {}", socket.display()).into());
    }
    let path = socket.display().to_string();
    // From a jail of the same user, and from the session's own.
    let other = Tries::from(scene.attack(&[], &["unix", &path])?);
    other.expect(&[&format!("connect {path}"), &format!("send to {path}")], &["ENOENT"])?;
    let script =
        format!("ls -d {path} {}; find / -name control.sock 2>/dev/null; echo done", scene.runtime().display());
    let own = scene.jail(&["exec", &running.session, "sh", "-c", &script]).output()?;
    same("inside", &String::from_utf8_lossy(&own.stdout), "done\n")?;
    // `jail` itself, in the jail, finds no session.
    let program = env!("CARGO_BIN_EXE_jail");
    let listed = scene.run_with(&["--read", program]).args([program, "ps", "--json"]).output()?;
    lacks("inside", &String::from_utf8_lossy(&listed.stdout), &running.session)
}
