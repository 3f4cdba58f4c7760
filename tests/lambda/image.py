"""Does what the Dockerfile's build stage does, where there is no Docker: copies
what it copies, as far as .dockerignore lets it, and runs what it runs, with a
check in place of each build. So a file that is missing in the image is missing
here."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute()
BUILD = "cargo auditable build --locked --profile dist --no-default-features"
CHECK = "cargo check --quiet --locked --no-default-features"


def instructions(text):
    """Each instruction and what it is about, without comments and line breaks."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, about = line.split(None, 1)
            yield name, about


def context():
    """The names at the top that .dockerignore leaves in, all others being out."""
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*" and all(line[0] == "!" for line in lines[1:]), lines
    return {line[1:] for line in lines[1:]}


def copy(about, directory, left_in):
    *sources, destination = about.split()
    for source in sources:
        assert source.split("/")[0] in left_in, f".dockerignore leaves out {source}"
        to = directory / destination
        if (ROOT / source).is_dir():
            # Without their times: they have to be newer than what stood for them.
            shutil.copytree(ROOT / source, to, copy_function=shutil.copy)
        else:
            shutil.copy(ROOT / source, to / source if destination.endswith("/") else to)


def run(about, directory):
    if about.startswith(("apt-get", "cargo install")):
        return 0
    env = {**os.environ, "CARGO_TARGET_DIR": str(TARGET)}
    command = about.replace(BUILD, CHECK)
    subprocess.run(["sh", "-euc", command], cwd=directory, env=env, check=True)
    return about.count(BUILD)


def main():
    directory = TARGET / "image"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    left_in, builds, stage = context(), 0, None
    for name, about in instructions((ROOT / "Dockerfile").read_text()):
        if name == "FROM":
            stage = re.search(r" AS (\S+)", about)
        elif stage and name == "COPY":
            copy(about, directory, left_in)
        elif stage and name == "RUN":
            builds += run(about, directory)
        elif name == "COPY" and not about.startswith("--from="):
            assert about.split()[0] in left_in, f".dockerignore leaves out {about}"
    if builds != 2:
        sys.exit(f"the Dockerfile says `{BUILD}` {builds} times: of the dependencies, and of all?")
    print("ok   the image's build has all it needs")


main()
