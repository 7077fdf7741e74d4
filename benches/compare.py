#!/usr/bin/env python3
"""Compares jail with no jail and with bubblewrap, alternating, and prints Markdown tables.

    cargo build --release --bench inside --bench tree && cargo build --release
    benches/compare.py [--user NAME] [--sections start,inside,tree,memory,mask] [--runs N]

Medians of alternating runs (A B C A B C …), so that what else the machine does meets all alike; the processor time
(user and system, of all processes) beside the wall time. Started by root, everything is measured as `--user` and then
as root. Needs bwrap, git, gcc and, for the tree, rg.
"""

import argparse, glob, json, os, pwd, shutil, statistics, subprocess, sys, tempfile, time, traceback

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
if sys.executable != PYTHON and "resource" not in sys.builtin_module_names:
    try:
        import resource  # what wait4 returns; a Python under a home directory is not visible to the other user anyway
    except ImportError:
        os.execv(PYTHON, [PYTHON, *sys.argv])


def newest(pattern):
    found = [path for path in glob.glob(pattern) if not path.endswith(".d")]
    return max(found, key=os.path.getmtime) if found else None


def run_once(argv, output=None, cwd=None):
    """Wall and processor seconds of one command; its standard output goes nowhere or into a file."""
    if cwd:
        os.chdir(cwd)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, output or "/dev/null", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
    ]
    start = time.monotonic()
    # A session of its own: the scheduler shares the processor out among sessions, and bwrap and jail make one.
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions, setsid=True)
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - start
    if status != 0:
        raise SystemExit(f"{argv}: status {status}")
    return wall, usage.ru_utime + usage.ru_stime


def worker():
    """Runs inside a jail, or outside: one command a line, answered by its times; a number is its own measurement."""
    for line in sys.stdin:
        order = json.loads(line)
        if "watch" in order:
            watch(order["watch"])
            return
        if order.get("before"):
            run_once(order["before"])
        if order.get("number"):
            said = subprocess.run(order["run"], stdout=subprocess.PIPE, check=True, start_new_session=True).stdout
            print(json.dumps([float(number) for number in said.split()]), flush=True)
        else:
            print(json.dumps(run_once(order["run"])), flush=True)


def watch(path):
    """Says when a hidden file of a new size is blank, and whether its bytes were seen before that."""
    print("ready", flush=True)
    size, seen = -1, False
    while True:
        try:
            with open(path, "rb", buffering=0) as file:
                content = file.read()
        except OSError:
            continue
        now = time.monotonic()
        if len(content) == size:
            continue
        if content.strip():
            seen = seen or b"SECRET" in content
            continue
        size = len(content)
        print(json.dumps([now, size, seen]), flush=True)
        seen = False


class Arm:
    """A worker behind a wrapper."""

    def __init__(self, wrapper, cwd):
        argv = wrapper + [PYTHON, os.path.abspath(__file__), "--worker"]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd, start_new_session=True)

    def ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def bwrap(repo, extra=()):
    """The same namespaces and comparable mounts."""
    argv = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    argv += ["--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc", "--proc", "/proc", "--dev", "/dev"]
    for name in ["bin", "sbin", "lib", "lib64"]:
        if os.path.islink("/" + name):
            argv += ["--symlink", os.readlink("/" + name), "/" + name]
    argv += ["--tmpfs", "/tmp", "--tmpfs", "/run", "--tmpfs", os.path.expanduser("~")]
    argv += ["--bind", repo, repo]
    for name in [".git/config", ".git/hooks"]:
        if os.path.exists(os.path.join(repo, name)):
            argv += ["--ro-bind", os.path.join(repo, name), os.path.join(repo, name)]
    for path in extra:
        argv += ["--ro-bind", path, path]
    return argv + ["--chdir", repo]


def jail(program, extra=()):
    argv = [program, "--quiet", "run"]
    for path in extra:
        argv += ["--read", path]
    return argv + ["--"]


def repository(path, files):
    os.makedirs(path)
    for number in range(files):
        directory = os.path.join(path, f"d{number // 300}", f"e{number // 30 % 10}")
        if number % 30 == 0:
            os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"f{number}.txt"), "w") as file:
            file.write(f"content {number}\n")
    git = ["git", "-C", path, "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(git + ["init", "--quiet", "-b", "main"], check=True)
    with open(os.path.join(path, ".gitignore"), "w") as file:
        file.write(".env\n/out\n/target\n")
    subprocess.run(git + ["add", "."], check=True)
    subprocess.run(git + ["commit", "--quiet", "-m", "all"], check=True)
    with open(os.path.join(path, ".env"), "w") as file:
        file.write("TOKEN=SECRET\n")
    return path


def table(title, rows, unit, scale):
    """Rows: what, goal, {arm: [(wall, cpu), …]}; the ratio is to the first arm, `goal` for the last."""
    print(f"\n### {title}\n")
    arms = list(rows[0][2])
    head = ["what"] + [f"{arm}, {unit}" for arm in arms] + [f"{arm} / {arms[0]}" for arm in arms[1:]]
    head += [f"processor: {arm}" for arm in arms] + [f"{arm} / {arms[0]}" for arm in arms[1:]] + ["goal"]
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for what, goal, results in rows:
        wall = {arm: statistics.median(run[0] for run in runs) for arm, runs in results.items()}
        cpu = {arm: statistics.median(run[1] for run in runs) for arm, runs in results.items()}
        base = arms[0]
        cells = [what] + [f"{wall[arm] * scale:.2f}" for arm in arms]
        cells += [f"{wall[arm] / wall[base]:.2f}" for arm in arms[1:]]
        cells += [f"{cpu[arm] * scale:.2f}" for arm in arms] + [f"{cpu[arm] / cpu[base]:.2f}" for arm in arms[1:]]
        print("| " + " | ".join(cells + [goal]) + " |")
    sys.stdout.flush()


def alternate(arms, runs, once):
    results = {name: [] for name in arms}
    for turn in range(runs + 2):
        for name in arms:
            result = once(name)
            if turn >= 2:
                results[name].append(result)
    return results


def start(options, base):
    repo = repository(os.path.join(base, "small"), 60)
    commands = {"bwrap": bwrap(repo) + ["true"], "bare": ["true"], "jail": jail(options.jail) + ["true"]}
    results = alternate(commands, options.runs * 3, lambda name: run_once(commands[name], cwd=repo))
    table("Start to exit of `true` in a repository of 60 files", [("`true`", "≤ 1.5 × bwrap", results)], "ms", 1e3)


def inside(options, base):
    repo = repository(os.path.join(base, "large"), 30000)
    helper = options.inside
    os.makedirs(os.path.join(repo, "out"))
    for number in range(12):
        with open(os.path.join(repo, "out", f"m{number}.c"), "w") as file:
            file.write("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n")
            file.writelines(f"int f{number}_{i}(int a) {{ char b[64]; snprintf(b, 64, \"%d\", a); return atoi(b) + {i}; }}\n" for i in range(80))
    build = "for f in out/m*.c; do gcc -O1 -c $f -o ${f%.c}.o; done; gcc -shared -o out/all.so out/m*.o"
    extra = [os.path.abspath(__file__), helper]
    work = [
        ("`gcc` build of 12 files", "≤ 1.02", dict(run=["sh", "-c", build]), options.runs // 3),
        ("`git status`, 30,000 files", "≤ 1.05", dict(run=["git", "status", "--porcelain"]), options.runs),
        ("`find`, 30,000 files", "≤ 1.12", dict(run=["find", ".", "-type", "f"]), options.runs),
        ("open and close", "≤ 1.25", dict(run=[helper, "open", "d7/e3/f2190.txt", "100000"], number=True), options.runs),
        ("getpid", "≤ 1.3", dict(run=[helper, "getpid", "1000000"], number=True), options.runs),
    ]
    work.insert(3, ("`grep -r`, 30,000 files", "", dict(run=["grep", "-rc", "content", "."]), options.runs))
    cargo = shutil.which("cargo")
    crate = newest(os.path.expanduser("~/.cargo/registry/src/*/itoa-1*"))
    wrappers = {"outside": [], "bwrap": bwrap(repo, extra), "jail": jail(options.jail, extra)}
    arms = {name: Arm(wrapper, repo) for name, wrapper in wrappers.items()}
    calls, rows = [], []
    for what, goal, order, runs in work:
        results = alternate(arms, runs, lambda name: arms[name].ask(**order))
        (calls if order.get("number") else rows).append((what, goal, results))
    for arm in arms.values():
        arm.end()
    if cargo and crate:
        rows.insert(0, ("`cargo build` of a small crate", "≤ 1.02", cargo_build(options, base, crate)))
    table("The same work inside and outside", rows, "ms", 1e3)
    table("System calls inside and outside", calls, "ns", 1)


def cargo_build(options, base, source):
    repo = os.path.join(base, "crate")
    os.makedirs(os.path.join(repo, "src"))
    shutil.copytree(os.path.join(source, "src"), os.path.join(repo, "src"), dirs_exist_ok=True)
    with open(os.path.join(repo, "Cargo.toml"), "w") as file:
        file.write('[package]\nname = "small"\nversion = "1.0.0"\nedition = "2021"\n[dependencies]\n[workspace]\n')
    subprocess.run(["git", "-C", repo, "init", "--quiet"], check=True)
    extra = [os.path.abspath(__file__)]
    homes = [path for path in map(os.path.expanduser, ["~/.cargo", "~/.rustup"]) if os.path.exists(path)]
    wrappers = {"outside": [], "bwrap": bwrap(repo, extra + homes), "jail": jail(options.jail, extra)}
    arms = {name: Arm(wrapper, repo) for name, wrapper in wrappers.items()}
    order = dict(before=["rm", "-rf", "target"], run=["cargo", "build", "--offline", "--quiet"])
    results = alternate(arms, options.runs, lambda name: arms[name].ask(**order))
    for arm in arms.values():
        arm.end()
    return results


def tree(options, base):
    path = os.path.join(base, "tree")
    for number in range(280000):
        directory = os.path.join(path, f"a{number // 20000}", f"b{number // 1000 % 20}", f"c{number // 50 % 20}")
        if number % 50 == 0:
            os.makedirs(directory, exist_ok=True)
        os.close(os.open(os.path.join(directory, f"f{number}.rs"), os.O_CREAT | os.O_WRONLY, 0o644))
    # The benchmark alternates with rg by itself.
    said = subprocess.run([options.tree, path, str(options.runs)], stderr=subprocess.PIPE, text=True, check=True).stderr
    print(f"\n### One pass over 280,000 files, beside `rg --files --hidden --no-ignore` (goal ≤ 1.2)\n\n    {said.splitlines()[-1]}")
    sys.stdout.flush()
    shutil.rmtree(path)


def memory(options, base):
    print("\n### Resident memory of the supervisor while `sleep` runs inside\n\n| repository | VmRSS, MiB | goal |\n|---|---|---|")
    for name, files in [("small", 60), ("large", 30000)]:
        repo = os.path.join(base, name)
        if not os.path.exists(repo):
            repository(repo, files)
        process = subprocess.Popen(jail(options.jail) + ["sh", "-c", "echo ready; exec sleep 60"], cwd=repo, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(2)
        with open(f"/proc/{process.pid}/status") as file:
            resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        process.terminate()
        process.wait()
        print(f"| {files:,} files | {resident / 1024:.1f} | ≤ 12 |")
    sys.stdout.flush()


def mask(options, base):
    repo = os.path.join(base, "small")
    if not os.path.exists(repo):
        repository(repo, 60)
    secret, new = os.path.join(repo, ".env"), os.path.join(base, "new")
    arm = Arm(jail(options.jail, [os.path.abspath(__file__)]), repo)
    arm.process.stdin.write(json.dumps({"watch": secret}) + "\n")
    arm.process.stdin.flush()
    arm.process.stdout.readline()
    arm.process.stdout.readline()
    windows, leaks = [], 0
    for number in range(600):
        size = 100 + number % 97
        with open(new, "w") as file:
            file.write("SECRET".ljust(size - 1, "x") + "\n")
        start = time.monotonic()
        os.rename(new, secret)
        while True:
            now, got, seen = json.loads(arm.process.stdout.readline())
            if got == size:
                break
        windows.append((now - start) * 1e3)
        leaks += seen
        time.sleep(0.002)
    arm.process.terminate()
    arm.process.wait()
    windows.sort()
    at = lambda share: windows[min(len(windows) - 1, int(len(windows) * share))]
    print("\n### From a host's rename over a hidden file until the jail reads blanks\n")
    print("| renames | median, ms | p99, ms | max, ms | new bytes seen by a reader that does nothing else |\n|---|---|---|---|---|")
    print(f"| {len(windows)} | {at(0.5):.2f} | {at(0.99):.2f} | {windows[-1]:.2f} | {leaks} times |")
    sys.stdout.flush()


SECTIONS = dict(start=start, inside=inside, tree=tree, memory=memory, mask=mask)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "target"))
    parser.add_argument("--jail", default=os.path.join(target, "release/jail"))
    parser.add_argument("--inside", default=newest(os.path.join(target, "release/deps/inside-*")))
    parser.add_argument("--tree", default=newest(os.path.join(target, "release/deps/tree-*")))
    parser.add_argument("--user", help="whom to measure as, when started by root")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--worker", action="store_true")
    options = parser.parse_args()
    if options.worker:
        return worker()
    users = [options.user, "root"] if os.getuid() == 0 and options.user else [pwd.getpwuid(os.getuid()).pw_name]
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    print(f"{time.strftime('%Y-%m-%d')}, Linux {os.uname().release}, {os.cpu_count()} × {cpu}, load {os.getloadavg()[0]:.1f}")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="jail-bench.") as shared:
        os.chmod(shared, 0o755)
        for name in ["jail", "inside", "tree"]:
            if getattr(options, name):
                setattr(options, name, shutil.copy(getattr(options, name), os.path.join(shared, name)))
        script = shutil.copy(os.path.abspath(__file__), shared)
        for user in users:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    measure(options, script, user)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            if os.waitpid(child, 0)[1] != 0:
                raise SystemExit(1)


def measure(options, script, user):
    global __file__
    __file__ = script
    entry = pwd.getpwnam(user)
    if os.getuid() != entry.pw_uid:
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user, PATH="/usr/local/bin:/usr/bin:/bin")
        os.environ.pop("XDG_RUNTIME_DIR", None)
    os.chdir(entry.pw_dir)
    print(f"\n## As {'root' if entry.pw_uid == 0 else 'an ordinary user'}")
    sys.stdout.flush()
    # Below the home directory, as repositories are.
    with tempfile.TemporaryDirectory(prefix="jail-bench.", dir=entry.pw_dir) as base:
        for section in options.sections.split(","):
            SECTIONS[section](options, base)


if __name__ == "__main__":
    main()
