#include "daemon/commands/run.hpp"

#include "config/load.hpp"
#include "daemon/daemon.hpp"
#include "shm/layout.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sysexits.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>

namespace oteld::daemon {
namespace {

constexpr char system_state_directory[] = "/var/lib/oteld";

std::string environment(const char* name) {
    const char* value = ::secure_getenv(name);
    return value == nullptr ? "" : value;
}

std::string personal_state_directory() {
    if (const std::string xdg = environment("XDG_STATE_HOME"); !xdg.empty()) return xdg + "/oteld";
    const std::string home = environment("HOME");
    return (home.empty() ? "/tmp" : home) + "/.local/state/oteld";
}

void log_to_standard_error(const std::string& level) {
    auto logger = spdlog::stderr_logger_st("oteld");
    spdlog::set_default_logger(std::move(logger));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    spdlog::set_level(spdlog::level::from_str(level));
    spdlog::flush_on(spdlog::level::info);
}

// On any thread.
[[noreturn]] void die_with_a_sentence() {
    try {
        if (std::current_exception()) std::rethrow_exception(std::current_exception());
    } catch (const std::bad_alloc&) {
        constexpr char text[] =
            "oteld: out of memory. Raise LimitDATA=, LimitAS= or MemoryMax= (ulimit -d, -v). Spans "
            "in "
            "rings and spool wait for the next start.\n";
        (void)!::write(STDERR_FILENO, text, sizeof text - 1);
        ::_exit(EX_OSERR);
    } catch (...) {
    }
    std::abort();
}

// Writing to a pipe that nobody reads, or beyond the file-size limit, is an error that the exporter
// tells, and no reason to die.
void ignore_signals_of_failed_writes() {
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace

std::string state_directory() {
    if (std::string named = environment("OTELD_STATE_DIR"); !named.empty()) return named;
    // systemd separates several by colons; ours is the first.
    if (std::string given = environment("STATE_DIRECTORY"); !given.empty())
        return given.substr(0, given.find(':'));
    if (::access(system_state_directory, W_OK) == 0) return system_state_directory;
    return personal_state_directory();
}

RunEnd run_command(const RunOptions& options) {
    config::Loaded loaded = config::load(options.config_path, config::process_environment());
    for (const std::string& warning : loaded.warnings)
        std::fprintf(stderr, "warning: %s\n", warning.c_str());
    for (const config::Problem& problem : loaded.problems)
        std::fprintf(stderr, "%s\n", problem.text().c_str());
    if (!loaded.valid()) return {EX_CONFIG};
    log_to_standard_error(loaded.settings.log_level);

    loaded.settings.state_directory = state_directory();
    std::error_code error;
    std::filesystem::create_directories(loaded.settings.state_directory, error);
    if (error)
        spdlog::warn(
            "cannot create the state directory {}: {}; name another one with OTELD_STATE_DIR",
            loaded.settings.state_directory, error.message());

    ignore_signals_of_failed_writes();
    // A round of the drain that stops in the middle is what spool and rings are made for: no state
    // in this process is worth going on with.
    std::set_terminate(die_with_a_sentence);
    auto daemon = Daemon::start(loaded.settings);
    if (!daemon) {
        std::fprintf(stderr, "oteld: %s\n", daemon.error().message.c_str());
        return {daemon.error().code == ErrorCode::invalid_config ? EX_CONFIG : EXIT_FAILURE};
    }
    if ((*daemon)->run() == Daemon::End::clean) return {EXIT_SUCCESS};
    (void)daemon->release();
    return {EXIT_SUCCESS, true};
}

}  // namespace oteld::daemon
