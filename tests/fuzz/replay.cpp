// Stands in for the fuzzer where there is none: runs one target over every file of the folders
// named on its command line, once each.
//
// Used by: ctest, on the seeds and the found cases of each target. A case that fails ends the
// process; its name is the last one printed.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count);

namespace {

void run(const std::filesystem::path& path) {
    std::fprintf(stderr, "%s\n", path.c_str());
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> text{std::istreambuf_iterator<char>(file), {}};
    // A copy of the exact size, so that the address sanitizer sees a read behind it.
    const std::vector<std::uint8_t> bytes(text.begin(), text.end());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

}  // namespace

int main(int count, char** arguments) {
    std::vector<std::filesystem::path> cases;
    for (int i = 1; i < count; ++i) {
        const std::filesystem::path path(arguments[i]);
        if (std::filesystem::is_regular_file(path)) cases.push_back(path);
        if (!std::filesystem::is_directory(path)) continue;
        for (const auto& entry : std::filesystem::directory_iterator(path))
            cases.push_back(entry.path());
    }
    std::sort(cases.begin(), cases.end());
    for (const auto& path : cases) run(path);
    std::fprintf(stderr, "%zu cases\n", cases.size());
    return cases.empty() ? 1 : 0;
}
