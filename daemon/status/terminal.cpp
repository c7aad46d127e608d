#include "daemon/status/terminal.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <vector>

namespace oteld::status {
namespace {

constexpr std::size_t width_default = 100;
constexpr std::size_t rows_default = 24;
constexpr std::size_t width_max = 400;

volatile sig_atomic_t interrupted = 0;

constexpr int ending_signals[] = {SIGINT, SIGTERM, SIGHUP};
struct sigaction before_ending[std::size(ending_signals)];
struct sigaction before_resize;
struct sigaction before_pipe;

void on_end(int /*signal*/) { interrupted = 1; }
void on_resize(int /*signal*/) {}  // Only ends the wait.

winsize window() noexcept {
    winsize size{};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) size = {};
    return size;
}

}  // namespace

bool is_terminal() { return isatty(STDOUT_FILENO) != 0; }

std::size_t terminal_width() {
    if (const winsize size = window(); size.ws_col != 0) return size.ws_col;
    const char* columns = std::getenv("COLUMNS");
    const std::size_t width = columns == nullptr ? 0 : std::strtoul(columns, nullptr, 10);
    return width == 0 ? width_default : std::min(width, width_max);
}

bool takes_colour() {
    const char* refusal = std::getenv("NO_COLOR");
    const char* kind = std::getenv("TERM");
    const bool refused = refusal != nullptr && *refusal != '\0';
    return is_terminal() && !refused && kind != nullptr && std::string_view(kind) != "dumb";
}

bool write_out(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
}

Interruption::Interruption() {
    interrupted = 0;
    struct sigaction action {};
    action.sa_handler = on_end;
    for (std::size_t i = 0; i < std::size(ending_signals); ++i) {
        sigaction(ending_signals[i], &action, &before_ending[i]);
    }
    action.sa_handler = on_resize;
    sigaction(SIGWINCH, &action, &before_resize);
    action.sa_handler = SIG_IGN;  // A closed pipe is an answer of write().
    sigaction(SIGPIPE, &action, &before_pipe);
}

Interruption::~Interruption() {
    for (std::size_t i = 0; i < std::size(ending_signals); ++i) {
        sigaction(ending_signals[i], &before_ending[i], nullptr);
    }
    sigaction(SIGWINCH, &before_resize, nullptr);
    sigaction(SIGPIPE, &before_pipe, nullptr);
}

bool Interruption::requested() noexcept { return interrupted != 0; }

// The ending signals are let in only while this sleeps, so that none falls between the look and the
// sleep.
bool Interruption::wait(int milliseconds, bool input) {
    sigset_t blocked;
    sigset_t before;
    sigemptyset(&blocked);
    for (const int signal : ending_signals) sigaddset(&blocked, signal);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    pollfd standard_input{STDIN_FILENO, POLLIN, 0};
    const timespec limit{milliseconds / 1000, milliseconds % 1000 * 1'000'000L};
    int ready = 0;
    if (interrupted == 0) ready = ppoll(&standard_input, input ? 1 : 0, &limit, &before);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    return ready > 0;
}

Screen::Screen() {
    if (tcgetattr(STDIN_FILENO, &before_) == 0) {
        termios raw = before_;
        raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        raw.c_cc[VSUSP] = _POSIX_VDISABLE;  // Stopping would leave the shell on the other screen.
        changed_ = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
    }
    write_out("\033[?1049h\033[?25l\033[?7l");
}

Screen::~Screen() {
    write_out("\033[?7h\033[?25h\033[?1049l");
    if (changed_) tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
}

std::size_t Screen::rows() {
    const std::size_t rows = window().ws_row;
    return rows == 0 ? rows_default : rows;
}

std::string Screen::keys() {
    char typed[64];
    const ssize_t bytes = read(STDIN_FILENO, typed, sizeof typed);
    return bytes > 0 ? std::string(typed, static_cast<std::size_t>(bytes)) : std::string();
}

std::size_t Screen::draw(std::string_view text, std::size_t scroll) {
    std::vector<std::string_view> lines;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        lines.push_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    const std::size_t shown = rows() - 1;
    const std::size_t first = std::min(scroll, lines.size() > shown ? lines.size() - shown : 0);
    // One write per frame, no clearing in between: it does not flicker.
    std::string frame = "\033[H";
    for (std::size_t i = first; i < std::min(lines.size(), first + shown); ++i) {
        frame.append(lines[i]).append("\033[0m\033[K\r\n");
    }
    const std::size_t below = lines.size() > first + shown ? lines.size() - first - shown : 0;
    const std::string more = below == 0 && first == 0
                                 ? ""
                                 : fmt::format("   lines above: {}, below: {} (j k)", first, below);
    frame += "\033[J\033[2mq quits" + more + "\033[0m";
    write_out(frame);
    return first;
}

}  // namespace oteld::status
