// A camera's encoder that gives each chunk (a group of pictures) regions of quality: the budget of the rate controller
// and what past chunks cost say how good. Two ways:
//
// - two qualities: the live selector says which macroblocks get the high one; now and then all do, for the labels;
// - the background that the server remembers (userspace/video/background.h), with notes in the stream: what moves is
//   shown, and its quantiser is chosen. Where that does not save bytes (userspace/video/background_trials.h), chunks
//   are of one quality. The selector still runs, for its samples, but has no say: all that moves matters.
//
// Regions that the server asks for get the high quality in the next chunk, either way.
#pragma once

#include <memory>
#include <string>

#include "userspace/qp/program_cache.h"
#include "userspace/video/background_trials.h"
#include "userspace/video/live_encoder.h"

namespace adapath {

struct RegionLiveOptions {
    std::string directory;  // adapathd's host_directory; empty: no selector
    double threshold = 0;   // of the logits: blocks with at least this one are high
    int dilation = 0;       // and those this many blocks away
    int gap = 8;            // quantisers between the qualities
    unsigned group = 10;    // pictures a chunk
    unsigned samples = 8;   // of the selector, a chunk (LiveSelectorOptions)
    // Of the chunks that the selector decides, this share has one quality all the same, so that the server's labels do
    // not lean to what was chosen. Without effect with the background, where the selector has no say.
    double explore = 0.05;
    bool background = false;
    bool always = false;  // the background without trials, whether it saves or not
    video::BackgroundTrialOptions trials;
};

// For every camera of a process: programs are compiled once.
video::LiveEncoderFactory region_encoders(const RegionLiveOptions& options);

}  // namespace adapath
