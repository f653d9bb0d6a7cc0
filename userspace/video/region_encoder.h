// x264 with a quality for regions: each chunk is a group of pictures with a quantiser for all of it, or one for each
// macroblock.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/video/background.h"
#include "userspace/video/block_mask.h"
#include "userspace/video/clip.h"
#include "userspace/video/encoder.h"

namespace adapath::video {

// H.264 quantisers, 1 to 51: the high quality has the lower one.
struct QualityPair {
    int high = 35;
    int low = 45;

    bool operator==(const QualityPair&) const = default;
};

struct RegionOptions {
    double fps = 10;
    std::string preset = "veryfast";  // x264's; always with its tuning zerolatency
};

// One thread at a time.
class RegionEncoder {
public:
    // Sides even, 16 to 4096 pixels.
    static Result<RegionEncoder> open(Size size, const RegionOptions& options = {});

    // The next picture is an IDR picture, and it and all after it have these qualities. One of the three before the
    // first picture.
    Status begin_chunk(int qp);
    Status begin_chunk(const QualityPair& quality, const BlockMask& mask);
    Status begin_chunk(const QuantiserMap& map);
    // The same with one map for the IDR picture and one for the pictures after it.
    Status begin_chunk(const QuantiserMap& first, const QuantiserMap& rest);

    // Before a picture: its quality and that of those after it, in the chunk that has begun.
    Status change(const QuantiserMap& map);

    // The picture's access unit comes at once. `qp` of the result is x264's mean over the picture's blocks, rounded.
    Result<EncodedFrame> encode(const Picture& picture);

private:
    RegionEncoder() = default;

    X264Handle x264_;
    Size size_;
    // What x264 is told of a picture's quality.
    struct Quality {
        int qp = 0;                  // of blocks without an offset; 0: no chunk has begun
        std::vector<float> offsets;  // one a macroblock; empty: none
    };
    Result<Quality> quality_of(const QuantiserMap& map) const;

    Quality idr_;
    Quality rest_;
    std::vector<uint8_t> access_unit_;
    bool first_ = true;  // of the chunk
    int64_t frames_ = 0;
};

// A whole chunk there and back.
struct CodedChunk {
    uint64_t bytes = 0;
    std::vector<uint64_t> frame_bytes;
    std::vector<uint8_t> i420;  // the decoded pictures, as Clip::from_i420() takes them
};

// The chunk's pictures `first` to `first + count - 1` of the clip (which is a loop), encoded with what begin_chunk()
// set, and decoded again. The encoder and the clip have the same size.
Result<CodedChunk> code_chunk(RegionEncoder& encoder, const Clip& clip, uint64_t first, uint64_t count);

// With a background that the server remembers: a note for each picture, and what `view` makes of the decoded ones. The
// notes' bytes are not counted.
Result<CodedChunk> code_chunk(RegionEncoder& encoder, const Clip& clip, uint64_t first,
                              std::span<const PictureNote> notes, const BackgroundQuality& quality,
                              BackgroundView& view);

}  // namespace adapath::video
