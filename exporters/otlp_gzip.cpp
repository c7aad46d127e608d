#include "exporters/otlp_gzip.hpp"

#include <libdeflate.h>

#include <cstring>
#include <new>

namespace oteld::exporters {

namespace {

constexpr int level = 1;

struct FreeCompressor {
    void operator()(libdeflate_compressor* compressor) const {
        libdeflate_free_compressor(compressor);
    }
};

}  // namespace

// Nothing is kept between requests: memory that lies idle costs more than taking it anew.
Compressed gzip(const std::vector<std::string_view>& slices, std::uint64_t bytes) {
    const std::unique_ptr<libdeflate_compressor, FreeCompressor> compressor(
        libdeflate_alloc_compressor(level));
    if (!compressor) throw std::bad_alloc();

    const std::unique_ptr<char[]> whole(new char[bytes]);
    char* at = whole.get();
    for (const std::string_view slice : slices) {
        std::memcpy(at, slice.data(), slice.size());
        at += slice.size();
    }
    const std::size_t most = libdeflate_gzip_compress_bound(compressor.get(), bytes);
    Compressed out{std::unique_ptr<char[]>(new char[most]), 0};
    out.bytes =
        libdeflate_gzip_compress(compressor.get(), whole.get(), bytes, out.data.get(), most);
    return out;
}

}  // namespace oteld::exporters
