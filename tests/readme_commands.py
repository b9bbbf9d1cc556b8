"""Run by CI: every command and every Python block of README.md, in order, in one folder.

`make`, `git clone`, `cd` and `pip install` lines are steps of .ci/run of their own and are passed over here.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = ("make ", "git clone", "cd ", "pip install")


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, body) of each fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run(command: list[str], label: str, text: str | None = None) -> None:
    done = subprocess.run(command, cwd=ROOT, input=text, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"README: failed: {label}\n{done.stdout}\n{done.stderr}")


def main() -> None:
    count = 0
    bin_folder = Path(sys.executable).parent
    for language, body in blocks((ROOT / "README.md").read_text()):
        if language == "python":
            run([sys.executable, "-"], body, body)
            count += 1
        if language != "sh":
            continue
        for line in body.replace("\\\n", " ").splitlines():
            command = line.split("#")[0].strip()
            if not command or command.startswith(ELSEWHERE):
                continue
            run(["bash", "-c", f'export PATH="{bin_folder}:$PATH"; {command}'], command)
            count += 1
    if not count:
        sys.exit("README: no command was run")
    print(f"README: {count} commands run")


if __name__ == "__main__":
    main()
