#include "daemon/commands/status.hpp"

#include "daemon/status/json.hpp"
#include "daemon/status/look.hpp"
#include "daemon/status/render.hpp"
#include "daemon/status/terminal.hpp"

namespace oteld::daemon {
namespace {

constexpr int redraw_ms = 1000;

std::string text_of(const status::Look& look) {
    status::RenderOptions options;
    options.width = status::terminal_width();
    options.colour = status::takes_colour();
    options.now_ns = look.now_ns;
    return status::render(look.snapshot, options);
}

// Where to scroll to after what was typed; `quit` when it asked to leave.
std::size_t scrolled(const std::string& keys, std::size_t line, bool& quit) {
    const std::size_t page = status::Screen::rows() / 2;
    const auto up = [&line](std::size_t by) { line = line > by ? line - by : 0; };
    if (keys == "\033[A") up(1);
    if (keys == "\033[B") return line + 1;
    if (keys == "\033[5~") up(page);
    if (keys == "\033[6~") return line + page;
    if (keys.starts_with('\033')) return line;
    for (const char key : keys) {
        if (key == 'q' || key == 'Q') quit = true;
        if (key == 'k') up(1);
        if (key == 'j') ++line;
        if (key == ' ') line += page;
        if (key == 'g') line = 0;
    }
    return line;
}

int watch_on_screen(const std::string& directory) {
    const status::Interruption interruption;
    status::Look look;
    {
        status::Screen screen;
        std::size_t line = 0;
        bool quit = false;
        while (!quit && !status::Interruption::requested()) {
            look = status::look_at_daemon(directory);
            line = screen.draw(text_of(look), line);
            if (status::Interruption::wait(redraw_ms, true)) {
                const std::string keys = status::Screen::keys();
                if (keys.empty()) break;  // The terminal is gone.
                line = scrolled(keys, line, quit);
            }
        }
    }
    return status::exit_code(look.snapshot.verdict);
}

// Standard output is a pipe or a file: one status after the other.
int watch_as_lines(const StatusOptions& options) {
    const status::Interruption interruption;
    status::Look look;
    while (!status::Interruption::requested()) {
        look = status::look_at_daemon(options.directory);
        const std::string text = options.json ? status::to_json(look.snapshot) : text_of(look);
        if (!status::write_out(text + "\n")) break;
        status::Interruption::wait(redraw_ms, false);
    }
    return status::exit_code(look.snapshot.verdict);
}

}  // namespace

int status_command(const StatusOptions& options) {
    if (options.watch && !options.json && status::is_terminal())
        return watch_on_screen(options.directory);
    if (options.watch) return watch_as_lines(options);
    const status::Look look = status::look_at_daemon(options.directory);
    const std::string text =
        options.json ? status::indent_json(status::to_json(look.snapshot)) + "\n" : text_of(look);
    status::write_out(text);
    return status::exit_code(look.snapshot.verdict);
}

}  // namespace oteld::daemon
