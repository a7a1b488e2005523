"""Sources that attack a compiler, for the hostile suite: each must end within the limits and reveal no secret.

    for attack in COMPILER_ATTACKS:
        source = attack.source.replace(SECRET_FILE, "/path/of/a/file/that/holds/the/secret")
        ran = sandbox.run(Program(source=source, language="c++20"), limits=...)
        attack.breach(ran, secret)            # "" where it was stopped, else what it got

A compiler opens what the source names, so a source can read files (`#include` shows them in its errors, `.incbin` puts
them into the binary, which prints them), and it computes, so a source can use up time, memory and the disk. What stops
them is `languages.py`: the compiler sees the system's own files and one folder, behind the fence for compilers, and its
time, memory and files are limited. The suite refuses to start without a fence, as the other attacks do.
"""

from __future__ import annotations

from dataclasses import dataclass

from ponder.sandbox.base import Ran, Status

SECRET_FILE = "@SECRET@"  # stands for the path of a file that only the user may read
EMPTY_MAIN = "int main() {}\n"


@dataclass(frozen=True, kw_only=True)
class CompilerAttack:
    """A source, and how it may end."""

    name: str
    source: str
    ends: frozenset[Status] = frozenset({"refused"})
    forbidden: bytes = b""  # what its output or the compiler's message must not hold, beside the secret

    def breach(self, ran: Ran, secret: bytes) -> str:
        """What it got; "" where it was stopped."""
        output = ran.stdout + ran.stderr + ran.note.encode(errors="replace")
        if secret in output:
            return "it read the secret"
        if self.forbidden and self.forbidden in output:
            return f"it revealed {self.forbidden.decode()}"
        if ran.status not in self.ends:
            return f"it ended as {ran.status}, not {' or '.join(sorted(self.ends))}"
        return ""


def _including(path: str) -> str:
    return f'#include "{path}"\n{EMPTY_MAIN}'


def _embedding(directive: str) -> str:
    """A program that prints what the assembler put between two labels."""
    return (
        f'asm(".section .rodata\\n.global first, last\\nfirst:\\n{directive}\\nlast:\\n.byte 0\\n.text");\n'
        '#include <cstdio>\nextern "C" const char first[], last[];\n'
        "int main() { fwrite(first, 1, last - first, stdout); }\n"
    )


_DIES: frozenset[Status] = frozenset({"refused", "crashed", "memory", "time", "output"})
_ANYHOW: frozenset[Status] = _DIES | {"ok"}
_DOUBLING = "\n".join(f"#define B{i}" + 8 * f" B{i - 1}" for i in range(1, 12))
_TREE = "template <int N, int K> struct A { A<N - 1, 2 * K> a; A<N - 1, 2 * K + 1> b; };\n"

COMPILER_ATTACKS: tuple[CompilerAttack, ...] = (
    # files that are not its own
    CompilerAttack(name="include the secret", source=_including(SECRET_FILE)),
    CompilerAttack(name="include by a macro", source=f'#define FILE "{SECRET_FILE}"\n#include FILE\n{EMPTY_MAIN}'),
    CompilerAttack(name="include by a relative path", source=_including("../../../../../../../.." + SECRET_FILE)),
    CompilerAttack(name="import the secret", source=f'#import "{SECRET_FILE}"\n{EMPTY_MAIN}'),
    CompilerAttack(name="include the users", source=_including("/etc/passwd"), forbidden=b"root:"),
    CompilerAttack(name="include the shadow file", source=_including("/etc/shadow"), forbidden=b"root:"),
    CompilerAttack(name="include the environment", source=_including("/proc/self/environ"), forbidden=b"PATH="),
    CompilerAttack(name="include the command line", source=_including("/proc/self/cmdline")),
    CompilerAttack(name="include the parent's memory map", source=_including("/proc/1/maps"), forbidden=b"r-xp"),
    CompilerAttack(
        name="ask whether the secret is there",
        source=f'#include <cstdio>\n#if __has_include("{SECRET_FILE}")\nint main() {{ puts("it is there"); }}\n'
        f'#else\nint main() {{ puts("nothing"); }}\n#endif\n',
        ends=frozenset({"refused", "ok"}),
        forbidden=b"it is there",
    ),
    CompilerAttack(name="embed the secret by the assembler", source=_embedding(f'.incbin \\"{SECRET_FILE}\\"')),
    CompilerAttack(
        name="embed the users by the assembler", source=_embedding('.incbin \\"/etc/passwd\\"'), forbidden=b"root:"
    ),
    CompilerAttack(name="assemble the secret", source=f'asm(".include \\"{SECRET_FILE}\\"");\n{EMPTY_MAIN}'),
    CompilerAttack(
        name="embed the secret by the preprocessor",
        source=f'#include <cstdio>\nconst char text[] = {{\n#embed "{SECRET_FILE}"\n, 0}};\n'
        "int main() { puts(text); }\n",
    ),
    CompilerAttack(
        name="depend on the secret",
        source=f'#pragma GCC dependency "{SECRET_FILE}"\n{EMPTY_MAIN}',
        ends=frozenset({"refused", "ok"}),
    ),
    CompilerAttack(
        name="take the secret for a precompiled header",
        source=f'#pragma GCC pch_preprocess "{SECRET_FILE}"\n{EMPTY_MAIN}',
        ends=frozenset({"refused", "ok"}),
    ),
    # devices and pipes
    CompilerAttack(name="include an endless file", source=_including("/dev/zero")),
    CompilerAttack(name="include random bytes", source=_including("/dev/urandom")),
    CompilerAttack(name="include its own input", source=_including("/dev/stdin"), ends=frozenset({"refused", "ok"})),
    CompilerAttack(name="include its own messages", source=_including("/dev/stderr")),
    CompilerAttack(name="include what it writes to the assembler", source=_including("/proc/self/fd/1")),
    CompilerAttack(name="assemble what the assembler says", source=f'asm(".include \\"/dev/stderr\\"");\n{EMPTY_MAIN}'),
    CompilerAttack(name="include a terminal", source=_including("/dev/tty")),
    CompilerAttack(name="embed an endless file", source=_embedding('.incbin \\"/dev/zero\\"')),
    # time, memory and the disk
    CompilerAttack(name="256 MB of data", source=f"char data[1 << 28] = {{1}};\n{EMPTY_MAIN}"),
    CompilerAttack(name="64 GB of zeros", source="char data[1ll << 36];\nint main() { return data[5]; }\n", ends=_DIES),
    CompilerAttack(name="data without end", source=_embedding(".rept 1000000000\\n.quad 1\\n.endr"), ends=_DIES),
    CompilerAttack(name="a hole of 8 GB", source=_embedding(".fill 0x1fffffff, 8, 7"), ends=_DIES),
    CompilerAttack(name="includes itself", source=f"#include __FILE__\n{EMPTY_MAIN}"),
    CompilerAttack(name="includes itself twice", source="#include __FILE__\n#include __FILE__\n"),
    CompilerAttack(name="macros that double", source=f"#define B0 1+\n{_DOUBLING}\nlong x = B11 0;\n{EMPTY_MAIN}"),
    CompilerAttack(
        name="templates without end",
        source="template <int N> struct A { static const int value = A<N + 1>::value; };\nint x = A<0>::value;\n"
        + EMPTY_MAIN,
    ),
    CompilerAttack(
        name="templates that double",
        source=_TREE + "template <int K> struct A<0, K> { char c; };\nA<30, 1> a;\n" + EMPTY_MAIN,
    ),
    CompilerAttack(
        name="a constant without end",
        source="constexpr long f() { long s = 0; for (long i = 0; i >= 0; ++i) s ^= i; return s; }\n"
        "constexpr long x = f();\n" + EMPTY_MAIN,
    ),
    CompilerAttack(
        name="constants that double",
        source="constexpr long f(int n) { return n < 2 ? n : f(n - 1) + f(n - 2); }\nconstexpr long x = f(60);\n"
        + EMPTY_MAIN,
    ),
    CompilerAttack(name="brackets without end", source="int x = " + "(" * 100_000 + "1;\n" + EMPTY_MAIN),
    CompilerAttack(name="blocks without end", source="int main() {" + "{" * 100_000 + "\n"),
    CompilerAttack(name="types that nest", source="int " + "*" * 100_000 + "x;\n" + EMPTY_MAIN, ends=_ANYHOW),
    CompilerAttack(name="errors without end", source="x;\n" * 50_000),
    CompilerAttack(name="one long error", source='#error "' + "x" * 200_000 + '"\n'),
    CompilerAttack(
        name="warnings without end", source='#warning "w"\n' * 20_000 + EMPTY_MAIN, ends=frozenset({"refused", "ok"})
    ),
    # sources that are no text
    CompilerAttack(name="nothing", source=""),
    CompilerAttack(name="no main", source="int x;\n"),
    CompilerAttack(name="zero bytes", source="\x00" * 1_000),
    CompilerAttack(name="half a pair", source='const char* x = "\ud800";\n' + EMPTY_MAIN, ends=_ANYHOW),
    CompilerAttack(name="more than a source may have", source="// " + "x" * 2_000_000 + "\n" + EMPTY_MAIN),
)  # fmt: skip
