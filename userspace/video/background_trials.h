// Does the remembered background save bytes on this camera, just now? Told by encoding some chunks both ways: at the
// same quantiser of what is shown, the server sees at least as much with the background, so bytes can be compared.
// Pure: no encoder, no clock.
//
// It begins with a trial. In a trial a few chunks in a row are sent in uniform quality and also encoded with a
// background that begins with them, unsent. Where that would save, the background is sent from then on, and seldom a
// chunk of it is also encoded in uniform quality; where it does not, chunks are uniform until a later trial says
// otherwise. Each trial in vain is followed by a pause twice as long.
#pragma once

#include <cstdint>

namespace adapath::video {

struct BackgroundTrialOptions {
    unsigned length = 5;        // chunks of a trial
    unsigned every = 30;        // chunks from a trial to the next, and from one look at the background to the next
    unsigned every_most = 480;  // when trials were in vain
    unsigned soon = 5;          // to the next look, where the last one found little saving
    unsigned horizon = 40;      // chunks that a background is taken to last, for what it costs to send it once
    double margin = 0.02;       // of bytes, to be saved before the background is sent
    // Chunks that an epoch has to last: one that is lost sooner has not paid for itself.
    unsigned least_epoch = 5;
};

class BackgroundTrials {
public:
    explicit BackgroundTrials(const BackgroundTrialOptions& options) : options_(options) {}

    struct Chunk {
        bool background = false;  // what is sent: else uniform
        bool both = false;        // the other is encoded too, and learn() told
        bool begins = false;      // with an empty background: sent, or the trial's
    };
    // What to do with the next chunk.
    Chunk next();
    // Bytes of a chunk that was encoded both ways.
    void learn(double background, double uniform);
    // The server lost the background that is sent: the next chunk begins anew, or is uniform where that happened too
    // soon. True for the former.
    bool lost();
    // The server has no room for a background: uniform for long.
    void refused();

    [[nodiscard]] bool sending() const { return sending_; }
    [[nodiscard]] uint64_t trials() const { return trials_; }  // ended
    // The background's bytes over uniform quality's, as measured: by the last trial, then the geometric mean of the
    // last two looks; 0: not yet.
    [[nodiscard]] double ratio() const { return ratio_; }

private:
    void stop(unsigned pause);

    BackgroundTrialOptions options_;
    bool sending_ = false;
    bool anew_ = false;      // the next chunk's background begins
    unsigned age_ = 0;       // of the epoch that is sent, chunks
    unsigned wait_ = 0;      // chunks until the next trial or look
    unsigned pause_ = 0;     // after the next trial in vain
    unsigned in_trial_ = 0;  // chunks of the trial under way
    double first_[2] = {};   // bytes of its first chunk: background, uniform
    double rest_[2] = {};    // of those after it
    double ratio_ = 0;
    double last_ = 0;  // of the last look
    uint64_t trials_ = 0;
};

}  // namespace adapath::video
