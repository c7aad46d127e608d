// The control page as one daemon leaves it to the next, and as clients find it.
#include "shm/control_page.hpp"

#include "../daemon/fake_segment.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <memory>

using namespace oteld;
using namespace oteld::shm;
using namespace oteld::test;

namespace {

std::unique_ptr<ControlPage> page_in(const TemporaryDirectory& directory) {
    auto page = std::make_unique<ControlPage>();
    const UniqueFd fd(::openat(directory.fd, control_name, O_RDONLY | O_CLOEXEC));
    REQUIRE(::pread(fd.get(), page.get(), sizeof *page, 0) ==
            static_cast<ssize_t>(sizeof(ControlPage)));
    return page;
}

std::uint32_t enabled_in(const TemporaryDirectory& directory) {
    const auto page = page_in(directory);
    REQUIRE(page->active <= 1);
    return page->content[page->active].enabled;
}

}  // namespace

TEST_CASE("the kill switch is in the content that is not being read, and outlives the daemon") {
    TemporaryDirectory directory;
    auto opened = open_ring_directory(directory.path, DirectoryUse::daemon);
    REQUIRE(opened);
    std::uint64_t generation = 0;
    {
        auto control = ControlPageFile::open(*opened);
        REQUIRE(control);
        generation = (*control)->generation();
        CHECK(enabled_in(directory) == 1);
        const std::uint32_t before = page_in(directory)->active;
        (*control)->publish_recording(false);
        CHECK(enabled_in(directory) == 0);
        CHECK(page_in(directory)->active != before);
        CHECK(page_in(directory)->content[before].enabled == 1);
    }
    CHECK(enabled_in(directory) == 0);
    auto next = ControlPageFile::open(*opened);
    REQUIRE(next);
    CHECK((*next)->generation() == generation);
    CHECK(enabled_in(directory) == 0);  // Until the next one has read its configuration.
    (*next)->publish_recording(true);
    CHECK(enabled_in(directory) == 1);
}

TEST_CASE("what else the content says stays when recording is switched") {
    TemporaryDirectory directory;
    auto opened = open_ring_directory(directory.path, DirectoryUse::daemon);
    REQUIRE(opened);
    auto control = ControlPageFile::open(*opened);
    REQUIRE(control);
    const UniqueFd fd(::openat(directory.fd, control_name, O_RDWR | O_CLOEXEC));
    const std::uint64_t cap = 1 << 20;
    const off_t at = offsetof(ControlPage, content) + offsetof(ControlContent, process_bytes_max);
    const off_t active = static_cast<off_t>(page_in(directory)->active * sizeof(ControlContent));
    REQUIRE(::pwrite(fd.get(), &cap, sizeof cap, at + active) == sizeof cap);
    (*control)->publish_recording(false);
    const auto page = page_in(directory);
    CHECK(page->content[page->active].process_bytes_max == cap);
    CHECK(page->content[page->active].enabled == 0);
}
