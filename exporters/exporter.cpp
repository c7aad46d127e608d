#include "exporters/exporter.hpp"

namespace oteld::exporters {

std::string_view to_string(RejectReason reason) noexcept {
    switch (reason) {
        case RejectReason::refused: return "refused";
        case RejectReason::partial: return "partial";
        case RejectReason::expired: return "expired";
        case RejectReason::too_large: return "too_large";
        case RejectReason::discarded: return "discarded";
    }
    return "unknown";
}

}  // namespace oteld::exporters
