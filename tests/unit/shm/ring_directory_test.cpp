#include "shm/ring_directory.hpp"

#include "../daemon/fake_segment.hpp"

#include <doctest/doctest.h>
#include <sys/file.h>
#include <sys/wait.h>

using namespace oteld;
using namespace oteld::shm;
using namespace oteld::test;

TEST_CASE("a daemon makes the directory that it was given, for itself alone") {
    TemporaryDirectory parent;
    const std::string path = parent.path + "/rings";
    CHECK(open_ring_directory(path, DirectoryUse::inspect).error().code == ErrorCode::not_found);
    auto opened = open_ring_directory(path, DirectoryUse::daemon);
    REQUIRE(opened);
    CHECK(opened->mode == 0700);
    CHECK(opened->owner == ::geteuid());
    CHECK(open_ring_directory(path, DirectoryUse::inspect));
}

TEST_CASE("the directory that was configured beats OTELD_DIR, which beats the rest") {
    ::setenv("OTELD_DIR", "/somewhere/else", 1);
    CHECK(ring_directory_path("/configured", DirectoryUse::daemon) == "/configured");
    CHECK(ring_directory_path("", DirectoryUse::daemon) == "/somewhere/else");
    ::unsetenv("OTELD_DIR");
    const std::string found = ring_directory_path("", DirectoryUse::daemon);
    const bool known =
        found == "/run/oteld" || found == "/dev/shm/oteld-" + std::to_string(::geteuid());
    CHECK(known);
}

TEST_CASE("a second daemon is told who the first one is") {
    TemporaryDirectory directory;
    auto opened = open_ring_directory(directory.path, DirectoryUse::daemon);
    REQUIRE(opened);
    CHECK_FALSE(directory_lock_holder(*opened).has_value());
    {
        auto lock = lock_directory(*opened);
        REQUIRE(lock);
        auto second = lock_directory(*opened);
        REQUIRE_FALSE(second);
        CHECK(second.error().code == ErrorCode::busy);
        CHECK(second.error().message.find("pid " + std::to_string(::getpid())) !=
              std::string::npos);
        const auto holder = directory_lock_holder(*opened);
        REQUIRE(holder.has_value());
        CHECK(holder->pid == ::getpid());
    }
    CHECK_FALSE(directory_lock_holder(*opened).has_value());
    CHECK(lock_directory(*opened));
}

TEST_CASE("a daemon's file that is a symlink is not followed but replaced") {
    TemporaryDirectory directory;
    TemporaryDirectory elsewhere;
    const std::string victim = elsewhere.path + "/victim";
    ::close(::open(victim.c_str(), O_CREAT | O_RDWR, 0600));
    REQUIRE(::symlinkat(victim.c_str(), directory.fd, "spool") == 0);
    auto opened = open_ring_directory(directory.path, DirectoryUse::daemon);
    REQUIRE(opened);
    auto file = open_daemon_file(*opened, "spool", 0600);
    REQUIRE(file);
    CHECK(file->created);
    REQUIRE(::pwrite(file->fd.get(), "x", 1, 0) == 1);
    struct stat info {};
    REQUIRE(::stat(victim.c_str(), &info) == 0);
    CHECK(info.st_size == 0);
    CHECK_FALSE(open_daemon_file(*opened, "spool", 0600)->created);
}

TEST_CASE("a file of a stranger is replaced by the directory's owner") {
    if (::geteuid() != 0) {
        MESSAGE("not run: giving a file to another user takes root");
        return;
    }
    TemporaryDirectory directory;
    auto opened = open_ring_directory(directory.path, DirectoryUse::daemon);
    REQUIRE(opened);
    ::close(::openat(directory.fd, "lock", O_CREAT | O_RDWR, 0666));
    REQUIRE(::fchownat(directory.fd, "lock", 12345, 12345, 0) == 0);
    auto file = open_daemon_file(*opened, "lock", 0644);
    REQUIRE(file);
    CHECK(file->created);
}
