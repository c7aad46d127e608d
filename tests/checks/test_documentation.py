"""The examples compile: those in the opening comments of the public headers, and the code of client/README.md.

In a header, "Example:" stands on a line of its own, and the example is what follows indented by four more spaces. In the
README it is every block of C++, and every statement in the column "here" of the table "Coming from opentelemetry-cpp".
Paragraphs that begin like a declaration stand outside of functions, all others together in one. What examples mention
without declaring it (an order, headers, a span) is in WORLD.
"""
import re
import subprocess

import pytest

import sources

HEADERS = sources.ROOT / "client/include/oteld"
README = sources.ROOT / "client/README.md"
# Included behind the header under test, which has to be enough for itself.
WORLD = """
#include <oteld/testing.hpp>
#include <array>
#include <cassert>
#include <cstdio>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

struct Order { std::string id; double total = 0; };
using Headers = std::map<std::string, std::string>;
struct Message {
    std::string header(std::string_view name) const;
    void add_header(std::string_view name, std::string_view value);
};
struct Fiber { void resume(); };
void ship(const Order& order);
void charge(const Order& order);
void checkout(const Order& order);
double sum_up(const Order& order);
void serve();
extern Order order;
extern Headers headers, request;
extern Message message;
extern Fiber fiber;
extern std::vector<std::function<void()>> jobs;
extern std::array<unsigned char, 32> digest;
extern const oteld::Tracer tracer;
extern oteld::Span& span;
extern oteld::testing::Recorder recorder;
"""
# What is compiled together, each example in a namespace of its own: the language, and what is there beside WORLD.
GROUPS = {
    "plain": ("c++17", """
extern oteld::TracerProvider provider;
extern oteld::SpanContext context;
extern oteld::Context full_context;
extern oteld::Time when;
extern const std::exception& error;
extern const oteld::ContextKey<int> tenant_key;
extern std::string schema_url;
extern oteld::SamplerPointer sampler;
extern oteld::ProcessorPointer processor;
"""),
    "coroutines": ("c++20", """
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
struct Loading {
    bool await_ready() const;
    void await_suspend(std::coroutine_handle<> waiting);
    Order await_resume();
};
Loading load(std::string id);
boost::asio::awaitable<std::string> fetch(std::string url);
"""),
    "loggers": ("c++17", """
#include <boost/log/expressions.hpp>
#include <boost/log/sinks/sync_frontend.hpp>
#include <boost/log/sinks/text_ostream_backend.hpp>
#include <boost/log/trivial.hpp>
#include <spdlog/spdlog.h>
extern boost::shared_ptr<boost::log::sinks::synchronous_sink<boost::log::sinks::text_ostream_backend>> sink;
"""),
    "opentelemetry": ("c++17", "#include <opentelemetry/trace/provider.h>\n"),
    "c": ("c11", ""),
}  # fmt: skip
GROUP_OF = {"asio.hpp": "coroutines", "coroutine.hpp": "coroutines", "spdlog.hpp": "loggers", "boost_log.hpp": "loggers",
            "opentelemetry.hpp": "opentelemetry", "opentelemetry_context.hpp": "opentelemetry", "oteld.h": "c"}  # fmt: skip
DECLARATION = re.compile(r"^(#|//|struct |class |template|inline |static |const oteld::Tracer \w+ ="
                         r"|(?!if|for|while|switch|return)[\w:<>&*, ]+ \w+\([^;]*\) (?:noexcept )?\{)")  # fmt: skip
# A call whose result is ignored stands for one that is used.
OPTIONS = ["-Wall", "-Wextra", "-Wconversion", "-Werror", "-Wno-unused-variable", "-Wno-unused-but-set-variable",
           "-Wno-unused-result", "-Wno-unused-value", "-fsyntax-only"]  # fmt: skip


def example_of(header):
    """The lines of the example in the opening comment of a header's text, without their indentation; none: []."""
    comment = re.match(r"(?://.*\n)+", header) or re.match(r"/\*.*?\*/", header, re.DOTALL)
    lines = [re.sub(r"^(//|/\*| \*/?) ?", "", line) for line in comment[0].splitlines()] if comment else []
    if "Example:" not in lines:
        return []
    example = []
    for line in lines[lines.index("Example:") + 1:]:
        if line and not line.startswith("    "):
            break
        example.append(line[4:])
    return "\n".join(example).strip().splitlines()


def readme_blocks():
    return re.findall(r"^```cpp\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def table_statements():
    """The statements of the last column."""
    table = re.search(r"^### Coming from opentelemetry-cpp\n\n(.*?)\n\n", README.read_text(), re.MULTILINE | re.DOTALL)[1]
    cells = [line.split(" | ")[-1] for line in table.splitlines()[2:]]
    return [code for cell in cells for code in re.findall(r"`([^`]+;)`", cell)]


def group_of(block):
    if "co_spawn" in block or "co_await" in block:
        return "coroutines"
    return "opentelemetry" if "opentelemetry::" in block else "plain"


def examples():
    """(where it stands, group, lines) of each."""
    found = [(path.name, GROUP_OF.get(path.name, "plain"), example_of(path.read_text())) for path in HEADERS.glob("*.h*")]
    for number, block in enumerate(readme_blocks(), 1):
        found.append((f"README block {number}", group_of(block), block.splitlines()))
    found += [(statement, "plain", [statement]) for statement in table_statements()]
    return sorted(found)


def program(group, found):
    """A source file of the group's examples."""
    language, world = GROUPS[group]
    headers = sorted(path.name for path in HEADERS.glob("*.h*") if GROUP_OF.get(path.name, "plain") in (group, "plain"))
    if group == "c":
        headers, world = ["oteld.h"], "void example(void);\n"
    else:
        world = WORLD + world
    out = [f"#include <oteld/{name}>" for name in headers] + [world]
    for number, (name, lines) in enumerate(found):
        where = name.replace("\\", "").replace('"', "'")
        outside, inside = split(lines)
        out += [f"namespace example_{number} {{"] if group != "c" else []
        out += [f'#line 1 "{where}"', *outside, "void example(void) {", f'#line 1 "{where}"', *inside, "}"]
        out += ["}"] if group != "c" else []
    return "\n".join(out) + "\n"


def split(lines):
    """The paragraphs that stand outside of functions, and those inside of one."""
    outside, inside = [], []
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        # The body of a class or function may have empty lines: its paragraphs are indented, or end it.
        goes_on = outside and not inside and paragraph.startswith((" ", "}"))
        (outside if goes_on or DECLARATION.match(paragraph) else inside).append(paragraph)
    # The headers are included already, and a main() in a namespace has no result by itself.
    outside = [re.sub(r"^#include <oteld/.*>$", "", it, flags=re.MULTILINE) for it in outside]
    return [it.replace("int main()", "void program()") for it in outside], inside


def mistakes(group, found, elsewhere):
    """What the compiler says against these examples; nothing: they compile."""
    language = GROUPS[group][0]
    compiler = ["gcc", "-x", "c"] if language == "c11" else ["g++", "-x", "c++"]
    done = subprocess.run([*compiler, f"-std={language}", *OPTIONS, f"-I{HEADERS.parent}", *elsewhere, "-"],
                          input=program(group, found), capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def elsewhere(build_dir):
    """Options for headers that are not the system's: Boost where ./dev has put it, opentelemetry-cpp where CMake found it."""
    cache = build_dir / "CMakeCache.txt"
    text = cache.read_text() if cache.exists() else ""
    boost = re.search(r"^OTELD_BOOST_INCLUDE:PATH=(.+)$", text, re.MULTILINE)
    opentelemetry = re.search(r"^opentelemetry-cpp_DIR:PATH=(.+)/lib/cmake/opentelemetry-cpp$", text, re.MULTILINE)
    return [word for found in (boost and boost[1], opentelemetry and f"{opentelemetry[1]}/include") if found
            for word in ("-isystem", found)]  # fmt: skip


def there(header, options):
    return subprocess.run(["g++", *options, "-x", "c++", "-fsyntax-only", "-"], input=f"#include <{header}>\n", text=True,
                          capture_output=True).returncode == 0  # fmt: skip


def test_each_public_header_opens_with_an_example():
    without = sorted(path.name for path in HEADERS.glob("*.h*") if not example_of(path.read_text()))
    assert not without, f"no example in the opening comment of {', '.join(without)}"


def test_the_readme_has_its_steps_and_its_table():
    assert len(readme_blocks()) >= 5 and len(table_statements()) > 40


@pytest.mark.parametrize("group", GROUPS)
def test_the_examples_compile(group, elsewhere):
    if group == "opentelemetry" and not there("opentelemetry/version.h", elsewhere):
        pytest.skip("opentelemetry-cpp is not installed here")
    found = [(name, lines) for name, of, lines in examples() if of == group]
    assert found
    said = mistakes(group, found, elsewhere)
    assert not said, said


@pytest.mark.parametrize("header, example", [
    ("// What.\n//\n// Example:\n//     one();\n//\n//     two();\n//\n// More.\n#pragma once\n", ["one();", "", "two();"]),
    ("/* What.\n *\n * Example:\n *     one();\n *\n * More. */\n#ifndef A\n", ["one();"]),
    ("// What.\n//     one();\n#pragma once\n", []),
    ("// What.\n#pragma once\n// Example:\n//     one();\n", []),
    ("#pragma once\n", [])])  # fmt: skip
def test_an_example_is_found(header, example):
    assert example_of(header) == example


def test_mistakes_in_examples_are_found_and_named(elsewhere):
    right = ["struct Mine {", "    int a;", "", "    int b;", "};", "", "span.set(\"key\", Mine{1, 2}.b);"]
    wrong = {"call": "span.sett(\"key\", 1);", "type": "struct Mine : oteld::Nothing {};", "warning": "int few = 1LL << 40;"}
    said = mistakes("plain", [("right", right), *[(name, [line]) for name, line in wrong.items()]], elsewhere)
    assert all(f"\n{name}:1:" in f"\n{said}" for name in wrong) and "right:" not in said, said
