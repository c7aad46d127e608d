// Recovery of the spool: daemons that die one after the other, and a file that something else has
// written to in between.
//
// The input is a list of steps, one byte each with its arguments behind it. As long as nobody else
// has written to the file, each daemon finds exactly what the last one had not settled. Afterwards,
// whatever the file says: nothing outside an extent is read, and a daemon that starts can be used
// and can be started again. Where pages were only lost (zeroed, or cut off), no span turns up that
// had not been written.
#include "tests/fuzz/host.hpp"

#include "daemon/intake/validate.hpp"
#include "daemon/spool/extent_writer.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <map>
#include <set>
#include <tuple>

namespace oteld::fuzz {
namespace {

using daemon::ExtentRef;
using daemon::SpoolHeader;

constexpr int steps_max = 48;
constexpr int restarts_max = 6;
constexpr std::uint32_t rows = 4;
constexpr std::uint32_t lanes = 3;

// The file behind the daemon's back.
class RawFile {
public:
    explicit RawFile(const SpoolHost& host)
        : fd_(::openat(host.directory.fd, shm::spool_name, O_RDWR | O_CLOEXEC)) {
        struct stat info {};
        OTELD_EXPECT(fd_ && ::fstat(fd_.get(), &info) == 0);
        bytes_ = static_cast<std::uint64_t>(info.st_size);
    }
    // A word near something that recovery reads.
    void write(std::uint8_t part, std::uint16_t place, std::uint64_t value) {
        static constexpr std::uint64_t parts[8] = {
            0,                                  // Magic, sizes, commit, journal length.
            offsetof(SpoolHeader, journal),     //
            offsetof(SpoolHeader, exporters),   //
            offsetof(SpoolHeader, block),       //
            offsetof(SpoolHeader, rows),        //
            daemon::spool_header_bytes,         // Block 0 ...
            daemon::spool_header_bytes + 4096,  //
            daemon::spool_header_bytes + daemon::block_bytes};  // ... and 1.
        put(parts[part % 8] + place % 8192U, &value, sizeof value);
    }
    void lose_page(std::uint16_t page) {
        const std::string zeros(4096, '\0');
        put(page * zeros.size(), zeros.data(), zeros.size());
    }
    void cut(std::uint16_t page) {
        if (page * std::uint64_t{4096} < bytes_)
            OTELD_EXPECT(::ftruncate(fd_.get(), page * off_t{4096}) == 0);
    }

private:
    void put(std::uint64_t offset, const void* from, std::size_t bytes) {
        if (offset + bytes > bytes_) return;
        OTELD_EXPECT(::pwrite(fd_.get(), from, bytes, static_cast<off_t>(offset)) ==
                     static_cast<ssize_t>(bytes));
    }

    shm::UniqueFd fd_;
    std::uint64_t bytes_ = 0;
};

enum class Trust {
    exact,   // Nobody else has written.
    losses,  // Pages of blocks are gone.
    none,    // Anything may be there.
};

class Run {
public:
    explicit Run(Input input) : input_(input) {}

    void go() {
        if (!restart()) return;
        for (int step = 0; step < steps_max && restarts_ < restarts_max && !input_.empty(); ++step)
            if (!take(input_.number<std::uint8_t>())) return;
        if (!restart()) return;
        settle_all();
        OTELD_EXPECT(restart() && extents_.empty());
    }

private:
    bool take(std::uint8_t step) {
        switch (step % 8) {
            case 0:
            case 1: commit(); return true;
            case 2: settle(); return true;
            case 3: host_.spool->trim(); return true;
            case 4: configure(input_.number<std::uint8_t>()); return restart();
            case 5: {
                trust_ = Trust::none;
                const auto part = input_.number<std::uint8_t>();
                const auto place = input_.number<std::uint16_t>();
                const auto value = input_.number<std::uint64_t>();
                return damage([=](RawFile& file) { file.write(part, place, value); });
            }
            case 6: {
                const auto page = static_cast<std::uint16_t>(input_.number<std::uint16_t>() % 1024);
                lose(page * std::uint64_t{4096} < daemon::spool_header_bytes);
                return damage([=](RawFile& file) { file.lose_page(page); });
            }
            default: {
                const auto page = static_cast<std::uint16_t>(input_.number<std::uint16_t>() % 1024);
                lose(page * std::uint64_t{4096} < daemon::spool_header_bytes);
                return damage([=](RawFile& file) { file.cut(page); });
            }
        }
    }

    void lose(bool header) {
        trust_ = header || trust_ == Trust::none ? Trust::none : Trust::losses;
    }

    template <class Damage>
    bool damage(Damage cause) {
        host_.spool.reset();
        RawFile file(host_);
        cause(file);
        return restart();
    }

    void configure(std::uint8_t mask) {
        const auto before = std::exchange(exporters_, {});
        for (int i = 0; i < 4; ++i)
            if ((mask >> i & 1) != 0)
                exporters_.push_back(std::string(1, static_cast<char>('a' + i)));
        if (exporters_.empty()) exporters_.push_back("a");
        // The shares of those that are gone settle as discarded; whose are left is another daemon's
        // question than this target's.
        if (trust_ == Trust::exact && exporters_ != before) trust_ = Trust::losses;
    }

    bool restart() {
        ++restarts_;
        const auto expected = left();
        if (!host_.restart(exporters_)) {
            OTELD_EXPECT(trust_ == Trust::none);
            return false;
        }
        extents_ = host_.spool->left_over();
        for (const ExtentRef& extent : extents_) look_at(extent);
        if (trust_ == Trust::exact) OTELD_EXPECT(left() == expected);
        return true;
    }

    // Row, spans, and how far each exporter is, of every extent that somebody waits for.
    using Left =
        std::multiset<std::tuple<std::uint64_t, std::uint32_t, std::uint32_t, std::uint32_t>>;
    [[nodiscard]] Left left() const {
        Left found;
        if (!host_.spool) return found;
        for (const ExtentRef& extent : extents_) {
            std::uint32_t settled = 0;
            for (const unsigned word : host_.spool->exporter_words())
                settled = settled * 2000 + daemon::Spool::settled_spans(extent, word);
            if (waits(extent))
                found.emplace(extent.header->seq, extent.header->row, extent.header->spans,
                              settled);
        }
        return found;
    }
    [[nodiscard]] bool waits(const ExtentRef& extent) const {
        for (const unsigned word : host_.spool->exporter_words())
            if (rest(extent, word) != 0) return true;
        return false;
    }
    [[nodiscard]] static std::uint32_t rest(const ExtentRef& extent, unsigned word) {
        if ((extent.header->exporter_mask >> word & 1) == 0) return 0;
        return extent.header->spans - daemon::Spool::settled_spans(extent, word);
    }

    void look_at(const ExtentRef& extent) {
        OTELD_EXPECT(extent.header->spans <= daemon::extent_spans_max);
        for (const exporters::SpanRun& run : runs_of(extent))
            for (const shm::Span& span : spans_of(run))
                if (trust_ != Trust::none) expect_written(span);
        if (trust_ != Trust::exact) return;
        std::uint32_t spans = 0;
        for (const exporters::SpanRun& run : runs_of(extent)) spans += run.spans;
        OTELD_EXPECT(spans == extent.header->spans);
    }
    void expect_written(const shm::Span& span) const {
        std::uint64_t number = 0;
        if (span.span_id.size() != sizeof number) return;  // Its page is gone.
        std::memcpy(&number, span.span_id.data(), sizeof number);
        OTELD_EXPECT(number <= next_number_);
    }

    void commit() {
        const auto shape = input_.number<std::uint16_t>();
        const std::uint32_t spans = shape % 20U;
        test::Record record;
        record.body = test::Bytes().field(5, std::string(shape >> 5 & 511U, 'n')).text;
        if ((shape & 0x8000U) != 0)
            record.body.append(test::Bytes().field(3, std::string(40000, 's')).text);
        const std::size_t bytes = record.bytes().size();
        const auto place = host_.spool->place(
            1024 + spans * daemon::frame_room(static_cast<std::uint32_t>(bytes)));
        if (place.payload == nullptr) return;
        OTELD_EXPECT(place.room >=
                     1024 + spans * daemon::frame_room(static_cast<std::uint32_t>(bytes)));
        daemon::ExtentWriter writer(place.payload, place.room, ++extent_number_);
        for (std::uint32_t i = 0; i < spans; ++i) write_span(writer, record);
        daemon::ExtentDraft draft;
        draft.lane = {{1, 2, 3}, shape % lanes};
        draft.row = row(shape % rows);
        draft.after.cursor_to = cursor_ += spans * bytes + 8;
        draft.spans = spans;
        draft.malformed = spans == 0 ? 1 : 0;
        draft.payload_bytes = writer.finish();
        const ExtentRef extent = host_.spool->commit(draft);
        look_at(extent);
        if (spans != 0) extents_.push_back(extent);
    }
    void write_span(daemon::ExtentWriter& writer, test::Record& record) {
        std::memcpy(record.span_id.data(), &++next_number_, sizeof next_number_);
        const std::string bytes = record.bytes();
        daemon::SpanFrame frame;
        daemon::TickConverter clock;
        OTELD_EXPECT(daemon::write_span_frame(writer.frame(scope_),
                                              reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                              static_cast<std::uint32_t>(bytes.size()), clock,
                                              frame) == daemon::Refusal::none);
        writer.written(frame.bytes);
    }
    [[nodiscard]] std::uint32_t row(std::uint8_t process) {
        daemon::ApplicationFacts facts;
        facts.process_id[0] = static_cast<std::uint8_t>(process + 1);
        facts.service = "orders";
        return host_.spool->rows().find_or_add(facts, 1);
    }

    void settle() {
        const auto which = input_.number<std::uint16_t>();
        if (extents_.empty()) return;
        const std::size_t index = which % extents_.size();
        const ExtentRef extent = extents_[index];
        const unsigned word = host_.spool->exporter_words()[(which >> 8) % exporters_.size()];
        const std::uint32_t left_here = rest(extent, word);
        if (left_here == 0) return;
        const std::uint32_t spans = (which & 0x4000U) != 0 ? left_here : 1 + which % left_here;
        const bool last = waits_only_for(extent, word) && spans == left_here;
        // Its block may be free with that.
        if (last) extents_.erase(extents_.begin() + static_cast<std::ptrdiff_t>(index));
        host_.spool->settle(extent, word, spans, (which & 0x2000U) != 0 ? spans : 0,
                            exporters::RejectReason::partial);
    }
    [[nodiscard]] bool waits_only_for(const ExtentRef& extent, unsigned word) const {
        for (const unsigned other : host_.spool->exporter_words())
            if (other != word && rest(extent, other) != 0) return false;
        return true;
    }
    void settle_all() {
        const auto extents = std::move(extents_);
        for (const ExtentRef& extent : extents)
            for (const unsigned word : host_.spool->exporter_words()) settle_rest(extent, word);
        extents_.clear();
        OTELD_EXPECT(host_.spool->unsettled_extents() == 0);
    }
    void settle_rest(const ExtentRef& extent, unsigned word) {
        const std::uint32_t spans = rest(extent, word);
        if (spans != 0)
            host_.spool->settle(extent, word, spans, 0, exporters::RejectReason::refused);
    }

    Input input_;
    SpoolHost host_;
    std::vector<std::string> exporters_{"a", "b"};
    std::vector<ExtentRef> extents_;  // That somebody waits for.
    Trust trust_ = Trust::exact;
    int restarts_ = 0;
    std::uint64_t next_number_ = 0;
    std::uint64_t extent_number_ = 0;
    std::uint64_t cursor_ = 0;
    daemon::ScopeBytes scope_ = [] {
        daemon::ScopeBytes scope{std::make_shared<const daemon::ResourceBytes>(
                                     daemon::ResourceBytes{"RESOURCE", "resource-url", "orders"}),
                                 "SCOPE", "scope-url"};
        scope.measure();
        return scope;
    }();
};

}  // namespace
}  // namespace oteld::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
    oteld::fuzz::Run(oteld::fuzz::Input(bytes, count)).go();
    return 0;
}
