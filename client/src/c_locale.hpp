// Numbers have points while this lives, whatever locale the program has chosen.
//
// Used by: environment.cpp, readable_span.cpp. Threads: any; for the calling thread, until the end
// of the block. Never throws; out of memory the program's locale stays.
#pragma once

#include <clocale>

namespace oteld::sdk {

class CLocale {
public:
    CLocale() noexcept
        : own_(newlocale(LC_ALL_MASK, "C", static_cast<locale_t>(nullptr))),
          before_(uselocale(own_)) {}
    ~CLocale() {
        uselocale(before_);
        if (own_ != nullptr) freelocale(own_);
    }
    CLocale(const CLocale&) = delete;
    CLocale& operator=(const CLocale&) = delete;

private:
    locale_t own_, before_;
};

}  // namespace oteld::sdk
