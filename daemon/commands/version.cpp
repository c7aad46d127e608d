#include "daemon/commands/version.hpp"

#include <cstdio>

#include "shm/layout.hpp"

namespace oteld::daemon {

std::string version_text() {
    return "oteld " OTELD_VERSION "\nring layout " + std::to_string(shm::layout_major) + "." +
           std::to_string(shm::layout_minor) + "\n";
}

int version_command() { return std::fputs(version_text().c_str(), stdout) < 0 ? 1 : 0; }

}  // namespace oteld::daemon
