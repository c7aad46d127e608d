#!/usr/bin/env python3
"""What Doxygen reads of a file: filter.py FILE. Our comments are plain; here those that describe something are marked.

- A block of // (or one /* */) in front of a declaration becomes ///, the one at the top of a file describes the file.
- // behind a declaration becomes ///<, with the lines that go on below it.
- Comments in bodies of functions, and those that stand alone, stay as they are.
- Four spaces more make code; what Doxygen would take for a command or a tag is escaped.
- Of the README, what is about use: down to "How it works".
"""
import pathlib
import re
import sys

SCOPE = re.compile(r'^(?:typedef |inline )?(?:(?:namespace|class|struct|union|enum)\b|extern "C")')
STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)+\'')
# Code, then a comment to the end of the line, outside of strings.
TRAILING = re.compile(r'^((?:[^"\'/]|/(?!/)|"(?:[^"\\]|\\.)*"|(?<=\w)\'|\'(?:[^\'\\]|\\.)+\')*\S(?:\s*))//\s?(.*)$')
NOT_FOR_READERS = re.compile(r"^(NOLINT|-{3,}|namespace )")


def main(file):
    path = pathlib.Path(file)
    text = path.read_text()
    if path.suffix == ".md":
        return text.split("\n# How it works")[0] + "\n"
    if path.suffix == ".h":
        text = without_c_comments(text)
    return filtered(text.splitlines())


def without_c_comments(text):
    """The same text with // comments, which end where the line does."""
    def lines_of(comment):
        indentation = " " * (comment.start() - text.rfind("\n", 0, comment.start()) - 1)
        lines = re.sub(r"^\s*\*? ?|\s*\*/$", "", comment[1], flags=re.MULTILINE).rstrip().split("\n")
        return f"\n{indentation}".join("// " + line for line in lines)

    return re.sub(r"/\*(.*?\*/)", lines_of, text, flags=re.DOTALL)


def filtered(lines):
    out, block, scopes = [], [], Scopes()
    behind = None   # The column of a comment behind code, while it may go on.
    top = True
    for line in [*lines, ""]:
        comment = re.match(r"^(\s*)//\s?(.*)$", line)
        if comment and len(comment[1]) == behind:
            out.append(f"{comment[1]}///< {escaped(comment[2])}")
            continue
        behind = None
        if comment:
            block.append(line)
            continue
        if block:
            describes = scopes.declares() and line.strip() and not re.match(r"\s*(}|#|public:|private:)", line)
            out += marked(block, top) if top or describes else block
            top, block = False, []
        code = TRAILING.match(line)
        if code and scopes.declares() and not NOT_FOR_READERS.match(code[2]) and re.search(r"[;,}]\s*$|\w\s*$", code[1]):
            behind = len(code[1])
            out.append(f"{code[1]}///< {escaped(code[2])}")
        else:
            out.append(line)
        scopes.read(code[1] if code else line)
        top = top and not line.strip()
    return "\n".join(out) + "\n"


class Scopes:
    """Whether a line stands among declarations, or in the body of a function."""

    def __init__(self):
        self.open = []          # True: of declarations.
        self.statement = ""

    def declares(self):
        return all(self.open)

    def read(self, code):
        if code.lstrip().startswith("#"):
            return
        for character in STRING.sub(lambda string: '"C"' if string[0] == '"C"' else '""', code) + " ":
            if character == "{":
                self.open.append(self.is_scope())
                self.statement = ""
            elif character == "}":
                if self.open:
                    self.open.pop()
                self.statement = ""
            elif character == ";":
                self.statement = ""
            else:
                self.statement += character

    def is_scope(self):
        statement = re.sub(r"\b(?:public|private|protected):(?!:)|__attribute__\(\(.*?\)\)\)?|\[\[.*?\]\]", " ", self.statement)
        statement = re.sub(r"\s+", " ", statement).strip()
        while statement.startswith("template"):
            statement = behind_brackets(statement).strip()
        statement = re.sub(r"^requires [\w:<>]+ ", "", statement)
        return bool(SCOPE.match(statement)) and "(" not in statement.split(":")[0]


def behind_brackets(statement):
    depth = 0
    for at, character in enumerate(statement):
        depth += (character == "<") - (character == ">")
        if character == ">" and depth == 0:
            return statement[at + 1:]
    return ""


def marked(block, top):
    indentation = re.match(r"\s*", block[0])[0]
    lines = [re.sub(r"^\s*// ?", "", line) for line in block]
    out, code = (["\\file"] if top else []), False
    for at, line in enumerate(lines):
        # An empty line belongs to the code if more of it follows.
        rest = next((later for later in lines[at:] if later.strip()), "")
        is_code = rest.startswith("    ") and (code or line.strip() != "")
        if is_code != code:
            out.append("\\code{.cpp}" if is_code else "\\endcode")
        code = is_code
        out.append(line[4:] if code else escaped(line))
    if code:
        out.append("\\endcode")
    return [f"{indentation}/// {line}".rstrip() for line in out]


def escaped(text):
    """What would be a command, a tag or a mark, but for addresses and for code in backticks."""
    return re.sub(r"`[^`]*`|https?://\S*|([\\@<>&#%*])", lambda it: "\\" + it[1] if it[1] else it[0], text)


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1]))
