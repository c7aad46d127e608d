// oteld: one program, a verb each for running the daemon and for looking at what it does.
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <new>

#include "daemon/command_line.hpp"
#include "daemon/commands/validate.hpp"
#include "daemon/commands/version.hpp"

namespace oteld::daemon {
namespace {

struct Runner {
    int operator()(const Finished& finished) const {
        std::fputs(finished.text.c_str(), finished.exit_code == 0 ? stdout : stderr);
        return finished.exit_code;
    }
    int operator()(const ShowVersion& /*options*/) const { return version_command(); }
    int operator()(const StatusOptions& options) const { return status_command(options); }
    int operator()(const ValidateOptions& options) const {
        return validate_command(options.config);
    }
    int operator()(const RingsOptions& options) const { return rings_command(options); }
    int operator()(const LoadOptions& options) const { return load_command(options); }
    int operator()(const RunOptions& options) const {
        const RunEnd end = run_command(options);
        if (end.at_once) ::_exit(end.exit_code);
        return end.exit_code;
    }
    int operator()(TracesOptions options) const {
        options.state_directory = state_directory();
        return traces_command(options);
    }
};

}  // namespace
}  // namespace oteld::daemon

int main(int argc, char** argv) {
    try {
        return std::visit(oteld::daemon::Runner{}, oteld::daemon::parse_command_line(argc, argv));
    } catch (const std::bad_alloc&) {
        std::fputs(
            "oteld: out of memory. Raise LimitDATA=, LimitAS= or MemoryMax= (ulimit -d, -v).\n",
            stderr);
        return 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "oteld: a fault of ours, please report it: %s\n", error.what());
        return 1;
    }
}
