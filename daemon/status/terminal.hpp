// The terminal that `oteld status` writes to: its size, whether it takes colour, and a screen for
// --watch.
//
// Used by: daemon/commands/status.cpp, daemon/commands/rings.cpp. Threads: main thread only
// (signals, standard input).
#pragma once

#include <termios.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace oteld::status {

std::size_t terminal_width();  // of standard output; $COLUMNS or 100 when it is no terminal
bool takes_colour();           // a terminal, unless NO_COLOR is set or TERM is "dumb"
bool is_terminal();

// False when nobody reads any more (a closed pipe).
bool write_out(std::string_view text);

// Catches SIGINT, SIGTERM, SIGHUP and SIGWINCH while it lives, so that a loop can end in order.
class Interruption {
public:
    Interruption();
    ~Interruption();
    Interruption(const Interruption&) = delete;
    Interruption& operator=(const Interruption&) = delete;
    [[nodiscard]] static bool requested() noexcept;

    // Returns after `milliseconds`, at a signal, or when standard input has something (and `input`
    // says to look).
    static bool wait(int milliseconds, bool input);
};

// The other screen of the terminal, without line input; the destructor gives back everything as it
// was.
class Screen {
public:
    Screen();
    ~Screen();
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;

    // As many lines as fit from line `scroll` on, less when that is beyond the end; returns where
    // it began. The last row says what is not shown.
    std::size_t draw(std::string_view text, std::size_t scroll);
    static std::size_t rows();
    // What was typed since, unread escape sequences included.
    static std::string keys();

private:
    termios before_{};
    bool changed_ = false;
};

}  // namespace oteld::status
