#!/usr/bin/env python3
"""Compares connections out of a jail with direct ones and with squid and tinyproxy, alternating; prints Markdown tables.

    cargo build --release
    benches/egress.py [--jail PATH] [--rounds N] [--large MIB] [--idle N] [--sections tls,http,large,idle]

The origin is nginx, the client oha (`cargo install oha`), both on loopback; the proxies are started here with settings of
their own, on ports of their own, and stopped at the end. Latency is that of one kept connection; "16" is requests per
second over 16 kept connections; "new" is requests per second with a connection for each. Run it as an ordinary user, or
with --user NAME as root. Needs nginx, oha, openssl, curl; squid and tinyproxy where they are to be compared.
"""

import argparse, json, os, pwd, resource, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

HOST = "origin.test"


def free_ports(names):
    """Ports that nobody has now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    ports = dict(zip(names, (one.getsockname()[1] for one in sockets)))
    for one in sockets:
        one.close()
    return ports


PORTS = free_ports(["https", "http", "squid", "tinyproxy"])


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


class Bench:
    def __init__(self, args):
        self.args = args
        self.home = tempfile.mkdtemp(prefix="jail-bench.", dir="/tmp")
        os.chmod(self.home, 0o755)
        self.children = []
        self.as_user = []
        if args.user:
            user = pwd.getpwnam(args.user)
            self.as_user = ["setpriv", "--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups",
                            "env", f"HOME={user.pw_dir}", "PATH=/usr/local/bin:/usr/bin:/bin"]
        for tool in [args.jail, shutil.which("oha") or sys.exit("oha is missing: cargo install oha")]:
            shutil.copy(tool, self.home)
        self.jail, self.oha = (os.path.join(self.home, os.path.basename(tool)) for tool in [args.jail, "oha"])
        self.workspace = os.path.join(self.home, "workspace")
        os.mkdir(self.workspace)
        shutil.copy(self.oha, self.workspace)
        os.chmod(self.workspace, 0o777)
        self.policy = write(os.path.join(self.home, "policy.toml"), f"""
[limits]
connections = 12000

[[allow]]
host = "{HOST}"
tunnel = true
resolve = ["127.0.0.1"]
ports = [{PORTS['https']}, {PORTS['http']}]
""")

    def start(self, *command):
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.children.append(child)

    def wait_for(self, name):
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", PORTS[name])) == 0:
                    return True
            time.sleep(0.1)
        return False

    def origin(self):
        os.mkdir(f"{self.home}/www")
        write(f"{self.home}/www/small", "x" * 1024)
        with open(f"{self.home}/www/large", "wb") as file:
            for _ in range(self.args.large):
                file.write(os.urandom(1 << 20))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", f"{self.home}/key", "-out", f"{self.home}/cert", "-days", "2", "-subj", f"/CN={HOST}",
                        "-addext", f"subjectAltName=DNS:{HOST}"], check=True, capture_output=True)
        conf = write(f"{self.home}/nginx.conf", f"""
daemon off; pid {self.home}/nginx.pid; error_log /dev/null; worker_processes 2; worker_rlimit_nofile 40000;
{"user " + self.args.user + ";" if self.args.user else ""}
events {{ worker_connections 20000; }}
http {{
  access_log off; keepalive_requests 10000000; keepalive_timeout 600s; sendfile on; tcp_nodelay on;
  client_body_temp_path {self.home}/t1; proxy_temp_path {self.home}/t2; fastcgi_temp_path {self.home}/t3;
  uwsgi_temp_path {self.home}/t4; scgi_temp_path {self.home}/t5;
  client_header_timeout 600s;
  server {{ listen 127.0.0.1:{PORTS['https']} ssl backlog=4096; listen 127.0.0.1:{PORTS['http']} backlog=4096; server_name {HOST};
    ssl_certificate {self.home}/cert; ssl_certificate_key {self.home}/key; ssl_session_cache shared:s:10m;
    root {self.home}/www; }}
}}""")
        self.start("nginx", "-c", conf)
        self.wait_for("https") or sys.exit("nginx did not start")
        self.proxies = []
        if shutil.which("squid"):
            user = self.args.user or "root"
            conf = write(f"{self.home}/squid.conf", f"""
http_port 127.0.0.1:{PORTS['squid']}
acl all_ports port 1-65535
http_access allow all
cache deny all
access_log none
cache_log /dev/null
pid_filename none
cache_effective_user {user}
coredump_dir {self.home}
hosts_file {write(self.home + "/hosts", f"127.0.0.1 {HOST}" + chr(10))}
""")
            self.start("squid", "-N", "-f", conf)
            if self.wait_for("squid"):
                self.proxies.append("squid")
        if shutil.which("tinyproxy"):
            conf = write(f"{self.home}/tinyproxy.conf", f"Port {PORTS['tinyproxy']}\nListen 127.0.0.1\nMaxClients 1000\nLogLevel Critical\nLogFile \"/dev/null\"\n")
            self.start("tinyproxy", "-d", "-c", conf)
            if self.wait_for("tinyproxy"):
                self.proxies.append("tinyproxy")

    def stop(self):
        for child in self.children:
            child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def command(self, way, scheme, client):
        """A client's command for one way out; `{proxy}` and `{connect}` are filled in for those that need them."""
        port = PORTS[scheme]
        if way == "jail":
            inner = [word for word in client if not word.startswith("{")]
            return self.as_user + [self.jail, "--quiet", "run", "--policy", self.policy, "--"] + inner
        words = []
        for word in client:
            if word == "{proxy}":
                if way != "direct":
                    words += ["-x", f"http://127.0.0.1:{PORTS[way]}"]
            elif word == "{connect}":
                # A proxy gets the address: what resolving a name costs is not compared.
                words += ["--connect-to", f"{HOST}:{port}:127.0.0.1:{port}"] if way == "direct" else []
            else:
                words.append(word if way in ("direct",) else word.replace(HOST, "127.0.0.1"))
        return self.as_user + words

    def measure(self, way, scheme, flags):
        client = ["./oha", "--no-tui", "--insecure", "--output-format", "json", *flags, "{proxy}", "{connect}",
                  f"{scheme}://{HOST}:{PORTS[scheme]}/small"]
        done = subprocess.run(self.command(way, scheme, client), cwd=self.workspace, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            found = json.loads(done.stdout)
        except ValueError:
            sys.exit(f"{way} {flags}: {done.stderr.decode()[-600:]} {done.stdout.decode()[-300:]}")
        codes = found["statusCodeDistribution"]
        if set(codes) != {"200"}:
            print(f"  {way} {scheme} {flags}: {codes} {found['errorDistribution']}", file=sys.stderr)
        return found

    def requests(self, scheme):
        ways = ["direct", "jail", *self.proxies]
        rows = {way: {"p50": [], "p99": [], "16": [], "new": []} for way in ways}
        for _ in range(self.args.rounds):
            for way in ways:
                one = self.measure(way, scheme, ["-c", "1", "-n", "4000"])["latencyPercentiles"]
                rows[way]["p50"].append(one["p50"] * 1e6)
                rows[way]["p99"].append(one["p99"] * 1e6)
                rows[way]["16"].append(self.measure(way, scheme, ["-c", "16", "-n", "20000"])["summary"]["requestsPerSec"])
                new = self.measure(way, scheme, ["-c", "16", "-n", "3000", "--disable-keepalive"])
                rows[way]["new"].append(new["summary"]["requestsPerSec"])
        print(f"\n### {scheme}: requests of 1 KiB, medians of {self.args.rounds}\n")
        print("| | p50, µs | over direct | p99, µs | over direct | 16 kept, 1/s | ratio | new, 1/s | ratio |\n|---|---|---|---|---|---|---|---|---|")
        base = {key: statistics.median(rows["direct"][key]) for key in rows["direct"]}
        for way in ways:
            now = {key: statistics.median(rows[way][key]) for key in rows[way]}
            print(f"| {way} | {now['p50']:.0f} | {now['p50'] - base['p50']:+.0f} | {now['p99']:.0f} | {now['p99'] - base['p99']:+.0f} "
                  f"| {now['16']:.0f} | {now['16'] / base['16']:.2f} | {now['new']:.0f} | {now['new'] / base['new']:.2f} |", flush=True)

    def large(self):
        print(f"\n### {self.args.large} MiB, seconds, medians of {self.args.rounds}\n\n| | https | ratio | http | ratio |\n|---|---|---|---|---|")
        ways = ["direct", "jail", *self.proxies]
        times = {way: {"https": [], "http": []} for way in ways}
        for _ in range(self.args.rounds):
            for way in ways:
                for scheme in ("https", "http"):
                    client = ["curl", "-sS", "-k", "-o", "/dev/null", "-w", "%{time_total} %{size_download}", "{proxy}", "{connect}",
                              f"{scheme}://{HOST}:{PORTS[scheme]}/large"]
                    done = subprocess.run(self.command(way, scheme, client), cwd=self.workspace, stdout=subprocess.PIPE, check=True)
                    seconds, size = done.stdout.split()
                    if int(size) != self.args.large << 20:
                        sys.exit(f"{way} {scheme}: {size} bytes arrived")
                    times[way][scheme].append(float(seconds))
        base = {scheme: statistics.median(times["direct"][scheme]) for scheme in ("https", "http")}
        for way in ways:
            now = {scheme: statistics.median(times[way][scheme]) for scheme in base}
            print(f"| {way} | {now['https']:.2f} | {now['https'] / base['https']:.2f} | {now['http']:.2f} | {now['http'] / base['http']:.2f} |", flush=True)

    def idle(self):
        # The supervisor has two descriptors for each connection.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 2 * self.args.idle + 512:
            self.args.idle = (hard - 512) // 2
            print(f"\n(the limit of {hard} open files allows {self.args.idle} connections)")
        script = write(os.path.join(self.workspace, "idle.py"), f"""
import resource, socket, ssl, sys, time
count = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
kept = []
for number in range(count):
    try:
        kept.append(context.wrap_socket(socket.create_connection(("{HOST}", {PORTS['https']})), server_hostname="{HOST}"))
    except OSError as error:
        print(number, error, flush=True); break
print("ready", len(kept), flush=True)
sys.stdin.readline()
""")
        command = self.as_user + [self.jail, "--quiet", "run", "--policy", self.policy, "--", "/usr/bin/python3", script, str(self.args.idle)]
        child = subprocess.Popen(command, cwd=self.workspace, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        said = b""
        while not said.startswith(b"ready"):
            said = child.stdout.readline()
            if not said:
                sys.exit("the clients ended early")
        supervisor = child.pid
        status = dict(line.split(":", 1) for line in open(f"/proc/{supervisor}/status") if ":" in line)
        print(f"\n### Idle connections\n\n{said.decode().split()[1]} idle TLS connections: the supervisor holds {int(status['VmRSS'].split()[0]) / 1024:.1f} MiB.", flush=True)
        child.communicate(b"\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--jail", default=os.path.join(here, "../target/release/jail"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", type=int, default=1024)
    parser.add_argument("--idle", type=int, default=10000)
    parser.add_argument("--user")
    parser.add_argument("--sections", default="tls,http,large,idle")
    args = parser.parse_args()
    bench = Bench(args)
    try:
        bench.origin()
        sections = args.sections.split(",")
        if "tls" in sections:
            bench.requests("https")
        if "http" in sections:
            bench.requests("http")
        if "large" in sections:
            bench.large()
        if "idle" in sections:
            bench.idle()
    finally:
        bench.stop()


main()
