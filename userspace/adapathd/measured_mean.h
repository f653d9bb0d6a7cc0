// What the server measured of a camera, over its last chunks: one chunk holds a few objects, so one measurement says
// little of the next chunk. The daemon tells the kernel this mean, select's simulator its network the same.
#pragma once

#include <algorithm>
#include <cstdint>

namespace adapath {

class MeasuredMean {
public:
    // The mean of all at first; from `remembered` on the newest has that share of it.
    static constexpr double remembered = 6;

    // `camera_id`: adp_select_camera.id. Another one is another camera, of which nothing is known.
    void add(uint64_t camera_id, double sub_worth, double gain) {
        if (camera_id != camera_id_) {
            *this = {};
            camera_id_ = camera_id;
        }
        count_ = std::min(count_ + 1, remembered);
        sub_worth_ += (sub_worth - sub_worth_) / count_;
        gain_ += (gain - gain_) / count_;
    }
    [[nodiscard]] double sub_worth() const { return sub_worth_; }  // 0..1
    [[nodiscard]] double gain() const { return gain_; }            // -1..1

private:
    uint64_t camera_id_ = 0;
    double count_ = 0;
    double sub_worth_ = 0;
    double gain_ = 0;
};

}  // namespace adapath
