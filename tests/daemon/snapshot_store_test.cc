// Snapshots on disk and the generations' journal, also after crashes.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/daemon/support.h"
#include "userspace/adapathd/snapshot_store.h"
#include "userspace/common/file.h"

namespace adapath {
namespace {

class SnapshotStoreTest : public ::testing::Test {
protected:
    test::TemporaryDirectory directory_;
    SnapshotStore open(bool read_only = false) {
        Result<SnapshotStore> store = SnapshotStore::open(directory_.path(), read_only);
        EXPECT_TRUE(store) << store.error().message;
        return std::move(*store);
    }
    std::string put(SnapshotStore& store, uint32_t seed) {
        const Snapshot snapshot = test::random_snapshot(seed);
        EXPECT_TRUE(store.put(snapshot.hash, test::file_of(snapshot)).ok());
        return snapshot.hash;
    }
};

TEST_F(SnapshotStoreTest, GenerationsGoOnAfterARestart) {
    std::string a;
    std::string b;
    {
        SnapshotStore store = open();
        a = put(store, 1);
        b = put(store, 2);
        EXPECT_EQ(*store.begin_generation(a), 1U);
        EXPECT_EQ(*store.begin_generation(b), 2U);
        EXPECT_EQ(*store.begin_generation(a), 3U);
    }
    SnapshotStore store = open();
    EXPECT_EQ(store.hash_of(1), a);
    EXPECT_EQ(store.hash_of(2), b);
    EXPECT_EQ(store.newest_generation_of(a), 3U);
    EXPECT_EQ(store.hash_of(4), "");
    store.continue_after(10);
    EXPECT_EQ(*store.begin_generation(b), 11U);
    Result<Snapshot> loaded = store.load(a);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->hash, a);
}

TEST_F(SnapshotStoreTest, EveryCutOfTheJournalLeavesWholeEntries) {
    std::string hash;
    {
        SnapshotStore store = open();
        hash = put(store, 1);
        ASSERT_TRUE(store.begin_generation(hash).ok());
        ASSERT_TRUE(store.begin_generation(hash).ok());
    }
    const std::string journal = directory_ / "generations";
    const std::string whole = *read_file(journal);
    const size_t first = whole.find('\n') + 1;
    for (size_t cut = 0; cut <= whole.size(); cut++) {
        std::ofstream(journal, std::ios::binary | std::ios::trunc)
            .write(whole.data(), static_cast<std::streamsize>(cut));
        SnapshotStore store = open();
        const size_t entries = cut < first ? 0 : cut < whole.size() ? 1 : 2;
        ASSERT_EQ(store.generations().size(), entries) << "cut at " << cut;
        // What comes next is not glued to the torn entry.
        ASSERT_EQ(*store.begin_generation(hash), entries + 1);
        ASSERT_EQ(open().generations().size(), entries + 1) << "cut at " << cut;
    }
}

TEST_F(SnapshotStoreTest, GarbageLinesAreIgnored) {
    std::string hash;
    {
        SnapshotStore store = open();
        hash = put(store, 1);
        ASSERT_TRUE(store.begin_generation(hash).ok());
    }
    std::ofstream(directory_ / "generations", std::ios::app) << "generation x y\nnonsense\ngeneration 7 short 1\n";
    SnapshotStore store = open();
    EXPECT_EQ(store.generations().size(), 1U);
    EXPECT_EQ(*store.begin_generation(hash), 2U);
}

TEST_F(SnapshotStoreTest, RemembersWhatWasRolledBack) {
    std::string hash;
    {
        SnapshotStore store = open();
        hash = put(store, 1);
        ASSERT_TRUE(store.mark_bad(hash, 12345, "did badly\nand two lines").ok());
    }
    SnapshotStore store = open();
    ASSERT_NE(store.bad(hash), nullptr);
    EXPECT_EQ(store.bad(hash)->until_unix_s, 12345);
    EXPECT_EQ(store.bad(hash)->why, "did badly and two lines");
    EXPECT_EQ(store.bad("0"), nullptr);
}

TEST_F(SnapshotStoreTest, RemembersHowFarAGenerationHasProvedItself) {
    using Standing = SnapshotStore::Standing;
    {
        SnapshotStore store = open();
        const std::string hash = put(store, 1);
        for (int i = 0; i < 4; i++) {
            ASSERT_TRUE(store.begin_generation(hash).ok());
        }
        ASSERT_TRUE(store.mark(1, Standing::watched, 0).ok());
        ASSERT_TRUE(store.mark(1, Standing::trusted, 0).ok());
        ASSERT_TRUE(store.mark(2, Standing::on_trial, 1).ok());
        ASSERT_TRUE(store.mark(3, Standing::on_trial, 1).ok());
        ASSERT_TRUE(store.mark(3, Standing::watched, 1).ok());
        EXPECT_EQ(store.mark_of(2).standing, Standing::on_trial);
    }
    SnapshotStore store = open();
    EXPECT_EQ(store.mark_of(1).standing, Standing::trusted);
    EXPECT_EQ(store.mark_of(2).standing, Standing::on_trial);
    EXPECT_EQ(store.mark_of(3).standing, Standing::watched);
    EXPECT_EQ(store.mark_of(3).before, 1U);
    EXPECT_EQ(store.mark_of(4).standing, Standing::unknown);
    EXPECT_EQ(store.generations().size(), 4U);
}

TEST_F(SnapshotStoreTest, FindsByPrefix) {
    SnapshotStore store = open();
    const std::string a = put(store, 1);
    EXPECT_EQ(*store.find(a.substr(0, 8)), a);
    EXPECT_FALSE(store.find("zz"));
    EXPECT_FALSE(store.find(std::string(64, a[0] == '0' ? '1' : '0')));
    // Two files whose names share a beginning.
    std::string twin = a;
    twin[63] = twin[63] == '0' ? '1' : '0';
    std::filesystem::copy_file(store.path(a), store.path(twin));
    EXPECT_NE(store.find(a.substr(0, 8)).error().message.find("several"), std::string::npos);
    EXPECT_FALSE(store.load(twin)) << "a snapshot under another's name";
}

TEST_F(SnapshotStoreTest, ReadOnlyChangesNothing) {
    {
        SnapshotStore store = open();
        const std::string hash = put(store, 1);
        ASSERT_TRUE(store.begin_generation(hash).ok());
    }
    std::ofstream(directory_ / "generations", std::ios::app) << "generation 2 torn";
    const std::string before = *read_file(directory_ / "generations");
    SnapshotStore store = open(true);
    EXPECT_EQ(store.generations().size(), 1U);
    EXPECT_FALSE(store.begin_generation(store.hash_of(1)));
    EXPECT_EQ(*read_file(directory_ / "generations"), before);
    EXPECT_FALSE(SnapshotStore::open(directory_ / "nothing", true));
}

TEST_F(SnapshotStoreTest, TrimsTheOldestButKeepsWhatIsInUse) {
    SnapshotStore store = open();
    std::vector<std::string> hashes;
    for (uint32_t seed = 1; seed <= 4; seed++) {
        hashes.push_back(put(store, seed));
        ASSERT_TRUE(store.begin_generation(hashes.back()).ok());
    }
    const uint64_t one = std::filesystem::file_size(store.path(hashes[0]));
    ASSERT_TRUE(store.trim(one * 2 + one / 2, {hashes[0]}).ok());
    EXPECT_TRUE(std::filesystem::exists(store.path(hashes[0])));
    EXPECT_FALSE(std::filesystem::exists(store.path(hashes[1])));
    EXPECT_FALSE(std::filesystem::exists(store.path(hashes[2])));
    EXPECT_TRUE(std::filesystem::exists(store.path(hashes[3])));
}

}  // namespace
}  // namespace adapath
